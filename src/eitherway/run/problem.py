"""The cost as a run sees it: plain values in, one Answer out, whatever happens inside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from eitherway.base.errors import CostError, Failed
from eitherway.base.keys import Key
from eitherway.methods.codec import encode
from eitherway.methods.protocol import OK
from eitherway.run.answers import Answer
from eitherway.run.search import as_answer
from eitherway.space.condition import describe
from eitherway.space.space import Space, copied

NO_TORCH = "torch has not been imported, so nothing can track a gradient"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Outcome:
    """A value with more to say: constraints (feasible where <= 0) and metrics that are kept beside it.

    >>> def cost(x):
    ...     return Outcome(x**2, constraints={"at least one": 1 - x}, metrics={"size": abs(x)})
    """

    cost: Any
    constraints: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def batched(cost: F) -> F:
    """Marks a cost that judges P points at once: it is called with (P, ...) arrays and returns (P,) values.

    The constraints and metrics of an `Outcome` are (P,) each, too. Conditional variables are always there.
    """
    return _marked(cost, "_eitherway_batched")


def seeded(cost: F) -> F:
    """Marks a cost that takes `seed=`, an integer: one a turn, the same for every row, so that rows can be compared."""
    return _marked(cost, "_eitherway_seeded")


def _marked(cost: F, fact: str) -> F:
    try:
        setattr(cost, fact, True)
    except AttributeError:  # methods and built-in functions have no attributes of their own
        raise CostError(f"{describe(cost)} cannot be marked; mark a function made with `def` that calls it") from None
    return cost


def _cut(out: Any) -> str:
    """Why a value that came back from tensors has no gradient."""
    return f"the cost returned a {type(out).__name__} that torch cannot follow back to its inputs"


def told_by(error: BaseException) -> str:
    """An exception as one line: its type, its text, and the line of the user's file that raised it."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = "" if where is None else f" ({Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno})"
    return f"{type(error).__name__}: {error}{place}"


