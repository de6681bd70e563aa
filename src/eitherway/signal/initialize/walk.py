"""The captured run once more, operation by operation, on other parameters: they may change while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from eitherway.graph import Graph, Op
from eitherway.graph.chance import chance_seeded
from eitherway.graph.graph import substitute
from eitherway.graph.replay import at_rest

Visit = Callable[[Op, "Walk"], None]


class Walk:
    """Runs a graph on the inputs it was captured with.

    Unlike `graph.Replay` it hands over to the caller before and after operations, takes other tensors in place of the
    parameters, also in the middle of the run, and never asks whether a branch would be taken otherwise.

    Args:
        graph: of `capture`.
        parameters: tensors to stand for parameters, by name.
        held: values to keep to the end; others are dropped after their last use.
    """

    def __init__(self, graph: Graph, parameters: Mapping[str, Tensor], held: frozenset[int] = frozenset()):
        self.graph = graph
        self.pure = graph.pure
        self.at: dict[str, int] = {}
        self.env: dict[int, Any] = {}
        for value in graph.values:
            if value.kind != "result" and value.tensor is not None:
                tensor = value.tensor.detach()
                if value.kind == "parameter":
                    self.at[value.name] = value.index
                    tensor = parameters.get(value.name, tensor)
                if value.index in graph.written or not self.pure:  # written into, perhaps through a view
                    tensor = tensor.clone()
                self.env[value.index] = tensor
        self.held = held | set(graph.outputs)
        self.static = [op for op in graph.ops if not op.random and not any(graph.values[i].depends for i in op.inputs)]

    def run(
        self, before: Visit | None = None, after: Visit | None = None, *, only: frozenset[int] = frozenset()
    ) -> None:
        """Goes from the first operation to the last.

        Args:
            before: called before each operation of `only`, when all that it reads stands in `env`.
            after: called after it.
            only: indices of the operations to stop at.
        """
        users = self.graph.users
        last = [max(found, default=-1) for found in users]
        with chance_seeded():
            for op in self.graph.ops:
                if before is not None and op.index in only:
                    before(op, self)
                self.do(op)
                if after is not None and op.index in only:
                    after(op, self)
                for i in (*op.inputs, *op.outputs):
                    if last[i] <= op.index and i not in self.held and self.graph.values[i].depends:
                        self.env.pop(i, None)

    def do(self, op: Op) -> None:
        """Runs one operation and files its answer."""
        step = at_rest(op)
        target = op.functional if self.pure and op.functional is not None else op.target
        args, kwargs = substitute(list(step.args), self._value), substitute(step.kwargs, self._value)
        with torch.no_grad() if op.cut else nullcontext():
            answer = target(*args, **kwargs)
        step.file(answer, self.env)

    def replace(self, name: str, tensor: Tensor, until: int) -> None:
        """Puts another tensor in a parameter's place.

        What was computed from parameters alone, such as a transposed or joined weight, is computed again.

        Args:
            until: the operation that is about to run.
        """
        start = self.at[name]
        self.env[start] = tensor.clone() if start in self.graph.written or not self.pure else tensor
        stale = {start}
        for op in self.static:
            if op.index < until and stale.intersection(op.inputs):
                self.do(op)
                stale.update(op.outputs)

    def _value(self, index: int) -> Any:
        return self.env[index]
