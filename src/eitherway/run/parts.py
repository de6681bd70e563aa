"""What a run is put together from, and what it hands out: who looks on, who keeps, who judges elsewhere; a Step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eitherway.methods.protocol import Question
from eitherway.run.answers import Answer, Answers
from eitherway.run.search import Search

if TYPE_CHECKING:
    from eitherway.run.loop import Run


class Watch(Protocol):
    """Who looks on: progress. Called from the loop, never more often than every TICK."""

    def begin(self, run: Run) -> None: ...
    def tick(self, run: Run) -> None: ...
    def say(self, sentence: str) -> None: ...
    def end(self, run: Run) -> None: ...


class Book(Protocol):
    """Who keeps the run: the journal."""

    def replay(self, run: Run) -> None: ...
    def part(self, turn: int, answers: Answers) -> None: ...
    def turn(self, turn: int, question: Question, answers: Answers) -> None: ...
    def moved(self, run: Run, engine_seconds: float) -> None: ...
    def discard(self) -> None: ...
    def close(self, reason: str | None) -> None: ...


class Pool(Protocol):
    """Who judges elsewhere: `count` worker processes."""

    count: int

    def free(self) -> int: ...
    def submit(self, row: int, job: tuple[Any, ...]) -> None: ...
    def wait(self, seconds: float) -> list[tuple[int, Answer]]: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Step:
    """One finished turn, as callbacks and `iterate` see it; values in the user's sign.

    Args:
        turn: from 0.
        evaluations: told so far.
        best, value: the best so far, as the cost is called with it.
        points: (P, D) the turn's points in search coordinates.
        values: (P,) the turn's values, NaN for failures.
        search: to look inside.
    """

    turn: int
    evaluations: int
    best: Any
    value: float
    points: np.ndarray
    values: np.ndarray
    search: Search
