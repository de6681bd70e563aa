"""What depends on weights alone, kept from call to call for as long as the weights hold the very same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.chain.factors import Registers

Steps = Sequence[tuple[Callable[[Registers], Any], int, tuple[int, ...]]]
"""(call, register of its answer, registers that nobody reads any more)."""

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes an element: integers compare NaN with NaN, and tell -0.0 from 0.0."""
LONGEST_WAIT = 64
"""Calls between two copies of weights that are other ones each time: what copying costs is then lost in the rest."""


def run(steps: Steps, r: Registers) -> None:
    """Fills registers step by step, and empties what is done with."""
    for call, register, dead in steps:
        r[register] = call(r)
        for i in dead:
            r[i] = None


def comparable(weight: Any) -> bool:
    """Whether a weight may be compared bit by bit without waiting for another device."""
    return (
        type(weight) in (Tensor, torch.nn.Parameter)
        and weight.layout == torch.strided
        and weight.device.type == "cpu"
        and not weight.is_complex()
        and weight.dtype.itemsize in INTEGERS
    )


@dataclass(frozen=True, slots=True)
class Copy:
    """The bits that a weight held."""

    register: int
    dtype: torch.dtype
    shape: torch.Size
    bits: Tensor

    def same(self, weight: Tensor) -> bool:
        """Whether it holds them now. Its version would not tell: `p.data.add_(1)` and NumPy leave it as it is."""
        if weight.dtype != self.dtype or weight.shape != self.shape or not comparable(weight) or weight.is_neg():
            return False
        return torch.equal(bits(weight), self.bits)


def bits(t: Tensor) -> Tensor:
    """The same memory as integers, eight bytes at a time where they lie in a row: twice as fast to compare."""
    size = t.dtype.itemsize
    if t.is_contiguous() and t.numel() * size % 8 == 0 and t.storage_offset() * size % 8 == 0:
        return t.view(-1).view(torch.int64)
    return t.view(INTEGERS[size])


class Kept:
    """Steps that read weights alone, and what they made of the weights that were there.

    Nothing is kept at a first call, which may be the only one. Weights that are others at the next call double the
    number of calls that pass before they are copied again: in training, copies would only cost. What is kept is one
    tuple, replaced as a whole: threads that share a plan see all of it or nothing.

    Args:
        steps: they make the roots.
        roots: registers to keep.
        weights: registers that the steps read, all `comparable`.
        size: bytes that copies and roots take.
    """

    def __init__(self, steps: Steps, roots: Sequence[int], weights: Sequence[int], size: float):
        self.steps, self.roots, self.weights, self.size = steps, roots, weights, size
        self.held: tuple[tuple[Copy, ...], tuple[Tensor, ...]] | None = None
        self.wait = self.left = 1

    def fill(self, r: Registers) -> None:
        """Puts into the registers of the roots what belongs to today's weights."""
        held = self.held
        if held is not None:
            if all(copy.same(r[copy.register]) for copy in held[0]):
                self.wait = 1
                self._put(held[1], r)
                return
            self.held = None
            self.wait = self.left = min(2 * self.wait, LONGEST_WAIT)
        inside = r.copy()
        if self.left > 0:
            self.left -= 1
            run(self.steps, inside)
            self._put([inside[i] for i in self.roots], r)
            return
        copies = []
        for i in self.weights:  # and the roots are made of the copies: whoever writes meanwhile, they belong together
            inside[i] = made = r[i].detach().clone()
            copies.append(Copy(i, made.dtype, made.shape, bits(made)))
        run(self.steps, inside)
        made = tuple(inside[i] for i in self.roots)
        self._put(made, r)
        self.held = tuple(copies), made

    def _put(self, made: Sequence[Tensor], r: Registers) -> None:
        for i, tensor in zip(self.roots, made):
            r[i] = tensor
