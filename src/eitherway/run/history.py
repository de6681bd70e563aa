"""Everything a run evaluated, in columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from eitherway.methods.protocol import OK
from eitherway.run.answers import Answers
from eitherway.space.space import Space

LARGEST = 256 * 2**20
"""Bytes of points that are kept: beyond that the values go on alone."""


class _Turn(NamedTuple):
    """One turn's answered rows; `points` None where there was no room, `infeasible` None where nothing constrains."""

    number: int
    points: np.ndarray | None
    values: np.ndarray
    status: np.ndarray
    infeasible: np.ndarray | None
    metrics: dict[int, dict[str, float]]


class History:
    """Columns by name, one entry an evaluation, in the order asked: `turn`, `value`, `status`, `best`, every variable.

    `best` counts feasible values only, and is NaN before the first. `status` is 0 for a value, 1 for a failure, 2 for
    a worker lost twice; a failed `value` is NaN. Metrics of an `Outcome` are columns too.

    >>> import eitherway as ew
    >>> history = ew.minimize(lambda x: x * x, ew.Real(-1, 1), "randomsearch", budget=4, progress=None).history
    >>> len(history), list(history)
    (4, ['turn', 'value', 'status', 'best', 'x'])
    """

    def __init__(self, space: Space, sign: float = 1.0):
        self._space, self.sign = space, sign
        self._turns: list[_Turn] = []
        self._bytes = 0
        self.why: dict[int, str] = {}

    def add(self, turn: int, points: np.ndarray | None, answers: Answers) -> None:
        """One turn's answered rows, in row order."""
        done, at = answers.done, len(self)
        kept, values, status = None, answers.values, answers.status  # fresh every turn, and never written again
        if points is not None and self._bytes + points.nbytes <= LARGEST:
            kept = points[done] if answers.missing else points.copy()
            self._bytes += kept.nbytes
        if answers.missing:
            values, status = values[done], status[done]
        metrics, infeasible = answers.metrics, None
        if answers.violations:
            infeasible = np.zeros(len(done), bool)
            for row, violations in answers.violations.items():
                infeasible[row] = (violations > 0).any()
            infeasible = infeasible[done]
        if answers.why or metrics:
            place = {int(row): i for i, row in enumerate(np.flatnonzero(done))}
            self.why.update({at + place[row]: why for row, why in answers.why.items()})
            metrics = {place[row]: m for row, m in metrics.items()}
        self._turns.append(_Turn(turn, kept, values, status, infeasible, metrics))
        self._length = at + len(values)

    _length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        yield from ("turn", "value", "status", "best")
        yield from self._variables()
        yield from self._metrics()

    def keys(self) -> list[str]:
        return list(self)

    def __getitem__(self, name: str) -> Any:
        if name == "turn":
            return np.repeat(np.array([t.number for t in self._turns], int), [len(t.values) for t in self._turns])
        if name == "status":
            return np.concatenate([t.status for t in self._turns] or [np.zeros(0, np.uint8)])
        if name == "value":
            return self.sign * self._values()
        if name == "best":
            best = np.minimum.accumulate(np.where(self._counts(), self._values(), np.inf)) if len(self) else np.zeros(0)
            return self.sign * np.where(np.maximum.accumulate(self._counts()), best, np.nan) if len(self) else best
        if name in self._variables():
            return self._variable(name)
        if name in self._metrics():
            return np.array([t.metrics.get(i, {}).get(name, np.nan) for t in self._turns for i in range(len(t.values))])
        raise KeyError(f"the history has no column {name!r}; it has {', '.join(self)}")

    def _values(self) -> np.ndarray:
        return np.concatenate([t.values for t in self._turns] or [np.zeros(0)])

    def _counts(self) -> np.ndarray:
        """Whether each evaluation may be the best: it has a value, and is feasible."""
        counts = [t.status == OK if t.infeasible is None else (t.status == OK) & ~t.infeasible for t in self._turns]
        return np.concatenate(counts or [np.zeros(0, bool)])

    def _metrics(self) -> list[str]:
        return list(dict.fromkeys(name for t in self._turns for row in t.metrics.values() for name in row))

    def _variables(self) -> list[str]:
        return ["x"] if self._space.lone else list(self._space.variables)

    def _variable(self, name: str) -> Any:
        """One variable of every point, None where it was inactive or the point was not kept."""
        out: list[Any] = []
        for turn in self._turns:
            if turn.points is None:
                out += [None] * len(turn.values)
            else:
                rows = self._space.decode(turn.points)
                out += rows if self._space.lone else [row.get(name) for row in rows]
        if all(isinstance(v, (int, float, np.ndarray)) and not isinstance(v, bool) for v in out):
            return np.array(out)
        return out

    def points(self) -> np.ndarray:
        """(N, D) search coordinates, NaN where the point was not kept."""
        D = self._space.columns
        points = [np.full((len(t.values), D), np.nan) if t.points is None else t.points for t in self._turns]
        return np.concatenate(points or [np.zeros((0, D))])

    def __repr__(self) -> str:
        return f"History({len(self)} evaluations: {', '.join(self)})"
