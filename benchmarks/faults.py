"""What `ew.diagnose` says of planted faults, of the same networks mended, and of healthy ones: three corpora.

python -m benchmarks.faults --publish
"""

from __future__ import annotations

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from tests.corpora.signals.fault import Fault, Healthy, Start
from tests.corpora.signals.faults import FAULTS
from tests.corpora.signals.healthy import HEALTHY
from tests.corpora.signals.ordinary.faults import FAULTS as ORDINARY_FAULTS
from tests.corpora.signals.ordinary.healthy import HEALTHY as ORDINARY_HEALTHY
from tests.corpora.signals.unseen.faults import FAULTS as UNSEEN_FAULTS
from tests.corpora.signals.unseen.healthy import HEALTHY as UNSEEN_HEALTHY

import eitherway as ew

TARGET = 0.95
"""Of the faults; the issue asks for 19 of 20."""


class Corpus(NamedTuple):
    """One examiner's faults and healthy networks. `text` says who had seen what."""

    name: str
    faults: Sequence[Fault]
    healthy: Sequence[Healthy]
    text: str


class Recorded(NamedTuple):
    """What was counted once and cannot be measured again, because the detector has been changed since.

    commit: of the corpus, which is the same to this day.
    named, faults, twins, healthy, networks: as `counted` has them.
    """

    corpus: str
    when: str
    commit: str
    named: int
    faults: int
    twins: int
    healthy: int
    networks: int


CORPORA = (
    Corpus(
        "first corpus",
        FAULTS,
        HEALTHY,
        "Written before the detector (`tests/corpora/signals/`). After its first run, which the first table records, "
        "it was shown to the detector's author to learn from: it is no fair judge of what the detector is now.",
    ),
    Corpus(
        "unseen corpus",
        UNSEEN_FAULTS,
        UNSEEN_HEALTHY,
        "Written by a second examiner, mostly after what people report (`tests/corpora/signals/unseen/`), who had not "
        "read the detector, and committed before any detector was run on it.",
    ),
    Corpus(
        "ordinary corpus",
        ORDINARY_FAULTS,
        ORDINARY_HEALTHY,
        "Written by a third examiner, one of each of the twenty faults that every course on deep learning has "
        "(`tests/corpora/signals/ordinary/`), who had not read the detector, and committed before any detector was run "
        "on it.",
    ),
)
FIRST_SIGHT = (
    Recorded("first corpus", "at its first sight", "f46547a", 54, 66, 0, 3, 44),
    Recorded("unseen corpus", "at its first sight", "03c53d0", 15, 24, 0, 2, 19),
    Recorded("ordinary corpus", "at its first sight", "f5e66d8", 19, 20, 1, 0, 10),
)
"""Data, recorded at that time."""


class Failure(NamedTuple):
    """An alarm of no kind: the detector refused the network, or fell over."""

    text: str
    kind: str = "failure"
    severity: str = "alarm"
    layers: tuple[str, ...] = ()


def alarms(start: Start) -> tuple[list[Any], float]:
    """The verdicts that are alarms, and the seconds they took."""
    before = time.perf_counter()
    try:
        verdicts = ew.diagnose(start.model, start.example, start.loss).verdicts
    except Exception as error:  # a detector that falls over has named nothing, and the others are still to be judged
        verdicts = [Failure(f"{type(error).__name__}: {error}")]
    return [verdict for verdict in verdicts if verdict.severity == "alarm"], time.perf_counter() - before


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


def sound(net: Healthy) -> dict[str, Any]:
    """One row: the false alarms."""
    found, seconds = alarms(net.build())
    return {"network": net.name, "alarms": [line(verdict) for verdict in found], "seconds": seconds}


