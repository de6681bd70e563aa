"""The compiled ride: up to 64 bicycles side by side, in loops that the compiler turns into vector instructions.

A lane is a column of each buffer. Every loop runs over the lanes under way and nothing but additions, products,
quotients and square roots happens in it: sine, cosine, arc tangent and exponential are polynomials written out here.
So lanes never influence each other, no mathematical library is called, and a ride has the same bits alone, in a
batch, and on any machine with IEEE arithmetic. A bicycle that has fallen gives its lane to the next in the queue, or
to the last lane once the queue is empty: the fallen cost nothing more.

Everything compiled stands in this one file, because numba's cache on disk watches a function's own file alone. Lists
of numbers come in as arguments (`constants`) for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit

LANES = 64


def _compiled(function: Callable[..., Any], inline: str = "never") -> Any:
    """Compiles at the first call and keeps that on disk, where there is a place to keep it."""
    # no check for division by zero: a lane that divides by it is no number any more, and has fallen
    how = {"error_model": "numpy", "nogil": True, "inline": inline}
    try:
        return njit(**how, cache=True)(function)
    except RuntimeError:  # neither this folder nor the home can be written to: compiled anew in each process
        return njit(**how)(function)


_inlined = partial(_compiled, inline="always")

_U = np.uint64
_WEYL, _MIX_1, _MIX_2 = _U(0x9E3779B97F4A7C15), _U(0xBF58476D1CE4E5B9), _U(0x94D049BB133111EB)  # as in noise.py

# rows of the state buffer: the fields of physics.State, then the distance to the goal now and at its smallest
STEER, STEER_RATE, LEAN, LEAN_RATE, HEADING, X, Y, FAR, NEAR = range(9)


@_inlined
def _sin(x):
    """Taylor, |x| < 1.6: the remainder is below 2e-18."""
    y = x * x
    p = y * (-1 / 51090942171709440000) + 1 / 121645100408832000
    p = p * y - 1 / 355687428096000
    p = p * y + 1 / 1307674368000
    p = p * y - 1 / 6227020800
    p = p * y + 1 / 39916800
    p = p * y - 1 / 362880
    p = p * y + 1 / 5040
    p = p * y - 1 / 120
    p = p * y + 1 / 6
    return x - x * y * p


@_inlined
def _cos(x):
    """Taylor, |x| < 1.6: the remainder is below 3e-17."""
    y = x * x
    p = y * (-1 / 1124000727777607680000) + 1 / 2432902008176640000
    p = p * y - 1 / 6402373705728000
    p = p * y + 1 / 20922789888000
    p = p * y - 1 / 87178291200
    p = p * y + 1 / 479001600
    p = p * y - 1 / 3628800
    p = p * y + 1 / 40320
    p = p * y - 1 / 720
    p = p * y + 1 / 24
    return 1.0 - 0.5 * y + y * y * p


@_inlined
def _atan2(y, x):
    """Angle of (x, y): folded to the eighth of a circle around the x axis, then the arc tangent's Taylor series."""
    ax, ay = abs(x), abs(y)
    steep = ay > ax
    low = ax if steep else ay
    high = ay if steep else ax
    t = low / high if high > 0.0 else 0.0
    fold = t > 0.4142135623730951  # tan(pi / 8)
    t = (t - 1.0) / (t + 1.0) if fold else t
    z = t * t
    p = 1 / 45
    p = 1 / 43 - z * p
    p = 1 / 41 - z * p
    p = 1 / 39 - z * p
    p = 1 / 37 - z * p
    p = 1 / 35 - z * p
    p = 1 / 33 - z * p
    p = 1 / 31 - z * p
    p = 1 / 29 - z * p
    p = 1 / 27 - z * p
    p = 1 / 25 - z * p
    p = 1 / 23 - z * p
    p = 1 / 21 - z * p
    p = 1 / 19 - z * p
    p = 1 / 17 - z * p
    p = 1 / 15 - z * p
    p = 1 / 13 - z * p
    p = 1 / 11 - z * p
    p = 1 / 9 - z * p
    p = 1 / 7 - z * p
    p = 1 / 5 - z * p
    p = 1 / 3 - z * p
    a = t - t * z * p
    a = a + 0.7853981633974483 if fold else a
    a = 1.5707963267948966 - a if steep else a
    a = 3.141592653589793 - a if x < 0.0 else a
    return -a if y < 0.0 else a


