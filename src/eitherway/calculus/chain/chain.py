"""The chain way to a Jacobian: planned once from a captured run, evaluated often."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import inf

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.chain.algebra import Algebra, Tree, leaf
from eitherway.calculus.chain.bracketing import bracket, one_way
from eitherway.calculus.chain.explain import explain
from eitherway.calculus.chain.factors import Factor, Kind, Registers
from eitherway.calculus.chain.forward import holds_batch, run_steps
from eitherway.calculus.chain.kept import Kept
from eitherway.calculus.chain.layout import Setting
from eitherway.calculus.chain.links import chain
from eitherway.calculus.chain.operators import ChainOperator, operands
from eitherway.calculus.chain.prices import peak, price
from eitherway.calculus.chain.program import Program
from eitherway.calculus.cost import Cost
from eitherway.graph import Graph


def prepare(graph: Graph, *, batched: bool, memory: int | None = None) -> Chain:
    """Plans the Jacobian of a captured run as a product of local Jacobians.

    Args:
        graph: `capture(f, x)` with one floating-point input and one output.
        batched: whether the first axis of the input counts samples, each with a Jacobian of its own.
        memory: bytes that an evaluation may hold beside the parameters; batches are cut to stay below.

    Raises:
        ModelError: if the run cannot be repeated, mixes samples, is random, or one sample needs more memory.

    >>> from eitherway.graph import capture
    >>> f = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
    >>> x = torch.ones(5, 3)
    >>> prepare(capture(f, x), batched=True)(x).shape
    torch.Size([5, 2, 3])
    """
    return Chain(graph, batched, memory)


class Chain:
    """A planned Jacobian: call it with x for (p, q), or (B, p, q) of a batch.

    Attributes:
        optimal: whether the order is certainly the cheapest, by the costs it was planned with.
        p, q: rows and columns, of one sample.
    """

    def __init__(self, graph: Graph, batched: bool, memory: int | None):
        _usable(graph, batched)
        source = graph.values[graph.inputs[0]]
        self.graph = graph
        self.batched = batched
        self.shape = tuple(source.shape)
        self.setting = Setting(graph, self.shape[0] if batched else 0)
        self.inner = bool(self.setting.batch)
        self.samples = self.setting.samples
        self.algebra = Algebra(self.samples, self.inner)
        self.p = graph.values[graph.outputs[0]].numel // self.samples
        self.q = source.numel // self.samples
        self.links = chain(graph, self.setting, self.algebra)
        self.trees = [link.tree for link in self.links] if self.links else []
        self.plan, self.optimal = self._plan()
        self.chunk = self._chunk(memory)
        self.room = inf if memory is None else memory - self.cost.peak * (self.chunk or self.samples) / self.samples
        self._operate: Callable[[Tensor], Registers] | None = None
        self._places: list[int] = []

    # planning ------------------------------------------------------------------------------------------------------

    def _plan(self) -> tuple[Tree | None, bool]:
        if self.links is None:
            return None, True
        if not self.trees:
            same = Factor(Kind.IDENTITY, self.q, self.q, "the input itself", "identity", lambda r: 1.0, scalar=True)
            self.trees = [Tree(leaf(same), factor=same)]
        tree, exact = bracket(self.trees, self.algebra)
        self.algebra.finish(tree.form)  # a lone operator learns how it is made a matrix
        return tree, exact and all(link.optimal for link in self.links)

    def _chunk(self, memory: int | None) -> int | None:
        """Samples at a time; None for all."""
        if memory is None or self.cost.peak <= memory:
            return None
        fit = int(memory / (self.cost.peak / self.samples)) if self.inner else 0
        if fit < 1:
            each = self.cost.peak / self.samples
            raise ModelError(
                f"the chain needs {each / 1e6:.3g} MB for one sample, the budget is {memory / 1e6:.3g} MB; give it "
                "more, or take the operator form"
            )
        if self._fixed:
            raise ModelError(
                f"a batch cannot be cut to fit {memory / 1e6:.3g} MB: {self._fixed}; prepare a smaller one"
            )
        return fit

    @cached_property
    def _fixed(self) -> str:
        """Why other batch sizes than the captured one need a chain of their own; "" if they do not."""
        if not self.inner:
            return "it was captured with one sample"
        if any("opaque" in factor.structure for link in self.links or [] for factor in link.factors):
            return "it has operations without a rule"
        held = holds_batch(self.graph, self.setting)
        return f"{held.label} holds the batch size {self.samples}" if held is not None else ""

    @cached_property
    def cost(self) -> Cost:
        """What one evaluation of the plan is expected to take."""
        return self._cost(self.plan)

    @cached_property
    def cost_reverse(self) -> Cost:
        """The same factors multiplied from the output to the input."""
        return self._cost(one_way(self.trees, self.algebra, back=True) if self.plan is not None else None)

    @cached_property
    def cost_forward(self) -> Cost:
        """The same factors multiplied from the input to the output."""
        return self._cost(one_way(self.trees, self.algebra, back=False) if self.plan is not None else None)

    def _cost(self, tree: Tree | None) -> Cost:
        """The products of a tree and the run itself."""
        graph, size = self.graph, self.graph.values[self.graph.inputs[0]].dtype.itemsize
        run = sum(graph.values[i].numel for op in graph.ops for i in op.outputs)
        answer = float(self.samples * self.p * self.q)
        if tree is None:
            return Cost(elements=run + answer, calls=len(graph.ops), peak=answer * size)
        spent = price(tree, self.algebra)
        needed = max(peak(tree, self.algebra), answer) * size
        return Cost(spent.products, spent.elements + run, spent.calls + len(graph.ops) / 2, needed)

    def explain(self) -> str:
        """The bracketing, each factor with its structure, and what plan, forward and reverse are expected to take."""
        return explain(self)

    # evaluation ----------------------------------------------------------------------------------------------------

    def __call__(self, x: Tensor) -> Tensor:
        """The Jacobian at x: (p, q), or (B, p, q) of a batch.

        Raises:
            ModelError: for another shape than the chain was planned for; another number of samples is taken where no
                operation holds it.
        """
        x = self._taken(x)
        evaluate, answer, _ = self._compiled
        with torch.no_grad():
            if self.chunk is None or len(x) <= self.chunk:
                made = evaluate(x)[answer]
                return made[None] if self.batched and not self.inner else made
            out = x.new_empty(len(x), self.p, self.q)
            for part, rows in zip(x.split(self.chunk), out.split(self.chunk)):
                rows.copy_(evaluate(part)[answer])
            return out

    def operator(self, x: Tensor) -> ChainOperator:
        """The Jacobian at x with its last product not carried out: `@`, `.T`, `.dense()`.

        Raises:
            ModelError: as a call does.
        """
        x = self._taken(x)
        if self._operate is None:
            program = self._program()
            self._parts = operands(self.plan, self.trees, self.algebra) if self.plan is not None else []
            self._places = [program.content(t.factor) if t.factor else program.tree(t) for t in self._parts]
            self._operate = program.compile(self._places)
        with torch.no_grad():
            r = self._operate(x)
        contents = [r[i] for i in self._places]
        lead = (len(x),) if self.batched else ()
        return ChainOperator((*lead, self.p, self.q), self._parts, contents, self.inner, x)

    def _taken(self, x: Tensor) -> Tensor:
        given, expected = tuple(x.shape), self.shape
        if given != expected:
            if not self.batched or given[1:] != expected[1:]:
                raise ModelError(f"got x {given} for a chain planned for {expected}; prepare one for this shape")
            if self._fixed:
                raise ModelError(
                    f"got {given[0]} samples for a chain of {expected[0]}, and {self._fixed}; prepare again"
                )
        return x.detach()

    def _program(self) -> Program:
        graph = self.graph
        registers: Registers = [value.tensor if value.kind != "result" else None for value in self.setting.values]
        registers[graph.inputs[0]] = None
        program = Program(registers, graph.inputs[0], self.setting.batch)
        run_steps(graph, program, self.setting)
        return program

    @property
    def kept(self) -> Kept | None:
        """What evaluations keep from one to the next."""
        return self._compiled[2]

    @cached_property
    def _compiled(self) -> tuple[Callable[[Tensor], Registers], int, Kept | None]:
        """The evaluation, the register of its answer, and what it keeps."""
        program = self._program()
        if self.plan is None:
            p, q, source, inner = self.p, self.q, program.source, self.inner
            answer = program.add(lambda r: r[source].new_zeros(*((len(r[source]),) if inner else ()), p, q), (source,))
        else:
            answer = program.answer(self.plan)
        kept = program.keeping([answer], self.room)
        return program.compile([answer], kept), answer, kept


def _usable(graph: Graph, batched: bool) -> None:
    """Refuses what no chain can be made of, in a sentence."""
    if graph.opaque:
        raise ModelError(f"no chain can be made of a run that its graph does not tell: {graph.opaque}")
    if not graph.pure:
        note = next((n.text for n in graph.notes if n.kind == "inplace"), "it writes into memory that others see")
        raise ModelError(f"no chain can be made of a run that writes in place: {note}")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelError(
            f"a chain leads from one tensor to one tensor; this run has {len(graph.inputs)} inputs and "
            f"{len(graph.outputs)} outputs: take them one at a time"
        )
    source, target = (graph.values[i] for i in (graph.inputs[0], graph.outputs[0]))
    for value in (source, target):
        if not value.dtype.is_floating_point:
            raise ModelError(f"a chain is made of real numbers, but {value.name} holds {value.dtype}: give it floats")
    if batched and (not source.shape or not target.shape or source.shape[0] != target.shape[0]):
        raise ModelError(
            f"a batch goes from {tuple(source.shape)} to {tuple(target.shape)}: the first axes must agree for every "
            "sample to have a Jacobian; take it unbatched"
        )
