"""The pictures of a report, as SVG in the ink of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eitherway.base.style import BEST, COLOURS, FAINT, INK, figure, style, svg
from eitherway.methods.protocol import OK
from eitherway.run.history import History
from eitherway.run.kept import Kept
from eitherway.run.plot import draw_history, scale_values
from eitherway.space.condition import describe
from eitherway.space.space import Space
from eitherway.space.variables import Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 12
"""Columns that are drawn; of more, those that tell most about the value."""
DOTS = 1500
"""Points in a slice."""
LINES, LEADERS = 120, 30
"""Lines of parallel coordinates: of all points, and of the best ones."""


@dataclass(frozen=True)
class Column:
    """One column of a space as it is drawn.

    Args:
        label: the variable's name, with an index for one number of an Array.
        values: (N,) in the user's unit, or the option's place; NaN where it takes no part.
        unit: (N,) the same in [0, 1].
        options: names of the places of a Choice, else None.
        log: whether its axis is logarithmic.
    """

    label: str
    values: np.ndarray
    unit: np.ndarray
    options: list[str] | None
    log: bool


def _picture(made: Figure, label: str) -> str:
    """A figure as SVG; what is best has the page's accent, which is lighter on a dark ground."""
    return svg(made, label).replace(BEST, "var(--accent)")


def convergence(history: History) -> str:
    """All values and the best so far."""
    with style():
        made = figure(7.6, 3.6)
        draw_history(made.add_subplot(), history["value"], history["status"], history["best"])
    return _picture(made, "every value, and the best so far, against evaluations")


