"""The run itself as steps of a program: every operation of the graph that the answer needs, with today's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.calculus.chain.factors import Registers
from eitherway.calculus.chain.images import conv_transpose2d
from eitherway.calculus.chain.layout import Setting, harmless
from eitherway.calculus.chain.program import Program
from eitherway.graph import Graph, Op, Ref
from eitherway.graph.graph import substitute


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's function of this name, which would make a row of a lone vector and a vector of that again."""
    if bias is not None and x.dim() == 1 and weight.dim() == 2:
        return torch.addmv(bias, weight, x)
    return torch.nn.functional.linear(x, weight, bias)


QUICK: dict[str, Callable[..., Any]] = {
    name: getattr(torch, name)
    for name in ("relu", "tanh", "sigmoid", "exp", "sin", "cos", "sqrt", "conv1d", "conv2d", "conv3d", "add", "mul",
                 "sub", "matmul", "bmm", "mm", "addmm", "softmax", "log_softmax", "flatten", "transpose", "permute",
                 "reshape", "layer_norm", "batch_norm", "group_norm")
} | {
    "linear": linear, "gelu": torch.nn.functional.gelu, "conv_transpose2d": conv_transpose2d
}  # fmt: skip
"""torch's own doors, a third cheaper to enter than the operations themselves; and two that are quicker inside."""


def run_steps(graph: Graph, program: Program, s: Setting) -> None:
    """Adds the run to a program whose first registers are the values of its setting."""
    wanted = set(graph.needed)
    more = [j for guard in graph.guards for j in graph.ops[guard].inputs]
    wanted |= set(graph.guards)
    while more:
        producer = graph.values[more.pop()].producer
        if producer is not None and producer not in wanted:
            wanted.add(producer)
            more += graph.ops[producer].inputs
    for op in graph.ops:
        if op.index in wanted:
            _step(graph, program, op)
            for index, make, reads in s.extras.get(op.index, ()):
                program.add(make, reads, register=index)


def _step(graph: Graph, program: Program, op: Op) -> None:
    call = _call(op)
    if not op.outputs:
        program.add(_guard(graph, op, call), op.inputs, always=op.index in graph.guards)
    elif type(op.structure) is Ref:
        program.add(call, op.inputs, register=op.outputs[0])
    else:
        whole = program.add(call, op.inputs)

        flat = program.add(lambda r: [t for t in pytree.tree_leaves(r[whole]) if isinstance(t, Tensor)], (whole,))
        for at, index in enumerate(op.outputs):
            program.add(lambda r, at=at: r[flat][at], (flat,), register=index)


def _call(op: Op) -> Callable[[Registers], Any]:
    """The operation on registers."""
    target: Callable[..., Any] = op.functional or op.target
    if (
        not op.mutates
        and not op.custom
        and getattr(op.target, "_overloadname", "") in ("default", "int", "Tensor", "input")
    ):
        target = QUICK.get(op.name, target)
    args, kwargs = harmless(op), op.kwargs
    flat = all(not isinstance(a, (list, tuple, dict)) or _free(a) for a in (*args, *kwargs.values()))
    if not flat or any(type(a) is Ref for a in kwargs.values()):
        return lambda r: target(*substitute(list(args), r.__getitem__), **substitute(kwargs, r.__getitem__))
    places = [a.index if type(a) is Ref else -1 for a in args]
    if kwargs:
        return lambda r: target(*[r[i] if i >= 0 else a for i, a in zip(places, args)], **kwargs)
    if places and all(i >= 0 for i in places):
        if len(places) == 1:
            (i,) = places
            return lambda r: target(r[i])
        if len(places) == 2:
            i, j = places
            return lambda r: target(r[i], r[j])
        if len(places) == 3:
            i, j, k = places
            return lambda r: target(r[i], r[j], r[k])
    if places and places[0] >= 0 and all(i < 0 for i in places[1:]):
        i, rest = places[0], args[1:]
        return lambda r: target(r[i], *rest)
    return lambda r: target(*[r[i] if i >= 0 else a for i, a in zip(places, args)])


def _free(tree: Any) -> bool:
    return not any(type(leaf) is Ref for leaf in pytree.tree_leaves(tree))


def _guard(graph: Graph, op: Op, call: Callable[[Registers], Any]) -> Callable[[Registers], Any]:
    """An operation that answers a Python number: where that depends on the input it must be the number of the run."""
    if op.index not in graph.guards:
        return call
    expected = graph.scalars[op.index]

    def check(r: Registers) -> None:
        answer = call(r)
        if answer != expected:
            raise ModelError(
                f"a branch would be taken differently here: {op.label} answered {expected!r} when the chain was "
                f"planned and {answer!r} now; prepare it again at this input"
            )

    return check


def contents(s: Setting) -> list[Any]:
    """All values of the captured run, made again when a rule must look at them."""
    if s.content is None:
        source = s.graph.values[s.graph.inputs[0]]
        registers: Registers = [value.tensor if value.kind != "result" else None for value in s.values]
        program = Program(registers, source.index, s.batch)
        run_steps(s.graph, program, s)
        assert source.tensor is not None
        with torch.no_grad():
            s.content = program.compile(range(len(registers)))(source.tensor)
    return s.content


def holds_batch(graph: Graph, s: Setting) -> Op | None:
    """The first operation whose plain arguments hold the number of samples, so that another number would not pass."""
    for op in graph.ops:
        if op.index not in graph.needed or op.name not in _SIZED:
            continue
        out = op.outputs[0]
        sizes = next((a for a in op.args[1:] if isinstance(a, (list, tuple))), None)
        if sizes is None or not any(i in s.layouts for i in op.outputs):
            continue
        axis = s.axis(out)
        at = axis - (len(graph.values[out].shape) - len(sizes))
        if op.name == "unflatten":
            at = axis - op.args[1] % len(graph.values[op.inputs[0]].shape)
        if 0 <= at < len(sizes) and sizes[at] != -1 and not (op.name == "repeat" and sizes[at] == 1):
            return op
    for op in graph.ops:  # a constant with a row for each sample
        if any(i in s.layouts for i in op.outputs):
            for i in op.inputs:
                value = graph.values[i]
                shape = graph.values[op.outputs[0]].shape
                outside = i not in s.layouts and value.kind != "parameter" and len(value.shape) == len(shape)
                if outside and value.shape[s.axis(op.outputs[0])] == s.batch and not value.depends:
                    return op
    return None


_SIZED = {"view", "reshape", "expand", "_unsafe_view", "unflatten", "repeat", "broadcast_to", "zeros", "ones"}
