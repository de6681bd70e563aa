"""A Jacobian that is not multiplied out: it takes vectors through its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.calculus.accept import must_be_vectors
from eitherway.calculus.chain.algebra import Algebra, Tree
from eitherway.calculus.chain.factors import Kind
from eitherway.calculus.chain.stacks import through


def operands(plan: Tree, links: Sequence[Tree], algebra: Algebra) -> list[Tree]:
    """The parts that an operator keeps, in order of application: two around the narrowest place, or all links."""
    if plan.left is None or plan.right is None:
        return [plan]
    full = plan.form.m * plan.form.n * (algebra.samples if plan.form.varying else 1)
    if plan.how in ("join", "pull blocks", "push blocks"):
        two = [plan.right, plan.left]
        if sum(part.form.entries(algebra.samples) for part in two) <= full / 2:
            return two
    apart = [link for link in links if link.form.kind != Kind.IDENTITY]
    return apart if sum(_held(link, algebra) for link in apart) < full else [plan]


def _held(link: Tree, algebra: Algebra) -> float:
    """Numbers beside the parameters that a link holds."""
    if link.form.kind == Kind.OPERATOR:
        return 3.0 * link.form.m * algebra.samples
    shared = link.factor is not None and not link.form.varying
    return 0.0 if shared else link.form.entries(algebra.samples)


class ChainOperator:
    """J as a linear map: (p, q), or (B, p, q) with a batch.

    Vectors are (q,) or (q, k); with a batch (B, q) or (B, q, k). `operator.T` takes (p,), (p, k), (B, p)...
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        parts: Sequence[Tree],
        contents: Sequence[Any],
        batched: bool,
        like: Tensor,
        transposed: bool = False,
    ):
        self.shape = torch.Size((*shape[:-2], shape[-1], shape[-2]) if transposed else shape)
        self._given = shape
        self._parts, self._contents, self._batched = parts, contents, batched
        self._like, self._transposed = like, transposed

    def __repr__(self) -> str:
        parts = " . ".join(f"{part.form.m} x {part.form.n}" for part in reversed(self._parts)) or "zero"
        return f"ChainOperator({tuple(self.shape)}, {'transposed ' if self._transposed else ''}{parts})"

    @property
    def numbers(self) -> int:
        """Numbers that it holds, those of the parameters not counted."""
        seen, total = set(), 0
        for tensor in pytree.tree_leaves(list(self._contents)):
            if isinstance(tensor, Tensor) and not isinstance(tensor, torch.nn.Parameter):
                room = tensor.untyped_storage()._cdata
                total += 0 if room in seen else tensor.numel()
                seen.add(room)
        return total

    @property
    def T(self) -> ChainOperator:
        """The transpose, which takes covectors."""
        return ChainOperator(self._given, self._parts, self._contents, self._batched, self._like, not self._transposed)

    def matmul(self, v: Tensor) -> Tensor:
        """J v.

        Raises:
            ModelError: if v is no tensor or does not fit.
        """
        must_be_vectors(v)
        lead, columns = tuple(self.shape[:-2]), self.shape[-1]
        many = v.dim() == len(lead) + 2
        size = v.shape[-2 if many else -1] if v.dim() else -1
        if v.dim() not in (len(lead) + 1, len(lead) + 2) or size != columns or tuple(v.shape[: len(lead)]) != lead:
            raise ModelError(
                f"an operator {tuple(self.shape)} takes vectors {(*lead, columns)} or {(*lead, columns, 'k')}; got "
                f"{tuple(v.shape)}"
            )
        stack = v.mT if many else v.unsqueeze(-2)  # (B?, k, n)
        single = bool(lead) and not self._batched
        stack = self._through(stack[0] if single else stack)
        stack = stack.expand(*lead, *stack.shape[-2:]) if not single else stack[None]
        return stack.mT if many else stack.squeeze(-2)

    def rmatmul(self, u: Tensor) -> Tensor:
        """J^T u.

        Raises:
            ModelError: if u is no tensor or does not fit.
        """
        return self.T.matmul(u)

    __matmul__ = matmul

    @torch.no_grad()
    def _through(self, stack: Tensor) -> Tensor:
        back = self._transposed
        if not self._parts:
            return stack.new_zeros(*stack.shape[:-1], self.shape[-2])
        pairs = list(zip(self._parts, self._contents))
        for part, content in reversed(pairs) if back else pairs:
            stack = through(part, content, stack, back, self._batched)
        return stack

    def dense(self) -> Tensor:
        """All of it, multiplied out: of the shape of the operator."""
        rows, columns = self.shape[-2:]
        slow = any(part.factor is not None and part.factor.push_slower > 1 for part in self._parts)
        back = rows < columns or (slow and not self._transposed)
        unit = torch.eye(rows if back else columns, dtype=self._like.dtype, device=self._like.device)
        made = (self.T if back else self).matmul(unit.expand(*self.shape[:-2], *unit.shape))
        return (made.mT if back else made).contiguous()
