"""One bicycle as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import numpy as np

from eitherway.base.errors import ModelError, nearest
from eitherway.bicycle import noise as counter
from eitherway.bicycle import simulate
from eitherway.bicycle.interface import RIDING, Actions, Interface, Reward
from eitherway.bicycle.physics import Gyro, Integrator
from eitherway.bicycle.tasks import FALL, GOAL_REACHED, TIME, Task, TaskName
from eitherway.methods.allowed import is_whole

import gymnasium  # isort: skip  # after interface, which says what to install


class BicycleEnv(gymnasium.Env):
    """A bicycle to keep up, or to ride to a goal.

    After `reset(seed=s)` the ride's noise is that of seed s, in `rollout` too; each later `reset()` takes the next
    seed of s's own series. A step is 0.01 s. `terminated` says fallen or arrived, `truncated` that time is up; `info`
    has `time` (s), `distance` (m), `cause`.

    Args:
        task, horizon, noise, integrator, gyro, speed: see `Task`.
        actions, reward, normalised: see `Interface`.
        render_mode: `"rgb_array"` draws rear view and map, `"ansi"` writes a line; None neither.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 100}  # noqa: RUF012  (Gymnasium's own form)

    def __init__(
        self,
        task: TaskName = "balance",
        *,
        actions: Actions = "multi_discrete",
        reward: Reward = "fall",
        normalised: bool = False,
        horizon: int | None = None,
        noise: float = 0.02,
        integrator: Integrator = "semi_implicit",
        gyro: Gyro = "published",
        speed: float | tuple[float, float] | None = None,
        render_mode: str | None = None,
    ):
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.task = Task(task, horizon, noise, integrator, gyro, speed)
        self.interface = Interface(self.task, actions, reward, normalised)
        self.action_space = self.interface.action_space
        self.observation_space = self.interface.observation_space
        self.render_mode = render_mode
        self._seed: int | None = None
        self._episode = 0
        self._batch: simulate.Batch | None = None
        self._over = False
        self._trail: list[tuple[float, float]] = []
        self._torque = self._displacement = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Upright at the origin, heading along +y."""
        super().reset(seed=seed)
        check_seed(seed)
        if seed is not None or self._seed is None:
            self._seed = int(self.np_random.integers(1 << 62)) if seed is None else seed
            self._episode = 0
        else:
            self._episode += 1
        road = counter.series(np.array([self._seed]), np.array([self._episode]))
        self._batch, self._over = simulate.begin(self.task, road), False
        self._trail, self._torque, self._displacement = [(0.0, 0.0)], 0.0, 0.0
        return self.interface.observe(self._batch)[0], self._facts(np.array([RIDING]))

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """0.01 s later."""
        if self._batch is None or self._over:
            raise gymnasium.error.ResetNeeded("the ride is over, or has not begun: call reset() first")
        shares = self.interface.decode(action)
        if len(shares) != 1:
            raise ModelError(f"{len(shares)} actions for one bicycle: expected one; BicycleVectorEnv takes many")
        self._batch = simulate.advance(self.task, self._batch, shares)
        causes = self.interface.causes(self._batch)
        cause = int(causes[0])
        self._over = cause != RIDING
        if self.render_mode == "rgb_array":
            self._trail.append((float(self._batch.state.x[0]), float(self._batch.state.y[0])))
            self._torque, self._displacement = float(shares[0, 0]), float(shares[0, -1]) * (self.task.controls - 1)
        return (
            self.interface.observe(self._batch)[0],
            float(self.interface.rewards(causes)[0]),
            cause in (FALL, GOAL_REACHED),
            cause == TIME,
            self._facts(causes),
        )

    def render(self) -> Any:
        """The picture (H, W, 3) uint8, or the line of text, of now."""
        if self.render_mode is None:
            return None
        if self._batch is None:
            raise gymnasium.error.ResetNeeded("nothing to draw yet: call reset() first")
        state, clock = self._batch.state, int(self._batch.clock[0])
        from eitherway.bicycle import render

        if self.render_mode == "ansi":
            return render.line(state, clock * self.task.bicycle.time_step)
        return render.frame(
            float(state.lean[0]),
            float(state.steer[0]),
            float(state.heading[0]),
            np.array(self._trail),
            seconds=clock * self.task.bicycle.time_step,
            torque=self._torque,
            displacement=self._displacement,
            goal=self.task.name == "goal",
            wheelbase=self.task.bicycle.wheelbase,
        )

    def _facts(self, causes: np.ndarray) -> dict[str, Any]:
        """The single bicycle's info."""
        assert self._batch is not None
        return {name: values[0] for name, values in self.interface.describe(self._batch, causes).items()}


def check_render_mode(given: str | None, modes: Any) -> None:
    """Raises ModelError for a mode that there is not."""
    if given is not None and given not in modes:
        raise ModelError(f"render_mode={given!r} is not known. {nearest(given, modes)}")


def check_seed(given: Any) -> None:
    """Raises ModelError for a seed that no road begins with; None is the next one of a series."""
    if given is not None and not (is_whole(given) and 0 <= given < 2**63):
        raise ModelError(f"seed={given!r}: expected a whole number from 0 to below 2**63, or None")
