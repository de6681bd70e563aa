"""Affine maps by what they mix, and the exact product of two of them, or the reason why there is none.

All tensors are float64. Axes are counted from the end, so that a map says nothing about the batch.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Diagonal:
    """y = scale * x + shift, element by element; no scale is 1, no shift is 0. The identity is neither."""

    scale: Tensor | None = None
    """Of the rank of x, with size 1 where it is constant."""
    shift: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Dense:
    """y = W x + b on the last axis."""

    weight: Tensor
    """(O, I)"""
    bias: Tensor | None = None
    """(O,)"""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A convolution with zero padding on the channel axis -1 - d and the last d axes."""

    weight: Tensor
    """(O, I / groups, *kernel)"""
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def spatial(self) -> int:
        return self.weight.dim() - 2

    @property
    def pointwise(self) -> bool:
        """A 1 x 1 convolution without padding: the stride alone leaves elements out."""
        return not any(self.padding) and all(k == 1 for k in self.weight.shape[2:])


@dataclass(frozen=True, eq=False)
class Transposed:
    """A transposed convolution."""

    weight: Tensor
    """(I, O / groups, *kernel)"""
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def spatial(self) -> int:
        return self.weight.dim() - 2


@dataclass(frozen=True, eq=False)
class ZeroPad:
    """Zeros around the last d axes, as many on either side."""

    amounts: tuple[int, ...]


Form = Diagonal | Dense | Kernel | Transposed | ZeroPad


def is_identity(form: Form | None) -> bool:
    return isinstance(form, Diagonal) and form.scale is None and form.shift is None


def merge(first: Form, second: Form) -> Form | str:
    """One map that does what `second` does after `first`, exactly; a sentence where there is none.

    >>> both = merge(Dense(torch.eye(2).double() * 3), Diagonal(torch.tensor([2.0, 1.0]).double()))
    >>> both.weight.tolist()
    [[6.0, 0.0], [0.0, 3.0]]
    """
    if is_identity(first):
        return second
    if is_identity(second):
        return first
    match first, second:
        case Diagonal(), Diagonal():
            return _diagonal_diagonal(first, second)
        case Dense(), Dense():
            return Dense(second.weight @ first.weight, plus(second.bias, _times(second.weight, first.bias)))
        case Dense(), Diagonal():
            found = along(second, -1, first.weight.shape[0])
            if isinstance(found, str):
                return f"{found}; the linear layer mixes the last one"
            scale, shift = found
            weight = first.weight if scale is None else scale[:, None] * first.weight
            return Dense(weight, plus(shift, _times(scale, first.bias)))
        case Diagonal(), Dense():
            found = along(first, -1, second.weight.shape[1])
            if isinstance(found, str):
                return f"{found}; the linear layer mixes the last one"
            scale, shift = found
            weight = second.weight if scale is None else second.weight * scale
            return Dense(weight, plus(second.bias, _times(second.weight, shift)))
        case ((Kernel() | Transposed()), Diagonal()):
            return _convolution_diagonal(first, second)
        case Diagonal(), Kernel():
            return _diagonal_kernel(first, second)
        case Diagonal(), Transposed():
            return _diagonal_transposed(first, second)
        case Kernel(), Kernel():
            return _kernel_kernel(first, second)
        case ZeroPad(), ZeroPad():
            n = max(len(first.amounts), len(second.amounts))
            one, two = ((0,) * (n - len(p.amounts)) + p.amounts for p in (first, second))
            return ZeroPad(tuple(a + b for a, b in zip(one, two)))
        case ZeroPad(), Kernel():
            if len(first.amounts) != second.spatial:
                return "the zeros stand around other axes than the convolution's"
            return replace(second, padding=tuple(a + b for a, b in zip(first.amounts, second.padding)))
        case Transposed(), Kernel():
            return _transposed_pointwise(first, second)
        case Kernel(), Transposed():
            return _pointwise_transposed(first, second)
        case Diagonal(), ZeroPad():
            return "zeros put around after a scale and shift are not scaled and shifted"
    return "they mix different axes"


