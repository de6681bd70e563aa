"""The model that quasi-Newton methods keep: a quadratic, learned from differences of gradients, minimised in a box."""

from __future__ import annotations

import numpy as np


def newton_step(
    point: np.ndarray, gradient: np.ndarray, hessian: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """The step to the model's minimum in the box.

    Args:
        point: (D,) within the bounds.
        gradient: (D,).
        hessian: (D, D) positive definite.
        lower, upper: (D,), infinite where open.

    Returns:
        (D,) a step that stays within the bounds; NaN where the model is degenerate.

    Source: a primal active set for convex quadratics, Nocedal & Wright 2006, algorithm 16.3, begun where all columns
    that run out of the box are put on its bounds at once.
    """
    low, high = lower - point, upper - point
    held = ((low >= 0) & (gradient > 0)) | ((high <= 0) & (gradient < 0))
    if not held.any():
        step = _solve(hessian, -gradient)
        if ((step >= low) & (step <= high)).all():
            return step
        held = ~((step >= low) & (step <= high))
        step = np.where(held, np.minimum(np.maximum(step, low), high), 0.0)
    else:
        step = np.zeros(len(point))
    for _ in range(3 * len(point) + 3):
        free = ~held
        aim = step.copy()
        if free.any():
            rhs = -gradient[free] - hessian[np.ix_(free, held)] @ step[held]
            aim[free] = _solve(hessian[np.ix_(free, free)], rhs)
            outside = free & ~((aim >= low) & (aim <= high))
            if outside.any():  # as far as the first bound on the way
                way = aim - step
                room = np.where(way > 0, high - step, low - step)[outside] / way[outside]
                first = np.flatnonzero(outside)[room.argmin()]
                step = np.minimum(np.maximum(step + room.min() * way, low), high)
                step[first] = high[first] if way[first] > 0 else low[first]
                held[first] = True
                continue
        step = aim
        slope = gradient + hessian @ step
        pull = np.where(held, np.where(step <= low, -slope, slope), 0.0)  # positive where it wants back in
        loose = int(pull.argmax())
        if not pull[loose] > 1e-12 * float(np.abs(gradient).max()):
            break
        held[loose] = False
    return step


def damped_bfgs(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> None:
    """Teaches the model, in place, how the gradient changed over a step; it stays positive definite.

    Args:
        hessian: (D, D).
        step: (D,) what was gone.
        change: (D,) of the gradient over it.

    Source: Powell 1978; Nocedal & Wright 2006, procedure 18.2.
    """
    stretched = hessian @ step
    curvature, seen = float(step @ stretched), float(step @ change)
    if not curvature > 0 or not np.isfinite(seen):
        return
    theta = 1.0 if seen >= 0.2 * curvature else 0.8 * curvature / (curvature - seen)  # eq. 18.15
    r = theta * change + (1 - theta) * stretched
    learned = float(step @ r)
    if learned > 0 and np.isfinite(learned):
        hessian -= np.outer(stretched, stretched / curvature)
        hessian += np.outer(r, r / learned)


def _solve(matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(matrix, rhs)
    except np.linalg.LinAlgError:
        return np.full(len(rhs), np.nan)
