"""What Gymnasium sees of bicycles under way: spaces, actions, rewards, observations; one form for the single and the
vector environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eitherway.base.errors import MissingExtra, ModelError
from eitherway.bicycle import physics
from eitherway.bicycle.physics import GOAL_RADIUS, known
from eitherway.bicycle.policies import SCALES
from eitherway.bicycle.simulate import Batch
from eitherway.bicycle.tasks import CAUSES, FALL, GOAL_REACHED, TIME, Task

try:
    from gymnasium import spaces
except ImportError as error:
    raise MissingExtra("Gymnasium", "rl") from error

Actions = Literal["multi_discrete", "discrete", "discrete5", "continuous"]
Reward = Literal["fall", "alive", "binary", "goal"]

RIDING = len(CAUSES)  # the code of a ride that is not over
_NAMES = np.array([*CAUSES, "riding"], dtype=object)
_FIVE = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], dtype=np.float64)  # Lagoudakis & Parr 2003
_NINE = np.array([[torque, shift] for torque in (-1, 0, 1) for shift in (-1, 0, 1)], dtype=np.float64)
_WIDE = 1000.0  # rad/s; rates have no bound of their own, and riders fall long before this


@dataclass(frozen=True)
class Interface:
    """How a task is shown to a learner.

    Args:
        task: what is ridden.
        actions: `"multi_discrete"` (torque and displacement, three levels each), `"discrete"` (their 9 pairs),
            `"discrete5"` (one of the two
            at a time, or nothing) or `"continuous"` (shares in [-1, 1]).
        reward: `"fall"` (-1 on the fall), `"alive"` (+1 for each step not fallen), `"binary"` (1 if still up when
            time is up, or at the goal)
            or `"goal"` (+1 on reaching it). Nothing is shaped.
        normalised: observations each about 1 in a normal ride, rather than in rad and rad/s.

    Raises:
        ModelError: if a name is unknown, or does not go with the task.
    """

    task: Task
    actions: Actions = "multi_discrete"
    reward: Reward = "fall"
    normalised: bool = False

    def __post_init__(self) -> None:
        known(self.actions, Actions, "actions")
        known(self.reward, Reward, "reward")
        if self.reward == "goal" and self.task.name != "goal":
            raise ModelError(
                f"reward='goal' with task={self.task.name!r}, which has no goal: expected fall, alive or binary"
            )
        if self.actions == "discrete5" and self.task.controls == 1:
            raise ModelError(
                "actions='discrete5' on the Whipple bicycle, which is ridden by torque alone: use 'discrete'"
            )

    @property
    def action_space(self) -> Any:
        """Of one bicycle."""
        controls = self.task.controls
        if self.actions == "multi_discrete":
            return spaces.MultiDiscrete([3] * controls)
        if self.actions == "continuous":
            return spaces.Box(-1.0, 1.0, (controls,), np.float32)
        return spaces.Discrete(5 if self.actions == "discrete5" else 3**controls)

    @property
    def observation_space(self) -> Any:
        """Of one bicycle: steer, its rate, lean, its rate; on the way to the goal also sine and cosine of the angle to
        it.
        """
        steer = self.task.bicycle.max_steer if self.task.name != "whipple" else 10.0
        high = np.array([steer, _WIDE, np.pi, _WIDE])
        if self.normalised:
            high = high / SCALES
        if self.task.name == "goal":
            high = np.append(high, [1.0, 1.0])
        high = high.astype(np.float32)
        return spaces.Box(-high, high, dtype=np.float32)

    def decode(self, actions: Any) -> np.ndarray:
        """(P, A) shares in [-1, 1] of P actions of the space.

        Raises:
            ModelError: if an action is outside the space, or there are too many or too few numbers.
        """
        each = self.task.controls if self.actions in ("continuous", "multi_discrete") else 1
        try:
            given = np.asarray(actions)
        except ValueError:  # rows of different lengths
            given = np.empty(0)
        if given.dtype.kind not in "iuf" or not given.size or given.size % each:
            raise ModelError(
                f"actions {actions!r:.80}: expected {f'{each} numbers' if each > 1 else 'one whole number'} for each "
                f"bicycle, as the action space says: {self.action_space}"
            )
        rows: Any = given.reshape(-1, each)
        if self.actions == "continuous":
            if not np.isfinite(rows).all():
                raise ModelError(f"actions {given!r}: expected finite numbers in [-1, 1]")
            return rows.astype(np.float64).clip(-1.0, 1.0)
        levels = 3 if self.actions == "multi_discrete" else int(self.action_space.n)
        if rows.dtype.kind == "f" or not (0 <= rows.min() and rows.max() < levels):
            raise ModelError(f"actions {given!r}: expected whole numbers from 0 to {levels - 1}")
        if self.actions == "multi_discrete":
            return rows - 1.0
        if self.actions == "discrete5":
            return _FIVE[rows[:, 0]]
        return _NINE[rows[:, 0]] if self.task.controls == 2 else rows - 1.0

    def observe(self, batch: Batch) -> np.ndarray:
        """(P, O) float32."""
        seen = np.stack(batch.state[:4], 1)
        if self.normalised:
            seen = seen / SCALES
        if self.task.name == "goal":
            angle = physics.to_goal(batch.state, bicycle=self.task.bicycle)[0]
            seen = np.concatenate([seen, np.stack([np.sin(angle), np.cos(angle)], 1)], 1)
        return seen.astype(np.float32)

    def causes(self, batch: Batch) -> np.ndarray:
        """(P,) codes of why each ride is over, `RIDING` where it is not."""
        code = np.where(batch.clock >= self.task.steps, TIME, RIDING)
        if self.task.name == "goal":
            code[self.to_goal(batch) < GOAL_RADIUS] = GOAL_REACHED
        code[physics.fallen(batch.state, bicycle=self.task.bicycle)] = FALL
        return code

    def rewards(self, causes: np.ndarray) -> np.ndarray:
        """(P,) float64 of the step that led to `causes`."""
        if self.reward == "fall":
            return -1.0 * (causes == FALL)
        if self.reward == "alive":
            return 1.0 * (causes != FALL)
        if self.reward == "goal":
            return 1.0 * (causes == GOAL_REACHED)
        return 1.0 * ((causes == TIME) | (causes == GOAL_REACHED))

    def to_goal(self, batch: Batch) -> np.ndarray:
        """(P,) metres from the front wheels to the goal."""
        return physics.to_goal(batch.state, bicycle=self.task.bicycle)[1]

    def describe(self, batch: Batch, causes: np.ndarray) -> dict[str, np.ndarray]:
        """The infos, each (P,): `time` (s), `distance` (m ridden), `cause` by name, and on that task `to_goal` (m)."""
        dt = self.task.bicycle.time_step
        facts = {"time": batch.clock * dt, "distance": batch.clock * (dt * batch.speed), "cause": _NAMES[causes]}
        if self.task.name == "goal":
            facts["to_goal"] = self.to_goal(batch)
        return facts
