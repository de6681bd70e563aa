"""Random weights from a given generator: Gaussian, uniform, and orthogonal ones for matrices and kernels of any shape.

Everything is drawn and computed in float64 and cast at the end, so that one seed means the same weights in every
precision up to its rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from eitherway.base.errors import ModelError


def gaussian(
    shape: Sequence[int], std: float = 1.0, *, generator: Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Independent N(0, std^2) numbers of the given shape.

    >>> gaussian((2, 3), 0.1, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    return _normal(shape, generator).mul_(std).to(dtype)


def uniform(
    shape: Sequence[int], std: float = 1.0, *, generator: Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Independent uniform numbers of mean 0 and standard deviation `std`: between -sqrt(3) std and sqrt(3) std."""
    unit = torch.rand(*shape, dtype=torch.float64, generator=generator, device=generator.device)
    return unit.sub_(0.5).mul_(math.sqrt(12) * std).to(dtype)


def orthogonal(
    out: int,
    into: int,
    *,
    gain: float = 1.0,
    centred: bool = False,
    generator: Generator,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A Haar-distributed orthogonal matrix (out, into) that keeps the rms of a vector, whatever its shape.

    With at most as many rows as columns the rows are orthonormal; otherwise the columns are, times sqrt(out / into).
    A random direction of rms 1 then comes out with mean square 1: exactly so for square and tall matrices. (Centred: a
    direction whose numbers have variance 1, whatever their mean.)

    Args:
        out: rows.
        into: columns, the inputs.
        gain: multiplies all.
        centred: whether every row sums to 0, so that what all inputs share (their mean) is not passed on; the other
            `into - 1` directions are kept as above.

    Raises:
        ModelError: if a size is not positive, or a lone input is to be centred.

    >>> q = orthogonal(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> torch.allclose(q @ q.T, torch.eye(3, dtype=torch.float64))
    True
    """
    free = into - centred
    if out < 1 or free < 1:
        raise ModelError(
            f"an orthogonal matrix of {out} rows and {into} columns{', centred,' if centred else ''} was asked for; "
            f"expected at least one row and {1 + centred} columns"
        )
    tall = haar(max(out, free), min(out, free), generator)
    matrix = tall * math.sqrt(out / free) if out > free else tall.T
    if centred:
        # H maps the last axis to the constant direction; the other axes are rotated into its complement
        matrix = torch.cat([matrix, matrix.new_zeros(out, 1)], 1)
        direction = matrix.new_full((into,), 1 / math.sqrt(into))
        direction[-1] -= 1.0
        matrix = matrix - 2 * torch.outer(matrix @ direction, direction) / (direction @ direction)
    return (gain * matrix).contiguous().to(dtype)


def haar(rows: int, columns: int, generator: Generator) -> Tensor:
    """(rows, columns) float64 with orthonormal columns, rows >= columns, uniformly distributed (Haar).

    A QR decomposition of a Gaussian matrix, with R's diagonal made positive, without the decomposition: its reflectors
    are independent Gaussian directions of falling length, so they are drawn as such and multiplied out, which costs
    half. Source: Stewart 1980, "The efficient generation of random orthogonal matrices", SIAM J. Numer. Anal. 17(3).
    """
    vectors = _normal((rows, columns), generator).tril_()
    lead = vectors.diagonal()
    norms = torch.linalg.vector_norm(vectors, dim=0).clamp_(min=torch.finfo(torch.float64).tiny)
    signs = torch.where(lead < 0, -1.0, 1.0).to(norms.dtype)
    tau = 1 + lead.abs() / norms  # of the reflector v = (1, x_2 / v_1, ...), v_1 = x_1 + sign(x_1) |x|
    vectors = vectors / (lead + signs * norms)
    return torch.linalg.householder_product(vectors, tau).mul_(-signs)


def orthogonal_kernel(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    groups: int = 1,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | None = None,
    transposed: bool = False,
    generator: Generator,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A convolution's weight that is an orthogonal map of whole images: delta-orthogonal, made to fit strides.

    Where the stride is 1, one tap holds an orthogonal matrix over the channels and the others are 0 (Xiao et al. 2018,
    arXiv:1806.05393). With stride s, a block of s taps per axis is filled, over (channels x taps): those blocks tile
    the image, every pixel is read once and nothing is thrown away. A transposed convolution's blocks tile its output.
    Each group has a matrix of its own; in a depthwise convolution that is a sign.

    Args:
        shape: of the weight as torch has it: (out, in / groups, *kernel), or (in, out / groups, *kernel) if transposed.
        gain: multiplies all.
        groups: of the convolution.
        stride: of the convolution, one number or one an axis.
        padding: in taps (divided by the dilation), one number or one an axis: where in the kernel an output's own
            position lies. None: "same".
        transposed: whether it is a transposed convolution.

    Raises:
        ModelError: if the channels do not divide into the groups.

    >>> w = orthogonal_kernel((4, 4, 3), generator=torch.Generator().manual_seed(0))
    >>> bool((w[..., 0] == 0).all()), torch.allclose(w[..., 1] @ w[..., 1].T, torch.eye(4), atol=1e-6)
    (True, True)
    """
    first, second, *kernel = shape
    if groups < 1 or first % groups:
        raise ModelError(f"a kernel of shape {tuple(shape)} cannot have groups={groups}: {first} channels must divide")
    start, size = tiles(kernel, stride, padding)
    count = math.prod(size)
    out, into = (second, first // groups) if transposed else (first // groups, second)
    weight = torch.zeros(groups, first // groups, second, *kernel, dtype=dtype, device=generator.device)
    inside = (slice(None), slice(None), *(slice(begin, begin + length) for begin, length in zip(start, size)))
    for group in weight:
        if transposed:
            matrix = orthogonal(out * count, into, gain=gain, generator=generator, dtype=dtype)
            group[inside] = matrix.T.reshape(into, out, *size)
        else:
            matrix = orthogonal(out, into * count, gain=gain, generator=generator, dtype=dtype)
            group[inside] = matrix.reshape(out, into, *size)
    return weight.reshape(tuple(shape))


def tiles(
    kernel: Sequence[int], stride: int | Sequence[int] = 1, padding: int | Sequence[int] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First tap and number of taps, axis by axis, of the block with which neighbouring outputs tile the input.

    The block begins where an output's own position lies, so that padding is never read where the image itself can be.

    >>> tiles((3, 3)), tiles((4,), 2, 1), tiles((16, 16), 16, 0)
    (((1, 1), (1, 1)), ((1,), (2,)), ((0, 0), (16, 16)))
    """
    strides = _each(stride, len(kernel))
    paddings = [(taps - 1) // 2 for taps in kernel] if padding is None else _each(padding, len(kernel))
    size = tuple(min(taps, step) for taps, step in zip(kernel, strides))
    start = tuple(
        min(max(pad, (taps - length) // 2), taps - length) for taps, length, pad in zip(kernel, size, paddings)
    )
    return start, size


def _each(value: int | Sequence[int], axes: int) -> list[int]:
    return [value] * axes if isinstance(value, int) else list(value)


def _normal(shape: Sequence[int], generator: Generator) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator, device=generator.device)
