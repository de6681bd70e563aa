"""The map between search coordinates and the user's units, and the checks on what bounds it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eitherway.base.errors import SpaceError


def check_scale(name: str, scale: str, low: Any) -> None:
    if scale not in ("linear", "log"):
        raise SpaceError(f"{name} got scale={scale!r}; expected 'linear' or 'log'")
    if scale == "log" and not np.all(np.asarray(low) > 0):
        raise SpaceError(
            f"{name} with scale='log' got low={low}; a log scale needs low above 0. Raise low, or use 'linear'"
        )


@dataclass(frozen=True)
class Interval:
    """The map between search coordinates and user's units, elementwise over the columns of one variable.

    Bounded on both sides: the unit interval, with the log inside where asked. Else (x - start) / spread.
    """

    low: np.ndarray
    high: np.ndarray
    scale: str
    start: np.ndarray
    spread: np.ndarray

    @cached_property
    def bounded(self) -> np.ndarray:
        return np.isfinite(self.low) & np.isfinite(self.high)

    @cached_property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper), each (width,), in search coordinates."""
        lower = np.where(self.bounded, 0.0, (self.low - self.start) / self.spread)
        return lower, np.where(self.bounded, 1.0, (self.high - self.start) / self.spread)

    @cached_property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """(offset, width): on a linear scale the user's unit is offset + width * coordinate."""
        with np.errstate(invalid="ignore"):
            width = np.where(self.bounded, self.high - self.low, self.spread)
        return np.where(self.bounded, self.low, self.start), width

    def decode(self, u: np.ndarray) -> np.ndarray:
        if self.scale == "log":
            x = self.low * np.exp(u * np.log(self.high / self.low))
        else:
            offset, width = self.affine
            x = offset + width * u
        return np.minimum(np.maximum(x, self.low), self.high)

    def encode(self, x: np.ndarray) -> np.ndarray:
        if self.scale == "log":
            return np.log(x / self.low) / np.log(self.high / self.low)
        offset, width = self.affine
        return (x - offset) / width

    def slope(self, u: np.ndarray) -> np.ndarray:
        """The derivative of the user's unit with respect to the search coordinate."""
        if self.scale == "log":
            return self.decode(u) * np.log(self.high / self.low)
        return np.broadcast_to(self.affine[1], u.shape)


def interval(name: str, shape: tuple[int, ...], low: Any, high: Any, scale: str, start: Any, spread: Any) -> Interval:
    """Checks what a Real or an Array was given and lays it out over its columns."""

    def column(what: str, value: Any) -> np.ndarray:
        try:
            array = np.asarray(value, float)
            return np.broadcast_to(array, shape).ravel().copy() if shape else array.reshape(1).copy()
        except (TypeError, ValueError):
            raise SpaceError(
                f"{name} got {what}={value!r}; expected a number{f' or an array of shape {shape}' * bool(shape)}"
            ) from None

    lows, highs = column("low", low), column("high", high)
    for what, values in (("low", lows), ("high", highs)):
        if np.isnan(values).any():
            raise SpaceError(f"{name} got {what}=nan; expected a number, or leave it out for an open side")
    wrong = np.flatnonzero(~(lows < highs))
    if len(wrong):
        i = wrong[0]
        where = f" at index {i}" if shape else ""
        if lows[i] == highs[i]:
            raise SpaceError(
                f"{name} got low and high both {lows[i]:g}{where}; nothing can vary. Fix it in the cost instead"
            )
        raise SpaceError(
            f"{name} got low={lows[i]:g} above high={highs[i]:g}{where}; low must be below high. Swap them?"
        )
    bounded = np.isfinite(lows) & np.isfinite(highs)
    if scale == "log" and not bounded.all():
        raise SpaceError(f"{name} with scale='log' got low={low}, high={high}; a log scale needs both bounds")
    check_scale(name, scale, lows)
    if bounded.all() and (start is not None or spread is not None):
        raise SpaceError(f"{name} has both bounds, so it takes no start= or spread=; give start= to minimize instead")
    with np.errstate(invalid="ignore"):
        inside = np.where(np.isfinite(lows), lows + 1, np.where(np.isfinite(highs), highs - 1, 0.0))
    starts = inside if start is None else column("start", start)
    spreads = np.ones_like(starts) if spread is None else column("spread", spread)
    if not (np.isfinite(spreads).all() and (spreads > 0).all()):
        raise SpaceError(
            f"{name} got spread={spread!r}; expected a positive number: how far the first points may lie from start"
        )
    if not np.isfinite(starts).all() or (~bounded & ((starts < lows) | (starts > highs))).any():
        raise SpaceError(f"{name} got start={start!r}; expected a finite number between low={low} and high={high}")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        widths = np.where(bounded, highs - lows, 0.0)
        ratios = highs / lows if scale == "log" else widths
    if not np.isfinite(widths).all():
        raise SpaceError(
            f"{name} got low={low}, high={high}; their difference is not finite. Use scale='log', or closer bounds"
        )
    if not np.isfinite(ratios).all():
        raise SpaceError(f"{name} got low={low}, high={high}; their ratio is not finite. Use closer bounds")
    return Interval(lows, highs, scale, starts, spreads)
