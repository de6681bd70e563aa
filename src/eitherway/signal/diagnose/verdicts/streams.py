"""Residual streams that grow by a factor a block, where theory has sums: 1 + 1/L a block over L of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.measure import rms
from eitherway.signal.diagnose.verdicts.parts import COMPOUND, ROOT, Found, found, ratio, times
from eitherway.signal.structure import Residual


def residual_sums(e: Evidence) -> Iterator[Found]:
    """Sums whose branches read the grown stream again: growth by a factor a block."""
    for adds in e.streams.values():
        if len(adds) < 2 or any(e.before_norm(r) for r in adds):
            continue
        first, last = e.run.tensors.get(adds[0].stream), e.run.tensors.get(adds[-1].output)
        if first is None or last is None:
            continue
        growth = ratio(rms(last), rms(first))
        # branches of the stream's own first size would add up to sqrt(L + 1): more is compound growth
        if not growth > max(ROOT, 3 * math.sqrt(len(adds) + 1)):
            continue
        layers = [e.names[i] for r in adds for i in (r.last or r.producers[-1:])]
        each = growth ** (1 / len(adds))
        yield found(
            "residual growth",
            "alarm",
            layers,
            f"the residual stream grows {times(each)} a block, {times(growth)} over {len(adds)} blocks",
            "each branch reads the sum unnormalised and adds as much again",
            "`initialize_(model, example, residual='sqrt')` scales the last weight of each branch by "
            f"1 / sqrt({len(adds)}); or normalise what a branch reads",
            at=adds[0].op,
            upto=adds[-1].op,
        )


def compounding(e: Evidence) -> Iterator[Found]:
    """Streams that grow by a factor a block though their branches read them through norms.

    Steps of one size add up to 1 + L times the first at most, so the second half of them doubles the stream at most; a
    factor a block is as much in the second half as in the first.
    """
    for adds in e.streams.values():
        if len(adds) < 4 or not any(e.before_norm(r) for r in adds):
            continue
        values = [*(r.stream for r in adds), adds[-1].output]
        sizes = [rms(e.run.tensors[i]) for i in values if i in e.run.tensors]
        if len(sizes) < len(values):
            continue
        growth = ratio(sizes[-1], sizes[0])
        middle = sizes[len(sizes) // 2]
        if not (growth > ROOT and ratio(sizes[-1], middle) > COMPOUND and ratio(middle, sizes[0]) > COMPOUND):
            continue
        between = [ratio(rms(e.run.tensors[b.stream]), rms(e.run.tensors[a.output])) for a, b in _neighbours(e, adds)]
        outside = math.prod(between)
        layers = [e.names[i] for r in adds for i in (r.last or r.producers[-1:])]
        cause = "each branch carries the stream itself, not what a norm has made of it alone"
        remedy = "let the branch add what is new: a norm before its first layer, and no product with the stream"
        if math.isfinite(outside) and math.log(max(outside, 1e-300)) > 0.5 * math.log(growth):
            cause = "between the blocks the stream is added to itself: a second skip around what has its own"
            remedy = "leave out the outer one: `x = layer(x)`"
        yield found(
            "residual growth",
            "alarm",
            layers,
            f"the residual stream grows {times(growth ** (1 / len(adds)))} a block, {times(growth)} over {len(adds)} "
            "blocks, and as fast at the end as at the start",
            cause,
            remedy,
            at=adds[0].op,
            upto=adds[-1].op,
        )


def _neighbours(e: Evidence, adds: list[Residual]) -> list[tuple[Residual, Residual]]:
    return [(a, b) for a, b in zip(adds, adds[1:]) if a.output in e.run.tensors]
