"""Particle swarm optimisation: particles fly, and remember the best place they and those they hear of have seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eitherway.base.errors import MethodError
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Told, better
from eitherway.methods.variables._discrete import apart
from eitherway.methods.variables._population import converged, fresh, order
from eitherway.methods.variables._quasi import Quasi, quasi

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space


@state
class PSOState:
    """A swarm, the best places it remembers, and who hears of whom.

    `positions`, `velocities`, `bests` (P, D); `standings` (P, 2) of the bests, infinite before the first turn;
    `known` is False when the next question is the bests, whose values have gone; `hears` (P, P), whether the column's
    particle hears of the row's; `stale` when it is to be drawn anew; `sequence`, `drawn` where new swarms come from.
    """

    positions: np.ndarray
    velocities: np.ndarray
    bests: np.ndarray
    standings: np.ndarray
    known: bool
    hears: np.ndarray
    stale: bool
    sequence: Quasi
    drawn: int


@dataclass(frozen=True)
class PSO(Method["PSOState"]):
    """SPSO-2011 (Clerc 2012; Zambrano-Bigiarini et al., CEC 2013): it does not notice how the axes are turned.

    Departures: the swarm is small and begins at half the speed (as in SPSO-2007), since 40 particles have made only
    5 D turns when 200 D evaluations are spent; a swarm that has converged starts anew, `growth` times larger. Integers
    fly as reals and are judged by their cell; a particle that stays within its cells steps to another one. Options of a
    Choice cannot fly: each is taken from one's position, one's best or the best heard of, with the weights these
    have in the centre of gravity, and once in D columns at random. Columns that do not take part fly along.

    Args:
        swarm: particles, 2 or more; None: 4 + sqrt(D), measured best for 200 D evaluations of bbob (Clerc: 40).
        informed: how many others each particle tells of its best, K.
        inertia: w, Clerc's 1 / (2 ln 2).
        pull: c, Clerc's 1/2 + ln 2.
        growth: the factor from one swarm to the next, up to 100 particles.
    """

    swarm: int | None = None
    informed: int = 3
    inertia: float = 1 / (2 * math.log(2))
    pull: float = 0.5 + math.log(2)
    growth: float = 1.5

    def __post_init__(self) -> None:
        if self.swarm is not None and not (isinstance(self.swarm, int) and self.swarm >= 2):
            raise MethodError(f"PSO got swarm={self.swarm!r}; expected 2 or more particles, or None")
        for name, low in (("informed", 0), ("inertia", 0), ("pull", 0), ("growth", 1)):
            if not getattr(self, name) >= low:
                raise MethodError(f"PSO got {name}={getattr(self, name)!r}; expected {low} or more")

    def init(self, space: Space, key: Key) -> PSOState:
        sequence = quasi(space.columns, key.numpy("sequence"))
        P = max(self.swarm or 4 + round(math.sqrt(space.columns)), len(space.starts))
        return self._fresh(space, key, sequence, 0, P, space.starts)

    def _fresh(self, space: Space, key: Key, sequence: Quasi, drawn: int, P: int, first: np.ndarray) -> PSOState:
        """A swarm of P particles that knows nothing; `first` (K, D) are its first positions."""
        generator = key.numpy("swarm")
        positions = fresh(space, first, P, sequence, drawn, generator)
        velocities = (space.sample(P, generator) - positions) / 2
        velocities[:, space.kinds == "choice"] = 0.0
        return PSOState(
            positions=positions,
            velocities=velocities,
            bests=positions.copy(),
            standings=np.full((P, 2), np.inf),
            known=True,
            hears=np.zeros((P, P), bool),
            stale=True,
            sequence=sequence,
            drawn=drawn + P - len(first),
        )

    def ask(self, state: PSOState, space: Space, key: Key) -> Question:
        return Question(state.positions if state.known else state.bests)

    def tell(self, state: PSOState, space: Space, question: Question, told: Told, key: Key) -> PSOState:
        standings = told.standings()
        if not state.known:
            state.standings, state.known = standings, not told.moved
            return state
        leader = state.standings[order(state.standings)[0]].copy()
        gained = better(standings, state.standings)
        state.standings[gained] = standings[gained]
        state.bests[gained] = question.points[gained]
        state.stale |= not better(standings, leader).any()
        state.known = not told.moved
        if state.hears.any() and converged(space, state.bests, state.standings):
            P = min(math.ceil(self.growth * len(state.bests)), max(100, len(state.bests)))
            return self._fresh(space, key, state.sequence, state.drawn, P, space.starts[:0])
        return self._fly(state, space, key.numpy("flight"))

    def _fly(self, state: PSOState, space: Space, generator: np.random.Generator) -> PSOState:
        """Moves every particle; writes in the state."""
        P, D = state.positions.shape
        if state.stale:
            state.hears = heard(P, self.informed, generator)
            state.stale = False
        x, best = state.positions, state.bests
        ranks = np.empty(P, np.int64)
        ranks[order(state.standings)] = np.arange(P)
        who = np.where(state.hears, ranks[:, None], P).argmin(0)
        alone = who == np.arange(P)
        to_best, to_heard = best - x, best[who] - x
        options = np.flatnonzero(space.kinds == "choice")
        if len(options):
            chosen = self._chosen(x, best, best[who], alone, options, D, generator)
            to_best[:, options] = to_heard[:, options] = 0.0
        # centres of gravity: of x and two points beyond the bests, or of x and one where the two are the same
        c = self.pull
        pull = np.where(alone[:, None], c / 2 * to_best, c / 3 * (to_best + to_heard))
        flight = in_ball(pull, generator, options)
        velocity = self.inertia * state.velocities + flight
        moved = x + velocity
        inside = space.clip(moved)
        velocity[moved != inside] *= -0.5
        if len(options):
            inside[:, options] = chosen
        if len(space.discrete):
            inside = space.clip(apart(space, inside, x, generator))
        state.positions, state.velocities = inside, velocity
        return state

    def _chosen(
        self,
        x: np.ndarray,
        best: np.ndarray,
        heard: np.ndarray,
        alone: np.ndarray,
        options: np.ndarray,
        D: int,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """(P, options) coordinates of the choice columns, each taken whole from one of the three."""
        u = generator.random((3, len(x), len(options)))
        share = np.where(alone, self.pull / 2, self.pull / 3)[:, None]  # alone: `heard` is one's own best
        taken = np.where(u[0] < share, best[:, options], x[:, options])
        taken = np.where(~alone[:, None] & (u[0] > 1 - share), heard[:, options], taken)
        return np.where(u[1] < 1 / D, u[2], taken)


def heard(P: int, informed: int, generator: np.random.Generator) -> np.ndarray:
    """(P, P) whether the column's particle hears of the row's: each tells itself and K drawn ones, some drawn twice."""
    hears = np.eye(P, dtype=bool)
    hears[np.repeat(np.arange(P), informed), generator.integers(P, size=P * informed)] = True
    return hears


def in_ball(pull: np.ndarray, generator: np.random.Generator, still: np.ndarray) -> np.ndarray:
    """(P, D) steps to points in the balls about `pull` (P, D) with radius ||pull||: so to the ball through oneself.

    Directions are even, distances from the centre uniform (the points thus denser near it); `still` columns rest.
    Source: Clerc 2012, section 3.2.
    """
    z = generator.standard_normal(pull.shape)
    if len(still):
        z[:, still] = 0.0
    radius = np.sqrt((pull * pull).sum(1)) * generator.random(len(pull))
    length = np.sqrt((z * z).sum(1))
    return pull + (radius / np.maximum(length, 1e-300))[:, None] * z
