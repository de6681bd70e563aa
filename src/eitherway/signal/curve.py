"""The picture of an activation: its values and slope over the Gaussian that meets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from eitherway.base.style import COLOURS, FAINT, figure, must_be_axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.signal.gain import Moments

_SHOWN = 4.0  # standard deviations: beyond them lies 0.006 % of the signal


def plot_curve(found: Moments, axes: Axes | None = None) -> Axes:
    """phi(u) and phi'(u) against u, the pre-activation's density shaded.

    Args:
        axes: where to draw; new ones by default.
    """
    with style():
        if axes is None:
            axes = figure().add_subplot()
        must_be_axes(axes)
        points = found.points
        shown = points.z.abs() <= _SHOWN
        u = points.u[shown].numpy()
        values = points.values.reshape(len(points.z), -1).mean(1)[shown]
        slopes = points.slopes.reshape(len(points.z), -1).mean(1)[shown]
        low, high = float(torch.minimum(values, slopes).min()), float(torch.maximum(values, slopes).max())
        density = torch.exp(-(points.z[shown] ** 2) / 2)
        axes.fill_between(u, low, low + (high - low) * 0.5 * density.numpy(), color=FAINT, alpha=0.25, linewidth=0)
        for label, line, colour in ((r"$\phi(u)$", values, COLOURS[0]), (r"$\phi'(u)$", slopes, COLOURS[1])):
            axes.plot(u, line.numpy(), color=colour)
            axes.annotate(
                label, (u[-1], float(line[-1])), (4, 0), textcoords="offset points", color=colour, va="center"
            )
        axes.set_xlabel(f"u ~ N({found.at_mean:g}, {found.at_scale**2:g})")
        axes.set_title(
            f"{found.name}: gain {found.gain:.4g}, chi {found.chi:.3g}, Q' {found.stability:.3g}, "
            f"C0 {found.mean_share:.2g}"
        )
    return axes
