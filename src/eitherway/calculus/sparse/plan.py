"""Which products tell all entries of a pattern: colours for columns, for rows, or a few dense lines apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eitherway.calculus.sparse.colouring import Colouring, colour, twins, without_twins
from eitherway.calculus.sparse.passes import Direction

FORWARD = 1.5
"""What a forward product takes beside a reverse one, which runs the function once for all seeds."""
DENSE = 0.5
"""Colours as a share of the dense seeds, from which on colouring gains nothing."""
APART = 0.5
"""Lines are put apart if that takes at most this share of the seeds."""


@dataclass(frozen=True)
class Part:
    """Products in one direction and the entries that they tell.

    Args:
        direction: forward for colours of columns, reverse for colours of rows.
        colours: (q,) or (p,): the seed that a column or row belongs to; -1 for none.
        count: seeds.
        entries: places of the told entries among all, in the order of the pattern; None for all of them.
        take: places of the told entries in the flattened products.
    """

    direction: Direction
    colours: np.ndarray
    count: int
    entries: np.ndarray | None
    take: np.ndarray


@dataclass(frozen=True)
class Plan:
    """Products that tell a whole Jacobian."""

    parts: tuple[Part, ...]
    bound: int
    """Seeds that any colouring in these directions takes."""
    worthwhile: bool
    """Whether the seeds are clearly fewer than rows and columns."""

    @property
    def seeds(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def direction(self) -> Literal["forward", "reverse", "both"]:
        found = {part.direction for part in self.parts}
        return "both" if len(found) > 1 else self.parts[0].direction


def plan(rows: Any, numbers: np.ndarray, *, only: Direction | None = None) -> Plan:
    """The fewest products found that tell all entries.

    Args:
        rows: (p, q) boolean CSR pattern with sorted indices.
        numbers: (p,) a number for each row; rows with one number are alike.
        only: leave the other direction out.
    """
    p, q = rows.shape
    columns = rows.T.tocsr()
    most = max(int(DENSE * min(p, q)), 1)
    patterns: dict[Direction, Any] = {"forward": rows, "reverse": columns}
    bounds: dict[Direction, int] = {way: int(np.diff(m.indptr).max(initial=0)) for way, m in patterns.items()}
    weight: dict[Direction, float] = {"forward": FORWARD, "reverse": 1.0}
    both: list[Direction] = sorted(bounds, key=lambda w: bounds[w] * weight[w])
    allowed: list[Direction] = [way for way in both if only in (None, way)]
    best: tuple[float, Direction, Colouring] | None = None
    for way in allowed:
        if best is not None and bounds[way] * weight[way] >= best[0]:
            continue
        alike = numbers if way == "forward" else twins(columns)
        found = colour(without_twins(patterns[way], alike), most)
        if found is not None and (best is None or found.count * weight[way] < best[0]):
            best = found.count * weight[way], way, found
    least = min(bounds[way] for way in allowed)
    if only is None and (best is None or best[2].count > 4):
        apart = _lines_apart(patterns, best[0] if best is not None else min(p, q))
        if apart is not None:
            return Plan(apart, least, True)
    if best is None:
        way = only or ("reverse" if p <= FORWARD * q else "forward")
        dense = np.arange(p if way == "reverse" else q)
        return Plan((_part(way, dense, len(dense), rows),), least, False)
    return Plan((_part(best[1], best[2].colours, best[2].count, rows),), bounds[best[1]], True)


def _part(way: Direction, colours: np.ndarray, count: int, rows: Any, entries: np.ndarray | None = None) -> Part:
    """A part that tells the entries of `rows`, or those of them listed in `entries`."""
    p, q = rows.shape
    row, column = np.repeat(np.arange(p), np.diff(rows.indptr)), rows.indices.astype(np.int64)
    if entries is not None:
        row, column = row[entries], column[entries]
    lines, length = (column, p) if way == "forward" else (row, q)
    active = np.zeros(len(colours), bool)
    active[lines] = True
    take = colours[lines] * length + (row if way == "forward" else column)
    return Part(way, np.where(active, colours, -1), count, entries, take)


def _lines_apart(patterns: dict[Direction, Any], best: float) -> tuple[Part, ...] | None:
    """The densest rows one by one in reverse and the rest by columns, or the other way round: for shapes like arrows.

    None if that takes more than `APART` of what one direction does.
    """
    rows = patterns["forward"]
    found: list[tuple[float, Direction, np.ndarray]] = []
    for way, pattern in patterns.items():
        lone, each = (1.0, FORWARD) if way == "forward" else (FORWARD, 1.0)
        lengths = np.diff(pattern.indptr)
        order = np.argsort(-lengths, kind="stable")
        need = np.arange(len(order)) * lone + lengths[order] * each
        k = int(need.argmin()) if len(need) else 0
        if 0 < k and need[k] <= APART * best:
            found.append((float(need[k]), way, order[:k]))
    for _, way, lines in sorted(found, key=lambda option: option[0]):
        pattern = patterns[way]
        rest = pattern.copy()
        drop = np.zeros(pattern.shape[0], bool)
        drop[lines] = True
        rest.data = ~np.repeat(drop, np.diff(pattern.indptr))
        rest.eliminate_zeros()
        coloured = colour(rest, int(APART * best))
        if coloured is None or len(lines) + coloured.count * FORWARD > best:
            continue
        row, column = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices
        alone = drop[row if way == "forward" else column]
        other: Direction = "reverse" if way == "forward" else "forward"
        seeds = np.zeros(len(drop), np.int64)
        seeds[lines] = np.arange(len(lines))
        return (
            _part(other, seeds, len(lines), rows, np.flatnonzero(alone)),
            _part(way, coloured.colours, coloured.count, rows, np.flatnonzero(~alone)),
        )
    return None
