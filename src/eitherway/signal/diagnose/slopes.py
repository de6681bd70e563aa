"""The slope of a function where its pre-activations really fall: units that are dead, entries that are saturated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.diagnose.measure import rms
from eitherway.signal.structure import Path

FLAT = 1e-3
"""A slope below it, beside the function's steepest, passes less than a thousandth of the gradient: what others learn in
a step takes a thousand."""
QUIET = 0.01
"""A unit that is awake for fewer than one in a hundred of its numbers learns from one sample in a hundred."""
_MOST = 2**20
"""Numbers of one value that are looked at; of more, every k-th sample or position is taken."""


@dataclass(frozen=True)
class Slopes:
    """A function at its measured pre-activations u."""

    value: int
    """The graph's value u."""
    text: str
    """The function: relu, u * sigmoid(u)."""
    units: int
    dead: float
    """Share of units whose slope is below FLAT everywhere, of a function that is flat at one end (ReLU, GELU)."""
    quiet: float
    """Share of units awake for fewer than QUIET of their numbers, likewise; dead ones included."""
    saturated: float
    """Share of numbers with a slope below FLAT, of a function that is flat at both ends (tanh, sigmoid)."""
    numbers: int
    """Numbers a unit: samples times positions."""
    mean: float
    scale: float
    """Mean and standard deviation of u."""
    awake: float
    """Share of numbers with a slope."""


@dataclass(frozen=True)
class Theory:
    """A function under a Gaussian u of given mean and scale; the numbers of `signal.moments`, on a fixed grid."""

    second: float
    """E phi^2."""
    slope: float
    """E phi'^2."""
    stability: float
    """Growth of log E phi^2 with log scale^2."""
    mean_share: float
    squashing: bool
    """Whether it is flat at both ends, and steep where most of the numbers fall."""
    steepest: float
    """|slope| that nine tenths of the numbers within two standard deviations stay below: poles and jumps left out."""


@cache
def _nodes() -> tuple[Tensor, Tensor]:
    """Points and weights of the trapezium rule on +-8 standard deviations: 1e-3 at kinks, 1e-12 elsewhere."""
    z = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    density = torch.exp(-z * z / 2)
    return z, density / density.sum()


_UNIT: WeakKeyDictionary[Callable[..., Tensor], Theory | None] = WeakKeyDictionary()


def unit_theory(path: Path) -> Theory | None:
    """What a path does to a standard normal; looked up by many, so kept as long as the path lives."""
    if path.replay not in _UNIT:
        _UNIT[path.replay] = theory(path, 0.0, 1.0)
    return _UNIT[path.replay]


def theory(path: Path, mean: float, scale: float) -> Theory | None:
    """What a path does to a Gaussian; None where it is no function of one number."""
    if path.kind == "same":
        second = mean**2 + scale**2
        share = mean**2 / second if second > 0 else 0.0
        return Theory(second, 1.0, 1.0 - share, share, False, 1.0)
    if path.kind != "activation" or not (math.isfinite(mean) and math.isfinite(scale)):
        return None
    z, weights = _nodes()
    found = at(path, mean + scale * z)
    ends = at(path, torch.tensor([-1e4, -30.0, 30.0, 1e4], dtype=torch.float64))
    if found is None or ends is None:
        return None
    y, dy = found
    second = float(weights @ y.square())
    if not second > 0 or not math.isfinite(second):
        return None
    first = float(weights @ y)
    stability = float(weights @ (y.square() * (z * z - 1))) / (2 * second)  # Stein: right where phi jumps, too
    steepest = float(dy[z.abs() <= 2].abs().quantile(0.9))
    flat = ends[1].abs() < FLAT * max(steepest, 1e-300)
    asleep = (dy.abs() < FLAT * steepest).double() @ (torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum())
    squashing = bool(flat.all()) and float(asleep) < 0.25  # ReLU6 has two flat ends, and half asleep by design
    return Theory(second, float(weights @ dy.square()), stability, first**2 / second, squashing, steepest)


def at(path: Path, u: Tensor) -> tuple[Tensor, Tensor] | None:
    """phi(u) and phi'(u) for u (N,) in float64, by central differences; None where the path is no function of one.

    The step follows the size of u, so that a kink at 0 is one for small numbers, too, and is wide enough for values
    that do not vanish with u: 1e-10 of their size leaves six digits of the slope.
    """
    try:
        y = path(u)
        step = max(1e-6 * rms(u), 1e-10 * rms(y), 1e-300)
        right, left = path(u + step), path(u - step)
    except (ModelError, RuntimeError, TypeError, IndexError):
        return None
    if y.shape != u.shape or not y.is_floating_point():
        return None
    return y.nan_to_num(), ((right - left) / (2 * step)).nan_to_num()


def slopes(path: Path, u: Tensor, axis: int) -> Slopes | None:
    """A function at the numbers that reach it.

    Args:
        path: of kind "activation".
        u: pre-activations, any shape.
        axis: the units'.
    """
    u = u.detach()
    if not torch.isfinite(u).all() or not u.numel() or u.ndim == 0:
        return None
    rows = u.movedim(axis, 0).reshape(u.shape[axis], -1)  # (units, numbers)
    rows = rows[:, :: -(-rows.numel() // _MOST)].double()
    mean, scale = float(rows.mean()), float(rows.std(correction=0))
    known = unit_theory(path)
    found = at(path, rows.reshape(-1))
    if found is None or known is None:
        return None
    slope = found[1].reshape(rows.shape)
    if not known.steepest > 0:
        return None
    awake = slope.abs() >= FLAT * known.steepest
    share = awake.double().mean(1)
    saturated = 1.0 - float(share.mean()) if known.squashing else 0.0
    dead = 0.0 if known.squashing else float((share == 0).double().mean())
    quiet = 0.0 if known.squashing else float((share < QUIET).double().mean())
    return Slopes(
        path.sources[0], path.text, len(slope), dead, quiet, saturated, slope.shape[1], mean, scale, float(share.mean())
    )
