"""Pictures of a chain: how long the products are along it, and its factors as matrices side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eitherway.base.errors import ModelError
from eitherway.base.style import BAD, BEST, COLOURS, FAINT, INK, figure, style
from eitherway.calculus.links import Link, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.calculus.chain_rule import ChainRule

LABELS = 26
"""Names that fit below the axis; of longer chains every so many."""
FACTORS, SIDE = 8, 256
"""Matrices side by side, and rows or columns of each, that can be told apart on a page."""
WRITTEN = 5
"""Rows and columns up to which the numbers stand in the cells."""


def draw(table: ChainRule, axes: Axes | None, kind: str) -> Axes:
    """The picture of that kind, on new axes if none are given.

    Raises:
        ModelError: for an unknown kind, a chain without links, and factors that cannot be told apart.
    """
    if kind not in ("norms", "factors"):
        raise ModelError(f"kind={kind!r} was given; a chain is drawn as kind='norms' or kind='factors'")
    if not table.links:
        raise ModelError(f"{table.name} has no links to draw: {table.output} does not follow {table.source}")
    if kind == "factors":
        largest = max(max(link.shape) for link in table.links)
        if len(table.links) > FACTORS or largest > SIDE:
            raise ModelError(
                f"{len(table.links)} factors of up to {largest} rows or columns cannot be told apart side by side (up "
                f"to {FACTORS} of {SIDE} can); draw kind='norms', or a shorter chain"
            )
    with style(paper=True):
        if axes is None:
            width = 8.4 if kind == "norms" else _width(table)
            axes = figure(width, 4.4 if kind == "norms" else _height(table)).add_subplot()
        _norms(axes, table) if kind == "norms" else _factors(axes, table)
    return axes


# norms along the chain ---------------------------------------------------------------------------------------------


def _norms(axes: Axes, table: ChainRule) -> None:
    links, L = table.links, len(table.links)
    back = [link.backward for link in links] + [math.sqrt(table.shape[0])]
    forth = [math.sqrt(table.shape[1])] + [link.forward for link in links]
    shown = [s for s in (*back, *forth) if s > 0 and math.isfinite(s)]
    if not shown:
        shown = [1.0]
    low, high = math.log10(min(shown)), math.log10(max(shown))
    room = max(1.0, high - low)
    axes.set_yscale("log")
    axes.set_ylim(10 ** (low - 0.12 * room), 10 ** (high + 0.3 * room))
    axes.set_xlim(-0.03 * L - 0.2, L + 0.03 * L + 0.2)
    _mark_stretches(axes, table)
    dots: dict[str, Any] = {"marker": "o", "markersize": 4 if L <= 60 else 0}
    for sizes, colour, label in (
        (back, BEST, f"|{ratio(table.output, 'z')}|, multiplied backwards"),
        (forth, COLOURS[4], f"|{ratio('z', table.source)}|, multiplied forwards"),
    ):
        drawn = [s if s > 0 and math.isfinite(s) else math.nan for s in sizes]
        axes.plot(range(L + 1), drawn, color=colour, label=label, **dots)
    _mark_links(axes, table)
    every = math.ceil(L / LABELS)
    at = [k for k in range(L) if k % every == 0 or (k == L - 1 and (L - 1) % every > every / 2)]
    turned: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks([k + 0.5 for k in at], [_short(links[k]) for k in at], **turned)
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.grid(visible=False, axis="x")
    axes.set_title(f"{table.name} along {L} link{'s' * (L > 1)}")
    axes.set_ylabel("norm of the product" + (" (estimated)" if table.estimated else ""))
    axes.legend(loc="upper center", ncols=2)


def _short(link: Link) -> str:
    """A name below the axis: the operation, and the module it ran in."""
    name = link.operation if len(link.operation) <= 18 else link.operation[:16] + "…"
    module = link.module if len(link.module) <= 14 else "…" + link.module[-12:]
    return f"{module} {name}".strip()


def _mark_stretches(axes: Axes, table: ChainRule) -> None:
    for stretch in table.stretches:
        colour = BAD if stretch.vanishes else COLOURS[3]
        axes.axvspan(stretch.first, stretch.last, color=colour, alpha=0.09, linewidth=0)
        middle = (stretch.first + stretch.last) / 2
        word = "vanishes" if stretch.vanishes else "explodes"
        axes.annotate(
            f"{word}: {stretch.before:.2g} to {stretch.after:.2g}, read from the right",
            (middle, 0.04 if stretch.vanishes else 0.1),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=8.5,
            color=colour,
        )


def _mark_links(axes: Axes, table: ChainRule) -> None:
    """Wrong, cut, dead and breaking links: a bar behind, a word above."""
    last = -math.inf
    for k, link in enumerate(table.links):
        word = _word(link)
        if not word:
            continue
        axes.axvspan(k, k + 1, color=BAD, alpha=0.22, linewidth=0)
        near = k - last < 0.07 * len(table.links)
        last = k if not near else last
        if not near:
            axes.annotate(
                word, (k + 0.5, 0.84), xycoords=("data", "axes fraction"), ha="center", fontsize=8.5, color=BAD,
                fontweight="bold",
            )  # fmt: skip


def _word(link: Link) -> str:
    several = link.parts or [link]
    if any(part.wrong for part in several):
        return "wrong"
    if any(part.broken for part in several):
        return "breaks"
    if any(part.structure == "cut" and part.dead for part in several):
        return "cut"
    return "dead" if any(part.dead for part in several) else ""


# factors as matrices -----------------------------------------------------------------------------------------------


def _side(n: int) -> float:
    """How long n cells are drawn: large matrices larger, small ones still to be seen."""
    return 0.55 * n**0.62


GAP = 0.75
"""Room between two matrices, for the sign."""


def _matrices(table: ChainRule) -> list[tuple[str, Any, str, bool]]:
    """Name, numbers, what made it, and whether it is blamed: the whole first, then the factors from the left."""
    found = [(table.name, table.derivative.reshape(table.shape).detach().cpu().numpy(), "", False)]
    for link in reversed(table.links):
        found.append((link.name, link.jacobian.detach().cpu().numpy(), _short(link), bool(_word(link))))
    return found


def _extent(table: ChainRule) -> tuple[float, float]:
    shapes = [table.shape, *(link.shape for link in table.links)]
    wide = sum(max(_side(q), 1.35) for _, q in shapes) + 1.3 * GAP * (len(shapes) - 1)
    return wide, max(_side(p) for p, _ in shapes)


def _scale(table: ChainRule) -> float:
    """Inches a unit, so that pictures are neither thumbnails nor posters."""
    wide, high = _extent(table)
    return min(0.85, 12.0 / wide, 6.0 / high)


def _width(table: ChainRule) -> float:
    return max(5.0, _scale(table) * _extent(table)[0] + 0.6)


def _height(table: ChainRule) -> float:
    return _scale(table) * (_extent(table)[1] + 1.9) + 0.5


def _factors(axes: Axes, table: ChainRule) -> None:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("signed", [BEST, "#ffffff", BAD])
    x, high = 0.0, _extent(table)[1]
    for k, (name, numbers, made, blamed) in enumerate(_matrices(table)):
        p, q = numbers.shape
        wide, tall = _side(q), _side(p)
        room = max(wide, 1.35)
        left = x + (room - wide) / 2
        finite = numbers[np.isfinite(numbers)]
        size = float(np.abs(finite).max()) if finite.size and np.abs(finite).max() > 0 else 1.0
        axes.imshow(
            numbers, cmap=colours, vmin=-size, vmax=size, extent=(left, left + wide, -tall / 2, tall / 2),
            aspect="auto", interpolation="nearest", zorder=2,
        )  # fmt: skip
        _brackets(axes, left, left + wide, tall, BAD if blamed else INK)
        if p <= WRITTEN and q <= WRITTEN:
            _numbers(axes, numbers, left, wide, tall, size)
        middle = left + wide / 2
        ink = BAD if blamed else INK
        for y, text, more in (
            (high / 2 + 0.28, name, {"va": "bottom", "fontsize": 10, "fontweight": "bold", "color": ink}),
            (-high / 2 - 0.25, f"{p} x {q}", {"va": "top", "fontsize": 8, "color": FAINT}),
            (-high / 2 - 0.6, made, {"va": "top", "fontsize": 8, "color": ink}),
        ):
            axes.text(middle, y, text, ha="center", **more)
        x += room + 1.3 * GAP
        if k < len(table.links):
            axes.text(x - 0.65 * GAP, 0, "=" if k == 0 else "·", ha="center", va="center", fontsize=15)
    axes.set(xlim=(-0.35, x - 1.3 * GAP + 0.35), ylim=(-high / 2 - 1.0, high / 2 + 0.85), aspect="equal")
    axes.axis("off")


def _brackets(axes: Axes, left: float, right: float, tall: float, colour: str) -> None:
    away, hook, top = 0.09, 0.1, tall / 2 + 0.06
    for edge, way in ((left - away, 1), (right + away, -1)):
        inner = edge + way * hook
        axes.plot([inner, edge, edge, inner], [top, top, -top, -top], color=colour, linewidth=1.3)


def _numbers(axes: Axes, numbers: Any, left: float, wide: float, tall: float, size: float) -> None:
    p, q = numbers.shape
    for i in range(p):
        for j in range(q):
            number = float(numbers[i, j])
            x, y = left + (j + 0.5) * wide / q, tall / 2 - (i + 0.5) * tall / p
            text = "0" if number == 0 else f"{number:.2g}"
            shade = "white" if math.isfinite(number) and abs(number) > 0.72 * size and size else INK
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=shade, zorder=3)
