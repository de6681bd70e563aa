"""Any affine stretch as one matrix over flattened axes, where that is the cheapest way to write it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eitherway.graph import Graph, Op
from eitherway.graph.sizes import Sizes
from eitherway.linear.fuse.constants import Constants, run
from eitherway.linear.fuse.merges import Dense, Diagonal, Kernel, Transposed, ZeroPad
from eitherway.linear.fuse.runs import Element, Leaf, key

_ENTRIES = 1 << 22
"""The largest matrix: 4 million entries, 16 MB in float32."""
_INPUTS = 1 << 13
"""The most columns: as many passes, shared by the rows of the batch, find its entries."""


class Flattening:
    """Answers what a stretch costs as one matrix, and finds the matrix.

    Args:
        graph: at the example's sizes, for costs.
        sizes: whose generic run shows which axes are free.
    """

    def __init__(self, graph: Graph, sizes: Sizes, constants: Constants):
        self.graph, self.sizes, self.constants = graph, sizes, constants

    def __call__(self, elements: Sequence[Element]) -> int | str:
        """Multiplications as one matrix, or why there is none."""
        found = self.leading(elements)
        if isinstance(found, str):
            return found
        inner, outer = self._inner(elements[0].source, found), self._inner(elements[-1].out, found)
        if inner * outer > _ENTRIES or inner > _INPUTS:
            return f"one matrix for it would be {outer} x {inner}"
        return self.graph.values[elements[-1].out].numel * inner

    def leading(self, elements: Sequence[Element]) -> int | str:
        """How many leading axes the stretch leaves alone, as many as possible."""
        generic = self.sizes.generic
        source, out = elements[0].source, elements[-1].out
        if source >= len(generic.values):
            return "a normalisation stands at its start"
        before, after = generic.values[source].shape, generic.values[out].shape
        moving = (self.sizes.moving.get(source, frozenset()), self.sizes.moving.get(out, frozenset()))
        reason = "it mixes the samples of a batch"
        for lead in range(min(len(before), len(after)) - 1, 0, -1):
            if before[:lead] != after[:lead]:
                continue
            if any(axis >= lead for axes in moving for axis in axes):
                reason = "its sizes are free, and one matrix would fix them"
                continue
            if self._keeps(elements, before[:lead].numel(), lead):
                return lead
        return reason

    def _inner(self, value: int, lead: int) -> int:
        return self.graph.values[value].shape[lead:].numel()

    def _keeps(self, elements: Sequence[Element], rows: int, lead: int) -> bool:
        for element in elements:
            if not isinstance(element, Leaf):
                if not all(self._keeps(series, rows, lead) for _, series in element.branches):
                    return False
                continue
            if element.virtual or not element.original or not self._leaf_keeps(element, rows):
                return False
            for value in (element.source, element.out):
                free = self.sizes.moving.get(value, frozenset())
                shape = self.sizes.generic.values[value].shape
                if free and _axes(shape, rows) is None:
                    return False
                if any(axis >= (_axes(shape, rows) or 0) for axis in free):
                    return False
        return True

    def _leaf_keeps(self, leaf: Leaf, rows: int) -> bool:
        shape = self.sizes.generic.values[leaf.source].shape
        lead = _axes(shape, rows)
        if lead is None:
            return False
        if leaf.composite is None:
            return _other_keeps(leaf.ops[-1], len(shape), lead)
        for move in leaf.composite.before:
            if move.source is None or move.after.numel() % rows:
                return False
            source = move.source.reshape(rows, -1)
            each = shape.numel() // rows
            if not torch.equal(source, source[:1] + each * torch.arange(rows)[:, None]):
                return False
            if bool((source[0] >= each).any()):
                return False
        match leaf.composite.core:
            case Diagonal() as form:
                return all(t is None or t.shape[:lead].numel() == 1 for t in (form.scale, form.shift))
            case Dense():
                return lead < len(shape)
            case Kernel() | Transposed() as form:
                return lead <= len(shape) - form.spatial - 1
            case ZeroPad() as form:
                return lead <= len(shape) - len(form.amounts)
        return True

    @torch.no_grad()
    def matrix(self, elements: Sequence[Element]) -> tuple[int, Tensor, Tensor]:
        """The leading axes left alone, W (O, I) and b (O,), by running the stretch on a basis in float64."""
        lead = self.leading(elements)
        assert isinstance(lead, int)
        generic = self.sizes.generic
        shape = generic.values[elements[0].source].shape
        rows = shape[:lead].numel()
        inner = shape[lead:].numel()
        ops = [generic.ops[i] for i in key(elements)]
        source, out = elements[0].source, elements[-1].out
        device = generic.values[source].device

        def through(x: Tensor) -> Tensor:
            env = {source: x}
            for op in ops:
                for i, tensor in zip(op.outputs, run(op, lambda i: self._value(env, i), True)):
                    env[i] = tensor
            return env[out].reshape(rows, -1)

        bias = through(torch.zeros(shape, dtype=torch.float64, device=device))[0]
        columns = []
        passes = math.ceil(inner / rows)
        for start in range(passes):
            x = torch.zeros(rows, inner, dtype=torch.float64, device=device)
            here = min(rows, inner - start * rows)
            x[torch.arange(here), start * rows + torch.arange(here)] = 1.0
            columns.append(through(x.reshape(shape))[:here] - bias)
        return lead, torch.cat(columns).T.contiguous(), bias

    def _value(self, env: dict[int, Tensor], index: int) -> Tensor:
        return env[index] if index in env else self.constants.exact(index)


def _axes(shape: torch.Size, rows: int) -> int | None:
    """How many leading axes hold that many rows."""
    total = 1
    for axis, n in enumerate(shape):
        if total == rows and (rows > 1 or axis > 0):
            return axis
        total *= n
        if total > rows:
            return None
    return len(shape) if total == rows else None


def _other_keeps(op: Op, rank: int, lead: int) -> bool:
    """Whether an operation without a form leaves the leading axes alone."""
    name = op.name
    if name in ("mean", "sum", "cumsum"):
        axes = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim")
        if axes is None or axes == []:
            return False
        found = [axes] if isinstance(axes, int) else list(axes)
        return all(isinstance(axis, int) and axis % rank >= lead for axis in found)
    pooled = {"1d": 1, "2d": 2, "3d": 3}
    n = next((n for ending, n in pooled.items() if name.endswith(ending)), 0)
    if name.startswith(("adaptive_avg_pool", "avg_pool", "upsample", "conv")):
        return lead <= rank - n - 1
    return False
