"""Many bicycles at once as arrays, in NumPy or torch: the plain form of the simulation, which environments step and
gradients cross.

`eitherway.bicycle.kernel` computes the same rides compiled, several times as fast; it is what optimisers call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eitherway.bicycle import noise, physics, whipple
from eitherway.bicycle.physics import GOAL_RADIUS, Gyro, Integrator, State
from eitherway.bicycle.policies import Levels, make_policy, observe
from eitherway.bicycle.tasks import FALL, GOAL_REACHED, TIME, Rides, Task, TaskName, pair


class Batch(NamedTuple):
    """P bicycles under way. A value: `advance` answers a new one.

    Attributes:
        state: their states, fields (P,).
        keys: (P,) of their noise.
        clock: (P,) steps ridden, integers.
        speed: (P,) m/s.
        discrete: entries of the Whipple bicycle's step, [4][6] arrays (P,); empty for the other bicycle.
    """

    state: State
    keys: Any
    clock: Any
    speed: Any
    discrete: list[list[Any]]


def begin(task: Task, seeds: Any, *, xp: Any = np) -> Batch:
    """Bicycles at the start, one for each of the (P,) integer seeds."""
    keys = noise.keys(seeds, xp=xp)
    count = keys.shape[0]
    drawn = np.asarray(noise.uniform(keys, -1, xp=xp))
    speed = whipple.speeds(drawn, task.speed_range)
    discrete = whipple.entries(whipple.discretise(speed), xp=xp) if task.name == "whipple" else []
    return Batch(physics.start(count, xp=xp), keys, xp.zeros(count, dtype=xp.int64), xp.asarray(speed), discrete)


def advance(task: Task, batch: Batch, actions: Any, *, xp: Any = np) -> Batch:
    """The bicycles one step of 0.01 s later.

    Args:
        task: what is ridden.
        batch: P bicycles.
        actions: (P, A) in [-1, 1]: torque and, except on the Whipple bicycle, displacement, as shares of 2 N m and 2
            cm.
    """
    bicycle = task.bicycle
    torque = bicycle.max_torque * actions[:, 0]
    displacement = task.noise * noise.uniform(batch.keys, batch.clock, xp=xp)
    if task.name == "whipple":
        state = whipple.step(batch.state, torque, displacement, speed=batch.speed, discrete=batch.discrete, xp=xp)
    else:
        moved = bicycle.max_displacement * actions[:, 1] + displacement
        state = physics.step(
            batch.state, torque, moved, xp=xp, bicycle=bicycle, integrator=task.integrator, gyro=task.gyro
        )
    return batch._replace(state=state, clock=batch.clock + 1)


def select(batch: Batch, which: Any) -> Batch:
    """The bicycles named by a mask or by indices."""
    return Batch(
        State(*(field[which] for field in batch.state)),
        batch.keys[which],
        batch.clock[which],
        batch.speed[which],
        [[entry[which] for entry in row] for row in batch.discrete],
    )


def replace(batch: Batch, which: np.ndarray, fresh: Batch) -> None:
    """Write other bicycles over those of a mask, in place; for NumPy batches that nobody else reads."""
    for old, new in zip([*batch.state, *batch[1:4]], [*fresh.state, *fresh[1:4]]):
        old[which] = new
    for row, fresh_row in zip(batch.discrete, fresh.discrete):
        for old, new in zip(row, fresh_row):
            old[which] = new


def see(task: Task, batch: Batch, *, xp: Any = np) -> Any:
    """What a policy sees of the bicycles, (P, O)."""
    angle = physics.to_goal(batch.state, xp=xp, bicycle=task.bicycle)[0] if task.name == "goal" else None
    return observe(batch.state, angle, xp=xp)


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
    xp: Any = np,
) -> Rides:
    """Ride until every bicycle has fallen, arrived or run out of time; those that have are left out of the arrays.

    The ride of a row and its seed has the same bits alone and in any batch of one backend. Arguments as
    `kernel.rollout`.

    Args:
        xp: the namespace to compute in, `numpy` or `torch`.

    >>> ride = rollout([[0.0] * 8], [1])
    >>> 100 < int(ride.steps[0]) < 300
    True
    """
    setting = Task(task, horizon, noise, integrator, gyro, speed)
    rule = make_policy(policy, setting.observations, setting.controls, hidden=hidden, levels=levels)
    weights, seeds = pair(policies, seeds, xp=xp)
    batch, riding = begin(setting, seeds, xp=xp), xp.arange(seeds.shape[0])
    count, dt = seeds.shape[0], setting.bicycle.time_step
    steps, cause = np.zeros(count, np.int64), np.full(count, TIME, np.int8)
    final, closest = np.full(count, np.nan), np.full(count, np.inf if task == "goal" else np.nan)
    speed_mps = np.asarray(batch.speed)
    while riding.shape[0]:
        batch = advance(setting, batch, rule.act(weights, see(setting, batch, xp=xp), xp=xp), xp=xp)
        down = physics.fallen(batch.state, xp=xp, bicycle=setting.bicycle)
        over = down | (batch.clock >= setting.steps)
        if task == "goal":
            distance = physics.to_goal(batch.state, xp=xp, bicycle=setting.bicycle)[1]
            rows = np.asarray(riding)
            final[rows] = np.asarray(distance)
            closest[rows] = np.minimum(closest[rows], final[rows])
            over = over | (distance < GOAL_RADIUS)
        if not bool(over.any()):
            continue
        ended = np.asarray(riding[over])
        steps[ended] = np.asarray(batch.clock[over])
        cause[ended] = np.where(np.asarray(down[over]), FALL, TIME)
        if task == "goal":
            cause[ended[(cause[ended] != FALL) & (final[ended] < GOAL_RADIUS)]] = GOAL_REACHED
        batch, riding, weights = select(batch, ~over), riding[~over], weights[~over]
    return Rides(steps, cause, steps * dt * speed_mps, final, closest)