@_inlined
def _tanh(x):
    """1 - 2 / (1 + exp(2 x)), the exponential as the 64th power of a Taylor series; absolute error below 1e-14."""
    x = 19.0 if x > 19.0 else x
    x = -19.0 if x < -19.0 else x
    y = x * (1 / 32)
    p = y * (1 / 1307674368000) + 1 / 87178291200
    p = p * y + 1 / 6227020800
    p = p * y + 1 / 479001600
    p = p * y + 1 / 39916800
    p = p * y + 1 / 3628800
    p = p * y + 1 / 362880
    p = p * y + 1 / 40320
    p = p * y + 1 / 5040
    p = p * y + 1 / 720
    p = p * y + 1 / 120
    p = p * y + 1 / 24
    p = p * y + 1 / 6
    p = p * y + 0.5
    p = p * y + 1.0
    p = p * y + 1.0
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return 1.0 - 2.0 / (1.0 + p)


@_compiled
def _shake(key, clock, push, noise, n):
    """push = noise * uniform(key, clock), as noise.uniform."""
    for i in range(n):
        z = key[i] + _U(clock[i] + 1) * _WEYL
        z = (z ^ (z >> _U(30))) * _MIX_1
        z = (z ^ (z >> _U(27))) * _MIX_2
        z = (z ^ (z >> _U(31))) >> _U(11)
        push[i] = noise * (np.float64(np.int64(z)) * (1 / 4503599627370496) - 1.0)


@_compiled
def _observe(s, seen, scale, n):
    """The four angles and rates, each about 1 in a normal ride."""
    a, b, c, d = 1 / scale[0], 1 / scale[1], 1 / scale[2], 1 / scale[3]
    for i in range(n):
        seen[0, i] = s[STEER, i] * a
        seen[1, i] = s[STEER_RATE, i] * b
        seen[2, i] = s[LEAN, i] * c
        seen[3, i] = s[LEAN_RATE, i] * d


@_compiled
def _look(s, seen, wheelbase, goal_x, goal_y, first, n):
    """Angle to the goal as a share of pi, and how far it is from the front wheel; lanes from `first` on."""
    for i in range(first, n):
        psi = s[HEADING, i]
        half = 0.5 * (psi - 6.283185307179586 * math.floor(psi * 0.15915494309189535 + 0.5))
        sine, cosine = _sin(half), _cos(half)
        along_x, along_y = -2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
        dx = goal_x - (s[X, i] + wheelbase * along_x)
        dy = goal_y - (s[Y, i] + wheelbase * along_y)
        seen[4, i] = _atan2(along_x * dy - along_y * dx, along_x * dx + along_y * dy) * (1 / 3.141592653589793)
        far = math.sqrt(dx * dx + dy * dy)
        s[FAR, i] = far
        s[NEAR, i] = far if far < s[NEAR, i] else s[NEAR, i]


@_compiled
def _linear(w, seen, u, inputs, outputs, n):
    """u = W o for each lane."""
    for k in range(outputs):
        r = k * inputs
        for i in range(n):
            u[k, i] = (
                w[r, i] * seen[0, i] + w[r + 1, i] * seen[1, i] + w[r + 2, i] * seen[2, i] + w[r + 3, i] * seen[3, i]
            )
        for j in range(4, inputs):
            for i in range(n):
                u[k, i] += w[r + j, i] * seen[j, i]


@_compiled
def _mlp(w, seen, u, unit, inputs, hidden, outputs, n):
    """u of one hidden layer of tanh for each lane."""
    out = hidden * (inputs + 1)
    for k in range(outputs):
        for i in range(n):
            u[k, i] = 0.0
    for h in range(hidden):
        r = h * (inputs + 1)
        for i in range(n):
            unit[i] = (
                w[r, i] * seen[0, i] + w[r + 1, i] * seen[1, i] + w[r + 2, i] * seen[2, i] + w[r + 3, i] * seen[3, i]
            )
        for j in range(4, inputs):
            for i in range(n):
                unit[i] += w[r + j, i] * seen[j, i]
        for i in range(n):
            unit[i] = _tanh(unit[i] + w[r + inputs, i])
        for k in range(outputs):
            for i in range(n):
                u[k, i] += w[out + k * hidden + h, i] * unit[i]
    for k in range(outputs):
        for i in range(n):
            u[k, i] += w[out + outputs * hidden + k, i]


