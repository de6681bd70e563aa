"""Pictures of a chain: how long the products are along it, and its factors as matrices side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eitherway.base.errors import ModelError
from eitherway.base.style import BAD, BEST, COLOURS, FAINT, INK, figure, must_be_axes, style
from eitherway.calculus.chain_rule.links import Link, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.calculus.chain_rule.door import ChainRule

LABELS = 26
"""Names that fit below the axis; of longer chains every so many."""
FACTORS, SIDE = 8, 256
"""Matrices side by side, and rows or columns of each, that can be told apart on a page."""


def draw(table: ChainRule, axes: Axes | None, kind: str) -> Axes:
    """The picture of that kind, on new axes if none are given.

    Raises:
        ModelError: for an unknown kind, a chain without links, and factors that cannot be told apart.
    """
    if kind not in ("norms", "factors"):
        raise ModelError(f"kind={kind!r} was given; a chain is drawn as kind='norms' or kind='factors'")
    if axes is not None:
        must_be_axes(axes)
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
            axes = figure(*((8.4, 4.4) if kind == "norms" else _size(table))).add_subplot()
        _norms(axes, table) if kind == "norms" else _factors(axes, table)
    return axes


# norms along the chain ---------------------------------------------------------------------------------------------


def _norms(axes: Axes, table: ChainRule) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    links, L = table.links, len(table.links)
    back = [link.backward for link in links] + [math.sqrt(table.shape[0])]
    forth = [math.sqrt(table.shape[1])] + [link.forward for link in links]
    shown = [s for s in (*back, *forth) if s > 0 and math.isfinite(s)]
    if not shown:
        shown = [1.0]
    low, high = math.log10(min(shown)), math.log10(max(shown))
    room = max(1.0, high - low)
    axes.set_yscale("log")
    plain = FuncFormatter(lambda y, _: f"{y:g}" if 1e-3 < y < 1e4 else f"$10^{{{math.log10(y):.0f}}}$")
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(plain if room < 1.3 else NullFormatter())
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
    flat = L <= 8 and L * max(len(_short(link)) for link in links) <= 110
    turned: dict[str, Any] = {} if flat else {
        "rotation": 60, "ha": "right", "va": "center", "rotation_mode": "anchor",
    }  # fmt: skip
    names = [f"{links[k].name}\n{_short(links[k])}" if flat else _short(links[k]) for k in at]
    axes.set_xticks([k + 0.5 for k in at], names, **turned)
    axes.tick_params(axis="x", length=0 if flat else 4, labelsize=8)  # slanted names hang on the middle of their link
    axes.grid(visible=False, axis="x")
    axes.set_title(f"{table.name} along {L} link{'s' * (L > 1)}")
    axes.set_ylabel("norm of the product" + (" (in part estimated)" if any(table.estimated) else ""))
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


GAP, NAME, CELL = 0.62, 0.95, 0.42
"""Inches between two matrices, for the narrowest name, and for a cell that a number fits into."""


def _side(n: int) -> float:
    """How long n cells are drawn, before all are scaled alike: long ones are shortened, short ones still to be seen."""
    return 0.45 * n if n <= 5 else 2.25 * math.sqrt(n / 5)


def _matrices(table: ChainRule) -> list[tuple[str, Any, str, bool]]:
    """Name, numbers, what made it, and whether it is blamed: the whole first, then the factors from the left."""
    found = [(table.name, table.derivative.reshape(table.shape).detach().cpu().numpy(), "", False)]
    for link in reversed(table.links):
        found.append((link.name, link.jacobian.detach().cpu().numpy(), _short(link), bool(_word(link))))
    return found


def _layout(table: ChainRule) -> tuple[float, list[float], float]:
    """The scale of sides, the room that each matrix takes, and the height of the highest, in inches."""
    shapes = [table.shape, *(link.shape for link in reversed(table.links))]
    sides = [_side(q) for _, q in shapes]
    scale = min(1.0, (11.5 - GAP * len(sides)) / sum(sides), 4.2 / max(_side(p) for p, _ in shapes))
    names = [table.name, *(max((link.name, _short(link)), key=len) for link in reversed(table.links))]
    room = [max(scale * side, NAME, 0.085 * len(name)) for side, name in zip(sides, names)]
    return scale, room, scale * max(_side(p) for p, _ in shapes)


def _size(table: ChainRule) -> tuple[float, float]:
    _, room, high = _layout(table)
    return sum(room) + GAP * (len(room) - 1) + 0.5, high + 1.25


def _factors(axes: Axes, table: ChainRule) -> None:
    """The product as it stands in books; one unit of the axes is an inch."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("signed", [BEST, "#ffffff", BAD])
    scale, rooms, high = _layout(table)
    x = 0.0
    for k, ((name, numbers, made, blamed), room) in enumerate(zip(_matrices(table), rooms)):
        p, q = numbers.shape
        wide, tall = scale * _side(q), scale * _side(p)
        left, middle = x + (room - wide) / 2, x + room / 2
        finite = np.abs(numbers[np.isfinite(numbers)])
        size = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        axes.imshow(
            numbers, cmap=colours, vmin=-size, vmax=size, extent=(left, left + wide, -tall / 2, tall / 2),
            aspect="auto", interpolation="nearest", zorder=2,
        )  # fmt: skip
        ink = BAD if blamed else INK
        _brackets(axes, left, left + wide, tall, ink)
        if wide / q >= CELL and tall / p >= 0.6 * CELL:
            _numbers(axes, numbers, left, wide, tall, size)
        for y, text, more in (
            (tall / 2 + 0.16, name, {"va": "bottom", "fontsize": 10, "fontweight": "bold", "color": ink}),
            (-tall / 2 - 0.15, f"{p} x {q}", {"va": "top", "fontsize": 8, "color": FAINT}),
            (-tall / 2 - 0.31, made, {"va": "top", "fontsize": 8, "color": ink}),
        ):
            axes.text(middle, y, text, ha="center", **more)
        x += room + GAP
        if k < len(rooms) - 1:
            axes.text(
                x - GAP / 2, 0, "=" if k == 0 else "\u00b7", ha="center", va="center", fontsize=16 if k == 0 else 24
            )
    axes.set(xlim=(-0.25, x - GAP + 0.25), ylim=(-high / 2 - 0.6, high / 2 + 0.5), aspect="equal")
    axes.axis("off")


def _brackets(axes: Axes, left: float, right: float, tall: float, colour: str) -> None:
    away, hook, top = 0.07, 0.07, tall / 2 + 0.05  # inches
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
            text = f"{number:.0e}" if len(text) > 6 else text
            shade = "white" if math.isfinite(number) and abs(number) > 0.72 * size and size else INK
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=shade, zorder=3)
