"""One page about one kept run or several: what came out, why it ended, and how to go on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eitherway import __version__
from eitherway.base.errors import JournalError
from eitherway.methods import get, known
from eitherway.methods.protocol import OK
from eitherway.methods.settings import settings_to_plain
from eitherway.report import figures
from eitherway.run.command import Command
from eitherway.run.kept import Kept
from eitherway.run.progress import duration
from eitherway.space.condition import describe
from eitherway.space.plain import unplain

FAILURES = 12
"""Kinds of failures that are listed."""


@dataclass(frozen=True)
class Failure:
    """Evaluations that failed alike.

    Args:
        text: what the first of them said.
        count: how many.
        first: the first of them, counted from 1.
    """

    text: str
    count: int
    first: int


def render(runs: Sequence[Kept]) -> str:
    """The page, as HTML that needs nothing else: no network, no scripts, no files beside it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    if not runs:
        raise JournalError("a report was asked for no run at all; expected one or more")
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn: list[tuple[str, str, Markup]] = []
    if len(runs) == 1:
        only = runs[0]
        together = "Each point is a line; the best ones stand in front, the best one bold."
        candidates = [
            ("Values", "Every evaluation, and the best so far.", figures.convergence(only.history)),
            ("Slices", _slices_caption(only), figures.slices(only)),
            ("Together", together, figures.parallel(only)),
        ]
        drawn = [(title, text, Markup(picture)) for title, text, picture in candidates if picture]
    elif len({run.configuration["sign"] for run in runs}) == 1:
        text = "The best so far: the median of each method, with quartiles where it has three runs or more."
        picture = figures.comparison(_histories(runs), runs[0].configuration["sign"])
        drawn = [("Best so far", text, Markup(picture))]
    return pages.get_template("page.html").render(
        title=", ".join(dict.fromkeys(run.configuration["cost"]["name"] for run in runs)),
        runs=[facts(run) for run in runs],
        groups=groups(runs),
        pictures=drawn,
        version=__version__,
    )


def verdicts(runs: Sequence[Kept]) -> list[str]:
    """What came out of each run, in a sentence or two."""
    return [
        " ".join(filter(None, (f"{run.path.name}:" if len(runs) > 1 else "", verdict(run), lost(run)))) for run in runs
    ]


def verdict(run: Kept) -> str:
    """What came out of a run, in a sentence."""
    N, values, status = len(run.history), run.history["value"], run.history["status"]
    if not N:
        return "Nothing has been evaluated yet."
    if not (status == OK).any():
        return f"None of {N:,} evaluations had a value."
    extreme = "highest" if run.configuration["sign"] < 0 else "lowest"
    at = np.flatnonzero((status == OK) & (values == run.value))
    where = f", at evaluation {at[0] + 1:,} of {N:,}" if len(at) else f", of {N:,} evaluations"
    return f"The {extreme} value found is {run.value:.6g}{where}."


def lost(run: Kept) -> str:
    """How many evaluations have no value, in a sentence; empty if all have one, or none."""
    failed, N = int((run.history["status"] != OK).sum()), len(run.history)
    if failed in (0, N):
        return ""
    return f"{failed:,} {'evaluation has' if failed == 1 else 'evaluations have'} no value ({_percent(failed / N)})."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1g} %"


def facts(run: Kept) -> dict[str, Any]:
    """All that the page says of one run, as texts."""
    configuration = run.configuration
    reason = run.reason or "it is still running, or it was killed"
    return {
        "name": run.path.name,
        "method": method(run, whole=False),
        "seed": configuration["seed"]["seed"],
        "evaluations": f"{len(run.history):,}",
        "value": "none" if run.best is None and run.value != run.value else f"{run.value:.6g}",
        "verdict": verdict(run),
        "lost": lost(run),
        "reason": reason,
        "ended": run.reason is not None,
        "seconds": duration(run.seconds),
        "calls": run.calls,
        "notes": run.notes,
        "code": code(run),
        "failures": failures(run),
        "settings": settings(run),
        "resume": resume(run),
    }


def method(run: Kept, *, whole: bool = True) -> str:
    """The method with all its settings; or, not whole, with those only that are not its defaults."""
    described = dict(run.configuration["method"])
    name = described.pop("@method")
    usual: dict[str, Any] = {}
    if not whole and name.lower() in known():
        usual = settings_to_plain(get(name))
    chosen = {k: v for k, v in described.items() if whole or k not in usual or usual[k] != v}
    return f"{name}({', '.join(f'{k}={_text(v)}' for k, v in chosen.items())})" if chosen or whole else name


def _text(value: Any) -> str:
    """A plain value as code."""
    if isinstance(value, dict) and "@method" in value:
        return f"{value['@method']}(...)"
    try:
        return describe(unplain(value, strict=False))
    except (TypeError, ValueError, KeyError):
        return str(value)


