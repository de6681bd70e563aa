"""SQP: a quadratic model of a smooth cost, its minimum in the box, one start after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from eitherway.base.errors import MethodError
from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Stop, Told
from eitherway.methods.variables._quadratic import damped_bfgs, newton_step
from eitherway.methods.variables._slopes import Doubt, doubt, missing, probe, sentence, weigh
from eitherway.methods.variables._stencil import bends, one_sided, slopes, two_sided

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

_EPS = float(np.finfo(float).eps)
_WIDE = 0.3  # half width of the first stencil: a look at the whole box tells more of it than a tangent
_REACH = 3.0  # steps on a flat model: BFGS mends too flat a model within a step, too steep a one slowly
_PAIRS = 100  # steps that are remembered for it: learning more of them again would cost more than they tell
_ARMIJO = 1e-4  # Nocedal & Wright 2006, section 3.1
_HOPE = 10.0  # a start that would have to fall this many times what its model promises to be the best is given up
_TINY = 1e-6  # a shorter share of a step ends a line search
_STRETCH = 2.0  # a step is tried longer where a parabola puts its minimum this far out
_ATTEMPTS = 20  # starts in a row without a value, after which it stops


@state
class SQPState:
    """Where the present start is, its model, and the question it is in.

    `phase` is what was asked: "start" the value here, "wide" the first stencil, "slope" one-sided and "fine" two-sided
    differences, "gradient" autograd's, "check" a difference beside it, "line" a trial step, "stretch" a longer one.
    """

    phase: str
    point: np.ndarray
    value: float
    began: float  # the value at this start
    earlier: float  # the best value of the starts before
    slope: np.ndarray
    hessian: np.ndarray
    step: np.ndarray  # the direction while on the line, then what was gone
    share: float  # of the step, being tried
    reach: float  # no step is longer
    trial: np.ndarray  # the best point on the line so far, before a longer step is tried
    trial_value: float
    went: float  # its share
    neighbour: np.ndarray  # the best of the first stencil where it is better than its centre; empty where not
    neighbour_value: float
    flat: float  # the curvature that the model began with; 0 where it began with parabolas
    pairs: np.ndarray  # (n, 2, D) steps, and how the slope changed over them, since it was flat
    old: np.ndarray  # the slope before the step; empty where the model has nothing to learn from it
    steps: int  # accepted since this start
    trials: int  # points tried on its lines
    fine: bool  # whether the slope here is two-sided already
    autograd: bool
    checked: bool
    doubt: Doubt | None
    start: int
    failures: int  # starts in a row without a value
    trouble: str


@dataclass(frozen=True)
class SQP(Method["SQPState"]):
    """Sequential quadratic programming for bounds: damped BFGS with an active set (Powell 1978; Nocedal & Wright 18.3).

    The first choice for a smooth cost, with autograd or without: it converges within tens of D evaluations. A start
    that has converged, or promises not to become the best, is followed by another, drawn uniformly, until the budget
    is spent. A rugged or noisy cost, or discrete columns, are for CMAES and DE; thousands of columns for LBFGS.

    Args:
        gradients: "autograd"; "differences" of values, D + 1 evaluations a step; "auto" asks for autograd's, goes by
            them as long as they agree with differences, and needs one evaluation to learn that there are none.
        starts: how many starts before it stops; None never stops.

    On differences a start begins with a stencil of a third of the box: its parabolas are the first model (exact on a
    separable quadratic, and blind to small ripples), and its best point the next one if it beats the first step.
    Where the next slope contradicts them the model is flat again. Steps of differences follow the curvature, the
    value's rounding and, once a line search finds nothing, two-sided stencils (Gill, Murray & Wright 1981, 8.6).
    """

    gradients: Literal["auto", "autograd", "differences"] = "auto"
    starts: Annotated[int | None, Range(least=1)] = None

    heeds_constraints: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> SQPState:
        """The first start: the first given one, else a uniform point."""
        if len(space.discrete):
            raise MethodError(
                f"SQP got {len(space.discrete)} discrete columns of {space.columns}; it follows slopes, so all must be "
                "real. CMAES, DE and GA serve integers and choices"
            )
        return self._begin(space, key, 0, 0, self.gradients != "differences", False)

    def ask(self, state: SQPState, space: Space, key: Key) -> Question:
        """One point, or the neighbours whose values give the slope here."""
        s = state
        if s.phase in ("line", "stretch"):
            return Question(space.clip(s.point + s.share * s.step)[None])
        if s.phase == "slope":
            return Question(space.clip(one_sided(s.point, self._near(s), space.upper)))
        if s.phase in ("wide", "fine"):
            steps = np.full(space.columns, _WIDE) if s.phase == "wide" else self._far(s)
            return Question(space.clip(two_sided(s.point, steps, space.lower, space.upper)))
        if s.phase == "check":
            assert s.doubt is not None
            return Question(probe(s.doubt, space))
        return Question(s.point[None], wants="gradient" if s.phase == "gradient" else "value")

    def tell(self, state: SQPState, space: Space, question: Question, told: Told, key: Key) -> SQPState:
        """Goes on from the answers; a start that has converged gives way to the next."""
        s = state
        values = np.where(told.ok & np.isfinite(told.values), told.values, np.nan)
        if s.phase == "start":
            s = self._started(s, space, float(values[0]), key)
        elif s.phase == "gradient":
            s = self._heard(s, space, told, key)
        elif s.phase == "check":
            s = self._checked(s, space, question.points[0], float(values[0]), key)
        elif s.phase in ("line", "stretch"):
            s = self._tried(s, space, question.points[0], float(values[0]), key)
        else:
            s = self._differed(s, space, question.points, values, key)
        if told.moved and s.phase != "start":  # what is remembered of this place has another value now
            s.phase, s.doubt, s.neighbour, s.old = "start", None, np.empty(0), np.empty(0)
        if told.moved:
            s.earlier = np.inf
        return s

    def stopped(self, state: SQPState) -> Stop | None:
        """Where the starts are used up, autograd cannot be trusted, or nothing has a value."""
        if state.trouble:
            return Stop(state.trouble, error=True)
        if state.failures >= _ATTEMPTS:
            return Stop(f"SQP found no value at {_ATTEMPTS} starts in a row; give it a point that has one: start=")
        if self.starts is not None and state.start >= self.starts:
            return Stop(f"SQP has converged from {'its start' if self.starts == 1 else f'all {self.starts} starts'}")
        return None

    # ---- a start ----------------------------------------------------------------------------------------------------
    def _begin(self, space: Space, key: Key, start: int, failures: int, autograd: bool, checked: bool) -> SQPState:
        D = space.columns
        given = start < len(space.starts)
        point = space.starts[start].copy() if given else space.clip(space.sample(1, key.numpy("start")))[0]
        return SQPState(
            phase="start",
            point=point,
            value=np.nan,
            began=np.nan,
            earlier=np.inf,
            slope=np.zeros(D),
            hessian=np.eye(D),
            step=np.zeros(D),
            share=1.0,
            reach=D**0.5,
            trial=np.empty(0),
            trial_value=np.inf,
            went=1.0,
            neighbour=np.empty(0),
            neighbour_value=np.inf,
            flat=0.0,
            pairs=np.empty((0, 2, D)),
            old=np.empty(0),
            steps=0,
            trials=0,
            fine=False,
            autograd=autograd,
            checked=checked,
            doubt=None,
            start=start,
            failures=failures,
            trouble="",
        )

    def _next(self, s: SQPState, space: Space, key: Key, failures: int = 0) -> SQPState:
        made = self._begin(space, key, s.start + 1, failures, s.autograd, s.checked)
        made.earlier = s.earlier if np.isnan(s.value) else min(s.earlier, s.value)
        return made

    def _started(self, s: SQPState, space: Space, value: float, key: Key) -> SQPState:
        if np.isnan(value):
            return self._next(s, space, key, s.failures + 1)
        s.value, s.failures = value, 0
        if not s.steps:
            s.began = value
        s.phase = "gradient" if s.autograd else "slope" if s.steps else "wide"
        return s

    # ---- slopes -----------------------------------------------------------------------------------------------------
    def _rounding(self, s: SQPState) -> float:
        """What a value here may be wrong by; where a cost ends at 0, what is too little of its fall to matter."""
        return 4 * _EPS * max(abs(s.value), _EPS * abs(s.began), 1e-300)

    def _near(self, s: SQPState) -> np.ndarray:
        """(D,) steps of one-sided differences, where rounding and curvature err alike (Gill et al. 1981, 8.6.1)."""
        steps = 2 * np.sqrt(self._rounding(s) / np.maximum(s.hessian.diagonal(), 1e-12))
        return np.minimum(np.maximum(steps, 1e-11), 1e-4) * np.maximum(1.0, np.abs(s.point))

    def _far(self, s: SQPState) -> np.ndarray:
        """(D,) steps of two-sided differences."""
        steps = np.cbrt(3 * self._rounding(s) / np.maximum(s.hessian.diagonal(), 1e-12))
        return np.minimum(np.maximum(steps, 1e-6), 1e-3) * np.maximum(1.0, np.abs(s.point))

    def _differed(self, s: SQPState, space: Space, rows: np.ndarray, values: np.ndarray, key: Key) -> SQPState:
        """Slopes from neighbours. One that failed enters no difference: its column waits for the next stencil."""
        if s.phase == "slope":
            slope = slopes(s.point, s.value, rows, values)
            s.slope = np.where(np.isnan(slope), 0.0, slope)
            self._learn(s)
            return self._aim(s, space, key)
        slope, curvature = bends(s.point, s.value, rows, values)
        s.slope = np.where(np.isnan(slope), 0.0, slope)
        if s.phase == "fine":
            s.fine = True
            diagonal = s.hessian.diagonal()
            with np.errstate(all="ignore"):
                scale = np.sqrt(np.abs(curvature) / diagonal)
            scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
            s.hessian = s.hessian * scale * scale[:, None]
            return self._aim(s, space, key)
        bend = np.abs(curvature)
        known = bend[np.isfinite(bend)]
        steepest = float(known.max(initial=0.0))
        floor = max(1e-8 * steepest, 1e-12 * float(np.abs(s.slope).max()), 1e-300)
        s.hessian = np.diag(np.maximum(np.where(np.isfinite(bend), bend, steepest), floor))
        if not np.isnan(values).all():
            best = int(np.nanargmin(values))
            if values[best] < s.value:
                s.neighbour, s.neighbour_value = rows[best].copy(), float(values[best])
        return self._aim(s, space, key)

    def _heard(self, s: SQPState, space: Space, told: Told, key: Key) -> SQPState:
        """Autograd's slope, or that there is none."""
        if told.no_gradient or not told.ok[0] or told.gradients is None or not np.isfinite(told.gradients[0]).all():
            if not s.checked and self.gradients == "autograd":
                s.trouble = missing("SQP(gradients='autograd')", told.no_gradient)
            elif not s.checked:
                s.autograd, s.phase = False, "wide"
            else:
                return self._next(s, space, key)
            return s
        s.slope = told.gradients[0].copy()
        if not s.checked:
            return self._question(s, space, key)
        self._learn(s)
        return self._aim(s, space, key)

    def _question(self, s: SQPState, space: Space, key: Key) -> SQPState:
        s.doubt, s.phase = doubt(s.point, s.value, s.slope, space, key.numpy("check")), "check"
        return s

    def _checked(self, s: SQPState, space: Space, point: np.ndarray, value: float, key: Key) -> SQPState:
        assert s.doubt is not None
        verdict = weigh(s.doubt, point, value)
        if verdict is None:
            return s
        first = not s.checked
        if verdict:
            s.doubt, s.checked = None, True
            if not first:  # it stalled here, and autograd is right: this is the end of a start
                return self._next(s, space, key)
            self._learn(s)
            return self._aim(s, space, key)
        if self.gradients == "autograd":
            s.trouble = sentence(s.doubt)
            return s
        s.doubt, s.autograd, s.checked, s.phase = None, False, False, "slope" if s.steps else "wide"
        s.old = np.empty(0)
        return s

    # ---- the model --------------------------------------------------------------------------------------------------
    def _learn(self, s: SQPState) -> None:
        """What the slope here says of the curvature on the way to it.

        A flat model lets a step reach as far as `_REACH` says. As slopes get smaller that is a flatter one, so what
        was learned is learned again upon it: else columns nobody has been along stay as steep as the steepest was.
        """
        flat = max(float(np.linalg.norm(s.slope)) / _REACH, 1e-300)
        if not s.steps or (s.steps == 1 and not len(s.old)):
            self._flatten(s, flat)
        elif len(s.old):
            change = s.slope - s.old
            if s.steps == 1 and not s.autograd:
                wrong = np.linalg.norm(change - s.hessian @ s.step)
                if wrong > 0.5 * np.linalg.norm(change):  # the columns are not on their own: parabolas say nothing
                    self._flatten(s, flat)
            if s.flat and len(s.pairs) < min(2 * len(s.point), _PAIRS):
                s.pairs = np.concatenate([s.pairs, np.stack([s.step, change])[None]])
                if flat < s.flat / 2:
                    s.flat, s.hessian = flat, np.eye(len(s.point)) * flat
                    for step, changed in s.pairs[:-1]:
                        damped_bfgs(s.hessian, step, changed)
            damped_bfgs(s.hessian, s.step, change)
        s.old = np.empty(0)

    def _flatten(self, s: SQPState, flat: float) -> None:
        s.flat, s.pairs, s.hessian = flat, s.pairs[:0].copy(), np.eye(len(s.point)) * flat

    def _aim(self, s: SQPState, space: Space, key: Key) -> SQPState:
        """The next step to try; none that descends is the end, after a closer look."""
        step = newton_step(s.point, s.slope, s.hessian, space.lower, space.upper)
        length = float(np.linalg.norm(step))
        if length > s.reach:
            step *= s.reach / length
        if not np.isfinite(length) or not s.slope @ step < -0.02 * self._rounding(s):
            return self._stuck(s, space, key)
        if s.steps > 1 and s.value + _HOPE * float(s.slope @ step) / 2 > s.earlier:
            return self._next(s, space, key)
        s.phase, s.step, s.share = "line", step, 1.0
        return s

    def _stuck(self, s: SQPState, space: Space, key: Key) -> SQPState:
        if len(s.neighbour):
            return self._move(s, s.neighbour, s.neighbour_value)
        if s.autograd:
            return self._question(s, space, key)
        if s.fine:
            return self._next(s, space, key)
        s.phase = "fine"
        return s

    # ---- the line ---------------------------------------------------------------------------------------------------
    def _tried(self, s: SQPState, space: Space, point: np.ndarray, value: float, key: Key) -> SQPState:
        """Accepts the trial, tries a shorter step, or a longer one."""
        descent = float(s.slope @ s.step)
        s.trials += s.phase == "line"
        if s.phase == "stretch":
            if not value < s.trial_value:
                return self._accept(s, s.trial, s.trial_value)
        elif not (value < s.value and value <= s.value + _ARMIJO * s.share * descent):
            curve = 2 * (value - s.value - descent * s.share)
            fit = -descent * s.share / curve if curve > 0 else 0.25  # not known where it failed: NaN
            s.share *= min(0.5, max(0.1, fit))
            if s.share < _TINY or s.share * abs(descent) < 0.2 * self._rounding(s):
                return self._stuck(s, space, key)
            return s
        elif s.share < 1:
            return self._accept(s, point, value)
        curve = (value - s.value - descent * s.share) / s.share**2
        longer = min(-descent / (2 * curve), 4 * s.share) if curve > 0 else 4 * s.share
        if longer < _STRETCH * s.share or (space.clip(s.point + longer * s.step) == point).all():
            return self._accept(s, point, value)
        s.phase, s.trial, s.trial_value, s.share, s.went = "stretch", point.copy(), value, longer, s.share
        return s

    def _accept(self, s: SQPState, point: np.ndarray, value: float) -> SQPState:
        share = s.went if s.phase == "stretch" and s.trial_value == value else s.share
        gone = 4 * share * float(np.linalg.norm(s.step))
        s.reach = max(gone, 0.3 * s.reach if share < 1 else 2 * s.reach)
        if len(s.neighbour) and s.neighbour_value < value:  # the first stencil had already seen a better point
            return self._move(s, s.neighbour, s.neighbour_value)
        s.old = s.slope
        return self._move(s, point, value)

    def _move(self, s: SQPState, point: np.ndarray, value: float) -> SQPState:
        s.step, s.point, s.value = point - s.point, point.copy(), value
        s.steps, s.fine, s.neighbour = s.steps + 1, False, np.empty(0)
        s.phase = "gradient" if s.autograd else "slope"
        return s
