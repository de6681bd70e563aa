"""The exact sum of affine maps that read the same tensor: RepVGG, LoRA, skip connections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from eitherway.linear.fuse.merges import Dense, Diagonal, Form, Kernel, along, plus, regrouped


def total(forms: Sequence[Form], rank: int) -> Form | str:
    """One map equal to the sum of all, or a sentence where there is none.

    Args:
        rank: of the tensor they read.

    >>> total([Dense(torch.eye(2).double()), Diagonal()], rank=2).weight.tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    if all(isinstance(form, Diagonal) for form in forms):
        return _diagonals([form for form in forms if isinstance(form, Diagonal)], rank)
    others = [form for form in forms if not isinstance(form, Diagonal)]
    if all(isinstance(form, Dense) for form in others):
        return _dense(forms)
    if all(isinstance(form, Kernel) for form in others):
        return _kernels(forms)
    return "the branches mix different axes"


def _diagonals(forms: list[Diagonal], rank: int) -> Form:
    one = torch.ones([1] * rank, dtype=torch.float64)
    scale, shift = torch.zeros_like(one), None
    for form in forms:
        scale = scale + (one.to(scale.device) if form.scale is None else form.scale)
        shift = plus(shift, form.shift)
    return Diagonal(scale, shift)


def _dense(forms: Sequence[Form]) -> Form | str:
    first = next(form for form in forms if isinstance(form, Dense))
    weight, bias = torch.zeros_like(first.weight), None
    for form in forms:
        if isinstance(form, Dense):
            weight, bias = weight + form.weight, plus(bias, form.bias)
            continue
        assert isinstance(form, Diagonal)
        found = along(form, -1, weight.shape[0])
        if isinstance(found, str):
            return f"{found}; the linear layer beside it mixes the last one"
        scale, shift = found
        weight = weight + torch.diag(weight.new_ones(weight.shape[0]) if scale is None else scale)
        bias = plus(bias, shift)
    return Dense(weight, bias)


def _kernels(forms: Sequence[Form]) -> Form | str:
    first = next(form for form in forms if isinstance(form, Kernel))
    found: list[Kernel] = []
    for form in forms:
        kernel = form if isinstance(form, Kernel) else _as_kernel(form, first)
        if isinstance(kernel, str):
            return kernel
        found.append(kernel)
    if any(kernel.stride != first.stride for kernel in found):
        return "the branches have different strides"
    if any(kernel.spatial != first.spatial for kernel in found):
        return "the branches mix different axes"
    reach = [_reach(kernel) for kernel in found]
    if any(r != reach[0] for r in reach):
        return "the branches end at different borders"
    groups = math.gcd(*(kernel.groups for kernel in found))
    padding = tuple(max(kernel.padding[i] for kernel in found) for i in range(first.spatial))
    sizes = [r + 2 * p + 1 for r, p in zip(reach[0], padding)]
    weight = first.weight.new_zeros(first.weight.shape[0], _inputs(first) // groups, *sizes)
    bias = None
    for kernel in found:
        here = []
        for i, n in enumerate(kernel.weight.shape[2:]):
            start, step = padding[i] - kernel.padding[i], kernel.dilation[i]
            here.append(slice(start, start + step * (n - 1) + 1, step))
        weight[(..., *here)] += regrouped(kernel.weight, kernel.groups, groups)
        bias = plus(bias, kernel.bias)
    return Kernel(weight, bias, first.stride, padding, (1,) * first.spatial, groups)


def _reach(kernel: Kernel) -> tuple[int, ...]:
    """What the kernel takes off each size: dilation (k - 1) - 2 padding."""
    return tuple(d * (k - 1) - 2 * p for d, k, p in zip(kernel.dilation, kernel.weight.shape[2:], kernel.padding))


def _inputs(kernel: Kernel) -> int:
    return kernel.weight.shape[1] * kernel.groups


def _as_kernel(form: Form, like: Kernel) -> Kernel | str:
    """A scale and shift as a convolution of one tap, one group a channel."""
    assert isinstance(form, Diagonal)
    channels, ones = _inputs(like), (1,) * like.spatial
    found = along(form, -1 - like.spatial, channels)
    if isinstance(found, str):
        return f"{found}; the convolution beside it has its channels on axis {-1 - like.spatial}"
    scale, shift = found
    weight = like.weight.new_ones(channels) if scale is None else scale
    return Kernel(weight.reshape(channels, *[1] * (like.spatial + 1)), shift, ones, (0,) * like.spatial, ones, channels)
