"""One tracer: a module or function, run once on real tensors, becomes a graph of operations.

Each operation knows its shapes, the names of the parameters it reads, the module it ran in and the line of the user's
code. Readers (Jacobians, chains, fusing, starts) live on the floors above and only read. Nothing here differentiates.
"""

from eitherway.graph.capture import capture
from eitherway.graph.graph import Graph, Note, Op, Ref, Value
from eitherway.graph.handwritten import recording
from eitherway.graph.lower import lower
from eitherway.graph.replay import Replay

__all__ = ["Graph", "Note", "Op", "Ref", "Replay", "Value", "capture", "lower", "recording"]
