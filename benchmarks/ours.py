"""Eitherway on the same problems: `ew.minimize` as a user would call it, with only the method named."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.coco import Problem
from benchmarks.rivals import Solver

METHODS = ("RandomSearch", "GA", "PSO", "DE", "CMAES", "SQP", "Auto")
MIXED = ("RandomSearch", "GA", "PSO", "DE", "CMAES", "Auto")


def method(name: str) -> Any:
    """The method of that name with its defaults; None for Auto, which is what a user gets who names none."""
    import eitherway as ew

    return None if name == "Auto" else getattr(ew.methods, name)()


def _space(problem: Problem) -> Any:
    import eitherway as ew

    if not problem.integers:
        return ew.Array((len(problem.low),), float(problem.low[0]), float(problem.high[0]))
    columns = list(zip(problem.low.tolist(), problem.high.tolist()))
    whole = {f"z{i}": ew.Integer(int(low), int(high)) for i, (low, high) in enumerate(columns[: problem.integers])}
    reals = {f"x{i}": ew.Real(low, high) for i, (low, high) in enumerate(columns[problem.integers :])}
    return ew.Space(**whole, **reals)


def solver(name: str) -> Solver:
    """A solver that calls `ew.minimize` with that method."""

    def solve(problem: Problem, start: np.ndarray, seed: int) -> None:
        import eitherway as ew

        def named(**values: float) -> float:
            return problem(np.array([*values.values()], float))

        cost = named if problem.integers else problem
        ew.minimize(cost, _space(problem), method(name), budget=problem.ledger.left, seed=seed, progress=None)

    return solve
