"""`mirror`: pairs of units that see u and -u, so that a network starts as an orthogonal map, at any depth.

Where phi(u) - phi(-u) = c u, a layer [V; -V] followed by phi and [V', -V'] / c is the linear map V' V, exactly: ReLU,
LeakyReLU, GELU, SiLU, Hardswish, Softplus, LogSigmoid. (Balduzzi et al. 2017, arXiv:1702.08591, for ReLU; an
activation u s(u) with s(u) + s(-u) = 1 has c = 1, and so has the integral of such an s.) The twins have different
slopes, so that the first step of training parts them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.signal.gain import moments
from eitherway.signal.quadrature import Activation, grid, name_of
from eitherway.signal.schemes.draw import orthogonal, orthogonal_kernel

_FAR = 6.0  # standard deviations that the identity must hold for: beyond lies 2e-9 of the signal
_EVEN = 1e-6  # share of phi that is even, below which the twins are copies of one another
_NARROWEST = 1e-3  # scale below which an identity around 0 is only phi's tangent


@dataclass(frozen=True)
class Mirror:
    """How an activation is used by mirrored pairs: gain (phi(alpha z) - phi(-alpha z)) has variance 1."""

    alpha: float
    """Standard deviation of the pre-activations: 1 unless the identity holds only near 0."""
    gain: float
    """What the layer after the activation multiplies with: 1 / (c alpha) where the identity holds."""
    exact: bool
    """Whether the pair is a linear map (at this alpha, for all but 2e-9 of the signal)."""
    chi: float
    """Growth of the squared gradient in one layer: 1 where exact."""
    parts: bool
    """Whether training can part the twins: False for odd activations, whose twins stay copies of one another."""


def mirror(phi: Callable[[Tensor], Any]) -> Mirror:
    """What mirrored pairs make of an activation.

    Where phi(u) - phi(-u) = c u only for |u| <= r (ReLU6: 6, Hardsigmoid: 3), alpha = r / 6 at most keeps the signal
    inside. Without any such identity the pair is an odd function, and gets the gain of its variance; then only the
    mean is mended, neither Q' nor the gradient.

    Args:
        phi: element-wise, as for `moments`.

    Raises:
        ModelError: if phi is even: its pairs pass nothing.

    >>> mirror(torch.nn.functional.silu)
    Mirror(alpha=1.0, gain=1.0, exact=True, chi=1.0, parts=True)
    """
    found = moments(phi)
    odd, even = _halves(phi, 1.0)
    if found.odd is not None and found.odd_reach / _FAR > _NARROWEST:
        alpha = min(1.0, found.odd_reach / _FAR)
        _, even = _halves(phi, alpha)
        return Mirror(alpha, 1 / (found.odd * alpha), True, 1.0, even[0] > _EVEN)
    if odd[0] < 1e-12 * found.second:
        raise ModelError(
            f"{name_of(phi)} is even, phi(u) = phi(-u): mirrored units cancel and pass nothing; use scheme 'window'"
        )
    return Mirror(1.0, odd[0] ** -0.5, False, odd[1] / odd[0], even[0] > _EVEN * odd[0])


def weight(
    out: int,
    into: int,
    *,
    rows: bool,
    columns: bool,
    gain: float = 1.0,
    generator: Generator,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A matrix (out, into) of a mirrored network: [V; -V], [V, -V] or both, V a scale-corrected orthogonal matrix.

    An odd unit is left over at the end. As an output it has no twin: it listens to a direction of its own, but the
    next layer multiplies it with 0, so that the map stays exact and the unit joins at the first step of training.

    Args:
        out: outputs.
        into: inputs.
        rows: whether the outputs are pairs, as they are in front of a mirrored activation.
        columns: whether the inputs are pairs, as they are behind one.
        gain: multiplies all: `Mirror.gain` of the activation before, times `Mirror.alpha` of the one after.

    Raises:
        ModelError: if a side that is to be paired has a single unit.

    >>> made = weight(4, 3, rows=True, columns=False, generator=torch.Generator().manual_seed(0))
    >>> torch.equal(made[2:], -made[:2])
    True
    """
    _can_pair(out, into, rows, columns)
    half_out, half_into = out // 2 if rows else out, into // 2 if columns else into
    half = orthogonal(half_out, half_into, gain=gain, generator=generator, dtype=dtype)
    if rows:
        lone = orthogonal(1, half_into, gain=gain, generator=generator, dtype=dtype) if out % 2 else half[:0]
        half = torch.cat([pair(half, 0), lone])
    return torch.cat([pair(half, 1), half.new_zeros(out, into % 2)], 1) if columns else half


