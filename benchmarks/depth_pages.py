"""The pages of `benchmarks.depth`: what came of the cells, seed by seed, as summaries, marks and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks import chains, harness
from benchmarks.activations import ACTIVATIONS

OURS = {"ours": "auto", "ours, shaped": "shaped", "ours, mirror": "mirror"}
RIVALS = [*chains.RIVALS, "dks"]
STARTS = [*RIVALS, *OURS]
STD, GRADIENT, COSINE, SPREAD = 0.05, (0.8, 1.5), 0.05, 2.0
"""The marks."""
LEAST = 19
"""Activations of 21 whose marks ours should meet."""


class Cell(NamedTuple):
    """One start of one chain from one seed."""

    depth: int
    start: str
    activation: str
    seed: int


Cells = dict[Cell, dict[str, Any]]


class Wanted(NamedTuple):
    """What a page shows."""

    depths: Sequence[int]
    starts: Sequence[str]
    activations: Sequence[str]
    seeds: Sequence[int]


def percentile(values: Sequence[float], share: float = 0.9) -> float:
    """Linear between order statistics; nan counts as infinite.

    >>> percentile([0.0, 1.0, 2.0], 0.75)
    1.5
    """
    ordered = sorted(math.inf if math.isnan(v) else v for v in values)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low if low == high else low + (high - low) * (place - math.floor(place))


def summary(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the seeds of one start on one activation.

    Returns:
        error (90th percentile), gradient (geometric mean), worst (the gradient ratio furthest from 1), cosine and
        spread (the largest of all seeds), seeds, met; or why it was not run.
    """
    if why := next((cell["why"] for cell in cells if "why" in cell), None):
        return {"why": why}
    gradients = [cell["gradient"] for cell in cells]
    logs = [math.log(g) if g > 0.0 else -math.inf for g in gradients]
    found: dict[str, Any] = {"error": percentile([cell["error"] for cell in cells])}
    found["own"] = percentile([cell["own"] for cell in cells])
    both = math.inf in logs and -math.inf in logs
    found["gradient"] = math.nan if both else math.exp(min(sum(logs) / len(logs), 709.0))
    found["gradient"] = math.inf if math.inf in logs and not both else found["gradient"]
    found["worst"] = gradients[max(range(len(logs)), key=lambda i: abs(logs[i]))]
    found["cosine"] = max((abs(cell["cosine"]) for cell in cells), key=lambda c: math.inf if math.isnan(c) else c)
    found["spread"] = max((cell["spread"] for cell in cells), key=lambda s: math.inf if math.isnan(s) else s)
    found["seeds"], found["unchanged"] = len(cells), all(cell.get("unchanged", True) for cell in cells)
    schemes = [cell["scheme"] for cell in cells if "scheme" in cell]
    if schemes:
        found["scheme"] = " / ".join(sorted(set(schemes)))
        found["initialize_"] = sorted(cell["initialize_"] for cell in cells)[len(cells) // 2]
    found["met"] = (
        found["error"] <= STD
        and GRADIENT[0] <= min(gradients)
        and max(gradients) <= GRADIENT[1]
        and found["cosine"] <= COSINE
        and found["spread"] < SPREAD
        and found["unchanged"]
    )
    return found


def summaries(wanted: Wanted, cells: Cells) -> dict[int, dict[str, dict[str, dict[str, Any]]]]:
    """depth -> start -> activation -> summary, of those seeds that are there."""
    found: dict[int, dict[str, dict[str, dict[str, Any]]]] = {}
    for depth in wanted.depths:
        for start in (start for start in STARTS if start in wanted.starts):
            for activation in wanted.activations:
                of = [cells[c] for s in wanted.seeds if (c := Cell(depth, start, activation, s)) in cells]
                if of:
                    found.setdefault(depth, {}).setdefault(start, {})[activation] = summary(of)
    return found


def short(value: float) -> str:
    """Two or three digits, an exponent where it must be.

    >>> short(0.0), short(0.00012), short(0.031), short(1.236), short(55.4), short(1234567.0), short(float("inf"))
    ('0', '1e-04', '0.03', '1.24', '55', '1e+06', 'inf')
    """
    if not math.isfinite(value) or not value:
        return f"{value:g}"
    if not 0.005 <= abs(value) < 9999.5:
        return f"{value:.0e}"
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.0f}"


def compact(found: dict[str, Any]) -> str:
    """error % / gradient / cosine / spread, in bold if all marks are met."""
    if "why" in found:
        return "-"
    text = " / ".join(short(v) for v in (100 * found["error"], *(found[k] for k in ("gradient", "cosine", "spread"))))
    return f"**{text}**" if found["met"] else text


def mark(start: str, activation: str) -> str:
    """A star where torch has no gain for the activation."""
    return "\\*" if start in ("kaiming_normal_", "orthogonal_") and ACTIVATIONS[activation].torch is None else ""


def count_table(found: dict[int, dict[str, dict[str, dict[str, Any]]]]) -> str:
    """How many activations meet all marks, and each of them, start by start."""
    rows = []
    for depth, by_start in found.items():
        for start, by_activation in by_start.items():
            ran = [s for s in by_activation.values() if "why" not in s]
            met = sum(s["met"] for s in ran)
            row = [start, depth, f"{met} of {len(ran)}", sum(s["error"] <= STD for s in ran)]
            row += [sum(GRADIENT[0] <= s["worst"] <= GRADIENT[1] for s in ran)]
            row += [sum(s["cosine"] <= COSINE for s in ran), sum(s["spread"] < SPREAD for s in ran)]
            seeds = sorted({s["seeds"] for s in ran})
            row += ["replaced" if start == "dks" else "kept", "-".join(map(str, seeds))]
            rows.append(row)
    header = ["start", "depth", "all marks met", f"std within {STD:.0%}", "gradient", "cosine", "spread"]
    return harness.table([*header, "modules", "seeds"], rows)


