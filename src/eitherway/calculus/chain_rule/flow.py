"""What happens to a derivative on its way: where the product vanishes or explodes, and where it breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eitherway.calculus.chain_rule.links import Link

DECADES = 3.0
"""A stretch over which the product changes by this many powers of ten is worth a sentence."""
LAYERS = ("dense", "convolution", "outer product")
"""Structures that make a link the weights of a layer."""


@dataclass
class Stretch:
    """A run of rows along which the product from the left keeps falling or rising.

    Args:
        first, last: rows, in the order of computation; the product is followed from the last row to the first.
        before, after: |dC/dz| at the output's end of the stretch and at the input's end.
    """

    first: int
    last: int
    before: float
    after: float
    text: str

    @property
    def vanishes(self) -> bool:
        return self.after < self.before


def stretches(rows: Sequence[Link], top: float, output: str) -> list[Stretch]:
    """Where |dC/dz| falls or rises by powers of ten, most first; at most one of each.

    Args:
        rows: the chain in the order of computation.
        top: the norm of the output's derivative with respect to itself.
        output: what the output is called.
    """
    sizes = [*(row.backward for row in rows), top]  # sizes[k] is |dC/dz| before row k
    logs = [math.log10(s) if s > 0 and math.isfinite(s) else None for s in sizes]
    found = []
    for sign in (1, -1):
        best, high = (0.0, 0, 0), None
        for k in range(len(logs) - 1, -1, -1):
            level = logs[k]
            if level is None:
                high = None
                continue
            if high is None or sign * level >= sign * (logs[high] or 0.0):
                high = k
            drop = sign * ((logs[high] or 0.0) - level)
            if drop > best[0]:
                best = (drop, k, high)
        drop, low, high = best
        if drop >= DECADES:
            found.append(_stretch(rows, low, high, sizes[high], sizes[low], output))
    return sorted(found, key=lambda s: -abs(math.log(s.after / s.before)))


def _stretch(rows: Sequence[Link], low: int, high: int, before: float, after: float, output: str) -> Stretch:
    ratio, here = after / before, rows[low:high]
    steps = [math.log10(_ratio(row, rows, k + low, before, high)) for k, row in enumerate(here)]
    alone = max(range(len(here)), key=lambda k: abs(steps[k]))
    layers = sum(_is_layer(row) for row in here)
    verb = "shrinks" if ratio < 1 else "grows"
    moved = f"|d{output}/dz| {'falls' if ratio < 1 else 'rises'} from {before:.2g} to {after:.2g}"
    if len(here) == 1 or abs(steps[alone]) > 0.8 * abs(math.log10(ratio)):
        row, k = here[alone], alone + low
        return Stretch(low, high, before, after, f"link {k + 1} ({_who(row)}) alone {verb} the product: {moved}")
    count, unit = (layers, "layer") if layers > 1 else (len(here), "link")
    rate = ratio ** (1 / count)
    span = f"from link {high} ({_who(here[-1])}) back to link {low + 1} ({_who(here[0])})"
    return Stretch(low, high, before, after, f"{span} the product {verb} by {rate:.2g} a {unit}: {moved}")


def _ratio(row: Link, rows: Sequence[Link], k: int, before: float, high: int) -> float:
    left = before if k + 1 == high else rows[k + 1].backward
    return row.backward / left if left > 0 and row.backward > 0 else 1.0


def _is_layer(row: Link) -> bool:
    return any(part.structure.startswith(LAYERS) for part in row.parts or [row])


def _who(row: Link) -> str:
    """A short name: module and operation, or operation and line."""
    place = row.module or row.place.rpartition(", ")[2]
    return ", ".join(part for part in (place, row.operation) if part)


def breaks(links: Sequence[Link], finite: dict[int, bool]) -> None:
    """Names links at which the product from the left stops being finite though factor and product were.

    Args:
        links: all of them, in order.
        finite: by value, whether the product from the left that reaches it is.
    """
    for link in reversed(links):
        before, after = finite.get(link.made, True), finite.get(link.read, True)
        if before and not after and not link.broken:
            others = [k for k in links if k.read == link.read and k is not link]
            if not any(k.broken or not finite.get(k.made, True) for k in others):
                link.broken = "0 * inf: its factor is infinite where the product is 0"
