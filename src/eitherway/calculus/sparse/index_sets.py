"""A pool of index sets: which inputs a number depends on. Every set is made once and known by its number."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST = 30_000_000
"""Entries the pool may hold: 120 MB of indices. Nothing worth calling sparse needs more."""


class TooMany(Exception):
    """The index sets hold more entries than the pool may."""


class IndexSets:
    """Sets of columns 0 .. size - 1, kept row by row as compressed sparse rows; set 0 is empty, set 1 + j is {j}.

    Numbers that depend on the same inputs share a set: moving data about moves set numbers, and only a union of
    different sets makes new ones.

    >>> sets = IndexSets(3)
    >>> sets.join(np.array([1, 2, 0]), np.array([2, 1, 3])).tolist()
    [4, 4, 3]
    >>> sets.columns(4).tolist()
    [0, 1]
    """

    def __init__(self, size: int, most: int = MOST) -> None:
        self.size, self.most = size, most
        self.count, self.entries = 1 + size, size
        self._starts = np.concatenate([[0], np.arange(size + 1)])
        self._indices = np.arange(size)
        # a set's fingerprint is the wrapped sum of random 64-bit numbers, one for each of its columns
        self._random = np.random.Generator(np.random.PCG64(size)).integers(0, 2**63, size, dtype=np.uint64)
        self._prints = np.concatenate([np.zeros(1, np.uint64), self._random])
        self._matrix: Any = None

    def matrix(self) -> Any:
        """(count, size) boolean CSR matrix of scipy, one row a set."""
        if self._matrix is None:
            from scipy.sparse import csr_matrix

            starts, indices = self._starts[: self.count + 1], self._indices[: self.entries]
            self._matrix = csr_matrix((np.ones(self.entries, bool), indices, starts), (self.count, self.size))
        return self._matrix

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """How many columns each set has."""
        return self._starts[numbers + 1] - self._starts[numbers]

    def columns(self, number: int) -> np.ndarray:
        """The columns in one set, ascending."""
        return np.sort(self._indices[self._starts[number] : self._starts[number + 1]])

    def rows(self, numbers: np.ndarray) -> Any:
        """(len(numbers), size) boolean CSR matrix with sorted indices."""
        found = self.matrix()[numbers]
        found.sort_indices()
        return found

    def join(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Number by number the union of two sets: (m,) and (m,) -> (m,)."""
        joined = np.where(a == 0, b, a)
        at = np.flatnonzero((a != b) & (a != 0) & (b != 0))
        if not len(at):
            return joined
        low, high = np.minimum(a[at], b[at]), np.maximum(a[at], b[at])
        pairs, where = np.unique(low * self.count + high, return_inverse=True)
        low, high = np.divmod(pairs, self.count)
        new = self._unions(np.arange(0, 2 * len(pairs) + 1, 2), np.stack([low, high], 1).ravel())
        joined[at] = new[where]
        return joined

    def unite(self, groups: np.ndarray, numbers: np.ndarray, count: int) -> np.ndarray:
        """The union of each group's sets.

        Args:
            groups: (m,) the group of each member, below `count`; in any order, members may repeat.
            numbers: (m,) the set of each member.

        Returns:
            (count,) set numbers; groups without members get the empty set.
        """
        members = numbers != 0
        if not members.all():
            groups, numbers = groups[members], numbers[members]
        united = np.zeros(count, np.int64)
        united[groups] = numbers
        mixed = numbers != united[groups]
        if not mixed.any():
            return united
        several = np.zeros(count, bool)
        several[groups[mixed]] = True
        into = np.cumsum(several) - 1
        take = several[groups]
        groups, numbers = into[groups[take]], numbers[take]
        if (groups[1:] < groups[:-1]).any():
            order = np.argsort(groups, kind="stable")
            groups, numbers = groups[order], numbers[order]
        starts = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=int(several.sum())))])
        united[several] = self._unions(starts, numbers)
        return united

    def everything(self, numbers: np.ndarray) -> int:
        """The union of all these sets."""
        numbers = np.unique(numbers)
        return int(self.unite(np.zeros(len(numbers), np.int64), numbers, 1)[0])

    def _unions(self, starts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Group i is numbers[starts[i] : starts[i + 1]]; a set that comes out like another is not made anew."""
        from scipy.sparse import csr_matrix

        if int(self.lengths(numbers).sum()) > 8 * self.most:
            raise TooMany
        groups = csr_matrix((np.ones(len(numbers), bool), numbers, starts), (len(starts) - 1, self.count))
        found = groups @ self.matrix()
        prints = np.add.reduceat(self._random[found.indices], found.indptr[:-1])
        of_members = self._prints[numbers]
        alike = of_members == np.repeat(prints, np.diff(starts))
        answer = np.zeros(len(prints), np.int64)
        answer[np.repeat(np.arange(len(prints)), np.diff(starts))[alike]] = numbers[alike]
        fresh = np.flatnonzero(answer == 0)
        if len(fresh):
            _, first, where = np.unique(prints[fresh], return_index=True, return_inverse=True)
            answer[fresh] = self.count + where
            self._append(found[fresh[first]], prints[fresh[first]])
        return answer

    def _append(self, made: Any, prints: np.ndarray) -> None:
        entries, count = self.entries + made.nnz, self.count + made.shape[0]
        if entries > self.most:
            raise TooMany
        self._indices = _room(self._indices, entries)
        self._starts = _room(self._starts, count + 1)
        self._prints = _room(self._prints, count)
        self._indices[self.entries : entries] = made.indices
        self._starts[self.count + 1 : count + 1] = self.entries + made.indptr[1:]
        self._prints[self.count : count] = prints
        self.entries, self.count, self._matrix = entries, count, None


def _room(array: np.ndarray, size: int) -> np.ndarray:
    """The array, or a copy twice as long where it is shorter than `size`."""
    if len(array) >= size:
        return array
    longer = np.empty(max(size, 2 * len(array)), array.dtype)
    longer[: len(array)] = array
    return longer
