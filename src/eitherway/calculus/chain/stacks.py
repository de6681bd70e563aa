"""Stacks of vectors and covectors through one part of a chain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.chain.algebra import Tree
from eitherway.calculus.chain.factors import Factor, Kind


def pull_blocks(rows: Tensor, blocked: Tensor, blocks: int, batched: bool) -> Tensor:
    """rows (b?, k, blocks * m) times a block-diagonal matrix, (m, n) for all blocks or (b * blocks, m, n)."""
    m, n = blocked.shape[-2:]
    cut = rows.unflatten(-1, (blocks, m))
    if blocked.dim() == 2:
        return torch.matmul(cut, blocked).flatten(-2)
    if batched:
        blocked = blocked.reshape(-1, blocks, m, n)
    return torch.matmul(cut.transpose(-2, -3), blocked).transpose(-2, -3).flatten(-2)


def through(tree: Tree, content: Any, stack: Tensor, back: bool, batched: bool) -> Tensor:
    """`applied` for a product that has been carried out, too."""
    if tree.factor is not None:
        return applied(tree.factor, content, stack, back, batched)
    if tree.form.kind == Kind.DIAGONAL:
        return stack * content
    matrix = content if back else content.mT
    if tree.form.blocks > 1:
        return pull_blocks(stack, matrix, tree.form.blocks, batched)
    return torch.matmul(stack, matrix)


def applied(factor: Factor, content: Any, stack: Tensor, back: bool, batched: bool) -> Tensor:
    """A stack of covectors pulled back through one factor, or of vectors pushed forward: (b?, k, m) <-> (b?, k, n)."""
    if factor.kind == Kind.IDENTITY:
        return stack
    if factor.kind == Kind.DIAGONAL:
        return stack * content
    if factor.kind == Kind.MATRIX:
        matrix = content if back else content.mT
        if factor.blocks == 1:
            return torch.matmul(stack, matrix)
        return pull_blocks(stack, matrix, factor.blocks, batched)
    return factor.whole(content, stack, back)
