"""A captured run as steps that can be run again, one alone or all, in double precision and without touching a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.graph import Graph, Op, Ref
from eitherway.graph.graph import tensors
from eitherway.graph.tape import storage_of

_CASTS = {"to", "_to_copy", "type_as", "type", "long", "int"}
_FREE = ("_like", "bernoulli", "multinomial", "normal", "poisson")
"""Operations whose draws are what is random, not their dependence on what they read."""


@dataclass(eq=False)
class Step:
    """One operation, or several that write into one memory, to be run again.

    Args:
        ops: the captured operations; nearly always one.
        reads, makes: indices of values.
        cut: no gradient passes.
    """

    ops: list[Op]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    cut: bool

    @property
    def op(self) -> Op:
        return self.ops[-1]

    @property
    def name(self) -> str:
        if len(self.ops) > 1:
            telling = [op.name for op in self.ops if op.mutates or op.cut]
            return f"{', '.join(dict.fromkeys(telling))} in place" if telling else "complex numbers"
        return self.op.name.rstrip("_") or self.op.name

    @property
    def whole_numbers(self) -> bool:
        """A cast, which is how a derivative is lost by accident; comparisons and indices are meant."""
        return self.op.name.rstrip("_") in _CASTS


class Program:
    """The steps of a run and all its values, promoted.

    Args:
        graph: captured with `keep=True`.
        dtype: of all floating-point numbers; None leaves each as it was.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype | None):
        self.graph, self.dtype = graph, dtype
        self.steps = _steps(graph)
        self.producer = {i: k for k, step in enumerate(self.steps) for i in step.makes}
        self.env: dict[int, Tensor] = {
            v.index: self.promote(v.tensor.detach())
            for v in graph.values
            if v.kind != "result" and v.tensor is not None
        }
        with torch.no_grad():
            for step in self.steps:
                if self.fixed(step):  # a draw is held as it fell
                    kept = {i: graph.values[i].tensor for i in step.makes}
                    self.env.update({i: self.promote(t.detach()) for i, t in kept.items() if t is not None})
                else:
                    self.env.update(zip(step.makes, self.run(step, self.env)))

    def promote(self, tensor: Tensor) -> Tensor:
        """To the program's precision, if it is a floating-point tensor."""
        if self.dtype is None or not tensor.is_floating_point():
            return tensor
        return tensor.to(self.dtype)

    def fixed(self, step: Step) -> bool:
        """Whether a step draws at random, or reads a shape at most: its values stay as they fell."""
        if len(step.ops) > 1:
            return not step.reads
        return step.op.random or not step.reads or step.op.name.startswith("new_") or step.op.name.endswith("_like")

    def run(self, step: Step, env: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        """What a step makes of the values in `env`, in the order of `Step.makes`."""
        inside: dict[int, Any] = {i: env[i] for i in step.reads}
        several = len(step.ops) > 1
        if several:  # they write: into copies of what was there before
            written = {i for op in step.ops for i in op.mutates}
            inside.update({i: inside[i].clone() for i in written if i in inside})
        for op in step.ops:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not op.cut):
                self._run(op, inside, own=several)
        return tuple(inside[i] for i in step.makes)

    def _run(self, op: Op, inside: dict[int, Any], *, own: bool) -> None:
        if op.random and own:  # a draw among writes is held, too
            kept = {i: self.graph.values[i].tensor for i in op.outputs}
            inside.update({i: self.promote(t.detach().clone()) for i, t in kept.items() if t is not None})
            return
        written = op.mutates and (own or op.functional is None)
        target = op.target if written else (op.functional or op.target)

        def value(leaf: Any) -> Any:
            if type(leaf) is Ref:
                found = inside[leaf.index]
                return found.clone() if written and not own and leaf.index in op.mutates else found
            if isinstance(leaf, torch.dtype) and self.dtype is not None and leaf.is_floating_point:
                return self.dtype
            return leaf

        args, kwargs = pytree.tree_map(value, (list(op.args), dict(op.kwargs)))
        answer = target(*args, **kwargs)
        for i, leaf in zip(op.outputs, tensors(answer)):
            inside[i] = leaf if own and op.mutates else self.promote(leaf)

    def alone(self, step: Step, read: int, made: int) -> Callable[[Tensor], Tensor]:
        """One value that a step makes as a function of one that it reads, all else held."""
        place = step.makes.index(made)
        others = {i: self.env[i] for i in step.reads}

        def f(z: Tensor) -> Tensor:
            return self.run(step, {**others, read: z})[place]

        return f

    def whole(self, source: int, output: int) -> Callable[[Tensor], Tensor]:
        """The output as a function of the source: the steps between them, one after the other."""
        steps = self.between({source}, output)

        def f(z: Tensor) -> Tensor:
            env = {**self.env, source: z}
            for step in steps:
                env.update(zip(step.makes, self.run(step, env)))
            return env[output]

        return f

    def between(self, sources: set[int], output: int) -> list[Step]:
        """The steps that the sources reach and the output needs, in order; draws are held, so they end a path."""
        reached = set(sources)
        after = []
        for step in self.steps:
            if reached.intersection(step.reads) and not self.fixed(step):
                reached.update(step.makes)
                after.append(step)
        needed, found = {output}, []
        for step in reversed(after):
            if needed.intersection(step.makes):
                needed.update(step.reads)
                found.append(step)
        return found[::-1]


