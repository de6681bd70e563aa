"""A reward of nothing but yes or no, made learnable: short horizons first, longer ones for those who pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from eitherway.base.errors import CostError
from eitherway.base.keys import Key
from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.run.problem import Outcome

Survives = Callable[[Any, int, int], bool]
"""(values, horizon, seed) -> whether the episode of that seed was still going on after `horizon` steps."""


@state
class Climb:
    """What the curriculum has learned so far.

    Args:
        base: the rung every candidate begins on.
    """

    base: int = 0


@dataclass(frozen=True)
class HorizonCurriculum:
    """A cost for `minimize`: how many rungs of a ladder of growing horizons a candidate survives, upside down.

    Every episode answers one bit: still going on at the horizon, or not. A candidate begins on the base rung and goes
    on to the next, each time in a fresh episode, until it fails; its value is minus the number of the highest rung it
    survived, and 0 if it failed on the base. The base follows the candidates: it rises when at least `share` of a turn
    survived it, and comes down again when nobody did. A value means the same whatever the base, so values of different
    turns can be compared. The topmost rung, the full horizon, has to be survived `proofs` times in a row; then the
    value is `target`.

    Each evaluation reports `episodes` as a metric: its sum over the history is what the reward has cost in full.

    Args:
        survives: the environment. It is called with the same seeds for all candidates of a turn, and never twice with
            the same seed for one candidate.
        first: steps of the lowest rung; best somewhat less than somebody lasts who does nothing.
        full: steps of the topmost rung, what is to be learned.
        growth: each rung is so many times as long as the one below it.
        leap: rungs longer than this many steps are left out, so that the full horizon follows at once; None leaves out
            none. Worth it where whoever lasts so long will last.
        share: of a turn, above 0 and at most 1.
        proofs: episodes at the full horizon.

    Raises:
        CostError: if a number makes no sense.

    >>> import eitherway as ew
    >>> ladder = HorizonCurriculum(lambda x, horizon, seed: 100 - abs(x - 3) > horizon, first=10, full=99, proofs=2)
    >>> ladder.rungs, ladder.target
    ((10, 15, 22, 33, 50, 75, 99), -8)
    >>> found = ew.minimize(ladder, ew.Real(-100, 100), "cmaes", target=ladder.target, progress=None)
    >>> abs(found.best - 3) < 1, bool(found.history["episodes"].sum() > found.evaluations)
    (True, True)
    """

    survives: Survives
    first: Annotated[int, Range(least=1)]
    full: Annotated[int, Range(least=1)]
    growth: Annotated[float, Range(above=1)] = 1.5
    leap: Annotated[int | None, Range(least=0)] = None
    share: Annotated[float, Range(above=0, most=1)] = 0.5
    proofs: Annotated[int, Range(least=1)] = 1

    def __post_init__(self) -> None:
        if not callable(self.survives):
            raise CostError(
                f"HorizonCurriculum got survives={self.survives!r}; expected a function of values, horizon and seed"
            )
        check(self, CostError)
        if self.first > self.full:
            raise CostError(
                f"HorizonCurriculum got first={self.first!r} and full={self.full!r}; expected 1 <= first <= full, steps"
            )

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """Steps of each rung, rising; the last is `full`."""
        most = self.full - 1 if self.leap is None else min(self.leap, self.full - 1)
        found, exact = [], float(self.first)
        while exact <= most:
            found.append(int(exact))
            exact *= self.growth
        return (*sorted({*found}), self.full)

    @property
    def target(self) -> int:
        """The value of a candidate that has survived the full horizon `proofs` times."""
        return -(len(self.rungs) - 1 + self.proofs)

    def start(self) -> Climb:
        """Everybody on the lowest rung."""
        return Climb()

    def judge(self, values: Any, carry: Climb, seed: int) -> tuple[Outcome, int]:
        """A candidate's outcome, and how many rungs it has survived, all those below the base counted."""
        rung, top, roads, episodes = carry.base, len(self.rungs) - 1, Key(seed), 0
        while rung < top + self.proofs:
            episodes += 1
            survived = self.survives(values, self.rungs[min(rung, top)], roads.at(rung).integer("episode"))
            if not survived:
                break
            rung += 1
        value = -rung if rung > carry.base else 0
        return Outcome(value, metrics={"episodes": episodes}), rung

    def absorb(self, carry: Climb, reports: Sequence[int | None]) -> Climb:
        """The base of the next turn."""
        survived = sum(rung is not None and rung > carry.base for rung in reports)
        if survived >= self.share * len(reports):
            return Climb(min(carry.base + 1, len(self.rungs) - 1))
        return Climb(max(carry.base - 1, 0)) if not survived else carry

    def moved(self, old: Climb, new: Climb) -> bool:
        """Never: rungs are counted from the ground, so values stay comparable when the base moves."""
        return False
