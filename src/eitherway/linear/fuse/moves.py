"""Operations that only move elements, and scales and shifts carried across them."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from eitherway.graph import Op
from eitherway.linear.fuse.constants import run
from eitherway.linear.fuse.merges import Diagonal

_LARGEST = 1 << 23
"""Elements up to which positions are followed one by one."""

_TURNS = {
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "swapaxes", "swapdims",
    "movedim", "moveaxis", "squeeze", "unsqueeze", "contiguous", "clone",
}  # fmt: skip
"""Moves that keep every element at every size: others might leave all in place at the sizes seen alone."""


class Move:
    """Where each element of the output comes from.

    Args:
        op: the operation.
        shape: of its input, at sizes that differ from 1 wherever they are free.
        moving: the axes of input and output that follow free sizes.
    """

    def __init__(self, op: Op, shape: torch.Size, after: torch.Size, moving: tuple[frozenset[int], frozenset[int]]):
        self.op, self.shape, self.after, self.moving = op, shape, after, moving

    @cached_property
    def source(self) -> Tensor | None:
        """For each element of the output the position it is read from, in the output's shape; None if it is too big."""
        if max(self.shape.numel(), self.after.numel()) > _LARGEST:
            return None
        positions = torch.arange(self.shape.numel(), dtype=torch.float64).reshape(self.shape)
        found = run(self.op, lambda _: positions, False)[0]
        return found.round().long() if found.shape == self.after else None

    def forward(self, diagonal: Diagonal) -> Diagonal | None:
        """The diagonal that does after the move what this one does before it."""
        source = self.source
        if source is None:
            return None
        return self._carried(diagonal, self.moving[1], lambda t: t.expand(self.shape).reshape(-1)[source.cpu()])

    def backward(self, diagonal: Diagonal) -> Diagonal | None:
        """The diagonal that does before the move what this one does after it; None where there is none."""
        source = self.source
        if source is None:
            return None

        def carry(tensor: Tensor) -> Tensor | None:
            wide = tensor.expand(self.after)
            found = torch.full((self.shape.numel(),), torch.nan, dtype=tensor.dtype)
            found[source.reshape(-1)] = wide.reshape(-1)
            agree = torch.equal(found[source], wide) and not bool(found.isnan().any())
            return found.reshape(self.shape) if agree else None

        return self._carried(diagonal, self.moving[0], carry)

    def _carried(self, diagonal: Diagonal, moving: frozenset[int], carry) -> Diagonal | None:
        found: list[Tensor | None] = []
        for tensor in (diagonal.scale, diagonal.shift):
            if tensor is None:
                found.append(None)
                continue
            carried = carry(tensor.cpu())
            if carried is None:
                return None
            small = compressed(carried)
            if any(small.shape[axis] != 1 for axis in moving):
                return None  # it would differ along an axis whose size is free
            found.append(small.to(tensor.device))
        return Diagonal(found[0], found[1])


def cancels(moves: list[Move]) -> bool:
    """Whether moves one after the other leave every element where it was."""
    if not moves or moves[0].shape != moves[-1].after or any(move.op.name not in _TURNS for move in moves):
        return False
    position = torch.arange(moves[0].shape.numel()).reshape(moves[0].shape)
    for move in moves:
        if move.source is None:
            return False
        position = position.reshape(-1)[move.source]
    return torch.equal(position.reshape(-1), torch.arange(moves[0].shape.numel()))


def compressed(tensor: Tensor) -> Tensor:
    """The tensor with size 1 along every axis on which it is constant."""
    for axis in range(tensor.dim()):
        first = tensor.narrow(axis, 0, 1)
        if tensor.shape[axis] > 1 and bool((tensor == first).all()):
            tensor = first
    return tensor
