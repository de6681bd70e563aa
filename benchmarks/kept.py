"""Finished cells of a long benchmark, a line of JSON each, so that a run that was ended goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from benchmarks.harness import CACHE

C = TypeVar("C", bound=NamedTuple)


class Kept(Generic[C]):
    """What was measured of each cell, in memory and in `.cache/NAME.jsonl`.

    Args:
        name: of the file, without ending.
        kind: makes a cell of the values of its fields.
        version: of the code that measures a cell: what other code measured does not count.
        stale: it counts nevertheless.
    """

    def __init__(self, name: str, kind: Callable[..., C], version: Callable[[C], str], *, stale: bool = False) -> None:
        self.path, self.version = CACHE / f"{name}.jsonl", version
        self.cells: dict[C, dict[str, Any]] = {}
        self.old: set[C] = set()
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            entry = json.loads(line)
            cell = kind(*entry["cell"])
            new = entry["version"] == version(cell)
            if new or (stale and (cell in self.old or cell not in self.cells)):
                self.cells[cell] = entry["measured"]
                (self.old.discard if new else self.old.add)(cell)

    def add(self, cell: C, measured: dict[str, Any]) -> None:
        """Keeps a cell, on disk at once."""
        self.cells[cell] = measured
        self.old.discard(cell)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:  # a line at once: two processes may work on different cells
            file.write(json.dumps({"cell": cell, "version": self.version(cell), "measured": measured}) + "\n")

    def confession(self) -> list[str]:
        """A paragraph for the page if cells of other versions of the code count, else nothing."""
        if not self.old:
            return []
        share = f"{len(self.old)} of {len(self.cells)}"
        return [f"**To be run again**: {share} cells were measured with earlier versions of the code."]