def _steps(graph: Graph) -> list[Step]:
    """The operations one by one; those that write where others look, together with them."""
    if graph.opaque:
        raise ModelError(
            f"the links of this run cannot all be seen: {graph.opaque}; write that part as a torch.autograd.Function "
            "(one link), or leave it out"
        )
    for op in graph.ops:
        if op.random and not op.name.endswith(_FREE) and any(graph.values[i].differentiable for i in op.inputs):
            raise ModelError(
                f"{op.label} is random, so there is no one derivative; call .eval() on the model, or draw once before"
            )
    spans = _spans(graph)
    steps, at = [], 0
    while at < len(graph.ops):
        last = max((hi for lo, hi in spans if lo <= at <= hi), default=at)
        ops = graph.ops[at : last + 1]
        if last > at or ops[0].outputs:
            steps.append(_step(graph, ops))
        at = last + 1
    return steps


def _step(graph: Graph, ops: list[Op]) -> Step:
    if len(ops) == 1:
        return Step(ops, tuple(dict.fromkeys(ops[0].inputs)), ops[0].outputs, ops[0].cut)
    made = {i for op in ops for i in op.outputs}
    reads = tuple(dict.fromkeys(i for op in ops for i in op.inputs if i not in made))
    later = {i for op in graph.ops[ops[-1].index + 1 :] for i in op.inputs} | set(graph.outputs)
    written = {i for op in ops for i in op.mutates}
    makes = tuple(sorted((made | written) & later))
    return Step([op for op in ops if op.outputs], reads, makes, all(op.cut for op in ops if op.outputs))


def _spans(graph: Graph) -> list[tuple[int, int]]:
    """First and last operation of each stretch that must run together: writes that others see, complex numbers."""
    spans = []
    for op in graph.ops:
        for i in op.mutates if op.functional is None else ():
            value = graph.values[i]
            if value.kind == "result" and value.tensor is not None:
                room = storage_of(value.tensor)
                kin = [v for v in graph.values if v.tensor is not None and storage_of(v.tensor) == room]
                spans.append((min((v.producer for v in kin if v.producer is not None), default=op.index), op.index))
        if any(graph.values[i].dtype.is_complex for i in (*op.inputs, *op.outputs)):
            spans.append((op.index, op.index))
    complex_ones = [s for s in spans if s[0] == s[1]]
    if complex_ones:
        spans.append((complex_ones[0][0], complex_ones[-1][1]))
    merged: list[tuple[int, int]] = []
    for lo, hi in sorted(spans):
        if merged and lo <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return merged
