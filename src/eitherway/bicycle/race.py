"""Picking the rider that never falls: many learn on a rough road, and race over more and more roads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eitherway.base.errors import ModelError
from eitherway.base.keys import Key
from eitherway.bicycle.learning import Rider
from eitherway.bicycle.policies import load_policy
from eitherway.bicycle.ride import learn
from eitherway.bicycle.tasks import GOAL_REACHED, TRACK, TaskName

ROUGH = 2.0
"""Learning and racing roads are so many times as noisy as the road that is ridden afterwards."""
TRAINED = Path(__file__).parent / "trained"
"""The policies that come with the package, one a task."""

_PLACE = [TRACK.index("x"), TRACK.index("y")]


class Heat(NamedTuple):
    """One round of a race.

    Attributes:
        runners: how many took part.
        roads: how many each rode, under each condition.
        held: the most whole rides that one of them held, of all its rides.
        of: all its rides.
    """

    runners: int
    roads: int
    held: int
    of: int


def race(
    conditions: Sequence[Rider],
    runners: np.ndarray,
    *,
    roads: int = 8,
    seed: int = 0,
    heard: Callable[[Heat], Any] | None = None,
) -> int:
    """The runner that holds most rides, by successive halving: all ride on a few roads, the better half on twice as
    many new ones, and so on until one is left.

    Args:
        conditions: each runner rides under all of them.
        runners: (P, W) weights.
        roads: in the first round.
        seed: decides the roads.
        heard: told of every round.

    Returns:
        The index of the winner. Runners that hold equally many rides are told apart by seconds ridden, in rides to
        the goal by how early they arrive, elsewhere by how far from the start they end up: who rides straight on.

    Source: Jamieson & Talwalkar 2016, arXiv:1502.07943, algorithm 1.
    """
    left = np.arange(len(runners))
    key = Key(seed)
    for turn in range(64):
        seeds = [key.at(turn).child(str(n)).integer("road") for n in range(roads)]
        scores = [np.sum([_score(rider, runners[i], seeds) for rider in conditions], axis=0) for i in left]
        order = sorted(range(len(left)), key=lambda k: (*(-scores[k]), k))
        if heard:
            heard(Heat(len(left), roads, int(scores[order[0]][0]), roads * len(conditions)))
        left = left[order[: max(1, len(left) // 2)]]
        if len(left) == 1:
            break
        roads *= 2
    return int(left[0])


def _score(rider: Rider, weights: np.ndarray, seeds: list[int]) -> tuple[float, float, float]:
    """Rides held; steps ridden, the fewer the better to a goal that is reached; metres from the start at the end."""
    rides = rider.ride(weights, seeds, record=1000)
    arrived = rides.cause == GOAL_REACHED
    worth = np.where(arrived, 2 * rider.setting.steps - rides.steps, rides.steps)
    far = sum(float(np.hypot(*track[-1, _PLACE])) for track in rides.tracks)
    return int((rides.cause == rider.held).sum()), int(worth.sum()), far


def conditions(rider: Rider) -> list[Rider]:
    """A rider at double and triple noise; on the Randlov & Alstrom bicycle also with the other gyroscopic sign."""
    rough = [replace(rider, noise=rider.noise * factor) for factor in (ROUGH, 3.0)]
    if rider.task == "whipple":
        return rough
    other = "skew" if rider.gyro == "published" else "published"
    return [*rough, replace(rough[0], gyro=other)]


def train(
    task: TaskName = "balance",
    *,
    runners: int = 16,
    roads: int = 8,
    seed: int = 0,
    heard: Callable[[Heat], Any] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """A linear policy to rely on: `runners` learn at double noise, a race picks one.

    Args:
        task: see `Task`.
        runners: how many learn, with seeds from `seed` on.
        roads: of the first round of the race.
        seed: all randomness follows from it.
        heard: told of every round of the race.

    Returns:
        Its weights (W,), and what `save_policy` may keep of how it was found.
    """
    rider = Rider(task)
    learned = [learn(task, seed=seed + k, noise=ROUGH * rider.noise) for k in range(runners)]
    weights = np.stack([one.weights for one in learned if one.solved and one.weights is not None])
    best = race(conditions(rider), weights, roads=roads, seed=seed, heard=heard)
    winner = [one for one in learned if one.solved][best]
    facts = {
        "how": f"{runners} learned at double noise, seeds {seed} to {seed + runners - 1}; picked by a race",
        "method": repr(winner.method),
        "seed": winner.seed,
        "reward": winner.reward,
        "noise": winner.rider.noise,
        "rides": winner.rides,
        "falls": winner.falls,
    }
    return weights[best], facts


def trained(task: TaskName = "balance") -> tuple[np.ndarray, dict[str, Any]]:
    """Weights (W,) of the policy that comes with the package for a task, and how it was found.

    Raises:
        ModelError: if there is none.
    """
    path = TRAINED / f"{task}.safetensors"
    if not path.exists():
        known = sorted(one.stem for one in TRAINED.glob("*.safetensors"))
        raise ModelError(f"no policy for task={task!r} comes with the package; there are: {', '.join(known)}")
    _, weights, facts = load_policy(path)
    return weights, facts
