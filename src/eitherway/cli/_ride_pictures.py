"""The pictures at the end of a ride, as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from eitherway.base.files import write
from eitherway.base.style import png
from eitherway.bicycle import show
from eitherway.bicycle.learning import Rider
from eitherway.bicycle.tasks import FALL

MANY = 800
"""First rides in the picture."""
UNTRAINED = 1.0
"""Standard deviation of the weights of riders who have learned nothing."""
SHOWN = 6.0
"""Seconds in the moving picture."""


def first_rides(rider: Rider, weights: np.ndarray, folder: Path) -> Iterator[tuple[Path, str]]:
    """ride.png and fall.gif: riders who have learned nothing, until they fall, beside the learned one."""
    roads = np.arange(MANY)
    nothing = UNTRAINED * np.random.default_rng(0).standard_normal((MANY, rider.rule.weights))
    fallen = rider.ride(nothing, roads, 3000, record=1)
    learned = rider.ride(weights, roads, 3000, record=10)
    falls = int((learned.cause == FALL).sum())
    fate = f"{falls} of them fall" if falls else "not one falls"
    tracks = [track for track, cause in zip(fallen.tracks, fallen.cause) if cause == FALL]
    figure = show.first_rides(tracks, learned.tracks, fate=fate)
    yield write(folder / "ride.png", png(figure)), f"{MANY} first rides, and the same roads once learned"
    one = int(np.argsort([len(track) for track in tracks])[3 * len(tracks) // 4])
    yield show.save_gif(folder / "fall.gif", tracks[one]), "one of the first rides"


def learning_curve(
    rider: Rider, reward: str, runs: Sequence[np.ndarray], chance: Sequence[np.ndarray], folder: Path
) -> Iterator[tuple[Path, str]]:
    """learning.png: seconds of each ride of `runs`, and of runs that search at random."""
    published = (rider.task, rider.policy, reward) == ("balance", "linear", "survival")
    references = None if published else {}  # elsewhere they would not be the same task, or lie under our dots
    made = show.learning_curve(runs, references=references, random_search=chance)
    if reward == "binary":
        made.axes[0].set_title("Learning to ride, from nothing but yes or no", loc="left", fontsize=11, weight="bold")
    yield write(folder / "learning.png", png(made)), f"{len(runs)} beginners, ride by ride"


def to_the_goal(weights: np.ndarray, rider: Rider, folder: Path) -> Iterator[tuple[Path, str]]:
    """turn.png and turn.gif: the turn to the goal."""
    track = rider.ride(weights, [0], round(100 * max(10.0, SHOWN)), record=1).tracks[0]
    yield write(folder / "turn.png", png(show.turn(track))), "the turn to a goal on the right"
    moving = show.save_gif(folder / "turn.gif", track, frames=round(15 * SHOWN), goal=True)
    yield moving, "the same, from behind and from above"


def riding(rider: Rider, weights: np.ndarray, folder: Path) -> Iterator[tuple[Path, str]]:
    """ride.gif: a ride of one who has learned."""
    track = rider.ride(weights, [0], round(100 * SHOWN), record=1).tracks[0]
    yield show.save_gif(folder / "ride.gif", track, frames=round(15 * SHOWN)), "from behind and from above"
