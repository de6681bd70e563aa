"""How noisy a function is: the standard deviation of its values, from a difference table of a few neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Evaluate = Callable[[np.ndarray], np.ndarray]
"""Points (K, n) to values (K, m), float64; the rows of points that failed are NaN."""

NEIGHBOURS = 8
"""Evaluations of one table. Moré & Wild 2011 find six to eight enough for an estimate within a factor of four."""
TABLES = 4
"""Tables at growing spacings, until one shows noise."""


def noise_level(values: np.ndarray) -> np.ndarray:
    """The noise in values of a smooth function at equally spaced points, one column each; NaN where it cannot be told.

    Smoothness dies in higher differences, noise does not: sigma_k^2 = (k!)^2 / (2k)! * mean (Delta^k f)^2 settles as
    soon as noise is all that is left. Told are columns in which three levels running agree within a factor of four
    and the differences change sign.

    Args:
        values: (K, m), K at least 5.

    Returns:
        (m,) standard deviations; 0 where all values are equal.

    Source: Hamming 1971; Moré & Wild 2011, Estimating computational noise, SIAM J. Sci. Comput. 33, section 3.

    >>> steps = np.arange(8.0)[:, None]
    >>> noise_level(steps**2 + 0.01 * (-1) ** steps).round(3)
    array([0.018])
    """
    levels, turns = [], []
    table = np.asarray(values, dtype=np.float64)
    for k in range(1, len(table)):
        table = np.diff(table, axis=0)
        gamma = math.factorial(k) ** 2 / math.factorial(2 * k)
        levels.append(np.sqrt(gamma * np.mean(table**2, axis=0)))
        turns.append((table.min(axis=0) * table.max(axis=0)) < 0)
    found = np.full(table.shape[1], np.nan)
    for k in range(len(levels) - 3, -1, -1):  # from the top down, so that the lowest level that holds is kept
        three = np.stack(levels[k : k + 3])
        agree = (three.max(axis=0) <= 4 * three.min(axis=0)) & turns[k]
        found = np.where(agree, three[0], found)
    return np.where(np.ptp(values, axis=0) == 0, 0.0, found)


def measure_noise(
    evaluate: Evaluate, x: np.ndarray, base: np.ndarray, unit: np.ndarray, grain: float, generator: np.random.Generator
) -> tuple[np.ndarray, int]:
    """The noise of a function near x, never below the rounding of its values.

    Args:
        evaluate: see `Evaluate`.
        x: (n,) the point.
        base: (m,) the values there.
        unit: (n,) what a large move of each entry is.
        grain: relative rounding error of the arithmetic, such as 2.2e-16.
        generator: draws the direction along which neighbours lie.

    Returns:
        (m,) standard deviations, and how many evaluations it took.
    """
    rounding = grain * np.abs(base)
    direction = unit * generator.choice([-1.0, 1.0], len(x)) * generator.uniform(0.5, 1.0, len(x))
    found, spent, spacing = np.full(len(base), np.nan), 0, 64 * grain
    sides = [np.arange(NEIGHBOURS) - NEIGHBOURS // 2, np.arange(NEIGHBOURS), -np.arange(NEIGHBOURS)]
    for _ in range(TABLES):
        offsets = sides[0]
        values = evaluate(x + spacing * offsets[:, None] * direction)
        spent += NEIGHBOURS
        values = values[np.isfinite(values[:, np.isfinite(base)]).all(axis=1)]
        if len(values) < 5:  # the domain ends here: look to one side
            sides = [*sides[1:], sides[0]]
            continue
        level = noise_level(values)
        found = np.where(np.isnan(found) | (found == 0), level, found)
        if not (np.isnan(found) | (found == 0)).any():
            break
        equal = np.median((np.diff(values, axis=0) == 0).mean(axis=0)) >= 0.5
        spacing *= 1000 if equal else 10
    return np.fmax(found, rounding), spent
