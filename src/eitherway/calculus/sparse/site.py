"""One operation as a rule sees it: its arguments by name, with the index sets of each tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.calculus.sparse.index_sets import IndexSets
from eitherway.graph import Op, Value

Answer = Tensor | None | Sequence[Tensor | None]
"""Set numbers of each output, of its shape or one that expands to it; None where all are empty."""


LONGEST = 4_000_000
"""Pairs (place, earlier place) of a scan that are followed one by one; a longer one counts as dense along its axis."""


class Unsure(Exception):
    """A rule does not cover these arguments: the operation is taken apart, or counts as dense."""


@dataclass(eq=False)
class Operand:
    """A tensor among the arguments."""

    value: Value
    ids: Tensor | None
    """Set numbers of its shape; None where no gradient reaches it."""
    constant: bool
    """Its content is the same whatever x is, and still stands in memory as the operation read it."""
    relied_on: Callable[[Value], None]

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    @cached_property
    def tensor(self) -> Tensor:
        """What the operation read, on the CPU, where set numbers are."""
        assert self.value.tensor is not None
        return self.value.tensor.detach().cpu()

    def numbers(self) -> Tensor:
        """Set numbers of its shape, zeros where no gradient reaches it."""
        return torch.zeros(self.shape, dtype=torch.int64) if self.ids is None else self.ids

    def content(self) -> Tensor:
        """What it holds, if that is the same for every x."""
        if not self.constant:
            raise Unsure
        return self.tensor

    def non_zeros(self) -> Tensor | None:
        """Where a constant is not zero; None where nothing is known, or nothing is zero."""
        if not self.constant:
            return None
        there = self.tensor.to_dense() != 0 if self.tensor.layout != torch.strided else self.tensor != 0
        if bool(there.all()):
            return None
        self.relied_on(self.value)
        return there


class Site:
    """One operation of a run, for a rule.

    Args:
        op: the operation.
        sets: the pool that set numbers belong to.
        operand: makes an `Operand` of a value's index and the operation that reads it.
        outputs: the values it made.
        relied_on: told of each constant whose zeros a rule used.
    """

    def __init__(
        self,
        op: Op,
        sets: IndexSets,
        operand: Callable[[int, Op], Operand],
        outputs: list[Value],
        relied_on: Callable[[Value], None],
    ) -> None:
        self.op, self.sets, self.outputs, self.relied_on = op, sets, outputs, relied_on
        known = {i: operand(i, op) for i in dict.fromkeys(op.inputs)}
        self.operands = list(known.values())

        def swap(leaf: Any) -> Any:
            index = getattr(leaf, "index", None)
            return known[index] if isinstance(index, int) and index in known else leaf

        self.args = pytree.tree_map(swap, op.args)
        self.kwargs = pytree.tree_map(swap, op.kwargs)
        schema = getattr(op.target, "_schema", None)
        self.named: dict[str, Any] = {}
        for i, argument in enumerate(schema.arguments if schema is not None else ()):
            if i < len(self.args):
                self.named[argument.name] = self.args[i]
            elif argument.name in self.kwargs:
                self.named[argument.name] = self.kwargs[argument.name]
            else:
                self.named[argument.name] = argument.default_value if argument.has_default_value() else None

    def __getitem__(self, name: str) -> Any:
        """The argument of that name in the operation's schema, an `Operand` where it is a tensor, else None."""
        return self.named.get(name)

    def operand(self, *names: str) -> Operand:
        """The first of these arguments that is there.

        Raises:
            Unsure: if none is a tensor.
        """
        for name in names:
            if isinstance(self.named.get(name), Operand):
                return self.named[name]
        raise Unsure

    @property
    def shape(self) -> torch.Size:
        return self.outputs[0].shape

    def live(self) -> list[Operand]:
        """The tensors that a gradient reaches."""
        return [operand for operand in self.operands if operand.ids is not None]

    # unions, on tensors --------------------------------------------------------------------------------------------

    def join(self, *parts: Tensor | None) -> Tensor | None:
        """Element by element the union, with broadcasting; None is empty."""
        there = [part for part in parts if part is not None]
        if len(there) < 2:
            return there[0] if there else None
        shape = torch.broadcast_shapes(*(part.shape for part in there))
        whole = _flat(there[0].expand(shape))
        for part in there[1:]:
            whole = self.sets.join(whole, _flat(part.expand(shape)))
        return torch.from_numpy(whole).reshape(shape)

    def unite(self, groups: Tensor | np.ndarray, ids: Tensor, count: int) -> Tensor:
        """(count,): the union of each group; `groups` and `ids` are alike in shape."""
        groups = groups if isinstance(groups, np.ndarray) else _flat(groups)
        return torch.from_numpy(self.sets.unite(groups.ravel(), _flat(ids), count))

    def over(self, ids: Tensor, dims: Any, keep: bool = True) -> Tensor:
        """The union over some axes: as a reduction would leave them. All axes if `dims` is None or empty."""
        axes = [d % max(ids.dim(), 1) for d in ([dims] if isinstance(dims, int) else dims or range(ids.dim()))]
        if ids.dim() == 0 or ids.numel() == 0:
            return ids if keep or not axes else ids.sum(axes)
        rest = [d for d in range(ids.dim()) if d not in axes]
        kept = [ids.shape[d] for d in rest]
        rows = ids.permute(*rest, *axes).reshape(int(np.prod(kept, dtype=np.int64)), -1)
        united = self.rows(rows).reshape(kept)
        for d in sorted(axes) if keep else ():
            united = united.unsqueeze(d)
        return united

    def up_to(self, ids: Tensor) -> Tensor:
        """Along the last axis the union of all up to each place."""
        length = ids.shape[-1]
        if ids.numel() * length > 2 * LONGEST:
            return self.over(ids, -1).expand(ids.shape)
        lines = ids.reshape(-1, length)
        last, first = np.tril_indices(length)
        groups = np.arange(len(lines))[:, None] * length + last[None]
        return self.unite(groups, lines[:, torch.from_numpy(first)], lines.numel()).reshape(ids.shape)

    def rows(self, rows: Tensor) -> Tensor:
        """(m, k) -> (m,): the union of each row."""
        m, k = rows.shape
        if k == 1:
            return rows[:, 0]
        alike = (rows == rows[:, :1]).all(1)
        if bool(alike.all()):
            return rows[:, 0]
        return self.unite(np.repeat(np.arange(m), k), rows, m)

    def everything(self) -> Tensor | None:
        """One set: all that any argument depends on, without shape."""
        parts = [_flat(operand.ids) for operand in self.live() if operand.ids is not None]
        if not parts:
            return None
        return torch.tensor(self.sets.everything(np.concatenate(parts)))


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.reshape(-1).numpy()
