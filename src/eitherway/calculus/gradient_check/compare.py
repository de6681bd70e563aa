"""Gradient and differences side by side: by entries, by random directions, by halves until the wrong ones are found."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eitherway.base.keys import Key
from eitherway.calculus.differences.ladder import Slopes, differentiate
from eitherway.calculus.differences.noise import measure_noise
from eitherway.calculus.differences.values import entry
from eitherway.calculus.gradient_check.gradients import Autograd, Given
from eitherway.calculus.gradient_check.leaves import Leaves

OUTPUTS = 32
"""Outputs that are each looked at; of more, three random mixtures are."""
DIRECTIONS = 3
"""Random directions for a large tensor: each alone would see a wrong entry."""
HANDFUL = 8
"""A half this small is looked at entry by entry."""
ENOUGH = 8
"""Wrong entries to find in a large tensor before the search stops."""
SEARCHES = 300
"""Directions and entries that one search may ask for."""


@dataclass
class Found:
    """A comparison: (k, C) each, k weightings of the outputs, C entries or directions."""

    gradient: np.ndarray
    value: np.ndarray
    error: np.ndarray
    below: np.ndarray
    above: np.ndarray
    wrong: np.ndarray

    def points(self) -> np.ndarray:
        """(N, 4) gradient, differences, bar, wrong: for the picture, at most 2000."""
        rows = np.stack([part.reshape(-1) for part in (self.gradient, self.value, self.error, self.wrong)], axis=1)
        return rows[:: max(1, len(rows) // 2000)].astype(float)

    def worst(self) -> float:
        """The largest relative error beyond what the bars explain."""
        gap = np.maximum(np.abs(self.gradient - self.value) - self.error, 0)
        size = np.maximum(np.abs(self.gradient), np.abs(self.value))
        return float(
            np.nanmax(np.where(np.isfinite(gap) & (size > 0), gap / np.where(size > 0, size, 1), 0), initial=0.0)
        )


class Compare:
    """Compares the gradient of y by each leaf with differences.

    Args:
        leaves: f laid open.
        y: its value.
        gradient: what is checked.
        tolerance: relative error allowed beyond the bars.
        key: draws mixtures and directions.
        grain: relative rounding error of the values.
        gradient_grain: that of the gradient.
    """

    def __init__(
        self, leaves: Leaves, y: Tensor, gradient: Autograd | Given, tolerance: float, key: Key, grain: float,
        gradient_grain: float,
    ):  # fmt: skip
        self.leaves, self.y, self.gradient, self.tolerance, self.grain = leaves, y, gradient, tolerance, grain
        self.key, self.evaluations, self.gradient_grain = key, 0, gradient_grain
        self.base = y.double().reshape(-1).cpu().numpy()
        self.known = np.isfinite(self.base)
        entries = max(leaf.value.numel() for leaf in leaves.leaves)
        self.exact = len(self.base) <= OUTPUTS and len(self.base) * entries <= 2**25
        if self.exact:
            self.weights = np.eye(len(self.base))
        else:
            self.weights = key.numpy("gradient check: outputs").choice([-1.0, 1.0], (DIRECTIONS, len(self.base)))
            self.weights[:, ~self.known] = 0
        self.gradients: list[np.ndarray] = []
        self.noise: np.ndarray | None = None

    @property
    def failure(self) -> str | None:
        """What backward raised, if it did."""
        return self.gradient.failure

    def prepare(self) -> None:
        """Ask for the gradient, once."""
        weights = np.where(self.known, self.weights, 0)
        self.gradients = self.gradient.rows(weights)

    def entry(self, index: int, j: int) -> str:
        """Entry j of a leaf by name."""
        leaf = self.leaves.leaves[index]
        return entry(leaf.name, j, leaf.shape)

    def entries(self, index: int, which: np.ndarray) -> Found:
        """Entries of a leaf, one by one."""
        slopes = self._slopes(index, which, self._unit(index)[which], self.weights)
        gradient = self.gradients[index][:, which]
        return self._judge(gradient, slopes, np.broadcast_to(self._largest(), gradient.shape))

    def directions(self, index: int) -> Found:
        """A leaf along random directions."""
        rows = self._signs(index)
        return self._along(index, rows)

    def search(self, index: int) -> tuple[list[tuple[int, int]], int]:
        """The wrong entries of a leaf (entry, row), the largest gaps first, and how many entries were looked at.

        A direction that disagrees is halved, and the half with the larger gap goes on.
        """
        signs = self._signs(index)[0]
        wrong: list[tuple[int, int]] = []
        tried, asked = 0, 0
        heap = [(len(signs), 0.0, 0)]  # the smallest block first: down to entries before anything else
        while heap and len(wrong) < ENOUGH and asked < SEARCHES:
            size, _, low = heapq.heappop(heap)
            high = low + size
            if high - low <= HANDFUL:
                which = np.arange(low, high)
                found = self.entries(index, which)
                tried += len(which)
                asked += len(which)
                for c in np.flatnonzero(found.wrong.any(axis=0)):
                    wrong.append((int(which[c]), int(np.flatnonzero(found.wrong[:, c])[0])))
                continue
            middle = (low + high) // 2
            halves = np.zeros((2, len(signs)))
            halves[0, low:middle], halves[1, middle:high] = signs[low:middle], signs[middle:high]
            found = self._along(index, halves)
            asked += 2
            gap = np.nanmax(np.abs(found.gradient - found.value), axis=0, initial=0.0)
            for c, (start, end) in enumerate(((low, middle), (middle, high))):
                if found.wrong[:, c].any():
                    heapq.heappush(heap, (end - start, -float(gap[c]), start))
        return wrong, tried

    def output_of(self, index: int, j: int) -> tuple[int, float, float, float]:
        """The output in which entry j of a leaf is wrong: its place, the gradient, the slope, the bar."""
        every = np.eye(len(self.base)) if len(self.base) <= OUTPUTS else None
        slopes = self._slopes(index, np.array([j]), self._unit(index)[[j]], every, all_outputs=True)
        value, error = slopes.value[:, 0], np.nan_to_num(slopes.error[:, 0], posinf=0.0)
        value = np.where(self.known, np.nan_to_num(value), 0)
        low, high = 0, len(self.base)
        signs = self.key.numpy("gradient check: signs of outputs").choice([-1.0, 1.0], len(self.base)) * self.known
        while high - low > 1:
            middle = (low + high) // 2
            halves = np.zeros((2, len(self.base)))
            halves[0, low:middle], halves[1, middle:high] = signs[low:middle], signs[middle:high]
            gaps = np.abs(self.gradient.rows(halves)[index][:, j] - halves @ value)
            low, high = (low, middle) if gaps[0] >= gaps[1] else (middle, high)
        one = np.zeros((1, len(self.base)))
        one[0, low] = 1
        return low, float(self.gradient.rows(one)[index][0, j]), float(value[low]), float(error[low])

    def moves_far_away(self, index: int) -> bool:
        """Whether y changes when a leaf makes moves as large as itself."""
        leaf, size = self.leaves.leaves[index], self.size(index)
        for factor in (0.3, -0.7, 1.9):
            noise = self.key.numpy("gradient check: far away").standard_normal(leaf.value.numel())
            moved = torch.from_numpy(leaf.flat() + factor * size * noise)
            self.evaluations += 1
            try:
                if not torch.equal(self.leaves.value(index, moved), self.y):
                    return True
            except Exception:  # f may refuse such a place
                continue
        return False

    def _signs(self, index: int) -> np.ndarray:
        """(DIRECTIONS, n) random signs, as large as the entries of the leaf are."""
        n = self.leaves.leaves[index].value.numel()
        generator = self.key.child(str(index)).numpy("gradient check: directions")
        return generator.choice([-1.0, 1.0], (DIRECTIONS, n)) * self.size(index)

    def size(self, index: int) -> float:
        """How large the entries of a leaf are; 1 if they are all zero."""
        return float(np.sqrt(np.mean(self.leaves.leaves[index].flat() ** 2))) or 1.0

    def _unit(self, index: int) -> np.ndarray:
        """(n,) what a large move of each entry is."""
        size, entries = self.size(index), np.abs(self.leaves.leaves[index].flat())
        return np.where(entries > 1e-3 * size, entries, size)

    def _along(self, index: int, rows: np.ndarray) -> Found:
        """The slopes along rows (C, n)."""
        unit = np.count_nonzero(rows, axis=1) ** -0.5
        slopes = self._slopes(index, rows, unit, self.weights)
        sums = np.abs(self.gradients[index]) @ np.abs(rows).T
        return self._judge(self.gradients[index] @ rows.T, slopes, sums)

    def _largest(self) -> np.ndarray:
        """(k, 1) the largest entry of all gradients of each row: what cancels to nothing was as large before."""
        sizes = [np.abs(np.nan_to_num(rows, posinf=0, neginf=0)).max(axis=1, initial=0.0) for rows in self.gradients]
        return np.max(sizes, axis=0)[:, None]

    def _judge(self, gradient: np.ndarray, slopes: Slopes, sums: np.ndarray) -> Found:
        """Compare; `sums` are the sizes of what the gradient's entries were summed from, whose rounding stays."""
        rounding = 100 * self.gradient_grain * sums
        allowed = slopes.error * (1 if self.grain < 1e-10 else 3)  # single precision hides kinks from the steps
        allowed = allowed + self.tolerance * np.maximum(np.abs(gradient), np.abs(slopes.value)) + rounding
        wrong = np.abs(gradient - slopes.value) > allowed
        return Found(gradient, slopes.value, slopes.error, slopes.below, slopes.above, wrong)

    def _slopes(
        self, index: int, along: np.ndarray, unit: np.ndarray, weights: np.ndarray | None, *, all_outputs: bool = False
    ) -> Slopes:
        """Differences of the weighted outputs, or of all, along columns or rows."""
        leaf = self.leaves.leaves[index]
        x, dtype = leaf.flat(), leaf.value.dtype

        def evaluate(points: np.ndarray) -> np.ndarray:
            return np.stack([self._value(index, point, None if all_outputs else weights) for point in points])

        def rounded(points: np.ndarray) -> np.ndarray:
            return torch.from_numpy(points).to(dtype).double().numpy()

        base = self.base if all_outputs else self._weighted(self.base, weights)
        if all_outputs or self.noise is None:
            generator = self.key.numpy("gradient check: noise")
            noise, spent = measure_noise(evaluate, x, base, self._unit(index), self.grain, generator)
            self.evaluations += spent
            if not all_outputs:
                self.noise = noise
        else:
            noise = self.noise
        slopes = differentiate(
            evaluate, x, base, along, noise=np.fmax(noise, self.grain * np.abs(base)), unit=unit, grain=self.grain,
            rounded=rounded, rounds=2, smooth=False,
        )  # fmt: skip
        self.evaluations += slopes.evaluations
        return slopes

    def _weighted(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """(k,) weighted outputs; with one weight each, outputs that are not finite at x stay so."""
        if weights is None or self.exact:
            return y
        return weights @ np.where(self.known, y, 0)

    def _value(self, index: int, point: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        try:
            y = self.leaves.value(index, torch.from_numpy(point))
        except Exception:  # a neighbour without a value; x itself has one
            return np.full(len(self.base) if weights is None else len(weights), np.nan)
        if y.shape != self.y.shape:
            return np.full(len(self.base) if weights is None else len(weights), np.nan)
        return self._weighted(y.double().reshape(-1).cpu().numpy(), weights)
