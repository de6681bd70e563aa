"""`rollout`: the rides of many riders, compiled; what optimisers call.

numba is imported by the first ride (half a second; the first ride ever also compiles, some seconds, kept on disk).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eitherway.base.errors import MissingExtra, ModelError
from eitherway.bicycle import noise as counter
from eitherway.bicycle import whipple
from eitherway.bicycle.physics import GOAL, GOAL_RADIUS, Gyro, Integrator
from eitherway.bicycle.policies import SCALES, Levels, check_weights, make_policy
from eitherway.bicycle.tasks import TRACK, Rides, Task, TaskName, pair
from eitherway.methods.allowed import is_whole

MAX_TRACK_BYTES = 2 << 30


def rollout(
    policies: Any,
    seeds: Any,
    *,
    task: TaskName = "balance",
    policy: str = "linear",
    levels: Levels = "three",
    hidden: int = 8,
    horizon: int | None = None,
    noise: float = 0.02,
    integrator: Integrator = "semi_implicit",
    gyro: Gyro = "published",
    speed: float | tuple[float, float] | None = None,
    record: int = 0,
) -> Rides:
    """Ride until every bicycle has fallen, arrived or run out of time.

    The ride of a row and its seed has the same bits alone and in any batch, and takes no time once it is over. One
    thread; the interpreter's lock is released meanwhile, so threads run rides side by side.

    Args:
        policies: (P, W) weights, a row a rider; (W,) or one row rides on every seed.
        seeds: (P,) integers, the noise of each ride; a single one serves all riders.
        task: `"balance"`, `"goal"` or `"whipple"`, see `Task`.
        policy: `"linear"` or `"mlp"`, see `policies`.
        levels: `"three"` or `"continuous"` actions.
        hidden: units of the network.
        horizon: steps of 0.01 s until time is up; None takes the task's.
        noise: metres, at most, that the rider's mass is moved sideways by each step.
        integrator, gyro: of the Randlov & Alstrom bicycle, see `physics.step`.
        speed: m/s; None is 10 km/h. The Whipple bicycle also takes (slowest, fastest), from which each seed draws.
        record: keep every so many states of every ride in `tracks`; 0 keeps none, 1 all.

    Raises:
        ModelError: if a name is unknown, a number makes no sense, or the weights do not fit the policy.
        MissingExtra: if numba is not installed.

    >>> rides = rollout([[0.0] * 8], [1, 2, 3])
    >>> bool((rides.steps > 100).all() and (rides.steps < 300).all())
    True
    """
    try:
        from eitherway.bicycle import lanes
    except ImportError as error:
        if error.name != "numba":
            raise
        raise MissingExtra("numba", "rl") from error

    setting = Task(task, horizon, noise, integrator, gyro, speed)
    rule = make_policy(policy, setting.observations, setting.controls, hidden=hidden, levels=levels)
    weights, roads = pair(policies, seeds)
    check_weights(rule, weights)
    if not (is_whole(record) and record >= 0):
        raise ModelError(f"record={record!r}: expected 0 (no tracks) or how many steps apart the kept states are")
    keys, count = counter.keys(roads), len(roads)
    speeds = whipple.speeds(counter.uniform(keys, -1), setting.speed_range)
    if count and (speeds == speeds[0]).all():
        speeds = speeds[:1].copy()  # one speed, one step for all
    exact = whipple.discretise(speeds).reshape(-1, 24) if task == "whipple" else np.zeros((len(speeds), 24))
    weights, c, scale = np.ascontiguousarray(weights), constants(setting), np.array(SCALES)
    steps, cause = np.zeros(count, np.int64), np.zeros(count, np.int8)
    final, closest = np.full(count, np.nan), np.full(count, np.nan)

    def go(every: int, offsets: np.ndarray, track: np.ndarray) -> None:
        lanes.ride(
            weights, keys, task == "whipple", task == "goal", policy == "mlp", hidden, levels == "continuous",
            setting.steps, float(noise), integrator == "explicit", c, scale, exact, speeds, every, offsets, track,
            steps, cause, final, closest,
        )  # fmt: skip

    go(0, np.zeros(count, np.int64), np.zeros((1, 9)))
    path = steps * setting.bicycle.time_step * speeds
    tracks: tuple[np.ndarray, ...] = ()
    if record:  # ridden once more, now that the lengths are known: the same seeds give the same rides
        lengths = -(-steps // int(record))
        ends = np.cumsum(lengths)
        _check_room(int(lengths.sum()), int(record))
        track = np.empty((max(1, int(lengths.sum())), len(TRACK)))
        go(int(record), ends - lengths, track)
        tracks = tuple(track[end - length : end] for end, length in zip(ends, lengths))
    return Rides(steps, cause, path, final, closest, tracks)


def constants(task: Task) -> np.ndarray:
    """The numbers the compiled ride reads, (22,) in its order."""
    b, p = task.bicycle, whipple.BENCHMARK
    sign = 1.0 if task.gyro == "published" else -1.0
    return np.array(
        [
            b.speed,
            b.time_step,
            b.max_steer,
            b.max_torque,
            b.max_displacement,
            b.mass_height,
            b.wheelbase,
            b.mass * b.mass_height * b.gravity,
            b.spin_inertia * b.wheel_rate,
            b.speed**2 * b.tyre_mass * b.wheel_radius,
            b.speed**2 * b.mass * b.mass_height,
            b.lean_inertia,
            sign * b.coupling_inertia * b.wheel_rate,
            b.steer_inertia,
            b.wheelbase - b.front_to_mass,
            whipple.RIDER_MASS * p.gravity,
            p.trail,
            np.cos(p.steer_tilt) / p.wheelbase,
            b.max_lean,
            GOAL_RADIUS,
            *GOAL,
        ]
    )


def _check_room(rows: int, record: int) -> None:
    """Raises ModelError if the tracks would fill the memory."""
    size = rows * len(TRACK) * 8
    if size > MAX_TRACK_BYTES:
        raise ModelError(
            f"record={record} would keep {rows} states, {size / 2**30:.1f} GiB; "
            f"record={record * -(-size // MAX_TRACK_BYTES)} or a shorter horizon keeps fewer"
        )
