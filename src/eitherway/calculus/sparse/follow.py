"""Follows which inputs every number of a run depends on, operation by operation, through the memory they stand in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.sparse import rules
from eitherway.calculus.sparse.apart import taken_apart
from eitherway.calculus.sparse.index_sets import IndexSets, TooMany
from eitherway.calculus.sparse.memory import Memory
from eitherway.calculus.sparse.rules.table import plain
from eitherway.calculus.sparse.site import Answer, Operand, Site, Unsure
from eitherway.graph import Graph, Op, Value, lower

KEEPS_ZEROS = {
    "t", "transpose", "permute", "view", "_unsafe_view", "reshape", "expand", "slice", "select", "unsqueeze", "squeeze",
    "clone", "_to_copy", "mul", "tril", "triu", "detach", "alias", "flip", "unbind", "split", "masked_fill", "cat",
}  # fmt: skip
"""Operations whose zeros are zeros as long as those of what they were made of are."""


@dataclass
class Reliance:
    """A tensor from outside whose zeros made the pattern smaller: it holds as long as they are zeros."""

    name: str
    tensor: Tensor
    exactly: bool
    """What was made of it has zeros of its own, so that no number of it may change."""
    version: int = field(init=False)
    zeros: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.version, self.zeros = self.tensor._version, _zeros(self.tensor)

    def holds(self) -> bool:
        """Whether all that was zero still is."""
        if self.tensor._version == self.version:
            return True
        if self.exactly:
            return False
        now = _zeros(self.tensor)
        if now.shape != self.zeros.shape or bool((self.zeros & ~now).any()):
            return False
        self.version = self.tensor._version
        return True


def _zeros(tensor: Tensor) -> Tensor:
    return (tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()) == 0


@dataclass
class Followed:
    """What a run's outputs depend on. Outputs that depend on the same inputs share a row of `kinds`."""

    kinds: Any
    """(u, q) boolean CSR matrix of scipy, indices sorted, its rows all different."""
    which: np.ndarray
    """(p,) the row of `kinds` that tells of each output."""
    fallbacks: list[str] = field(default_factory=list)
    """Operations counted as dense blocks, with their places."""
    zeros: list[Reliance] = field(default_factory=list)
    hidden: bool = False
    """Something that depends on x runs under no_grad: reverse mode loses it, and so does the pattern; forward mode
    does not."""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.which), self.kinds.shape[1]

    @cached_property
    def rows(self) -> Any:
        """(p, q) boolean CSR matrix of scipy, indices sorted."""
        return self.kinds if len(self.which) == self.kinds.shape[0] and self._in_order() else self.kinds[self.which]

    @cached_property
    def row_lengths(self) -> np.ndarray:
        """(p,) entries of each row."""
        return np.diff(self.kinds.indptr)[self.which]

    @cached_property
    def column_lengths(self) -> np.ndarray:
        """(q,) entries of each column."""
        times = np.bincount(self.which, minlength=self.kinds.shape[0])
        each = np.repeat(times, np.diff(self.kinds.indptr))
        return np.bincount(self.kinds.indices, each, minlength=self.shape[1]).astype(np.int64)

    @property
    def nnz(self) -> int:
        return int(self.row_lengths.sum())

    def _in_order(self) -> bool:
        return bool((self.which == np.arange(len(self.which))).all())


