"""The pictures of learning to ride: many first rides, the learning curve, the turn to the goal, a moving one.

They take plain arrays, `Rides.tracks` among them, and return a matplotlib `Figure` that belongs to nobody;
`style.png` makes it a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eitherway.base.errors import ModelError
from eitherway.base.style import BAD, BEST, COLOURS, FAINT, INK, figure, style
from eitherway.bicycle.tasks import TRACK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PUBLISHED = {"fitted Q 2005 (for 500 s)": 300, "Sarsa 1998": 1700}
"""Rides until the bicycle stayed up: Ernst et al. 2005, and Randlov & Alstrom 1998 as Cook 2004 quotes them."""

_STEER, _LEAN, _HEADING, _X, _Y, _TORQUE, _SHIFT = (
    TRACK.index(name) for name in ("steer", "lean", "heading", "x", "y", "torque", "displacement")
)
_DT = 0.01  # s
_GIF_WIDTH = 480  # pixels: some 6 kB a picture


def first_rides(
    untrained: Sequence[np.ndarray],
    learned: Sequence[np.ndarray],
    *,
    metres: float = 60.0,
    fate: str = "not one falls",
) -> Figure:
    """First rides from above until the fall, a red feather, beside the learned rider on the same roads.

    Args:
        untrained: tracks (T, 9) with every state kept, of riders who have learned nothing, up to their falls.
        learned: tracks (T, 9) of the learned rider; drawn as far as `metres` from the start.
        metres: how far the picture on the right reaches.
        fate: what became of the rides on the right, for the line above them.

    Source: the idea is Cook's, "It takes two neurons to ride a bicycle", 2004.
    """
    falls, rides = [_path(track) for track in untrained], [_path(track) for track in learned]
    if not falls or not rides:
        raise ModelError(
            f"first_rides got {len(falls)} untrained and {len(rides)} learned tracks: expected some of each"
        )
    rides = [path[np.hypot(*path.T) <= metres] for path in rides]
    long = max(1.0, float(np.quantile([path[:, 1].max() for path in falls], 0.99)))
    with style(paper=True):
        made = figure(7.4, 6.4)
        left, right = made.subplots(1, 2)
        for axes, paths, colour, length, alpha in ((left, falls, BAD, long, 0.35), (right, rides, BEST, metres, 0.22)):
            _lines(axes, paths, colour, 0.55, alpha)
            half = 0.3 * length
            axes.set(xlim=(-half, half), ylim=(-0.04 * length, 1.06 * length), aspect="equal", xlabel="m")
        ends = np.array([path[-1] for path in falls])
        left.plot(ends[:, 0], ends[:, 1], ".", color=BAD, markersize=2.2, alpha=0.7, markeredgewidth=0)
        left.set_ylabel("m")
        seconds = np.median([len(track) for track in untrained]) * _DT
        _title(left, f"{len(falls)} first rides", f"all fall, half of them within {seconds:.1f} s")
        _title(right, f"The same {len(rides)} roads, once learned", fate)
        # where the left picture lies in the right one
        right.add_patch(_box(-0.3 * long, 0, 0.6 * long, long))
        _words(right, "the picture\non the left", (0.3 * long, long / 2), (5, 0), va="center", color=BAD)
    return made


def learning_curve(
    rides_per_run: Sequence[Any],
    *,
    references: Mapping[str, int] | None = None,
    random_search: Sequence[Any] = (),
    ceiling: float = 1000.0,
) -> Figure:
    """Seconds until the fall, ride by ride: a dot each, and the best so far of the median run.

    Args:
        rides_per_run: for each run its rides in order, (N_r,) seconds; a run that ended has learned to ride and
            counts with its best.
        references: rides that others needed, by name; by default `PUBLISHED`.
        random_search: runs of random search on the same task, drawn beside ours.
        ceiling: seconds at which a ride is stopped.
    """
    if not len(rides_per_run):
        raise ModelError("learning_curve got no runs: expected the seconds of each ride, one sequence a run")
    runs = [np.maximum(np.asarray(run, dtype=float), 0.01) for run in rides_per_run]
    with style(paper=True):
        made = figure(7.6, 4.2)
        axes = made.add_subplot()
        for run in runs:
            axes.plot(np.arange(1, len(run) + 1), run, "o", color=BEST, markersize=2.8, alpha=0.35, markeredgewidth=0)
        lines = PUBLISHED if references is None else dict(references)
        last = max([*lines.values(), *map(len, runs), *map(len, random_search)]) * 1.35
        if len(random_search):
            median = _median_best([np.asarray(run, dtype=float) for run in random_search])
            x = np.append(np.arange(1, len(median) + 1), last)
            axes.plot(x, np.append(median, median[-1]), color=COLOURS[4], linewidth=1.8, label="random search, median")
        median = _median_best(runs)
        x = np.append(np.arange(1, len(median) + 1), last)
        label = f"best so far, median of {len(runs)}"
        axes.plot(x, np.append(median, median[-1]), color=BEST, linewidth=2.6, label=label)
        axes.plot([], [], "o", color=BEST, markersize=3, alpha=0.5, markeredgewidth=0, label="one ride")
        for name, rides in lines.items():
            axes.axvline(rides, color=BAD, linewidth=1.0, linestyle=(0, (4, 3)))
            text = f"{name}\n{rides} rides"
            _words(axes, text, (rides, 1.25), (-4, 0), rotation=90, va="bottom", ha="right", color=BAD)
        axes.set(xscale="log", yscale="log", xlim=(0.9, last), ylim=(0.9, ceiling * 1.5))
        axes.set(xlabel="rides", ylabel="seconds until the fall")
        axes.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        ticks = [tick for tick in (1, 3, 10, 30, 100, 300, 1000, 3000) if tick < last]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_title("Learning to ride, from nothing but how long each ride lasted")
        axes.legend(loc="upper left", bbox_to_anchor=(0.01, 0.9))
    return made


def turn(track: np.ndarray, *, seconds: float = 10.0) -> Figure:
    """The turn to the goal: what the rider does, how the bicycle leans, where it goes; the counter-steer is marked.

    Args:
        track: (T, 9) with every state kept, of a ride to the goal, which lies to the right.
        seconds: how much of it to show.
    """
    part = np.asarray(track)[: round(seconds / _DT)]
    time = np.arange(len(part)) * _DT
    steer, lean = (-np.degrees(part[:, column]) for column in (_STEER, _LEAN))  # to the right, as the goal lies
    away = _counter_steer(steer)
    with style(paper=True):
        made = figure(7.4, 8.2)
        above, *rows = made.subplots(4, 1, height_ratios=(2.6, 1.2, 1.2, 0.9))
        for axes, values, name, colour in (
            (rows[0], steer, "steer (°)", COLOURS[0]),
            (rows[1], lean, "lean (°)", COLOURS[2]),
            (rows[2], _smooth(-part[:, _TORQUE]), "torque (N m)", COLOURS[3]),
        ):
            axes.axhline(0, color=FAINT, linewidth=0.8)
            if away is not None:
                axes.axvspan(*(time[np.array(away)]), color=COLOURS[4], alpha=0.25, linewidth=0)
            axes.plot(time, values, color=colour)
            axes.set(ylabel=name, xlim=(0, len(part) * _DT))
            axes.margins(y=0.14)
            if axes is not rows[2]:
                axes.tick_params(labelbottom=False)
        rows[2].set_xlabel("seconds")
        rows[0].set_title("Steer, lean and torque, to the right")
        rows[1].axhline(12, color=BAD, linewidth=0.9, linestyle=(0, (4, 3)))
        _words(rows[1], "beyond 12° it has fallen", (time[-1], 12), (0, -3), ha="right", va="top", color=BAD)
        _words(rows[2], "means of 0.1 s", (time[-1], rows[2].get_ylim()[0]), (0, 2), ha="right", va="bottom")
        path = _path(part)
        if away is not None:
            first, last = away
            above.plot(*path[first : last + 1].T, color=COLOURS[4], linewidth=7, alpha=0.6)
            low = first + int(steer[first : last + 1].argmin())
            text = f"counter-steer, {-steer[low]:.0f}° to the left"
            _words(rows[0], text, (time[low], steer[low]), (14, 0), va="center", color=INK, size=9)
            _words(above, "counter-steer", path[(first + last) // 2], (10, -4), color=INK, size=9)
        above.plot(*path.T, color=INK)
        for whole in range(2, math.ceil(len(part) * _DT), 2):
            k = round(whole / _DT)
            above.plot(*path[k], "o", color=INK, markersize=4)
            _words(above, f"{whole} s", path[k], (0, 7), ha="center")
        above.plot(*path[0], "o", color=INK, markersize=5)
        _words(above, "start, riding up the page", path[0], (10, -13), color=FAINT)
        (left, low_y), (right, high_y) = path.min(0), path.max(0)
        tall = max(1.0, 1.34 * (high_y - low_y), (right - left) * 1.1 / 2.35)  # room for words above and below
        above.set(xlim=(left - 0.05 * 2.35 * tall, left + 0.95 * 2.35 * tall), aspect="equal", xlabel="m", ylabel="m")
        above.set_ylim(low_y - 0.18 * tall, low_y + 0.82 * tall)
        above.annotate(
            "goal, 1 km", (1, 0.12), (0.84, 0.12), xycoords="axes fraction", va="center", ha="right",
            color=COLOURS[2], arrowprops={"arrowstyle": "-|>", "color": COLOURS[2], "linewidth": 1.6},
        )  # fmt: skip
        above.set_title("To turn right, first steer left")
    return made


def save_gif(
    path: str | Path,
    track: np.ndarray,
    *,
    start: float = 0.0,
    frames: int = 64,
    frames_per_second: int = 15,
    goal: bool = False,
) -> Path:
    """Write a moving picture of a ride in real time: the rider from behind and the map from above.

    Args:
        path: of the file; overwritten.
        track: (T, 9) with every state kept.
        start: seconds into the ride at which it begins.
        frames: how many pictures at most; fewer if the ride ends, the last then stays a second.
        frames_per_second: how fast they follow one another.
        goal: whether to point at the goal.

    Raises:
        ModelError: if the ride is over before `start`.
    """
    from PIL import Image

    from eitherway.bicycle import render
    from eitherway.bicycle.physics import BICYCLE

    rows = np.asarray(track)
    which = np.round((start + np.arange(frames) / frames_per_second) / _DT).astype(int)
    which = which[which < len(rows)]
    if not len(which):
        raise ModelError(f"start={start!r} s: the ride lasted {len(rows) * _DT:.2f} s; begin earlier")
    pictures = []
    for k in which:
        row = rows[k]
        drawn = render.frame(
            float(row[_LEAN]),
            float(row[_STEER]),
            float(row[_HEADING]),
            rows[: k + 1, [_X, _Y]],
            seconds=k * _DT,
            torque=float(row[_TORQUE]) / BICYCLE.max_torque,
            displacement=float(row[_SHIFT]) / BICYCLE.max_displacement,
            goal=goal,
            width=_GIF_WIDTH,
        )
        pictures.append(Image.fromarray(drawn))
    # one palette for all, without dithering: what stands still compresses to nothing
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in render.palette() for value in colour])
    small = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    each = round(1000 / frames_per_second)
    target = Path(path)
    small[0].save(
        target, format="GIF", save_all=True, append_images=small[1:], loop=0, optimize=True,
        duration=[each] * (len(small) - 1) + [1000],
    )  # fmt: skip
    return target


def _path(track: np.ndarray) -> np.ndarray:
    """(T, 2) where the rear wheel went."""
    return np.asarray(track)[:, [_X, _Y]]


def _lines(axes: Axes, paths: Sequence[np.ndarray], colour: str, width: float, alpha: float) -> None:
    """Many lines as one collection: as many artists would take seconds."""
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(list(paths), colors=colour, linewidths=width, alpha=alpha))


def _box(x: float, y: float, width: float, height: float) -> Any:
    """A thin red frame."""
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, fill=False, edgecolor=BAD, linewidth=0.9, zorder=5)


def _title(axes: Axes, title: str, below: str) -> None:
    """A title and a line of small text under it."""
    axes.set_title(title, pad=20)
    axes.annotate(below, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9, color=FAINT)


def _words(
    axes: Axes, text: str, at: Any, move: tuple[float, float], *, color: str = FAINT, size: float = 8, **place: Any
) -> None:
    """Small text beside a point, moved by so many typographic points."""
    x, y = (float(value) for value in at)
    axes.annotate(text, (x, y), move, textcoords="offset points", fontsize=size, color=color, **place)


def _median_best(runs: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) the median over runs of the best ride so far; runs that ended keep their best."""
    longest = max(map(len, runs))
    best = [np.maximum.accumulate(run) for run in runs]
    return np.median([np.append(b, np.full(longest - len(b), b[-1])) for b in best], axis=0)


def _smooth(values: np.ndarray, width: int = 10) -> np.ndarray:
    """Mean over 0.1 s: three levels a hundred times a second are a grey bar otherwise."""
    padded = np.pad(values, (width // 2, width - width // 2 - 1), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), "valid")


def _counter_steer(steer: np.ndarray) -> tuple[int, int] | None:
    """First and last index of the longest early stretch in which the handlebar points away from the turn (negative)."""
    early = steer[: max(1, int(np.argmax(steer)))]
    away = np.flatnonzero(early < -1.0)
    if not len(away):
        return None
    stretches = np.split(away, np.flatnonzero(np.diff(away) > 1) + 1)
    longest = max(stretches, key=len)
    return int(longest[0]), int(longest[-1])
