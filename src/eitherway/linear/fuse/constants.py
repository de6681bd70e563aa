"""What a run computes from its parameters alone: as the model would, and in float64 for the algebra."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.graph import Graph, Op, Ref
from eitherway.graph.graph import tensors
from eitherway.graph.sizes import Sizes

DOUBLED = {torch.float32: torch.float64, torch.float16: torch.float64, torch.bfloat16: torch.float64}
VIEWS = {"t", "transpose", "view", "permute", "numpy_T", "swapaxes", "unsqueeze", "squeeze", "reshape", "flatten"}


class Constants:
    """The values of a graph that no input reaches, found when they are asked for.

    A value is constant if its operation is neither random nor follows the sizes of the inputs, and all it reads is
    constant.
    """

    def __init__(self, graph: Graph, sizes: Sizes):
        self.graph = graph
        self.known: dict[int, bool] = {}
        self.sized = {op for op, _ in sizes.expressions}
        self._exact: dict[int, Tensor] = {}
        self._plain: dict[int, Tensor] = {}

    def __contains__(self, index: int) -> bool:
        found = self.known.get(index)
        if found is None:
            value = self.graph.values[index]
            found = not value.depends
            if found and value.producer is not None:
                op = self.graph.ops[value.producer]
                found = not op.random and op.index not in self.sized and all(i in self for i in op.inputs)
            self.known[index] = found
        return found

    def view(self, index: int) -> bool:
        """Whether it is a parameter or buffer, or only another look at one."""
        value = self.graph.values[index]
        if value.producer is None:
            return value.kind in ("parameter", "buffer")
        op = self.graph.ops[value.producer]
        return op.name in VIEWS and len(op.inputs) == 1 and self.view(op.inputs[0])

    def plain(self, index: int) -> Tensor:
        """The tensor as the model has it."""
        return self._find(index, self._plain, doubled=False)

    def exact(self, index: int) -> Tensor:
        """The same computed in float64; integers stay integers."""
        return self._find(index, self._exact, doubled=True)

    @torch.no_grad()
    def _find(self, index: int, known: dict[int, Tensor], *, doubled: bool) -> Tensor:
        if index not in known:
            value = self.graph.values[index]
            if value.producer is None:
                assert value.tensor is not None
                known[index] = exactly(value.tensor) if doubled else value.tensor
            else:
                op = self.graph.ops[value.producer]
                for i, tensor in zip(op.outputs, run(op, lambda i: self._find(i, known, doubled=doubled), doubled)):
                    known[i] = tensor
        return known[index]


def exactly(tensor: Tensor) -> Tensor:
    return tensor.detach().double() if tensor.is_floating_point() else tensor.detach()


def run(op: Op, value: Any, doubled: bool) -> list[Tensor]:
    """One operation on the tensors that `value` gives, without writing; in float64 where it names a smaller type."""

    def leaf(given: Any) -> Any:
        if type(given) is Ref:
            return value(given.index)
        return DOUBLED.get(given, given) if doubled and isinstance(given, torch.dtype) else given

    args, kwargs = pytree.tree_map(leaf, (op.args, op.kwargs))
    answer = (op.functional or op.target)(*args, **kwargs)
    return tensors(answer)
