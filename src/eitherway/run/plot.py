"""The picture of a run: every value, and the best so far, against evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eitherway.base.style import BAD, BEST, FAINT, INK, must_be_axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 4000
"""Points that are drawn one by one; of more, the extremes of each stretch of evaluations, and every new best."""
DECADES = 30.0
"""Values above zero whose quartiles and extremes span more than this ratio are drawn on a log axis."""


def plot_history(result: Any, axes: Axes | None = None) -> Axes:
    """Draws all values faint, the best so far bold, failures as marks below.

    Args:
        result: a Result, or anything with a `history` that has the columns value, status and best.
        axes: where to draw; a new figure of pyplot's if None.
    """
    if axes is None:
        from matplotlib import pyplot

        with style(paper=True):
            _, axes = pyplot.subplots(figsize=(7.2, 3.8))
    must_be_axes(axes)
    history = result.history
    draw_history(axes, history["value"], history["status"], history["best"])
    return axes


def draw_history(axes: Axes, values: np.ndarray, status: np.ndarray, best: np.ndarray) -> None:
    """The same from columns.

    Args:
        values: (N,) in the user's sign, NaN where there is none.
        status: (N,) 0 for a value.
        best: (N,) the best so far, NaN before the first.
    """
    from matplotlib.ticker import MaxNLocator

    N = len(values)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("evaluations")
    axes.set_ylabel("value")
    known = np.flatnonzero((status == 0) & np.isfinite(values))
    if not len(known):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing had a value", transform=axes.transAxes, ha="center", va="center", color=INK)
        _failures(axes, np.flatnonzero(status != 0))
        return
    shown = known[thinned(values[known])]
    faint = float(np.clip(0.9 - 0.12 * np.log10(len(shown)), 0.35, 0.8))
    axes.plot(
        shown + 1,
        values[shown],
        ".",
        color=FAINT,
        alpha=faint,
        markersize=5,
        markeredgewidth=0,
        rasterized=len(shown) > 250,
        label="every value",
    )
    finite = np.flatnonzero(np.isfinite(best))
    turns = finite[np.flatnonzero(np.r_[True, np.diff(best[finite]) != 0])]
    at, level = np.r_[turns, N - 1] + 1, best[np.r_[turns, N - 1]]
    axes.plot(at, level, drawstyle="steps-post", color=BEST, label="best so far")
    scale_values(axes, values[known], float(level[-1]))
    axes.set_xlim(0.5 - 0.01 * N, N + 0.5 + 0.01 * N)
    _failures(axes, np.flatnonzero(status != 0))
    axes.legend(loc="best")


def scale_values(axes: Axes, values: np.ndarray, keep: float) -> None:
    """A log axis where values are above zero and span decades; otherwise a linear one that outliers do not squash.

    Args:
        values: (N,) finite, not empty.
        keep: a value that must stay in view, the best.
    """
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > DECADES:
        axes.set_yscale("log")
        return
    first, last = np.quantile(values, [0.25, 0.75])
    room = 8.0 * (last - first)  # 8 interquartile ranges: a normal sample of a million never reaches them
    bottom, top = min(max(low, first - room), keep), max(min(high, last + room), keep)
    if top > bottom and (bottom > low or top < high):
        edge = 0.05 * (top - bottom)
        axes.set_ylim(bottom - edge, top + edge)


def thinned(values: np.ndarray, most: int = MOST) -> np.ndarray:
    """(N,) -> rows to draw, at most about `most`: all if they are few, else extremes of each stretch and new bests.

    >>> thinned(np.arange(5.0)).tolist()
    [0, 1, 2, 3, 4]
    >>> len(thinned(np.random.default_rng(0).random(100_000))) <= 4500
    True
    """
    N = len(values)
    if N <= most:
        return np.arange(N)
    width = -(-4 * N // most)  # evaluations a stretch
    whole = N // width * width
    blocks = values[:whole].reshape(-1, width)
    starts = np.arange(0, whole, width)
    between = np.arange(0, N, -(-2 * N // most))  # extremes alone would draw two bands
    rows = [starts + blocks.argmin(1), starts + blocks.argmax(1), between]
    for sign in (1.0, -1.0):
        least = np.minimum.accumulate(sign * values)
        rows.append(np.flatnonzero(np.r_[True, np.diff(least) < 0])[-200:])
    return np.unique(np.concatenate(rows))


def _failures(axes: Axes, rows: np.ndarray) -> None:
    """Marks along the lower edge where there was no value."""
    if not len(rows):
        return
    if len(rows) > 500:
        rows = rows[np.linspace(0, len(rows) - 1, 500).astype(int)]
    axes.plot(
        rows + 1,
        np.zeros(len(rows)),
        "|",
        color=BAD,
        markersize=7,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
        label="no value",
        rasterized=len(rows) > 200,
    )
    axes.legend(loc="best")
