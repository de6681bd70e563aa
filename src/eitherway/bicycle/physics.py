"""The bicycle of Randlov & Alstrom (1998): one step of it, written once for NumPy arrays and torch tensors.

The equations are restated in Ernst, Geurts & Wehenkel, JMLR 6 (2005), appendix C.4. Angles are in radians, positive
to the left: a positive steer turns the way a positive lean falls. The step has no branches and no in-place writes, so
that torch's gradients flow through it.

A sign to know about: a spinning wheel couples lean and steer by forces that do no work, so the two coupling terms
must have opposite signs. As published they have the same sign, and falling to one side turns the handlebar to the
other. `gyro="published"` keeps that, so that results compare; `gyro="skew"` turns the sign of the steer equation
round. Nor is there any trail: this bicycle is stable by itself at no speed, as `eitherway.bicycle.whipple`, the
physically serious one, is between 4.3 and 6.0 m/s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from eitherway.base.errors import ModelError, nearest

Integrator = Literal["semi_implicit", "explicit"]
Gyro = Literal["published", "skew"]

GOAL = (1000.0, 0.0)  # m; the ride starts at (0, 0) heading along +y, so the goal lies 90 degrees to the right
GOAL_RADIUS = 10.0  # m, from the front wheel's contact


class State(NamedTuple):
    """Where a bicycle is and how it moves; each field a float, an array or a tensor of shape (P,).

    `steer` and `lean` are angles from straight and upright, `heading` is measured anticlockwise from the y axis (all
    rad, rates in rad/s), `x` and `y` are where the rear wheel touches the ground (m).
    """

    steer: Any
    steer_rate: Any
    lean: Any
    lean_rate: Any
    heading: Any
    x: Any
    y: Any


@dataclass(frozen=True)
class Bicycle:
    """Lengths (m), masses (kg), limits of the Randlov & Alstrom bicycle; letters of the paper in the comments.

    Raises:
        ModelError: if the speed, the time step or an angle makes no sense.
    """

    speed: float = 10 / 3.6  # v, m/s
    gravity: float = 9.82  # g, m/s^2
    time_step: float = 0.01  # dt, s
    saddle_height: float = 0.30  # d_CM, between the centres of mass of bicycle and cyclist
    front_to_mass: float = 0.66  # c, horizontally from the front contact to the centre of mass
    mass_height: float = 0.94  # h
    wheelbase: float = 1.11  # l
    wheel_radius: float = 0.34  # r
    bicycle_mass: float = 15.0  # M_c
    tyre_mass: float = 1.7  # M_d
    cyclist_mass: float = 60.0  # M_p
    max_steer: float = 1.3963  # 80 degrees as written in the C program; the handlebar hits the frame
    max_lean: float = math.pi / 15  # 12 degrees; beyond it the bicycle has fallen
    max_torque: float = 2.0  # T, N m on the handlebar
    max_displacement: float = 0.02  # d, m of the rider's centre of mass, sideways

    def __post_init__(self) -> None:
        for name in ("speed", "time_step"):
            if not getattr(self, name) > 0:
                raise ModelError(f"Bicycle({name}={getattr(self, name)!r}): expected a number above 0")
        for name in ("max_steer", "max_lean"):
            if not 0 < getattr(self, name) < 1.5:
                raise ModelError(f"Bicycle({name}={getattr(self, name)!r}): expected radians between 0 and 1.5")

    @property
    def mass(self) -> float:
        """M, bicycle and cyclist, without the tyres (kg)."""
        return self.bicycle_mass + self.cyclist_mass

    @property
    def wheel_rate(self) -> float:
        """sigma', how fast the wheels spin (rad/s)."""
        return self.speed / self.wheel_radius

    @property
    def lean_inertia(self) -> float:
        """I of bicycle and cyclist about the line on the ground (kg m^2)."""
        tall = self.mass_height + self.saddle_height
        return 13 / 3 * self.bicycle_mass * self.mass_height**2 + self.cyclist_mass * tall**2

    @property
    def spin_inertia(self) -> float:
        """I_dc of a tyre about its axle (kg m^2)."""
        return self.tyre_mass * self.wheel_radius**2

    @property
    def coupling_inertia(self) -> float:
        """I_dv of a tyre, in the steer equation's gyroscopic term (kg m^2)."""
        return 1.5 * self.tyre_mass * self.wheel_radius**2

    @property
    def steer_inertia(self) -> float:
        """I_dl of a tyre about its diameter (kg m^2)."""
        return 0.5 * self.tyre_mass * self.wheel_radius**2


BICYCLE = Bicycle()


def start(count: int, *, xp: Any = np) -> State:
    """`count` bicycles upright at the origin, heading along +y; float64 arrays of `xp` (NumPy or torch)."""
    return State(*(xp.zeros(count, dtype=xp.float64) for _ in State._fields))


