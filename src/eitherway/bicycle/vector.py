"""Many bicycles as one Gymnasium vector environment: one step of arrays, not many processes."""

from __future__ import annotations

from typing import Any

import numpy as np

from eitherway.base.errors import ModelError, nearest
from eitherway.bicycle import noise as counter
from eitherway.bicycle import simulate
from eitherway.bicycle.env import BicycleEnv, check_render_mode, check_seed
from eitherway.bicycle.interface import RIDING, Actions, Interface, Reward
from eitherway.bicycle.physics import Gyro, Integrator
from eitherway.bicycle.tasks import FALL, GOAL_REACHED, TIME, Task, TaskName
from eitherway.methods.allowed import is_whole

from gymnasium.vector import AutoresetMode, VectorEnv  # isort: skip  # after interface, which says what to install
from gymnasium.vector.utils import batch_space  # isort: skip


class BicycleVectorEnv(VectorEnv):
    """`num_envs` bicycles that step together; each rides as `BicycleEnv` would with its own seed, bit for bit.

    `reset(seed=s)` gives bicycle i the seed s + i, as Gymnasium's own vector environments do; a bicycle whose ride is
    over starts its next one at the next step (`NEXT_STEP`), at once (`SAME_STEP`, the last observation and info in
    `final_obs` and `final_info`) or when asked by `reset(options={"reset_mask": mask})` (`DISABLED`).

    Args:
        num_envs: how many.
        autoreset_mode: when the next ride begins.
        others: as for `BicycleEnv`.
    """

    metadata = {**BicycleEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
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
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ):
        if not (is_whole(num_envs) and num_envs >= 1):
            raise ModelError(f"num_envs={num_envs!r}: expected at least 1 bicycle")
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.num_envs = num_envs
        self.task = Task(task, horizon, noise, integrator, gyro, speed)
        self.interface = Interface(self.task, actions, reward, normalised)
        modes = {mode.value: mode for mode in AutoresetMode}
        if getattr(autoreset_mode, "value", autoreset_mode) not in modes:
            raise ModelError(f"autoreset_mode={autoreset_mode!r} is not known. {nearest(str(autoreset_mode), modes)}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self.single_action_space = self.interface.action_space
        self.single_observation_space = self.interface.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._seeds: np.ndarray | None = None
        self._episodes = np.zeros(num_envs, np.int64)
        self._batch: simulate.Batch | None = None
        self._over = np.zeros(num_envs, bool)
        self._trails: list[list[tuple[float, float]]] = []
        self._shares = np.zeros((num_envs, self.task.controls))

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """All bicycles, or those of `options["reset_mask"]`, upright at the start."""
        for one in seed if isinstance(seed, list | tuple | np.ndarray) else [seed]:
            check_seed(one)
        seed = int(seed) if is_whole(seed) else seed  # type: ignore[arg-type]
        super().reset(seed=seed if isinstance(seed, int) else None)
        which = self._mask(options)
        if self._seeds is None:
            self._seeds, self._episodes[:] = self.np_random.integers(1 << 62, size=self.num_envs), -1
        given = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if given is not None and len(given) != self.num_envs:
            raise ModelError(f"{len(given)} seeds for {self.num_envs} bicycles: expected one each, or one number")
        self._episodes[which] += 1
        for i, one in enumerate(() if given is None else given):
            if one is not None and which[i]:
                self._seeds[i], self._episodes[i] = one, 0
        if self._batch is None:
            self._batch = simulate.begin(self.task, self._seeds)
            self._trails = [[] for _ in range(self.num_envs)]
        self._begin(which)
        infos: dict[str, Any] = {}
        self._inform(infos, self.interface.describe(self._batch, np.full(self.num_envs, RIDING)), which)
        return self.interface.observe(self._batch), infos

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """0.01 s later, or the start of the next ride."""
        import gymnasium

        if self._batch is None or (self.autoreset_mode == AutoresetMode.DISABLED and self._over.any()):
            raise gymnasium.error.ResetNeeded("a ride is over, or has not begun: call reset() first")
        shares = self.interface.decode(actions)
        if len(shares) != self.num_envs:
            raise ModelError(f"{len(shares)} actions for {self.num_envs} bicycles: expected one each")
        waiting = self._over  # empty unless NEXT_STEP left rides that are over
        self._shares = shares
        self._batch = simulate.advance(self.task, self._batch, shares)
        if waiting.any():
            self._episodes[waiting] += 1
            self._begin(waiting)
        causes = self.interface.causes(self._batch)
        causes[waiting] = RIDING
        rewards = self.interface.rewards(causes)
        rewards[waiting] = 0.0
        self._follow(~waiting)
        over = causes != RIDING
        observations, infos = self.interface.observe(self._batch), {}
        everyone = np.ones(self.num_envs, bool)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            last = np.full(self.num_envs, None, dtype=object)
            for i in np.flatnonzero(over):
                last[i] = observations[i].copy()
            final: dict[str, Any] = {}
            self._inform(final, self.interface.describe(self._batch, causes), over)
            infos.update(final_obs=last, _final_obs=over, final_info=final, _final_info=over.copy())
            self._episodes[over] += 1
            self._begin(over)
            observations = self.interface.observe(self._batch)
            self._inform(infos, self.interface.describe(self._batch, np.where(over, RIDING, causes)), everyone)
            self._over = np.zeros(self.num_envs, bool)
        else:
            self._inform(infos, self.interface.describe(self._batch, causes), everyone)
            self._over = over
        terminated = (causes == FALL) | (causes == GOAL_REACHED)
        return observations, rewards, terminated, causes == TIME, infos

    def render(self) -> tuple[Any, ...] | None:
        """One picture or line of text for each bicycle."""
        from eitherway.bicycle import render

        if self.render_mode is None or self._batch is None:
            return None
        seconds = self._batch.clock * self.task.bicycle.time_step
        pictures = []
        for i in range(self.num_envs):
            one = simulate.select(self._batch, np.array([i]))
            if self.render_mode == "ansi":
                pictures.append(render.line(one.state, float(seconds[i])))
                continue
            pictures.append(
                render.frame(
                    float(one.state.lean[0]),
                    float(one.state.steer[0]),
                    float(one.state.heading[0]),
                    np.array(self._trails[i]),
                    seconds=float(seconds[i]),
                    torque=float(self._shares[i, 0]),
                    displacement=float(self._shares[i, -1]) * (self.task.controls - 1),
                    goal=self.task.name == "goal",
                    wheelbase=self.task.bicycle.wheelbase,
                )
            )
        return tuple(pictures)

    def _begin(self, which: np.ndarray) -> None:
        """The rides of a mask start anew, on the roads of their seeds and episodes."""
        assert self._batch is not None and self._seeds is not None
        roads = counter.series(self._seeds[which], self._episodes[which])
        simulate.replace(self._batch, which, simulate.begin(self.task, roads))
        self._over = self._over & ~which
        self._shares = np.where(which[:, None], 0.0, self._shares)
        for i in np.flatnonzero(which) if self.render_mode == "rgb_array" else ():
            self._trails[i] = [(0.0, 0.0)]

    def _follow(self, which: np.ndarray) -> None:
        """Keep where the bicycles have been, if pictures are wanted."""
        assert self._batch is not None
        for i in np.flatnonzero(which) if self.render_mode == "rgb_array" else ():
            self._trails[i].append((float(self._batch.state.x[i]), float(self._batch.state.y[i])))

    def _mask(self, options: dict[str, Any] | None) -> np.ndarray:
        """Which bicycles a reset means."""
        mask = None if options is None else options.get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, bool)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ModelError(f"reset_mask={mask!r}: expected {self.num_envs} booleans, one of them True at least")
        return mask

    def _inform(self, infos: dict[str, Any], facts: dict[str, np.ndarray], which: np.ndarray) -> None:
        """Enter facts of some bicycles as Gymnasium does: an array, and under `_name` a mask of whom it speaks."""
        for name, values in facts.items():
            blank = np.full(self.num_envs, None, dtype=object) if values.dtype == object else np.zeros_like(values)
            infos[name], infos[f"_{name}"] = np.where(which, values, blank), which.copy()