class Problem:
    """What travels to a worker: cost, space and constraints, without memory but the carry of the present turn.

    Args:
        cost: a function; or an object with `start`, `judge` and `absorb`, which learns as it goes.
        space: what may vary.
        constraints: functions called as the cost is, feasible where <= 0.
        sign: -1 to maximize.
    """

    def __init__(self, cost: Any, space: Space, constraints: Sequence[Callable[..., Any]] = (), sign: float = 1.0):
        self.learns = all(hasattr(cost, rule) for rule in ("start", "judge", "absorb"))
        if not callable(cost) and not self.learns:
            raise CostError(
                f"the cost is {describe(cost)}; expected a function, or an object with start, judge and absorb"
            )
        if not isinstance(constraints, Iterable):
            raise CostError(
                f"constraints is {describe(constraints)}; expected a list of functions that are <= 0 where feasible"
            )
        for constraint in (constraints := tuple(constraints)):
            if not callable(constraint):
                raise CostError(
                    f"constraints holds {describe(constraint)}; expected functions that are <= 0 where feasible"
                )
        self.cost, self.space, self.constraints, self.sign = cost, space, constraints, sign
        self.batched = bool(getattr(cost, "_eitherway_batched", False))
        self.seeded = self.learns or bool(getattr(cost, "_eitherway_seeded", False))
        self.carry: Any = cost.start() if self.learns else None

    @property
    def plain(self) -> bool:
        """Whether a row is just `cost(values) -> number`, so that a whole question can be judged in one tight loop."""
        return not (self.learns or self.batched or self.seeded or self.constraints) and self.sign == 1.0

    def seed(self, key: Key, turn: int) -> int | None:
        """What a seeded cost is given this turn."""
        return key.at(turn).integer("cost") if self.seeded else None

    def merge(self, reports: Mapping[int, Any], P: int) -> bool:
        """Takes a turn's reports in row order; says whether values of before can no longer be compared."""
        if not self.learns:
            return False
        old, self.carry = self.carry, self.cost.absorb(self.carry, [reports.get(i) for i in range(P)])
        if hasattr(self.cost, "moved"):
            return bool(self.cost.moved(old, self.carry))
        return encode(old) != encode(self.carry)

    # ---- one row ----------------------------------------------------------------------------------------------------
    def judge(self, values: Any, point: np.ndarray, wants: str, carry: Any, seed: int | None) -> Answer:
        """The answer to one row. Only an interruption comes out as an exception."""
        try:
            if wants == "gradient":
                return self._tracked(values, point, carry, seed)
            if self.learns:
                value, report = self.cost.judge(self._own(values), carry, seed)
                answer = self.answer(value, values)
                answer.report = report
                return answer
            return self.answer(self._call(self.cost, self._own(values), seed), values)
        except Failed as error:
            return Answer.failed(str(error) or "the cost raised Failed")
        except (Exception, SystemExit) as error:
            return Answer.failed(told_by(error), broken=True)

    def _own(self, values: Any) -> Any:
        """Values for the cost to write in, if it likes: its constraints shall see them as they were."""
        return copied(values) if self.constraints else values

    def _call(self, function: Callable[..., Any], values: Any, seed: int | None) -> Any:
        extra = {"seed": seed} if self.seeded and function is self.cost else {}
        return function(values, **extra) if self.space.lone else function(**values, **extra)

    def read(self, out: Any, values: Any) -> Answer:
        """`answer`; a return value that cannot be read is a failure."""
        try:
            return self.answer(out, values)
        except Exception as error:
            return Answer.failed(told_by(error), broken=True)

    def answer(self, out: Any, values: Any) -> Answer:
        """One row's return value, with the constraints judged beside it."""
        violations, metrics = [], None
        if isinstance(out, Outcome):
            metrics = {name: float(metric) for name, metric in out.metrics.items()} or None
            violations = [float(g) for g in out.constraints.values()]
            out = out.cost
        answer = self._signed(as_answer(out))
        violations += [float(self._call(g, values, None)) for g in self.constraints]
        answer.metrics = metrics
        return self._constrained(answer, violations)

    def _signed(self, answer: Answer) -> Answer:
        if answer.status == OK and self.sign < 0:
            if answer.value == float("inf"):
                return Answer.failed("returned inf, which nothing could ever beat; return a finite number", broken=True)
            answer.value = -answer.value
        return answer

    @staticmethod
    def _constrained(answer: Answer, violations: Sequence[float]) -> Answer:
        if not violations:
            return answer
        if any(g != g for g in violations):
            return Answer.failed("a constraint is NaN")
        answer.violations = np.array(violations)
        return answer

    # ---- gradients --------------------------------------------------------------------------------------------------
    def _tracked(self, values: Any, point: np.ndarray, carry: Any, seed: int | None) -> Answer:
        """The answer with its gradient; where there is none, the plain value and why."""
        try:
            torch = sys.modules.get("torch")
            if torch is not None:
                return self._with_gradient(torch, values, point, carry, seed)
            why = NO_TORCH
        except Failed:
            raise
        except Exception as error:
            why = f"the cost cannot run on tensors: {told_by(error)}"
        answer = self.judge(values, point, "value", carry, seed)
        answer.no_gradient = why
        return answer

    def _with_gradient(self, torch: Any, values: Any, point: np.ndarray, carry: Any, seed: int | None) -> Answer:
        leaves: list[Any] = []

        def leaf(x: Any) -> Any:
            if isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind == "f"):
                leaves.append(torch.tensor(x, dtype=torch.float64, requires_grad=True))
                return leaves[-1]
            return x

        tracked = leaf(values) if self.space.lone else {name: leaf(value) for name, value in values.items()}
        with torch.enable_grad():
            if self.learns:
                out, report = self.cost.judge(tracked, carry, seed)
            else:
                out, report = self._call(self.cost, tracked, seed), None
            tensor = out.cost if isinstance(out, Outcome) else out
            plain = (
                tensor.detach().cpu().numpy().reshape(-1)[0].item()
                if isinstance(tensor, torch.Tensor) and tensor.numel() == 1
                else tensor
            )
            answer = self.answer(
                Outcome(plain, out.constraints, out.metrics) if isinstance(out, Outcome) else plain, values
            )
            answer.report = report
            if answer.status != OK:
                return answer
            if not (isinstance(tensor, torch.Tensor) and tensor.requires_grad):
                answer.no_gradient = _cut(tensor)
                return answer
            gradients = torch.autograd.grad(tensor.sum(), leaves, allow_unused=True)
        user = [
            np.zeros(x.numel()) if g is None else g.detach().cpu().numpy().ravel()
            for g, x in zip(gradients, leaves, strict=True)
        ]
        answer.gradient = self.sign * np.concatenate(user) * self.space.slope(point)
        return answer

    # ---- all rows at once -------------------------------------------------------------------------------------------
    def judge_together(self, points: np.ndarray, wants: str, seed: int | None) -> list[Answer]:
        """P answers of a batched cost, from one call."""
        P = len(points)
        try:
            if wants == "gradient":
                return self._tracked_together(points, seed)
            together = self.space.decode_together(points)
            if not self.learns:
                return self._rows(self._call(self.cost, self._own(together), seed), together, P)
            out, reports = self.cost.judge(self._own(together), self.carry, seed)
            if len(reports) != P:
                raise CostError(
                    f"a batched cost was given {P} points and returned {len(reports)} reports; expected {P}"
                )
            answers = self._rows(out, together, P)
            for answer, report in zip(answers, reports, strict=True):
                answer.report = report
            return answers
        except Failed as error:
            return [Answer.failed(str(error) or "the cost raised Failed") for _ in range(P)]
        except CostError:
            raise
        except (Exception, SystemExit) as error:
            return [Answer.failed(told_by(error), broken=True) for _ in range(P)]

    def _rows(self, out: Any, together: Any, P: int) -> list[Answer]:
        """A batched return value, row by row."""
        named: dict[str, Any] = {}
        metrics: dict[str, list[float]] = {}
        if isinstance(out, Outcome):
            metrics = {name: self._column(metric, f"metric {name!r}", P) for name, metric in out.metrics.items()}
            named, out = dict(out.constraints), out.cost
        for i, constraint in enumerate(self.constraints):
            named[f"constraint {i}"] = self._call(constraint, together, None)
        values = self._column(out, "a batched cost", P)
        violations = [self._column(g, f"constraint {name!r}", P) for name, g in named.items()]
        answers = []
        for row, (value, *gs) in enumerate(zip(values, *violations, strict=True)):
            answer = self._signed(as_answer(value))
            answer.metrics = {name: float(column[row]) for name, column in metrics.items()} or None
            answers.append(self._constrained(answer, gs))
        return answers

    @staticmethod
    def _column(out: Any, what: str, P: int) -> list[float]:
        column = np.asarray(out.detach().cpu() if hasattr(out, "detach") else out)
        if column.shape != (P,):
            raise CostError(f"{what} was given {P} points and returned shape {column.shape}; expected ({P},)")
        return column.tolist()

    def _tracked_together(self, points: np.ndarray, seed: int | None) -> list[Answer]:
        """P answers with their gradients; where there are none, the plain values and why."""
        try:
            torch = sys.modules.get("torch")
            if torch is not None:
                return self._together_with_gradient(torch, points, seed)
            why = NO_TORCH
        except (Failed, CostError):
            raise
        except Exception as error:
            why = f"the cost cannot run on tensors: {told_by(error)}"
        answers = self.judge_together(points, "value", seed)
        for answer in answers:
            answer.no_gradient = why
        return answers

    def _together_with_gradient(self, torch: Any, points: np.ndarray, seed: int | None) -> list[Answer]:
        P = len(points)
        together = self.space.decode_together(points)
        columns = {"value": together} if self.space.lone else together
        leaves = {
            k: torch.tensor(v, dtype=torch.float64, requires_grad=True)
            for k, v in columns.items()
            if isinstance(v, np.ndarray)
        }
        with torch.enable_grad():
            out = self._call(self.cost, leaves["value"] if self.space.lone else {**columns, **leaves}, seed)
            answers = self._rows(out, together, P)
            tensor = out.cost if isinstance(out, Outcome) else out
            if not (isinstance(tensor, torch.Tensor) and tensor.requires_grad):
                for answer in answers:
                    answer.no_gradient = _cut(tensor)
                return answers
            gradients = torch.autograd.grad(tensor.sum(), list(leaves.values()), allow_unused=True)
        user = np.concatenate(
            [
                (torch.zeros_like(x) if g is None else g).detach().cpu().numpy().reshape(P, -1)
                for g, x in zip(gradients, leaves.values(), strict=True)
            ],
            1,
        )
        for answer, row, point in zip(answers, user, points, strict=True):
            answer.gradient = self.sign * row * self.space.slope(point)
        return answers
