"""A line search for the strong Wolfe conditions that is asked and told: every trial is a question of its own."""

from __future__ import annotations

import numpy as np

from eitherway.methods.codec import state

ARMIJO, CURVATURE = 1e-4, 0.9  # Nocedal & Wright 2006, section 3.1, for quasi-Newton directions
_TRIALS = 25


@state
class Line:
    """What is known of a function of one length, phi(a) for a >= 0, and the length to try next.

    Args:
        value, slope: phi(0), and phi'(0) < 0.
        trial: the next a.
        low, low_value, low_slope: the best end of the bracket; before there is one, the last trial.
        high, high_value: the other end; infinite before there is one.
        trials: how many were told.
    """

    value: float
    slope: float
    trial: float
    low: float
    low_value: float
    low_slope: float
    high: float
    high_value: float
    trials: int


def line(value: float, slope: float, first: float) -> Line:
    """Begins a search downhill, with the length `first`."""
    return Line(value, slope, first, 0.0, value, slope, np.inf, np.inf, 0)


def advance(s: Line, value: float, slope: float) -> str:
    """Takes phi and phi' at the trial; says "found", "failed", or "on" where `s.trial` is to be told next.

    A value that is not finite is a step too far. "failed" leaves the best length with a lower value in `s.low`, or 0.

    Args:
        value, slope: of the trial; NaN where it failed.

    Source: Nocedal & Wright 2006, algorithms 3.5 and 3.6, with parabolas for cubics.
    """
    a, s.trials = s.trial, s.trials + 1
    bracketed = np.isfinite(s.high)
    lower = value <= s.value + ARMIJO * a * s.slope and not (value >= s.low_value and (bracketed or s.trials > 1))
    if not lower or not np.isfinite(slope):  # too far: also where it is not finite
        s.high, s.high_value = a, value
    elif abs(slope) <= -CURVATURE * s.slope:
        return "found"
    else:
        if (bracketed and slope * (s.high - s.low) >= 0) or (not bracketed and slope >= 0):
            s.high, s.high_value = s.low, s.low_value
        s.low, s.low_value, s.low_slope = a, value, slope
    narrow = np.isfinite(s.high) and not abs(s.high - s.low) > 1e-12 * max(s.high, s.low)
    if s.trials >= _TRIALS or narrow:
        return "failed"
    s.trial = _between(s) if np.isfinite(s.high) else 4 * s.low
    return "on"


def _between(s: Line) -> float:
    """The minimum of the parabola through the bracket, kept a tenth away from its ends."""
    width = s.high - s.low
    bend = s.high_value - s.low_value - s.low_slope * width
    share = -s.low_slope * width / (2 * bend) if np.isfinite(bend) and bend > 0 else 0.5
    return s.low + width * min(max(share, 0.1), 0.9)
