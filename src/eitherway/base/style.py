"""One look for every figure: the palette, the settings, and figures that open no window."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eitherway.base.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#22262b"
"""Text, axes and ticks; on a page it becomes the page's own colour of text."""
FAINT = "#8f99a3"
"""What stands behind: single values, grids, comparisons."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Series, in order. Okabe & Ito 2008: told apart by colour-blind eyes, on white and on black."""
BEST, BAD = COLOURS[0], COLOURS[1]
"""The line that matters, and failures."""
RAMP = ("#f2d479", "#e69f00", "#9b3f6b", "#2b1a52")
"""Worse to better for values without a sign: falls in lightness all the way."""

_SETTINGS = {
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "savefig.facecolor": "none",
    "savefig.dpi": 120,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text: smaller, and the reader's own font
    "svg.hashsalt": "eitherway",  # the same picture has the same bytes
}


@contextmanager
def style(*, paper: bool = False) -> Iterator[None]:
    """Inside, matplotlib draws our way.

    Args:
        paper: on white; otherwise on whatever lies behind the picture.
    """
    import matplotlib
    from cycler import cycler

    ground = {"figure.facecolor": "white", "savefig.facecolor": "white"} if paper else {}
    with matplotlib.rc_context({**_SETTINGS, "axes.prop_cycle": cycler(color=list(COLOURS)), **ground}):  # type: ignore[arg-type]
        yield


def figure(width: float = 7.2, height: float = 3.8) -> Figure:
    """A figure of so many inches that belongs to nobody: no window, nothing to close. Make it inside `style()`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height))
    FigureCanvasAgg(made)
    return made


def must_be_axes(axes: Any, keep: str = ".plot().figure") -> None:
    """Refuses what nothing can be drawn on, such as the path of a picture.

    Args:
        keep: what leads to the figure.

    Raises:
        ModelError: saying how a picture is kept.
    """
    from matplotlib.axes import Axes

    if not isinstance(axes, Axes):
        name = str(axes) if isinstance(axes, str | Path) else "picture.png"
        raise ModelError(
            f"plot got {axes!r:.60}, a {type(axes).__name__}; expected matplotlib Axes to draw on, or nothing for new "
            f'ones; a picture is kept by {keep}.savefig("{name}")'
        )


def png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as PNG, the same bytes for the same picture."""
    out = io.BytesIO()
    with style():
        figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None}, facecolor=figure.get_facecolor())
    return out.getvalue()


def svg(figure: Figure, label: str) -> str:
    """A figure as SVG to stand inside a page: its ink is the page's, its size follows the page, `label` is its text.

    Args:
        label: what the picture shows, for those who do not see it.
    """
    from html import escape

    out = io.StringIO()
    with style():
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # names of groups: nobody asks for them, and two figures share them
    text = re.sub(r'^<svg[^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label="{escape(label)}">', text)
    return text.replace(INK, "currentColor")
