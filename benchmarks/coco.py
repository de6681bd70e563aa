"""The problems of COCO's suites as costs that count: optimum known, box shifted, integers rounded."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scores import Ledger

GROUPS = {
    "separable": range(1, 6),
    "moderate": range(6, 10),
    "ill-conditioned": range(10, 15),
    "multimodal": range(15, 20),
    "weak structure": range(20, 25),
}
"""The five groups of the 24 functions (Hansen et al. 2009)."""

_BEST = "._bbob_problem_best_parameter.txt"  # cocoex prints the minimiser into this file of the working folder


@dataclass(frozen=True)
class Cell:
    """One function, instance and dimension of a suite."""

    suite: str
    function: int
    instance: int
    dimension: int

    def seed(self, restart: int = 0) -> int:
        """The same for every solver, so that all draw the same starts; below 2^31, which every rival takes."""
        text = f"{self.function} {self.instance} {self.dimension} {restart}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little") >> 1


@dataclass
class Problem:
    """A cost to be minimised within a box, which raises `Spent` when its budget is gone.

    Args:
        cell: which one.
        budget: evaluations.
        shift: the largest distance, per real coordinate, by which the optimum is moved against the box.

    `low`, `high` are (D,); the first `integers` coordinates are whole numbers and are rounded for everybody.
    """

    cell: Cell
    budget: int
    shift: float = 0.5
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)
    integers: int = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        import cocoex

        cell = self.cell
        only = f"function_indices: {cell.function} dimensions: {cell.dimension}"
        self._suite = cocoex.Suite(cell.suite, f"instances: {cell.instance}", only)
        self._problem: Any = self._suite.get_problem(0)
        assert self._problem.id_triple == (cell.function, cell.dimension, cell.instance), self._problem.id_triple
        self.low, self.high = np.array(self._problem.lower_bounds), np.array(self._problem.upper_bounds)
        self.integers = self._problem.number_of_integer_variables
        self.offset = self._offset()
        self.ledger = Ledger(self._optimum(), self.budget)

    def _offset(self) -> np.ndarray:
        """(D,) what is added to a point before it is judged; nothing on f5, whose optimum is a corner of the box."""
        offset = np.random.default_rng(self.cell.seed(-1)).uniform(-self.shift, self.shift, self.cell.dimension)
        offset[: self.integers] = 0.0
        return offset * (self.cell.function != 5)

    def _optimum(self) -> float:
        """The value at the minimiser that cocoex prints: its interface no longer exposes the value itself."""
        path = Path(_BEST)
        path.unlink(missing_ok=True)
        self._problem._best_parameter("print")
        best = np.loadtxt(path, ndmin=1)
        path.unlink()
        return float(self._problem(best))

    def __call__(self, x: Any) -> float:
        """The value of one point (D,)."""
        x = np.minimum(np.maximum(x, self.low), self.high)
        if self.integers:
            x[: self.integers] = np.round(x[: self.integers])
        return self.ledger.note(self._problem(x + self.offset))

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """(D,) uniform in the box."""
        return rng.uniform(self.low, self.high)

    def close(self) -> None:
        """Gives the problem's memory back."""
        self._problem.free()


def cells(suite: str, dimensions: list[int], instances: list[int]) -> list[Cell]:
    """All cells of a suite's 24 functions."""
    return [Cell(suite, f, i, D) for D in dimensions for f in range(1, 25) for i in instances]


def enter_folder_of_its_own(folder: str) -> None:
    """Work in a scratch folder of this process: cocoex and pyswarms write files where they stand."""
    own = Path(folder) / str(os.getpid())
    own.mkdir(parents=True, exist_ok=True)
    os.chdir(own)
