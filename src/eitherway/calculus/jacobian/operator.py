"""A Jacobian that is never written down: its products with vectors, as many as are asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vjp

from eitherway.base.errors import ModelError


class JacobianOperator:
    """J as two products: `J @ v` pushes forward, `J.T @ u` pulls back; `dense()` where it fits after all.

    Args:
        push: (q,) -> (p,).
        pull: (p,) -> (q,).
        shape: (p, q): outputs by inputs, flattened.

    >>> J = operator_of(lambda x: x**2, torch.tensor([1.0, 3.0]))
    >>> J @ torch.ones(2), J.T @ torch.ones(2)
    (tensor([2., 6.]), tensor([2., 6.]))
    """

    def __init__(
        self, push: Callable[[Tensor], Tensor], pull: Callable[[Tensor], Tensor], shape: tuple[int, int]
    ) -> None:
        self.push, self.pull, self.shape = push, pull, shape

    def __repr__(self) -> str:
        return f"JacobianOperator({self.shape[0]} x {self.shape[1]})"

    @property
    def T(self) -> JacobianOperator:
        return JacobianOperator(self.pull, self.push, (self.shape[1], self.shape[0]))

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """(q,) -> (p,), or (q, K) -> (p, K), one column after the other.

        Raises:
            ModelError: if the first axis is not q long.
        """
        if vectors.ndim not in (1, 2) or len(vectors) != self.shape[1]:
            raise ModelError(
                f"an operator of shape {self.shape} was multiplied with {tuple(vectors.shape)}; expected "
                f"({self.shape[1]},) or ({self.shape[1]}, K): flatten the point first"
            )
        if vectors.ndim == 1:
            return self.push(vectors)
        return torch.stack([self.push(column) for column in vectors.unbind(1)], 1)

    def dense(self) -> Tensor:
        """(p, q): row by row, or column by column where those are fewer."""
        p, q = self.shape
        if p <= q:
            return torch.stack([self.pull(row) for row in torch.eye(p, **self._like)])
        return torch.stack([self.push(column) for column in torch.eye(q, **self._like)], 1)

    @property
    def _like(self) -> dict:
        return {"dtype": getattr(self, "dtype", None), "device": getattr(self, "device", None)}


def operator_of(f: Callable[[Tensor], Tensor], x: Tensor) -> JacobianOperator:
    """The Jacobian of f at x, (p, q) flattened, as products; f runs once for all pull-backs and once for each push."""
    x = x.detach().clone()  # the caller may write into his own
    with torch.no_grad():
        y, back = vjp(f, x)[:2]

    def push(v: Tensor) -> Tensor:
        with torch.no_grad():
            return jvp(f, (x,), (v.reshape(x.shape),))[1].reshape(-1)

    def pull(u: Tensor) -> Tensor:
        with torch.no_grad():
            return back(u.reshape(y.shape))[0].reshape(-1)

    made = JacobianOperator(push, pull, (y.numel(), x.numel()))
    made.dtype, made.device = x.dtype, x.device  # type: ignore[attr-defined]
    return made