def ours_table(by_activation: dict[str, dict[str, Any]]) -> str:
    """Ours in full, a line an activation."""
    rows = []
    for activation, found in by_activation.items():
        if "why" in found:
            rows.append([activation, found["why"], *[""] * 7])
            continue
        row = [activation, found["scheme"], f"{100 * found['error']:.2g}"]
        row += [f"{found['gradient']:.3f}", f"{found['worst']:.3f}", f"{found['cosine']:.3f}"]
        row += [f"{found['spread']:.2f}", "yes" if found["unchanged"] else "**no**"]
        rows.append([*row, "yes" if found["met"] else "**no**"])
    header = ["activation", "scheme", "std error %, 90th percentile", "gradient ratio", "worst of it"]
    return harness.table([*header, "cosine", "spread", "modules unchanged", "all marks"], rows)


def all_table(by_start: dict[str, dict[str, dict[str, Any]]], wanted: Wanted) -> str:
    """Every start beside the others: a line an activation."""
    rows = []
    for activation in wanted.activations:
        row = [activation]
        for start, by_activation in by_start.items():
            auto = by_start.get("ours", {}).get(activation, {}).get("scheme", "")
            if activation in by_activation:
                row.append(compact(by_activation[activation]) + mark(start, activation))
            else:
                row.append("as ours" if start in OURS and auto == OURS[start] else "")
        rows.append(row)
    return harness.table(["std error % / gradient / cosine / spread", *by_start], rows)


TEXT = (
    "Plain chains of {width} units: Linear, activation, Linear, ..., Linear; depth counts the linear layers. fp32, "
    "inputs of rms 1, judged on {samples} inputs ({pairs} pairs) that no start has seen; LSUV and ours are shown "
    "{data} others. **Std error** is |rms of the output / rms of the input - 1|, the 90th percentile over the seeds; "
    "the **gradient ratio** is its rms at the input / at the output, the geometric mean and the seed furthest from 1; "
    "**cosine** is the mean over all pairs of outputs, without its sign, **spread** the largest rms of an output by "
    "the smallest, both of the worst seed. The marks: std error at most {std:.0%}, gradient ratio of every seed in "
    "[{low}, {high}], cosine at most {cosine}, spread below {spread:g}, and nothing of the model changed but the "
    "numbers in its parameters. 0 and inf are what fp32 makes of numbers that are too small or too large."
)
RIVALS_TEXT = (
    "torch's ways are taken with `calculate_gain`, and with ReLU's gain where torch has none, which is marked \\*; the "
    "first layer, before which nothing stands, gets 1. LSUV is Mishkin & Matas 2016, algorithm 1; **dks** is "
    "DeepMind's package, version {dks}, method DKS, which replaces every activation by another function; `-` where it "
    "does not know the activation. All rivals of a seed share their matrices. **Ours** is `initialize_` as it comes; "
    "*ours, shaped* and *ours, mirror* are those schemes by name: `-` where the activation has none. In bold: all "
    "marks met (by dks with other activations than the network was written with)."
)


def own_text(by_start: dict[str, dict[str, dict[str, Any]]]) -> str:
    """What LSUV reads on the batch it corrects for."""
    ran = [s for s in by_start.get("LSUV", {}).values() if "why" not in s]
    if not ran:
        return ""
    good, fresh = sum(s["own"] <= STD for s in ran), sum(s["error"] <= STD for s in ran)
    return (
        f"On the batch that LSUV corrects for, its std error is at most {STD:.0%} with {good} of {len(ran)} "
        f"activations; on other inputs with {fresh}, and with all marks met {sum(s['met'] for s in ran)}."
    )


def plain(found: Any) -> Any:
    """As JSON holds it: numbers that are not finite become texts."""
    if isinstance(found, dict):
        return {str(key): plain(value) for key, value in found.items()}
    return str(found) if isinstance(found, float) and not math.isfinite(found) else found


def pages(wanted: Wanted, cells: Cells) -> tuple[list[str], dict[str, Any]]:
    """Paragraphs and tables, and the summaries as raw numbers."""
    found = summaries(wanted, cells)
    low, high = GRADIENT
    marks = {"std": STD, "low": low, "high": high, "cosine": COSINE, "spread": SPREAD}
    samples = chains.SAMPLES
    parts = [
        TEXT.format(width=chains.WIDTH, samples=samples, pairs=samples * (samples - 1) // 2, data=chains.DATA, **marks),
        RIVALS_TEXT.format(dks=harness.version("dks")),
        count_table(found),
    ]
    for depth, by_start in found.items():
        if "ours" in by_start:
            ran = [s for s in by_start["ours"].values() if "why" not in s]
            times = [s["initialize_"] for s in ran]
            text = f"## Ours at depth {depth}\n\n`initialize_` with its defaults: {sum(s['met'] for s in ran)} of "
            text += f"{len(by_start['ours'])} activations meet all marks (wanted: {LEAST}). "
            text += (
                f"It took {min(times):.1f} to {max(times):.1f} s of CPU time, the median of the seeds." if times else ""
            )
            parts += [text, ours_table(by_start["ours"])]
        parts += [f"## Everybody at depth {depth}\n\n{own_text(by_start)}".strip(), all_table(by_start, wanted)]
    return parts, plain(found)
