"""Weights that read what they made themselves: one start serves every turn of a loop, so what is measured misleads."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from eitherway.signal.structure import Producer, Structure

Place = tuple[str, tuple[tuple[int | None, int | None], ...]]
"""A weight, or a part of it."""


@dataclass(frozen=True)
class Loops:
    """Uses of weights that lie behind other uses of the same weight: shared layers, recurrences, fixed points."""

    behind: frozenset[int]
    """Producers whose source depends on an earlier use of their own weight."""
    after: frozenset[int]
    """Producers whose source depends on one of those."""
    places: frozenset[Place]


def loops(structure: Structure, drawn: Set[int]) -> Loops:
    """Finds them. An embedding that is tied to a head reads rows by number, so it closes no loop.

    Args:
        drawn: producers whose weight is to be drawn; where a weight is kept, what it makes can be measured.
    """
    uses: dict[Place, int] = {}  # one bit for each use
    at: dict[int, list[Producer]] = {}
    for producer in structure.producers:
        if producer.index in drawn and producer.kind != "embedding":
            uses[place_of(producer)] = uses.get(place_of(producer), 0) | 1 << producer.index
            at.setdefault(producer.op, []).append(producer)
    uses = {place: bits for place, bits in uses.items() if bits & (bits - 1)}
    if not uses:
        return Loops(frozenset(), frozenset(), frozenset())
    made: dict[int, int] = {}
    above: dict[int, int] = {}
    repeated = 0
    for op in structure.graph.ops:
        bits = 0
        for value in op.inputs:
            bits |= made.get(value, 0)
        for producer in at.get(op.index, ()):
            for value in producer.sources:
                above[producer.index] = above.get(producer.index, 0) | made.get(value, 0)
            if above.get(producer.index, 0) & uses.get(place_of(producer), 0):
                repeated |= 1 << producer.index
            bits |= 1 << producer.index
        for value in op.outputs:
            made[value] = made.get(value, 0) | bits
    behind = {p.index: place_of(p) for p in structure.producers if repeated >> p.index & 1}
    after = frozenset(index for index, bits in above.items() if bits & repeated)
    return Loops(frozenset(behind), after, frozenset(behind.values()))


def place_of(producer: Producer) -> Place:
    return producer.name, tuple((part.start, part.stop) for part in producer.part)
