"""What several families ask of a way through the layers: where it grows most, and what makes it grow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eitherway.signal.diagnose.layers import Row
from eitherway.signal.diagnose.slopes import unit_theory
from eitherway.signal.diagnose.verdicts.parts import scheme_for


def widest(sizes: Sequence[float], *, falls: bool = False) -> tuple[int, int] | None:
    """The pair i < j of sizes with the largest rise of the logarithm, or fall; None where nothing rises.

    >>> widest([1.0, 0.5, 8.0, 2.0]), widest([1.0, 0.5, 8.0, 2.0], falls=True)
    ((1, 2), (2, 3))
    """
    best, pair = 0.0, None
    first: tuple[int, float] | None = None
    for j, size in enumerate(sizes):
        if not math.isfinite(size) or size <= 0:
            continue
        log = -math.log(size) if falls else math.log(size)
        if first is not None and log - first[1] > best:
            best, pair = log - first[1], (first[0], j)
        if first is None or log < first[1]:
            first = (j, log)
    return pair


def forward(row: Row) -> float | None:
    """Growth that theory gives a layer at unit scale: gain of the weights x sqrt(E phi^2); None where unknown."""
    if row.before is None or math.isnan(row.signal.weight_gain):
        return None
    known = unit_theory(row.before)
    return None if known is None else row.signal.weight_gain * math.sqrt(known.second)


def why(rows: Sequence[Row], each: float) -> tuple[str, str]:
    """The cause of a growth by `each` a layer, and its remedy."""
    excess = [(row, x) for row in rows if (x := forward(row)) is not None and x > 0]
    if not excess:
        return "the weights do not keep the size of what they read", "`initialize_(model, example)`"
    typical = math.exp(sum(math.log(x) for _, x in excess) / len(excess))
    row = excess[len(excess) // 2][0]
    text = row.before.text if row.before is not None and row.before.kind == "activation" else ""
    known = unit_theory(row.before) if row.before is not None else None
    after = f" after {text}" if text else ""
    mend = scheme_for(row.before)
    unstable = known is not None and known.stability > 1.02
    close = abs(math.log(typical)) < math.log(1.15)
    if not close and math.log(typical) * math.log(each) < 0:
        return _other(rows), "`initialize_(model, example)`"
    if not close and (not unstable or abs(math.log(typical)) > 0.5 * abs(math.log(each))):
        keeps = row.signal.weight_rms / max(forward(row) or 1.0, 1e-300)
        side = "large" if typical > 1 else "small"
        factor = typical if typical > 1 else 1 / typical
        return (
            f"weights of rms {row.signal.weight_rms:.3g}{after}, {factor:.3g} times too {side} "
            f"({keeps:.3g} keeps the signal)",
            "`initialize_(model, example)`" if len(rows) > 1 or not text else mend,
        )
    if unstable and known is not None:
        return f"{text}'s variance map is unstable here (Q' = {known.stability:.3g})", mend
    noise = "the weights keep the size on average, and what is left is the chance of a finite width"
    return noise, mend if text else "`initialize_(model, example)`"


def _other(rows: Sequence[Row]) -> str:
    """What makes a change that the weights would undo: biases, or what stands between the layers."""
    for row in rows:
        if row.bias > 0.5 * row.signal.rms:
            return f"the bias of {row.signal.name} has rms {row.bias:.3g}, as much as all it puts out"
    return "it comes from what stands between these layers: their weights do not make it"
