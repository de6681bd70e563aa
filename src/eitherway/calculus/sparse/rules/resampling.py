"""Images resampled: what each place is mixed from is seen from the operation itself, run on single lines of ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.rules.windows import windowed
from eitherway.calculus.sparse.site import Answer, Operand, Site, Unsure

LARGEST = 1 << 25
"""Numbers that a trial run of the operation may make."""


@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
      "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_lanczos2d_aa")  # fmt: skip
def interpolated(site: Site) -> Answer:
    """Weights are products over the axes that add up to one along each, so axes are tried one at a time."""
    x = site.operand("self", "input")
    sizes, outs = x.shape[2:], site.shape[2:]
    if max(sizes) * max(sizes.numel(), outs.numel()) > LARGEST:
        raise Unsure
    tables = []
    for axis, size in enumerate(sizes):
        shape = [1] * len(sizes)
        shape[axis] = size
        lines = torch.eye(size, dtype=torch.float64).reshape(1, size, *shape).expand(1, size, *sizes).contiguous()
        args = [lines if given is x else given for given in site.args]
        seen = site.op.target(*args, **site.kwargs)[0].movedim(1 + axis, 1)
        seen = seen.reshape(size, outs[axis], -1)[:, :, 0].T  # (out, size): one line tells for all
        tables.append(_listed(seen != 0))
    return windowed(site, x, tables)


def _listed(there: Tensor) -> np.ndarray:
    """(out, size) bool -> (out, taps) places, -1 where there are fewer."""
    widest = max(int(there.sum(1).max()), 1)
    order = torch.argsort(~there, dim=1, stable=True)[:, :widest]
    return torch.where(there.gather(1, order), order, -1).numpy()


@rule("grid_sampler_2d", "grid_sampler_3d", "cudnn_grid_sampler", "_grid_sampler_2d_cpu_fallback")
def sampled(site: Site) -> Answer:
    """Each output depends on the image around its place in the grid, and on that place."""
    image, grid = site.operand("input"), site.operand("grid")
    parts: list[Tensor | None] = []
    if image.ids is not None:
        parts.append(_of_image(site, image, grid))
    if grid.ids is not None:
        parts.append(site.over(grid.ids, -1, keep=False)[:, None].expand(site.shape))
    return site.join(*parts)


def _of_image(site: Site, image: Operand, grid: Operand) -> Tensor:
    n, channels, *sizes = image.shape
    places, outs = int(np.prod(sizes)), site.shape[2:].numel()
    ids = image.numbers().reshape(n, channels, places)
    if not grid.constant or places * outs > LARGEST:
        return site.rows(ids.reshape(-1, places)).reshape(n, channels, *[1] * len(sizes)).expand(site.shape)
    points = torch.eye(places, dtype=torch.float64).reshape(1, places, *sizes)
    made = torch.zeros(n, channels, outs, dtype=torch.int64)
    for sample in range(n):
        args = [points if a is image else a.tensor[sample : sample + 1].double() if a is grid else a for a in site.args]
        there = site.op.target(*args)[0].reshape(places, outs) != 0
        place, out = np.nonzero(there.numpy())
        groups = np.arange(channels)[:, None] * outs + out[None]
        made[sample] = site.unite(groups, ids[sample][:, torch.from_numpy(place)], channels * outs).reshape(
            channels, -1
        )
    return made.reshape(site.shape)


@rule("affine_grid_generator")
def grid(site: Site) -> Answer:
    """(N, 2, 3) or (N, 3, 4) matrices times places: tried with one entry at a time."""
    theta, size = site.operand("theta"), list(site["size"])
    entries = theta.shape[1:].numel()
    points = torch.eye(entries, dtype=torch.float64).reshape(entries, *theta.shape[1:])
    there = site.op.target(points, [entries, *size[1:]], site["align_corners"]) != 0
    entry, out = np.nonzero(there.reshape(entries, -1).numpy())
    ids, outs = theta.numbers().reshape(-1, entries), site.shape[1:].numel()
    groups = np.arange(len(ids))[:, None] * outs + out[None]
    return site.unite(groups, ids[:, torch.from_numpy(entry)], len(ids) * outs).reshape(site.shape)