def counted(faults: list[dict[str, Any]], healthy: list[dict[str, Any]]) -> dict[str, int]:
    """Faults named, of how many; mended twins and healthy networks with an alarm, of how many."""
    counts = {"named": sum(row["named"] for row in faults), "faults": len(faults)}
    counts |= {"twins": sum(bool(row["twin"]) for row in faults)}
    return counts | {"healthy": sum(bool(row["alarms"]) for row in healthy), "networks": len(healthy)}


def counts_table(rows: Sequence[tuple[str, str, str, dict[str, int]]]) -> str:
    """One line for each time a corpus was run: (corpus, when, commit, counts)."""
    header = ["corpus", "run", "faults named", "twins with an alarm", "healthy networks with an alarm"]
    lines = []
    for corpus, when, commit, n in rows:
        named = f"{n['named']} of {n['faults']}"
        named = named if n["named"] >= TARGET * n["faults"] else f"**{named}**"
        twins, healthy = f"{n['twins']} of {n['faults']}", f"{n['healthy']} of {n['networks']}"
        lines.append([corpus, f"{when} ({commit})" if commit else when, named, twins, healthy])
    return harness.table(header, lines)


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
    "Each network has one fault; plain torch sees that it is there, and gone in its twin. A fault is **named** when an "
    "alarm has one of the expected kinds and names the place; at least {target:.0%} are asked for, and no alarm on "
    "mended twins and healthy networks. What the detector refuses or falls over is not named, or counts as an alarm."
)
SECONDS = "One diagnosis takes {seconds:.2f} s, the median over the networks with a fault."


def recorded_table() -> str:
    """What was counted at first sight, as data."""
    rows = [(r.corpus, r.when, f"corpus of commit {r.commit}", r._asdict()) for r in FIRST_SIGHT]
    return counts_table(rows)


def judged(corpus: Corpus, only: str) -> dict[str, Any]:
    """All rows of a corpus, and their counts; what went wrong is printed as it comes."""
    faults = [planted(fault) for fault in corpus.faults if only in fault.name]
    healthy = [sound(net) for net in corpus.healthy if only in net.name]
    for row in faults:
        if row["twin"] or not row["named"]:
            print(row["fault"], row["says"], row["others"], "twin:", row["twin"], file=sys.stderr)
    return {"counts": counted(faults, healthy), "faults": faults, "healthy": healthy}


def page(corpus: Corpus, found: dict[str, Any]) -> list[str]:
    """A corpus's part of the page: its counts, its faults, its healthy networks."""
    seconds = harness.quartiles([row["seconds"] for row in found["faults"] or found["healthy"]] or [0.0])[1]
    return [
        f"## The {corpus.name}, today",
        f"{corpus.text} {SECONDS.format(seconds=seconds)}",
        counts_table([(corpus.name, "today", "", found["counts"])]),
        planted_table(found["faults"]),
        sound_table(found["healthy"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="What diagnose says of planted faults, their mended twins and healthy networks: about 1 minute.",
    )
    parser.add_argument("--only", metavar="NAME", default="", help="entries whose name contains this")
    parser.add_argument("--corpus", choices=("first", "unseen", "ordinary"), help="one of the three; all if not given")
    parser.add_argument("--publish", action="store_true", help="write results/faults.md and .json; of all there is")
    options = parser.parse_args()
    if options.publish and (options.only or options.corpus):
        parser.error("--publish writes a page of all entries: leave out --only and --corpus")
    torch.set_num_threads(1)
    stamp = harness.stamp(["torch"], "each network from a generator of its own name")
    chosen = [corpus for corpus in CORPORA if corpus.name.startswith(options.corpus or "")]
    found = {corpus.name: judged(corpus, options.only) for corpus in chosen}
    parts = [TEXT.format(target=TARGET), "## At first sight, recorded at that time", recorded_table()]
    for corpus in chosen:
        parts += page(corpus, found[corpus.name])
    if options.publish:
        raw = {"recorded": [r._asdict() for r in FIRST_SIGHT], **found}
        harness.publish("faults", "Naming planted faults", parts, stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
