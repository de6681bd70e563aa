"""Slopes from differences: which neighbours to ask, and what their values say."""

from __future__ import annotations

import numpy as np


def one_sided(point: np.ndarray, steps: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """(D, D) one neighbour a column, `steps` (D,) ahead; behind where ahead is out of bounds."""
    rows = np.tile(point, (len(point), 1))
    ahead = point + steps
    np.fill_diagonal(rows, np.where(ahead > upper, point - steps, ahead))
    return rows


def two_sided(point: np.ndarray, steps: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """(2 D, D) a neighbour ahead of each column, then one behind; at a bound both lie on the inner side."""
    D = len(point)
    rows = np.tile(point, (2 * D, 1))
    ahead, behind = point + steps, point - steps
    columns = np.arange(D)
    rows[columns, columns] = np.where(ahead > upper, point - 2 * steps, ahead)
    rows[D + columns, columns] = np.where(behind < lower, point + 2 * steps, behind)
    return rows


def slopes(point: np.ndarray, value: float, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(D,) forward or backward differences; NaN where the neighbour has no finite value.

    Args:
        point: (D,) with the finite cost `value`.
        rows: (D, D) as `one_sided` gave and the space clipped them.
        values: (D,) what was told of them.
    """
    with np.errstate(all="ignore"):
        found = (values - value) / (np.diagonal(rows) - point)
    return np.where(np.isfinite(found), found, np.nan)


def bends(point: np.ndarray, value: float, rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D,) slopes and (D,) curvatures of the parabola through a point and its two neighbours in each column.

    A column with one usable neighbour has a one-sided slope and the curvature NaN; with none, both are NaN.

    Args:
        point: (D,) with the finite cost `value`.
        rows: (2 D, D) as `two_sided` gave and the space clipped them.
        values: (2 D,) what was told of them.
    """
    D = len(point)
    with np.errstate(all="ignore"):
        s, t = np.diagonal(rows[:D]) - point, np.diagonal(rows[D:]) - point
        ahead, behind = (values[:D] - value) / s, (values[D:] - value) / t
        curvature = 2 * (ahead - behind) / (s - t)
        slope = ahead - curvature * s / 2
    slope = np.where(np.isfinite(slope), slope, np.where(np.isfinite(ahead), ahead, behind))
    return np.where(np.isfinite(slope), slope, np.nan), np.where(np.isfinite(curvature), curvature, np.nan)
