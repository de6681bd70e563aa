"""A function seen through its values alone: points in, numbers out, whatever it is written in and whatever fails."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.calculus.accept import as_output, as_point, call, name_of
from eitherway.graph.chance import chance_kept

MOST_NUMBERS = 2**22
"""Numbers in the points of one call of a batched function: 32 MB."""


class Values:
    """The values of f around x, counted.

    Args:
        f: a function of one point: Python or NumPy (given a float or an array), or torch (given a tensor). A module
            is copied first, and stays as it was.
        x: the point; a tensor if f works on tensors, otherwise a number, a list or an array.
        batched: whether f takes many points at once, (K, *x.shape) to (K, *y.shape).

    Raises:
        ModelError: if f has no value at x, or none that is made of numbers.
    """

    def __init__(self, f: Callable[..., Any], x: Any, *, batched: bool = False):
        self.name, self.batched = name_of(f), batched
        self.f = copy.deepcopy(f) if isinstance(f, nn.Module) else f
        self.plain = not isinstance(x, Tensor) and not isinstance(f, nn.Module)
        self.scalar = isinstance(x, int | float) or (isinstance(x, np.generic) and np.ndim(x) == 0)
        self.tensor = self._point(x)
        self.shape = tuple(self.tensor.shape)
        self.failures: Counter[str] = Counter()
        first = self._first()
        self.output_shape = first.shape
        self.base = np.asarray(first, dtype=np.float64).reshape(-1)
        if not np.isfinite(self.base).any():
            raise ModelError(
                f"{self.name} has no finite value at x itself ({self.base[:3]}): there is nothing to differentiate; "
                f"move x to where it has one"
            )
        eps = [torch.finfo(self.tensor.dtype).eps]
        if first.dtype.kind == "f":
            eps.append(float(np.finfo(first.dtype).eps))
        self.grain = max(*eps, self._output_eps)
        self.x = self.tensor.double().reshape(-1).cpu().numpy().copy()

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Values (K, m) at points (K, n); the rows of points where f raised, or changed its shape, are NaN."""
        rows = max(1, MOST_NUMBERS // max(1, points.shape[1]))
        parts = [self._some(points[k : k + rows]) for k in range(0, len(points), rows)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.base)))

    def rounded(self, points: np.ndarray) -> np.ndarray:
        """Points (K, n) as the dtype of x can hold them."""
        return torch.from_numpy(points).to(self.tensor.dtype).double().numpy()

    def like(self, values: np.ndarray, shape: tuple[int, ...]) -> Any:
        """Float64 numbers as the kind of thing x was: a tensor on its device, or an array."""
        values = np.ascontiguousarray(values, dtype=np.float64).reshape(shape)
        return values if self.plain else torch.from_numpy(values).to(self.tensor.device)

    def _point(self, x: Any) -> Tensor:
        if isinstance(x, Tensor):
            return as_point(x).detach()
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and self.plain:
            return as_point(x)
        point = as_point(np.asarray(x, dtype=np.float64) if _is_numbers(x) else x)
        if isinstance(self.f, nn.Module):
            weights = [p for p in self.f.parameters() if p.is_floating_point()]
            return point.to(weights[0]) if weights else point
        return point

    def _first(self) -> np.ndarray:
        """The value at x; a function that turns out to want tensors gets them from then on."""
        try:
            y = self._ask(self.tensor.double().reshape(1, -1).cpu().numpy())
        except (TypeError, AttributeError) as error:
            if not self.plain or not any(word in str(error) for word in ("Tensor", "ndarray", "'float' object")):
                raise
            self.plain = False
            y = self._ask(self.tensor.double().reshape(1, -1).cpu().numpy())
        return y[0]

    def _ask(self, points: np.ndarray) -> np.ndarray:
        """f at points (K, n): one call where f is batched, else K = 1. Returns (K, *y.shape)."""
        if self.plain:
            given: Any = points.astype(str(self.tensor.dtype).removeprefix("torch.")).reshape(len(points), *self.shape)
            if not self.batched:
                given = float(points[0, 0]) if self.scalar else given[0]
            y = self.f(given)
        else:
            given = torch.from_numpy(points).to(self.tensor.dtype).to(self.tensor.device)
            given = given.reshape(len(points), *self.shape)
            with chance_kept():
                y = call(self.f, given if self.batched else given[0])
        if isinstance(y, Tensor):
            y = as_output(y, self.f) if y.is_nested or y.layout != torch.strided else y
            self._output_eps = torch.finfo(y.dtype).eps if y.is_floating_point() else 0.0
            y = y.detach().double().cpu().numpy() if y.dtype == torch.bfloat16 else y.detach().cpu().numpy()
        else:
            self._output_eps = 0.0
        try:
            values = np.asarray(y)
        except ValueError:
            values = np.empty(0, object)
        if values.dtype.kind not in "fiub" or y is None:
            raise ModelError(f"{self.name} returned {type(y).__name__}; expected a number or an array of real numbers")
        if self.batched and (values.ndim == 0 or len(values) != len(points)):
            raise ModelError(
                f"{self.name} was given {len(points)} points at once and returned shape {values.shape}; expected one "
                f"value for each, or leave out batched=True"
            )
        return values if self.batched else values[None]

    def _some(self, points: np.ndarray) -> np.ndarray:
        if not self.batched:
            return np.stack([self._one(point) for point in points])
        try:
            return self._flat(self._ask(points.copy()))
        except Exception:  # one point spoils the call: find out which
            return np.stack([self._one(point) for point in points])

    def _one(self, point: np.ndarray) -> np.ndarray:
        try:
            return self._flat(self._ask(point[None].copy()))[0]
        except Exception as error:
            self.failures[f"{type(error).__name__}: {error}"[:120]] += 1
            return np.full(len(self.base), np.nan)

    def _flat(self, values: np.ndarray) -> np.ndarray:
        if values.shape[1:] != self.output_shape:
            raise ValueError(f"shape {values.shape[1:]} instead of {self.output_shape}")
        return values.reshape(len(values), -1).astype(np.float64)


def entry(name: str, flat: int, shape: tuple[int, ...]) -> str:
    """One entry of something, as a person would index it.

    >>> entry("x", 5, (2, 3)), entry("y", 0, ())
    ('x[1, 2]', 'y')
    """
    index = [int(i) for i in np.unravel_index(flat, shape)] if shape else []
    return f"{name}{index}" if index else name


def _is_numbers(x: Any) -> bool:
    """Whether x is a plain number or nested lists of them."""
    if isinstance(x, bool):
        return False
    if isinstance(x, list | tuple):
        return bool(x) and all(_is_numbers(part) for part in x)
    return isinstance(x, int | float | np.floating | np.integer) and not isinstance(x, np.ndarray)