def comparison(groups: Mapping[str, Sequence[History]], sign: float) -> str:
    """The best so far of several runs: the median of each group, and its quartiles where a group has three or more."""
    with style():
        made = figure(7.6, 3.8)
        axes = made.add_subplot()
        ends = []
        for i, (label, histories) in enumerate(groups.items()):
            colour, dashes = COLOURS[i % len(COLOURS)], ("-", "--", ":")[i // len(COLOURS) % 3]
            at, best = aligned([history["best"] for history in histories])
            drawn: dict[str, Any] = {"color": colour, "linestyle": dashes, "drawstyle": "steps-post"}
            label = safe(label, 60) + (f" ({len(best)} runs)" if len(best) > 1 else "")
            whole = np.isfinite(best).all(0)
            if len(best) < 3:
                for row in best:
                    axes.plot(at[np.isfinite(row)], row[np.isfinite(row)], label=label, **drawn)
                    label = "_again"  # not in the legend
            elif whole.any():
                low, middle, high = np.quantile(best[:, whole], [0.25, 0.5, 0.75], axis=0)
                axes.fill_between(at[whole], low, high, color=colour, alpha=0.18, linewidth=0, step="post")
                axes.plot(at[whole], middle, label=label, **drawn)
            ends.append(best[np.isfinite(best)])
        axes.set_xlabel("evaluations")
        axes.set_ylabel("best so far")
        values = np.concatenate(ends)
        if len(values):
            scale_values(axes, values, float(sign * (sign * values).min()))
            axes.legend(loc="best")
    return _picture(made, "the best so far of every group of runs, median and quartiles, against evaluations")


def aligned(bests: Sequence[np.ndarray], most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Best-so-far curves at common evaluations; a run that has stopped keeps its last.

    Args:
        bests: R curves of their own lengths.

    Returns:
        (M,) evaluations from 1, and (R, M); infinite or NaN before a run's first value.

    >>> at, best = aligned([np.array([3.0, 1.0]), np.array([2.0, 2.0, 0.0])])
    >>> at.tolist(), best.tolist()
    ([1, 2, 3], [[3.0, 1.0, 1.0], [2.0, 2.0, 0.0]])
    """
    longest = max(map(len, bests))
    at = np.unique(np.linspace(1, longest, min(most, longest)).astype(int))
    rows = [best[np.minimum(at, len(best)) - 1] if len(best) else np.full(len(at), np.nan) for best in bests]
    return at, np.array(rows)


def slices(kept: Kept) -> str | None:
    """The value against each variable; the best twentieth stands out. None where no point is known."""
    points, values = known(kept)
    if len(values) < 2:
        return None
    leaders = np.argsort(kept.configuration["sign"] * values)[: max(1, len(values) // 20)]
    shown = np.unique(np.r_[np.linspace(0, len(values) - 1, min(DOTS, len(values))).astype(int), leaders[:DOTS]])
    columns = telling(columns_of(kept.space, points), values)
    across = min(4, len(columns))
    down = -(-len(columns) // across)
    with style():
        made = figure(7.6, 0.5 + 1.75 * down)
        grid = made.subplots(down, across, squeeze=False, sharey=True)
        front = np.isin(shown, leaders)
        for axes, column in zip(grid.flat, columns, strict=False):
            at = column.values
            if column.options is not None:  # an option's points lie side by side, always in the same places
                at = at + 0.5 * (np.arange(len(at)) * 0.618034 % 1.0 - 0.5)
            many = {"linestyle": "", "marker": ".", "markeredgewidth": 0, "rasterized": len(shown) > 200}
            axes.plot(at[shown[~front]], values[shown[~front]], color=FAINT, alpha=0.45, markersize=4, **many)
            axes.plot(at[shown[front]], values[shown[front]], color=BEST, alpha=0.7, markersize=5, **many)
            axes.plot(at[leaders[:1]], values[leaders[:1]], "o", mfc="none", mec=INK, mew=1.2, ms=7)
            axes.set_title(safe(column.label, 24), fontsize=9, fontweight="normal")
            if column.options is not None:
                axes.set_xticks(range(len(column.options)), [safe(name, 8) for name in column.options])
                axes.tick_params(axis="x", labelrotation=30 if len(column.options) > 3 else 0, labelsize=7)
            else:
                axes.tick_params(axis="x", labelsize=7)
                if column.log:
                    _log_axis(axes, at[np.isfinite(at)], 5.6 / across)
                else:
                    axes.locator_params(axis="x", nbins=4)
        for axes in list(grid.flat)[len(columns) :]:
            axes.set_visible(False)
        scale_values(grid[0, 0], values, float(values[leaders[0]]))
        for axes in grid[:, 0]:
            axes.set_ylabel("value")
    return svg(made, f"the value against each of {len(columns)} variables, the best twentieth standing out")


def _log_axis(axes: Axes, values: np.ndarray, inches: float) -> None:
    """A logarithmic x axis with few ticks: powers of ten, or plain numbers where there are not two of these.

    Args:
        values: (N,) what is drawn along it, finite.
        inches: about how wide it is.
    """
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    if np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:
        ticks = plain_ticks(low, high, inches)
        axes.set_xticks([number for number, _ in ticks], [text for _, text in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def plain_ticks(low: float, high: float, inches: float) -> list[tuple[float, str]]:
    """Round numbers from low to high, with their texts, as many as have room side by side on a logarithmic axis.

    >>> plain_ticks(0.02, 0.09, 1.4)
    [(0.02, '0.02'), (0.03, '0.03'), (0.05, '0.05'), (0.08, '0.08')]
    """
    from matplotlib.ticker import MaxNLocator

    if not high > low:
        return [(low, f"{low:.4g}")]
    found = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high)
    inside = [float(f"{number:.12g}") for number in found if low <= number <= high] or [low, high]
    digits = next((d for d in range(1, 12) if len({f"{number:.{d}g}" for number in inside}) == len(inside)), 12)
    ticks: list[tuple[float, str]] = []
    end = -np.inf
    for number in inside:
        text = f"{number:.{max(digits, 5)}g}"
        at = inches * np.log(number / low) / np.log(high / low)
        half = 0.03 * len(text)  # inches: a digit of 7 points is about 0.06 wide
        if at - half > end + 0.1:
            ticks.append((number, text))
            end = at + half
    return ticks


def parallel(kept: Kept) -> str | None:
    """Every point as a line across all variables, the best ones in front; None where that would tell nothing."""
    points, values = known(kept)
    columns = telling(columns_of(kept.space, points), values) if len(values) >= 8 else []
    if len(columns) < 2:
        return None
    order = np.argsort(kept.configuration["sign"] * values)
    leaders = order[: max(1, min(LEADERS, len(order) // 20))]
    shown = np.linspace(0, len(values) - 1, min(LINES, len(values))).astype(int)
    unit = np.array([column.unit for column in columns])  # (K, N)
    with style():
        made = figure(7.6, 3.4)
        axes = made.add_subplot()
        axes.plot(unit[:, shown], color=FAINT, alpha=0.3, linewidth=0.7)
        axes.plot(unit[:, leaders[::-1]], color=BEST, alpha=0.55, linewidth=1.1)
        axes.plot(unit[:, order[0]], color=INK, linewidth=2.0)
        axes.set_xticks(range(len(columns)), [safe(column.label, 14) for column in columns], fontsize=8)
        axes.set_yticks([])
        axes.set_ylim(-0.12, 1.12)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", alpha=0.8)
        for k, column in enumerate(columns):
            for height, text in _ends(column):
                if 0 < height < 1:
                    axes.text(k + 0.03, height + 0.02, text, fontsize=7, va="bottom")
                else:
                    axes.text(k, height, text, fontsize=7, va="bottom" if height else "top", ha="center")
    return _picture(made, "each point as a line across the variables, the best ones in front, the best one bold")


def _ends(column: Column) -> list[tuple[float, str]]:
    """(height, text) of what is written along an axis: both ends, or the options."""
    if column.options is not None and len(column.options) <= 8:
        return [((i + 0.5) / len(column.options), safe(name, 10)) for i, name in enumerate(column.options)]
    finite = column.values[np.isfinite(column.values)]
    if not len(finite):
        return []
    return [(0.0, f"{finite.min():.3g}"), (1.0, f"{finite.max():.3g}")]


# ---- what is drawn --------------------------------------------------------------------------------------------------
def known(kept: Kept) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) points that were kept and have a finite value, and (N,) their values."""
    values, points = kept.history["value"], kept.history.points()
    rows = (kept.history["status"] == OK) & np.isfinite(values) & np.isfinite(points).all(1)
    return points[rows], values[rows]


def columns_of(space: Space, points: np.ndarray) -> list[Column]:
    """Every column of a space at some points.

    Args:
        points: (N, D) search coordinates.
    """
    active = space.active(points)
    found = []
    for (name, variable), where in zip(space.variables.items(), space.slices, strict=True):
        width = where.stop - where.start
        options, log = None, getattr(variable, "scale", "linear") == "log"
        if isinstance(variable, Choice):
            options = [describe(option) if not isinstance(option, str) else option for option in variable.options]
            user = variable.cells(points[:, where]).astype(float)
        else:
            user = np.asarray(variable.column(points[:, where]), float).reshape(len(points), -1)
        for i in range(width):
            taken = active[:, where.start + i]
            label = "x" if space.lone else name
            label += f"[{i}]" if width > 1 else ""
            coordinate = points[:, where.start + i]
            if options is not None:
                coordinate = (user[:, 0] + 0.5) / len(options)
            else:  # what was searched fills the axis
                low, high = coordinate.min(initial=np.inf), coordinate.max(initial=-np.inf)
                coordinate = (coordinate - low) / (high - low) if high > low else np.full(len(points), 0.5)
            values, unit = np.where(taken, user[:, i], np.nan), np.where(taken, coordinate, np.nan)
            found.append(Column(label, values, unit, options, log))
    return found


def telling(columns: list[Column], values: np.ndarray, most: int = PANELS) -> list[Column]:
    """The columns that tell most about the value, in their own order: all, if they are few.

    Told is the share of the spread of the values' ranks that lies between eight slices of a column.
    """
    if len(columns) <= most:
        return columns
    ranks = np.argsort(np.argsort(values)).astype(float)
    told = []
    for column in columns:
        cells = np.minimum((np.nan_to_num(column.unit, nan=-1.0) * 8).astype(int), 7) + 8
        counts, sums = np.bincount(cells, minlength=16), np.bincount(cells, ranks, minlength=16)
        full = counts > 0
        told.append(float((counts[full] * (sums[full] / counts[full] - ranks.mean()) ** 2).sum()))
    first = sorted(np.argsort(told)[::-1][:most].tolist())
    return [columns[i] for i in first]


def safe(text: str, most: int) -> str:
    """A text of the user's as matplotlib writes it literally, no longer than so many characters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")
