"""How the matrix of a linear map is held: what is known of it by construction, and what composing keeps.

A form knows more than its entries: that the inverse is the transpose, that the determinant is 1. Products of rotations
are rotations, of diagonal matrices diagonal, of unit triangular ones unit triangular; anything else becomes `Dense`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Size, Tensor

from eitherway.base.errors import ModelError
from eitherway.linear.given import refuse_half, refuse_nonfinite, refuse_singular

_PINV = "Its pseudo-inverse is .pinv()"


class Form(Protocol):
    """A structured matrix (..., n, m)."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Size: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    def dense(self) -> Tensor: ...
    def apply(self, points: Tensor) -> Tensor: ...
    def transpose(self) -> Form: ...
    def inverse(self) -> Form: ...
    def det(self) -> Tensor: ...
    def each(self, change: Callable[[Tensor], Tensor]) -> Form: ...


class Written(Protocol):
    """A form whose entries are all written out: matrix (..., n, m)."""

    matrix: Tensor

    @property
    def shape(self) -> Size:
        return self.matrix.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.matrix.dtype

    @property
    def device(self) -> torch.device:
        return self.matrix.device

    def dense(self) -> Tensor:
        return self.matrix

    def apply(self, points: Tensor) -> Tensor:
        return times(self.matrix, points)


