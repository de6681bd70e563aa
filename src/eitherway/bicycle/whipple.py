"""The Whipple-Carvallo bicycle, linearised about straight running, with the benchmark parameters of Meijaard et al.
(2007).

    M q'' + v C1 q' + (g K0 + v^2 K2) q = f,    q = (lean, steer) rad,    f = (lean torque, steer torque) N m

Source: Meijaard, Papadopoulos, Ruina & Schwab, "Linearized dynamics equations for the balance and steer of a bicycle:
a benchmark and review", Proc. R. Soc. A 463 (2007) 1955-1982, appendix A. At one speed the system is linear and does
not change in time, so the step is the exact zero-order hold: no integration error. Speeds in m/s; the bicycle is
stable by itself between 4.29 and 6.02 m/s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from eitherway.base.errors import ModelError
from eitherway.bicycle.physics import State
from eitherway.methods.allowed import is_number

Array = np.ndarray


@dataclass(frozen=True)
class Benchmark:
    """The parameters of table 1 (m, kg, kg m^2): R rear wheel, B body and frame, H handlebar and fork, F front wheel; x
    forward, z down.
    """

    wheelbase: float = 1.02  # w
    trail: float = 0.08  # c
    steer_tilt: float = math.pi / 10  # lambda
    gravity: float = 9.81
    r_R: float = 0.3
    m_R: float = 2.0
    I_Rxx: float = 0.0603
    I_Ryy: float = 0.12
    x_B: float = 0.3
    z_B: float = -0.9
    m_B: float = 85.0
    I_Bxx: float = 9.2
    I_Bxz: float = 2.4
    I_Bzz: float = 2.8
    x_H: float = 0.9
    z_H: float = -0.7
    m_H: float = 4.0
    I_Hxx: float = 0.05892
    I_Hxz: float = -0.00756
    I_Hzz: float = 0.00708
    r_F: float = 0.35
    m_F: float = 3.0
    I_Fxx: float = 0.1405
    I_Fyy: float = 0.28


BENCHMARK = Benchmark()
RIDER_MASS = 60.0  # kg; moved sideways by d it gives the lean torque m g d


class Matrices(NamedTuple):
    """M, C1, K0 and K2, each (2, 2), rows and columns (lean, steer)."""

    M: Array
    C1: Array
    K0: Array
    K2: Array


def matrices(p: Benchmark = BENCHMARK) -> Matrices:
    """The coefficient matrices of a bicycle. Source: Meijaard et al. 2007, appendix A, letters as there."""
    w, c, s, k = p.wheelbase, p.trail, math.sin(p.steer_tilt), math.cos(p.steer_tilt)
    I_Rzz, I_Fzz = p.I_Rxx, p.I_Fxx  # thin wheels
    m_T = p.m_R + p.m_B + p.m_H + p.m_F
    x_T = (p.x_B * p.m_B + p.x_H * p.m_H + w * p.m_F) / m_T
    z_T = (-p.r_R * p.m_R + p.z_B * p.m_B + p.z_H * p.m_H - p.r_F * p.m_F) / m_T
    I_Txx = p.I_Rxx + p.I_Bxx + p.I_Hxx + p.I_Fxx
    I_Txx += p.m_R * p.r_R**2 + p.m_B * p.z_B**2 + p.m_H * p.z_H**2 + p.m_F * p.r_F**2
    I_Txz = p.I_Bxz + p.I_Hxz - p.m_B * p.x_B * p.z_B - p.m_H * p.x_H * p.z_H + p.m_F * w * p.r_F
    I_Tzz = I_Rzz + p.I_Bzz + p.I_Hzz + I_Fzz + p.m_B * p.x_B**2 + p.m_H * p.x_H**2 + p.m_F * w**2
    # the front assembly A: handlebar and front wheel
    m_A = p.m_H + p.m_F
    x_A = (p.x_H * p.m_H + w * p.m_F) / m_A
    z_A = (p.z_H * p.m_H - p.r_F * p.m_F) / m_A
    I_Axx = p.I_Hxx + p.I_Fxx + p.m_H * (p.z_H - z_A) ** 2 + p.m_F * (p.r_F + z_A) ** 2
    I_Axz = p.I_Hxz - p.m_H * (p.x_H - x_A) * (p.z_H - z_A) + p.m_F * (w - x_A) * (p.r_F + z_A)
    I_Azz = p.I_Hzz + I_Fzz + p.m_H * (p.x_H - x_A) ** 2 + p.m_F * (w - x_A) ** 2
    u_A = (x_A - w - c) * k - z_A * s
    I_All = m_A * u_A**2 + I_Axx * s**2 + 2 * I_Axz * s * k + I_Azz * k**2
    I_Alx = -m_A * u_A * z_A + I_Axx * s + I_Axz * k
    I_Alz = m_A * u_A * x_A + I_Axz * s + I_Azz * k
    mu = c / w * k
    S_R, S_F = p.I_Ryy / p.r_R, p.I_Fyy / p.r_F
    S_T = S_R + S_F
    S_A = m_A * u_A + mu * m_T * x_T
    M_ls = I_Alx + mu * I_Txz
    return Matrices(
        M=np.array([[I_Txx, M_ls], [M_ls, I_All + 2 * mu * I_Alz + mu**2 * I_Tzz]]),
        C1=np.array(
            [
                [0.0, mu * S_T + S_F * k + I_Txz * k / w - mu * m_T * z_T],
                [-(mu * S_T + S_F * k), I_Alz * k / w + mu * (S_A + I_Tzz * k / w)],
            ]
        ),
        K0=np.array([[m_T * z_T, -S_A], [-S_A, -S_A * s]]),
        K2=np.array([[0.0, (S_T - m_T * z_T) * k / w], [0.0, (S_A + S_F * s) * k / w]]),
    )


def linear_system(speed: Any, p: Benchmark = BENCHMARK) -> tuple[Array, Array]:
    """A(v) (..., 4, 4) and B (4, 2) of z' = A z + B f with z = (lean, steer, lean rate, steer rate), for speeds (...)
    in m/s.
    """
    v = np.asarray(speed, dtype=np.float64)[..., None, None]
    m = matrices(p)
    inverse = np.linalg.inv(m.M)
    A = np.zeros((*v.shape[:-2], 4, 4))
    A[..., :2, 2:] = np.eye(2)
    A[..., 2:, :2] = -inverse @ (p.gravity * m.K0 + v * v * m.K2)
    A[..., 2:, 2:] = -v * (inverse @ m.C1)
    B = np.zeros((4, 2))
    B[2:] = inverse
    return A, B


def eigenvalues(speed: float, p: Benchmark = BENCHMARK) -> Array:
    """The four eigenvalues at one speed (1/s), by falling real part.

    >>> bool(eigenvalues(5.0).real.max() < 0 < eigenvalues(4.0).real.max())
    True
    """
    found = np.asarray(np.linalg.eigvals(linear_system(speed, p)[0]), dtype=np.complex128)
    return found[np.lexsort((-found.imag, -found.real))]


def matrix_exponential(matrices: Array) -> Array:
    """exp of (..., n, n) matrices, by scaling and squaring of the Taylor series (all of them scaled by the largest)."""
    norm = float(np.abs(matrices).sum(-2).max(initial=0.0))
    halvings = max(0, math.ceil(math.log2(norm / 0.25))) if norm > 0.25 else 0
    scaled = matrices / 2.0**halvings
    total = np.broadcast_to(np.eye(matrices.shape[-1]), matrices.shape).copy()
    term = total
    for order in range(1, 15):  # 0.25^15 / 15! = 7e-22
        term = term @ scaled / order
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total


def discretise(speed: Any, time_step: float = 0.01, p: Benchmark = BENCHMARK) -> Array:
    """The exact step z_next = D[:, :4] z + D[:, 4:] f under forces held for `time_step` seconds: D (..., 4, 6) for
    speeds (...).
    """
    different, place = np.unique(np.asarray(speed, dtype=np.float64), return_inverse=True)
    whole = np.zeros((6, 6))
    exact = np.empty((len(different), 4, 6))
    for k, v in enumerate(different):  # one by one: a speed's matrix must not depend on the others' norms
        A, B = linear_system(v, p)
        whole[:4, :4], whole[:4, 4:] = A * time_step, B * time_step
        exact[k] = matrix_exponential(whole)[:4]
    return exact[place]


def speeds(uniform: Array, speed: float | tuple[float, float]) -> Array:
    """(P,) speeds of the rides (m/s) from their (P,) numbers in [-1, 1): one speed for all, or evenly spread over a
    range.

    Raises:
        ModelError: if a speed is not above 0, or the range is upside down.
    """
    low, high = ends = speed if isinstance(speed, tuple | list) and len(speed) == 2 else (speed, speed)
    if not (all(map(is_number, ends)) and 0 < low <= high):
        raise ModelError(f"speed={speed!r}: expected metres per second above 0, or (slowest, fastest)")
    return low + (high - low) * (0.5 * (uniform + 1.0))


def step(
    state: State,
    torque: Any,
    displacement: Any,
    *,
    speed: Any,
    discrete: Any,
    xp: Any = np,
    time_step: float = 0.01,
    p: Benchmark = BENCHMARK,
) -> State:
    """The bicycles one time step later.

    Args:
        state: P bicycles, positive to the left (the model is symmetric, so the paper's right serves as well).
        torque: (P,) on the handlebar, N m.
        displacement: (P,) of the rider's 60 kg sideways, noise included, m.
        speed: (P,) m/s.
        discrete: D[i][j], entries of `discretise(speed)`, each a float or (P,): see `entries`.
        xp: the namespace of the arrays, `numpy` or `torch`.
    """
    before = (state.lean, state.steer, state.lean_rate, state.steer_rate)
    inputs = (*before, RIDER_MASS * p.gravity * displacement, torque)
    lean, steer, lean_rate, steer_rate = (_dot(row, inputs) for row in discrete)
    turn = (speed * state.steer + p.trail * state.steer_rate) * (math.cos(p.steer_tilt) / p.wheelbase)
    heading = state.heading + time_step * turn
    x = state.x - speed * time_step * xp.sin(state.heading)
    y = state.y + speed * time_step * xp.cos(state.heading)
    return State(steer, steer_rate, lean, lean_rate, heading, x, y)


def entries(discrete: Array, *, xp: Any = np) -> list[list[Any]]:
    """`discretise`'s (P, 4, 6) as a list of lists of contiguous (P,) arrays of `xp`, as `step` wants it."""
    return [[xp.asarray(discrete[..., i, j].copy()) for j in range(6)] for i in range(4)]


def _dot(row: Any, inputs: Any) -> Any:
    """Sum of products in a fixed order: the bits must not depend on how many bicycles ride."""
    total = row[0] * inputs[0]
    for a, b in zip(row[1:], inputs[1:]):
        total = total + a * b
    return total
