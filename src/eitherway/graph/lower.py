"""One lowering: the operations of a captured run taken apart into those of aten that autograd itself works with."""

from __future__ import annotations

from eitherway.graph.graph import Graph
from eitherway.graph.record import AtenLevel
from eitherway.graph.replay import Replay


def lower(graph: Graph) -> Graph:
    """The same run at the level of aten, computed once and kept with the graph.

    Composite operations (linear on batches, attention, recurrent cells, norms) appear as their parts, each with
    `parent`, the index of the operation it came from. Values are kept; views and in-place writes stand as they happen,
    so readers must follow storages (`Value.room`, `stride`, `offset`), or use `Op.functional` where it is given. A
    hand-written Function stays one operation.

    Raises:
        ModelError: if the graph is opaque.
    """
    found = graph.__dict__.get("_lowered")
    if found is None:
        found = AtenLevel.run(graph, Replay(graph, everything=True))
        graph.__dict__["_lowered"] = found
    return found