def multiplications(form: Form, inside: int, outside: int) -> int:
    """What one call costs.

    Args:
        inside: elements that go in.
        outside: elements that come out.
    """
    match form:
        case Diagonal():
            return outside if form.scale is not None else 0
        case Dense():
            return outside * form.weight.shape[1]
        case Kernel():
            return outside * form.weight[0].numel()
        case Transposed():
            return inside * form.weight[0].numel()
    return 0


def regrouped(weight: Tensor, groups: int, fewer: int) -> Tensor:
    """The kernel (O, I / groups, *k) written with fewer groups, zeros where nothing was connected."""
    if groups == fewer:
        return weight
    outer, inner = weight.shape[:2]
    together = groups // fewer
    wide = weight.new_zeros(outer, inner * together, *weight.shape[2:])
    rows = outer // groups
    for g in range(groups):
        at = (g % together) * inner
        wide[g * rows : (g + 1) * rows, at : at + inner] = weight[g * rows : (g + 1) * rows]
    return wide


def plus(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _times(factor: Tensor | None, value: Tensor | None) -> Tensor | None:
    """factor * value, or factor @ value for a matrix; no factor is 1, no value is 0."""
    if value is None or factor is None:
        return value
    return factor @ value if factor.dim() == 2 else factor * value


def _diagonal_diagonal(first: Diagonal, second: Diagonal) -> Diagonal:
    scale = second.scale if first.scale is None else _scaled(second.scale, first.scale)
    return Diagonal(scale, plus(second.shift, None if first.shift is None else _scaled(second.scale, first.shift)))


def _scaled(scale: Tensor | None, value: Tensor) -> Tensor:
    return value if scale is None else scale * value


def along(diagonal: Diagonal, axis: int, size: int) -> tuple[Tensor | None, Tensor | None] | str:
    """Scale and shift as vectors along one axis, if they are constant along all others."""
    found: list[Tensor | None] = []
    for tensor in (diagonal.scale, diagonal.shift):
        if tensor is None:
            found.append(None)
            continue
        others = [i for i, n in enumerate(tensor.shape) if n != 1 and i != tensor.dim() + axis]
        if others:
            return f"the scale and shift differ along axis {others[0]} of {tensor.dim()}"
        vector = tensor.reshape(-1) if tensor.dim() else tensor.reshape(1)
        found.append(vector.expand(size) if vector.numel() == 1 else vector)
    return found[0], found[1]


def _column(vector: Tensor, weight: Tensor) -> Tensor:
    return vector.reshape(-1, *[1] * (weight.dim() - 1))


def _convolution_diagonal(first: Kernel | Transposed, second: Diagonal) -> Form | str:
    transposed = isinstance(first, Transposed)
    outer = first.weight.shape[1] * first.groups if transposed else first.weight.shape[0]
    found = along(second, -1 - first.spatial, outer)
    if isinstance(found, str):
        return f"{found}; the convolution's channels are axis {-1 - first.spatial}"
    scale, shift = found
    weight = first.weight
    if scale is not None and transposed:
        per = weight.unflatten(0, (first.groups, -1))  # (G, I / G, O / G, *k)
        each = scale.reshape(first.groups, 1, -1, *[1] * first.spatial)
        weight = (per * each).flatten(0, 1)
    elif scale is not None:
        weight = weight * _column(scale, weight)
    return replace(first, weight=weight, bias=plus(shift, _times(scale, first.bias)))


def _diagonal_kernel(first: Diagonal, second: Kernel) -> Form | str:
    outer, inner = second.weight.shape[:2]
    found = along(first, -1 - second.spatial, inner * second.groups)
    if isinstance(found, str):
        return f"{found}; the convolution's channels are axis {-1 - second.spatial}"
    scale, shift = found
    if shift is not None and any(second.padding) and bool(shift.abs().max() > 0):
        return "a shift before zero padding is not the same at the border"
    owner = torch.arange(outer) // (outer // second.groups)
    reads = owner[:, None] * inner + torch.arange(inner)  # (O, I / G): the input channels each output channel reads
    weight = second.weight
    bias = second.bias
    if shift is not None:
        bias = plus(bias, (weight.flatten(2).sum(-1) * shift[reads]).sum(1))
    if scale is not None:
        weight = weight * scale[reads].reshape(outer, inner, *[1] * second.spatial)
    return replace(second, weight=weight, bias=bias)


def _diagonal_transposed(first: Diagonal, second: Transposed) -> Form | str:
    found = along(first, -1 - second.spatial, second.weight.shape[0])
    if isinstance(found, str):
        return f"{found}; the convolution's channels are axis {-1 - second.spatial}"
    scale, shift = found
    if shift is not None and bool(shift.abs().max() > 0):
        return "a shift before a transposed convolution is not the same at the border"
    return second if scale is None else replace(second, weight=second.weight * _column(scale, second.weight))


def _kernel_kernel(first: Kernel, second: Kernel) -> Form | str:
    """(B after A)[o] = sum_j B_j A[s_B o - p_B + d_B j]: taps at s_A d_B j + d_A i, stride s_A s_B."""
    if first.spatial != second.spatial:
        return "they mix different axes"
    padded = any(second.padding)
    silent = first.bias is None or not bool(first.bias.abs().max() > 0)
    if padded and not (first.pointwise and silent):
        return "zero padding between two convolutions: the border differs from one wide kernel's"
    groups = math.gcd(first.groups, second.groups)
    wide, narrow = regrouped(first.weight, first.groups, groups), regrouped(second.weight, second.groups, groups)
    a = wide.unflatten(0, (groups, -1))  # (G, M / G, I / G, *k_A)
    b = narrow.unflatten(0, (groups, -1))  # (G, O / G, M / G, *k_B)
    sizes_a, sizes_b = wide.shape[2:], narrow.shape[2:]
    steps_a, steps_b, dilation, kernel = [], [], [], []
    for n_a, n_b, s, d_a, d_b in zip(sizes_a, sizes_b, first.stride, first.dilation, second.dilation):
        step_a, step_b = (d_a if n_a > 1 else 0), (s * d_b if n_b > 1 else 0)
        common = math.gcd(step_a, step_b) or 1
        steps_a.append(step_a // common or 1)
        steps_b.append(step_b // common or 1)
        dilation.append(common)
        kernel.append(steps_a[-1] * (n_a - 1) + steps_b[-1] * (n_b - 1) + 1)
    weight = wide.new_zeros(groups, b.shape[1], wide.shape[1], *kernel)
    for taps in itertools.product(*map(range, sizes_b)):
        product = torch.einsum("gom,gm...->go...", b[(..., *taps)], a)
        here = [slice(t * s, t * s + p * (n - 1) + 1, p) for t, s, p, n in zip(taps, steps_b, steps_a, sizes_a)]
        weight[(..., *here)] += product
    through = None
    if first.bias is not None:
        through = torch.einsum("gom,gm->go", b.flatten(3).sum(-1), first.bias.reshape(groups, -1)).flatten()
    return Kernel(
        weight.flatten(0, 1),
        plus(second.bias, through),
        tuple(s * t for s, t in zip(first.stride, second.stride)),
        tuple(p + s * q for p, s, q in zip(first.padding, first.stride, second.padding)),
        tuple(dilation),
        groups,
    )


def _transposed_pointwise(first: Transposed, second: Kernel) -> Form | str:
    if first.spatial != second.spatial:
        return "they mix different axes"
    if not second.pointwise or any(s != 1 for s in second.stride) or first.groups != 1 or second.groups != 1:
        return "a transposed convolution takes in only a 1 x 1 convolution without groups"
    mix = second.weight.flatten(1)  # (O, M)
    weight = torch.einsum("om,im...->io...", mix, first.weight)
    return replace(first, weight=weight, bias=plus(second.bias, _times(mix, first.bias)))


def _pointwise_transposed(first: Kernel, second: Transposed) -> Form | str:
    if first.spatial != second.spatial:
        return "they mix different axes"
    plain = first.pointwise and all(s == 1 for s in first.stride)
    if not plain or first.groups != 1 or second.groups != 1:
        return "a transposed convolution takes in only a 1 x 1 convolution without groups"
    if first.bias is not None and bool(first.bias.abs().max() > 0):
        return "a shift before a transposed convolution is not the same at the border"
    return replace(second, weight=torch.einsum("mi,mo...->io...", first.weight.flatten(1), second.weight))
