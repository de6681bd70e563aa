"""Particle swarm optimisation: particles fly, and remember the best place they and those they hear of have seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

import numpy as np

from eitherway.base.keys import Key
from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Told, better
from eitherway.methods.variables._discrete import apart
from eitherway.methods.variables._population import converged, fresh, order
from eitherway.methods.variables._quasi import Quasi, quasi

if TYPE_CHECKING:
    from eitherway.space.space import Space

NONE = np.zeros(0, np.int64)


@state
class PSOState:
    """A swarm, the best places it remembers, and who hears of whom.

    `positions`, `velocities`, `bests` (P, D); `standings` (P, 2) of the bests, infinite before the first turn; `plain`
    whether every best has a finite value and no violation; `known` is False when the next question is the bests, too,
    since the cost has moved; `hears` (P, P), whether the column's particle hears of the row's, all False
    before the first flight; `sequence`, `drawn` where new swarms come from.
    """

    positions: np.ndarray
    velocities: np.ndarray
    bests: np.ndarray
    standings: np.ndarray
    plain: bool
    known: bool
    hears: np.ndarray
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
        swarm: particles, 2 or more; None: 4 + D / 2, measured best at 200 D evaluations of bbob; at most Clerc's 40.
        informed: how many others each particle tells of its best, K.
        inertia: w, Clerc's 1 / (2 ln 2).
        pull: c, Clerc's 1/2 + ln 2.
        growth: the factor from one swarm to the next, 1 to 100, up to 100 particles; a larger one changes nothing.
    """

    swarm: Annotated[int | None, Range(least=2)] = None
    informed: Annotated[int, Range(least=0)] = 3
    inertia: Annotated[float, Range(least=0)] = 1 / (2 * math.log(2))
    pull: Annotated[float, Range(least=0)] = 0.5 + math.log(2)
    growth: Annotated[float, Range(least=1, most=100)] = 1.5

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> PSOState:
        sequence = quasi(space.columns, key.numpy("sequence"))
        P = max(self.swarm or min(4 + space.columns // 2, 40), len(space.starts))
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
            plain=False,
            known=True,
            hears=np.zeros((P, P), bool),
            sequence=sequence,
            drawn=drawn + P - len(first),
        )

    def ask(self, state: PSOState, space: Space, key: Key) -> Question:
        return Question(state.positions if state.known else np.concatenate([state.bests, state.positions]))

    def tell(self, state: PSOState, space: Space, question: Question, told: Told, key: Key) -> PSOState:
        first = not state.hears[0, 0]  # everyone hears of himself, once they fly
        if state.known and state.plain and told.violations is None and not np.count_nonzero(told.status):
            known = state.standings[:, 1]
            rows = (told.values < known).nonzero()[0]
            improved = bool(len(rows)) and min(told.values.tolist()) < min(known.tolist())
            known[rows] = told.values[rows]
        else:
            standings, P = told.standings(), len(state.standings)
            if not state.known:  # the first rows are the bests
                state.standings, standings = standings[:P].copy(), standings[P:]
            rows = better(standings, state.standings).nonzero()[0]
            improved = better(standings, state.standings[order(state.standings)[0]]).any()
            state.standings[rows] = standings[rows]
            state.plain = bool(np.isfinite(state.standings[:, 1]).all() and not state.standings[:, 0].any())
        if len(rows):
            state.bests[rows] = state.positions.take(rows, axis=0)
        state.known = not told.moved
        # 8: the look costs as much as a flight; a level turn may mean a level cost, from which to go elsewhere at once
        look = key.turn % 8 == 0 or len(set(told.values.tolist())) == 1 or not state.plain
        if look and not first and converged(space, state.bests, state.standings):
            P = len(state.standings)
            P = min(math.ceil(self.growth * P), max(100, P))
            return self._fresh(space, key, state.sequence, state.drawn, P, space.starts[:0])
        self._fly(state, space, key, not improved or first)
        return state

    def _fly(self, state: PSOState, space: Space, key: Key, redraw: bool) -> None:
        """Moves every particle; writes in the state."""
        x, best = state.positions, state.bests
        P, D = x.shape
        options = np.flatnonzero(space.kinds == "choice") if len(space.discrete) else NONE
        hears, offset = draws(key, P, D, self.informed, options)
        if redraw:
            state.hears[:] = hears
        if state.plain:
            ranks = state.standings[:, 1, None]
        else:
            ranks = np.empty((P, 1))
            ranks[order(state.standings), 0] = np.arange(P)
        who = np.where(state.hears, ranks, np.inf).argmin(0)
        alone = who == np.arange(P)
        heard = best.take(who, axis=0)
        # to the centre of gravity of x and two points beyond the bests, or of x and one, where both are the same
        pull = best + heard
        pull -= x
        pull -= x
        pull *= np.where(alone, self.pull / 4, self.pull / 3)[:, None]
        if len(options):
            pull[:, options] = 0.0
        velocity = state.velocities
        velocity *= self.inertia
        velocity += in_ball(pull, offset)
        moved = x + velocity
        inside = space.clip(moved)
        if inside.tobytes() != moved.tobytes():  # a quarter of the time that a comparison takes
            velocity[inside != moved] *= -0.5
        if len(space.discrete):
            generator = key.numpy("cells")
            if len(options):
                inside[:, options] = self._chosen(x, best, heard, alone, options, generator)
            inside = space.clip(apart(space, inside, x, generator))
        state.positions = inside

    def _chosen(
        self,
        x: np.ndarray,
        best: np.ndarray,
        heard: np.ndarray,
        alone: np.ndarray,
        options: np.ndarray,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """(P, options) coordinates of the choice columns, each taken whole from one of the three."""
        u = generator.random((3, len(x), len(options)))
        share = np.where(alone, self.pull / 2, self.pull / 3)[:, None]
        taken = np.where(u[0] < share, best[:, options], x[:, options])
        taken = np.where(~alone[:, None] & (u[0] > 1 - share), heard[:, options], taken)
        return np.where(u[1] < 1 / x.shape[1], u[2], taken)


def draws(key: Key, P: int, D: int, informed: int, still: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What chance decides this turn: who hears of whom (P, P), and offsets (P, D) in the unit ball, `still` columns 0.

    Turns are drawn together: a small swarm's draws cost more than its flight.
    """
    together = max(1, min(64, 8192 // (P * (D + P))))
    turn = key.turn % together
    return _block(key.seed, key.turn - turn, key.path, together, P, D, informed, tuple(still.tolist()))[turn]


@lru_cache(maxsize=8)
def _block(
    seed: int, turn: int, path: tuple[str, ...], T: int, P: int, D: int, informed: int, still: tuple[int, ...]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """T turns of draws, a pure function of its arguments."""
    generator = Key(seed, turn, path).numpy(
        f"flight of {P}"
    )  # the size is named: a swarm begun anew within the block draws afresh
    return list(zip(topologies(T, P, informed, generator), unit_ball((T, P, D), still, generator)))


def topologies(T: int, P: int, informed: int, generator: np.random.Generator) -> np.ndarray:
    """(T, P, P) whether the column's particle hears of the row's: each tells itself and K drawn ones, some twice."""
    hears = np.zeros((T, P, P), bool)
    hears[:, np.arange(P), np.arange(P)] = True
    np.put_along_axis(hears, generator.integers(P, size=(T, P, informed)), True, axis=2)
    return hears


def unit_ball(shape: tuple[int, ...], still: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """(..., D) points of the unit ball: directions even, distances from the centre uniform; `still` columns are 0."""
    z = generator.standard_normal(shape)
    z[..., still] = 0.0
    length = np.maximum(np.sqrt((z * z).sum(-1)), 1e-300)
    z *= (generator.random(shape[:-1]) / length)[..., None]
    return z


def in_ball(pull: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(P, D) steps into the balls about `pull` (P, D) that pass through the particle, at `offset` in the unit ball.

    Source: Clerc 2012, section 3.2.
    """
    radius = np.sqrt(np.einsum("ij,ij->i", pull, pull))
    return pull + radius[:, None] * offset
