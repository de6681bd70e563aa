"""The picture of a diagnosis: signal and gradient from layer to layer, and where the alarms are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eitherway.base.style import BAD, BEST, COLOURS, FAINT, figure, must_be_axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.signal.diagnose.report import Diagnosis

_NAMED = 12
"""Layers up to which each has its name on the axis."""
_MARKED = 4
"""Alarms that are marked; the text tells the rest."""


def plot_signal(found: Diagnosis, axes: Axes | None = None) -> Axes:
    """Rms of each layer's output and of its gradient on a log axis, the layers of each alarm shaded.

    Args:
        axes: where to draw; new ones by default.
    """
    if axes is not None:
        must_be_axes(axes)
    layers = found.layers
    with style(paper=True):
        if axes is None:
            axes = figure(7.2, 4.0).add_subplot()
        places = range(len(layers))
        dots = "o" if len(layers) <= 40 else ""
        for label, values, colour in (
            ("signal, rms of the output", [x.rms for x in layers], BEST),
            ("gradient, rms by the output", [x.gradient for x in layers], COLOURS[2]),
        ):
            shown = [v if v > 0 and math.isfinite(v) else math.nan for v in values]
            axes.plot(places, shown, color=colour, marker=dots, markersize=3.5, label=label)
            lost = [k for k, v in enumerate(values) if v == 0 or math.isinf(v)]
            if lost:
                axes.plot(
                    lost, [0.02] * len(lost), "x", color=colour, transform=axes.get_xaxis_transform(),
                    label=f"{label.partition(',')[0]}: zero or infinite",
                )  # fmt: skip
        axes.set_yscale("log")
        _at_least_a_decade(axes)
        if layers:
            axes.axhline(1.0, color=FAINT, linewidth=0.8, zorder=0)
            axes.set_xlim(-0.6, len(layers) - 0.4)
        for k, verdict in enumerate(found.alarms[:_MARKED]):
            spans = _spans([x.name for x in layers], verdict.layers)
            for low, high in spans:
                axes.axvspan(low - 0.5, high + 0.5, color=BAD, alpha=0.10, linewidth=0)
            if spans:
                axes.text(
                    max(spans[0][0] - 0.4, -0.5), 0.97 - 0.07 * k, verdict.kind, color=BAD, fontsize=9, va="top",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
                    transform=axes.get_xaxis_transform(),
                )  # fmt: skip
        _name_layers(axes, [x.name for x in layers])
        axes.set_title(found.summary if len(found.summary) < 80 else found.summary[:77] + "...")
        axes.legend(loc="best")
    return axes


def _at_least_a_decade(axes: Axes) -> None:
    """So that what stays the same looks so."""
    low, high = axes.get_ylim()
    if low > 0 and high / low < 100:
        middle = math.sqrt(low * high)
        axes.set_ylim(middle / 10, middle * 10)


def _name_layers(axes: Axes, names: Sequence[str]) -> None:
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), [_end(n, 20) for n in names])
        axes.tick_params(axis="x", rotation=30 if sum(map(len, names)) > 50 else 0)
    else:
        step = -(-len(names) // 8)
        shown = list(range(0, len(names), step))
        axes.set_xticks(shown, [_end(names[k], 13) for k in shown])
        axes.set_xlabel(f"layer, of {len(names)} in the order they run")


def _end(name: str, most: int) -> str:
    """The last parts of a dotted name that fit."""
    while len(name) > most and "." in name:
        name = name.partition(".")[2]
    return name


def _spans(names: Sequence[str], marked: Sequence[str]) -> list[tuple[int, int]]:
    """Stretches of places whose names are marked, gaps of two joined; a marked module marks all inside it.

    >>> _spans(["a", "b.x", "b.y", "c", "d", "e", "f"], ["b", "f"])
    [(1, 2), (6, 6)]
    """
    found: list[tuple[int, int]] = []
    for k, name in enumerate(names):
        if not any(name == m or name.startswith(f"{m}.") for m in marked):
            continue
        if found and found[-1][1] >= k - 3:
            found[-1] = (found[-1][0], k)
        else:
            found.append((k, k))
    return found
