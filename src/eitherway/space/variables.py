"""One thing that may vary: a real, an integer, a choice, an array. Bounded ones live in the unit interval.

Every variable occupies `width` columns of a point and translates them both ways:
`decode` (P, width) -> P plain values, `encode` value -> (width,). Discrete ones cut the unit interval into cells.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from eitherway.base.errors import SpaceError
from eitherway.space.condition import Condition, Conditional, describe, text
from eitherway.space.interval import Interval, check_scale, interval

Scale = Literal["linear", "log"]


class _Cells:
    """Discrete variables: the unit interval in `levels` cells, one a value."""

    width = 1
    levels: int

    def cells(self, u: np.ndarray) -> np.ndarray:
        """The cell of each coordinate, from 0."""
        return np.minimum((u * self.levels).astype(np.int64), self.levels - 1)

    def edge(self, cells: np.ndarray) -> np.ndarray:
        """The lower edge of each cell, in search coordinates; that of cell `levels` is 1."""
        return cells / self.levels

    def middle(self, cells: np.ndarray) -> np.ndarray:
        """A coordinate well inside each cell."""
        return (cells + 0.5) / self.levels


@dataclass(frozen=True, repr=False)
class Real(Conditional):
    """A real number.

    Args:
        low, high: bounds; leave one or both out for an open side.
        scale: "log" searches the logarithm: for rates and strengths that span magnitudes.
        start, spread: for an open side: where to begin, and how far the first points may lie from there.
        step: only low, low + step, ... are asked for (at most high).

    >>> Real(1e-5, 1, scale="log").decode(np.array([[0.0], [0.5], [1.0]]))
    [1e-05, 0.00316227766016838, 1.0]
    """

    low: float = -math.inf
    high: float = math.inf
    scale: Scale = "linear"
    start: float | None = None
    spread: float | None = None
    step: float | None = None
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        self._map  # noqa: B018 - checked where it is given
        if self.step is None:
            return
        if self.scale == "log" or not self.limited:
            raise SpaceError(
                f"Real got step={self.step} with scale={self.scale!r}, low={self.low}, high={self.high}; "
                "a step needs both bounds and a linear scale"
            )
        if not (0 < self.step <= self.high - self.low):
            raise SpaceError(
                f"Real got step={self.step}; expected above 0 and at most high - low = {self.high - self.low:g}"
            )

    @cached_property
    def _map(self) -> Interval:
        return interval("Real", (), self.low, self.high, self.scale, self.start, self.spread)

    @cached_property
    def _grid(self) -> Integer:
        assert self.step is not None
        # 1e-9: a step of 0.1 fits ten times into [0, 1] in spite of rounding
        return Integer(0, int((self.high - self.low) / self.step + 1e-9))

    @property
    def limited(self) -> bool:
        """Whether both bounds are finite."""
        return bool(self._map.bounded[0])

    width = 1
    shape = ()

    @property
    def kind(self) -> str:
        return "real" if self.step is None else "integer"

    @property
    def levels(self) -> int:
        return 0 if self.step is None else self._grid.levels

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        return self._map.limits

    def cells(self, u: np.ndarray) -> np.ndarray:
        return self._grid.cells(u)

    def edge(self, cells: np.ndarray) -> np.ndarray:
        return self._grid.edge(cells)

    def middle(self, cells: np.ndarray) -> np.ndarray:
        return self._grid.middle(cells)

    def column(self, u: np.ndarray) -> np.ndarray:
        """(P, 1) -> (P,) in the user's unit, as an array."""
        if self.step is not None:
            return np.minimum(self.low + self.step * self.cells(u[:, 0]), self.high)
        return self._map.decode(u)[:, 0]

    def decode(self, u: np.ndarray) -> list[float]:
        """(P, 1) -> P floats in the user's unit."""
        return self.column(u).tolist()

    def encode(self, value: Any) -> np.ndarray:
        """A number -> (1,)."""
        x = _number(self, value)
        if not (self.low <= x <= self.high and math.isfinite(x)):
            raise SpaceError(f"{value!r} lies outside {self!r}")
        if self.step is None:
            return self._map.encode(np.array([x]))
        cell = round((x - self.low) / self.step)
        if abs(self.low + cell * self.step - x) > 1e-9 * max(abs(x), self.step) or cell >= self.levels:
            raise SpaceError(f"{value!r} is not on the grid of {self!r}; expected low + a whole number of steps")
        return self.middle(np.array([cell]))

    def slope(self, u: np.ndarray) -> np.ndarray:
        """(width,) -> (width,) d(user's unit) / d(coordinate)."""
        return self._map.slope(u)

    def __repr__(self) -> str:
        named = (
            f"{k}={v!r}"
            for k, v in (("start", self.start), ("spread", self.spread), ("step", self.step))
            if v is not None
        )
        bounds = "" if math.isinf(self.low) and math.isinf(self.high) else f"{self.low!r}, {self.high!r}"
        return text(self, bounds, "scale='log'" if self.scale == "log" else "", *named)


