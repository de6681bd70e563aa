"""Colours for columns: two columns of one colour share no row, so that one product tells the entries of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Colouring:
    """Colours of the columns of a pattern.

    Args:
        colours: (q,) the colour of each column, from 0 on; columns without entries have colour 0.
        count: colours in all.
        bound: entries of the densest row: no colouring has fewer.
    """

    colours: np.ndarray
    count: int
    bound: int


def colour(pattern: Any, most: int) -> Colouring | None:
    """Greedy colouring at distance two (Curtis, Powell & Reid 1974; Gebremedhin, Manne & Pothen 2005, section 3).

    Columns are taken in their own order, then the fullest first; the better is kept, and the second is left out where
    the first meets the bound.

    Args:
        pattern: (p, q) CSR matrix of scipy.
        most: more colours than this are not worth having.

    Returns:
        None if every order needs more than `most` colours.

    >>> from scipy.sparse import diags
    >>> colour(diags([1.0, 1.0, 1.0], [-1, 0, 1], (6, 6), "csr"), 6).colours.tolist()
    [0, 1, 2, 0, 1, 2]
    """
    lengths = np.diff(pattern.indptr)
    bound = int(lengths.max(initial=0))
    if bound > most:
        return None
    if bound == 0:
        return Colouring(np.zeros(pattern.shape[1], np.int64), 0, 0)
    columns = pattern.tocsc()
    starts, rows = columns.indptr.tolist(), columns.indices.tolist()
    best = _greedy(range(pattern.shape[1]), starts, rows, pattern.shape[0], most)
    if best is None or best.max() + 1 > bound:
        fullest = np.argsort(-np.diff(columns.indptr), kind="stable").tolist()
        other = _greedy(fullest, starts, rows, pattern.shape[0], most if best is None else int(best.max()))
        best = best if other is None else other
    return None if best is None else Colouring(best, int(best.max()) + 1, bound)


def _greedy(order: Any, starts: list[int], rows: list[int], height: int, most: int) -> np.ndarray | None:
    """The lowest colour that is free, column by column. A row's colours are the bits of one integer."""
    taken = [0] * height
    colours = [0] * (len(starts) - 1)
    limit = 1 << most
    for j in order:
        mine = rows[starts[j] : starts[j + 1]]
        if not mine:
            continue
        used = 0
        for i in mine:
            used |= taken[i]
        free = ~used & (used + 1)
        if free >= limit:
            return None
        for i in mine:
            taken[i] |= free
        colours[j] = free.bit_length() - 1
    return np.array(colours, np.int64)


def kinds_of(pattern: Any) -> Any:
    """The rows of a CSR matrix that differ: (u, q). Rows alike forbid nothing more than one of them does."""
    p, q = pattern.shape
    random = np.random.Generator(np.random.PCG64(q)).integers(0, 2**63, q, dtype=np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(random[pattern.indices], dtype=np.uint64)])
    _, first = np.unique(sums[pattern.indptr[1:]] - sums[pattern.indptr[:-1]], return_index=True)
    return pattern if len(first) == p else pattern[np.sort(first)]
