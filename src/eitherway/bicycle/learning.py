"""What learning to ride costs: every ride of every candidate, counted, as a cost for any method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from eitherway.base.keys import Key
from eitherway.bicycle.kernel import rollout
from eitherway.bicycle.physics import Gyro, Integrator
from eitherway.bicycle.policies import MLP, Kind, Linear, make_policy
from eitherway.bicycle.tasks import CAUSES, GOAL_REACHED, TIME, Rides, Task, TaskName
from eitherway.rl.curriculum import Climb, HorizonCurriculum
from eitherway.run.problem import Outcome

PROOFS = 10
"""Whole rides, each on a road of its own, that have to be held one after the other before riding counts as learned."""
TRAINING = 1000
"""Steps of a training ride where the task is to stay up: whoever rides 10 s nearly always rides on."""
ARRIVAL = 37_000
"""Steps within which a ride to the goal has to arrive while it is learned: the straight way takes 35,640."""
EASIEST = 100
"""Steps of the lowest rung for bits: a rider who does nothing lasts longer, one who does the wrong thing does not."""


class Episode(NamedTuple):
    """One ride that was paid for.

    Attributes:
        candidate: whose, counted from 0.
        horizon: steps at which the ride would have been stopped.
        steps: until the fall, the goal or the horizon.
        cause: one of `CAUSES`.
    """

    candidate: int
    horizon: int
    steps: int
    cause: str

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return 0.01 * self.steps

    @property
    def fell(self) -> bool:
        return self.cause == "fall"


Heard = Callable[[Episode], Any]
"""Told of every ride as it is over."""


@dataclass(frozen=True)
class Rider:
    """A policy on a task, waiting for its weights.

    Args:
        task: `"balance"`, `"goal"` or `"whipple"`, see `Task`.
        policy: `"linear"` or `"mlp"`.
        horizon: steps of a whole ride; None takes the task's.
        noise, gyro, integrator, speed: see `Task`.

    Raises:
        ModelError: if a name is unknown or a number makes no sense.
    """

    task: TaskName = "balance"
    policy: Kind = "linear"
    horizon: int | None = None
    noise: float = 0.02
    gyro: Gyro = "published"
    integrator: Integrator = "semi_implicit"
    speed: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.rule  # noqa: B018 - names are checked where they are given

    @property
    def setting(self) -> Task:
        """The task with its road."""
        return Task(self.task, self.horizon, self.noise, self.integrator, self.gyro, self.speed)

    @property
    def rule(self) -> Linear | MLP:
        """The policy without its weights."""
        setting = self.setting
        return make_policy(self.policy, setting.observations, setting.controls)

    @property
    def held(self) -> int:
        """The code of a whole ride that went well: arrived, or still up when time is over."""
        return GOAL_REACHED if self.task == "goal" else TIME

    def ride(self, weights: Any, seeds: Any, horizon: int | None = None, *, record: int = 0) -> Rides:
        """`rollout` of weights (W,) or (P, W) on the roads of these seeds."""
        return rollout(
            weights,
            seeds,
            task=self.task,
            policy=self.policy,
            horizon=self.horizon if horizon is None else horizon,
            noise=self.noise,
            integrator=self.integrator,
            gyro=self.gyro,
            speed=self.speed,
            record=record,
        )


def beginner(task: TaskName, policy: Kind, *, noise: float = 0.02, gyro: Gyro = "published") -> Rider:
    """A rider who is to learn a task; to the goal, with `ARRIVAL` as the time that a ride may take."""
    return Rider(task, policy, ARRIVAL if task == "goal" else None, noise, gyro)


class Survival:
    """How long it stayed up, as a cost: minus the steps of a training ride and, if that was held, of whole rides.

    The training ride is stopped after 10 s; on the way to the goal it is a whole ride. Who holds it goes on to whole
    rides, until the first that is not held, and `PROOFS` at most. On the way to the goal a ride that is still up when
    time is over counts as many steps as there are, one that arrives twice as many: steps until the fall < still up <
    arrived, and nothing else is told. All candidates of a turn ride on the same roads.

    Args:
        rider: what is ridden.
        heard: told of every ride.
    """

    _eitherway_seeded = True

    def __init__(self, rider: Rider, heard: Heard | None = None):
        self.rider, self.heard = rider, heard
        self.full = rider.setting.steps
        self.training = self.full if rider.task == "goal" else TRAINING
        self.candidates = 0

    @property
    def target(self) -> int:
        """The value of a candidate that holds all its rides."""
        held = self.rider.held
        return -(self._worth(self.training, held) + PROOFS * self._worth(self.full, held))

    def __call__(self, weights: np.ndarray, seed: int) -> Outcome:
        """A candidate's value, with the metrics `episodes` and `steps`."""
        roads, worth, rides = Key(seed), 0, []
        while len(rides) <= PROOFS and (not rides or rides[-1].cause == CAUSES[self.rider.held]):
            horizon = self.full if rides else self.training
            ridden = self.rider.ride(weights, roads.at(len(rides)).integer("road"), horizon)
            steps, cause = int(ridden.steps[0]), int(ridden.cause[0])
            worth += self._worth(steps, cause)
            rides.append(Episode(self.candidates, horizon, steps, CAUSES[cause]))
            if self.heard:
                self.heard(rides[-1])
        self.candidates += 1
        return Outcome(-worth, metrics=_bill(rides))

    def _worth(self, steps: int, cause: int) -> int:
        return 2 * self.full if cause == GOAL_REACHED else steps


class Binary:
    """Nothing but whether it was still up, as a cost that learns: a `HorizonCurriculum` over the seconds.

    The first horizon is 1 s, which a rider who does nothing survives; beyond 7 s a whole ride is asked for at once.
    On the way to the goal the whole ride answers whether it arrived.

    Args:
        rider: what is ridden.
        heard: told of every ride.
    """

    def __init__(self, rider: Rider, heard: Heard | None = None):
        self.rider, self.heard = rider, heard
        self.full = rider.setting.steps
        self.curriculum = HorizonCurriculum(
            self._survives, first=EASIEST, full=self.full, growth=1.5, leap=700, share=0.5, proofs=PROOFS
        )
        self.candidates = 0
        self._rides: list[Episode] = []

    @property
    def target(self) -> int:
        """The value of a candidate that holds all its rides."""
        return self.curriculum.target

    def start(self) -> Climb:
        return self.curriculum.start()

    def judge(self, values: np.ndarray, carry: Climb, seed: int) -> tuple[Outcome, int]:
        """A candidate's value, with the metrics `episodes` and `steps`, and the rung it reached."""
        self._rides = []
        outcome, rung = self.curriculum.judge(values, carry, seed)
        self.candidates += 1
        return Outcome(outcome.cost, metrics=_bill(self._rides)), rung

    def absorb(self, carry: Climb, reports: Sequence[int | None]) -> Climb:
        return self.curriculum.absorb(carry, reports)

    def moved(self, old: Climb, new: Climb) -> bool:
        return self.curriculum.moved(old, new)

    def _survives(self, weights: np.ndarray, horizon: int, seed: int) -> bool:
        ridden = self.rider.ride(weights, seed, horizon)
        episode = Episode(self.candidates, horizon, int(ridden.steps[0]), CAUSES[ridden.cause[0]])
        self._rides.append(episode)
        if self.heard:
            self.heard(episode)
        return episode.cause == CAUSES[self.rider.held] if horizon == self.full else not episode.fell


def _bill(rides: Sequence[Episode]) -> dict[str, float]:
    """What a candidate's rides cost."""
    return {"episodes": len(rides), "steps": sum(ride.steps for ride in rides)}
