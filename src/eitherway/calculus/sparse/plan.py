"""Which products tell all entries of a pattern: colours for columns, for rows, or a few dense lines apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from eitherway.calculus.sparse.colouring import Colouring, colour, kinds_of
from eitherway.calculus.sparse.follow import Followed
from eitherway.calculus.sparse.passes import Direction

FORWARD = 1.5
"""What a forward product takes beside a reverse one, which runs the function once for all seeds."""
DENSE = 0.75
"""Colours as a share of the dense seeds, above which colouring gains too little."""
APART = 0.5
"""Dense lines are put apart if that takes at most this share of the seeds."""
FEW = 4
"""So few seeds are not worth taking lines apart for."""


@dataclass(eq=False)
class Part:
    """Products in one direction and the entries that they tell.

    Args:
        direction: forward for colours of columns, reverse for colours of rows.
        colours: (q,) or (p,): the seed that a column or row belongs to; -1 for none.
        count: seeds.
        followed: the pattern.
        entries: places of the told entries among all, in the order of the pattern; None for all of them.
    """

    direction: Direction
    colours: np.ndarray
    count: int
    followed: Followed
    entries: np.ndarray | None = None

    @cached_property
    def take(self) -> np.ndarray:
        """Places of the told entries in the flattened products."""
        p, q = self.followed.shape
        row, column = np.repeat(np.arange(p), self.followed.row_lengths), self.followed.rows.indices.astype(np.int64)
        if self.entries is not None:
            row, column = row[self.entries], column[self.entries]
        return self.colours[column] * p + row if self.direction == "forward" else self.colours[row] * q + column


@dataclass(frozen=True)
class Plan:
    """Products that tell a whole Jacobian."""

    parts: tuple[Part, ...]
    bound: int
    """Seeds that any colouring in the chosen direction takes."""
    worthwhile: bool
    """Whether the seeds are clearly fewer than rows and columns."""

    @property
    def seeds(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def direction(self) -> Literal["forward", "reverse", "both"]:
        found = {part.direction for part in self.parts}
        return "both" if len(found) > 1 else self.parts[0].direction


def plan(followed: Followed, *, only: Direction | None = None) -> Plan:
    """The fewest products found that tell all entries.

    Args:
        only: leave the other direction out.
    """
    p, q = followed.shape
    only = "reverse" if followed.hidden else only
    most = max(int(DENSE * min(p, q)), 1)
    bounds: dict[Direction, int] = {
        "reverse": int(followed.column_lengths.max(initial=0)),
        "forward": int(followed.row_lengths.max(initial=0)),
    }
    weight: dict[Direction, float] = {"forward": FORWARD, "reverse": 1.0}
    both: list[Direction] = sorted(bounds, key=lambda way: bounds[way] * weight[way])
    best: tuple[float, Direction, Colouring] | None = None
    for way in both:
        if only not in (None, way) or bounds[way] > most:
            continue
        if best is not None and bounds[way] * weight[way] >= best[0]:
            continue
        found = colour(followed.kinds if way == "forward" else kinds_of(followed.rows.T.tocsr()), most)
        if found is not None and (best is None or found.count * weight[way] < best[0]):
            best = found.count * weight[way], way, found
    if only is None and (best is None or best[2].count > FEW):
        apart = _lines_apart(followed, best[0] if best is not None else min(p, q))
        if apart is not None:
            return Plan(apart, min(bounds.values()), True)
    if best is None:
        way = only or ("reverse" if p <= FORWARD * q else "forward")
        dense = np.arange(p if way == "reverse" else q)
        return Plan((_whole(way, dense, len(dense), followed),), bounds[way], False)
    return Plan((_whole(best[1], best[2].colours, best[2].count, followed),), bounds[best[1]], True)


def _whole(way: Direction, colours: np.ndarray, count: int, followed: Followed) -> Part:
    """A part that tells all entries; lines without entries have no seed."""
    lengths = followed.column_lengths if way == "forward" else followed.row_lengths
    return Part(way, np.where(lengths > 0, colours, -1), count, followed)


def _lines_apart(followed: Followed, best: float) -> tuple[Part, ...] | None:
    """The densest rows one by one in reverse and the rest by columns, or the other way round: for shapes like arrows.

    None if that takes more than `APART` of what one direction does.
    """
    found: list[tuple[float, Direction, np.ndarray]] = []
    ways: tuple[Direction, ...] = ("forward", "reverse")
    for way in ways:
        lone, each = (1.0, FORWARD) if way == "forward" else (FORWARD, 1.0)
        lengths = followed.row_lengths if way == "forward" else followed.column_lengths
        order = np.argsort(-lengths, kind="stable")
        need = np.arange(len(order)) * lone + lengths[order] * each
        k = int(need.argmin()) if len(need) else 0
        if 0 < k and need[k] <= APART * best:
            found.append((float(need[k]), way, order[:k]))
    for _, way, lines in sorted(found, key=lambda option: option[0]):
        rows = followed.rows
        pattern = (rows if way == "forward" else rows.T.tocsr()).copy()
        drop = np.zeros(pattern.shape[0], bool)
        drop[lines] = True
        pattern.data = ~np.repeat(drop, np.diff(pattern.indptr))
        pattern.eliminate_zeros()
        coloured = colour(pattern, int(APART * best))
        if coloured is None:
            continue
        row = np.repeat(np.arange(rows.shape[0]), followed.row_lengths)
        alone = drop[row if way == "forward" else rows.indices]
        other: Direction = "reverse" if way == "forward" else "forward"
        seeds = np.full(len(drop), -1)
        seeds[lines] = np.arange(len(lines))
        met = np.diff(pattern.tocsc().indptr) > 0
        return (
            Part(other, seeds, len(lines), followed, np.flatnonzero(alone)),
            Part(way, np.where(met, coloured.colours, -1), coloured.count, followed, np.flatnonzero(~alone)),
        )
    return None
