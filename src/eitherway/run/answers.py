"""What came back for the rows of one question, in columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from eitherway.methods.codec import state
from eitherway.methods.protocol import FAILED, OK, Told


@state
class Answer:
    """What one evaluation came to.

    Args:
        value: the cost, NaN where the status is not OK.
        status: OK, FAILED or LOST.
        why: the text of a failure.
        gradient: (D,) in search coordinates.
        no_gradient: why there is none where one was asked for.
        violations: (C,) feasible where <= 0.
        report: what a learning cost says of this row, for its carry.
        metrics: name -> number, kept beside the value.
        note: something a user should hear once.
        again: how many evaluations were lost before this one (a worker died).
        broken: whether the cost itself looks wrong: an exception nobody meant, or a return that is no number.
    """

    value: float = float("nan")
    status: int = OK
    why: str = ""
    gradient: Any = None
    no_gradient: str = ""
    violations: Any = None
    report: Any = None
    metrics: Any = None
    note: str = ""
    again: int = 0
    broken: bool = False

    @staticmethod
    def failed(why: str, *, broken: bool = False) -> Answer:
        return Answer(status=FAILED, why=why, broken=broken)


class Answers:
    """P rows, of which some are answered. `values` and `status` are columns; what is rare is kept by row.

    Args:
        P: rows of the question.
    """

    __slots__ = (
        "again",
        "done",
        "gradients",
        "metrics",
        "missing",
        "no_gradient",
        "reports",
        "status",
        "values",
        "violations",
        "why",
    )

    def __init__(self, P: int):
        self.values = np.zeros(P)
        self.status = np.zeros(P, np.uint8)
        self.done = np.zeros(P, bool)
        self.missing = P
        self.why: dict[int, str] = {}
        self.gradients: dict[int, np.ndarray] = {}
        self.violations: dict[int, np.ndarray] = {}
        self.reports: dict[int, Any] = {}
        self.metrics: dict[int, dict[str, float]] = {}
        self.no_gradient: str | None = None
        self.again = 0

    def __len__(self) -> int:
        return len(self.values)

    def put(self, row: int, answer: Answer) -> None:
        """Takes the answer to one row, once."""
        assert not self.done[row]
        self.values[row], self.status[row], self.done[row] = answer.value, answer.status, True
        self.missing -= 1
        self.again += answer.again
        if answer.why:
            self.why[row] = answer.why
        if answer.gradient is not None:
            self.gradients[row] = answer.gradient
        if answer.no_gradient:
            self.no_gradient = self.no_gradient or answer.no_gradient
        if answer.violations is not None:
            self.violations[row] = answer.violations
        if answer.report is not None:
            self.reports[row] = answer.report
        if answer.metrics:
            self.metrics[row] = answer.metrics

    def put_values(self, values: list[float], first: int = 0) -> None:
        """Takes plain values for consecutive rows from `first` on: the fast way for plain costs."""
        rows = slice(first, first + len(values))
        self.values[rows], self.done[rows] = values, True
        self.missing -= len(values)

    def get(self, row: int) -> Answer:
        """The answer to one row again, as it was put (but for what was lost before it)."""
        return Answer(
            float(self.values[row]),
            int(self.status[row]),
            self.why.get(row, ""),
            self.gradients.get(row),
            self.no_gradient or "",
            self.violations.get(row),
            self.reports.get(row),
            self.metrics.get(row),
        )

    def told(self, columns: int, wants: str, moved: bool = False) -> Told:
        """All rows, as a method is told them."""
        P = len(self.values)
        gradients = violations = None
        if wants == "gradient":
            gradients = np.full((P, columns), np.nan)
            for row, gradient in self.gradients.items():
                gradients[row] = gradient
        if self.violations:
            width = max(len(v) for v in self.violations.values())
            violations = np.zeros((P, width))
            for row, v in self.violations.items():
                violations[row, : len(v)] = v
        return Told(self.values, self.status, gradients, violations, self.no_gradient, moved)