def _number(variable: Any, value: Any) -> float:
    try:
        if isinstance(value, (str, bytes, complex)):
            raise TypeError
        x = float(value)
    except (TypeError, ValueError, OverflowError):
        raise SpaceError(f"{value!r} is not a number; {variable!r} expects one") from None
    return x


@dataclass(frozen=True, repr=False)
class Integer(_Cells, Conditional):
    """A whole number from low to high, both included; every one has equal room (on a log scale, in the logarithm).

    >>> Integer(1, 4).decode(np.array([[0.0], [0.3], [1.0]]))
    [1, 2, 4]
    """

    low: int
    high: int
    scale: Scale = "linear"
    conditions: tuple[Condition, ...] = ()

    kind = "integer"
    shape = ()

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise SpaceError(f"Integer got {name}={value!r}; expected a whole number. For reals use Real")
        if self.low > self.high:
            raise SpaceError(
                f"Integer got low={self.low} above high={self.high}; low must not be above high. Swap them?"
            )
        check_scale("Integer", self.scale, self.low)
        if self.levels > 2**50:
            raise SpaceError(
                f"Integer got {self.levels} values; at most 2**50 can be told apart in a float. Use Real, or scale it"
            )

    @property
    def levels(self) -> int:
        return int(self.high) - int(self.low) + 1

    limits = (np.zeros(1), np.ones(1))

    @property
    def _logs(self) -> tuple[float, float]:
        """Logarithm of the lower edge of the first cell, and the width of all cells together."""
        first = math.log(self.low - 0.5)
        return first, math.log(self.high + 0.5) - first

    def cells(self, u: np.ndarray) -> np.ndarray:
        if self.scale == "linear":
            return _Cells.cells(self, u)
        first, width = self._logs
        whole = np.rint(np.exp(first + width * u)).astype(np.int64) - self.low
        return np.clip(whole, 0, self.levels - 1)

    def edge(self, cells: np.ndarray) -> np.ndarray:
        if self.scale == "linear":
            return _Cells.edge(self, cells)
        first, width = self._logs
        return np.clip((np.log(np.asarray(cells) + self.low - 0.5) - first) / width, 0.0, 1.0)

    def middle(self, cells: np.ndarray) -> np.ndarray:
        if self.scale == "linear":
            return _Cells.middle(self, cells)
        first, width = self._logs
        return (np.log(np.asarray(cells) + float(self.low)) - first) / width

    def column(self, u: np.ndarray) -> np.ndarray:
        """(P, 1) -> (P,) whole numbers, as an array."""
        return self.low + self.cells(u[:, 0])

    def decode(self, u: np.ndarray) -> list[int]:
        """(P, 1) -> P ints."""
        return self.column(u).tolist()

    def encode(self, value: Any) -> np.ndarray:
        """A whole number -> (1,)."""
        x = _number(self, value)
        if not self.low <= x <= self.high:
            raise SpaceError(f"{value!r} lies outside {self!r}")
        if x != math.floor(x):
            raise SpaceError(f"{value!r} is not a whole number; {self!r} expects one")
        return self.middle(np.array([int(value) - self.low]))

    def slope(self, u: np.ndarray) -> np.ndarray:
        return np.zeros_like(u)

    def __repr__(self) -> str:
        return text(self, f"{int(self.low)}, {int(self.high)}", "scale='log'" if self.scale == "log" else "")


@dataclass(frozen=True, repr=False)
class Choice(_Cells, Conditional):
    """One of some options, without an order between them. The cost is given the option itself.

    >>> Choice(["relu", "gelu"]).decode(np.array([[0.1], [0.9]]))
    ['relu', 'gelu']
    """

    options: Sequence[Any]
    conditions: tuple[Condition, ...] = ()
    _options: tuple[Any, ...] = field(init=False, compare=False)

    kind = "choice"
    shape = ()
    limits = (np.zeros(1), np.ones(1))

    def __post_init__(self) -> None:
        if isinstance(self.options, (str, bytes)) or not hasattr(self.options, "__iter__"):
            raise SpaceError(
                f"Choice got {self.options!r}; expected a list of options, such as Choice(['relu', 'gelu'])"
            )
        if isinstance(self.options, (set, frozenset)):
            raise SpaceError(
                f"Choice got the set {describe(self.options)}; expected a list: the order of a set is another in every "
                "process, so that a run could not be repeated"
            )
        if isinstance(self.options, Iterator):  # it can be read once only
            object.__setattr__(self, "options", tuple(self.options))
        object.__setattr__(self, "_options", tuple(self.options))
        if not self._options:
            raise SpaceError("Choice got no options; expected at least one")
        for i, option in enumerate(self._options):
            if any(same(option, other) for other in self._options[:i]):
                raise SpaceError(f"Choice got {describe(option)} twice; expected each option once")

    @property
    def levels(self) -> int:
        return len(self._options)

    def column(self, u: np.ndarray) -> list[Any]:
        """(P, 1) -> P options."""
        return self.decode(u)

    def decode(self, u: np.ndarray) -> list[Any]:
        """(P, 1) -> P options."""
        return [self._options[i] for i in self.cells(u[:, 0]).tolist()]

    def encode(self, value: Any) -> np.ndarray:
        """An option -> (1,)."""
        for i, option in enumerate(self._options):
            if same(option, value):
                return self.middle(np.array([i]))
        raise SpaceError(f"{describe(value)} is not an option of {self!r}")

    def slope(self, u: np.ndarray) -> np.ndarray:
        return np.zeros_like(u)

    def __repr__(self) -> str:
        return text(self, f"[{', '.join(map(describe, self._options))}]")


