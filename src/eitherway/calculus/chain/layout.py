"""Where the samples lie in each tensor of a run: a batch may be moved, and folded together with other axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.graph import Graph, Op, Ref, Value
from eitherway.graph.graph import substitute


@dataclass(frozen=True, slots=True)
class Layout:
    """A tensor read in order is (outer, samples, inner): what one sample owns is (outer, inner), flattened."""

    outer: int
    inner: int

    @property
    def size(self) -> int:
        return self.outer * self.inner


class Setting:
    """What the rules of a plan share: the graph, the number of samples, and where they lie.

    Args:
        graph: of a run with one input.
        batch: samples along the first axis of the input; 0 for none: then the whole input is one sample, and so it is
            with a batch of one.
    """

    def __init__(self, graph: Graph, batch: int):
        self.graph = graph
        self.batch = 0 if batch == 1 else batch
        self.layouts: dict[int, Layout] = {}
        self.content: list[Any] | None = None
        self.values: list[Value] = list(graph.values)
        self.extras: dict[int, list[tuple[int, Callable[[list[Any]], Any], tuple[int, ...]]]] = {}
        self.rank: dict[int, float] = {}
        source = graph.values[graph.inputs[0]]
        self.layouts[source.index] = Layout(1, source.numel // max(self.batch, 1))

    @property
    def samples(self) -> int:
        return max(self.batch, 1)

    def value(self, ref: Ref | int) -> Value:
        return self.values[ref.index if isinstance(ref, Ref) else ref]

    def size(self, index: int) -> int:
        """Entries of one sample."""
        return self.layouts[index].size

    def follows(self, ref: Any) -> bool:
        """Whether an argument is a tensor that a gradient reaches from the input."""
        return type(ref) is Ref and ref.index in self.layouts

    def extra(
        self,
        op: Op,
        shape: tuple[int, ...],
        layout: Layout,
        make: Callable[[list[Any]], Any] | None,
        reads: tuple[int, ...],
    ) -> int:
        """A value inside an operation: where its samples lie, and how it is made if its content is needed."""
        index, out = len(self.values), self.values[op.outputs[0]]
        size = torch.Size(shape)
        self.values.append(Value(index, "result", op.name, None, size, out.dtype, out.device, op.index, depends=True))
        self.layouts[index] = layout
        steps = self.extras.setdefault(op.index, [])
        self.rank[index] = (
            op.outputs[0] - 1 + 0.1 * (1 + sum(1 for i in self.rank if self.values[i].producer == op.index))
        )
        if make is not None:
            steps.append((index, make, reads))
        return index

    def order(self, index: int) -> float:
        """Where a value stands in the order of the run."""
        return self.rank.get(index, index)

    def rows(self, t: Tensor, index: int) -> Tensor:
        """(b, 1, n), or (n,) without a batch: the tensor of a value, sample by sample, to multiply stacks with."""
        if not self.batch:
            return t.reshape(-1)
        layout = self.layouts[index]
        if layout.outer == 1:
            return t.reshape(-1, 1, layout.size)
        return t.reshape(layout.outer, -1, layout.inner).transpose(0, 1).reshape(-1, 1, layout.size)

    def reader(self, index: int) -> Callable[[Tensor], Tensor]:
        """`rows` of one value, without looking again each time how it lies."""
        if self.batch:
            return lambda t: self.rows(t, index)
        if len(self.values[index].shape) == 1:
            return lambda t: t
        return lambda t: t.reshape(-1)

    def whole(self, stack: Tensor, index: int) -> Tensor:
        """(k, *shape of the value): a stack, (k, n) or (b, k, n), as the run has its tensors."""
        shape = self.graph.values[index].shape
        if not self.batch:
            return stack.reshape(-1, *shape)
        layout = self.layouts[index]
        if stack.dim() == 2:
            stack = stack.expand(self.batch, *stack.shape)
        cut = stack.reshape(self.batch, -1, layout.outer, layout.inner)
        return cut.permute(1, 2, 0, 3).reshape(-1, *shape)

    def stack(self, whole: Tensor, index: int) -> Tensor:
        """The inverse of `whole`."""
        if not self.batch:
            return whole.reshape(len(whole), -1)
        layout = self.layouts[index]
        cut = whole.reshape(len(whole), layout.outer, self.batch, layout.inner)
        return cut.permute(2, 0, 1, 3).reshape(self.batch, len(whole), layout.size)

    def axis(self, index: int) -> int:
        """The axis that holds the samples, perhaps among others; -1 without a batch."""
        if not self.batch:
            return -1
        shape, outer, before = self.graph.values[index].shape, self.layouts[index].outer, 1
        for i, length in enumerate(shape):
            if before * length > outer and length % self.batch == 0:
                return i
            before *= length
        raise AssertionError(f"no axis of {tuple(shape)} holds {self.batch} samples")

    def clear_of(self, index: int, axes: int) -> bool:
        """Whether the last so many axes hold one sample each."""
        if not self.batch:
            return True
        return self.layouts[index].inner % prod(self.graph.values[index].shape[-axes:]) == 0

    def alone(self, index: int) -> bool:
        """Whether the samples have an axis of their own."""
        return not self.batch or self.graph.values[index].shape[self.axis(index)] == self.batch

    def broadcast(self, index: int, shape: Sequence[int]) -> Layout:
        """The layout of a result into whose shape this value is broadcast."""
        own = self.graph.values[index].shape
        if not self.batch:
            return Layout(1, prod(shape))
        axis = self.axis(index)
        inside = self.layouts[index].inner // prod(own[axis + 1 :])  # what of the sample shares the axis, after it
        axis += len(shape) - len(own)
        inner = inside * prod(shape[axis + 1 :])
        return Layout(prod(shape) // (inner * self.batch), inner)

    def set(self, index: int, layout: Layout, op: Op) -> None:
        """Says where the samples lie in a result.

        Raises:
            ModelError: if another argument of the operation has them elsewhere.
        """
        known = self.layouts.setdefault(index, layout)
        if known != layout:
            raise mixes(op)

    def codes(self, index: int) -> Tensor:
        """1 + the number of each entry, counted sample by sample: for finding out what an operation moves where."""
        value, layout = self.graph.values[index], self.layouts[index]
        numbers = torch.arange(1, value.numel + 1, dtype=torch.float64, device=value.device)
        return numbers.reshape(self.samples, layout.outer, layout.inner).transpose(0, 1).reshape(value.shape)

    def decode(self, codes: Tensor, source: int, op: Op) -> tuple[Layout, Tensor]:
        """Where the samples lie in what an operation made of `codes`, and which input each entry of a sample is.

        Returns:
            The layout and (m,) int64, -1 for entries that are no input's.

        Raises:
            ModelError: if a sample has entries of another.
        """
        n, b = self.size(source), self.samples
        flat = codes.reshape(-1).long() - 1
        for layout in self._candidates(codes.shape):
            cut = flat.reshape(layout.outer, b, layout.inner).transpose(0, 1).reshape(b, -1)
            owner = torch.where(cut >= 0, cut // n, torch.arange(b, device=cut.device)[:, None])
            if not bool((owner == torch.arange(b, device=cut.device)[:, None]).all()):
                continue
            local = torch.where(cut >= 0, cut % n, -1)
            if bool((local == local[:1]).all()):
                return layout, local[0].contiguous()
        raise mixes(op)

    def _candidates(self, shape: Sequence[int]) -> list[Layout]:
        if not self.batch:
            return [Layout(1, prod(shape))]
        found, before = [], 1
        for i, length in enumerate(shape):
            if length % self.batch == 0:
                rest = prod(shape[i + 1 :])
                found += [Layout(before, length // self.batch * rest), Layout(before * length // self.batch, rest)]
            before *= length
        return list(dict.fromkeys(found))

    def guesses(self, shape: Sequence[int], source: int) -> list[Layout]:
        """Layouts that a result of an unknown operation may have, the likeliest first."""
        found = self._candidates(shape)
        if self.batch:
            own = self.axis(source)
            found.sort(key=lambda layout: abs(_axis_of(layout, shape) - own))
        return found

    def arguments(self, op: Op, lookup: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of an operation with `lookup(index)` for each tensor."""
        return substitute(list(harmless(op)), lookup), substitute(op.kwargs, lookup)


def _axis_of(layout: Layout, shape: Sequence[int]) -> int:
    before = 1
    for i, length in enumerate(shape):
        before *= length
        if before > layout.outer:
            return i
    return len(shape)


def harmless(op: Op) -> tuple[Any, ...]:
    """The arguments of an operation, without the running statistics that a norm in training would write into."""
    training = (op.name == "batch_norm" and op.args[5]) or (op.name == "instance_norm" and op.args[5])
    return (*op.args[:3], None, None, *op.args[5:]) if training else op.args


def mixes(op: Op) -> ModelError:
    return ModelError(
        f"{op.label} mixes the samples of a batch, so that no sample has a Jacobian of its own; take the Jacobian of "
        "the whole batch, unbatched"
    )
