"""How maps meet maps, points and numbers: sizes, batches, precisions and devices that must go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.linear.forms import Form
from eitherway.linear.given import as_tensor

if TYPE_CHECKING:
    from eitherway.linear.maps import AffineMap, LinearMap


def alike(left: Form, right: Form) -> tuple[Form, Form]:
    """Both forms in the wider of their precisions."""
    _same_device(left, right)
    dtype = torch.promote_types(left.dtype, right.dtype)
    return _cast(left, dtype), _cast(right, dtype)


def meet(form: Form, tensor: Tensor) -> tuple[Form, Tensor]:
    """A form and a tensor in the wider of their precisions."""
    _same_device(form, tensor)
    dtype = torch.promote_types(form.dtype, tensor.dtype)
    return _cast(form, dtype), tensor.to(dtype)


def points_for(points: Any, map: LinearMap | AffineMap) -> Tensor:
    """Points (..., m) as a tensor that this map can move; lists and whole numbers take the map's precision.

    Raises:
        ModelError: if the last axis is not m, or their batch does not go with that of the map.
    """
    given = as_tensor(points, "the points")
    if not isinstance(points, Tensor):
        given = given.to(map.device)
    if not (isinstance(points, Tensor | np.ndarray) and getattr(points, "dtype", None) in _FLOATS):
        given = given.to(map.dtype)
    size = map.shape[-1]
    if given.ndim == 0 or given.shape[-1] != size:
        raise ModelError(
            f"points of shape {tuple(given.shape)} for a map from R^{size}: the last axis should be {size}"
            + (". Are the points in columns? Give points.T" if given.ndim == 2 and given.shape[0] == size else "")
        )
    _broadcast(map.batch_shape, given.shape[:-1], f"points of shape {tuple(given.shape)}", "points[..., None, :]")
    return given


def same_batch(left: LinearMap | AffineMap, right: LinearMap | AffineMap, asked: str) -> None:
    """Whether two batches of maps broadcast."""
    _broadcast(
        left.batch_shape, right.batch_shape, f"a batch of {tuple(right.batch_shape)} maps to {asked}", "A[:, None]"
    )


def factor_for(factor: Any, form: Form) -> Tensor:
    """A number, or one for each map of the batch, in the precision of the form."""
    number = as_tensor(factor, "the factor").to(form.device)
    plain = not isinstance(factor, Tensor | np.ndarray) or number.ndim == 0
    number = number.to(form.dtype if plain else torch.promote_types(number.dtype, form.dtype))
    _broadcast(
        form.shape[:-2], number.shape, f"factors of shape {tuple(number.shape)}", "one for each map, or one for all"
    )
    return number


def power(map: Any, times: int, one: Any) -> Any:
    """map @ map @ ... by repeated squaring."""
    if isinstance(times, bool) or not isinstance(times, int):
        raise ModelError(f"a map to the power {times!r}: expected a whole number (half a turn is rotation(angle / 2))")
    base, result = (map.inverse() if times < 0 else map), None
    times = abs(times)
    while times:
        if times & 1:
            result = base if result is None else result @ base
        times >>= 1
        base = base @ base if times else base
    return one if result is None else result


def homogeneous(matrix: Tensor, shift: Tensor) -> Tensor:
    """(..., n + 1, m + 1) of A (..., n, m) and b (..., n)."""
    batch = torch.broadcast_shapes(matrix.shape[:-2], shift.shape[:-1])
    top = torch.cat([matrix.expand(*batch, -1, -1), shift.expand(*batch, -1)[..., None]], -1)
    last = torch.zeros_like(top[..., :1, :])
    last[..., -1] = 1
    return torch.cat([top, last], -2)


def all_close(left: Tensor, right: Tensor, size: int, tolerance: float | None) -> bool:
    """Whether two tensors agree, relative to the largest entry; by default to 100 n eps of the coarser precision."""
    eps = max(torch.finfo(left.dtype).eps, torch.finfo(right.dtype).eps)
    dtype = torch.promote_types(left.dtype, right.dtype)
    left, right = left.detach().to(dtype), right.detach().to(dtype)
    limit = 100 * size * eps if tolerance is None else tolerance
    return bool(((left - right).abs() <= limit * torch.maximum(left.abs().amax(), right.abs().amax())).all())


def describe(map: LinearMap | AffineMap) -> str:
    """What a map is, in a line: its measured kind if it is small and single, its structure otherwise."""
    n, m = map.shape[-2:]
    linear: Any = getattr(map, "linear", map)
    parts = [linear.matrix, getattr(map, "shift", linear.matrix)]
    sized = f"{n} x {m}"
    if map.batch_shape:
        return f"{tuple(map.batch_shape)} maps, {linear.structure}; each {sized}"
    if max(n, m) > 8 or map.dtype not in (torch.float32, torch.float64):
        return f"{linear.structure}; {sized}"
    if any(part.device.type == "meta" or not bool(part.isfinite().all()) for part in parts):
        return f"{linear.structure}, with entries that are not finite; {sized}"
    return f"{map.kind().name}; {sized}"


def size_of(map: LinearMap | AffineMap) -> str:
    n, m = map.shape[-2:]
    return f"{n} x {m}"


_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, np.float64, np.float32, np.float16)


def _cast(form: Form, dtype: torch.dtype) -> Form:
    return form if form.dtype == dtype else form.each(lambda tensor: tensor.to(dtype))


def _same_device(left: Form, right: Form | Tensor) -> None:
    if left.device != right.device:
        raise ModelError(f"a map on {left.device} meets one on {right.device}: bring both to one device by .to(device)")


def _broadcast(maps: torch.Size, other: torch.Size, named: str, mend: str) -> None:
    try:
        torch.broadcast_shapes(maps, other)
    except RuntimeError:
        raise ModelError(
            f"a batch of {tuple(maps)} maps does not go with {named}: batches broadcast as tensors do. Try {mend}?"
        ) from None