def code(run: Kept) -> str:
    """The best point, ready to be pasted: a call of the cost, or the command line of the program."""
    if run.best is None:
        return ""
    described = run.configuration["cost"]
    written = described.get("settings", {})
    if described["name"] == "Command" and "arguments" in written:
        arguments = unplain(written["arguments"], strict=False)
        optional = unplain(written.get("optional", []), strict=False)
        program = Command(tuple(arguments), optional=tuple(optional))
        values = run.best if isinstance(run.best, dict) else {program.names[0]: run.best}
        return shlex.join(program.line(values))
    name = described["name"].rpartition(".")[2].strip("<>")
    if not isinstance(run.best, dict):
        return f"{name}({_literal(run.best)})"
    inside = "".join(f"    {variable}={_literal(value)},\n" for variable, value in run.best.items())
    return f"{name}(\n{inside})"


def _literal(value: Any) -> str:
    if isinstance(value, np.ndarray):
        dtype = "" if value.dtype == float else f", dtype={str(value.dtype)!r}"
        return f"np.array({value.tolist()!r}{dtype})"
    return describe(value)


def failures(run: Kept) -> list[Failure]:
    """Failures by kind, the commonest first; texts that differ in numbers only are one kind."""
    kinds: dict[str, list[int]] = {}
    for row in sorted(run.history.why):
        kinds.setdefault(re.sub(r"[-+]?\d[\d.e+-]*", "#", run.history.why[row]), []).append(row)
    found = [Failure(run.history.why[rows[0]], len(rows), rows[0] + 1) for rows in kinds.values()]
    found.sort(key=lambda failure: (-failure.count, failure.first))
    if len(found) <= FAILURES:
        return found
    rest = found[FAILURES:]
    last = Failure(f"{len(rest)} other kinds", sum(f.count for f in rest), min(f.first for f in rest))
    return [*found[:FAILURES], last]


def settings(run: Kept) -> list[tuple[str, str]]:
    """What the run was begun with, name by name."""
    configuration, limits = run.configuration, run.limits
    cost = configuration["cost"]
    where = cost.get("where")
    place = f" in {where['file'] or where['module']}" if where else ""
    program = _text(cost["settings"]["arguments"]) if cost["name"] == "Command" and "settings" in cost else ""
    found = [("cost", f"{cost['name']}{place}{program}")]
    found += [("x" if run.space.lone else name, repr(v)) for name, v in run.space.variables.items()]
    found.append(("method", method(run)))
    found.append(("seed", str(configuration["seed"]["seed"])))
    found.append(("looks for", "the highest value" if configuration["sign"] < 0 else "the lowest value"))
    found.append(("budget", f"{limits.budget:,} evaluations"))
    for name, value in (("target", limits.target), ("seconds", limits.seconds), ("stall", limits.stall)):
        if value is not None:
            found.append((name, f"{configuration['sign'] * value if name == 'target' else value:g}"))
    if configuration.get("timeout") is not None:
        found.append(("timeout", f"{_text(configuration['timeout'])} s"))
    found += [("constraint", constraint["name"]) for constraint in configuration["constraints"]]
    found.append(("file", str(run.path)))
    found.append(("versions", ", ".join(f"{k} {v}" for k, v in configuration["versions"].items())))
    if configuration.get("threads"):  # journals from before do not know
        found.append(("threads", ", ".join(f"{k} {v}" for k, v in configuration["threads"].items())))
    return found


def resume(run: Kept) -> str:
    """The command that goes on with a run; with twice the budget where that is spent."""
    spent = len(run.history) >= run.limits.budget
    return f"eitherway resume {shlex.quote(str(run.path))}" + (f" --budget {2 * run.limits.budget}" if spent else "")


# ---- several runs ---------------------------------------------------------------------------------------------------
def _groups(runs: Sequence[Kept]) -> dict[str, list[Kept]]:
    """Runs by cost and method; the cost is named where there are several."""
    costs = {run.configuration["cost"]["name"] for run in runs}
    found: dict[str, list[Kept]] = {}
    for run in runs:
        prefix = f"{run.configuration['cost']['name']}: " if len(costs) > 1 else ""
        found.setdefault(prefix + method(run, whole=False), []).append(run)
    return found


def _histories(runs: Sequence[Kept]) -> dict[str, list[Any]]:
    return {label: [run.history for run in group] for label, group in _groups(runs).items()}


def groups(runs: Sequence[Kept]) -> list[dict[str, str]]:
    """Median and quartiles of the best values, method by method; empty for a lone run."""
    rows = []
    for label, group in _groups(runs).items() if len(runs) > 1 else ():
        values = np.array([run.value for run in group])
        values = values[np.isfinite(values)]
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [np.nan] * 3
        row = {"label": label, "runs": str(len(group)), "median": f"{middle:.6g}"}
        row["quartiles"] = f"{low:.6g} to {high:.6g}" if len(values) > 2 else "—"
        row["evaluations"] = f"{np.median([len(run.history) for run in group]):,.0f}"
        rows.append(row)
    return rows


def _slices_caption(run: Kept) -> str:
    most = figures.PANELS
    more = f" The {most} of {run.space.columns} columns that tell most about it." if run.space.columns > most else ""
    return f"The value against each variable; the best twentieth in colour, the best one ringed.{more}"