def kernel(
    shape: Sequence[int],
    *,
    rows: bool,
    columns: bool,
    gain: float = 1.0,
    groups: int = 1,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | None = None,
    transposed: bool = False,
    blocks_out: int = 1,
    blocks_in: int = 1,
    generator: Generator,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A convolution's weight of a mirrored network, V a (delta-)orthogonal kernel (see `draw.orthogonal_kernel`).

    Which channels are twins is told by blocks: the channels lie in so many equal blocks, and the second half of each
    is the first half's twin. Both sides of an activation must agree; a grouped convolution needs both of a pair in
    one group, hence a multiple of `groups` as blocks.

    Args:
        shape: of the weight, as in `draw.orthogonal_kernel`, with `groups`, `stride`, `padding`, `transposed`.
        rows: whether the output channels are pairs.
        columns: whether the input channels are pairs.
        gain: multiplies all.
        blocks_out: blocks of the output channels.
        blocks_in: blocks of the input channels.

    Raises:
        ModelError: if paired channels do not divide into pairs, blocks and groups (depthwise convolutions never do).
    """
    first, second, *taps = shape
    out, into = (second * groups, first) if transposed else (first, second * groups)
    for side, paired, channels, blocks in (("out", rows, out, blocks_out), ("in", columns, into, blocks_in)):
        if paired and (channels % (2 * blocks) or blocks % groups):
            raise ModelError(
                f"{channels} channels {side} in {blocks} blocks and groups={groups} cannot be mirrored: expected whole "
                "pairs in every block, and whole blocks in every group"
            )
    half_out, half_into = out // 2 if rows else out, into // 2 if columns else into
    half_shape = (half_into, half_out // groups) if transposed else (half_out, half_into // groups)
    half = orthogonal_kernel(
        (*half_shape, *taps),
        gain=gain,
        groups=groups,
        stride=stride,
        padding=padding,
        transposed=transposed,
        generator=generator,
        dtype=dtype,
    )
    axis_out, axis_in = (1, 0) if transposed else (0, 1)
    for paired, axis, blocks in ((rows, axis_out, blocks_out), (columns, axis_in, blocks_in)):
        if paired:
            half = pair(half, axis, blocks // groups if axis == 1 else blocks)
    return half


def pair(half: Tensor, axis: int, blocks: int = 1) -> Tensor:
    """[V; -V] along an axis, block by block: each block of the answer holds its part of `half` and that part's twin.

    >>> pair(torch.tensor([1.0, 2.0]), 0).tolist(), pair(torch.tensor([1.0, 2.0]), 0, blocks=2).tolist()
    ([1.0, 2.0, -1.0, -2.0], [1.0, -1.0, 2.0, -2.0])
    """
    parts = half.unflatten(axis, (blocks, half.shape[axis] // blocks))
    return torch.cat([parts, -parts], axis + 1).flatten(axis, axis + 1)


def _can_pair(out: int, into: int, rows: bool, columns: bool) -> None:
    if (rows and out < 2) or (columns and into < 2):
        raise ModelError(
            f"a layer of {into} inputs and {out} outputs cannot be mirrored: expected at least 2 units on a side "
            "that is paired"
        )


def _halves(phi: Callable[[Tensor], Any], scale: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(E f^2, scale^2 E f'^2) of f(u) = phi(u) - phi(-u), and of its even counterpart without its mean."""
    known = Activation(phi)
    call = copy.deepcopy(phi).eval().double() if isinstance(phi, nn.Module) else phi

    def part(sign: float) -> tuple[float, float]:
        # settings a channel cannot be called on lone points: phi's own grid then has to do for both signs
        points = grid(phi if known.columns > 1 else lambda u: call(u) + sign * call(-u), scale=scale)
        (left, left_slope), (right, right_slope) = known(points.u), known(-points.u)
        f, slope = left + sign * right, left_slope - sign * right_slope
        f = f - points.expect(f)
        return points.expect(f * f), scale**2 * points.expect(slope * slope)

    return part(-1.0), part(1.0)
