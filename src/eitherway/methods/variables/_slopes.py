"""May autograd be trusted here? Its slope along one direction beside differences of the cost's plain values."""

from __future__ import annotations

import numpy as np

from eitherway.methods.codec import state
from eitherway.space.space import Space

# Search coordinates. Rounding drowns the first in float32 costs, curvature bends the last: two neighbours must agree.
STEPS = (1e-6, 1e-4, 1e-2)
_EPS = float(np.finfo(float).eps)

WITHOUT = "CMAES, DE or SQP(gradients='differences')"
"""Methods to name where gradients are missing."""


@state
class Doubt:
    """A gradient that has not been confirmed yet.

    Args:
        point: (D,) where it was told.
        value: the cost there.
        said: the slope along `direction`, by autograd.
        direction: (D,) of length 1; it moves every column that has room on both sides.
        room: whether there is room against the direction, too.
        seen: one-sided slopes by differences: with and against the direction, for each of STEPS, as far as asked.
        spare: (D,) a second direction, in which the first one's alarm must come again; empty once it is used.
        spare_said: the slope along it, by autograd.
    """

    point: np.ndarray
    value: float
    said: float
    direction: np.ndarray
    room: bool
    seen: list[float]
    spare: np.ndarray
    spare_said: float


def doubt(point: np.ndarray, value: float, gradient: np.ndarray, space: Space, rng: np.random.Generator) -> Doubt:
    """Begins a check: the direction follows the gradient's signs, so that no parts cancel, and chance where it is 0.

    Args:
        point: (D,) with the finite cost `value` and `gradient` (D,).
        rng: for the signs of columns in which the gradient is 0: a cut one is seen there.
    """
    reach = STEPS[-1]
    inside = (point - reach >= space.lower) & (point + reach <= space.upper)
    room = bool(inside.any())

    def direction(weights: np.ndarray) -> np.ndarray:
        if room:
            chance = np.where(rng.random(len(point)) < 0.5, -1.0, 1.0)
            signs = np.where(inside, np.where(gradient == 0, chance, np.sign(gradient)), 0.0)
        else:  # a corner: only inwards
            signs = np.where(point + reach <= space.upper, 1.0, -1.0)
        return signs * weights / np.linalg.norm(signs * weights)

    first, second = direction(np.ones(len(point))), direction(rng.uniform(0.2, 1.0, len(point)))
    said, again = float(gradient @ first), float(gradient @ second)
    return Doubt(point.copy(), float(value), said, first, room, [], second, again)


def probe(d: Doubt, space: Space) -> np.ndarray:
    """(1, D) the next point to be judged on plain values."""
    return space.clip(d.point + _step(d, len(d.seen)) * d.direction)[None]


def weigh(d: Doubt, point: np.ndarray, value: float) -> bool | None:
    """Takes the value (NaN where it failed) of the probed `point`; whether the gradient is trusted, or None to ask on.

    It is trusted as soon as one difference agrees with it, or once it lies between the one-sided slopes of a kink. It
    is called cut only where two neighbouring step sizes agree with each other, on both sides, and not with it, along
    two directions: noise, kinks and jumps make differences disagree, and then nothing is held against it. (12 false
    alarms in 20,000 checks of small ReLU networks in float32 and float64, all of them on 16 kinks at once.)
    """
    moved = float((point - d.point) @ d.direction)
    d.seen.append((value - d.value) / moved if np.isfinite(value) and moved else float("nan"))
    noise = 8 * _EPS * abs(d.value) / abs(moved or 1.0)
    if _near(d.seen[-1], d.said, 0.02, noise):
        return True
    if len(d.seen) % 2:
        return None
    ahead, behind = d.seen[-2:]
    middle = (ahead + behind) / 2
    slack = 0.02 * max(abs(ahead), abs(behind)) + noise
    if min(ahead, behind) - slack <= d.said <= max(ahead, behind) + slack:
        return True
    if len(d.seen) >= 4:
        before = (d.seen[-4] + d.seen[-3]) / 2
        smooth = _near(ahead, behind, 0.2, 0.0) and _near(d.seen[-4], d.seen[-3], 0.05, 0.0)
        if smooth and _near(middle, before, 0.05, 0.0):
            if not len(d.spare):
                return False
            d.said, d.direction, d.spare, d.seen = d.spare_said, d.spare, np.empty(0), []
            return None
    return True if len(d.seen) == 2 * len(STEPS) else None


def sentence(d: Doubt) -> str:
    """What was found, and how to mend it."""
    return (
        f"autograd says that the cost changes by {d.said:.3g} a unit along a direction in which it changes by "
        f"{d.seen[-1]:.3g}: part of the gradient is cut. math.sin(x), float(x), int(x), x.item() and x.detach() do "
        f"that; compute with torch.sin and its like, and keep the tensor. Or choose a method that needs no gradient: "
        f"{WITHOUT}"
    )


def missing(name: str, why: str | None) -> str:
    """The end of a method that has no other way than gradients.

    Args:
        name: of the method.
        why: what was told; None where the cost just failed on tensors.
    """
    why = (
        why or "the cost has a value at plain numbers and fails on tensors that track them (NumPy, float() or .item()?)"
    )
    return (
        f"{name} needs gradients, but {why}. Import torch, compute with torch on what the cost is given and return the "
        f"tensor; or choose a method that needs none: {WITHOUT}"
    )


def _step(d: Doubt, i: int) -> float:
    h = STEPS[i // 2]
    if i % 2 == 0:
        return h
    return -h if d.room else h / 2


def _near(a: float, b: float, share: float, noise: float) -> bool:
    return abs(a - b) <= share * max(abs(a), abs(b)) + noise
