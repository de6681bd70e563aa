"""The picture of a fusing: operations before and after as blocks, what merged bracketed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eitherway.base.style import BEST, COLOURS, FAINT, INK, figure, must_be_axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.linear.fuse.report import Block, Report

_MOST = 60
"""Blocks that a picture shows; the rest is counted."""
_FILL = {"weights": BEST, "affine": COLOURS[5], "other": FAINT}


def plot_blocks(report: Report, axes: Axes | None = None) -> Axes:
    """Operations in order from above, before on the left, after on the right; height tells their number alone."""
    if axes is not None:
        must_be_axes(axes)
    before, after = report.before[:_MOST], report.after[:_MOST]
    rows = max(len(before), len(after), 1)
    with style(paper=True):
        if axes is None:
            axes = figure(7.2, 1.0 + 0.24 * rows).add_subplot()
        places = _column(axes, before, 0.0)
        right = _column(axes, after, 6.2, _aligned(before, after))
        for block, y in zip(after, right):
            if block.group < 0:
                continue
            inside = [places[i] for i, b in enumerate(before) if b.group == block.group]
            if not inside:
                continue
            low, high = min(inside) - 0.36, max(inside) + 0.36
            axes.plot([4.55, 4.75, 4.75, 4.55], [low, low, high, high], color=INK, linewidth=1.1)
            axes.plot([4.75, 6.1], [(low + high) / 2, y], color=INK, linewidth=1.1)
        for x, head, count in ((0.0, "before", len(report.before)), (6.2, "after", len(report.after))):
            axes.text(x, -1.0, f"{head}: {count} operation{'' if count == 1 else 's'}", fontweight="bold", va="center")
            if count > _MOST:
                axes.text(x, _MOST, f"and {count - _MOST} more", color=FAINT, va="center")
        for x, kind in ((8.6, "weights"), (9.55, "affine"), (10.3, "other")):
            axes.text(x, -1.0, kind, color=_FILL[kind], va="center", fontsize=8)
        axes.set(xlim=(-0.1, 10.8), ylim=(rows + 0.2, -1.6))
        axes.axis("off")
        axes.set_title(report.summary)
    return axes


def _aligned(before: list[Block], after: list[Block]) -> list[float]:
    """Each block on the right beside what it stands for, and none above the one before it."""
    found: list[float] = []
    at = 0
    for block in after:
        if block.group >= 0:
            inside = [i for i, b in enumerate(before) if b.group == block.group]
            wanted = sum(inside) / len(inside) if inside else at
            at = max([*inside, at - 1]) + 1
        else:
            while at < len(before) and before[at].group >= 0:
                at += 1
            wanted, at = at, at + 1
        found.append(max(wanted, found[-1] + 1) if found else wanted)
    return found


def _column(axes: Axes, blocks: list[Block], x: float, places: list[float] | None = None) -> list[float]:
    from matplotlib.patches import Rectangle

    places = list(map(float, range(len(blocks)))) if places is None else places
    for block, y in zip(blocks, places):
        axes.add_patch(Rectangle((x, y - 0.36), 0.28, 0.72, facecolor=_FILL[block.kind], edgecolor="none"))
        text = block.label if len(block.label) < 44 else block.label[:41] + "..."
        axes.text(x + 0.42, y, text, va="center", fontsize=8, color=INK if block.kind != "other" else "#5c6670")
    return places
