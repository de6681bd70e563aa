"""Any square map as a product of simple ones: rotation, flip, scale, shear, and a translation last.

Every order has a rule that makes its factors the only ones, a number that says how near they are to not being so, and
gradients that are finite wherever they exist. A reflection is always one flip of the last axis; rotations are
rotations, never mirrors.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.linear.affine_map import AffineMap
from eitherway.linear.angles import angle_of, planes_of, vector_of
from eitherway.linear.forms import Dense, Diagonal, Form, Orthonormal, UnitTriangular
from eitherway.linear.given import refuse_half, refuse_nonfinite, refuse_singular
from eitherway.linear.maps import LinearMap, Order
from eitherway.linear.polar import nearest_rotation, singular_frames

if TYPE_CHECKING:
    import numpy as np

UNIQUE: dict[str, str] = {
    "RFZS": "A = rotation @ flip @ scale @ shear: the rotation has determinant +1, the flip is 1 but for a -1 on the "
    "last axis where det A < 0, scales are positive, the shear is unit upper triangular. Unique for invertible A.",
    "SZFR": "A = shear @ scale @ flip @ rotation: the shear is unit lower triangular, scales are positive, the flip is "
    "1 but for a -1 on the last axis where det A < 0, the rotation has determinant +1. Unique for invertible A.",
    "polar": "A = rotation @ stretch: the rotation is the nearest one to A, the stretch symmetric, with one negative "
    "eigenvalue where det A < 0. Unique while the two smallest singular values, the last one signed, do not cancel.",
    "svd": "A = left @ flip @ scale @ right: left and right are rotations, scales fall, the flip is -1 on the last "
    "axis where det A < 0; in each row of right but the last the largest entry is positive. Unique while no two "
    "singular values agree and none is 0.",
}


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A map taken apart. Factors are attributes, too: `parts.rotation`, `parts.shear` ...

    Args:
        order: the kind of product.
        factors: by name, from left to right; `recompose()` multiplies them.
        translation: b of an affine map, None for a linear one.
        conditioning: (...,) from 1 down to 0, where the factors are no longer the only ones; small values mean that a
            small change of A may change them much. No gradient flows through it.
        unique: the rule that makes the factors unique.
    """

    order: str
    factors: dict[str, LinearMap]
    translation: Tensor | None
    conditioning: Tensor
    unique: str

    def __getattr__(self, name: str) -> LinearMap:
        factors = self.__dict__.get("factors", {})
        if name in factors:
            return factors[name]
        raise AttributeError(f"a decomposition by {self.__dict__.get('order')} has {', '.join(factors)}, not {name}")

    def recompose(self) -> LinearMap | AffineMap:
        """The product of all factors, and the translation."""
        first, *others = self.factors.values()
        product = first
        for factor in others:
            product = product @ factor
        return product if self.translation is None else AffineMap(product, self.translation)

    def angle(self, of: str = "rotation") -> Tensor:
        """(...) the angle of a 2-D rotation in (-pi, pi], counter-clockwise, radians; differentiable."""
        return angle_of(self._turn(of, 2, "an angle"))

    def rotation_vector(self, of: str = "rotation") -> Tensor:
        """(..., 3) the axis of a 3-D rotation, as long as its angle in radians; differentiable below half a turn."""
        return vector_of(self._turn(of, 3, "a rotation vector"))

    def planes(self, of: str = "rotation") -> tuple[tuple[float, ...], np.ndarray]:
        """The angles (k,) of one rotation in n dimensions, radians, and the planes (k, 2, n) they turn."""
        angles, planes, _ = planes_of(self._turn(of, None, "planes"))
        return angles, planes

    def __str__(self) -> str:
        return "\n".join(f"{name:<13}{text}" for name, text in self._rows())

    def __repr__(self) -> str:
        return f"Decomposition by {self.order}\n{self}"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in self._rows())
        return f"<table>{rows}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(name, repr(factor).removeprefix("LinearMap: ")) for name, factor in self.factors.items()]
        if self.translation is not None:
            rows.append(("translation", _numbers(self.translation)))
        low = self.conditioning.min().item() if self.conditioning.numel() else 1.0
        rows.append(("conditioning", f"{low:.3g} (1 is best, at 0 the factors are not unique)"))
        return [*rows, ("rule", self.unique)]

    def _turn(self, of: str, n: int | None, asked: str) -> Tensor:
        factor = self.factors.get(of)
        if factor is None or factor.structure != "rotation":
            known = [name for name, f in self.factors.items() if f.structure == "rotation"]
            raise ModelError(f"{of!r} is no rotation of a decomposition by {self.order}; it has {', '.join(known)}")
        if n is not None and factor.shape[-1] != n:
            raise ModelError(
                f"{asked} describes a rotation in {n} dimensions; this one turns {factor.shape[-1]}: see planes()"
            )
        return factor.matrix


