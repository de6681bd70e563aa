"""Values without signal from which weights are computed: parametrisations, low-rank corrections."""

from __future__ import annotations

from eitherway.graph import Graph
from eitherway.signal.structure.names import MOVES, PRODUCTS_OF_MATRICES, SHAPE_ONLY, WEIGHT_SLOTS, plain


def weightlike(graph: Graph) -> set[int]:
    """Values without signal from which a weight is computed: what makes them are no producers.

    The weight of a linear layer is known by its place; a product of matrices has none, so of two operands the weight is
    the one that no signal reaches, layers that read a table (learned queries) being signal, too.
    """
    live = set(graph.inputs)
    _spread(graph, live)
    found: set[int] = set()
    for op in reversed(graph.ops):
        name, alive = plain(op), any(i in live for i in op.inputs)
        if not alive and any(i in found for i in op.outputs):
            found.update(op.inputs)
        elif name in WEIGHT_SLOTS or name == "linear":
            found.update(i for i in op.inputs[1:] if i not in live)
            if name.startswith("embedding"):
                found.update(op.inputs[:1])
    for op in graph.ops:
        if (plain(op) in WEIGHT_SLOTS or plain(op) == "linear") and not any(i in found for i in op.outputs):
            live.update(op.outputs)
    _spread(graph, live)
    for op in reversed(graph.ops):
        alive = any(i in live for i in op.inputs)
        if not alive and any(i in found for i in op.outputs):
            found.update(op.inputs)
        elif alive and plain(op) in PRODUCTS_OF_MATRICES:
            found.update(i for i in op.inputs if i not in live)
    return found


def _spread(graph: Graph, live: set[int]) -> None:
    """Adds what is computed from live values."""
    for op in graph.ops:
        if plain(op) not in SHAPE_ONLY and any(i in live for i in op.inputs):
            live.update(op.outputs)


def tables(graph: Graph, weights: set[int]) -> set[int]:
    """Parameters that a layer reads as its data, through moves alone: learned queries, latents.

    Args:
        weights: of `weightlike`.
    """
    found = set()
    for op in graph.ops:
        name = plain(op)
        if not op.inputs or (op.outputs[:1] and op.outputs[0] in weights):
            continue
        if (name in WEIGHT_SLOTS and not name.startswith("embedding")) or name == "linear":
            value = op.inputs[0]
            maker = graph.values[value].producer
            while maker is not None and plain(graph.ops[maker]) in MOVES:
                value = graph.ops[maker].inputs[0]
                maker = graph.values[value].producer
            if graph.values[value].kind == "parameter" and value not in weights:
                found.add(value)
    return found
