"""Convolution and pooling: exact maps of which places each output looks at, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Operand, Site, Unsure

Table = np.ndarray
"""(out, taps): the place along one axis that a tap of an output looks at; -1 where it looks at none."""


def table(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int, transposed: bool) -> Table:
    """The places that a kernel looks at along one axis.

    >>> table(4, 4, 3, 1, 1, 1, False).tolist()
    [[-1, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, -1]]
    >>> table(2, 4, 2, 2, 0, 1, True).tolist()
    [[0, -1], [-1, 0], [1, -1], [-1, 1]]
    """
    o, tap = np.arange(out)[:, None], np.arange(kernel)[None]
    if transposed:
        reached = o + padding - tap * dilation
        places = np.where(reached % stride == 0, reached // stride, -1)
    else:
        places = o * stride - padding + tap * dilation
    return np.where((places >= 0) & (places < size), places, -1)


def combined(tables: Sequence[Table], sizes: Sequence[int]) -> Tensor:
    """(L, T): flat places of all axes together; the number of places stands for none."""
    flat, none = np.zeros((1, 1), np.int64), np.zeros((1, 1), bool)
    for places, size in zip(tables, sizes):
        (a, b), (c, d) = flat.shape, places.shape
        flat = (flat[:, None, :, None] * size + places.clip(0)[None, :, None, :]).reshape(a * c, b * d)
        none = (none[:, None, :, None] | (places < 0)[None, :, None, :]).reshape(a * c, b * d)
    return torch.from_numpy(np.where(none, int(np.prod(sizes)), flat))


def looked_at(site: Site, planes: Tensor, places: Tensor) -> Tensor:
    """(P, L): the union over the taps of each output. `planes` is (P, size) set numbers, `places` (L, T)."""
    wide = torch.cat([planes, planes.new_zeros(len(planes), 1)], 1)
    seen = wide[:, places]  # (P, L, T)
    return site.rows(seen.reshape(-1, places.shape[1])).reshape(len(planes), -1)


@rule("convolution", "_convolution", "mkldnn_convolution", "_slow_conv2d_forward", "slow_conv3d_forward")
def convolution(site: Site) -> Answer:
    x, weight, bias = site.operand("input", "self"), site.operand("weight"), site["bias"]
    axes = x.tensor.dim() - 2
    if axes < 1 or "stride" not in site.named or "dilation" not in site.named:
        raise Unsure
    groups, transposed = site["groups"] or 1, bool(site["transposed"])
    stride, padding, dilation = (_each(site[name], axes) for name in ("stride", "padding", "dilation"))
    out, sizes, kernel = site.shape[2:], x.shape[2:], weight.shape[2:]
    tables = [table(sizes[i], out[i], kernel[i], stride[i], padding[i], dilation[i], transposed) for i in range(axes)]
    places = combined(tables, sizes)
    parts: list[Tensor | None] = []
    if x.ids is not None:
        parts.append(_of_input(site, x, weight, places, groups, transposed))
    if weight.ids is not None:
        parts.append(_of_weight(site, weight, places, sizes.numel(), groups, transposed))
    if isinstance(bias, Operand) and bias.ids is not None:
        parts.append(bias.ids.reshape(-1, *[1] * axes).expand(site.shape))
    return site.join(*parts)


def _of_input(site: Site, x: Operand, weight: Operand, places: Tensor, groups: int, transposed: bool) -> Tensor:
    n, channels = x.shape[:2]
    each, outs = channels // groups, site.shape[1] // groups
    ids = x.numbers().reshape(n, groups, each, -1)
    there = None if weight.ids is not None else weight.non_zeros()
    if there is None:
        planes = site.rows(ids.transpose(2, 3).reshape(-1, each)).reshape(n * groups, -1)
        seen = looked_at(site, planes, places).reshape(n, groups, 1, -1)
        return seen.expand(n, groups, outs, -1).reshape(site.shape)
    taps = by_output(there, groups, transposed)  # (groups, outs, each, T)
    wide = torch.cat([ids, ids.new_zeros(n, groups, each, 1)], 3)
    made = torch.zeros(n, groups, outs, len(places), dtype=torch.int64)
    for g in range(groups):
        known: dict[bytes, Tensor] = {}  # output channels with the same zeros see the same
        for o in range(outs):
            key = taps[g, o].numpy().tobytes()
            if key not in known:
                channel, tap = torch.nonzero(taps[g, o], as_tuple=True)
                seen = wide[:, g][:, channel[:, None], places.T[tap]]  # (n, non-zeros, L)
                rows = seen.transpose(1, 2).reshape(-1, len(tap))
                known[key] = site.rows(rows).reshape(n, -1) if len(tap) else torch.zeros(n, len(places)).long()
            made[:, g, o] = known[key]
    return made.reshape(site.shape)


def by_output(weight: Tensor, groups: int, transposed: bool) -> Tensor:
    """(groups, out channels of a group, in channels of a group, taps) of a kernel as torch lays it out."""
    if transposed:  # (in, out / groups, ...)
        return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).transpose(1, 2)
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _of_weight(site: Site, weight: Operand, places: Tensor, size: int, groups: int, transposed: bool) -> Tensor:
    """Each output depends on the taps of its filter that see the image, whatever it shows there."""
    ids = by_output(weight.numbers(), groups, transposed)
    filters = site.rows(ids.transpose(2, 3).reshape(-1, ids.shape[2])).reshape(-1, ids.shape[3])  # (outs, T)
    seen = torch.where(places[None] < size, filters[:, None, :], 0)  # (outs, L, T)
    rows = site.rows(seen.reshape(-1, seen.shape[2])).reshape(1, len(filters), *site.shape[2:])
    return rows.expand(site.shape)


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d_with_indices", "avg_pool1d", "avg_pool2d",
      "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d")  # fmt: skip
def pooled(site: Site) -> Answer:
    axes = int(site.op.name.split("_pool")[1][0])
    kernel = _each(site["kernel_size"], axes)
    stride = _each(site["stride"] or kernel, axes)
    padding, dilation = _each(site["padding"] or 0, axes), _each(site["dilation"] or 1, axes)
    x = site.operand("self", "input")
    tables = [
        table(x.shape[i - axes], site.shape[i - axes], kernel[i], stride[i], padding[i], dilation[i], False)
        for i in range(axes)
    ]
    return windowed(site, x, tables)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d",
      "_adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")  # fmt: skip
def adapted(site: Site) -> Answer:
    """Output i of n looks at floor(i size / n) up to ceil((i + 1) size / n)."""
    axes = int(site.op.name.split("_pool")[1][0])
    x = site.operand("self")
    tables = []
    for size, out in zip(x.shape[-axes:], site.shape[-axes:]):
        first, last = np.arange(out) * size // out, -(-(np.arange(out) + 1) * size // out)
        places = first[:, None] + np.arange(int((last - first).max(initial=1)))[None]
        tables.append(np.where(places < last[:, None], places, -1))
    return windowed(site, x, tables)


@rule("fractional_max_pool2d", "fractional_max_pool3d")
def drawn(site: Site) -> Answer:
    """Windows at random places: anywhere in the plane."""
    ids, axes = site.operand("self").numbers(), int(site.op.name.split("_pool")[1][0])
    united = site.over(ids, range(-axes, 0)).expand(site.shape)
    return [united] * len(site.outputs)


def windowed(site: Site, x: Operand, tables: Sequence[Table]) -> Answer:
    """Plane by plane, each output sees the product of the places its axes look at."""
    sizes = x.shape[-len(tables) :]
    planes = x.numbers().reshape(-1, sizes.numel())
    seen = looked_at(site, planes, combined(tables, sizes)).reshape(site.shape)
    return seen if len(site.outputs) == 1 else [seen] * len(site.outputs)


def _each(given: Any, axes: int) -> list[int]:
    """One number an axis."""
    listed = [given] if isinstance(given, int) else list(given)
    return listed * axes if len(listed) == 1 else listed