def decompose(map: LinearMap | AffineMap, order: Order = "RFZS") -> Decomposition:
    """Take a map apart; see `UNIQUE` for what each order promises.

    Args:
        map: square, batched or not.
        order: "RFZS", "SZFR", "polar" or "svd".

    Raises:
        ModelError: if it is not square, not finite, or singular where the order needs an inverse.

    Source: QR with a positive diagonal for RFZS (Golub & Van Loan, Matrix Computations, theorem 5.2.3); Higham 1986,
        "Computing the polar decomposition", for the polar form, here with the rotation kept proper.

    >>> parts = LinearMap([[0, -2], [1, 0]]).decompose()
    >>> parts.rotation, parts.scale
    (LinearMap: rotation by 90°; 2 x 2, float64, LinearMap: axis scaling by 1, 2; 2 x 2, float64)
    """
    if order not in UNIQUE:
        raise ModelError(f"decompose got order={order!r}: expected one of {', '.join(UNIQUE)}")
    linear = map.linear if isinstance(map, AffineMap) else map
    linear._square("a decomposition")
    matrix = linear.matrix
    refuse_half(matrix, "decompose the map")
    refuse_nonfinite(matrix, "decompose the map")
    factors, conditioning = {"RFZS": _rfzs, "SZFR": _szfr, "polar": _polar, "svd": _svd}[order](matrix)
    shift = map.shift if isinstance(map, AffineMap) else None
    made = {name: LinearMap.of(form) for name, form in factors.items()}
    return Decomposition(order, made, shift, conditioning, UNIQUE[order])


_Parts = tuple[dict[str, Form], Tensor]


def _rfzs(matrix: Tensor) -> _Parts:
    """A = Q U with diag U > 0; a negative det Q goes into the last column's flip."""
    values = torch.linalg.svdvals(matrix.detach())
    refuse_singular(
        values, matrix.shape[-1], "separate scale and shear", 'order="polar" and order="svd" serve every map'
    )
    q, u = torch.linalg.qr(matrix)
    diagonal = u.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(diagonal < 0, -1.0, 1.0).to(matrix.dtype)
    q, scale = q * signs[..., None, :], diagonal * signs
    shear = (u * signs[..., :, None]) / scale[..., :, None]
    n = matrix.shape[-1]
    exact = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    shear = torch.where(exact.bool(), exact, shear.triu())  # ones and zeros exactly where they belong
    flip = _flip(torch.linalg.det(q.detach()), q)
    parts: dict[str, Form] = {
        "rotation": Orthonormal(q * flip[..., None, :], 1),
        "flip": Diagonal(flip),
        "scale": Diagonal(scale),
        "shear": UnitTriangular(shear, upper=True),
    }
    return parts, values[..., -1] / values[..., 0]


def _szfr(matrix: Tensor) -> _Parts:
    """The transpose of the RFZS of the transpose."""
    parts, conditioning = _rfzs(matrix.mT)
    return {name: parts[name].transpose() for name in ("shear", "scale", "flip", "rotation")}, conditioning


def _polar(matrix: Tensor) -> _Parts:
    rotation = nearest_rotation(matrix)
    product = rotation.mT @ matrix
    stretch = (product + product.mT) / 2
    values = torch.linalg.svdvals(matrix.detach())
    if matrix.shape[-1] == 1:
        conditioning = torch.ones_like(values[..., 0])
    else:
        last = values[..., -1] * torch.linalg.det(matrix.detach()).sign()
        conditioning = _ratio((values[..., -2] + last) / 2, values[..., 0])
    return {"rotation": Orthonormal(rotation, 1), "stretch": Dense(stretch)}, conditioning


def _svd(matrix: Tensor) -> _Parts:
    left, signed, right = singular_frames(matrix)
    flip = _flip(signed[..., -1].detach(), signed)
    values = signed.detach().abs()
    gaps = torch.cat([values[..., :-1] - values[..., 1:], values[..., -1:]], -1).amin(-1)
    parts: dict[str, Form] = {
        "left": Orthonormal(left, 1),
        "flip": Diagonal(flip),
        "scale": Diagonal(signed * flip),
        "right": Orthonormal(right.mT, 1),
    }
    return parts, _ratio(gaps, values[..., 0])


def _flip(sign: Tensor, like: Tensor) -> Tensor:
    """(..., n) ones, the last with the sign."""
    flip = torch.ones(*sign.shape, like.shape[-1], dtype=like.dtype, device=like.device)
    flip[..., -1] = torch.where(sign < 0, -1.0, 1.0)
    return flip


def _ratio(small: Tensor, large: Tensor) -> Tensor:
    return torch.where(large > 0, small / large.where(large > 0, 1.0), torch.zeros_like(large))


def _numbers(vector: Tensor) -> str:
    if vector.ndim > 1:
        return f"{tuple(vector.shape[:-1])} shifts in {vector.shape[-1]} dimensions"
    return "(" + ", ".join(f"{value:.6g}" for value in vector.detach().tolist()) + ")"
