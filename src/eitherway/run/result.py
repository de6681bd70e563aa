"""What a run came to: the best point, why it stopped, and everything it evaluated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from eitherway.run.history import History
from eitherway.run.search import Search
from eitherway.space.condition import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass
class Result:
    """The end of a run. Reads as SciPy's does, too: `x`, `fun`, `nfev`, `nit`, `success`, `message`.

    Args:
        best: the best point as the cost was called with it (a value, or a dict by name); None if nothing had a value.
        value: its value, in the user's sign.
        reason: why the run stopped, a sentence.
        evaluations: how many were paid for, failures and retries included.
        failures: how many of them had no value.
        seconds: wall-clock seconds of this call.
        history: everything evaluated, in columns.
        notes: what else a user should hear, sentences.
        interrupted: whether Ctrl-C or SIGTERM ended it.
        method: the method that ran.
        search: to look inside.
        journal: the file it is kept in, if any.
    """

    best: Any
    value: float
    reason: str
    evaluations: int
    failures: int
    seconds: float
    history: History = field(repr=False)
    notes: tuple[str, ...]
    interrupted: bool
    method: Any
    search: Search = field(repr=False)
    journal: str | None = None

    @property
    def success(self) -> bool:
        """Whether there is a point to use, and nobody interrupted the run."""
        return self.best is not None and not self.interrupted

    @property
    def x(self) -> Any:
        """The best point as an array: of the lone variable, or of the named ones in order, end to end.

        Where an option is no number it is an array of objects, each value as it is.
        """
        if isinstance(self.best, dict):
            parts = [np.ravel(value) for value in self.best.values()]
            if all(part.dtype.kind in "biuf" for part in parts):
                return np.concatenate(parts)
            values = np.empty(len(self.best), object)
            values[:] = list(self.best.values())
            return values
        return None if self.best is None else np.asarray(self.best)

    @property
    def fun(self) -> float:
        return self.value

    @property
    def nfev(self) -> int:
        return self.evaluations

    @property
    def nit(self) -> int:
        return self.search.state.turn

    @property
    def message(self) -> str:
        return self.reason

    @property
    def recommended(self) -> Any:
        """A point the method believes in more than in the best one seen (under noise), or the best."""
        point = self.search.method.recommend(self.search.state.method)
        return self.best if point is None else self.search.space.decode(self.search.space.clip(point[None]))[0]

    @property
    def findings(self) -> str | None:
        """What the method found out about the cost, in the user's sign; None where it does not say."""
        findings = getattr(self.search.method, "findings", None)
        return findings and findings(self.search.state.method, self.history.sign)

    def commonest_failures(self, n: int = 3) -> list[str]:
        """The texts that most failures have, with how often each was met."""
        return [f"{why} ({times} x)" for why, times in Counter(self.history.why.values()).most_common(n)]

    def plot(self, axes: Axes | None = None) -> Axes:
        """Every value and the best so far, against evaluations."""
        from eitherway.run.plot import plot_history

        return plot_history(self, axes)

    def __str__(self) -> str:
        failures = f", {self.failures} without a value" if self.failures else ""
        best = "nothing had a value" if self.best is None else f"best value {self.value:.6g} at {_short(self.best)}"
        lines = [best, f"{self.evaluations} evaluations in {self.seconds:.3g} s{failures}, by {named(self.method)}"]
        lines += [f"found: {self.findings}"] if self.findings else []
        lines += [f"why: {why}" for why in self.commonest_failures(1 if self.best is None else 0)]
        return "\n".join([*lines, f"stopped: {self.reason}", *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        best = self.best if isinstance(self.best, dict) else {"x": self.best}
        rows: list[tuple[str, Any]] = [("best value", f"{self.value:.6g}"), *((k, _short(v)) for k, v in best.items())]
        rows += [
            ("evaluations", self.evaluations),
            ("without a value", self.failures),
            ("seconds", f"{self.seconds:.3g}"),
        ]
        rows += [("method", named(self.method)), *([("found", self.findings)] if self.findings else [])]
        rows += [("stopped", self.reason), *(("note", note) for note in self.notes)]
        return (
            "<table>" + "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in rows) + "</table>"
        )


def named(method: Any) -> str:
    """A method with the settings that somebody chose; its name alone where nobody did."""
    if not is_dataclass(method):
        return describe(method)
    chosen = [
        f"{f.name}={describe(getattr(method, f.name))}" for f in fields(method) if getattr(method, f.name) != f.default
    ]
    return f"{type(method).__name__}({', '.join(chosen)})" if chosen else type(method).__name__


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_short(v)}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return np.array2string(value, precision=5, threshold=12) if isinstance(value, np.ndarray) else describe(value)
