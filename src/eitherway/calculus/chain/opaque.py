"""Operations without a rule: their local Jacobians are known by autograd's two products alone."""

from __future__ import annotations

import warnings
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.calculus.chain.factors import Factor, Registers, operator
from eitherway.calculus.chain.forward import contents
from eitherway.calculus.chain.layout import Layout, Setting, mixes
from eitherway.calculus.chain.rules import Edge
from eitherway.graph import Op
from eitherway.graph.graph import refs

_PYTHON_ERRORS = (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError)


def opaque(ops: list[Op], source: int, target: int, s: Setting) -> Factor:
    """The local Jacobian of a run of operations from one value to another, all else held fixed.

    Pulled back by autograd, hand-written backwards as they are; pushed forward by `torch.func.jvp` where there is one.
    """
    first = ops[0] if len(ops) == 1 else ops[-1]
    dependent = {source}
    for op in ops:
        if any(i in dependent for i in op.inputs):
            dependent.update(op.outputs)

    def run(leaf: Tensor, r: Registers, start: int = source) -> Tensor:
        env: dict[int, Any] = {start: leaf}

        def lookup(j: int) -> Any:
            return env[j] if j in env else r[j]

        for op in ops:
            args, kwargs = s.arguments(op, lookup)
            call = op.functional or op.target
            if op.cut:
                with torch.no_grad():
                    answer = call(*args, **kwargs)
            else:
                answer = call(*args, **kwargs)
            for index, tensor in zip(op.outputs, _tensors(answer)):
                env[index] = tensor
        return env[target]

    outside = {j for op in ops for j in refs([list(op.args), op.kwargs])} - {j for op in ops for j in op.outputs}

    def make(r: Registers) -> tuple[Tensor, Tensor, Registers]:
        frozen = {j: r[j].detach() if isinstance(r[j], Tensor) else r[j] for j in outside}
        with torch.enable_grad():
            leaf = r[source].detach().requires_grad_()
            y = run(leaf.view_as(leaf), frozen)  # type: ignore[arg-type]
        return leaf, y, frozen  # type: ignore[return-value]

    def pull(content: Any, stack: Tensor) -> Tensor:
        leaf, y, _ = content
        g = s.whole(stack, target).to(y.dtype)
        if not y.requires_grad:
            return s.stack(g.new_zeros(len(g), *leaf.shape), source)
        return s.stack(_pulled(y, leaf, g), source)

    def push(content: Any, stack: Tensor) -> Tensor:
        leaf, _, frozen = content
        if custom:  # a hand-written backward has no forward: the matrix, row by row
            unit = torch.eye(m, dtype=stack.dtype, device=stack.device)
            return torch.matmul(stack, pull(content, unit).mT)
        v = s.whole(stack, source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what torch imports for it the first time
            return s.stack(pushed(leaf.detach(), frozen, v), target)

    def pushed(x: Tensor, frozen: Registers, v: Tensor) -> Tensor:
        return vmap(lambda t: jvp(lambda z: run(z, frozen), (x,), (t,))[1])(v)

    custom = any(op.custom for op in ops)
    n, m = s.size(source), s.size(target)
    label = first.label if len(ops) == 1 else f"{len(ops)} operations up to {first.label}"
    width = sum(s.value(i).numel for op in ops for i in op.outputs) / s.samples
    weights = sum(s.value(i).numel for i in outside if s.value(i).kind == "parameter")
    made = operator(
        label, m, n, "opaque: " + ", ".join(op.name for op in ops[:4]) + (", ..." if len(ops) > 4 else ""), make, pull,
        push, varying=bool(s.batch), products=2.0 * weights + 20.0 * m, elements=4.0 * width + n + m,
        calls=20.0 + 15.0 * len(ops), push_slower=inf if custom else 3.0,
    )  # fmt: skip
    made.reads = (source, *outside)
    made.aliases = True
    return made


def _pulled(y: Tensor, leaf: Tensor, g: Tensor) -> Tensor:
    if len(g) > 1:
        try:
            (found,) = torch.autograd.grad(y, leaf, g, retain_graph=True, is_grads_batched=True, allow_unused=True)
            return g.new_zeros(len(g), *leaf.shape) if found is None else found
        except _PYTHON_ERRORS:
            pass  # a hand-written backward need not bear vmap
    rows = [torch.autograd.grad(y, leaf, row, retain_graph=True, allow_unused=True)[0] for row in g]
    return torch.stack([torch.zeros_like(leaf) if row is None else row for row in rows])


def _tensors(answer: Any) -> list[Tensor]:
    if isinstance(answer, Tensor):
        return [answer]
    return [leaf for leaf in pytree.tree_leaves(answer) if isinstance(leaf, Tensor)]


def edges(op: Op, s: Setting) -> list[Edge]:
    """The edges of one operation that no rule knows; where the samples lie is found by asking its backward.

    Raises:
        ModelError: if it mixes samples, or cannot be differentiated.
    """
    found = []
    for i in dict.fromkeys(i for i in op.inputs if i in s.layouts):
        for out in op.outputs:
            value = s.value(out)
            if not value.differentiable:
                continue
            if value.dtype.is_complex or s.value(i).dtype.is_complex:
                raise ModelError(f"{op.label} works with complex numbers, whose Jacobians are not planned as chains")
            layout = Layout(1, value.numel)
            if s.batch:
                layout = s.layouts.get(out) or _layout(op, i, out, s)
                _refuse_mixing(op, i, out, layout, s)
            s.set(out, layout, op)
            found.append(Edge(i, out, opaque([op], i, out, s)))
    return found


def _layout(op: Op, i: int, out: int, s: Setting) -> Layout:
    """The likeliest place of the samples that the backward agrees with."""
    guesses = s.guesses(s.value(out).shape, i)
    for guess in guesses:
        if not _touched(op, i, out, guess, s):
            return guess
    raise mixes(op)


def _refuse_mixing(op: Op, i: int, out: int, layout: Layout, s: Setting) -> None:
    if _touched(op, i, out, layout, s):
        raise mixes(op)


def _touched(op: Op, i: int, out: int, layout: Layout, s: Setting) -> bool:
    """Whether pulling back from one sample alone reaches another."""
    values = contents(s)
    with torch.enable_grad():
        leaf = values[i].detach().requires_grad_()
        args, kwargs = s.arguments(op, lambda j: leaf.view_as(leaf) if j == i else values[j])
        answer = (op.functional or op.target)(*args, **kwargs)
        y = _tensors(answer)[op.outputs.index(out)]
    if not y.requires_grad:
        return False
    for sample in {0, s.batch - 1}:
        g = torch.zeros(layout.outer, s.batch, layout.inner, dtype=y.dtype, device=y.device)
        # uneven along every axis: what is the same everywhere passes a softmax or a mean unseen
        uneven = torch.arange(1.0, layout.size + 1, dtype=y.dtype, device=y.device).mul_(0.6180339).frac_()
        g[:, sample] = 0.5 + uneven.reshape(layout.outer, layout.inner)
        (back,) = torch.autograd.grad(y, leaf, g.reshape(y.shape), retain_graph=True, allow_unused=True)
        if back is None:
            continue
        own = s.layouts[i]
        cut = back.reshape(own.outer, s.batch, own.inner)
        others = torch.cat((cut[:, :sample], cut[:, sample + 1 :]), 1)
        if bool((others != 0).any()):
            return True
    return False