def accelerations(
    state: State, torque: Any, displacement: Any, *, xp: Any = np, bicycle: Bicycle = BICYCLE, gyro: Gyro = "published"
) -> tuple[Any, Any]:
    """Angular accelerations of lean and steer (rad/s^2), each (P,).

    The published form divides by turning radii and takes the sign of the steer; multiplied out it has neither, and
    agrees to 6e-17.

    Args:
        state: the bicycles.
        torque: (P,) on the handlebar, N m.
        displacement: (P,) of the rider's mass, noise included, m.
        xp: the namespace of the arrays, `numpy` or `torch`.

    Source: Ernst et al. 2005, eq. 45 to 55.
    """
    b = bicycle
    sign = 1.0 if known(gyro, Gyro, "gyro") == "published" else -1.0
    tangent = xp.tan(state.steer)
    front = xp.sin(state.steer) / b.wheelbase  # signed 1 / r_f
    rear = tangent / b.wheelbase  # signed 1 / r_b
    centre = tangent / xp.sqrt((tangent * (b.wheelbase - b.front_to_mass)) ** 2 + b.wheelbase**2)  # signed 1 / r_CM
    phi = state.lean + xp.arctan(displacement / b.mass_height)
    weight = b.mass * b.mass_height * b.gravity * xp.sin(phi)
    turn = b.speed**2 * (b.tyre_mass * b.wheel_radius * (front + rear) + b.mass * b.mass_height * centre)
    lean = (weight - xp.cos(phi) * (b.spin_inertia * b.wheel_rate * state.steer_rate + turn)) / b.lean_inertia
    steer = (torque - sign * b.coupling_inertia * b.wheel_rate * state.lean_rate) / b.steer_inertia
    return lean, steer


def step(
    state: State,
    torque: Any,
    displacement: Any,
    *,
    xp: Any = np,
    bicycle: Bicycle = BICYCLE,
    integrator: Integrator = "semi_implicit",
    gyro: Gyro = "published",
) -> State:
    """The bicycles one time step (0.01 s) later.

    `"semi_implicit"` is Randlov's C program: new rates first, then angles by the new rates, steer clipped at its stop
    while the rate runs on. `"explicit"` is Ernst et al.: angles by the old rates, and the steer rate is 0 at the
    stop. A policy trained on one may fall on the other. The track is exact for a wheel that rolls without slipping
    (Ernst et al.); the C program's own track bends the wrong way half of the time.

    Args:
        state: the bicycles, P of them.
        torque: (P,) on the handlebar, N m.
        displacement: (P,) of the rider's mass, noise included, m.
        xp: the namespace of the arrays, `numpy` or `torch`.
        bicycle: its measures.
        integrator: which of the two published ways of stepping.
        gyro: the sign of the gyroscopic term in the steer equation, see above.

    Raises:
        ModelError: if `integrator` or `gyro` is unknown.

    >>> later = step(start(1), 0.0, 0.02)
    >>> f"{later.lean_rate[0] / 0.01:.12f}"
    '0.098381101234'
    """
    dt, stop = bicycle.time_step, bicycle.max_steer
    lean_acceleration, steer_acceleration = accelerations(
        state, torque, displacement, xp=xp, bicycle=bicycle, gyro=gyro
    )
    lean_rate = state.lean_rate + dt * lean_acceleration
    steer_rate = state.steer_rate + dt * steer_acceleration
    if known(integrator, Integrator, "integrator") == "semi_implicit":
        lean = state.lean + dt * lean_rate
        steer = xp.clip(state.steer + dt * steer_rate, -stop, stop)
    else:
        lean = state.lean + dt * state.lean_rate
        free = state.steer + dt * state.steer_rate
        steer = xp.clip(free, -stop, stop)
        steer_rate = xp.where(xp.abs(free) > stop, 0.0 * steer_rate, steer_rate)
    heading = state.heading + dt * bicycle.speed / bicycle.wheelbase * xp.tan(state.steer)
    x = state.x - bicycle.speed * dt * xp.sin(state.heading)
    y = state.y + bicycle.speed * dt * xp.cos(state.heading)
    return State(steer, steer_rate, lean, lean_rate, heading, x, y)


def fallen(state: State, *, xp: Any = np, bicycle: Bicycle = BICYCLE) -> Any:
    """(P,) bool: which bicycles lean more than 12 degrees; a lean that is not a number has fallen too."""
    return ~(xp.abs(state.lean) <= bicycle.max_lean)


def to_goal(
    state: State, *, xp: Any = np, bicycle: Bicycle = BICYCLE, goal: tuple[float, float] = GOAL
) -> tuple[Any, Any]:
    """Angle from the heading to the goal (rad, in [-pi, pi], positive to the left) and distance from the front wheel
    (m), each (P,).
    """
    along_x, along_y = -xp.sin(state.heading), xp.cos(state.heading)
    dx = goal[0] - (state.x + bicycle.wheelbase * along_x)
    dy = goal[1] - (state.y + bicycle.wheelbase * along_y)
    angle = xp.arctan2(along_x * dy - along_y * dx, along_x * dx + along_y * dy)
    return angle, xp.sqrt(dx * dx + dy * dy)


def known(name: str, options: Any, what: str) -> str:
    """`name`, if it is one of the options of the Literal `options`.

    Raises:
        ModelError: if it is not; the message names the nearest option.
    """
    names = get_args(options)
    if name not in names:
        raise ModelError(f"{what}={name!r} is not known. {nearest(str(name), names)}")
    return name
