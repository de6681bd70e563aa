"""Transposed convolutions: by torch's kernels, or by one product and a fold where those would mostly prepare."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

FEW = 4
"""Up to so many channels coming out the product and the fold are quicker always: torch's kernels pad channels."""
SMALL = 2**15
"""Numbers to fold up to which they are quicker whatever the channels: half of the time at 2^14 on one core, the same
at 2^16, twice at 2^19, which no cache holds. torch's kernel takes 35 us before it begins."""


def spread(
    g: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    over: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Each pixel of `g` times a kernel, added where the kernels overlap: a convolution pulled back.

    Args:
        g: (images, channels, *space).
        weight: (channels, channels coming out / groups, *kernel).
        over: rows and columns beyond what the kernels reach exactly.

    Returns:
        (images, channels coming out, *space).
    """
    if _folds(g, weight, groups):
        kernel = weight.shape[2:]
        high, wide = (
            (g.shape[2 + a] - 1) * stride[a] - 2 * padding[a] + dilation[a] * (kernel[a] - 1) + over[a] + 1
            for a in range(2)
        )
        columns = torch.matmul(weight.flatten(1).mT, g.flatten(2))  # (images, taps, space)
        return torch.nn.functional.fold(columns, (high, wide), kernel, dilation, padding, stride)
    if g.dim() == 4 and g.device.type == "cpu":
        g = g.contiguous(memory_format=torch.channels_last)
    return torch.convolution(g, weight, None, stride, padding, dilation, True, over, groups)


def _folds(g: Tensor, weight: Tensor, groups: int) -> bool:
    if g.dim() != 4 or g.device.type != "cpu" or g.dtype.itemsize < 4 or groups != 1:
        return False  # half precision is added up in single by the kernels
    return weight.shape[1] <= FEW or g.numel() // max(len(weight), 1) * prod(weight.shape[1:]) <= SMALL


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """torch's function of this name."""
    if not _folds(x, weight, groups):
        return torch.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation)
    y = spread(x, weight, pair(stride), pair(padding), pair(dilation), pair(output_padding), groups)
    return y if bias is None else y.add_(bias[:, None, None])


def pair(given: int | Sequence[int], axes: int = 2) -> tuple[int, ...]:
    """One number for each axis of space."""
    found = (given,) if isinstance(given, int) else tuple(given)
    return found * axes if len(found) == 1 else found
