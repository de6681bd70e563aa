"""The one that moves: holds the present question, gathers its answers, and tells the method when it is full."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eitherway import methods
from eitherway.base.errors import CostError
from eitherway.base.keys import Key
from eitherway.methods.codec import state
from eitherway.methods.protocol import OK, Method, Question, Stop, Told
from eitherway.run.answers import Answer, Answers
from eitherway.space.space import Space, as_space


@dataclass(slots=True)
class Trial:
    """One row of the present question, to be judged by whoever asked for it.

    Args:
        turn, row: where it belongs.
        point: (D,) in search coordinates.
        values: what the cost is called with.
        wants: "value" or "gradient".
    """

    turn: int
    row: int
    point: np.ndarray
    values: Any
    wants: str


@state
class SearchState:
    """All that a search remembers between two turns."""

    method: Any
    turn: int = 0
    told: int = 0
    failures: int = 0
    best_value: float = float("inf")
    best_violation: float = float("inf")
    best_point: Any = None
    improved: int = 0
    lowest: float = float("inf")
    highest: float = float("-inf")


class Search:
    """A search that you drive: ask for trials, judge them, tell their values, late and in any order.

    Args:
        space: an ew.Space, or whatever may stand for one.
        method: a method or its name; None is `Auto`.
        seed: an integer, or a Key.
        start: points to be asked first.

    >>> search = Search({"x": (-5, 5)}, "randomsearch", seed=1)
    >>> for _ in range(100):
    ...     for trial in search.ask():
    ...         search.tell(trial, trial.values["x"] ** 2)
    >>> search.evaluations, bool(search.best_value < 0.1)
    (100, True)
    """

    def __init__(self, space: Any, method: str | Method | None = None, seed: int | Key = 0, *, start: Any = None):
        self.space: Space = as_space(space)
        if start is not None:
            self.space = self.space.with_starts(start)
        self.method: Method = methods.get("auto" if method is None else method)
        self.key = seed if isinstance(seed, Key) else _key(seed)
        self.state = SearchState(self.method.init(self.space, self.key))
        self.question: Question | None = None
        self._inputs: list[Any] | None = None
        self._handed = 0

    # ---- whole questions --------------------------------------------------------------------------------------------
    def open(self) -> Question | None:
        """The present question, asked now if there is none; None once the method has stopped."""
        if self.question is None and not self.method.stopped(self.state.method):
            self.question = self.method.ask(self.state.method, self.space, self.key.at(self.state.turn))
            self.answers = Answers(len(self.question.points))
            self._inputs, self._handed = None, 0
        return self.question

    @property
    def inputs(self) -> list[Any]:
        """What the cost is called with, for every row of the present question."""
        assert self.question is not None
        if self._inputs is None:
            self._inputs = self.space.decode(self.question.points)
        return self._inputs

    def move(self, told: Told | None = None) -> None:
        """Ends the turn: tells the method. Without `told`, with the answers gathered by `tell`.

        The question and everything that aliases it die here. With `told.moved` the best so far starts afresh.
        """
        question, s = self.question, self.state
        if question is None:
            raise CostError("there is no question to answer; call open() or ask() first")
        if told is None:
            told = self.answers.told(self.space.columns, question.wants)
        if len(told.values) != len(question.points):
            raise CostError(
                f"{len(told.values)} values were told for {len(question.points)} points; expected one a point"
            )
        self._absorb(question.points, told)
        s.method = self.method.tell(s.method, self.space, question, told, self.key.at(s.turn))
        s.turn += 1
        s.told += len(told.values) + self.answers.again
        self.question = self._inputs = None

    def _absorb(self, points: np.ndarray, told: Told) -> None:
        """The best of a full question, before the method may write in it."""
        s, values = self.state, told.values
        failures = int(np.count_nonzero(told.status))
        if failures:
            s.failures += failures
            known = np.flatnonzero(told.status == OK)
        else:
            known = None
        if told.violations is not None:
            violation = np.maximum(told.violations, 0).sum(1)
            rows = np.arange(len(values)) if known is None else known
            if len(rows):
                row = rows[np.lexsort((values[rows], violation[rows]))[0]]
                self._improve(points[row], float(values[row]), float(violation[row]), s.told + int(row) + 1)
        elif known is None or len(known):
            row = int(values.argmin()) if known is None else int(known[values[known].argmin()])
            self._improve(points[row], float(values[row]), 0.0, s.told + row + 1)
        if not s.lowest < s.highest:  # only whether anything differs is of interest
            seen = values if known is None else values[known]
            if len(seen):
                s.lowest, s.highest = min(s.lowest, float(seen.min())), max(s.highest, float(seen.max()))
        if told.moved:
            s.best_value = s.best_violation = s.lowest = float("inf")
            s.best_point, s.highest, s.improved = None, float("-inf"), s.told

    def _improve(self, point: np.ndarray, value: float, violation: float, at: int) -> None:
        s = self.state
        if (
            violation < s.best_violation
            or (violation == s.best_violation and value < s.best_value)
            or s.best_point is None
        ):
            s.best_value, s.best_violation, s.best_point, s.improved = value, violation, point.copy(), at

    # ---- single trials ----------------------------------------------------------------------------------------------
    def ask(self, n: int = 1) -> list[Trial]:
        """Up to n rows of the present question; [] while answers are outstanding, or once `stopped` says why."""
        question = self.open()
        trials: list[Trial] = []
        while question is not None and len(trials) < n and self._handed < len(question.points):
            row, self._handed = self._handed, self._handed + 1
            if not self.answers.done[row]:
                trials.append(Trial(self.state.turn, row, question.points[row], self.inputs[row], question.wants))
        return trials

    def tell(self, trial: Trial, value: float | Answer | None = None, *, failed: str | None = None) -> None:
        """The value of one trial, or why it has none; in any order. When all are told the search moves on.

        Raises:
            CostError: if this trial was told already.
        """
        if isinstance(value, Answer):
            answer = value
        elif failed is not None:
            answer = Answer.failed(failed)
        else:
            answer = as_answer(value)
        if self.question is None or trial.turn != self.state.turn or self.answers.done[trial.row]:
            raise CostError(f"row {trial.row} of turn {trial.turn} was told already; expected each trial once")
        self.answers.put(trial.row, answer)
        if not self.answers.missing:
            self.move()

    # ---- what is known so far ---------------------------------------------------------------------------------------
    @property
    def stopped(self) -> Stop | None:
        """Why the method asks no more, or None."""
        return self.method.stopped(self.state.method) if self.question is None else None

    def best_row(self) -> tuple[float, float, np.ndarray | None]:
        """(value, violation, point) of the best answer, rows of an unfinished question included."""
        s = self.state
        value, violation, point = s.best_value, s.best_violation, s.best_point
        if self.question is not None:
            a = self.answers
            for row in np.flatnonzero(a.done & (a.status == OK)):
                v = float(np.maximum(a.violations[int(row)], 0).sum()) if int(row) in a.violations else 0.0
                if point is None or v < violation or (v == violation and a.values[row] < value):
                    value, violation, point = float(a.values[row]), v, self.question.points[row]
        return value, violation, point

    @property
    def best_value(self) -> float:
        """The lowest value told so far; inf before the first."""
        return self.best_row()[0]

    @property
    def best(self) -> Any:
        """The best point so far as the cost is called with it, or None."""
        point = self.best_row()[2]
        return None if point is None else self.space.decode(point[None])[0]

    @property
    def evaluations(self) -> int:
        """How many evaluations were told."""
        if self.question is None:
            return self.state.told
        return self.state.told + len(self.answers) - self.answers.missing + self.answers.again


def _key(seed: Any) -> Key:
    try:
        return Key(operator.index(seed))
    except TypeError:
        raise CostError(f"seed={seed!r} was given; expected a whole number, or an ew.Key") from None


def as_answer(value: Any) -> Answer:
    """A number that a cost returned, as an answer; anything that is none is a failure that says what it was.

    One-element arrays and tensors count as numbers. +inf is a value; NaN, -inf, complex numbers and texts are failures.
    """
    if type(value) is not float:
        kind = type(value).__name__
        if value is None:
            return Answer.failed("returned None, expected a number; does the cost end with `return`?", broken=True)
        if isinstance(value, (str, bytes, complex, np.complexfloating)):
            return Answer.failed(f"returned {value!r}, expected a real number", broken=True)
        try:
            shape = tuple(getattr(value, "shape", ()))
            if shape and int(np.prod(shape)) == 1:
                answer = as_answer(value.reshape(-1)[0].item())
                answer.note = f"the cost returned an array of shape {shape}; its one element was taken"
                return answer
            value = value.item() if hasattr(value, "item") else float(value)
            if isinstance(value, complex):
                return Answer.failed(f"returned {value!r}, expected a real number", broken=True)
            value = float(value)
        except Exception:  # whatever a foreign type raises that is no number, or none that a float can hold
            return Answer.failed(
                f"returned a {kind}{f' of shape {shape}' if shape else ''}, expected one number", broken=True
            )
    if value != value:
        return Answer.failed("returned NaN")
    if value == float("-inf"):
        return Answer.failed("returned -inf, which nothing could ever beat; return a finite number", broken=True)
    return Answer(value)
