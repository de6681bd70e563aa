"""Differential evolution that need not know its budget: small, restarted larger, F and CR learned or composed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Told, better
from eitherway.methods.variables._difference import (
    SETS,
    crossed,
    draws,
    inside,
    lehmer,
    mutants,
    remembered,
    unordered,
)
from eitherway.methods.variables._discrete import apart
from eitherway.methods.variables._population import converged, fresh, order
from eitherway.methods.variables._quasi import Quasi, quasi

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

FIRST = (0.5, 0.8)
"""F and CR of a memory that has seen nothing work: the F of SHADE, the CR of jSO (Brest et al. 2017)."""


@state
class DEState:
    """A population, what it was told, and what has worked.

    `pool` (P + A, D) the population, then parents that were replaced; `standings` (P, 2); `plain` whether every row has
    a finite value and no violation; `stage` is "new" when the next question is the population itself, "known" when it
    is children, "moved" when it is both, since the cost has moved; `memory` (2, H) F and CR that worked, `slot` the
    next cell to write; `sequence`, `drawn` where new populations come from; `idle` turns without any gain.
    """

    pool: np.ndarray
    standings: np.ndarray
    plain: bool
    stage: str
    memory: np.ndarray
    slot: int
    sequence: Quasi
    drawn: int
    idle: int

    @property
    def points(self) -> np.ndarray:
        """(P, D) the population, a view."""
        return self.pool[: len(self.standings)]


@dataclass(frozen=True)
class DE(Method["DEState"]):
    """L-SHADE's step (Tanabe & Fukunaga 2014): current-to-pbest/1/bin, an archive, F and CR from a memory of successes.

    Departures, so that it serves any budget: the population begins small, and instead of shrinking towards a known
    end it starts anew, `growth` times larger, when it has converged or nothing was gained for `patience` turns.
    Integers keep their coordinate within a cell (judged, not written back); options of a Choice are handed on whole.
    Columns that do not take part drift along.

    Tanabe (GECCO 2024, arXiv:2404.03303) found that the memory misleads where columns are discrete, and composite DE's
    sets do better; with these small populations it was the other way round (bbob-mixint, 5 columns: 0.257 against
    0.196 after 200 D evaluations, 0.416 against 0.364 after 2000 D), so the sets are for whoever asks for them.

    Args:
        population: rows, 4 or more; None: 5 + D / 2 (at most 50), measured best for 200 D evaluations of bbob.
        best_share: the share of the population that counts as best.
        archive: replaced parents that are remembered, per row of the population.
        memories: cells of the memory, H.
        control: how F and CR are chosen: about what has worked, or from the three sets of composite DE.
        growth: the factor from one population to the next, 1 to 100, up to 200 rows; a larger one changes nothing.
        patience: turns without any gain after which it starts anew.
    """

    population: Annotated[int | None, Range(least=4)] = None
    best_share: Annotated[float, Range(least=0, most=1)] = 0.1
    archive: Annotated[float, Range(least=0, most=100)] = 0.7
    memories: Annotated[int, Range(least=1)] = 8
    control: Literal["memory", "sets"] = "memory"
    growth: Annotated[float, Range(least=1, most=100)] = 1.5
    patience: Annotated[int, Range(least=1)] = 30

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> DEState:
        sequence = quasi(space.columns, key.numpy("sequence"))
        P = max(self.population or min(5 + space.columns // 2, 50), len(space.starts))
        return self._fresh(space, key, sequence, 0, P, space.starts)

    def _fresh(self, space: Space, key: Key, sequence: Quasi, drawn: int, P: int, first: np.ndarray) -> DEState:
        """A population of P rows that is not known yet; `first` (K, D) are its first rows.

        More points that nobody judges stand in for parents until some are replaced: copies of rows would make steps of
        no length, and so children that are copies of the best.
        """
        rows = P + round(self.archive * P)
        return DEState(
            pool=fresh(space, first, rows, sequence, drawn, key.numpy("population")),
            standings=np.full((P, 2), np.inf),
            plain=False,
            stage="new",
            memory=np.repeat(np.array(FIRST)[:, None], self.memories, axis=1),
            slot=0,
            sequence=sequence,
            drawn=drawn + rows - len(first),
            idle=0,
        )

    def ask(self, state: DEState, space: Space, key: Key) -> Question:
        pool, (P, _) = state.pool, state.standings.shape
        x = pool[:P]
        if state.stage == "new":
            return Question(x)
        d = draws(key, P, len(pool) - P, space.columns, self.memories)
        if self.control == "sets":
            F, CR = SETS[:, d.sets]
        else:
            F, CR = remembered(state.memory, d.cells, d.about)
        share = round(self.best_share * P)
        if share <= 1:
            best = x[state.standings[:, 1].argmin() if state.plain else order(state.standings)[0]]
        else:
            best = x[order(state.standings)[(d.best * share).astype(np.int64)]]
        a, b = pool.take(d.r1, axis=0), pool.take(d.r2, axis=0)
        mutant = mutants(x, best, a, b, F)
        if not len(space.discrete):
            children = inside(space, crossed(mutant, x, CR, d.cross), x)
        else:
            generator = key.numpy("cells")
            unordered(space, mutant, x, best, a, b, F, generator)
            children = inside(space, crossed(mutant, x, CR, d.cross), x)
            children = space.clip(apart(space, children, x, generator))
        points = children if state.stage == "known" else np.concatenate([x, children])
        return Question(points, notes=(F, CR, d.slots))

    def tell(self, state: DEState, space: Space, question: Question, told: Told, key: Key) -> DEState:
        P, children = len(state.standings), question.points
        if state.stage == "known" and state.plain and told.violations is None and not np.count_nonzero(told.status):
            standings = None
            new, old = told.values, state.standings[:, 1]
            # a tie is taken, so that a population can cross a plateau
            rows = (new <= old).nonzero()[0]
            gains = [a - b if a > b else 0.0 for a, b in zip(old[rows].tolist(), new[rows].tolist())]
        else:
            standings = told.standings()
            if state.stage != "known":  # the first rows are the population itself
                state.standings, standings, children = standings[:P].copy(), standings[P:], children[P:]
            rows = (~better(state.standings[: len(standings)], standings)).nonzero()[0]
            gains = [_gain(*a, *b) for a, b in zip(state.standings[rows].tolist(), standings[rows].tolist())]
        state.idle = 0 if any(gains) else state.idle + 1
        if state.idle == 0:
            self._learn(state, gains, [part[rows].tolist() for part in question.notes[:2]])
        if len(rows):
            if len(state.pool) > P:
                state.pool[P + question.notes[2][rows]] = state.pool.take(rows, axis=0)
            state.pool[rows] = children.take(rows, axis=0)
            if standings is None:
                state.standings[rows, 1] = told.values[rows]
            else:
                state.standings[rows] = standings[rows]
        if standings is not None:
            state.plain = bool(np.isfinite(state.standings).all() and not state.standings[:, 0].any())
        new, state.stage = state.stage == "new", "moved" if told.moved else "known"
        if new:
            state.idle = 0
            return state
        # 8: the look costs as much as a step, and a converged population loses little by waiting
        if state.idle >= self.patience or (
            (state.idle or key.turn % 8 == 0) and converged(space, state.points, state.standings)
        ):
            P = min(math.ceil(self.growth * P), max(200, P))
            return self._fresh(space, key, state.sequence, state.drawn, P, space.starts[:0])
        return state

    def _learn(self, state: DEState, gains: list[float], worked: list[list[float]]) -> None:
        """Writes what the rows that gained were made with into the next cell of the memory."""
        if not math.isfinite(sum(gains)):  # from a failure or an infinite value: each counts alike
            gains = [float(gain > 0) for gain in gains]
        state.memory[0, state.slot] = lehmer(gains, worked[0])
        state.memory[1, state.slot] = lehmer(gains, [min(max(x, 0.0), 1.0) for x in worked[1]])
        state.slot = (state.slot + 1) % self.memories


def _gain(violation: float, value: float, new_violation: float, new_value: float) -> float:
    """What a row gained: violation as long as that differs, then value; 0 for a tie, of failures too."""
    gain = violation - new_violation if violation != new_violation else value - new_value
    return gain if gain > 0 else 0.0
