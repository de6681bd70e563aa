"""`shaped`: an operating point at which any smooth activation carries signal and gradient to any depth.

Deep Kernel Shaping (Martens et al. 2021, arXiv:2110.01765) chooses constants so that gamma (phi(alpha z + beta) - mu)
keeps the variance (Q(1) = 1) and does so stably (Q'(1) = 1), removes the mean (C(0) = 0) and lets two inputs part no
faster than a chosen rate (C'(1) = zeta^(1/depth)). There the activations are replaced; here the four constants go into
weights and biases (`affine`), and the network stays as it is.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.quadrature import Grid, grid, name_of
from eitherway.signal.schemes.operating import Table, slopes_at, table

ZETA = 1.5
"""C'(1) over the whole depth: at most by this a small difference between two inputs grows (Martens et al. 2021)."""
_RIGHT = 1e-6  # of s - 1: how well both equations must hold
Sample = Callable[[float, float], tuple[float, float, float, float]]
"""Mean, variance, Q'(1), C'(1) at (alpha, beta)."""
_NOISE = 1e-4  # of s - 1: what Q' - 1 differs from 0 by where phi is linear


@dataclass(frozen=True)
class Shape:
    """Where an activation phi is used, and what its output is multiplied with: y = gamma (phi(alpha z + beta) - mu).

    z is the unit-variance signal; y has mean 0 and variance 1, too.
    """

    alpha: float
    """Standard deviation of the pre-activation."""
    beta: float
    """Mean of the pre-activation."""
    gamma: float
    """1 / standard deviation of phi(alpha z + beta)."""
    mu: float
    """Mean of phi(alpha z + beta)."""
    q_slope: float
    """Q'(1): what a small error of the variance becomes in one layer."""
    c_slope: float
    """C'(1): growth of the squared gradient, and of the distance of two neighbouring inputs, in one layer."""
    exact: bool
    """Whether Q'(1) = 1 and C'(1) = zeta^(1/depth) both hold; otherwise the shape is a window (see `window`)."""

    @property
    def centring(self) -> bool:
        """Whether a mean is left to be taken off: by the next bias, or by weights whose rows sum to 0."""
        return abs(self.mu) * self.gamma > 1e-12


def shape(phi: Callable[[Tensor], Any], depth: int, zeta: float = ZETA, *, bias: bool = True) -> Shape:
    """The operating point of an activation that is used `depth` times in a row.

    Args:
        phi: element-wise, as for `moments`.
        depth: how many times the signal passes phi one after the other.
        zeta: C'(1) over the whole depth, above 1; more is more nonlinear.
        bias: whether the layers have biases; without, beta must be 0, and a root exists for almost no activation.

    Raises:
        ModelError: if phi has no such point (piecewise-linear ones have none: use `mirror` or `window`).

    >>> found = shape(torch.nn.functional.gelu, 100)
    >>> round(found.alpha, 4), round(found.beta, 3), round(found.c_slope**100, 3)
    (0.0854, 0.259, 1.5)
    """
    check_depth(depth, zeta)
    return cached(_shape, phi, depth, zeta, bias)


def _shape(phi: Callable[[Tensor], Any], depth: int, zeta: float, bias: bool) -> Shape:
    """As `shape`, solved anew."""
    s = zeta ** (1 / depth)
    known = table(phi)
    found = _root(known.sample, _starts(known, s), s)
    if found is None and not known.piecewise_linear:
        found = _continued(known, s)
    if found is not None:
        found = _root(
            lambda alpha, beta: _slopes(grid(phi, mean=beta, scale=alpha), alpha), [found], s
        )  # with certainty
    if found is not None and (bias or abs(found[1]) <= _RIGHT):
        return shape_at(phi, found[0], found[1] if bias else 0.0, exact=True)
    where = "" if bias else " with mean 0 (its layers have no bias)"
    raise ModelError(
        f"{name_of(phi)} has no operating point{where} that keeps variance, gradient and distances through {depth} "
        "layers; piecewise-linear activations have none: use scheme 'mirror' or 'window'"
    )


def _root(sample: Sample, starts: list[tuple[float, float]], s: float) -> tuple[float, float] | None:
    """(alpha, beta) with the smallest |beta| at which both equations hold, from starts by rising |beta|."""
    from scipy.optimize import root

    best: tuple[float, float] | None = None
    for alpha, beta in starts:
        if best is not None and abs(beta) > abs(best[1]) + 0.2:
            break  # roots lie beside their starts
        found = [math.log(alpha), beta]
        if max(map(abs, _residuals(sample, found[0], found[1], s))) > _RIGHT / 10:
            found = root(lambda p: _residuals(sample, p[0], p[1], s), found, method="hybr").x
        if max(map(abs, _residuals(sample, found[0], found[1], s))) <= _RIGHT:
            if best is None or abs(found[1]) < abs(best[1]) - _RIGHT:
                best = math.exp(found[0]), float(found[1])
    return best


def _continued(known: Table, s: float) -> tuple[float, float] | None:
    """The root followed from a shorter depth, where the table is too coarse: alpha shrinks like sqrt(s - 1).

    Beside a place where only the second derivative jumps (ELU, softsign at 0) beta shrinks like alpha.
    """
    growths = [s - 1]
    found = None
    while found is None:
        growths.append(2 * growths[-1])
        if growths[-1] > 0.5:
            return None
        found = _root(known.sample, _starts(known, 1 + growths[-1]), 1 + growths[-1])
    before = found
    for growth in growths[-2::-1]:
        alpha = found[0] / math.sqrt(2)
        share = (alpha - found[0]) / (found[0] - before[0]) if before[0] != found[0] else 0.0
        straight = found[1] + share * (found[1] - before[1])
        guesses = [(alpha, beta) for beta in (straight, found[1], found[1] / math.sqrt(2))]
        before, found = (
            found,
            _root(known.sample, guesses[:1], 1 + growth) or _root(known.sample, guesses[1:], 1 + growth),
        )
        if found is None:
            return None
    return found


