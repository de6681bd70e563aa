"""What a verb prints at the end of a run, for people or for programs, and the exit code that goes with it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from eitherway.cli.main import DONE, INTERRUPTED

if TYPE_CHECKING:
    from eitherway.run.result import Result


def show(result: Result, as_json: bool) -> int:
    """Prints a result, and how to go on with an interrupted run; hands back the exit code."""
    if as_json:
        print(json.dumps(_facts(result), allow_nan=False))
    else:
        print(in_words(result))
    return INTERRUPTED if result.interrupted else DONE


def in_words(result: Result) -> str:
    """A result in lines; numbers with all their digits, since they are what was paid for."""
    from eitherway.run.result import named

    failures = f", {result.failures} without a value" if result.failures else ""
    lines = []
    if result.best is None:
        lines += ["nothing had a value", *(f"  {why}" for why in result.commonest_failures())]
    else:
        lines.append(f"best value {result.value!r}")
        best = result.best if isinstance(result.best, dict) else {"x": result.best}
        width = max(map(len, best))
        lines += [f"  {name:<{width}} = {_exact(value)}" for name, value in best.items()]
    lines.append(f"{result.evaluations:,} evaluations in {result.seconds:.3g} s{failures}, by {named(result.method)}")
    lines.append(f"stopped: {result.reason}")
    if result.interrupted:
        if result.journal is None:
            lines.append("nothing keeps this run; with --journal run.db it could be gone on with")
        else:
            lines.append(f"go on with: eitherway resume {shlex.quote(result.journal)}")
    return "\n".join(lines)


def _exact(value: Any) -> str:
    from eitherway.space.condition import describe

    return repr(value.tolist()) if hasattr(value, "tolist") else describe(value)


def _facts(result: Result) -> dict[str, Any]:
    """The same for programs: JSON values only."""
    from eitherway.space.condition import describe

    return {
        "best": _plain(result.best),
        "value": _plain(result.value),
        "reason": result.reason,
        "evaluations": result.evaluations,
        "failures": result.failures,
        "seconds": result.seconds,
        "interrupted": result.interrupted,
        "method": describe(result.method),
        "notes": list(result.notes),
        "journal": result.journal,
    }


def _plain(value: Any) -> Any:
    from eitherway.space.condition import describe

    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # JSON has no word for NaN and inf
    if isinstance(value, dict):
        return {name: _plain(inside) for name, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inside) for inside in value]
    return value if value is None or isinstance(value, (bool, int, str)) else describe(value)
