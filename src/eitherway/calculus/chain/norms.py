"""Local Jacobians that are diagonal, or diagonal plus a few rank-one matrices: normalisations, softmax, sums."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.chain.factors import Factor, Registers, diagonal, low_rank, operator
from eitherway.calculus.chain.layout import Layout, Setting, mixes
from eitherway.calculus.chain.rules import Edge, argument, only
from eitherway.graph import Op, Ref


def _rows(t: Tensor, s: Setting, blocks: int, size: int) -> Tensor:
    """(rows, 1, size), or (size,) without a batch and blocks."""
    return t.reshape(-1, 1, size) if s.batch or blocks > 1 else t.reshape(size)


def softmax(op: Op, s: Setting) -> list[Edge] | None:
    """softmax and log_softmax over the last axis: diag(p) - p p^T, and I - 1 p^T."""
    i, out = only(op, s), op.outputs[0] if op.outputs else -1
    if op.name not in ("softmax", "log_softmax", "_softmax", "_log_softmax") or i is None:
        return None
    shape = s.value(out).shape
    axis = argument(op, 1, "dim")
    if not shape or axis % len(shape) != len(shape) - 1 or s.value(i).dtype != s.value(out).dtype:
        return None
    if not s.clear_of(i, 1) or s.layouts[i].outer != 1:
        if s.batch and s.axis(i) == len(shape) - 1:
            raise mixes(op)
        return None
    s.set(out, s.layouts[i], op)
    n, size = s.size(i), shape[-1]
    blocks = n // size
    plain = not s.batch and blocks == 1

    def make_softmax(r: Registers) -> tuple[Any, Tensor, Tensor]:
        p = _rows(r[out], s, blocks, size)
        row = p[None] if plain else p
        return p, row.mT, row

    def make_log(r: Registers) -> tuple[Any, Tensor, Tensor]:
        p = _rows(r[out].exp(), s, blocks, size)
        row = p[None] if plain else p
        return 1.0, torch.ones_like(row).mT, row

    make = make_log if "log" in op.name else make_softmax
    return [Edge(i, out, low_rank(op.label, n, blocks, s.batch, 1, make, (out,)))]


def layer_norm(op: Op, s: Setting) -> list[Edge] | None:
    """layer_norm and rms_norm over the last axes: diag(w r) - w r (1 1^T + z z^T) / n, without the ones for rms."""
    i = only(op, s)
    if op.name not in ("layer_norm", "rms_norm") or i is None or op.args[0] != Ref(i):
        return None
    axes = tuple(op.args[1])
    if not s.clear_of(i, len(axes)) or s.layouts[i].outer != 1:
        return None
    out, n, size, centred = op.outputs[0], s.size(i), prod(axes), op.name == "layer_norm"
    s.set(out, s.layouts[i], op)
    blocks = n // size
    plain = not s.batch and blocks == 1
    gain = argument(op, 2, "weight")
    eps = argument(op, 4 if centred else 3, "eps", 1e-5 if centred else None)
    if eps is None:
        eps = torch.finfo(s.value(i).dtype).eps

    def make(r: Registers) -> tuple[Any, Tensor, Tensor]:
        x = r[i].reshape(-1, size)
        if centred:
            z, rate = _standard(x, eps)
        else:
            rate = torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)
            z = x * rate
        d = rate * r[gain.index].reshape(-1) if type(gain) is Ref else rate.expand(x.shape)  # (rows, size)
        return _pair(d, z, size, centred, plain)

    reads = (i, gain.index) if type(gain) is Ref else (i,)
    return [Edge(i, out, low_rank(op.label, n, blocks, s.batch, 1 + centred, make, reads))]


def _pair(d: Tensor, z: Tensor, size: int, centred: bool, plain: bool) -> tuple[Any, Tensor, Tensor]:
    """diag(d) - d (1 1^T + z z^T) / size as (d, A, B)."""
    spread = torch.stack((torch.ones_like(z), z), -2) if centred else z[:, None]  # (rows, rank, size)
    weigh = (spread * (d / size)[:, None]).mT
    if plain:
        return d[0], weigh[0], spread[0]
    return d[:, None], weigh, spread


def _standard(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Rows with mean 0 and variance 1, and 1 / standard deviation (rows, 1)."""
    z, _, rate = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
    return z, rate.to(x.dtype)


