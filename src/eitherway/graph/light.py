"""A capture that costs no arithmetic: the run of shapes and integers alone, on tensors without content."""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import Tensor

from eitherway.graph.graph import Graph


def lightly(again: Callable[[list[Tensor]], Graph]) -> Callable[[list[Tensor]], Graph]:
    """The same capture on tensors without content, which costs no arithmetic; on real ones where that fails.

    Not for what holds on to values: the graphs of such runs are for their shapes and integers.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    log = logging.getLogger("torch._subclasses.fake_tensor")

    def capture(tensors: list[Tensor]) -> Graph:
        silent = log.disabled
        log.disabled = True  # it reports each refused shape at length
        try:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                graph = again([mode.from_tensor(tensor) for tensor in tensors])
        except Exception:  # the model's own error, or an operation that needs content: the real run tells which
            return again(tensors)
        finally:
            log.disabled = silent
        if graph.opaque or any(v.kind == "constant" or v.index in graph.written for v in graph.values):
            return again(tensors)
        return graph

    return capture