@_compiled
def _decide(u, continuous, outputs, n):
    """Raw outputs to actions in [-1, 1]."""
    for k in range(outputs):
        if continuous:
            for i in range(n):
                a = u[k, i]
                a = 1.0 if a > 1.0 else a
                u[k, i] = -1.0 if a < -1.0 else a
        else:
            for i in range(n):
                a = u[k, i]
                u[k, i] = 1.0 if a > 0.5 else (-1.0 if a < -0.5 else 0.0)


@_compiled
def _roll(s, turn, v, dt, n):
    """The rear wheel rolls along the heading, the heading turns by `turn` rad/s."""
    for i in range(n):
        psi = s[HEADING, i]
        half = 0.5 * (psi - 6.283185307179586 * math.floor(psi * 0.15915494309189535 + 0.5))
        sine, cosine = _sin(half), _cos(half)
        s[X, i] -= v[i] * dt * (2.0 * sine * cosine)
        s[Y, i] += v[i] * dt * (1.0 - 2.0 * sine * sine)
        s[HEADING, i] = psi + dt * turn[i]


@_compiled
def _randlov(s, u, push, turn, c, explicit, n):
    """physics.step but for the track; sine and cosine of lean + arctan(x) are written out: (sin + x cos) / sqrt(1 +
    x^2).
    """
    v, dt, stop = c[0], c[1], c[2]
    torque, displacement, height, wheelbase = c[3], c[4], c[5], c[6]
    weight, spin, tyre, centre, inertia = c[7], c[8], c[9], c[10], c[11]
    coupling, steer_inertia, behind = c[12], c[13], c[14]
    up, per_steer, per_lean, per_base = 1.0 / height, 1.0 / steer_inertia, 1.0 / inertia, 1.0 / wheelbase
    for i in range(n):
        steer, steer_rate, lean, lean_rate = s[STEER, i], s[STEER_RATE, i], s[LEAN, i], s[LEAN_RATE, i]
        x = (displacement * u[1, i] + push[i]) * up
        sine = _sin(steer)
        tangent = sine / _cos(steer)
        sl, cl = _sin(lean), _cos(lean)
        norm = 1.0 / math.sqrt(1.0 + x * x)
        bend = tyre * ((sine + tangent) * per_base)
        bend += centre * (tangent / math.sqrt(tangent * tangent * (behind * behind) + wheelbase * wheelbase))
        lean_acc = (weight * ((sl + x * cl) * norm) - (cl - x * sl) * norm * (spin * steer_rate + bend)) * per_lean
        steer_acc = (torque * u[0, i] - coupling * lean_rate) * per_steer
        new_lean_rate = lean_rate + dt * lean_acc
        new_steer_rate = steer_rate + dt * steer_acc
        s[LEAN, i] = lean + dt * (lean_rate if explicit else new_lean_rate)
        free = steer + dt * (steer_rate if explicit else new_steer_rate)
        hits = abs(free) > stop
        limit = stop if free > 0.0 else -stop
        s[STEER, i] = limit if hits else free
        s[STEER_RATE, i] = 0.0 if hits and explicit else new_steer_rate
        s[LEAN_RATE, i] = new_lean_rate
        turn[i] = v * per_base * tangent


@_compiled
def _whipple(s, u, push, turn, d, v, c, n):
    """whipple.step but for the track; d holds each lane's exact step, row by row."""
    torque, lever, trail, tilt = c[3], c[15], c[16], c[17]
    for i in range(n):
        steer, steer_rate, lean, lean_rate = s[STEER, i], s[STEER_RATE, i], s[LEAN, i], s[LEAN_RATE, i]
        f, t = lever * push[i], torque * u[0, i]
        turn[i] = (v[i] * steer + trail * steer_rate) * tilt
        s[LEAN, i] = (
            d[0, i] * lean + d[1, i] * steer + d[2, i] * lean_rate + d[3, i] * steer_rate + d[4, i] * f + d[5, i] * t
        )
        s[STEER, i] = (
            d[6, i] * lean + d[7, i] * steer + d[8, i] * lean_rate + d[9, i] * steer_rate + d[10, i] * f + d[11, i] * t
        )
        s[LEAN_RATE, i] = (
            d[12, i] * lean
            + d[13, i] * steer
            + d[14, i] * lean_rate
            + d[15, i] * steer_rate
            + d[16, i] * f
            + d[17, i] * t
        )
        s[STEER_RATE, i] = (
            d[18, i] * lean
            + d[19, i] * steer
            + d[20, i] * lean_rate
            + d[21, i] * steer_rate
            + d[22, i] * f
            + d[23, i] * t
        )


