"""Eitherway on the same problems: `ew.minimize` as a user would call it, with only the method named."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.coco import Problem
from benchmarks.rivals import Solver

METHODS = ("RandomSearch", "GA", "PSO", "DE", "CMAES", "SQP", "Auto")
STARTED = ("CMAES", "SQP", "Auto")
"""Methods that begin at one point: they are given the uniform start, as the rivals of their kind are."""

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


def _as_called(problem: Problem, start: np.ndarray) -> Any:
    """(D,) as the cost is called: an array, or named values with integers as integers."""
    if not problem.integers:
        return start
    whole = {f"z{i}": round(float(v)) for i, v in enumerate(start[: problem.integers])}
    return whole | {f"x{i}": float(v) for i, v in enumerate(start[problem.integers :])}


def solver(name: str) -> Solver:
    """A solver that calls `ew.minimize` with that method."""

    def solve(problem: Problem, start: np.ndarray, seed: int) -> None:
        import eitherway as ew

        def named(**values: float) -> float:
            return problem(np.array([*values.values()], float))

        cost, space, left = named if problem.integers else problem, _space(problem), problem.ledger.left
        given = _as_called(problem, start) if name in STARTED else None
        result = ew.minimize(cost, space, method(name), budget=left, seed=seed, start=given, progress=None)
        if result.interrupted:  # it returns its best when it is asked to stop; a benchmark has to stop, too
            raise KeyboardInterrupt

    return solve
