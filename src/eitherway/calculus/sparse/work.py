"""How much a run does, counted from its graph: what a sparse evaluation is expected to cost."""

from __future__ import annotations

from dataclasses import dataclass

from eitherway.calculus.cost import Cost
from eitherway.graph import Graph, lower

BACKWARD = 2.0
"""A backward pass does about twice what the run did; a tangent about as much as the run, twice."""
BATCHED = 4.0
"""Calls that vmap makes of one."""


@dataclass(frozen=True)
class Work:
    """One run of a function."""

    calls: int
    products: float
    elements: float
    bytes_a_seed: float
    """What one more seed holds while it passes through."""

    def cost(self, seeds: int, entries: int, chunk: int, *, forward: bool) -> Cost:
        """Of the products with `seeds`, `chunk` at a time, and of the `entries` picked from them."""
        turns = -(-max(seeds, 1) // max(chunk, 1))
        calls = (
            self.calls * (1 + BACKWARD * BATCHED) * turns if forward else self.calls * (1 + BACKWARD * BATCHED * turns)
        )
        return Cost(
            products=self.products * (1 + BACKWARD * seeds),
            elements=self.elements * (1 + BACKWARD * seeds) + 3 * entries,
            calls=calls + 4,
            peak=self.bytes_a_seed * (min(chunk, seeds) + 1) + 24 * entries,
        )


def work(graph: Graph) -> Work:
    """Counts a captured run."""
    lowered = lower(graph)
    values = lowered.values
    products = elements = held = 0.0
    for op in lowered.ops:
        size = sum(values[i].numel for i in op.outputs)
        copied = sum(values[i].numel for i in op.outputs if values[i].room not in {values[j].room for j in op.inputs})
        elements += copied + (size if op.mutates else 0)
        held += sum(values[i].numel * values[i].dtype.itemsize for i in op.outputs if values[i].depends)
        shapes = [values[i].shape for i in op.inputs]
        if "convolution" in op.name and len(shapes) > 1:
            products += size * shapes[1].numel() / max(values[op.outputs[0]].shape[1], 1)
        elif op.name in ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "matmul"):
            left = shapes[1] if op.name.startswith(("add", "badd")) else shapes[0]
            products += size * left[-1]
    ends = sum(values[i].numel * values[i].dtype.itemsize for i in (*lowered.inputs, *lowered.outputs))
    return Work(len(lowered.ops), products, elements, 1.5 * held + ends)
