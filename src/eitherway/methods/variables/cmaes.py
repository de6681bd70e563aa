"""CMA-ES: a cloud of points that learns where to go, how far, and along which directions."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Stop, Told
from eitherway.methods.variables._gaussian import Gaussian, cloud, gaussian, learn, rates, shares
from eitherway.methods.variables._mixed import Mixed, draw_points, layout, learn_mixed, mixed
from eitherway.methods.variables._restarts import REASONS, Run, first_run, next_run

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

_PATIENCE = 20  # turns in a row that may fail altogether; 3 in a run that never had a value: it began in a bad place


@state
class CMAESState:
    """The cloud, the run it is in, and why the search is over: a name of REASONS, or nothing."""

    normal: Gaussian
    discrete: Mixed | None  # None where all columns are real
    run: Run
    over: str
    settled: np.ndarray | None  # (D,) where the best of the finished runs ended: the one with the lowest median
    settled_median: float


@dataclass(frozen=True)
class CMAES(Method["CMAESState"]):
    """Active CMA-ES (Hansen 2016, arXiv:1604.00772) with BIPOP restarts (Hansen 2009).

    The default where gradients are unknown: it needs ranks only, so it does not mind any increasing transformation of
    the cost, nor a rotation or a bad scaling of the space; up to some hundreds of columns. Whole numbers have a margin
    and choices are drawn by category (CatCMA with Margin, arXiv:2504.07884). Points are drawn in opposite pairs at
    right angles (Wang et al. 2019): on COCO's bbob and bbob-mixint the anytime score at 200 D is a tenth higher.

    Args:
        population: points a turn in the first run; 4 + 3 ln D by default. More for a noisy or rugged cost.
        sigma: initial standard deviation of bounded columns, as a share of their width. Open columns begin with
            their own `spread`.
        restarts: when a run is over, "bipop" draws up a next one, large and small populations in turn by what they
            have cost; "doubling" doubles the population each time; "never" stops.

    Points beyond the bounds are moved onto them, and the cloud learns from where they were judged. The first start is
    the centre of the first cloud; all starts are asked in the first turn.
    """

    population: Annotated[int | None, Range(least=4)] = None
    sigma: Annotated[float, Range(above=0)] = 0.2
    restarts: Literal["bipop", "doubling", "never"] = "bipop"

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> CMAESState:
        """The first cloud: about the first start, else a point of the middle 80 % of the box, and 0 in open columns."""
        closed, anywhere = self._somewhere(space, key.numpy("mean"))
        start = space.starts[0] if len(space.starts) else space.clip(np.where(closed, anywhere, 0.0))
        return CMAESState(*self._cloud(space, closed, start, 1.0), first_run(self._default(space)), "", None, np.inf)

    def ask(self, state: CMAESState, space: Space, key: Key) -> Question:
        """A population drawn from the cloud; in the very first turn the starts, and fewer drawn."""
        g, starts = state.normal, self._starts(state, space)
        P = max(state.run.population - len(starts), 0)
        if state.discrete is None:
            points = space.clip(g.mean + g.sigma * g.steps(cloud(key, P, space.columns)))
            return Question(np.concatenate([starts, points]) if len(starts) else points)
        points, whole = draw_points(state.discrete, g, space, P, key)
        if len(starts):
            plan = layout(space)
            points = np.concatenate([starts, points])
            whole = np.concatenate([starts[:, plan.normal[plan.whole]], whole])
        return Question(points, notes=whole)

    def tell(self, state: CMAESState, space: Space, question: Question, told: Told, key: Key) -> CMAESState:
        """Moves, scales and turns the cloud; where its run is over, begins the next one."""
        run, g = state.run, state.normal
        starts = len(self._starts(state, space))
        run.taken += len(question.points)
        run.failures = 0 if told.ok.any() else run.failures + 1
        if run.failures:
            ended = self._all_failed(state)
        else:
            self._learn(state, space, question, told, starts)
            values = run.remember(told)
            # the margin keeps mutating what has converged: there, the better half has to be flat
            ended = run.over(g, values if state.discrete is None else values[: (len(values) + 1) // 2])
        if told.moved:
            run.forget()
            state.settled, state.settled_median = None, np.inf
        if ended is None:
            return state
        if self.restarts == "never":
            state.over = ended
            return state
        if run.median < state.settled_median:
            state.settled, state.settled_median = self._centre(state), run.median
        rng = key.numpy("restart")
        state.run, factor = next_run(run, ended, self._default(space), self.restarts == "bipop", rng.random(2))
        state.normal, state.discrete = self._cloud(space, *self._somewhere(space, rng), factor)
        return state

    def recommend(self, state: CMAESState) -> np.ndarray | None:
        """The centre of the best cloud so far: better than the best point seen where the cost is noisy."""
        if state.settled is None:
            return self._centre(state) if state.run.taken else None
        return self._centre(state) if state.run.median < state.settled_median else state.settled.copy()

    def _centre(self, state: CMAESState) -> np.ndarray:
        return (state.normal.mean if state.discrete is None else state.discrete.centre).copy()

    def stopped(self, state: CMAESState) -> Stop | None:
        """Only where restarts are off."""
        if not state.over:
            return None
        return Stop(f"CMAES has converged ({state.over}): {REASONS[state.over]}; restarts='bipop' would go on")

    def _default(self, space: Space) -> int:
        return self.population or 4 + int(3 * log(layout(space).drawn))

    def _starts(self, state: CMAESState, space: Space) -> np.ndarray:
        """(K, D) the starts, as long as they have not been asked."""
        fresh = state.run.kind == "first" and state.run.taken == 0
        return space.starts if fresh else space.starts[:0]

    def _somewhere(self, space: Space, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(D,) whether a column has both bounds; (D,) a centre, in the middle 80 % of those."""
        closed = np.isfinite(space.lower) & np.isfinite(space.upper)
        point = space.sample(1, rng)[0]
        return closed, np.where(closed, 0.1 + 0.8 * point, point)

    def _cloud(
        self, space: Space, closed: np.ndarray, mean: np.ndarray, factor: float
    ) -> tuple[Gaussian, Mixed | None]:
        normal = layout(space).normal
        spreads = np.where(closed, 1.0, 1 / self.sigma)
        normal_part = gaussian(mean[normal], self.sigma * factor, spreads[normal])
        return normal_part, mixed(space, mean) if len(space.discrete) else None

    def _learn(self, state: CMAESState, space: Space, question: Question, told: Told, starts: int) -> None:
        g, points = state.normal, question.points
        r, sigma = rates(len(points), max(1, len(g.mean))), g.sigma
        if state.discrete is not None:
            learn_mixed(state.discrete, g, space, points, question.notes, starts, shares(told, r), r)
            return
        y = (points - g.mean) / sigma
        if starts:
            y[:starts] = g.shortened(y[:starts])
        g.mean += sigma * learn(g, y, *shares(told, r), r)

    def _all_failed(self, state: CMAESState) -> str | None:
        run = state.run
        seen = run.taken > run.failures * run.population  # a turn of this run had a value
        if run.failures >= (_PATIENCE if seen else 3):
            return "failures"
        if seen:  # the cloud has left the ground where values are: draw it in
            state.normal.sigma *= 0.7
        return None
