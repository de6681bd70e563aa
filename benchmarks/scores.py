"""The anytime score of a run, and how sure a ratio of two scores is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TARGETS = 10.0 ** np.linspace(2, -8, 51)
"""Gaps to the optimum that count as targets, from easy to hard."""


class Spent(Exception):
    """Raised by a cost whose budget is spent."""


class Ledger:
    """Counts the evaluations of one cell and notes when each target was first met.

    Args:
        optimum: the least value of the cost.
        budget: evaluations that count; the next one raises `Spent`.
    """

    def __init__(self, optimum: float, budget: int):
        self.optimum, self.budget = optimum, budget
        self.evaluations = 0
        self.met: list[int] = []  # evaluation at which target 0, 1, 2, ... was met

    @property
    def left(self) -> int:
        """Evaluations still to be had."""
        return self.budget - self.evaluations

    def note(self, value: float) -> float:
        """Counts `value` and gives it back as a Python float."""
        if self.evaluations >= self.budget:
            raise Spent
        self.evaluations += 1
        gap = value - self.optimum
        while len(self.met) < len(TARGETS) and gap <= TARGETS[len(self.met)]:
            self.met.append(self.evaluations)
        return float(value)


def anytime(met: Sequence[int], dimension: int, budget: int) -> float:
    """The area under the share of targets met, over log10(evaluations / D) from 0 to log10(budget / D).

    Args:
        met: the evaluation at which each met target was first met.
        dimension: D.
        budget: evaluations, D or more.

    Returns:
        1.0 when all targets were met within D evaluations, 0.0 when none ever was.

    >>> anytime([5] * 51, 5, 1000), anytime([], 5, 1000)
    (1.0, 0.0)
    """
    width = np.log10(budget / dimension)
    when = np.log10(np.maximum(np.asarray(met, float), dimension) / dimension)
    return float((1 - when / width).sum() / len(TARGETS))


def solved(met: Sequence[int]) -> float:
    """The share of targets met when the budget is spent."""
    return len(met) / len(TARGETS)


def ratio(ours: np.ndarray, rival: np.ndarray, draws: int = 4000) -> tuple[float, float, float]:
    """The ratio of two mean scores over the same cells, with a paired bootstrap interval of 90 %.

    Args:
        ours: (cells,) scores.
        rival: (cells,) scores of the rival on the same cells.
        draws: how often the cells are drawn anew, with replacement.

    Returns:
        The ratio, its 5 % and its 95 % quantile.
    """
    rows = np.random.default_rng(0).integers(0, len(ours), (draws, len(ours)))
    ratios = ours[rows].mean(1) / np.maximum(rival[rows].mean(1), 1e-12)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return float(ours.mean() / max(rival.mean(), 1e-12)), float(low), float(high)
