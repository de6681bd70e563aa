"""What a user may give where a matrix, a vector or an angle is wanted: tensors, NumPy arrays, lists, plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eitherway.base.errors import ModelError


def as_tensor(value: Any, what: str) -> Tensor:
    """A real floating-point tensor with its gradient and device kept.

    Tensors and NumPy arrays of floating point keep their precision; all else, whole numbers included, becomes float64,
    as in NumPy. Lists may hold tensors.

    Args:
        value: anything that reads as an array of real numbers.
        what: its name in a message, with an article.

    Raises:
        ModelError: if it holds no numbers, ragged rows or complex numbers.

    >>> as_tensor([1, 2], "a vector")
    tensor([1., 2.], dtype=torch.float64)
    """
    if isinstance(value, Tensor):
        if value.is_complex():
            raise ModelError(f"{what} is complex ({value.dtype}): expected real numbers. Take its real part?")
        return value if value.is_floating_point() else value.to(torch.float64)
    if isinstance(value, list | tuple) and _holds_tensors(value):
        parts = [as_tensor(part, what) for part in value]
        if len({part.shape for part in parts}) > 1:
            raise ModelError(f"{what} has rows of unlike shapes {[tuple(p.shape) for p in parts]}: expected one shape")
        # whole numbers and Python floats among tensors take the precision of the tensors
        own = [part.dtype for part, given in zip(parts, value) if isinstance(given, Tensor)] or [p.dtype for p in parts]
        device = next((p.device for p in parts if p.device.type != "cpu"), parts[0].device)
        dtype = own[0]
        for other in own[1:]:
            dtype = torch.promote_types(dtype, other)
        return torch.stack([part.to(device, dtype) for part in parts])
    try:
        array = np.asarray(value)
    except ValueError:  # ragged rows
        array = np.empty(0, dtype=object)
    kind = array.dtype.kind
    if kind == "c":
        raise ModelError(f"{what} is complex: expected real numbers. Take its real part?")
    if kind not in "biuf":
        raise ModelError(
            f"{what} cannot be read as numbers: got {_short(value)}. Give a tensor, an array, or lists of one length"
        )
    wanted = array.dtype if array.dtype in (np.float16, np.float32, np.float64) else np.float64
    return torch.from_numpy(np.array(array, dtype=wanted, order="C"))


def as_matrix(value: Any, what: str = "the matrix") -> Tensor:
    """`as_tensor` for (..., n, m) with n, m >= 1."""
    matrix = as_tensor(value, what)
    if matrix.ndim < 2 or 0 in matrix.shape[-2:]:
        raise ModelError(
            f"{what} has shape {tuple(matrix.shape)}: expected (..., n, m) with n and m at least 1. "
            "A single row is [[...]]; a vector of factors makes a map by linear.scaling"
        )
    return matrix


def as_vector(value: Any, what: str = "the vector", size: int | None = None) -> Tensor:
    """`as_tensor` for (..., n) with n >= 1, or n = `size`."""
    vector = as_tensor(value, what)
    if vector.ndim == 0 or vector.shape[-1] == 0:
        raise ModelError(f"{what} has shape {tuple(vector.shape)}: expected (..., n) with n at least 1")
    if size is not None and vector.shape[-1] != size:
        raise ModelError(f"{what} has shape {tuple(vector.shape)}: its last axis should be {size}")
    return vector


def refuse_nonfinite(matrix: Tensor, asked: str) -> None:
    """Stop where NaN or inf would make the answer meaningless.

    Args:
        matrix: any tensor.
        asked: what the user wanted, to follow "cannot ".
    """
    bad = ~torch.isfinite(matrix.detach())
    if bool(bad.any()):
        where = tuple(bad.nonzero()[0].tolist())
        raise ModelError(
            f"cannot {asked}: entry {where} is {matrix.detach()[where].item()}; every entry should be finite. "
            "Look at what computed it"
        )


def refuse_half(matrix: Tensor, asked: str) -> None:
    """Stop where 16 bits are too few for singular values."""
    if matrix.dtype not in (torch.float32, torch.float64):
        raise ModelError(
            f"cannot {asked} in {matrix.dtype}: it needs float32 or float64. Take .to(torch.float32) first"
        )


def refuse_singular(values: Tensor, size: int, asked: str, instead: str) -> None:
    """Stop where the smallest singular value is zero to rounding.

    Args:
        values: (..., n) absolute singular values, in any order.
        size: n, for the tolerance n * eps.
        asked: what the user wanted, to follow "cannot ".
        instead: what to do, a sentence.
    """
    values = values.detach().abs()
    low, high = values.amin(-1), values.amax(-1)
    bad = low <= high * size * torch.finfo(values.dtype).eps
    if bool(bad.any()):
        where = tuple(bad.nonzero()[0].tolist())
        which = f"map {where} of the batch" if where else "the map"
        raise ModelError(
            f"cannot {asked}: {which} is singular, its smallest singular value is {low[where].item():.3g} "
            f"beside a largest of {high[where].item():.3g}. {instead}"
        )


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(v, Tensor) or (isinstance(v, list | tuple) and _holds_tensors(v)) for v in value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
