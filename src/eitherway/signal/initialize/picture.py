"""The picture of a start: the signal of every layer, planned and measured, and the gradient on its way back."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from eitherway.base.style import BEST, COLOURS, FAINT, figure, must_be_axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.signal.initialize.report import InitializeReport

_NAMED = 24
"""Layers up to which each is named below the picture."""


def plot_layers(report: InitializeReport, axes: Axes | None = None) -> Axes:
    """rms over layers, on a logarithmic scale where it spans more than a factor of 20."""
    if axes is not None:
        must_be_axes(axes, "report.plot().figure")
    with style(paper=True):
        if axes is None:
            axes = figure(7.2, 3.8).add_subplot()
        layers = report.layers
        series = (
            ("planned", [layer.predicted for layer in layers], FAINT, "-", 5.0),
            ("measured", [layer.measured for layer in layers], BEST, "-", 1.8),
            ("gradient", [layer.gradient for layer in layers], COLOURS[1], "-", 1.2),
        )
        drawn: list[float] = []
        for label, values, colour, line, width in series:
            places = [i for i, value in enumerate(values) if isfinite(value) and value > 0]
            if places:
                shown = [values[i] for i in places]
                drawn += shown
                marker = "o" if len(layers) <= _NAMED else ""
                axes.plot(places, shown, line, color=colour, linewidth=width, marker=marker, markersize=4, label=label)
        if drawn and max(drawn) > 20 * min(drawn):
            axes.set_yscale("log")
        elif drawn:
            axes.set_ylim(0, 1.25 * max(drawn))
        if len(layers) <= _NAMED:
            axes.set_xticks(range(len(layers)), [layer.name for layer in layers], rotation=60, ha="right", fontsize=7)
        else:
            axes.set_xlabel("layer")
        axes.set_ylabel("rms")
        axes.set_title(f"start: {report.scheme}")
        if drawn:
            axes.legend()
    return axes
