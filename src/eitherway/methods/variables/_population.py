"""Where populations come from, and when nothing is left to move them."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from eitherway.methods.variables._quasi import Quasi, fill

if TYPE_CHECKING:
    from eitherway.space.space import Space


def fresh(
    space: Space, first: np.ndarray, P: int, sequence: Quasi, drawn: int, generator: np.random.Generator
) -> np.ndarray:
    """(P, D) points: `first` (K, D) as they are, then members of the sequence from `drawn` on."""
    spread = space.spread_out(fill(sequence, drawn, P - len(first), space.columns, generator))
    return space.clip(np.concatenate([first, spread]))


def order(standings: np.ndarray) -> np.ndarray:
    """(P,) rows of the standings (P, 2), best first; equal rows keep their order."""
    return np.lexsort((standings[:, 1], standings[:, 0]))


def copies(space: Space, points: np.ndarray) -> np.ndarray:
    """(P,) whether the row is the same call as one before it."""
    seen: set[bytes] = set()
    found = np.zeros(len(points), bool)
    for i, row in enumerate(space.snap(points) if len(space.discrete) else points):
        call = row.tobytes()
        found[i] = call in seen
        seen.add(call)
    return found


def converged(space: Space, points: np.ndarray, standings: np.ndarray) -> bool:
    """Whether no difference is left to step by: in the points (P, D), or in what they were told (P, 2)."""
    (violation, low), (most, high) = standings.min(0).tolist(), standings.max(0).tolist()
    near = 1e-11 * max(1.0, abs(low)) if isfinite(low) else 0.0  # 1e-11: near the rounding of a sum
    if violation == most and (low == high or high - low <= near):
        return True
    points = space.snap(points) if len(space.discrete) else points
    return bool((points.max(0) - points.min(0)).max() < 1e-10)