def group_norm(op: Op, s: Setting) -> list[Edge] | None:
    """group_norm, and instance_norm that measures its input: a layer norm over each group of channels."""
    i = only(op, s)
    if i is None or op.args[0] != Ref(i):
        return None
    shape = s.value(i).shape
    if op.name == "group_norm":
        groups, gain, eps = op.args[1], argument(op, 2, "weight"), argument(op, 4, "eps", 1e-5)
    elif op.name == "instance_norm" and argument(op, 5, "use_input_stats"):
        groups, gain, eps = shape[1], argument(op, 1, "weight"), argument(op, 7, "eps", 1e-5)
    else:
        return None
    if s.batch and (s.layouts[i].outer != 1 or not s.clear_of(i, len(shape) - 1)):
        raise mixes(op)
    out, n = op.outputs[0], s.size(i)
    s.set(out, s.layouts[i], op)
    size = prod(shape[1:]) // groups
    blocks = n // size
    plain = not s.batch and blocks == 1

    def make(r: Registers) -> tuple[Any, Tensor, Tensor]:
        x = r[i].reshape(-1, size)
        z, rate = _standard(x, eps)
        d = rate.expand(x.shape)
        if type(gain) is Ref:
            w = r[gain.index].reshape(-1, *[1] * (len(shape) - 2)).expand(shape[1:])
            d = (d.reshape(-1, *shape[1:]) * w).reshape(-1, size)
        return _pair(d, z, size, True, plain)

    reads = (i, gain.index) if type(gain) is Ref else (i,)
    return [Edge(i, out, low_rank(op.label, n, blocks, s.batch, 2, make, reads))]


def batch_norm(op: Op, s: Setting) -> list[Edge] | None:
    """batch_norm with running statistics: one factor a channel, the same for all samples."""
    i = only(op, s)
    if op.name != "batch_norm" or i is None or op.args[0] != Ref(i):
        return None
    training = argument(op, 5, "training", False)
    if training and s.batch:
        raise mixes(op)
    if training:
        return None
    shape = s.value(i).shape
    if s.batch and (s.layouts[i].outer != 1 or not s.clear_of(i, len(shape) - 1)):
        raise mixes(op)
    out, n = op.outputs[0], s.size(i)
    s.set(out, s.layouts[i], op)
    gain, variance, eps = argument(op, 1, "weight"), op.args[4].index, argument(op, 7, "eps", 1e-5)
    rest = shape[1:] if s.batch else shape
    channel = 0 if s.batch else 1

    def make(r: Registers) -> Tensor:
        d = torch.rsqrt(r[variance] + eps)
        if type(gain) is Ref:
            d = d * r[gain.index]
        if len(rest) == 1:
            return d
        return d.reshape(-1, *[1] * (len(rest) - 1 - channel)).expand(rest).reshape(-1)

    reads = (variance, gain.index) if type(gain) is Ref else (variance,)
    return [Edge(i, out, diagonal(op.label, n, make, False, "shared diagonal", reads))]


def sums(op: Op, s: Setting) -> list[Edge] | None:
    """sum and mean over some axes: copies when pulled, sums when pushed."""
    i = only(op, s)
    if op.name not in ("sum", "mean") or i is None or op.kwargs.get("dtype") is not None:
        return None
    shape, out = tuple(s.value(i).shape), op.outputs[0]
    given = argument(op, 1, "dim")
    axes = range(len(shape)) if given is None or given == [] else [given] if isinstance(given, int) else given
    gone = {a % max(len(shape), 1) for a in axes} if shape else set()
    if s.batch and s.axis(i) in gone:
        raise mixes(op)
    if not s.alone(i):
        return None
    axis = s.axis(i)
    small = tuple(1 if a in gone else length for a, length in enumerate(shape) if a != axis)
    large = tuple(length for a, length in enumerate(shape) if a != axis)
    m, n = prod(small), prod(large)
    before = prod(length for a, length in enumerate(shape) if a < axis and a not in gone)
    s.set(out, Layout(before, m // before) if s.batch else Layout(1, m), op)
    number = 1.0 if op.name == "sum" else m / n
    reduced = tuple(a - len(large) for a in range(len(large)) if small[a] != large[a])

    def push(_: Any, stack: Tensor) -> Tensor:
        cut = stack.reshape(*stack.shape[:-1], *large)
        total = cut.sum(reduced) if reduced else cut
        return total.reshape(*stack.shape[:-1], m) * number

    def pull(_: Any, stack: Tensor) -> Tensor:
        cut = (stack * number).reshape(*stack.shape[:-1], *small)
        return cut.expand(*stack.shape[:-1], *large).reshape(*stack.shape[:-1], n)

    factor: Factor = operator(
        op.label, m, n, op.name, lambda r: None, pull, push,
        varying=False, products=0, elements=float(2 * n), calls=3, reads=(),
    )  # fmt: skip
    factor.aliases = True
    return [Edge(i, out, factor)]
