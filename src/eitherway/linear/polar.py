"""The nearest rotation and the singular frames of a matrix, with gradients that stay finite where they exist.

Differentiating an SVD divides by differences of squared singular values, which is 0 / 0 at the identity. The nearest
rotation needs only their sums: its derivative exists wherever the two smallest, the last one signed, do not cancel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from eitherway.base.errors import ModelError
from eitherway.linear.given import as_matrix


def signed_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, V of A = U diag(s) V^T with U and V rotations; the last singular value carries the sign of det A.

    Args:
        matrix: (..., n, n); no gradient flows.

    Returns:
        U (..., n, n), s (..., n) falling in absolute value, V (..., n, n).
    """
    u, s, vh = torch.linalg.svd(matrix.detach())
    v = vh.mT
    turn_u, turn_v = torch.linalg.det(u).sign(), torch.linalg.det(v).sign()
    return _last_column(u, turn_u), _last_entry(s, turn_u * turn_v), _last_column(v, turn_v)


class _Polar(torch.autograd.Function):
    """A -> the rotation R in SO(n) with the largest trace of R^T A (Kabsch 1976; Umeyama 1991)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        u, _, v = signed_svd(matrix)
        return u @ v.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        matrix, rotation = ctx.saved_tensors
        return _turn(matrix, rotation, grads[0])

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        matrix, rotation = ctx.saved_tensors
        return _turn(matrix, rotation, tangents[0])


class _Skew(torch.autograd.Function):
    """(P, M) -> the skew X with P X + X P = M, for symmetric P and skew M; its derivative solves the same."""

    generate_vmap_rule = True

    @staticmethod
    def forward(stretch: Tensor, skew: Tensor) -> Tensor:
        p, frame = torch.linalg.eigh(stretch)
        sums = p[..., :, None] + p[..., None, :]
        # 8 eps: where two singular values cancel to rounding the nearest rotation is not unique; that part gets 0
        floor = 8 * torch.finfo(p.dtype).eps * p.abs().amax(-1)[..., None, None]
        sums = torch.where(sums.abs() <= floor, torch.inf, sums)
        return frame @ ((frame.mT @ skew @ frame) / sums) @ frame.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        stretch, x = ctx.saved_tensors
        y = _Skew.apply(stretch, (grads[0] - grads[0].mT) / 2)
        return y @ x + x @ y, y


def _turn(matrix: Tensor, rotation: Tensor, change: Tensor) -> Tensor:
    """dR for dA, and by symmetry the gradient with respect to A for that with respect to R."""
    stretch = rotation.mT @ matrix
    skew = rotation.mT @ change
    return rotation @ _Skew.apply((stretch + stretch.mT) / 2, skew - skew.mT)


def nearest_rotation(matrix: Any) -> Tensor:
    """The rotation in SO(n) nearest to A in the Frobenius norm, differentiable as often as wanted.

    It is unique where the two smallest singular values, the last one taken with the sign of det A, do not cancel; there
    its gradient is finite, the identity and repeated singular values included. Where they cancel the rotation is one of
    many, and the part of the gradient that does not exist is 0.

    Args:
        matrix: (..., n, n): a tensor, an array or nested lists.

    Raises:
        ModelError: if it is no square matrix of real numbers.

    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns";
        the derivative follows from R P = A with P symmetric: P X + X P = R^T dA - dA^T R, dR = R X.

    >>> nearest_rotation(torch.diag(torch.tensor([3.0, 2.0])))
    tensor([[1., 0.],
            [0., 1.]])
    """
    matrix = as_matrix(matrix)
    if matrix.shape[-2] != matrix.shape[-1]:
        raise ModelError(f"nearest_rotation needs a square matrix; this one has shape {tuple(matrix.shape)}")
    return _Polar.apply(matrix)


class _Frames(torch.autograd.Function):
    """A -> U, s, V of `signed_svd`, each pair of columns with its sign fixed."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u, s, v = signed_svd(matrix)
        lead = torch.take_along_dim(v, v.abs().argmax(-2, keepdim=True), -2)[..., 0, :]  # (..., n) largest entries
        signs = torch.where(lead < 0, -1.0, 1.0).to(v.dtype)
        signs[..., -1] = signs[..., :-1].prod(-1)  # both frames stay rotations
        u, v = u * signs[..., None, :], v * signs[..., None, :]
        ctx.save_for_backward(u, s, v)
        return u, s, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (u, s, v), (gu, gs, gv) = ctx.saved_tensors, grads
        left, right = u.mT @ gu, v.mT @ gv
        left, right = left - left.mT, right - right.mT
        # (left s_j + s_i right) / (s_j^2 - s_i^2), in two parts: frames that turn together, and against each other
        inner = (left + right) / _apart(s[..., None, :] - s[..., :, None], s) / 2
        inner = inner + (left - right) / _apart(s[..., None, :] + s[..., :, None], s) / 2
        return u @ (inner + torch.diag_embed(gs)) @ v.mT


def singular_frames(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, V of A = U diag(s) V^T: rotations, and s falling with the sign of det A on its last entry.

    The largest entry of every column of V but the last is positive; the last follows from det V = +1. Unique where no
    two singular values agree. Where some do, their frames have no derivative: it counts as 0 for the part that turns
    both frames together, so that all gradients stay finite, and those of U V^T and of sums over s right. Differentiable
    once.

    Args:
        matrix: (..., n, n).
    """
    return _Frames.apply(matrix)


def _apart(gaps: Tensor, values: Tensor) -> Tensor:
    """Gaps to divide by: infinite where they are rounding, so that frames which may turn freely get no gradient."""
    floor = 8 * torch.finfo(values.dtype).eps * values[..., :1, None].abs()
    return torch.where(gaps.abs() <= floor, torch.inf, gaps)


def _last_column(frame: Tensor, sign: Tensor) -> Tensor:
    return torch.cat([frame[..., :-1], frame[..., -1:] * sign[..., None, None]], -1)


def _last_entry(values: Tensor, sign: Tensor) -> Tensor:
    return torch.cat([values[..., :-1], values[..., -1:] * sign[..., None]], -1)
