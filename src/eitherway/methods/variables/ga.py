"""A genetic algorithm for mixed variables: parents compete, children blend and mutate, the better half stays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Told
from eitherway.methods.variables._population import converged, copies, fresh, order
from eitherway.methods.variables._quasi import Quasi, quasi
from eitherway.methods.variables._variation import Chances, blended, draws, mutated_cells, rounded

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

NONE = np.zeros(0, np.int64)


@state
class GAState:
    """A population, best first once it is known, and where new ones come from.

    `points` (P, D), `standings` (P, 2); `stage` is "new" when the next question is the population itself, "known" when
    it is children, "moved" when it is both, since the cost has moved.
    """

    points: np.ndarray
    standings: np.ndarray
    stage: str
    sequence: Quasi
    drawn: int


@dataclass(frozen=True)
class GA(Method["GAState"]):
    """A (mu + lambda) genetic algorithm, mu = lambda; tournaments of two; no two members are the same call.

    Reals: simulated binary crossover (Deb & Agrawal 1995) and polynomial mutation (Deb & Goyal 1996). Whole numbers:
    the same crossover of their coordinates, rounded to a cell up or down by chance, and steps of cells of geometric
    size (Rudolph 1994). Options: exchanged between parents, and changed to any other. How many columns of a child
    mutate is drawn from a heavy tail (Doerr et al. 2017). A population that
    has converged starts anew, `growth` times larger. Columns that do not take part are handed on.

    Args:
        population: rows, 4 or more; None: 8 + D / 2 (at most 50), measured best for 200 D evaluations of bbob.
        crossover: chance that a pair of parents is blended.
        crossover_eta, mutation_eta: the higher, the nearer children are to their parents.
        growth: the factor from one population to the next, 1 to 100, up to 200 rows; a larger one changes nothing.
    """

    population: Annotated[int | None, Range(least=4)] = None
    crossover: Annotated[float, Range(least=0, most=1)] = 0.9
    crossover_eta: Annotated[float, Range(least=0)] = 5.0
    mutation_eta: Annotated[float, Range(least=0)] = 20.0
    growth: Annotated[float, Range(least=1, most=100)] = 1.5

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> GAState:
        sequence = quasi(space.columns, key.numpy("sequence"))
        P = max(self.population or min(8 + space.columns // 2, 50), len(space.starts))
        return self._fresh(space, key, sequence, 0, P, space.starts)

    def _fresh(self, space: Space, key: Key, sequence: Quasi, drawn: int, P: int, first: np.ndarray) -> GAState:
        """A population of P rows that is not known yet; `first` (K, D) are its first rows."""
        points = fresh(space, first, P, sequence, drawn, key.numpy("population"))
        points[len(first) :] = space.snap(points[len(first) :])
        return GAState(
            points=points,
            standings=np.full((P, 2), np.inf),
            stage="new",
            sequence=sequence,
            drawn=drawn + P - len(first),
        )

    def ask(self, state: GAState, space: Space, key: Key) -> Question:
        x = state.points
        if state.stage == "new":
            return Question(x)
        P, D = x.shape
        options = np.flatnonzero(space.kinds == "choice") if len(space.discrete) else NONE
        d = draws(key, P, D, options, Chances(self.crossover, self.crossover_eta, self.mutation_eta))
        children = blended(x.take(d.first, axis=0), x.take(d.second, axis=0), d.spread)
        steps = d.steps
        if len(space.discrete):
            children = self._cells(space, x, children, d.change, key.numpy("cells"))
            steps = np.where(space.levels == 0, steps, 0.0)
        if not space.bounded:
            # sqrt(12): an open column's draws have deviation 1; so has a box of that width
            steps = steps * np.where(np.isfinite(space.upper - space.lower), 1.0, math.sqrt(12))
        children += steps
        children = children[:P]
        clipped = space.clip(children)
        if clipped.tobytes() != children.tobytes():  # what leads out is mirrored, or else stays at the bound
            clipped = space.clip(np.where(clipped != children, 2 * clipped - children, children))
        return Question(clipped if state.stage == "known" else np.concatenate([clipped, x]))

    def _cells(
        self, space: Space, x: np.ndarray, children: np.ndarray, change: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """Rounds the discrete columns of the children and mutates them, above all where the child would be a copy."""
        children = rounded(space, children, generator)
        known = copies(space, np.concatenate([x, children]))[len(x) :]
        if (space.levels == 0).any():
            known &= ~(change & (space.levels == 0)).any(1)
        return mutated_cells(space, children, change, known, generator)

    def tell(self, state: GAState, space: Space, question: Question, told: Told, key: Key) -> GAState:
        standings, points = told.standings(), question.points
        P, new = len(state.points), state.stage == "new"
        if state.stage == "known":
            # children first: of equals the newer one stays, so that a population can cross a plateau
            points = np.concatenate([points, state.points])
            standings = np.concatenate([standings, state.standings])
        if len(space.discrete):
            standings[copies(space, points)] = np.inf
        best = order(standings)[:P]
        state.points, state.standings = points[best], standings[best]
        state.stage = "moved" if told.moved else "known"
        # 8: the look costs as much as a turn; a level turn may mean a level cost
        look = not new and (key.turn % 8 == 0 or (standings[0] == standings[-1]).all())
        if look and converged(space, state.points, state.standings):
            P = min(math.ceil(self.growth * P), max(200, P))
            return self._fresh(space, key, state.sequence, state.drawn, P, space.starts[:0])
        return state
