"""Products in one output and outputs of one input, counted exactly, with what zero padding takes away."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def taps_seen(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> int:
    """How many of a kernel's taps, over all output positions of one axis, read an element and no padding.

    Args:
        size: elements that go in.
        out: positions that come out.
        before: zeros in front of the first element.

    >>> taps_seen(4, 4, kernel=3, stride=1, before=1, dilation=1)  # the two border positions see two of three
    10
    """
    seen = 0
    for tap in range(kernel):
        shift = tap * dilation - before  # reads stride * position + shift
        low = max(0, -(shift // stride) if shift < 0 else 0)
        high = min(out - 1, (size - 1 - shift) // stride)
        seen += max(0, high - low + 1)
    return seen


def convolution_coverage(
    sizes: Sequence[int],
    outs: Sequence[int],
    kernels: Sequence[int],
    strides: Sequence[int],
    before: Sequence[int],
    dilations: Sequence[int],
) -> float:
    """Share of a kernel's taps that an average output position reads."""
    seen = 1.0
    for size, out, kernel, stride, zeros, dilation in zip(sizes, outs, kernels, strides, before, dilations):
        seen *= taps_seen(size, out, kernel, stride, zeros, dilation) / max(1, out * kernel)
    return seen


def transposed_coverage(
    sizes: Sequence[int],
    outs: Sequence[int],
    kernels: Sequence[int],
    strides: Sequence[int],
    before: Sequence[int],
    dilations: Sequence[int],
) -> float:
    """Products in an average output of a transposed convolution, as a share of kernel / stride^d.

    An output position is reached by the pairs (input, tap) that land on it: the pairs of the convolution the other way.
    """
    seen = 1.0
    for size, out, kernel, stride, zeros, dilation in zip(sizes, outs, kernels, strides, before, dilations):
        landing = taps_seen(out, size, kernel, stride, zeros, dilation)
        seen *= landing / max(1.0, out * kernel / stride)
    return seen


def product(shape: torch.Size, axes: Sequence[int]) -> int:
    """The number of elements that axes span.

    >>> product(torch.Size([2, 3, 5]), (0, 2))
    10
    """
    return math.prod(shape[axis] for axis in axes)
