"""What `ew.diagnose` says of planted faults, of the same networks mended, and of healthy ones.

python -m benchmarks.faults --publish
"""

from __future__ import annotations

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import sys
import time
from typing import Any

import torch
from tests.corpora.signals.fault import Fault, Start
from tests.corpora.signals.faults import FAULTS
from tests.corpora.signals.healthy import HEALTHY

import eitherway as ew

TARGET = 0.95
"""Of the faults; the issue asks for 19 of 20."""


def alarms(start: Start) -> tuple[list[Any], float]:
    """The verdicts that are alarms, and the seconds they took."""
    before = time.perf_counter()
    report = ew.diagnose(start.model, start.example, start.loss)
    return [verdict for verdict in report.verdicts if verdict.severity == "alarm"], time.perf_counter() - before


def line(verdict: Any) -> str:
    """A verdict's first line, as a cell of a table."""
    return f"{verdict.kind}: {verdict.text.splitlines()[0]}".replace("|", "\\|")


def planted(fault: Fault) -> dict[str, Any]:
    """One row: what is expected, which alarm names it, what else was said; and of the twin."""
    found, seconds = alarms(fault.build())
    named = [verdict for verdict in found if fault.names(verdict)]
    row: dict[str, Any] = {"fault": fault.name, "expected": fault.kinds, "note": fault.note, "seconds": seconds}
    row |= {"named": bool(named), "says": line((named or found)[0]) if found else "nothing"}
    row |= {"others": [line(v) for v in found if v not in named[:1]]}
    return row | {"twin": [line(verdict) for verdict in alarms(fault.twin())[0]]}


def sound(name: str, start: Start) -> dict[str, Any]:
    """One row: the false alarms."""
    found, seconds = alarms(start)
    return {"network": name, "alarms": [line(verdict) for verdict in found], "seconds": seconds}


def planted_table(rows: list[dict[str, Any]]) -> str:
    """One line a fault; in bold what was not named, and alarms on a twin."""
    header = ["fault", "expected", "named", "further alarms", "alarms on its twin", "says"]
    lines = []
    for row in rows:
        twin = f"**{len(row['twin'])}**" if row["twin"] else "0"
        named = "yes" if row["named"] else "**no**"
        further = len(row["others"]) if row["named"] else max(len(row["others"]) - 1, 0)
        lines.append([row["fault"], " / ".join(row["expected"]), named, further, twin, row["says"]])
    return harness.table(header, lines)


def sound_table(rows: list[dict[str, Any]]) -> str:
    """One line a healthy network."""
    lines = [[row["network"], "; ".join(f"**{said}**" for said in row["alarms"]) or "none"] for row in rows]
    return harness.table(["healthy network", "alarms"], lines)


TEXT = (
    "Each network has one fault, planted before the detector was written and kept apart from its tuning "
    "(`tests/corpora/signals/`); plain torch sees that it is there, and gone in its twin. A fault is **named** when an "
    "alarm has one of the expected kinds and names the place. {named} of {faults} faults are named (at least "
    "{target:.0%} are asked for); {twins} of {faults} mended twins and {healthy} of {networks} healthy networks raise "
    "an alarm (none should). One diagnosis takes {seconds:.2f} s, the median over the faults."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="What diagnose says of planted faults, their mended twins and healthy networks: about 1 minute.",
    )
    parser.add_argument("--only", metavar="NAME", help="entries whose name contains this")
    parser.add_argument("--publish", action="store_true", help="write results/faults.md and .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stamp = harness.stamp(["torch"], "each network from a generator of its own name")
    faults = [planted(fault) for fault in FAULTS if not options.only or options.only in fault.name]
    healthy = [sound(net.name, net.build()) for net in HEALTHY if not options.only or options.only in net.name]
    counts = {"named": sum(row["named"] for row in faults), "faults": len(faults), "target": TARGET}
    counts |= {"twins": sum(bool(row["twin"]) for row in faults), "networks": len(healthy)}
    counts |= {"healthy": sum(bool(row["alarms"]) for row in healthy)}
    seconds = harness.quartiles([row["seconds"] for row in faults or healthy] or [0.0])[1]
    parts = [TEXT.format(**counts, seconds=seconds), planted_table(faults), sound_table(healthy)]
    for row in faults:
        if row["twin"] or not row["named"]:
            print(row["fault"], row["says"], row["others"], "twin:", row["twin"], file=sys.stderr)
    if options.publish:
        harness.publish(
            "faults", "Naming planted faults", parts, stamp, {"counts": counts, "faults": faults, "healthy": healthy}
        )
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
