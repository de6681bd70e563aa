"""The derivative of anything from its values alone, with an error bar on every entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np

from eitherway.base.errors import ModelError, nearest
from eitherway.base.keys import Key
from eitherway.calculus.accept import must_be_callable
from eitherway.calculus.differences.ladder import Slopes, differentiate
from eitherway.calculus.differences.noise import measure_noise
from eitherway.calculus.differences.smoothed import antithetic, spsa
from eitherway.calculus.differences.values import Values, entry

Method = Literal["central", "forward", "spsa", "antithetic"]

_SAYS = {
    "central": "central differences",
    "forward": "forward differences",
    "spsa": "simultaneous perturbation (SPSA)",
    "antithetic": "antithetic evolution strategies: the gradient of the smoothed function",
}


@dataclass
class Estimate:
    """A derivative estimated from values.

    Args:
        value: y.shape + x.shape, float64, a tensor if x was one; for a scalar f the gradient, shaped like x.
        error: as `value`. Differences: a bar that holds the derivative with about 95 % or more, truncation and noise
            together. SPSA and antithetic: one standard error over the samples.
        steps: shaped like x: how far each entry moved, at most (differences), or typically (samples).
        evaluations: calls of f, or points judged by a batched one, those for the noise included.
        noise: standard deviation of the values, shaped like y.
        method: how it was estimated.
        bias: antithetic only: how far the smoothed gradient lies from the derivative at x, itself estimated.
        bias_error: its standard error.
        notes: kinks, neighbours without a value, anything a reader should hear; sentences.
    """

    value: Any
    error: Any
    steps: Any
    evaluations: int
    noise: Any
    method: Method
    bias: Any = None
    bias_error: Any = None
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        lines = [f"{_SAYS[self.method]}, {self.evaluations} evaluations", *self._rows()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{escape(row)}</td></tr>" for row in (*self._rows(), *self.notes))
        return f"<table><caption>{escape(_SAYS[self.method])}, {self.evaluations} evaluations</caption>{rows}</table>"

    def _rows(self, most: int = 12) -> list[str]:
        """`d y[1] / d x[0] = 0.25 +- 1e-10`, the first entries; as many digits as the bar allows."""
        steps, value = np.asarray(self.steps), np.asarray(self.value)
        x_shape, y_shape = steps.shape, value.shape[: value.ndim - steps.ndim]
        value, error = value.reshape(-1, max(steps.size, 1)), np.asarray(self.error).reshape(-1, max(steps.size, 1))
        rows = [
            f"d {entry('y', i, y_shape)} / d {entry('x', j, x_shape)} = {with_bar(value[i, j], error[i, j])}"
            for i in range(min(len(value), most))
            for j in range(min(value.shape[1], most))
        ][:most]
        return rows + ([f"... and {value.size - len(rows)} more entries"] if value.size > len(rows) else [])


def estimate(
    f: Callable[..., Any],
    x: Any,
    method: Method = "central",
    *,
    noise: float | None = None,
    scale: Any = None,
    samples: int | None = None,
    spread: float = 0.05,
    batched: bool = False,
    seed: int = 0,
) -> Estimate:
    """The derivative of f at x from values alone: of a simulator, a NumPy function, a torch function, anything.

    Steps follow the noise of f, measured first: differences begin at its optimum, 2 (eps_f / |f''|)^(1/2) forward and
    (3 eps_f / |f'''|)^(1/3) central, move when the slopes say otherwise, and are extrapolated. Per entry of x, central
    takes 6 to 14 evaluations, forward 3 to 7; SPSA takes 2 a sample and antithetic 4, however long x is.

    Args:
        f: takes one point: a float or an array if x is a number, list or array; a tensor if x is one. It may return a
            number or an array of any shape.
        x: the point, of any shape.
        method: `central` is the most exact, `forward` costs half of it, `spsa` serves long x, `antithetic` rough f (it
            estimates the gradient of f smoothed by a normal of width `spread`, and says by how much that differs).
        noise: standard deviation of the values of f; measured where not given, with 8 evaluations or a few times 8.
        scale: what a large move of each entry of x is, a number or shaped like x; |x| by default, 1 for zeros. No
            step is longer than half of it.
        samples: directions of `spsa` and `antithetic`; 100 by default.
        spread: of `antithetic`: the standard deviation of moves, in scales.
        batched: f takes (K, *x.shape) and returns (K, *y.shape): all neighbours in few calls.
        seed: draws the directions.

    Raises:
        ModelError: if x is no point, f has no value there, or a setting cannot be used.

    Source: Moré & Wild 2011 (noise) and 2012 (steps); Ridders 1982; Spall 1992; Salimans et al. 2017.

    >>> print(estimate(lambda x: x[0] ** 2 * x[1], [3.0, 2.0]).value.round(6))
    [12.  9.]
    """
    must_be_callable(f, "estimate")
    if method not in get_args(Method):
        raise ModelError(f"method={method!r} is no way to estimate a derivative. {nearest(method, get_args(Method))}")
    sampled = method in ("spsa", "antithetic")
    if samples is not None and not (sampled and isinstance(samples, Integral) and samples >= 2):
        raise ModelError(
            f"samples={samples!r} with {method!r}: samples are the directions of 'spsa' and 'antithetic', at least 2"
        )
    if noise is not None and not (isinstance(noise, Real) and 0 <= noise < np.inf):
        raise ModelError(f"noise={noise!r} is no standard deviation of f: give a number >= 0, or leave it out")
    if not (isinstance(spread, Real) and 0 < spread < np.inf):
        raise ModelError(f"spread={spread!r} is no width to smooth over: give a number above 0, such as 0.05")
    values = Values(f, x, batched=batched)
    if not values.x.size:
        raise ModelError(f"x has shape {values.shape}: there is no entry to differentiate by")
    unit, key = _unit(values, scale), Key(seed)
    if noise is None:
        level, spent = measure_noise(
            values.evaluate, values.x, values.base, unit, values.grain, key.numpy("estimate: noise"))  # fmt: skip
    else:
        level, spent = np.fmax(np.full(len(values.base), float(noise)), values.grain * np.abs(values.base)), 0
    shape = values.output_shape + values.shape
    finish = {"method": method, "noise": values.like(level, values.output_shape)}
    if not sampled:
        slopes = differentiate(
            values.evaluate, values.x, values.base, range(len(values.x)), noise=level, unit=unit, grain=values.grain,
            rounded=values.rounded, side="both" if method == "central" else "above",
        )  # fmt: skip
        return Estimate(
            values.like(slopes.value, shape), values.like(slopes.error, shape), values.like(slopes.steps, values.shape),
            spent + slopes.evaluations + 1, notes=_notes(values, slopes, method), **finish,
        )  # fmt: skip
    samples = samples or 100
    if method == "spsa":
        relative = np.median(level / np.maximum(np.abs(values.base), 1e-300))
        steps = unit * min(max(float(relative), values.grain), 0.01) ** (1 / 3)
        found = spsa(values.evaluate, values.x, steps, samples, key.numpy("estimate: signs"))
    else:
        found = antithetic(values.evaluate, values.x, unit * spread, samples, key.numpy("estimate: normals"))
    bias, bias_error = (part if part is None else values.like(part, shape) for part in (found.bias, found.bias_error))
    return Estimate(
        values.like(found.value, shape), values.like(found.error, shape), values.like(found.steps, values.shape),
        spent + found.evaluations + 1, bias=bias, bias_error=bias_error,
        notes=_sampled_notes(values, found.lost, samples, method, bias), **finish,
    )  # fmt: skip


def with_bar(value: float, bar: float) -> str:
    """A number with its bar, in as many digits as the bar allows.

    >>> with_bar(0.51234567, 2.3e-4), with_bar(2.0, 0.0)
    ('0.51235 +- 2.3e-04', '2 +- 0')
    """
    if not np.isfinite(value) or not np.isfinite(bar):
        return f"{value:.6g} +- {bar:.2g}"
    if bar == 0:
        return f"{value:.12g} +- 0"
    digits = int(np.clip(2 + np.floor(np.log10(max(abs(value), bar))) - np.floor(np.log10(bar)), 1, 15))
    return f"{value:.{digits}g} +- {bar:.1e}"


def _unit(values: Values, scale: Any) -> np.ndarray:
    """(n,) what a large move of each entry is."""
    if scale is None:
        return np.where(np.abs(values.x) < 1e-100, 1.0, np.abs(values.x))
    try:
        unit = np.broadcast_to(np.asarray(scale, dtype=np.float64), values.shape).reshape(-1)
    except ValueError:
        unit = np.zeros(1)
    if not (np.isfinite(unit).all() and (unit > 0).all()):
        raise ModelError(f"scale={scale!r:.60} must be a positive number, or one for each entry of x {values.shape}")
    return unit


def _notes(values: Values, slopes: Slopes, method: str) -> tuple[str, ...]:
    """Kinks, entries seen from one side, and entries that no neighbour speaks of."""
    notes = []
    wanted = "both" if method == "central" else "above"
    why = f" ({values.failures.most_common(1)[0][0]})" if values.failures else ""
    for j, side in enumerate(slopes.sides):
        x = entry("x", j, values.shape)
        for i in np.flatnonzero(slopes.endless[:, j])[:3]:
            y = entry("y", int(i), values.output_shape)
            notes.append(f"{y}: its slope in {x} grows without end as steps shrink: a jump, or an infinite slope")
        if np.isnan(slopes.value[:, j]).all():
            notes.append(f"{x}: no neighbour has a value{why}; its derivative is unknown")
        elif side != wanted:
            away = {"above": "below", "below": "above", "both": ""}[side]
            notes.append(
                f"{x}: neighbours {away} have no value{why}; the slope was taken from {side}, its bar is wider"
            )
        elif j in slopes.failed:
            notes.append(f"{x}: {slopes.failed[j]} of its neighbours had no value{why}; nearer ones were used")
        for i in np.flatnonzero(np.isfinite(slopes.below[:, j]))[:3]:
            y = entry("y", int(i), values.output_shape)
            notes.append(
                f"{y} has a kink in {x}: slope {slopes.below[i, j]:.4g} below, {slopes.above[i, j]:.4g} above; "
                f"given is the middle, the bar reaches both"
            )
    unknown = np.flatnonzero(~np.isfinite(values.base))
    if unknown.size:
        notes.append(f"{entry('y', int(unknown[0]), values.output_shape)} is not finite at x and has no derivative")
    return (*notes[:20], *([f"... and {len(notes) - 20} more notes"] if len(notes) > 20 else []))


def _sampled_notes(values: Values, lost: int, samples: int, method: str, bias: Any) -> tuple[str, ...]:
    notes = []
    if lost:
        why = f" ({values.failures.most_common(1)[0][0]})" if values.failures else ""
        notes.append(f"{lost} of {samples * (1 + (method == 'antithetic'))} pairs had no value{why} and were left out")
    if bias is not None:
        size, value = float(np.abs(np.asarray(bias)).max()), "the gradient of f smoothed, not of f at x"
        notes.append(
            f"this is {value}; the two differ by about {size:.2g} at most (bias), and less with a smaller spread"
        )
    return tuple(notes)
