"""When a run ends, and the sentence that says why."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from numbers import Integral, Real
from types import FrameType, TracebackType
from typing import Any

from eitherway.base.errors import CostError
from eitherway.run.search import Search, SearchState


@dataclass(frozen=True)
class Limits:
    """What a run may spend, and what it may stop at.

    Args:
        budget: evaluations, checks and retries included.
        target: stop at a value at or below this (in the sign of the search: lower is better).
        seconds: wall-clock seconds of this call.
        stall: stop after this many evaluations without an improvement.
        sign: -1 where the user maximizes, for the sentences.
    """

    budget: int = 10_000
    target: float | None = None
    seconds: float | None = None
    stall: int | None = None
    sign: float = 1.0

    def __post_init__(self) -> None:
        for name, value, least in (("budget", self.budget, 1), ("seconds", self.seconds, 0), ("stall", self.stall, 1)):
            if value is None and name != "budget":
                continue
            kind, whole = (Integral, ", and a whole one") if name == "budget" else (Real, "")
            if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
                raise CostError(f"{name}={value!r} was given; expected a number of at least {least}{whole}")
        if self.target is not None and not isinstance(self.target, Real):
            raise CostError(f"target={self.target!r} was given; expected a number, or None for no target")
        if self.target is not None and self.target != self.target:
            raise CostError("target=nan was given; expected a number, or None for no target")

    def after_turn(self, state: SearchState) -> str | None:
        """The reason to stop that holds between two turns, or None."""
        if self.stall is not None and state.told - state.improved >= self.stall:
            return f"the best value has not improved for {state.told - state.improved} evaluations (stall={self.stall})"
        return None

    def met(self, value: float) -> bool:
        return self.target is not None and value <= self.target

    @property
    def target_sentence(self) -> str:
        return f"the target {self.sign * (self.target or 0.0) + 0.0:g} is met"  # + 0.0: never -0

    @property
    def seconds_sentence(self) -> str:
        return f"the {self.seconds:g} seconds are over"

    def budget_sentence(self, search: Search) -> str:
        falling = search.state.improved > 0.9 * self.budget
        advice = (
            "; the best was still improving, so a larger budget should help" if falling and self.budget >= 20 else ""
        )
        return f"the budget of {self.budget} evaluations is spent{advice}"


class Interruption:
    """Ctrl-C and SIGTERM during a run: they end a cost at once, and wait for the engine. The second one does not wait.

    Signals reach only a main thread; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self.armed = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self.listen()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.rest()

    def listen(self) -> None:
        """From now on signals are heard here."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._heard)

    def rest(self) -> None:
        """From now on they are whose they were."""
        for number, old in self._old.items():
            signal.signal(number, old if old is not None else signal.SIG_DFL)
        self._old = {}

    def _heard(self, number: int, frame: FrameType | None) -> None:
        again = self.asked is not None
        self.asked = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        if self.armed or again:
            raise KeyboardInterrupt(self.asked)

    @property
    def sentence(self) -> str:
        return f"interrupted by {self.asked or 'Ctrl-C'}; the best so far is kept"


clock = time.perf_counter
"""Seconds, for limits and progress; only ever compared with itself."""
