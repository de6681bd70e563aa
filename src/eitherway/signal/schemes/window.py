"""`window`: the widest part of an activation that is linear enough, for those that have no shaped root.

A piecewise-linear activation cannot have Q' = 1 and C' above 1 at once. What can be had is Q' <= 1 (errors of the
variance do not grow) and C' <= zeta^(1/depth) (neither do gradients, nor distances): the operating point with the
largest alpha that keeps both, found by search. Signals pass it all but linearly; it is a start, not an optimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.quadrature import name_of
from eitherway.signal.schemes.operating import JUMP_REACH, Family, Table, table
from eitherway.signal.schemes.shaped import ZETA, Shape, cached, check_depth, shape_at

_WIDEST = 1.0  # standard deviation of a pre-activation: a plain start has no more, and a linear part may have no end
_AS_WIDE = 0.99  # two windows differing by less are as wide: the one with the smaller |beta| is taken
_FOLLOWED = 6  # lines that are followed exactly
_STEP = 1.05  # the table knows alpha better than that
_TRIES = 12
_EDGE = 1e-3  # how near to the edge alpha gets


def window(phi: Callable[[Tensor], Any], depth: int, zeta: float = ZETA, *, bias: bool = True) -> Shape:
    """The widest operating point with Q'(1) <= 1 and C'(1) <= zeta^(1/depth).

    Args:
        phi: element-wise, as for `moments`.
        depth: how many times the signal passes phi one after the other.
        zeta: C'(1) over the whole depth, at most.
        bias: whether the layers have biases. Without, beta is 0, and where nothing keeps Q' <= 1 there,
            Q' <= zeta^(1/depth) is taken: errors of the variance then grow as gradients do. A shape whose `centring`
            is true then needs weights whose rows sum to 0.

    Returns:
        a `Shape` with `exact` False.

    Raises:
        ModelError: if there is none: phi is constant, steps, or bends too much wherever it is looked at.

    >>> import torch
    >>> found = window(torch.nn.functional.hardtanh, 100)
    >>> round(found.alpha, 3), found.beta, found.q_slope <= 1
    (0.355, 0.0, True)
    """
    check_depth(depth, zeta)
    return cached(_window, phi, depth, zeta, bias)


def _window(phi: Callable[[Tensor], Any], depth: int, zeta: float, bias: bool) -> Shape:
    s = zeta ** (1 / depth)
    known = table(phi)
    found = _widest(phi, known, s, slack=0.0, bias=bias)
    if found is None and not bias:
        found = _widest(phi, known, s, slack=s - 1, bias=bias)
    if found is None:
        where = "anywhere" if bias else "around 0, where layers without bias work"
        raise ModelError(
            f"{name_of(phi)} is not linear enough {where} for {depth} layers: no window keeps Q' <= 1 and "
            f"C' <= {s:.6g}; normalise between the layers, or use skip connections or another activation"
        )
    return found


def _widest(phi: Callable[[Tensor], Any], known: Table, s: float, *, slack: float, bias: bool) -> Shape | None:
    """The widest window: lines ranked by what the table says of them, the best few then followed exactly."""
    noise = 1e-3 * (s - 1)  # what lies beyond a window where phi is exactly linear may cost so much

    def fits(alpha: float, beta: float) -> bool:
        _, variance, q_slope, c_slope = known.sample(alpha, beta)
        clear = all(abs(beta - jump) >= JUMP_REACH * alpha for jump in known.jumps)
        return clear and variance > 0 and q_slope <= 1 + slack + noise and c_slope <= s + noise

    lines: list[tuple[float, float, float, Family]] = []  # estimated alpha, |beta|, line, family
    for family in known.families:
        good = (family.q_slope <= 1 + slack + 1e-4 * (s - 1)) & (family.c_slope <= s) & (family.alphas <= _WIDEST)
        for i in good.any(1).nonzero().flatten().tolist():
            line, widest = float(family.lines[i]), int(good[i].nonzero().max())
            alpha = _crossing(family, i, widest, s)
            if bias or (family.kink is None and line == 0):
                lines.append((alpha, abs(family.beta(line, alpha)), line, family))
    reach = max((alpha for alpha, *_ in lines), default=0.0)
    lines = [each for each in lines if each[0] > 0.9 * reach]
    lines.sort(
        key=lambda each: (each[0] < reach * _AS_WIDE, round(each[1], 6) if each[0] >= reach * _AS_WIDE else 0, -each[0])
    )
    best: tuple[float, float] | None = None
    for alpha, _, line, family in lines[:_FOLLOWED]:
        wide = _followed(fits, family, line, alpha)
        if wide is not None and (best is None or wide > best[0] / _AS_WIDE):
            best = wide, family.beta(line, wide)
    return shape_at(phi, *best) if best else None


def _crossing(family: Family, i: int, widest: int, s: float) -> float:
    """Where C' reaches s on a line, between two alphas of the table."""
    alpha = float(family.alphas[widest])
    if widest + 1 == len(family.alphas) or alpha >= _WIDEST:
        return min(alpha, _WIDEST)
    low, high = float(family.c_slope[i, widest]) - 1, float(family.c_slope[i, widest + 1]) - 1
    if not (0 < low < s - 1 < high < math.inf):
        return alpha
    share = math.log((s - 1) / low) / math.log(high / low)
    return min(alpha * (float(family.alphas[widest + 1]) / alpha) ** share, _WIDEST)


def _followed(fits: Callable[[float, float], bool], family: Family, line: float, alpha: float) -> float | None:
    """The widest alpha on a line near the given one, or the first below it that fits; None where none does."""

    def at(wide: float) -> bool:
        return fits(wide, family.beta(line, wide))

    high: float | None = None
    for _ in range(_TRIES):
        if at(alpha):
            break
        high, alpha = alpha, alpha / _STEP
    else:
        return None
    if high is None:
        high = min(alpha * _STEP, _WIDEST)
        if high <= alpha or at(high):
            return high
    while high / alpha > 1 + _EDGE:
        middle = math.sqrt(high * alpha)
        alpha, high = (middle, high) if at(middle) else (alpha, middle)
    return alpha
