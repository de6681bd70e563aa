"""L-BFGS: the curvature of the last few steps, for many columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from eitherway.base.errors import MethodError
from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Stop, Told
from eitherway.methods.variables._slopes import Doubt, doubt, missing, probe, sentence, weigh
from eitherway.methods.variables._wolfe import Line, advance, line

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

_EPS = float(np.finfo(float).eps)
_ATTEMPTS = 20  # starts in a row without a value, after which it stops
_FIRST = 0.1  # length of the first step, in search coordinates: nothing is known of the curvature yet


@state
class LBFGSState:
    """Where the present start is, what it remembers of its steps, and the question it is in.

    `phase` is what was asked: the "value" of a start, the "gradient" here, a "check" of it, a trial on the "line".
    """

    phase: str
    point: np.ndarray  # (D,)
    value: float
    began: float  # the value at this start
    gradient: np.ndarray  # (D,)
    direction: np.ndarray  # (D,)
    line: Line
    steps: np.ndarray  # (n, D) the last steps, oldest first
    changes: np.ndarray  # (n, D) of the gradient over them
    confirmed: bool
    doubt: Doubt | None
    start: int
    failures: int  # starts in a row without a value
    trouble: str


@dataclass(frozen=True)
class LBFGS(Method["LBFGSState"]):
    """Limited-memory BFGS (Liu & Nocedal 1989; Nocedal & Wright 2006, algorithm 7.5), one start after another.

    For smooth costs that autograd can see, up to millions of columns; below some hundreds SQP remembers more. Noisy
    costs are for Adam. The line search satisfies the strong Wolfe conditions along the path that bends at the bounds;
    columns that a bound holds take no part in the direction (Bertsekas 1982, two-metric projection).

    Args:
        memory: steps remembered.
        starts: how many starts before it stops; None never stops.
    """

    memory: Annotated[int, Range(least=1)] = 10
    starts: Annotated[int | None, Range(least=1)] = None

    heeds_constraints: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> LBFGSState:
        """The first start: the first given one, else a uniform point."""
        if len(space.discrete):
            raise MethodError(
                f"LBFGS got {len(space.discrete)} discrete columns of {space.columns}; it follows gradients, so all "
                "must be real. CMAES, DE and GA serve integers and choices"
            )
        return self._begin(space, key, 0, 0, False)

    def ask(self, state: LBFGSState, space: Space, key: Key) -> Question:
        """One point: its value, or its gradient too."""
        s = state
        if s.phase == "check":
            assert s.doubt is not None
            return Question(probe(s.doubt, space))
        if s.phase == "line":
            return Question(space.clip(s.point + s.line.trial * s.direction)[None], wants="gradient")
        return Question(s.point[None], wants=s.phase)  # type: ignore[arg-type]

    def tell(self, state: LBFGSState, space: Space, question: Question, told: Told, key: Key) -> LBFGSState:
        """Goes on from the answer; a start that has converged gives way to the next."""
        s, point = state, question.points[0]
        value = float(told.values[0]) if told.ok[0] and np.isfinite(told.values[0]) else np.nan
        gradient = np.full(space.columns, np.nan)
        if question.wants == "gradient":
            if told.no_gradient or told.gradients is None or (np.isnan(value) and not s.confirmed):
                s.trouble = missing("LBFGS", told.no_gradient)
                return s
            if np.isfinite(told.gradients[0]).all():
                gradient = told.gradients[0].copy()
        if s.phase == "value":
            if np.isnan(value):
                s = self._begin(space, key, s.start + 1, s.failures + 1, s.confirmed)
            else:
                s.phase, s.failures, s.began = "gradient", 0, value
        elif s.phase == "gradient":
            s = self._arrived(s, space, value, gradient, key)
        elif s.phase == "check":
            s = self._checked(s, space, point, value, key)
        else:
            s = self._tried(s, space, point, value, gradient, key)
        if told.moved and not s.trouble and s.phase != "value":  # the value here is another one now
            s.phase, s.doubt = "gradient", None
        return s

    def stopped(self, state: LBFGSState) -> Stop | None:
        """Where the starts are used up, gradients are missing or wrong, or nothing has a value."""
        if state.trouble:
            return Stop(state.trouble, error=True)
        if state.failures >= _ATTEMPTS:
            return Stop(f"LBFGS found no value at {_ATTEMPTS} starts in a row; give it a point that has one: start=")
        if self.starts is not None and state.start >= self.starts:
            return Stop(f"LBFGS has converged from {'its start' if self.starts == 1 else f'all {self.starts} starts'}")
        return None

    def _begin(self, space: Space, key: Key, start: int, failures: int, confirmed: bool) -> LBFGSState:
        D = space.columns
        given = start < len(space.starts)
        return LBFGSState(
            phase="value",
            point=space.starts[start].copy() if given else space.clip(space.sample(1, key.numpy("start")))[0],
            value=np.nan,
            began=np.nan,
            gradient=np.zeros(D),
            direction=np.zeros(D),
            line=line(0.0, -1.0, 1.0),
            steps=np.empty((0, D)),
            changes=np.empty((0, D)),
            confirmed=confirmed,
            doubt=None,
            start=start,
            failures=failures,
            trouble="",
        )

    def _arrived(self, s: LBFGSState, space: Space, value: float, gradient: np.ndarray, key: Key) -> LBFGSState:
        if np.isnan(value) or np.isnan(gradient).any():
            return self._begin(space, key, s.start + 1, s.failures, s.confirmed)
        s.value, s.gradient = value, gradient
        return self._aim(s, space, key) if s.confirmed else self._ask_check(s, space, key)

    def _ask_check(self, s: LBFGSState, space: Space, key: Key) -> LBFGSState:
        s.doubt, s.phase = doubt(s.point, s.value, s.gradient, space, key.numpy("check")), "check"
        return s

    def _checked(self, s: LBFGSState, space: Space, point: np.ndarray, value: float, key: Key) -> LBFGSState:
        assert s.doubt is not None
        trusted = weigh(s.doubt, point, value)
        if trusted is None:
            return s
        if not trusted:
            s.trouble = sentence(s.doubt)
            return s
        first, s.confirmed, s.doubt = not s.confirmed, True, None
        if first:
            return self._aim(s, space, key)
        return self._begin(space, key, s.start + 1, 0, True)  # it stalled, and autograd is right: this is the end

    def _aim(self, s: LBFGSState, space: Space, key: Key) -> LBFGSState:
        """The next direction; where nothing descends, the memory is dropped, and then the start is over."""
        held = ((s.point <= space.lower) & (s.gradient > 0)) | ((s.point >= space.upper) & (s.gradient < 0))
        g = np.where(held, 0.0, s.gradient)
        norm = float(np.linalg.norm(g))
        direction = np.where(held, 0.0, -two_loops(s.steps, s.changes, g))
        slope = float(g @ direction)
        if not slope < 0 and len(s.steps):
            s.steps, s.changes = s.steps[:0].copy(), s.changes[:0].copy()
            direction, slope = -g, -norm * norm
        rounding = _EPS * max(abs(s.value), _EPS * abs(s.began))  # a cost that ends at 0 is not followed for ever
        if not (np.isfinite(slope) and slope < -0.1 * rounding and norm > 0):
            return self._ask_check(s, space, key)
        first = 1.0 if len(s.steps) else _FIRST / norm
        s.phase, s.direction, s.line = "line", direction, line(s.value, slope, first)
        return s

    def _tried(
        self, s: LBFGSState, space: Space, point: np.ndarray, value: float, gradient: np.ndarray, key: Key
    ) -> LBFGSState:
        inside = (point > space.lower) & (point < space.upper)  # along a bound the path does not move
        verdict = advance(s.line, value, float(gradient @ np.where(inside, s.direction, 0.0)))
        if verdict == "on":
            return s
        if verdict == "found":
            self._remember(s, point - s.point, gradient - s.gradient)
            s.point, s.value, s.gradient = point.copy(), value, gradient
            return self._aim(s, space, key)
        if s.line.low > 0 and s.line.low_value < s.value:  # lower, if not by the rules: from there, without a past
            s.point, s.phase = space.clip(s.point + s.line.low * s.direction), "gradient"
        elif not len(s.steps):
            return self._ask_check(s, space, key)
        else:
            s.phase = "gradient"
        s.steps, s.changes = s.steps[:0].copy(), s.changes[:0].copy()
        return s

    def _remember(self, s: LBFGSState, step: np.ndarray, change: np.ndarray) -> None:
        if step @ change > 1e-10 * float(np.linalg.norm(step) * np.linalg.norm(change)):
            s.steps = np.concatenate([s.steps[-(self.memory - 1) :] if self.memory > 1 else s.steps[:0], step[None]])
            s.changes = np.concatenate(
                [s.changes[-(self.memory - 1) :] if self.memory > 1 else s.changes[:0], change[None]]
            )


def two_loops(steps: np.ndarray, changes: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The inverse Hessian that the remembered steps tell of, times a gradient.

    Args:
        steps, changes: (n, D) what was gone and how the gradient changed over it, oldest first.
        gradient: (D,).

    Source: Nocedal & Wright 2006, algorithm 7.4, with the scale of eq. 7.20.
    """
    q = gradient.copy()
    if not len(steps):
        return q
    rho = 1 / np.einsum("nd,nd->n", steps, changes)
    shares = np.zeros(len(steps))
    for i in range(len(steps) - 1, -1, -1):
        shares[i] = rho[i] * float(steps[i] @ q)
        q -= shares[i] * changes[i]
    q *= 1 / (rho[-1] * float(changes[-1] @ changes[-1]))
    for i in range(len(steps)):
        q += (shares[i] - rho[i] * float(changes[i] @ q)) * steps[i]
    return q