@dataclass(frozen=True, eq=False)
class Identity:
    """Leaves every point where it is; one map, whatever the batch."""

    n: int
    dtype: torch.dtype
    device: torch.device

    name = "identity"

    @property
    def shape(self) -> Size:
        return Size((self.n, self.n))

    def dense(self) -> Tensor:
        return torch.eye(self.n, dtype=self.dtype, device=self.device)

    def apply(self, points: Tensor) -> Tensor:
        return points

    def transpose(self) -> Form:
        return self

    def inverse(self) -> Form:
        return self

    def det(self) -> Tensor:
        return torch.ones((), dtype=self.dtype, device=self.device)

    def each(self, change: Callable[[Tensor], Tensor]) -> Form:
        made = change(torch.empty(0, dtype=self.dtype, device=self.device))
        return Identity(self.n, made.dtype, made.device)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Stretches every axis by its own factor; factors (..., n)."""

    factors: Tensor

    name = "scaling"

    @property
    def shape(self) -> Size:
        return Size((*self.factors.shape, self.factors.shape[-1]))

    @property
    def dtype(self) -> torch.dtype:
        return self.factors.dtype

    @property
    def device(self) -> torch.device:
        return self.factors.device

    def dense(self) -> Tensor:
        return torch.diag_embed(self.factors)

    def apply(self, points: Tensor) -> Tensor:
        return self.factors * points

    def transpose(self) -> Form:
        return self

    def inverse(self) -> Form:
        refuse_nonfinite(self.factors, "invert the map")
        refuse_singular(self.factors, self.factors.shape[-1], "invert", _PINV)
        return Diagonal(1 / self.factors)

    def det(self) -> Tensor:
        return self.factors.prod(-1)

    def each(self, change: Callable[[Tensor], Tensor]) -> Form:
        return Diagonal(change(self.factors))


@dataclass(frozen=True, eq=False)
class Orthonormal(Written):
    """A rotation (sign +1) or a reflection (sign -1); matrix (..., n, n) with orthonormal columns."""

    matrix: Tensor
    sign: int

    @property
    def name(self) -> str:
        return "rotation" if self.sign > 0 else "reflection"

    def transpose(self) -> Form:
        return Orthonormal(self.matrix.mT, self.sign)

    def inverse(self) -> Form:
        return self.transpose()

    def det(self) -> Tensor:
        return torch.full(self.shape[:-2], float(self.sign), dtype=self.dtype, device=self.device)

    def each(self, change: Callable[[Tensor], Tensor]) -> Form:
        return Orthonormal(change(self.matrix), self.sign)


@dataclass(frozen=True, eq=False)
class UnitTriangular(Written):
    """Shears: ones on the diagonal, zeros below it (upper) or above it; matrix (..., n, n)."""

    matrix: Tensor
    upper: bool

    name = "shear"

    def transpose(self) -> Form:
        return UnitTriangular(self.matrix.mT, not self.upper)

    def inverse(self) -> Form:
        eye = torch.eye(self.shape[-1], dtype=self.dtype, device=self.device)
        solved = torch.linalg.solve_triangular(self.matrix, eye, upper=self.upper, unitriangular=True)
        return UnitTriangular(solved, self.upper)

    def det(self) -> Tensor:
        return torch.ones(self.shape[:-2], dtype=self.dtype, device=self.device)

    def each(self, change: Callable[[Tensor], Tensor]) -> Form:
        return UnitTriangular(change(self.matrix), self.upper)


@dataclass(frozen=True, eq=False)
class Projection:
    """Drops everything off a subspace; basis (..., n, k) with orthonormal columns that span it, 1 <= k <= n."""

    basis: Tensor

    name = "projection"

    @property
    def shape(self) -> Size:
        return Size((*self.basis.shape[:-1], self.basis.shape[-2]))

    @property
    def dtype(self) -> torch.dtype:
        return self.basis.dtype

    @property
    def device(self) -> torch.device:
        return self.basis.device

    def dense(self) -> Tensor:
        return self.basis @ self.basis.mT

    def apply(self, points: Tensor) -> Tensor:
        return times(self.basis, times(self.basis.mT, points))

    def transpose(self) -> Form:
        return self

    def inverse(self) -> Form:
        n, k = self.basis.shape[-2:]
        if k < n:
            raise ModelError(
                f"cannot invert a projection onto {k} of {n} dimensions: what it drops is lost "
                f"(singular value 0, {n - k} times). {_PINV}"
            )
        return Identity(n, self.dtype, self.device)

    def det(self) -> Tensor:
        n, k = self.basis.shape[-2:]
        return torch.full(self.basis.shape[:-2], float(n == k), dtype=self.dtype, device=self.device)

    def each(self, change: Callable[[Tensor], Tensor]) -> Form:
        return Projection(change(self.basis))


@dataclass(frozen=True, eq=False)
class Dense(Written):
    """Any matrix (..., n, m); nothing is known of it."""

    matrix: Tensor

    name = "dense"

    def transpose(self) -> Form:
        return Dense(self.matrix.mT)

    def inverse(self) -> Form:
        refuse_half(self.matrix, "invert the map")
        refuse_nonfinite(self.matrix, "invert the map")
        refuse_singular(torch.linalg.svdvals(self.matrix.detach()), self.shape[-1], "invert", _PINV)
        return Dense(torch.linalg.inv(self.matrix))

    def det(self) -> Tensor:
        refuse_half(self.matrix, "take a determinant")
        return torch.linalg.det(self.matrix)

    def each(self, change: Callable[[Tensor], Tensor]) -> Form:
        return Dense(change(self.matrix))


def compose(left: Form, right: Form) -> Form:
    """The form of left @ right: the most that stays true of every such product."""
    match left, right:
        case Identity(), _:
            return right
        case _, Identity():
            return left
        case Diagonal(), Diagonal():
            return Diagonal(left.factors * right.factors)
        case Orthonormal(), Orthonormal():
            return Orthonormal(left.matrix @ right.matrix, left.sign * right.sign)
        case UnitTriangular(), UnitTriangular() if left.upper == right.upper:
            return UnitTriangular(left.matrix @ right.matrix, left.upper)
        case Projection(), Projection() if left.basis is right.basis:
            return left
        case Diagonal(), _:
            return Dense(left.factors[..., :, None] * right.dense())
        case _, Diagonal():
            return Dense(left.dense() * right.factors[..., None, :])
    return Dense(left.dense() @ right.dense())


def add(left: Form, right: Form) -> Form:
    """The form of left + right."""
    if isinstance(left, Identity | Diagonal) and isinstance(right, Identity | Diagonal):
        return Diagonal(_factors(left) + _factors(right))
    return Dense(left.dense() + right.dense())


def scale(form: Form, factor: Tensor) -> Form:
    """The form of factor times the map; factor (...)."""
    if isinstance(form, Identity | Diagonal):
        return Diagonal(factor[..., None] * _factors(form))
    return Dense(factor[..., None, None] * form.dense())


def times(matrix: Tensor, points: Tensor) -> Tensor:
    """(..., n, m) times points (..., m) -> (..., n)."""
    return points @ matrix.mT if matrix.ndim == 2 else (matrix @ points[..., None])[..., 0]


def _factors(form: Identity | Diagonal) -> Tensor:
    if isinstance(form, Diagonal):
        return form.factors
    return torch.ones(form.n, dtype=form.dtype, device=form.device)
