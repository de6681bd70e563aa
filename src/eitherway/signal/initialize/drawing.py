"""Content of a weight by a law: Gaussian, uniform or orthogonal, in the right axes, for all of it or a part."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from eitherway.signal.schemes import draw
from eitherway.signal.structure import Producer


def content(region: Tensor, producer: Producer, law: str, std: float, generator: Generator) -> Tensor:
    """New content for the region of a weight that a producer reads, in float64 on the processor.

    Args:
        region: the region, in the parameter's own axes.
        law: "gaussian", "uniform", "orthogonal" (independent groups and blocks each their own), or "zero".
        std: of the entries; for orthogonal ones the root of their mean square.
    """
    if law == "zero" or std == 0:
        return torch.zeros(region.shape, dtype=torch.float64)
    if law == "orthogonal":
        return _orthogonal(region, producer, std, generator)
    drawn = draw.uniform if law == "uniform" else draw.gaussian
    return drawn(tuple(region.shape), std, generator=generator, dtype=torch.float64)


def _orthogonal(region: Tensor, producer: Producer, std: float, generator: Generator) -> Tensor:
    shape = tuple(region.shape)
    if producer.kind == "conv_transpose":
        maps = region.new_empty(shape, dtype=torch.float64, device="cpu").reshape(
            producer.groups, -1, math.prod(shape[1:])
        )
        for one in maps:
            one.copy_(_matrix(one.shape[1], one.shape[0], std, generator).T)
        return maps.reshape(shape)
    if producer.kind == "conv":
        maps = region.new_empty(shape, dtype=torch.float64, device="cpu").reshape(
            producer.groups, -1, math.prod(shape[1:])
        )
        for one in maps:
            one.copy_(_matrix(one.shape[0], one.shape[1], std, generator))
        return maps.reshape(shape)
    outs, ins = list(producer.out_axes), list(producer.in_axes)
    others = [axis for axis in range(len(shape)) if axis not in outs and axis not in ins]
    order = [*others, *outs, *ins]
    sizes = [shape[axis] for axis in order]
    rows = math.prod(shape[axis] for axis in outs)
    columns = math.prod(shape[axis] for axis in ins)
    maps = torch.empty(max(1, math.prod(shape[axis] for axis in others)), rows, columns, dtype=torch.float64)
    for one in maps:
        for part in _blocks(producer, rows):
            one[part] = _matrix(one[part].shape[0], columns, std, generator)
    back = [order.index(axis) for axis in range(len(shape))]
    return maps.reshape(sizes).permute(back).contiguous()


def _blocks(producer: Producer, rows: int) -> list[slice]:
    """The rows of a region that do one thing each."""
    start = producer.part[producer.out_axis].start or 0 if producer.part else 0
    found = [slice(b.rows.start - start, b.rows.stop - start) for b in producer.blocks if b.rows.stop is not None]
    covered = sum(part.stop - part.start for part in found)
    return found if found and covered == rows and len(producer.out_axes) == 1 else [slice(0, rows)]


def _matrix(out: int, into: int, std: float, generator: Generator) -> Tensor:
    return draw.orthogonal(out, into, gain=std * math.sqrt(into), generator=generator, dtype=torch.float64)
