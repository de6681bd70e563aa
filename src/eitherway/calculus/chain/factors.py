"""Local Jacobians: what one operation contributes to a chain, with its structure, its products and what they cost.

A local Jacobian is m x n for one sample. Vectors and covectors come in stacks, k of them along the axis before the
last: (k, n) where all samples share them, (b, k, n) where each has its own. Both directions run along the last axis, so
that a product with a shared matrix is one large product whichever way it goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.cost import GEMM, TOUCH

Registers = list[Any]
"""The tensors of one evaluation: first the values of the graph by their index, then what products need."""

CALL = 3.0e-6
"""Seconds a call of torch takes from a list of closures: half of what it takes from ordinary Python."""


class Kind(IntEnum):
    """What a local Jacobian, or a product of several, is made of."""

    IDENTITY = 0
    DIAGONAL = 1
    MATRIX = 2
    OPERATOR = 3


@dataclass(eq=False, slots=True)
class Factor:
    """One local Jacobian, (m, n), as a plan sees it and as a program runs it.

    `make(registers)` gives its content:

    - DIAGONAL: a number, (n,) shared by all samples, or (b, 1, n);
    - MATRIX: (m / blocks, n / blocks), the same for every block and sample, or (b * blocks, m / blocks, n / blocks);
    - OPERATOR: whatever `pull` and `push` want.
    """

    kind: Kind
    m: int
    n: int
    label: str
    """Where it comes from, as a person would point at it."""
    structure: str
    """In words: linear, shared diagonal, diagonal plus rank 2..."""
    make: Callable[[Registers], Any]
    varying: bool = False
    """Whether each sample has its own; always False where there is one sample only."""
    blocks: int = 1
    """It is block-diagonal with so many blocks of one size: tokens, groups, rows."""
    scalar: bool = False
    """A diagonal that is one number."""
    pull: Callable[[Any, Tensor], Tensor] | None = None
    """(content, covectors (b?, k, m)) -> (b?, k, n); with blocks, stacks of one block: (b * blocks, k, m / blocks)."""
    push: Callable[[Any, Tensor], Tensor] | None = None
    """(content, vectors (b?, k, n)) -> (b?, k, m); likewise."""
    pull_whole: Callable[[Any, Tensor], Tensor] | None = None
    """With blocks: the same on stacks of all blocks, (b?, k, m)."""
    push_whole: Callable[[Any, Tensor], Tensor] | None = None
    dense: Callable[[Any], Tensor] | None = None
    """The content of the same as MATRIX, where that is quicker than pulling an identity through."""
    products: float = 0.0
    """Multiply-adds of one vector of one sample, with how inefficient they are counted in."""
    elements: float = 0.0
    """Elements read and written for one vector of one sample."""
    calls: float = 2.0
    push_slower: float = 1.0
    """How many times longer a push takes than a pull; infinite where it cannot be done."""
    reads: tuple[int, ...] | None = None
    """The values it is made from: they must live until it is made. None: all that its operation has to do with."""
    constant: bool = False
    """Whether it is made of weights alone, the same wherever the input is."""
    aliases: bool = False
    """Whether its products may be views: of what they were given, or of one number many times."""
    index: Tensor | None = None
    """Of a gather: the input that each output is, -1 for none."""
    parents: tuple[Factor, ...] = ()
    """Of a gather composed of two: both."""
    parts: tuple[Any, ...] = ()
    """Of a block: the trees of what is inside it; its content is theirs."""

    def pull_seconds(self, vectors: float, blocks: int = 1) -> float:
        """What pulling so many covectors takes, counted over samples and blocks; `blocks` says how they are cut."""
        work = (self.products * GEMM + self.elements * TOUCH) / blocks
        return self.calls * CALL + vectors * work

    def push_seconds(self, vectors: float, blocks: int = 1) -> float:
        return self.pull_seconds(vectors, blocks) * self.push_slower if self.push_slower < inf else inf

    def whole(self, content: Any, stack: Tensor, back: bool) -> Tensor:
        """`pull` or `push` on stacks of all blocks."""
        if self.blocks > 1:
            way = self.pull_whole if back else self.push_whole
        else:
            way = self.pull if back else self.push
        assert way is not None
        return way(content, stack)


def matrix(
    label: str,
    m: int,
    n: int,
    blocks: int,
    make: Callable[[Registers], Tensor],
    structure: str,
    reads: tuple[int, ...] | None = None,
) -> Factor:
    """Shared weights on the last axis, the same for each of the blocks: I (x) W; `make` gives W."""
    return Factor(Kind.MATRIX, m, n, label, structure, make, blocks=blocks, reads=reads)


def diagonal(
    label: str,
    n: int,
    make: Callable[[Registers], Any],
    varying: bool,
    structure: str = "diagonal",
    reads: tuple[int, ...] | None = None,
) -> Factor:
    """An element-wise operation."""
    return Factor(Kind.DIAGONAL, n, n, label, structure, make, varying=varying, reads=reads)


def identity(label: str, n: int) -> Factor:
    """An operation that moves nothing: a view, dropout in eval mode."""
    return Factor(Kind.IDENTITY, n, n, label, "identity", lambda r: 1.0, scalar=True, reads=(), constant=True)


def scaled(label: str, n: int, make: Callable[[Registers], float]) -> Factor:
    """A multiple of the identity, by a number that is known before the run."""
    return Factor(Kind.DIAGONAL, n, n, label, "multiple of the identity", make, scalar=True, reads=(), constant=True)


# --- diagonal plus low rank -----------------------------------------------------------------------------------------


def low_rank(
    label: str,
    n: int,
    blocks: int,
    batch: int,
    rank: int,
    make: Callable[[Registers], tuple[Any, Tensor, Tensor]],
    reads: tuple[int, ...] | None = None,
) -> Factor:
    """diag(d) - A B for every row: softmax, normalisations.

    Args:
        batch: samples; 0 where there is no batch axis.
        make: gives d (rows, 1, size) or a number, A (rows, size, rank), B (rows, rank, size): without a batch axis and
            blocks d (size,), A (size, rank), B (rank, size).
    """
    size = n // blocks

    def pull(content: Any, stack: Tensor) -> Tensor:
        d, a, b = content
        out = stack * d
        return _minus_product(out, torch.matmul(stack, a), b)

    def push(content: Any, stack: Tensor) -> Tensor:
        d, a, b = content
        out = stack * d
        return _minus_product(out, torch.matmul(stack, b.mT), a.mT)

    def whole(stack: Tensor, d: Any, weigh: Tensor, spread: Tensor) -> Tensor:
        """(b?, k, n), with weigh and spread (rows, rank, size): the products are sums over each row."""
        cut = stack.unflatten(-1, (blocks, size))
        lead = (-1, 1) if batch else ()
        out = cut * (d.reshape(*lead, blocks, size) if isinstance(d, Tensor) else d)
        for i in range(rank):
            w, s = weigh[:, i].reshape(*lead, blocks, size), spread[:, i].reshape(*lead, blocks, size)
            total = (cut * w).sum(-1, keepdim=True)
            out = torch.addcmul(out, s, total, value=-1)
        return out.flatten(-2)

    def dense(content: Any) -> Tensor:
        d, a, b = content
        product = torch.matmul(a, b).neg_()
        product.diagonal(dim1=-2, dim2=-1).add_(d.squeeze(-2) if isinstance(d, Tensor) and d.dim() == 3 else d)
        return product

    return Factor(
        Kind.OPERATOR, n, n, label, f"diagonal plus rank {rank}", make,
        varying=bool(batch), blocks=blocks, pull=pull, push=push, dense=dense,
        pull_whole=lambda c, stack: whole(stack, c[0], c[1].mT, c[2]),
        push_whole=lambda c, stack: whole(stack, c[0], c[2], c[1].mT),
        products=2.0 * rank * n, elements=3.0 * n, calls=3, reads=reads,
    )  # fmt: skip


def _minus_product(out: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """out - left @ right, in place where shapes allow."""
    if out.dim() == 2 and left.dim() == 2:
        return out.addmm_(left, right, alpha=-1)
    if out.dim() == 3 and left.dim() == 3 and right.dim() == 3 and len(out) == len(left) == len(right):
        return out.baddbmm_(left, right, alpha=-1)
    return out - torch.matmul(left, right)


# --- what picks entries ---------------------------------------------------------------------------------------------


def gather(label: str, m: int, index: Tensor, n: int, structure: str = "gather") -> Factor:
    """Each output is one input, or none (-1): slices, permutations, paddings, repetitions.

    Args:
        index: (m,) int64, of the input that each output is.
    """
    known = index >= 0
    complete = bool(known.all())
    counts = torch.bincount(index[known], minlength=n)
    run = (
        complete
        and m > 0
        and bool((index == torch.arange(int(index[0]), int(index[0]) + m, device=index.device)).all())
    )
    first = int(index[0]) if run else 0
    places = index[known]
    inverse = torch.full((n,), -1, dtype=torch.int64, device=index.device)
    inverse[places] = torch.arange(m, device=index.device)[known]
    onto = complete and bool((counts == 1).all())
    beyond = torch.where(known, index, n)

    def taken(stack: Tensor, which: Tensor) -> Tensor:
        return stack.gather(-1, which.expand(*stack.shape[:-1], m))  # ten times quicker here than index_select

    def push(_: Any, stack: Tensor) -> Tensor:
        if run:
            return stack.narrow(-1, first, m)
        if complete:
            return taken(stack, index)
        return taken(torch.nn.functional.pad(stack, (0, 1)), beyond)

    def pull(_: Any, stack: Tensor) -> Tensor:
        if onto:
            return taken(stack, inverse)
        if run:
            return torch.nn.functional.pad(stack, (first, n - first - m))
        out = stack.new_zeros(*stack.shape[:-1], n)
        return out.index_add_(-1, places, stack if complete else stack[..., known])

    return Factor(
        Kind.OPERATOR, m, n, label, structure, lambda r: None, pull=pull, push=push,
        elements=1.5 * (m + n) if run else 3.0 * max(m, n), calls=2 if complete else 4, aliases=True, index=index,
        reads=(), constant=True,
    )  # fmt: skip


def composed(a: Factor, c: Factor) -> Factor:
    """A gather after a gather: one gather, or nothing at all."""
    assert a.index is not None and c.index is not None
    index = torch.where(a.index >= 0, c.index[a.index.clamp_min(0)] if c.m else a.index, -1)
    label = a.label if a.label == c.label else f"{c.label} to {a.label}"
    if a.m == c.n and bool((index == torch.arange(a.m, device=index.device)).all()):
        return identity(label, a.m)
    return gather(label, a.m, index, c.n)


def picked(label: str, m: int, n: int, batch: int, make: Callable[[Registers], Tensor], structure: str) -> Factor:
    """Each output is one input, which one the run decides: max pooling, sorting.

    Args:
        make: gives (b, 1, m) or, without a batch axis, (m,) int64 indices into the n inputs of a sample.
    """

    def both(index: Tensor, stack: Tensor) -> tuple[Tensor, Tensor]:
        if stack.dim() < index.dim():
            stack = stack.expand(len(index), *stack.shape)
        return stack, index.expand(*stack.shape[:-1], m)

    def push(index: Tensor, stack: Tensor) -> Tensor:
        stack, index = both(index, stack)
        return stack.gather(-1, index)

    def pull(index: Tensor, stack: Tensor) -> Tensor:
        stack, index = both(index, stack)
        return stack.new_zeros(*stack.shape[:-1], n).scatter_add_(-1, index, stack)

    return Factor(
        Kind.OPERATOR, m, n, label, structure, make, varying=bool(batch), pull=pull, push=push,
        elements=2.0 * m + n, calls=3,
    )  # fmt: skip


def operator(
    label: str,
    m: int,
    n: int,
    structure: str,
    make: Callable[[Registers], Any],
    pull: Callable[[Any, Tensor], Tensor],
    push: Callable[[Any, Tensor], Tensor],
    *,
    varying: bool,
    products: float,
    elements: float | None = None,
    calls: float = 2.0,
    push_slower: float = 1.0,
    reads: tuple[int, ...] | None = None,
) -> Factor:
    """A local Jacobian that is known by its two products alone."""
    touched = float(m + n) if elements is None else elements
    return Factor(
        Kind.OPERATOR, m, n, label, structure, make, varying=varying, pull=pull, push=push, products=products,
        elements=touched, calls=calls, push_slower=push_slower, reads=reads,
    )  # fmt: skip
