"""Which values every way from the inputs to the output passes through: the trunk of a model."""

from __future__ import annotations

from collections.abc import Iterable

from eitherway.graph import Graph

_PRIME = (1 << 61) - 1
"""Ways are counted modulo a prime: there are 2^100 of them through a hundred residual blocks."""


def trunk(graph: Graph, outputs: Iterable[int], starts: Iterable[int] | None = None) -> tuple[int, ...]:
    """Values that lie on all ways from the inputs to the outputs, in the order they were made.

    With `starts` the ways begin there. Only numbers that carry a signal count: masks and positions
    made from the inputs are no way of their own.
    """
    outputs = list(outputs)
    carries = [
        v.kind == "input" or (v.depends and (v.dtype.is_floating_point or v.dtype.is_complex)) for v in graph.values
    ]
    ahead = [0] * len(graph.values)
    begin = frozenset(graph.inputs if starts is None else starts)
    for i in begin:
        ahead[i] = 1
    for op in graph.ops:
        ways = sum(ahead[i] for i in op.inputs if carries[i]) % _PRIME
        for i in op.outputs:
            if carries[i] and i not in begin:
                ahead[i] = ways
    behind = [0] * len(graph.values)
    for i in outputs:
        behind[i] += 1
    for op in reversed(graph.ops):
        ways = sum(behind[i] for i in op.outputs if carries[i]) % _PRIME
        if ways:
            for i in op.inputs:
                if carries[i]:
                    behind[i] = (behind[i] + ways) % _PRIME
    total = sum(ahead[i] for i in outputs) % _PRIME
    if not total:
        return ()
    return tuple(v.index for v in graph.values if ahead[v.index] and ahead[v.index] * behind[v.index] % _PRIME == total)


def reached(graph: Graph, starts: Iterable[int]) -> set[int]:
    """Values that any of these have an effect on, themselves included."""
    found = set(starts)
    for op in graph.ops:
        if any(i in found for i in op.inputs):
            found.update(op.outputs)
    return found