def same(a: Any, b: Any) -> bool:
    """Equal and of one type: True is not 1; what cannot say yes or no, as an array cannot, is only itself."""
    if a is b or type(a) is not type(b) or isinstance(a, np.ndarray):
        return a is b
    try:
        return bool(a == b)
    except (TypeError, ValueError, RuntimeError):  # arrays within a tuple, tensors
        return False


@dataclass(frozen=True, repr=False, eq=False)
class Array(Conditional):
    """An array of reals of one shape; bounds, start and spread are numbers or arrays of that shape.

    >>> Array((3,), -1, 1).decode(np.array([[0.0, 0.5, 1.0]]))
    [array([-1.,  0.,  1.])]
    """

    shape: tuple[int, ...]
    low: Any = -math.inf
    high: Any = math.inf
    scale: Scale = "linear"
    start: Any = None
    spread: Any = None
    dtype: str = "float64"
    conditions: tuple[Condition, ...] = ()

    kind = "real"
    levels = 0

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, (int, np.integer)) else self.shape
        try:
            shape = tuple(operator.index(n) for n in shape)
        except TypeError:
            raise SpaceError(f"Array got shape={self.shape!r}; expected whole numbers, such as (3,)") from None
        if not shape or min(shape) < 1:
            raise SpaceError(
                f"Array got shape={self.shape!r}; expected at least one axis, each at least 1 long. "
                "For one number use Real"
            )
        object.__setattr__(self, "shape", shape)
        try:
            dtype = np.dtype(self.dtype)
        except TypeError:
            dtype = None
        if dtype is None or dtype.kind != "f":
            raise SpaceError(
                f"Array got dtype={self.dtype!r}; expected a floating one. For whole numbers use Integer variables"
            )
        if not isinstance(self.dtype, str):  # np.float32: a name can be kept in a file
            object.__setattr__(self, "dtype", dtype.name)
        self._map  # noqa: B018 - checked where it is given

    @cached_property
    def _map(self) -> Interval:
        return interval("Array", self.shape, self.low, self.high, self.scale, self.start, self.spread)

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        return self._map.limits

    def column(self, u: np.ndarray) -> np.ndarray:
        """(P, width) -> (P, *shape) in the user's units."""
        return self._map.decode(u).astype(self.dtype, copy=False).reshape(len(u), *self.shape)

    def decode(self, u: np.ndarray) -> list[np.ndarray]:
        """(P, width) -> P arrays of the shape."""
        return list(self.column(u))

    def encode(self, value: Any) -> np.ndarray:
        """An array of the shape -> (width,)."""
        try:
            x = np.asarray(value, float)
        except (TypeError, ValueError):
            raise SpaceError(
                f"{value!r} is not an array of numbers; {self!r} expects one of shape {self.shape}"
            ) from None
        if x.shape != self.shape:
            raise SpaceError(f"an array of shape {x.shape} was given; {self!r} expects shape {self.shape}")
        x = x.ravel()
        if not ((self._map.low <= x) & (x <= self._map.high) & np.isfinite(x)).all():
            raise SpaceError(f"{value!r} lies outside {self!r}")
        return self._map.encode(x)

    def slope(self, u: np.ndarray) -> np.ndarray:
        """(width,) -> (width,) d(user's unit) / d(coordinate)."""
        return self._map.slope(u)

    def __repr__(self) -> str:
        def show(x: Any) -> str:
            return repr(np.asarray(x).tolist()) if np.ndim(x) else repr(float(x))

        bounds = (
            ""
            if np.isinf(self._map.low).all() and np.isinf(self._map.high).all()
            else f"{show(self.low)}, {show(self.high)}"
        )
        named = (f"{k}={show(v)}" for k, v in (("start", self.start), ("spread", self.spread)) if v is not None)
        extra = f"dtype={self.dtype!r}" if self.dtype != "float64" else ""
        return text(self, repr(self.shape), bounds, "scale='log'" if self.scale == "log" else "", *named, extra)


Variable = Real | Integer | Choice | Array
