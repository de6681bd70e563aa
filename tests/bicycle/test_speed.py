"""How fast it rides, beside the plainest compiled loop over the same equations."""

import math
import time

import numpy as np
import pytest

from eitherway.bicycle import kernel, simulate
from eitherway.bicycle.physics import BICYCLE

pytestmark = pytest.mark.slow
RIDER = np.array([-20.3, -9.1, 7.1, 11.6, -21.6, -5.0, 3.3, -6.1])


def scalar_loop():
    """One bicycle, one step after another, noise of NumPy's generator: what one writes first."""
    from numba import njit

    b = BICYCLE
    mass, spin = b.mass * b.mass_height, b.spin_inertia * b.wheel_rate
    tyre, coupling = b.tyre_mass * b.wheel_radius, b.coupling_inertia * b.wheel_rate
    behind, inertia, steer_inertia = b.wheelbase - b.front_to_mass, b.lean_inertia, b.steer_inertia
    g, h, v, base, stop, fall = b.gravity, b.mass_height, b.speed, b.wheelbase, b.max_steer, b.max_lean

    @njit(error_model="numpy")
    def ride(w, seed, horizon, noise):
        np.random.seed(seed)  # noqa: NPY002  (numba's own generator)
        theta, theta_rate, omega, omega_rate = 0.0, 0.0, 0.0, 0.0
        for step in range(horizon):
            o0, o1, o2, o3 = theta / stop, theta_rate / 2.0, omega / fall, omega_rate / 0.5
            a = w[0] * o0 + w[1] * o1 + w[2] * o2 + w[3] * o3
            c = w[4] * o0 + w[5] * o1 + w[6] * o2 + w[7] * o3
            torque = 2.0 if a > 0.5 else (-2.0 if a < -0.5 else 0.0)
            d = 0.02 if c > 0.5 else (-0.02 if c < -0.5 else 0.0)
            d += noise * (np.random.random() * 2 - 1)  # noqa: NPY002
            phi = omega + math.atan(d / h)
            tangent = math.tan(theta)
            centre = tangent / math.sqrt((tangent * behind) ** 2 + base * base)
            bend = v * v * (tyre * (math.sin(theta) + tangent) / base + mass * centre)
            acceleration = (mass * g * math.sin(phi) - math.cos(phi) * (spin * theta_rate + bend)) / inertia
            theta_rate += 0.01 * (torque - coupling * omega_rate) / steer_inertia
            omega_rate += 0.01 * acceleration
            omega += 0.01 * omega_rate
            theta = min(stop, max(-stop, theta + 0.01 * theta_rate))
            if not abs(omega) <= fall:
                return step + 1
        return horizon

    return ride


def rate(ride, least=0.3):
    """Steps a second of CPU time, the best of three."""
    best = 0.0
    for _ in range(3):
        steps, begun = 0, time.process_time()
        while time.process_time() - begun < least:
            steps += ride()
        best = max(best, steps / (time.process_time() - begun))
    return best


def test_the_ride_is_at_least_as_fast_as_a_scalar_loop():
    loop = scalar_loop()
    assert loop(RIDER, 1, 100_000, 0.02) == 100_000
    kernel.rollout(RIDER, [0], horizon=1)
    seeds = np.arange(256)
    plain = rate(lambda: loop(RIDER, 1, 100_000, 0.02))
    many = rate(lambda: int(kernel.rollout(RIDER, seeds, horizon=5000).steps.sum()))
    eight = rate(lambda: int(kernel.rollout(RIDER, seeds[:8], horizon=50_000).steps.sum()))
    one = rate(lambda: int(kernel.rollout(RIDER, seeds[:1], horizon=100_000).steps.sum()))
    print(
        f"M steps/s: scalar loop {plain / 1e6:.1f}; ours 256 {many / 1e6:.1f}, 8 {eight / 1e6:.1f}, 1 {one / 1e6:.1f}"
    )
    assert many > 2 * plain
    assert eight > plain
    assert one > 0.25 * plain
    assert many > 5e6


def test_the_plain_form_is_fast_in_large_batches():
    weights = np.broadcast_to(RIDER, (4096, 8)).copy()
    plain = rate(lambda: int(simulate.rollout(weights, np.arange(4096), horizon=100).steps.sum()))
    print(f"M steps/s: NumPy, 4096 bicycles {plain / 1e6:.1f}")
    assert plain > 1e6


def test_torch_is_fast_in_large_batches():
    torch = pytest.importorskip("torch")
    weights = torch.as_tensor(np.broadcast_to(RIDER, (4096, 8)).copy())
    seeds = torch.arange(4096)
    plain = rate(lambda: int(simulate.rollout(weights, seeds, horizon=100, xp=torch).steps.sum()))
    print(f"M steps/s: torch, 4096 bicycles {plain / 1e6:.1f}")
    assert plain > 0.5e6
