"""`learn`: from the first fall to ten whole rides in a row, and what it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from eitherway.base.errors import ModelError
from eitherway.bicycle.learning import Binary, Episode, Heard, Rider, Survival, beginner
from eitherway.bicycle.physics import Gyro, known
from eitherway.bicycle.policies import MLP, Kind, save_policy
from eitherway.bicycle.tasks import Rides, TaskName
from eitherway.methods import get
from eitherway.methods.protocol import Method
from eitherway.methods.variables.cmaes import CMAES
from eitherway.run.minimize import minimize
from eitherway.run.parts import Step
from eitherway.run.result import Result
from eitherway.space.condition import describe
from eitherway.space.variables import Array

Reward = Literal["survival", "binary"]


class Setting(NamedTuple):
    """Where a search for weights begins.

    Attributes:
        spread: standard deviation of the first weights about 0; of those on the angle to the goal, `ANGLE` times that.
        population: of CMA-ES, points a turn.
    """

    spread: float
    population: int


ANGLE = 0.4
"""The angle to the goal begins at 0.5, where all else that a rider feels begins at 0: with weights as large as the
others' on it, hardly anybody falls in another way than by turning."""
SETTINGS: dict[tuple[TaskName, Kind, Reward], Setting] = {
    ("balance", "linear", "survival"): Setting(10.0, 8),
    ("balance", "linear", "binary"): Setting(5.0, 6),
    ("balance", "mlp", "survival"): Setting(2.0, 6),
    ("balance", "mlp", "binary"): Setting(2.0, 12),
    ("goal", "linear", "survival"): Setting(10.0, 6),
    ("goal", "linear", "binary"): Setting(10.0, 6),
    ("goal", "mlp", "survival"): Setting(2.0, 6),
    ("goal", "mlp", "binary"): Setting(2.0, 12),
    ("whipple", "linear", "survival"): Setting(30.0, 8),
    ("whipple", "linear", "binary"): Setting(30.0, 8),
    ("whipple", "mlp", "survival"): Setting(2.0, 6),
    ("whipple", "mlp", "binary"): Setting(2.0, 12),
}
"""For each task, policy and reward. Chosen with `benchmarks/bicycle.py --tune` on 20 to 60 seeds from 1000: of those
whose riders hold 99 % of unseen roads and 90 % at double noise, the setting with the fewest rides on average. Networks
on other tasks take what is best to balance, and bits to the goal and on the Whipple bicycle what survival takes.
"""


@dataclass(frozen=True)
class Learned:
    """How learning went. Called so whether or not it did: `solved` says.

    Args:
        rider: the policy, its task and its road.
        reward: what the search was told.
        method: what searched.
        weights: (W,) of the best candidate; None if nobody rode.
        solved: whether it held all its verification rides.
        episodes: every ride, in order.
        result: of the engine.
    """

    rider: Rider
    reward: Reward
    method: Method[Any]
    seed: int
    weights: np.ndarray | None
    solved: bool
    episodes: tuple[Episode, ...] = field(repr=False)
    result: Result = field(repr=False)

    @property
    def rides(self) -> int:
        """All of them, verification included."""
        return len(self.episodes)

    @property
    def falls(self) -> int:
        """Rides that ended in a fall."""
        return sum(episode.fell for episode in self.episodes)

    @property
    def steps(self) -> int:
        """Simulated steps of 0.01 s, verification included."""
        return sum(episode.steps for episode in self.episodes)

    @property
    def seconds(self) -> np.ndarray:
        """(N,) how long each ride lasted."""
        return np.array([episode.seconds for episode in self.episodes])

    def unseen(self, roads: int = 100) -> Rides:
        """Rides of the learned weights over the task's full time, on roads 0, 1, 2, ..., which no training sees."""
        return replace(self.rider, horizon=None).ride(self._found(), np.arange(roads))

    def save(self, path: str | Path) -> None:
        """Keep policy and weights, with how they were learned."""
        save_policy(
            path, self.rider.rule, self._found(), task=self.rider.task, method=describe(self.method), seed=self.seed,
            reward=self.reward, noise=self.rider.noise, gyro=self.rider.gyro, rides=self.rides, falls=self.falls,
            solved=self.solved,
        )  # fmt: skip

    def _found(self) -> np.ndarray:
        if self.weights is None:
            raise ModelError("no candidate has finished a ride yet, so there is no policy; let it learn for longer")
        return self.weights


def learn(
    task: TaskName = "balance",
    policy: Kind = "linear",
    reward: Reward = "survival",
    method: str | Method[Any] | None = None,
    *,
    seed: int = 0,
    spread: float | None = None,
    noise: float = 0.02,
    gyro: Gyro = "published",
    rides: int = 5000,
    heard: Callable[[Episode], Any] | None = None,
) -> Learned:
    """Learns to ride, from nothing but rides that end.

    A candidate takes one short ride, and if that is held whole rides, 10 at most, until one is not held; the search is
    over when somebody has held all of them. Every ride counts.

    Args:
        task: `"balance"`, `"goal"` or `"whipple"`, see `Task`.
        policy: `"linear"` (8 weights; 10 to the goal, 4 on the Whipple bicycle) or `"mlp"` (58, 66, 49).
        reward: `"survival"` tells how long a ride lasted (`Survival`), `"binary"` only whether it lasted (`Binary`).
        method: how to search, a name or a method; None takes CMA-ES with the population of `SETTINGS`.
        seed: all randomness follows from it.
        spread: standard deviation of the first weights; None takes that of `SETTINGS`.
        noise, gyro: of the road and the bicycle, see `Task`.
        rides: give up after the turn in which so many are over.
        heard: told of every ride as it is over.

    Raises:
        ModelError, MethodError: if a name is unknown or a number makes no sense.

    >>> learned = learn()
    >>> learned.solved, learned.falls < learned.rides < 100, int((learned.unseen(3).steps == 100_000).sum())
    (True, True, 3)
    """
    rider = beginner(task, policy, noise=noise, gyro=gyro)
    known(reward, Reward, "reward")
    setting = SETTINGS[task, policy, reward]
    if rides < 1:
        raise ModelError(f"rides={rides!r}: expected how many rides to spend at most, 1 or more")
    searcher = CMAES(population=setting.population) if method is None else get(method)
    episodes: list[Episode] = []
    listeners: list[Heard] = [episodes.append] if heard is None else [episodes.append, heard]

    def hear(episode: Episode) -> None:
        for listener in listeners:
            listener(episode)

    def spent(step: Step) -> bool:
        return len(episodes) >= rides

    cost = Survival(rider, hear) if reward == "survival" else Binary(rider, hear)
    result = minimize(
        cost,
        Array((rider.rule.weights,), start=0.0, spread=_spreads(rider, setting.spread if spread is None else spread)),
        searcher,
        target=cost.target,
        budget=rides,
        seed=seed,
        callbacks=[spent],
        progress=None,
    )
    weights = None if result.best is None else np.asarray(result.best)
    solved = weights is not None and result.value <= cost.target
    return Learned(rider, reward, searcher, seed, weights, solved, tuple(episodes), result)


def _spreads(rider: Rider, spread: float) -> np.ndarray:
    """(W,) standard deviations of the first weights."""
    rule, found = rider.rule, np.full(rider.rule.weights, float(spread))
    if rider.task == "goal":
        rows, width = (
            (rule.hidden, rule.observations + 1) if isinstance(rule, MLP) else (rule.actions, rule.observations)
        )
        found[: rows * width].reshape(rows, width)[:, rule.observations - 1] *= ANGLE  # the angle is seen last
    return found