def shape_at(phi: Callable[[Tensor], Any], alpha: float, beta: float, *, exact: bool = False) -> Shape:
    """The shape at a given operating point, whatever its slopes are.

    >>> relu = shape_at(torch.relu, 1.0, 0.0)
    >>> round(relu.mu**2 * 2 * math.pi, 9), round(relu.q_slope, 9)
    (1.0, 1.0)
    """
    points = grid(phi, mean=beta, scale=alpha)
    mu, variance, q_slope, c_slope = _slopes(points, alpha)
    return Shape(alpha, beta, variance**-0.5, mu, q_slope, c_slope, exact)


def affine(matrix: Tensor, *, before: Shape | None, after: Shape | None) -> tuple[Tensor, Tensor]:
    """A layer's weight and bias from a matrix that keeps rms, such as `draw.orthogonal`.

    W = alpha gamma M, b = beta - alpha gamma mu (M 1): the shape of the activation before the layer is undone, that of
    the one after it is set up. The sum runs over everything but the first axis, which is the layer's output.

    Args:
        matrix: (out, ...) as the weight is.
        before: shape of the activation whose output the layer reads; None for the first layer.
        after: shape of the activation that reads the layer's output; None for the last layer.

    Returns:
        weight as `matrix`, bias (out,).
    """
    alpha, beta = (after.alpha, after.beta) if after else (1.0, 0.0)
    gamma, mu = (before.gamma, before.mu) if before else (1.0, 0.0)
    exact = matrix.double()
    bias = beta - alpha * gamma * mu * exact.flatten(1).sum(1)
    return (alpha * gamma * exact).to(matrix.dtype), bias.to(matrix.dtype)


def _starts(known: Table, s: float) -> list[tuple[float, float]]:
    """(alpha, beta) near which both equations hold, by rising |beta|.

    Along every line of the table the first alpha with C' = s is taken; between two neighbouring lines on which Q' - 1
    has different signs there, lies a root.
    """
    found: list[tuple[float, float]] = []
    for family in known.families:
        growth = family.c_slope - 1  # (R, A)
        over = growth >= s - 1
        has = over.any(1)
        first = over.int().argmax(1).clamp(min=1)
        rows = torch.arange(len(first))
        low, high = (growth[rows, first - i].clamp(min=1e-300).log() for i in (1, 0))
        share = ((math.log(s - 1) - low) / (high - low).clamp(min=1e-12)).clamp(0.0, 1.0)
        logs = family.alphas.log()
        alpha = (logs[first - 1] + share * (logs[first] - logs[first - 1])).exp()
        q = torch.lerp(family.q_slope[rows, first - 1], family.q_slope[rows, first], share) - 1
        clear = [int(i) for i in (has & (q.abs() > _NOISE * (s - 1))).nonzero()]
        for i, j in zip(clear, clear[1:]):
            a, b = float(q[i]), float(q[j])
            if a * b < 0 and j - i <= 2:  # between them at most one line on which Q' = 1 by chance: not a linear part
                t = a / (a - b)
                middle = float(alpha[i] ** (1 - t) * alpha[j] ** t)
                line = (1 - t) * float(family.lines[i]) + t * float(family.lines[j])
                found.append((middle, family.beta(line, middle)))
    return sorted(found, key=lambda start: (round(abs(start[1]), 6), -start[1]))


def _residuals(sample: Sample, log_alpha: float, beta: float, s: float) -> tuple[float, float]:
    """Both equations, over s - 1, which at great depths is all they differ by."""
    if not (-16 < log_alpha < 4 and abs(beta) < 100):
        return 1e3, 1e3  # far from everything: the solver turns back
    _, variance, q_slope, c_slope = sample(math.exp(log_alpha), float(beta))
    return ((q_slope - 1) / (s - 1), (c_slope - s) / (s - 1)) if variance > 0 else (1e3, 1e3)


def _slopes(points: Grid, alpha: float) -> tuple[float, float, float, float]:
    z = points.z.reshape(-1, *(1,) * (points.values.ndim - 1))
    mu, variance, q_slope, c_slope = slopes_at(points.weights, z, points.values, points.slopes, alpha)
    return float(mu), float(variance), float(q_slope), float(c_slope)


def check_depth(depth: int, zeta: float) -> None:
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1 or not zeta > 1:
        raise ModelError(
            f"depth={depth!r}, zeta={zeta!r}: expected how many activations follow one another, at least 1, and a "
            "growth over all of them above 1, such as 1.5"
        )


def cached(solve: Callable[..., Shape], phi: Callable[[Tensor], Any], *key: Any) -> Shape:
    """What `solve` answers, remembered for functions that cannot change: no modules, no closures, no methods."""
    name = getattr(phi, "__qualname__", "<")
    plain = isinstance(phi, (types.FunctionType, types.BuiltinFunctionType)) and "<" not in name
    return _remembered(solve, phi, *key) if plain else solve(phi, *key)


@functools.lru_cache(maxsize=256)
def _remembered(solve: Callable[..., Shape], phi: Callable[[Tensor], Any], *key: Any) -> Shape:
    return solve(phi, *key)
