"""What populations need to know of columns cut into cells: steps to other cells, children equal to their parents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eitherway.space.space import Space


def stepped(space: Space, points: np.ndarray, cells: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(P, D) points -> some cells further in each integer column, or as many back where that leads out.

    Args:
        space: where.
        points: (P, D); columns without a step keep their coordinate as it is.
        cells: (P, D) whole steps; 0 for none. A choice has no order: any step but 0 is to another option, drawn evenly.
        generator: draws those options.
    """
    low, high = space.brackets(points)
    middle, step = (low + high) / 2, cells * (high - low)
    moved = middle + step
    moved = np.clip(np.where((moved < 0) | (moved > 1), middle - step, moved), 0.0, 1.0)
    choice = space.kinds == "choice"
    if choice.any():
        # 1 to levels - 1 options further round the circle
        levels = np.maximum(space.levels[choice], 1)
        away = 1 + np.floor(generator.random((len(points), len(levels))) * (levels - 1))
        moved[:, choice] = (middle[:, choice] + np.where(levels > 1, away, 0) / levels) % 1.0
    where = (cells != 0) & (space.levels > 0)
    return np.where(where, space.snap(np.where(where, moved, points)), points)


def apart(space: Space, children: np.ndarray, parents: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(P, D) children; one in its parent's cells, which would be the same call, takes one step to another cell.

    Returns `children` itself where every child is another call than its parent.
    """
    same = (space.snap(children) == space.snap(parents)).all(1)
    many = space.discrete[space.levels[space.discrete] > 1]
    if not same.any() or not len(many):
        return children
    rows = np.flatnonzero(same)
    cells = np.zeros((len(rows), space.columns), np.int64)
    columns = many[generator.integers(len(many), size=len(rows))]
    cells[np.arange(len(rows)), columns] = np.where(generator.random(len(rows)) < 0.5, -1, 1)
    children = children.copy()
    children[rows] = stepped(space, children[rows], cells, generator)
    return children
