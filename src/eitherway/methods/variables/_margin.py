"""Whole numbers under a normal distribution: what leaves a cell is centred, and no cell's neighbours vanish.

Source: Hamano et al., CatCMA with Margin, arXiv:2504.07884, sections 3 and 4: the margin of CMA-ES with Margin (Hamano
et al. 2022) and the integer centring of LB+IC-CMA-ES (Marty et al. 2024). Here cells may be of unequal width, as those
of a log scale are: where the paper takes the integer itself, the middle of its cell is taken.
"""

from __future__ import annotations

from math import erfc, sqrt
from statistics import NormalDist

import numpy as np

from eitherway.methods.codec import state

_QUANTILE = NormalDist().inv_cdf
_TINY = 1e-8  # probabilities are kept within (0, 0.5)


@state
class Margin:
    """What whole columns have beyond the normal distribution."""

    stretch: np.ndarray  # (I,) factor on their standard deviations: the diagonal of A
    rate: np.ndarray  # (I,) latest probability to leave the cell of the mean: p_mut


def margin(n: int) -> Margin:
    """That of n whole columns at the start of a run."""
    return Margin(np.ones(n), np.full(n, 0.5 - _TINY))


def centre(
    v: np.ndarray, low: np.ndarray, high: np.ndarray, mean_low: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Moves chosen rows that left the mean's cell to the middle of theirs; those that stayed undo the bias.

    Args:
        v: (P, I) coordinates.
        low, high: (P, I) edges of their cells.
        mean_low: (I,) lower edge of the mean's cell.
        chosen: (P, I) whether the row attracts the mean in this column.

    Returns:
        (P, I) the coordinates after; (I,) whether a chosen row left the mean's cell.
    """
    to_middle = (low + high) / 2 - v
    left = chosen & (low != mean_low)
    stayed = chosen & (low == mean_low)
    moved = np.where(left, to_middle, 0.0)
    bias = moved.sum(0)
    against = np.where(stayed & (bias * to_middle < 0), to_middle, 0.0)
    possible = against.sum(0)
    share = np.where(possible == 0, 0.0, np.minimum(1.0, -bias / np.where(possible == 0, 1.0, possible)))
    return v + moved + share * against, left.any(0)


def correct(
    m: Margin,
    mean: np.ndarray,
    deviation: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    success: np.ndarray,
    alpha: float,
) -> np.ndarray:
    """Keeps every neighbouring cell within reach, by the mean and the stretch alone.

    Args:
        m: written in place.
        mean: (I,)
        deviation: (I,) sigma sqrt(C_ii), before the stretch.
        low, high: (I,) edges of the mean's cell; the first one begins at 0, the last one ends at 1.
        success: (I,) whether a chosen row left the mean's cell; where none did, leaving may not become likelier.
        alpha: the least probability to leave the cell.

    Returns:
        (I,) the mean after.
    """
    scale = deviation * m.stretch
    below, above = _normal((low - mean) / scale), _normal((mean - high) / scale)
    first, last = low <= 0, high >= 1

    # the cells at both ends: one way out, over `door`
    door = np.where(first, high, low)
    out = np.maximum(np.where(first, above, below), alpha)
    out = np.clip(np.where(success, out, np.minimum(out, m.rate)), _TINY, 0.5 - _TINY)
    wide = np.maximum(m.stretch, (high - low) / 2 / (deviation * -_QUANTILE(alpha)))
    mean_end = door + np.where(first, -1.0, 1.0) * deviation * wide * _reach(out)

    # the cells between: two ways out
    down, up = np.maximum(below, alpha / 2), np.maximum(above, alpha / 2)
    stay = 1 - below - above
    stay = np.where(success, stay, np.maximum(stay, 1 - m.rate))
    room = down + up + stay - alpha - np.where(success, alpha / 2, 1 - m.rate)
    excess = np.where(room > _TINY, (1 - down - up - stay) / np.maximum(room, _TINY), 0.0)
    down = np.clip(down + excess * (down - alpha / 2), _TINY, 0.5 - _TINY)
    up = np.clip(up + excess * (up - alpha / 2), _TINY, 0.5 - _TINY)
    reach_down, reach_up = _reach(down), _reach(up)
    mean_between = (low * reach_up + high * reach_down) / (reach_down + reach_up)

    end = first | last
    m.rate = np.where(end, out, down + up)
    m.stretch = np.where(end, wide, (high - low) / ((reach_down + reach_up) * deviation))
    return np.where(end, mean_end, mean_between)


def _normal(x: np.ndarray) -> np.ndarray:
    """(I,) the probability of a standard normal number below x."""
    return np.array([erfc(-i / sqrt(2)) / 2 for i in x.tolist()])


def _reach(p: np.ndarray) -> np.ndarray:
    """(I,) the distance, in standard deviations, beyond which lies the probability p < 0.5 on one side."""
    return np.array([-_QUANTILE(i) for i in p.tolist()])
