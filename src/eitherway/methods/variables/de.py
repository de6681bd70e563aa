"""Differential evolution that need not know its budget: small, restarted larger, F and CR learned or composed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from eitherway.base.errors import MethodError
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Told, better
from eitherway.methods.variables._difference import (
    SETS,
    crossed,
    inside,
    lehmer,
    mutants,
    partners,
    remembered,
    unordered,
)
from eitherway.methods.variables._discrete import apart
from eitherway.methods.variables._population import converged, fresh, order
from eitherway.methods.variables._quasi import Quasi, quasi

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space


@state
class DEState:
    """A population, what it was told, and what has worked.

    `points` (P, D), `standings` (P, 2); `known` is False when the next question is the population itself; `archive`
    (A, D) parents that were replaced; `memory` (2, H) F and CR that worked, `slot` the next cell to write;
    `sequence`, `drawn` where new populations come from; `idle` turns without any gain.
    """

    points: np.ndarray
    standings: np.ndarray
    known: bool
    archive: np.ndarray
    memory: np.ndarray
    slot: int
    sequence: Quasi
    drawn: int
    idle: int


@dataclass(frozen=True)
class DE(Method["DEState"]):
    """L-SHADE's step (Tanabe & Fukunaga 2014): current-to-pbest/1/bin, an archive, F and CR from a memory of successes.

    Departures, so that it serves any budget: the population begins small, and instead of shrinking towards a known
    end it starts anew, `growth` times larger, when it has converged or nothing was gained for `patience` turns.
    With discrete columns F and CR are drawn from the three sets of composite DE, since the memory misleads there
    (Tanabe, GECCO 2024, arXiv:2404.03303). Integers keep their coordinate within a cell (judged, not written back);
    options of a Choice are handed on whole. Columns that do not take part drift along.

    Args:
        population: rows, 4 or more; None: 5 + D / 2 (at most 50), measured best for 200 D evaluations of bbob.
        best_share: the share of the population that counts as best.
        archive: replaced parents that are remembered, per row of the population.
        memories: cells of the memory, H.
        control: how F and CR are chosen; None: "memory" where all columns are real, else "sets".
        growth: the factor from one population to the next, up to 200 rows.
        patience: turns without any gain after which it starts anew.
    """

    population: int | None = None
    best_share: float = 0.1
    archive: float = 0.5
    memories: int = 8
    control: Literal["memory", "sets"] | None = None
    growth: float = 1.5
    patience: int = 30

    def __post_init__(self) -> None:
        if self.population is not None and not (isinstance(self.population, int) and self.population >= 4):
            raise MethodError(
                f"DE got population={self.population!r}; expected 4 or more rows (three make a step), or None"
            )
        if not 0 <= self.best_share <= 1:
            raise MethodError(
                f"DE got best_share={self.best_share!r}; expected a share from 0 (only the best row) to 1"
            )
        if self.control not in (None, "memory", "sets"):
            raise MethodError(f"DE got control={self.control!r}; expected 'memory', 'sets' or None")
        for name, low in (("archive", 0), ("memories", 1), ("growth", 1), ("patience", 1)):
            if not getattr(self, name) >= low:
                raise MethodError(f"DE got {name}={getattr(self, name)!r}; expected {low} or more")

    def init(self, space: Space, key: Key) -> DEState:
        sequence = quasi(space.columns, key.numpy("sequence"))
        P = max(self.population or min(5 + space.columns // 2, 50), len(space.starts))
        return self._fresh(space, key, sequence, 0, P, space.starts)

    def _fresh(self, space: Space, key: Key, sequence: Quasi, drawn: int, P: int, first: np.ndarray) -> DEState:
        """A population of P rows that is not known yet; `first` (K, D) are its first rows."""
        return DEState(
            points=fresh(space, first, P, sequence, drawn, key.numpy("population")),
            standings=np.full((P, 2), np.inf),
            known=False,
            archive=np.zeros((0, space.columns)),
            memory=np.repeat([[0.3], [0.5]], self.memories, axis=1),
            slot=0,
            sequence=sequence,
            drawn=drawn + P - len(first),
            idle=0,
        )

    def ask(self, state: DEState, space: Space, key: Key) -> Question:
        x = state.points
        if not state.known:
            return Question(x)
        P = len(x)
        generator = key.numpy("children")
        if self.control == "sets" or (self.control is None and len(space.discrete)):
            F, CR = SETS[:, generator.integers(3, size=P)]
        else:
            F, CR = remembered(state.memory, P, generator)
        share = max(1, round(self.best_share * P))
        best = x[order(state.standings)[(generator.random(P) * share).astype(np.int64)]]
        r1, r2 = partners(P, len(state.archive), generator)
        a, b = x[r1], np.concatenate([x, state.archive])[r2]
        mutant = mutants(x, best, a, b, F)
        if len(space.discrete):
            unordered(space, mutant, x, best, a, b, F, generator)
        children = inside(space, crossed(mutant, x, CR, generator), x)
        if len(space.discrete):
            children = apart(space, children, x, generator)
        return Question(space.clip(children), notes=(F, CR))

    def tell(self, state: DEState, space: Space, question: Question, told: Told, key: Key) -> DEState:
        standings = told.standings()
        if not state.known:
            state.standings = standings
            state.known = not told.moved
            return state
        gained = better(standings, state.standings)
        if gained.any():
            state.idle = 0
            self._learn(state, standings, gained, question.notes, key)
        else:
            state.idle += 1
        # a tie is taken, so that a population can cross a plateau
        taken = ~better(state.standings, standings)
        state.points[taken] = question.points[taken]
        state.standings[taken] = standings[taken]
        state.known = not told.moved
        if state.idle >= self.patience or converged(space, state.points, state.standings):
            P = min(math.ceil(self.growth * len(state.points)), max(200, len(state.points)))
            return self._fresh(space, key, state.sequence, state.drawn, P, space.starts[:0])
        return state

    def _learn(self, state: DEState, standings: np.ndarray, gained: np.ndarray, notes: tuple, key: Key) -> None:
        """Writes the memory and the archive: what the rows that gained were made with, and the parents they beat."""
        with np.errstate(invalid="ignore"):  # inf - inf, where both failed a constraint without a value
            gains = state.standings[gained] - standings[gained]
        gains = np.where(gains[:, 0] > 0, gains[:, 0], gains[:, 1])
        if not np.isfinite(gains).all():
            gains = np.ones(len(gains))
        total = gains.sum()
        weights = gains / total if 0 < total < np.inf else np.full(len(gains), 1 / len(gains))
        state.memory[:, state.slot] = lehmer(weights, np.stack(notes)[:, gained])
        state.slot = (state.slot + 1) % self.memories
        archive = np.concatenate([state.archive, state.points[gained]])
        room = round(self.archive * len(state.points))
        if len(archive) > room:
            archive = archive[np.sort(key.numpy("archive").permutation(len(archive))[:room])]
        state.archive = archive
