"""A Jacobian that is never written down: its products with vectors, as many as are asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from eitherway.base.errors import ModelError
from eitherway.calculus.accept import must_be_vectors


class JacobianOperator:
    """J as two products: `J @ v` pushes forward, `J.T @ u` pulls back; `dense()` where it fits after all.

    Args:
        push: (q,) -> (p,).
        pull: (p,) -> (q,).
        shape: (p, q): outputs by inputs, flattened.
        like: a tensor of the dtype and on the device that `dense` is made in.

    >>> J = operator_of(lambda x: x**2, torch.tensor([1.0, 3.0]))
    >>> J @ torch.ones(2), J.T @ torch.ones(2)
    (tensor([2., 6.]), tensor([2., 6.]))
    """

    def __init__(
        self,
        push: Callable[[Tensor], Tensor],
        pull: Callable[[Tensor], Tensor],
        shape: tuple[int, int],
        like: Tensor,
    ) -> None:
        self.push, self.pull, self.shape, self.like = push, pull, shape, like

    def __repr__(self) -> str:
        return f"JacobianOperator({self.shape[0]} x {self.shape[1]})"

    @property
    def T(self) -> JacobianOperator:
        return JacobianOperator(self.pull, self.push, (self.shape[1], self.shape[0]), self.like)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """(q,) -> (p,), or (q, K) -> (p, K), one column after the other.

        Raises:
            ModelError: for what is no tensor, or not q long along its first axis.
        """
        must_be_vectors(vectors)
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
        eye = torch.eye(min(p, q), dtype=self.like.dtype, device=self.like.device)
        if p <= q:
            return torch.stack([self.pull(row) for row in eye])
        return torch.stack([self.push(column) for column in eye], 1)


def operator_of(f: Callable[[Tensor], Tensor], x: Tensor, *, forwards: bool = True) -> JacobianOperator:
    """The Jacobian of f at x, (p, q) flattened, as products; f runs once for all pull-backs and once for each push.

    Args:
        forwards: whether torch's forward mode is to be trusted; without it vectors are pushed by pulling twice.
    """
    leaf = x.detach().clone().requires_grad_()  # the caller may write into his own
    with torch.enable_grad():
        y = f(leaf)

    def push(v: Tensor) -> Tensor:
        v = v.reshape(x.shape)
        if not forwards:
            return _pushed_by_pulling(f, leaf, v).reshape(-1)
        try:
            with torch.no_grad(), forward_ad.dual_level():
                moved = forward_ad.unpack_dual(f(forward_ad.make_dual(leaf.detach(), v))).tangent
        except (RuntimeError, NotImplementedError):  # an operation without a forward rule
            moved = _pushed_by_pulling(f, leaf, v)
        return y.new_zeros(y.numel()) if moved is None else moved.reshape(-1)

    def pull(u: Tensor) -> Tensor:
        found = None
        if y.requires_grad:
            (found,) = torch.autograd.grad(y, leaf, u.reshape(y.shape), retain_graph=True, allow_unused=True)
        return leaf.new_zeros(leaf.numel()) if found is None else found.reshape(-1)

    return JacobianOperator(push, pull, (y.numel(), x.numel()), leaf.detach())


def _pushed_by_pulling(f: Callable[[Tensor], Tensor], leaf: Tensor, v: Tensor) -> Tensor:
    """J v without forward mode: u -> J^T u is linear, and its pull-back is J.

    Source: J. Townsend 2017, "A new trick for calculating Jacobian vector products".

    Raises:
        ModelError: if an operation has no second derivative either.
    """
    with torch.enable_grad():
        y = f(leaf)
        u = torch.zeros_like(y, requires_grad=True)
        if not y.requires_grad:
            return torch.zeros_like(y)
        pushed = torch.zeros_like(y)
        try:
            (pulled,) = torch.autograd.grad(y, leaf, u, create_graph=True, materialize_grads=True)
            if pulled.requires_grad:
                (pushed,) = torch.autograd.grad(pulled, u, v, materialize_grads=True)
            why = "its backward is no function of the gradient that autograd can see"
        except (RuntimeError, NotImplementedError) as error:
            why = str(error)
            pushed = torch.full_like(y, torch.nan)
        w = torch.linspace(1, 2, y.numel(), dtype=y.dtype, device=y.device).view_as(y)
        (across,) = torch.autograd.grad(f(leaf), leaf, w, materialize_grads=True)
    ours, theirs = (pushed.detach() * w).sum(), (across * v).sum()
    if not torch.allclose(ours, theirs, rtol=torch.finfo(y.dtype).eps ** 0.5, atol=1e-6 * float((across * v).norm())):
        raise ModelError(
            f"J @ v needs an operation's forward rule or its second derivative, and it has neither ({why}); "
            "J.T @ u works, and so does form='dense'"
        )
    return pushed.detach()
