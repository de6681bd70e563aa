"""Inputs that meet: one of them may be forgotten on its way to the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.layers import Row
from eitherway.signal.diagnose.measure import norm
from eitherway.signal.diagnose.verdicts.parts import THOUSAND, Found, found, many


def forgotten(e: Evidence) -> Iterator[Found]:
    """An input whose layers move the answer a thousandth as far as those of its sibling do, for the same share.

    What counts is the product of a layer's output and its gradient: how far the answer goes when the output changes by
    a share of itself. The best layer speaks for its input. Exact zeros are walls or meant, and branches with a
    learned scale (LayerScale, ReZero) are meant to begin small.
    """
    only, scaled = _only(e), _scaled(e)
    best: dict[int, float] = {}
    rows: dict[int, list[Row]] = {}
    for row in e.rows:
        slope, value = e.by_value.get(row.producer.output), row.producer.output
        if slope is None or value not in only or row.producer.op in scaled:
            continue
        moved = norm(slope) * row.samples.deviation * math.sqrt(slope.numel())
        if math.isfinite(moved) and moved > 0:
            best[only[value]] = max(best.get(only[value], 0.0), moved)
            rows.setdefault(only[value], []).append(row)
    if len(best) < 2:
        return
    most = max(best, key=lambda i: best[i])
    for value, moved in best.items():
        if best[most] < THOUSAND * moved:
            continue
        layers = [row.signal.name for row in rows[value]]
        meeting = next((row.signal.name for row in e.rows if row.signal.op > rows[value][-1].signal.op), "the answer")
        yield found(
            "vanishing gradient",
            "alarm",
            layers,
            f"the answer forgets {e.graph.values[value].name}: what {many(layers)} put out moves it "
            f"{best[most] / moved:.3g} times less than {many([r.signal.name for r in rows[most]])} do with "
            f"{e.graph.values[most].name}",
            f"it is lost after them, from {meeting} on",
            "a way that keeps it: orthogonal or gated recurrence, the input given again at each step, or a skip",
            at=rows[value][0].signal.op,
            upto=rows[value][-1].signal.op,
        )


def _only(e: Evidence) -> dict[int, int]:
    """Values that are made of one input alone, and which."""
    from_: dict[int, frozenset[int]] = {i: frozenset((i,)) for i in e.graph.inputs}
    for op in e.graph.ops:
        made = frozenset().union(*(from_.get(i, frozenset()) for i in op.inputs))
        for i in op.outputs:
            from_[i] = made
    return {value: next(iter(made)) for value, made in from_.items() if len(made) == 1}


def _scaled(e: Evidence) -> set[int]:
    """Operations that enter a stream by a branch with a scale of its own, and by nothing else."""
    found: set[int] = set()
    for r in e.structure.residuals:
        if r.scale is not None:
            found |= e.graph.behind([r.branch]) - e.graph.behind([r.stream])
    return found