def follow(graph: Graph, *, most: int | None = None) -> Followed:
    """Which inputs each output of a captured run depends on.

    The answer holds for all inputs that take the run along the same branches: values at x are never read, zeros of
    constants are.

    Args:
        graph: of `capture`, with one tensor as input and one as output.
        most: entries that index sets may hold in all.

    Raises:
        ModelError: if the run cannot be repeated from its graph, or the sets grow too large.
    """
    lowered = lower(graph)
    value = lowered.values[lowered.inputs[0]]
    sets = IndexSets(value.numel) if most is None else IndexSets(value.numel, most)
    walk = Walk(lowered, sets)
    walk.memory.write(value, torch.arange(1, value.numel + 1).reshape(value.shape))
    op = None
    try:
        for op in lowered.ops:
            walk.step(op)
        result = walk.memory.read(lowered.values[lowered.outputs[0]])
        shape = lowered.values[lowered.outputs[0]].shape
        numbers = torch.zeros(shape, dtype=torch.int64) if result is None else result
        kinds, first, which = np.unique(numbers.reshape(-1).numpy(), return_index=True, return_inverse=True)
        if int(sets.lengths(kinds)[which].sum()) > sets.most:
            raise TooMany
        order = np.argsort(first)  # in the order that outputs meet them
        found = Followed(sets.rows(kinds[order]), np.argsort(order)[which.reshape(-1)], walk.fallbacks)
    except TooMany:
        where = f" at {op.label}" if op is not None else ""
        raise ModelError(
            f"the index sets of a sparse Jacobian outgrow {sets.most} entries{where}: nearly every output depends on "
            "many inputs, so a dense or operator form serves better"
        ) from None
    found.zeros = [Reliance(v.name, v.tensor, exactly) for v, exactly in walk.relied.values() if v.tensor is not None]
    found.hidden = walk.hidden
    return found


