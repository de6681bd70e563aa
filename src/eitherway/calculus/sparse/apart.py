"""Operations that no rule covers, taken apart by torch's own tables of decompositions."""

from __future__ import annotations

import torch
from torch import Tensor

from eitherway.graph import Graph, Op, Value
from eitherway.graph.graph import substitute, tensors
from eitherway.graph.kernels import plain_kernels
from eitherway.graph.record import AtenLevel
from eitherway.graph.tape import Tape


def taken_apart(op: Op, values: list[Value]) -> Graph | None:
    """The operation as smaller ones, run on the tensors it was run on; None where torch's tables do not know it.

    Args:
        op: writes into nothing.
        values: of the graph that it stands in.
    """
    from torch._decomp import decomposition_table

    parts = decomposition_table.get(op.target)
    if parts is None or op.mutates or op.random:
        return None

    def tensor(index: int) -> Tensor:
        found = values[index].tensor
        assert found is not None
        return found

    mode = AtenLevel(Tape("aten"))
    mode.op = op
    args, kwargs = substitute(list(op.args), tensor), substitute(op.kwargs, tensor)
    try:
        with torch.no_grad(), plain_kernels(), mode:
            answer = parts(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, AssertionError):
        return None
    made = tensors(answer)
    if [leaf.shape for leaf in made] != [values[i].shape for i in op.outputs]:
        return None
    return mode.tape.graph([], ((), {}), made, keep=True)