@_compiled
def _count_over(s, clock, horizon, max_lean, radius, n):
    """How many lanes have fallen, arrived or run out of time."""
    over = 0
    for i in range(n):
        up = (abs(s[LEAN, i]) <= max_lean) & (clock[i] < horizon) & (s[FAR, i] >= radius)
        over += 1 - np.int64(up)
    return over


@_compiled
def ride(
    weights,  # (P, W) float64
    keys,  # (P,) uint64, from noise.keys
    whipple,  # bool: the benchmark bicycle, by steer torque alone
    goal,  # bool: on the way to (goal_x, goal_y)
    mlp,  # bool: the network, else the linear policy
    hidden,
    continuous,  # bool: actions as they come, else in three levels
    horizon,
    noise,
    explicit,  # bool: explicit Euler, else semi-implicit
    c,  # (20,) constants, see kernel.constants
    scale,  # (4,) observation scales
    discrete,  # (S, 24) exact Whipple steps, S = P or 1
    speeds,  # (S,) m/s
    every,  # keep every so many states of the tracks; 0 keeps none
    offsets,  # (P,) where each ride's track begins
    track,  # (R, 9) written
    steps,  # (P,) written
    cause,  # (P,) written: 0 fall, 1 time, 2 goal
    final,  # (P,) written if goal
    closest,  # (P,) written if goal
):
    rides = keys.shape[0]
    size = weights.shape[1]
    inputs = 5 if goal else 4
    outputs = 1 if whipple else 2
    s = np.zeros((9, LANES))
    w = np.zeros((size, LANES))
    d = np.zeros((24, LANES))
    seen = np.zeros((5, LANES))
    u = np.zeros((2, LANES))
    push, unit, turn, v = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    key, clock, rider = np.zeros(LANES, np.uint64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    dt, wheelbase, max_lean, radius = c[1], c[6], c[18], c[19]
    waiting = 0  # the next ride in the queue
    n = 0
    tracking = goal or every > 0
    while True:
        # fill the free lanes from the queue
        while n < LANES and waiting < rides:
            p = waiting if discrete.shape[0] > 1 else 0
            for k in range(9):
                s[k, n] = 0.0
            s[FAR, n] = s[NEAR, n] = np.inf
            for k in range(size):
                w[k, n] = weights[waiting, k]
            for k in range(24):
                d[k, n] = discrete[p, k]
            v[n] = speeds[p]
            key[n], clock[n], rider[n] = keys[waiting], 0, waiting
            waiting += 1
            n += 1
            if goal:
                _look(s, seen, wheelbase, c[20], c[21], n - 1, n)
        if n == 0:
            return
        # one step after another until a lane is free
        over = 0
        while over == 0:
            _shake(key, clock, push, noise, n)
            _observe(s, seen, scale, n)
            if mlp:
                _mlp(w, seen, u, unit, inputs, hidden, outputs, n)
            else:
                _linear(w, seen, u, inputs, outputs, n)
            _decide(u, continuous, outputs, n)
            if every > 0:
                for i in range(n):
                    if clock[i] % every == 0:
                        row = offsets[rider[i]] + clock[i] // every
                        for k in range(7):
                            track[row, k] = s[k, i]
                        track[row, 7] = c[3] * u[0, i]
                        track[row, 8] = c[4] * u[1, i] if outputs > 1 else 0.0
            if whipple:
                _whipple(s, u, push, turn, d, v, c, n)
            else:
                _randlov(s, u, push, turn, c, explicit, n)
            if tracking:
                _roll(s, turn, v, dt, n)
            if goal:
                _look(s, seen, wheelbase, c[20], c[21], 0, n)
            for i in range(n):
                clock[i] += 1
            over = _count_over(s, clock, horizon, max_lean, radius, n)
        # write down those that are over, and close the ranks
        i = 0
        while i < n:
            up = abs(s[LEAN, i]) <= max_lean
            arrived = s[FAR, i] < radius
            if up and clock[i] < horizon and not arrived:
                i += 1
                continue
            r = rider[i]
            steps[r] = clock[i]
            cause[r] = 0 if not up else (2 if arrived else 1)
            if goal:
                final[r], closest[r] = s[FAR, i], s[NEAR, i]
            n -= 1
            for k in range(9):
                s[k, i] = s[k, n]
            for k in range(size):
                w[k, i] = w[k, n]
            for k in range(24):
                d[k, i] = d[k, n]
            for k in range(5):
                seen[k, i] = seen[k, n]
            v[i], key[i], clock[i], rider[i] = v[n], key[n], clock[n], rider[n]