class Walk:
    """The state of one pass over a lowered graph."""

    def __init__(self, graph: Graph, sets: IndexSets, memory: Memory | None = None) -> None:
        self.graph, self.sets = graph, sets
        self.memory = memory or Memory(graph, sets)
        self.fallbacks: list[str] = []
        self.relied: dict[int, tuple[Value, bool]] = {}
        self.hidden = False
        self.kept: list[Graph] = []
        """Graphs of operations taken apart: as long as they live, their rooms are not used anew."""
        self.varying = {graph.values[i].room for i in graph.inputs}
        """Rooms whose content depends on x, with a gradient or without."""
        self.written: dict[int, int] = {}
        for op in graph.ops:
            for i in op.mutates:
                room = graph.values[i].room
                if room is not None:
                    self.written[room] = op.index

    def step(self, op: Op) -> None:
        """One operation: reads its arguments' sets, writes its outputs'."""
        inputs = [self.graph.values[i] for i in op.inputs]
        outputs = [self.graph.values[i] for i in op.outputs]
        targets = [self.graph.values[i] for i in op.mutates]
        if op.cut and not op.name.startswith(("detach", ".data")) and self.memory.holds(inputs):
            self.hidden = True
        if not op.cut and self.memory.holds(inputs):
            self._carry(op, inputs, outputs, targets)
        elif self.memory.holds(outputs):
            self._cut(op, inputs, outputs, targets)
        if any(self._varies(value) for value in inputs):
            self.varying.update(value.room for value in (*outputs, *targets))

    def _carry(self, op: Op, inputs: list[Value], outputs: list[Value], targets: list[Value]) -> None:
        rooms = {value.room for value in inputs if value.room is not None}
        written = {value.room for value in targets}
        if outputs and not targets and all(value.room in rooms for value in outputs) and not op.custom:
            self._view(inputs, outputs)
            return
        answer = self._answer(op, outputs)
        parts: Sequence[Tensor | None] = [answer] if answer is None or isinstance(answer, Tensor) else answer
        if any(ids is not None and not _fits(ids, value) for value, ids in zip(outputs, parts)):
            parts = self._dense(op, outputs)
        for value, ids in zip(outputs, parts):
            if not (value.dtype.is_floating_point or value.dtype.is_complex):
                ids = None
            self._write(value, ids, targets, known=value.room in written)
        if not outputs:
            for value in targets:  # lists of tensors written at once
                self.memory.write(value, self._whole(op), weakly=True)

    def _write(self, value: Value, ids: Tensor | None, targets: list[Value], known: bool) -> None:
        """A write through a severed handle adds to what others see there, and joins the handle to them again."""
        apart = known and any(target in self.memory.severed for target in targets)
        if apart and ids is None:
            self.memory.sever(value)
            return
        self.memory.write(value, ids, weakly=apart)

    def _view(self, inputs: list[Value], outputs: list[Value]) -> None:
        for value in outputs:
            bases = [base for base in inputs if base.room == value.room]
            if bases and all(base in self.memory.severed for base in bases):
                self.memory.sever(value)

    def _cut(self, op: Op, inputs: list[Value], outputs: list[Value], targets: list[Value]) -> None:
        """No gradient passes: a new tensor holds none, a view of an old one hides it, a write leaves it as it was."""
        rooms = {value.room for value in inputs if value.room is not None}
        for value in outputs:
            if op.cut and targets and op.name != "detach_":
                if any(target in self.memory.severed for target in targets):
                    self.memory.sever(value)
            elif op.cut and value.room in rooms:
                self.memory.sever(value)
            elif targets:  # constants written over what depended on x
                self._write(value, None, targets, known=True)
            elif value.room not in rooms:
                self.memory.write(value, None)  # memory that was freed and is used again

    def _answer(self, op: Op, outputs: list[Value]) -> Answer:
        if not any(value.dtype.is_floating_point or value.dtype.is_complex for value in outputs):
            return [None] * len(outputs)
        site = Site(op, self.sets, self._operand, outputs, self._relied_on)
        if not site.live():
            return [None] * len(outputs)
        try:
            if op.custom:
                raise Unsure
            return rules.apply(site)
        except Unsure:
            return self._apart(op, site) or self._dense(op, outputs)

    def _dense(self, op: Op, outputs: list[Value]) -> list[Tensor | None]:
        """Every output depends on every input."""
        self.fallbacks.append(op.label)
        return [self._whole(op)] * len(outputs)

    def _apart(self, op: Op, site: Site) -> list[Tensor | None] | None:
        """The operation as the smaller ones that torch makes of it; None where that is no help."""
        if op.custom or any(self.written.get(o.value.room or 0, -1) > op.index for o in site.operands):
            return None
        parts = taken_apart(op, self.graph.values)
        if parts is None or not self.memory.admit(parts):
            return None
        self.kept.append(parts)
        inner = Walk(parts, self.sets, self.memory)
        inner.varying, inner.kept = self.varying, self.kept
        for part in parts.ops:
            inner.step(part)
        if inner.fallbacks:
            return None
        for value, exactly in inner.relied.values():  # which are tensors of this graph, or fresh constants
            for operand in site.operands:
                if operand.value.tensor is value.tensor:
                    self._relied_on(operand.value, exactly)
        read = [self.memory.read(parts.values[i]) for i in parts.outputs]
        return [None if ids is None else ids.clone() for ids in read]

    def _whole(self, op: Op) -> Tensor | None:
        return Site(op, self.sets, self._operand, [], self._relied_on).everything()

    def _operand(self, index: int, op: Op) -> Operand:
        value = self.graph.values[index]
        assert value.tensor is not None
        later = value.room is not None and self.written.get(value.room, -1) > op.index
        smooth = value.dtype.is_floating_point or value.dtype.is_complex
        ids = self.memory.read(value) if smooth else None
        return Operand(value, ids, not later and not self._varies(value), self._relied_on)

    def _varies(self, value: Value) -> bool:
        return value.depends or value.room in self.varying if value.room is not None else value.depends

    def _relied_on(self, value: Value, exactly: bool = False) -> None:
        """Remembers the tensors from outside that a constant was made of."""
        wanted, seen = [(value.index, exactly)], set()
        while wanted:
            index, exactly = wanted.pop()
            if (index, exactly) in seen:
                continue
            seen.add((index, exactly))
            found = self.graph.values[index]
            if found.producer is not None:
                op = self.graph.ops[found.producer]
                wanted += [(i, exactly or plain(op.name) not in KEEPS_ZEROS) for i in op.inputs]
            elif found.kind in ("parameter", "buffer", "constant"):
                self.relied[found.index] = found, exactly or self.relied.get(found.index, (found, False))[1]


def _fits(ids: Tensor, value: Value) -> bool:
    """Whether set numbers expand to the shape of a value."""
    trailing = zip(reversed(ids.shape), reversed(value.shape))
    return ids.dim() <= len(value.shape) and all(n in (1, m) for n, m in trailing)
