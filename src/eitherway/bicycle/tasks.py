"""The three things to learn on a bicycle, their settings, and what comes back from a ride."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from eitherway.base.errors import ModelError
from eitherway.bicycle.physics import BICYCLE, Bicycle, Gyro, Integrator, known
from eitherway.bicycle.whipple import speeds
from eitherway.methods.allowed import is_number

TaskName = Literal["balance", "goal", "whipple"]

FALL, TIME, GOAL_REACHED = 0, 1, 2
CAUSES = ("fall", "time", "goal")  # what the codes above are called

HORIZONS = {"balance": 100_000, "goal": 72_000, "whipple": 100_000}  # steps; 72,000 as in Lagoudakis & Parr 2003
TRACK = (
    "steer",
    "steer_rate",
    "lean",
    "lean_rate",
    "heading",
    "x",
    "y",
    "torque",
    "displacement",
)  # columns of a track


@dataclass(frozen=True)
class Task:
    """What is ridden, for how long, on which road.

    `"balance"`: stay up (Randlov & Alstrom). `"goal"`: reach a circle of 10 m radius 1 km away, 90 degrees to the
    right of the start, on the same bicycle. `"whipple"`: stay up on the benchmark bicycle, by steer torque alone.

    Args:
        name: which.
        horizon: steps of 0.01 s until time is up; by default 100,000, and 72,000 on the way to the goal.
        noise: the rider's mass is moved by up to this many metres sideways, anew each step; in the Whipple bicycle as
            a lean torque.
        integrator: of the Randlov & Alstrom bicycle, see `physics.step`.
        gyro: its gyroscopic sign.
        speed: m/s, by default 10 km/h; the Whipple bicycle also takes a range, from which each ride's seed draws.

    Raises:
        ModelError: if a name is unknown or a number makes no sense.
    """

    name: TaskName = "balance"
    horizon: int | None = None
    noise: float = 0.02
    integrator: Integrator = "semi_implicit"
    gyro: Gyro = "published"
    speed: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        known(self.name, TaskName, "task")
        known(self.integrator, Integrator, "integrator")
        known(self.gyro, Gyro, "gyro")
        if not (is_number(self.noise) and self.noise >= 0):
            raise ModelError(f"noise={self.noise!r}: expected metres, 0 or more; 0.02 is the paper's")
        if self.horizon is not None and not (
            is_number(self.horizon) and 1 <= self.horizon < 2**63 and self.horizon == int(self.horizon)
        ):
            raise ModelError(f"horizon={self.horizon!r}: expected a whole number of steps of 0.01 s, at least 1")
        speeds(np.zeros(1), self.speed_range)  # raises for a speed that is none
        if self.name != "whipple" and isinstance(self.speed, tuple | list):
            raise ModelError(
                f"speed={self.speed!r} with task={self.name!r}: only the Whipple bicycle takes a range of speeds; "
                "give one number"
            )

    @property
    def steps(self) -> int:
        """Steps until time is up."""
        return HORIZONS[self.name] if self.horizon is None else int(self.horizon)

    @property
    def observations(self) -> int:
        """Columns a policy sees: steer, its rate, lean, its rate; on the way to the goal also the angle to it."""
        return 5 if self.name == "goal" else 4

    @property
    def controls(self) -> int:
        """Columns a policy answers: the handlebar's torque, and except on the Whipple bicycle the displacement."""
        return 1 if self.name == "whipple" else 2

    @property
    def speed_range(self) -> float | tuple[float, float]:
        """`speed`, or its default, 10 km/h."""
        return BICYCLE.speed if self.speed is None else self.speed

    @cached_property
    def bicycle(self) -> Bicycle:
        """The Randlov & Alstrom bicycle at the task's speed."""
        return (
            BICYCLE if isinstance(self.speed_range, tuple | list) else replace(BICYCLE, speed=float(self.speed_range))
        )


class Rides(NamedTuple):
    """How P rides went.

    Attributes:
        steps: (P,) until the end, at least 1; times 0.01 s.
        cause: (P,) codes, indices of `CAUSES`.
        path_m: (P,) metres ridden, steps * dt * speed.
        final_distance_m: (P,) from the front wheel to the goal at the end; NaN where the task has no goal.
        closest_distance_m: (P,) the smallest such distance on the way; NaN where the task has no goal.
        tracks: P arrays (T_p, 9) with the columns `TRACK`, the state before each kept step and the action taken;
            empty unless asked for.
    """

    steps: np.ndarray
    cause: np.ndarray
    path_m: np.ndarray
    final_distance_m: np.ndarray
    closest_distance_m: np.ndarray
    tracks: tuple[np.ndarray, ...] = ()


def pair(policies: Any, seeds: Any, *, xp: Any = np) -> tuple[Any, Any]:
    """Weights (P, W) and seeds (P,), one of them repeated where it stands alone: one rider on many roads, many riders
    on one.

    Raises:
        ModelError: if both are many and of different numbers, or either is not made of numbers.
    """
    weights = xp.atleast_2d(_numbers(policies, "policies", "rows of numbers, one a rider", xp, xp.float64))
    seeds = xp.atleast_1d(_numbers(seeds, "seeds", "whole numbers below 2**63, one a ride", xp))
    if not bool(xp.isfinite(weights).all()):
        raise ModelError(
            f"policies hold {int((~xp.isfinite(weights)).sum())} weights that are no finite number; such a rider does "
            "nothing and falls. Look for where they come from, or set them to 0"
        )
    rows, roads = weights.shape[0], seeds.shape[0]
    if rows != roads and 1 not in (rows, roads):
        raise ModelError(f"{rows} riders and {roads} seeds: expected one seed a rider, or one of either")
    if not str(seeds.dtype).removeprefix("torch.").startswith(("int", "uint")):
        raise ModelError(f"seeds of dtype {seeds.dtype}: expected whole numbers")
    count = max(rows, roads) if rows and roads else 0
    return xp.broadcast_to(weights, (count, weights.shape[1])), xp.broadcast_to(seeds, (count,))


def _numbers(given: Any, name: str, expected: str, xp: Any, dtype: Any = None) -> Any:
    """An array of at most as many axes as rides need: (P, W) for weights, which have a dtype, else (P,)."""
    try:
        array = xp.asarray(given, dtype=dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ModelError(f"{name} are {given!r:.60}: expected {expected} ({error})") from None
    if array.ndim > (1 if dtype is None else 2):
        raise ModelError(f"{name} of shape {tuple(array.shape)}: expected {expected}")
    return array
