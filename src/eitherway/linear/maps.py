"""Linear maps x -> A x: composed, inverted, applied to points, with their structure kept.

A map is a value: nothing changes it, gradients flow through it, and a batch of maps (..., n, m) is one object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from torch import Size, Tensor

from eitherway.base.errors import ModelError
from eitherway.linear.batch import Batch, must_index
from eitherway.linear.forms import Dense, Form, Identity, Orthonormal, add, compose, scale
from eitherway.linear.given import as_matrix, as_tensor, refuse_half, refuse_nonfinite
from eitherway.linear.meeting import (
    alike,
    all_close,
    describe,
    factor_for,
    homogeneous,
    meet,
    points_for,
    power,
    same_batch,
    size_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.linear.affine_map import AffineMap
    from eitherway.linear.decompose import Decomposition
    from eitherway.linear.kind import Kind

Order = Literal["RFZS", "SZFR", "polar", "svd"]


class LinearMap(Batch):
    """x -> A x. Moves 0 to 0, keeps sums and multiples.

    `A @ B` composes (B first), `A @ points` and `A(points)` move points (..., m), always along their last axis: a
    tensor on the right is points in rows, never a matrix; write `A @ LinearMap(M)` for a matrix.

    Args:
        matrix: (..., n, m): a tensor, an array, nested lists or a map. Floating-point tensors and arrays keep
            precision, device and gradient; all else becomes float64.

    Raises:
        ModelError: if it is no matrix of real numbers.

    >>> A = LinearMap([[2, 0], [0, 3]])
    >>> A @ [1, 1]
    tensor([2., 3.], dtype=torch.float64)
    >>> A.inverse()
    LinearMap: axis scaling by 0.5, 0.3333; 2 x 2, float64
    """

    __array_ufunc__ = None  # NumPy leaves `array @ map` and `array * map` to us

    def __init__(self, matrix: Any):
        self.form: Form = matrix.form if isinstance(matrix, LinearMap) else Dense(as_matrix(matrix))

    @classmethod
    def of(cls, form: Form) -> LinearMap:
        """A map that holds a structured form (see `linear.forms`)."""
        made = cls.__new__(cls)
        made.form = form
        return made

    # what it is ------------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> Size:
        """(..., n, m): from R^m to R^n."""
        return self.form.shape

    @property
    def batch_shape(self) -> Size:
        return self.form.shape[:-2]

    @property
    def dtype(self) -> torch.dtype:
        return self.form.dtype

    @property
    def device(self) -> torch.device:
        return self.form.device

    @property
    def structure(self) -> str:
        """What is known by construction: identity, scaling, rotation, reflection, shear, projection or dense.

        `kind()` measures what the entries are, however they came about.
        """
        return self.form.name

    @property
    def matrix(self) -> Tensor:
        """(..., n, m)."""
        return self.form.dense()

    def dense(self) -> Tensor:
        """(..., n, m), the same as `matrix`."""
        return self.form.dense()

    def homogeneous(self) -> Tensor:
        """(..., n + 1, m + 1), with a last row and column of zeros and a one."""
        return homogeneous(self.matrix, self.matrix.new_zeros(self.shape[:-1]))

    def det(self) -> Tensor:
        """(...): by what factor areas (volumes) grow; negative where orientation flips. Exact where structure tells."""
        self._square("the determinant")
        return self.form.det()

    # moving points, composing ----------------------------------------------------------------------------------------
    def __call__(self, points: Any) -> Tensor:
        """Move points (..., m) -> (..., n); leading axes broadcast against the batch of maps."""
        form, moved = meet(self.form, points_for(points, self))
        return form.apply(moved)

    @overload
    def __matmul__(self, other: LinearMap) -> LinearMap: ...
    @overload
    def __matmul__(self, other: AffineMap) -> AffineMap: ...
    @overload
    def __matmul__(self, other: Any) -> Tensor: ...
    def __matmul__(self, other: Any) -> Any:
        if is_affine(other):
            return NotImplemented  # the affine map knows
        if not isinstance(other, LinearMap):
            return self(other)
        if self.shape[-1] != other.shape[-2]:
            raise ModelError(
                f"cannot compose {size_of(self)} @ {size_of(other)}: the right one ends in R^{other.shape[-2]}, "
                f"the left one starts from R^{self.shape[-1]}. Is the order the other way round?"
            )
        same_batch(self, other, "compose")
        return LinearMap.of(compose(*alike(self.form, other.form)))

    def __rmatmul__(self, other: Any) -> Any:
        raise ModelError(
            "an array or tensor @ a map is ambiguous: LinearMap(M) @ A composes, A @ points moves points, "
            "A.T @ rows multiplies rows from the left"
        )

    def __add__(self, other: Any) -> Any:
        if is_affine(other):
            return NotImplemented
        if not isinstance(other, LinearMap):
            raise ModelError(
                f"a linear map + {type(other).__name__} is not a linear map: to move by b write translation(b) @ A, "
                "to add a matrix A + LinearMap(M)"
            )
        if self.shape[-2:] != other.shape[-2:]:
            raise ModelError(f"cannot add {size_of(self)} and {size_of(other)}: maps that are added have one shape")
        same_batch(self, other, "add")
        return LinearMap.of(add(*alike(self.form, other.form)))

    def __radd__(self, other: Any) -> Any:
        return self if isinstance(other, int) and other == 0 else self + other  # sum() starts from 0

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __neg__(self) -> LinearMap:
        return -1.0 * self

    def __mul__(self, factor: Any) -> LinearMap:
        if isinstance(factor, LinearMap) or is_affine(factor):
            raise ModelError(
                "map * map is ambiguous: write A @ B to compose them; * takes a number, or one for each map"
            )
        number = factor_for(factor, self.form)
        return LinearMap.of(scale(self.form, number))

    __rmul__ = __mul__

    def __truediv__(self, factor: Any) -> LinearMap:
        return self * (1.0 / as_tensor(factor, "the factor").to(self.dtype))

    def __pow__(self, times: int) -> LinearMap:
        """A @ A @ ... ; negative powers are those of the inverse, the power 0 is the identity."""
        self._square("a power")
        return power(self, times, identity(self.shape[-1], dtype=self.dtype, device=self.device))

    matrix_power = __pow__

    # transposed, inverted --------------------------------------------------------------------------------------------
    @property
    def T(self) -> LinearMap:
        """The transpose: <A x, y> = <x, A^T y>."""
        return LinearMap.of(self.form.transpose())

    def inverse(self) -> LinearMap:
        """The map that undoes this one: the transpose of a rotation, and so on.

        Raises:
            ModelError: if it is not square, or singular to rounding: the smallest singular value is named.
        """
        self._square("an inverse", "; its pseudo-inverse is .pinv()")
        return LinearMap.of(self.form.inverse())

    def pinv(self) -> LinearMap:
        """The Moore-Penrose pseudo-inverse: the shortest least-squares answer, for any map."""
        if isinstance(self.form, Identity | Orthonormal):
            return self.T
        refuse_half(self.matrix, "take a pseudo-inverse")
        refuse_nonfinite(self.matrix, "take a pseudo-inverse")
        return LinearMap(torch.linalg.pinv(self.matrix))

    # questions -------------------------------------------------------------------------------------------------------
    def kind(self, tolerance: float | None = None) -> Kind:
        """What the map is, by the distance of its entries from every class: rotation, reflection, shear ...

        Args:
            tolerance: relative; by default 100 n eps of the dtype.
        """
        from eitherway.linear.kind import kind_of

        return kind_of(self, tolerance)

    def residuals(self) -> dict[str, Tensor]:
        """The distance from every class, (...) each, of all maps of a batch at once: what `kind` decides by."""
        from eitherway.linear.kind import residuals

        return residuals(self.matrix)

    def decompose(self, order: Order = "RFZS") -> Decomposition:
        """The map as a product of simple ones, unique and differentiable.

        Args:
            order: "RFZS" rotation @ flip @ scale @ shear; "SZFR" the other way round; "polar" rotation @ stretch;
                "svd" left rotation @ flip @ scale @ right rotation.
        """
        from eitherway.linear.decompose import decompose

        return decompose(self, order)

    def plot(self, axes: tuple[Axes, Axes] | None = None) -> tuple[Axes, Axes]:
        """The grid before and after, in 2-D or 3-D."""
        from eitherway.linear.pictures import plot_map

        return plot_map(self, axes)

    # equality, batches, places ---------------------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        """Whether both are linear maps with the same entries, to the last bit; `close` allows for rounding."""
        if not isinstance(other, LinearMap):
            return NotImplemented
        return self.shape == other.shape and bool((self.matrix == other.matrix).all())

    __hash__ = None  # type: ignore[assignment] - equal maps of other devices or structures would need equal hashes

    def close(self, other: LinearMap | AffineMap, tolerance: float | None = None) -> bool:
        """Whether all entries agree to `tolerance`, relative to the largest; by default 100 n eps."""
        if not isinstance(other, LinearMap):
            must_be_map(other, "close compares with")
            return other.close(self, tolerance)
        same_batch(self, other, "compare")
        same = self.shape[-2:] == other.shape[-2:]
        return same and all_close(self.matrix, other.matrix, max(self.shape[-2:]), tolerance)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.matrix.detach().cpu().numpy(), dtype=dtype)

    def __getitem__(self, index: Any) -> LinearMap:
        """Some maps of the batch: A[0], A[1:3], A[0, 2]."""
        must_index(index, self.batch_shape)
        return LinearMap.of(self.form.each(lambda tensor: tensor[index]))

    def to(self, *place: Any) -> LinearMap:
        """The same map in another dtype or on another device, as `Tensor.to`."""
        return LinearMap.of(self.form.each(lambda tensor: tensor.to(*place)))

    def detach(self) -> LinearMap:
        """The same map without its gradient."""
        return LinearMap.of(self.form.each(Tensor.detach))

    def __repr__(self) -> str:
        return f"LinearMap: {describe(self)}, {str(self.dtype).removeprefix('torch.')}"

    def _square(self, asked: str, more: str = "") -> None:
        n, m = self.shape[-2:]
        if n != m:
            raise ModelError(f"{asked} needs a square matrix; this map is {n} x {m}, from R^{m} to R^{n}{more}")


def is_affine(other: Any) -> bool:
    """Whether this is an affine map with a shift, without importing its class, which is built on this one."""
    return isinstance(getattr(other, "linear", None), LinearMap)


def must_be_map(other: Any, asked: str) -> None:
    """Refuses what is neither linear nor affine map.

    Args:
        asked: what was to be done with it, as "close compares with".

    Raises:
        ModelError: saying how a matrix becomes a map.
    """
    if not isinstance(other, LinearMap) and not is_affine(other):
        raise ModelError(f"{asked} another map, not with a {type(other).__name__}: LinearMap(M) makes one of a matrix")


def identity(n: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> LinearMap:
    """The map that moves nothing, in n dimensions.

    >>> identity(3) @ [1, 2, 3]
    tensor([1., 2., 3.], dtype=torch.float64)
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ModelError(f"identity got n={n!r}: expected a whole number of dimensions, at least 1")
    return LinearMap.of(Identity(n, dtype, torch.device(device)))
