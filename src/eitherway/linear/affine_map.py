"""Affine maps x -> A x + b: a linear map, then a move. They compose, invert and take points as linear maps do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Size, Tensor

from eitherway.base.errors import ModelError
from eitherway.linear.batch import Batch, must_index
from eitherway.linear.forms import Identity
from eitherway.linear.given import as_matrix, as_vector
from eitherway.linear.maps import LinearMap, Order, identity, must_be_map
from eitherway.linear.meeting import all_close, describe, factor_for, homogeneous, meet, points_for, power, same_batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.linear.decompose import Decomposition
    from eitherway.linear.kind import Kind


class AffineMap(Batch):
    """x -> A x + b. A translation moves 0 to b, so it is affine, not linear.

    Args:
        linear: the linear part, or its matrix (..., n, m).
        shift: b, (..., n): where 0 goes.

    >>> move = AffineMap([[0, -1], [1, 0]], [5, 0])
    >>> move @ [1, 0]
    tensor([5., 1.], dtype=torch.float64)
    >>> (move @ move.inverse()).close(identity(2))
    True
    """

    __array_ufunc__ = None

    def __init__(self, linear: Any, shift: Any):
        part = linear if isinstance(linear, LinearMap) else LinearMap(linear)
        b = as_vector(shift, "the shift b", part.shape[-2])
        form, b = meet(part.form, b)
        self.linear, self.shift = LinearMap.of(form), b
        try:
            torch.broadcast_shapes(self.linear.batch_shape, b.shape[:-1])
        except RuntimeError:
            raise ModelError(
                f"{tuple(self.linear.batch_shape)} linear parts and shifts b for a batch of {tuple(b.shape[:-1])} "
                "do not go together: expected one b for each, or one for all"
            ) from None

    @classmethod
    def from_homogeneous(cls, matrix: Any) -> AffineMap:
        """The affine map of a homogeneous matrix (..., n + 1, m + 1): last row (0, ..., 0, w), w not 0, divided by w.

        Raises:
            ModelError: if the last row is another one: then it is a perspective map.
        """
        whole = as_matrix(matrix, "the homogeneous matrix")
        if min(whole.shape[-2:]) < 2:
            raise ModelError(f"a homogeneous matrix is at least 2 x 2; this one has shape {tuple(whole.shape)}")
        last = whole[..., -1, :].detach()
        limit = 100 * whole.shape[-1] * torch.finfo(whole.dtype).eps * last[..., -1:].abs()
        if bool((last[..., :-1].abs() > limit).any() or (last[..., -1] == 0).any() or last.isnan().any()):
            raise ModelError(
                f"the last row of a homogeneous matrix should be (0, ..., 0, w) with w not 0; got {last.tolist()}: "
                "a perspective map is neither linear nor affine"
            )
        whole = whole / whole[..., -1:, -1:]
        return cls(LinearMap(whole[..., :-1, :-1]), whole[..., :-1, -1])

    @classmethod
    def from_function(cls, f: Callable[..., Any], size: int | Sequence[int] | Tensor | None = None) -> AffineMap:
        """The matrix and the shift of an affine function, flattened: f(x) = A x + b.

        Args:
            f: a function or module of one tensor.
            size: of its input: a length, a shape, or an example; None finds it.

        Raises:
            ModelError: if f is not affine; the message names the operations that bend it.

        >>> AffineMap.from_function(lambda x: 2 * x + 1, 2).shift
        tensor([1., 1.], dtype=torch.float64)
        """
        from eitherway.linear.affine import from_function

        return from_function(f, size)

    @property
    def shape(self) -> Size:
        """(..., n, m): from R^m to R^n."""
        return Size((*self.batch_shape, *self.linear.shape[-2:]))

    @property
    def batch_shape(self) -> Size:
        return torch.broadcast_shapes(self.linear.batch_shape, self.shift.shape[:-1])

    @property
    def dtype(self) -> torch.dtype:
        return self.linear.dtype

    @property
    def device(self) -> torch.device:
        return self.linear.device

    def homogeneous(self) -> Tensor:
        """(..., n + 1, m + 1): [[A, b], [0, 1]], one matrix whose products compose affine maps."""
        return homogeneous(self.linear.matrix, self.shift)

    def det(self) -> Tensor:
        """(...): the determinant of the linear part; moving changes no area."""
        return self.linear.det()

    def __call__(self, points: Any) -> Tensor:
        """Move points (..., m) -> (..., n)."""
        form, moved = meet(self.linear.form, points_for(points, self))
        return form.apply(moved) + self.shift

    @overload
    def __matmul__(self, other: LinearMap | AffineMap) -> AffineMap: ...
    @overload
    def __matmul__(self, other: Any) -> Tensor: ...
    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, LinearMap):
            return AffineMap(self.linear @ other, self.shift)
        if isinstance(other, AffineMap):
            return AffineMap(self.linear @ other.linear, self(other.shift))
        return self(other)

    def __rmatmul__(self, other: Any) -> AffineMap:
        if isinstance(other, LinearMap):
            return AffineMap(other @ self.linear, other(self.shift))
        return LinearMap.__rmatmul__(self.linear, other)

    def __add__(self, other: Any) -> AffineMap:
        if isinstance(other, AffineMap):
            return AffineMap(self.linear + other.linear, self.shift + other.shift)
        if isinstance(other, LinearMap):
            return AffineMap(self.linear + other, self.shift)
        raise ModelError(f"an affine map + {type(other).__name__}: to move further by b write translation(b) @ A")

    def __radd__(self, other: Any) -> AffineMap:
        return self if isinstance(other, int) and other == 0 else self + other  # sum() starts from 0

    def __sub__(self, other: Any) -> AffineMap:
        return self + (-other)

    def __rsub__(self, other: Any) -> AffineMap:
        return -self + other

    def __neg__(self) -> AffineMap:
        return -1.0 * self

    def __mul__(self, factor: Any) -> AffineMap:
        return AffineMap(self.linear * factor, factor_for(factor, self.linear.form)[..., None] * self.shift)

    __rmul__ = __mul__

    def __pow__(self, times: int) -> AffineMap:
        """The map applied so many times; negative powers are those of the inverse."""
        self.linear._square("a power")
        one = identity(self.shape[-1], dtype=self.dtype, device=self.device)
        return power(self, times, AffineMap(one, torch.zeros_like(self.shift)))

    matrix_power = __pow__

    def inverse(self) -> AffineMap:
        """y -> A^-1 (y - b).

        Raises:
            ModelError: if the linear part is not square or is singular.
        """
        back = self.linear.inverse()
        return AffineMap(back, -back(self.shift))

    def kind(self, tolerance: float | None = None) -> Kind:
        """What the linear part is, and where 0 goes."""
        from eitherway.linear.kind import kind_of

        return kind_of(self, tolerance)

    def decompose(self, order: Order = "RFZS") -> Decomposition:
        """The translation, then the linear part as a product; see `LinearMap.decompose`."""
        from eitherway.linear.decompose import decompose

        return decompose(self, order)

    def plot(self, axes: tuple[Axes, Axes] | None = None) -> tuple[Axes, Axes]:
        """The grid before and after, in 2-D or 3-D."""
        from eitherway.linear.pictures import plot_map

        return plot_map(self, axes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AffineMap):
            return NotImplemented
        return self.linear == other.linear and torch.equal(self.shift, other.shift.to(self.shift))

    __hash__ = None  # type: ignore[assignment]

    def close(self, other: LinearMap | AffineMap, tolerance: float | None = None) -> bool:
        """Whether linear parts and shifts agree to `tolerance`; a linear map counts as one with shift 0."""
        must_be_map(other, "close compares with")
        if isinstance(other, LinearMap):
            other = AffineMap(other, torch.zeros_like(self.shift))
        same_batch(self, other, "compare")
        same = self.shape[-2:] == other.shape[-2:]
        return same and all_close(self.homogeneous(), other.homogeneous(), max(self.shape[-2:]), tolerance)

    def __getitem__(self, index: Any) -> AffineMap:
        """Some maps of the batch: A[0], A[1:3], A[0, 2]."""
        must_index(index, self.batch_shape)
        part = self.linear
        if part.batch_shape != self.batch_shape and not isinstance(part.form, Identity):
            part = LinearMap(part.matrix.expand(self.shape))
        return AffineMap(part if isinstance(part.form, Identity) else part[index], self._shifts()[index])

    def _shifts(self) -> Tensor:
        return self.shift.expand(*self.batch_shape, -1)

    def to(self, *place: Any) -> AffineMap:
        """The same map in another dtype or on another device, as `Tensor.to`."""
        return AffineMap(self.linear.to(*place), self.shift.to(*place))

    def detach(self) -> AffineMap:
        """The same map without its gradient."""
        return AffineMap(self.linear.detach(), self.shift.detach())

    def __repr__(self) -> str:
        return f"AffineMap: {describe(self)}, {str(self.dtype).removeprefix('torch.')}"
