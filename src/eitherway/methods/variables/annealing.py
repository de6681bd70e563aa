"""Simulated annealing: one point that may also go uphill, the less so the colder it gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Told, better

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

FIRST = 8  # random points from whose values the first temperature is taken
FROZEN = 3  # temperatures in a row without enough acceptances (Kirkpatrick et al. 1983)
COLDEST = 1e-10  # of the first temperature: reals never freeze, since their steps shrink with it
ADAPT = 1.5  # a step longer for each acceptance, shorter for each refusal: in balance at one in two
FARTHEST = 1e3  # spreads; the longest step of an open column


@state
class AnnealingState:
    """Where it stands (D,), how well (1, 2), how hot it is, and the longest step of each column (D,).

    `begin` (P, D) are the points it begins from, none once it has begun; `stale` says that the cost has moved.
    """

    begin: np.ndarray
    point: np.ndarray
    standing: np.ndarray
    steps: np.ndarray
    first: float
    temperature: float
    attempts: int
    accepted: int
    frozen: int
    stale: bool


@dataclass(frozen=True)
class Annealing(Method["AnnealingState"]):
    """Simulated annealing (Kirkpatrick, Gelatt & Vecchi, Science 220, 1983, 671-680) of mixed variables.

    A move changes one column that takes part: a real by up to its step, an integer by at least one cell, a choice to
    any other option. It is accepted by the rule of Metropolis et al. (1953). The temperature falls as in the paper,
    T_n = 0.9^n T_0, each time that enough moves were accepted or tried; frozen at three temperatures in a row, where
    the paper stops, it begins anew. T_0 is the deviation of the values of random points (White 1984). Steps go for one
    acceptance in two, as in Corana et al. (ACM TOMS 13, 1987), but after each move. No move violates constraints more.

    Args:
        cooling: the factor from one temperature to the next.
        accepted: acceptances a column at one temperature. The paper has 10; a tenth of it suits 200 D evaluations.
        attempts: moves a column at one temperature, at most. The paper has 100.
    """

    cooling: Annotated[float, Range(above=0, below=1)] = 0.9
    accepted: Annotated[float, Range(above=0)] = 1.0
    attempts: Annotated[float, Range(above=0)] = 10.0

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> AnnealingState:
        begin = space.clip(np.concatenate([space.starts, space.sample(FIRST, key.numpy("first points"))]))
        return self._anew(space, begin)

    def _anew(self, space: Space, begin: np.ndarray) -> AnnealingState:
        standing = np.full((1, 2), np.inf)
        return AnnealingState(begin, begin[0].copy(), standing, _longest(space) / 2, 0.0, 0.0, 0, 0, 0, False)

    def ask(self, state: AnnealingState, space: Space, key: Key) -> Question:
        if len(state.begin):
            return Question(state.begin.copy())
        generator = key.numpy("move")
        child = state.point.copy()
        free = np.flatnonzero(space.active(child[None])[0] & (space.levels != 1))
        if len(free):
            column = int(free[generator.integers(len(free))])
            child[column] = _moved(space, state.point, column, state.steps[column], generator)
        return Question(np.stack([state.point, child]) if state.stale else child[None])

    def tell(self, state: AnnealingState, space: Space, question: Question, told: Told, key: Key) -> AnnealingState:
        standings = told.standings()
        if len(state.begin):
            state = self._begun(state, space, question.points, standings, key)
        else:
            if state.stale:
                state.standing = standings[:1]
            won = self._accepts(state, standings[-1:], key)
            column = np.flatnonzero(question.points[-1] != state.point)
            state.steps[column] *= ADAPT if won else 1 / ADAPT
            state.steps = np.clip(state.steps, 1e-12, _longest(space))
            state.attempts += 1
            if won:
                state.accepted += 1
                state.point, state.standing = question.points[-1].copy(), standings[-1:]
            state = self._cooled(state, space, key)
        state.stale = told.moved
        return state

    def _begun(
        self, state: AnnealingState, space: Space, points: np.ndarray, standings: np.ndarray, key: Key
    ) -> AnnealingState:
        """At the best of the first points, as hot as their values differ; at other points where they do not."""
        values = standings[np.isfinite(standings[:, 1]), 1]
        with np.errstate(over="ignore", invalid="ignore"):
            # White, Concepts of scale in simulated annealing, ICCD 1984: T_0 is the deviation at random points
            deviation = float(values.std()) if len(values) else 0.0
        if not 0 < deviation < math.inf:
            return self._anew(space, space.sample(FIRST, key.numpy("other points")))
        best = np.lexsort((standings[:, 1], standings[:, 0]))[0]
        state.begin = state.begin[:0]
        state.point, state.standing = points[best].copy(), standings[best : best + 1]
        state.first = state.temperature = deviation
        return state

    def _accepts(self, state: AnnealingState, standing: np.ndarray, key: Key) -> bool:
        """Metropolis et al., J. Chem. Phys. 21 (1953) 1087: always downhill, uphill with chance exp(-rise / T)."""
        if better(standing, state.standing)[0]:
            return True
        if not np.isfinite(standing).all() or standing[0, 0] > state.standing[0, 0]:
            return False
        rise = float(standing[0, 1]) - float(state.standing[0, 1])
        return key.numpy("acceptance").random() < math.exp(-rise / state.temperature)

    def _cooled(self, state: AnnealingState, space: Space, key: Key) -> AnnealingState:
        """The next temperature once it is due, and another beginning once nothing moves any more."""
        enough = state.accepted >= self.accepted * space.columns
        if not (enough or state.attempts >= self.attempts * space.columns):
            return state
        state.frozen = 0 if enough else state.frozen + 1
        state.attempts = state.accepted = 0
        state.temperature *= self.cooling
        if state.frozen >= FROZEN or state.temperature < COLDEST * state.first:
            return self._anew(space, space.sample(FIRST, key.numpy("another beginning")))
        return state


def _longest(space: Space) -> np.ndarray:
    """(D,) the longest step of each column: its width, or many spreads where it is open."""
    return np.minimum(space.upper - space.lower, FARTHEST)


def _moved(space: Space, point: np.ndarray, column: int, step: float, generator: np.random.Generator) -> float:
    """Another coordinate for one column of a point (D,); what leads out of the bounds is mirrored."""
    x, levels, row = float(point[column]), int(space.levels[column]), point.copy()
    if space.kinds[column] == "choice":
        away = 1 + int(generator.integers(levels - 1))  # so many options further round the circle
        row[column] = ((int(space.cells(point[None])[0, column]) + away) % levels + 0.5) / levels
        return float(space.snap(row[None])[0, column])
    by = step * (2 * generator.random() - 1)
    low, high = (float(edge[0, column]) for edge in space.brackets(point[None]))
    lower, upper = float(space.lower[column]), float(space.upper[column])
    if levels:  # at least into the next cell, and away from the end
        up = low <= lower or (by > 0 and high < upper)
        edge = high if up else low
        past = 1e-12 if up else -1e-12
        row[column] = max(edge + past, x + abs(by)) if up else min(edge + past, x - abs(by))
        return float(space.snap(np.clip(row, space.lower, space.upper)[None])[0, column])
    moved = x + by
    moved = 2 * lower - moved if moved < lower else 2 * upper - moved if moved > upper else moved
    return min(max(moved, lower), upper)
