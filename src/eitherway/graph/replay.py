"""A captured run, repeated on other inputs: the same operations in the same order, with today's parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.graph.graph import Graph, Op, Ref, substitute, tensors


def at_rest(op: Op) -> Op:
    """A norm in training mode without the running statistics that it would move: its answer does not read them."""
    if op.name not in ("batch_norm", "instance_norm") or len(op.args) < 6 or op.args[5] is not True:
        return op
    return replace(op, args=(*op.args[:3], None, None, *op.args[5:]))


class Replay:
    """Runs a graph again. Made once, called often: what each call must look up is found here.

    Operations that write in place run without the write where the graph is pure; otherwise they run as they were
    recorded, in order, on copies of what came from outside. A branch that depended on a value is checked: at other
    values the run might go another way.

    Args:
        graph: of `capture`.
        wanted: values to return; the outputs if None.
        everything: run operations that no wanted value needs, too.
    """

    def __init__(self, graph: Graph, wanted: Sequence[int] | None = None, *, everything: bool = False):
        if graph.opaque:
            raise ModelError(f"the run cannot be repeated from its graph: {graph.opaque}")
        self.graph = graph
        self.wanted = list(graph.outputs if wanted is None else wanted)
        self.pure = graph.pure
        self.guards = frozenset(graph.guards)
        whole = everything or not self.pure
        needed = range(len(graph.ops)) if whole else graph.behind(self.wanted, graph.guards)
        self.steps = [self._step(op) for op in graph.ops if op.index in needed]
        live = set(self.wanted) | set(graph.inputs)
        self.constants: dict[int, Tensor] = {
            value.index: value.tensor for value in graph.values if value.kind != "result" and value.tensor is not None
        }
        for i in graph.inputs:
            self.constants.pop(i, None)
        self.last = self._last_uses(live)

    def _step(self, op: Op) -> tuple[Op, Callable[..., Any], bool]:
        target = op.functional if self.pure and op.functional is not None else op.target
        op = at_rest(op)
        flat = all(not isinstance(a, (list, tuple, dict)) for a in (*op.args, *op.kwargs.values()))
        return op, target, flat

    def _last_uses(self, live: set[int]) -> list[list[int]]:
        """After each step the results that nobody reads any more."""
        seen, after = set(live), []
        for op, _, _ in reversed(self.steps):
            gone = [i for i in (*op.inputs, *op.outputs) if i not in seen and self.graph.values[i].kind == "result"]
            seen.update(gone)
            after.append(list(dict.fromkeys(gone)))
        return after[::-1]

    def __call__(self, *inputs: Tensor, keep: bool = False) -> dict[int, Any]:
        """The values of this run by index: the wanted ones, or all with `keep`.

        Args:
            inputs: as many as the graph has, in order.
            keep: hold on to every value on the way.

        Raises:
            ModelError: if a branch would be taken differently at these inputs.
        """
        graph = self.graph
        if len(inputs) != len(graph.inputs):
            raise ModelError(f"got {len(inputs)} tensors for a run that was captured with {len(graph.inputs)}")
        env: dict[int, Any] = dict(self.constants)
        env.update(zip(graph.inputs, inputs))
        if not self.pure:
            env.update({i: env[i].clone() for i in graph.written if i in env})
        for (op, target, flat), gone in zip(self.steps, self.last):
            answer = self._answer(op, target, flat, env)
            if op.index in self.guards:
                self._guard(op, answer)
            op.file(answer, env)
            if not keep:
                for i in gone:
                    env.pop(i, None)
        return env

    def _answer(self, op: Op, target: Callable[..., Any], flat: bool, env: dict[int, Any]) -> Any:
        if flat:
            args = [env[a.index] if type(a) is Ref else a for a in op.args]
            kwargs = (
                {k: env[a.index] if type(a) is Ref else a for k, a in op.kwargs.items()} if op.kwargs else op.kwargs
            )
        else:
            args, kwargs = substitute(list(op.args), env.__getitem__), substitute(op.kwargs, env.__getitem__)
        if op.cut:
            with torch.no_grad():
                return target(*args, **kwargs)
        return target(*args, **kwargs)

    def _guard(self, op: Op, answer: Any) -> None:
        if op.outputs:
            expected: Any = [tuple(self.graph.values[i].shape) for i in op.outputs]
            answer = [tuple(tensor.shape) for tensor in tensors(answer)]
        else:
            expected = self.graph.scalars.get(op.index)
        if answer != expected:
            raise ModelError(
                f"the run depends on a value: {op.label} answered {expected!r} when it was captured and {answer!r} "
                "now; capture it again at these inputs"
            )
