"""The picture of a hundred matrices: the size of the signal layer by layer, every case named where it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from eitherway.base.style import BAD, BEST, FAINT, INK, figure, must_be_axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eitherway.signal.depth import Carry

_LARGEST = float(torch.finfo(torch.float32).max)
_FLOOR = 1e-22  # what falls below leaves the picture: its label says where it vanishes
_APART = 0.052  # of the height, from one label to the next
_TOGETHER = (0.4, 2.5)  # rms at the end within which lines cannot be told apart


def plot_cases(cases: Sequence[Carry], axes: Axes | None = None) -> Axes:
    """Rms against layer on a logarithmic scale; what stays in blue, what is lost in red, what only seems to stay grey.

    Args:
        cases: of one depth.
        axes: to draw on; None: new ones.
    """
    with style():
        if axes is None:
            axes = figure(8.2, 4.6).add_subplot()
        must_be_axes(axes)
        depth = cases[0].depth
        finite = [value for case in cases for value in case.rms if math.isfinite(value) and value > 0]
        low, high = max(_FLOOR, min(finite) / 30), min(_LARGEST, max(finite) * 30)
        low, high = min(low, 1e-2), max(high, 1e2)
        labels: list[tuple[float, str, str]] = []  # height, text, colour
        together: list[Carry] = []
        for case in sorted(cases, key=_worth):
            rms = np.array(case.rms)
            rms[~np.isfinite(rms) | (rms <= 0)] = np.nan
            colour = _colour(case)
            axes.plot(np.arange(len(rms)), rms, color=colour, linewidth=2.6 if colour == BEST else 1.4)
            if case.overflow is not None:
                at = case.overflow - 1
                axes.plot([at], [rms[at]], "X", color=BAD, markersize=9, clip_on=False)
                axes.annotate(
                    f"{case.label}: {case.verdict}",
                    (at, rms[at]),
                    (9, -3),
                    textcoords="offset points",
                    color=BAD,
                    fontsize=9,
                )
            elif case.vanished is not None:
                at = int(np.nanargmax(np.where(rms < low * 300, np.arange(len(rms)) < case.vanished, False)))
                axes.annotate(
                    f"{case.label}: {case.verdict}",
                    (at, low * 30),
                    (9, 0),
                    textcoords="offset points",
                    color=BAD,
                    fontsize=9,
                )
            elif _TOGETHER[0] <= case.rms[-1] <= _TOGETHER[1]:
                together.append(case)
            else:
                text = case.label if colour == BAD else f"{case.label}: {_short(case)}"
                labels.append((case.rms[-1], f"{case.rms[-1]:.2g}  {text}" if colour == BAD else text, colour))
        for (good, ending), names in _gathered(together).items():
            height = 1.0 if good else 0.7  # below those that stay
            labels += [(height, f"{name}{ending}", BEST if good else FAINT) for name in names]
        axes.set(yscale="log", xlim=(0, depth), ylim=(low, high), xlabel="layer", ylabel="rms of the signal")
        if high / low > 1e30:
            axes.set_yticks([10.0**power for power in range(-300, 300, 10) if low <= 10.0**power <= high])
            axes.minorticks_off()
        _write(axes, labels, low, high)
        axes.set_title(f"A vector of {cases[0].width} numbers through {depth} matrices")
    return axes


def _write(axes: Axes, labels: list[tuple[float, str, str]], low: float, high: float) -> None:
    """Labels at the right edge, pushed apart where they would overlap."""
    if not labels:
        return
    span = math.log(high / low)
    labels = sorted(labels, key=lambda each: (each[0], each[2] == BEST))
    wanted = [math.log(min(max(value, low), high) / low) / span for value, _, _ in labels]
    placed = list(wanted)
    for _ in range(200):  # neighbours that are too near push one another
        for i in range(len(placed) - 1):
            lack = _APART - (placed[i + 1] - placed[i])
            if lack > 0:
                placed[i] -= lack / 2
                placed[i + 1] += lack / 2
    for (_, text, colour), at, height in zip(labels, wanted, placed):
        axes.annotate(
            text,
            (1.0, at),
            (1.06, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=INK if colour == FAINT else colour,
            fontsize=9,
            fontweight="bold" if colour == BEST else "normal",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 2,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def _worth(case: Carry) -> int:
    """The best on top."""
    return (FAINT, BAD, BEST).index(_colour(case))


def _colour(case: Carry) -> str:
    if case.verdict == "stays":
        return BEST
    return FAINT if case.verdict.startswith("stays") else BAD


def _short(case: Carry) -> str:
    """What is wrong with a signal that stays, in a word or two."""
    found = []
    if not 0.2 < case.gradient < 5:
        found.append(f"gradient x{case.gradient:.0e}")
    if case.cosine > 0.5:
        found.append("inputs alike")
    if case.spread > 10:
        found.append("uneven")
    return ", ".join(found)


def _gathered(cases: Sequence[Carry]) -> dict[tuple[bool, str], list[str]]:
    """Names of the cases that end alike, those of one activation or of one scheme in one: "relu and gelu, mirror"."""
    endings: dict[tuple[bool, str], list[Carry]] = {}
    for case in cases:
        good = case.verdict == "stays"
        endings.setdefault((good, "" if good else f": {_short(case)}"), []).append(case)
    names: dict[tuple[bool, str], list[str]] = {}
    for (good, ending), group in endings.items():
        parts: dict[str, list[str]] = {}
        for case in group:
            scheme = case.label.rpartition(", ")[2] if case.activation else case.label
            parts.setdefault(scheme if good else case.activation, []).append(case.activation if good else scheme)
        names[good, ending] = [
            (f"{' and '.join(some)}, {key}" if good else f"{key}, {' or '.join(some)}").strip(", ")
            for key, some in parts.items()
        ]
    return names
