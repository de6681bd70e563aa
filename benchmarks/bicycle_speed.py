"""The bicycle's simulation beside a bare numba kernel of the same equations, in bicycle-steps a second.

python -m benchmarks.bicycle_speed --publish
"""

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

_U = np.uint64
Kernel = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(weights (P, W), seeds (P,), horizon) -> (P,) steps ridden."""


@njit(error_model="numpy")
def _noise(key, step):
    """The n-th number of a ride's stream in [-1, 1), as the package draws it (SplitMix64 over a counter)."""
    z = key + (_U(step) + _U(1)) * _U(0x9E3779B97F4A7C15)
    z = (z ^ (z >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> _U(27))) * _U(0x94D049BB133111EB)
    return np.float64((z ^ (z >> _U(31))) >> _U(11)) * 2.0**-52 - 1.0


@njit(error_model="numpy")
def _bare(weights, keys, horizon, hidden, counter, steps):
    """One ride after the other: Randlov & Alstrom 1998, semi-implicit Euler, balance only, so no track is kept.

    Args:
        weights: (P, W) of a linear policy (hidden = 0) or of a network with that many tanh units.
        keys: (P,) of the noise.
        horizon: steps.
        hidden: units, or 0.
        counter: whether noise comes from the package's counter or from numba's own generator.
        steps: (P,) written.
    """
    v, g, dt, height, wheelbase, centre, radius = 10.0 / 3.6, 9.82, 0.01, 0.94, 1.11, 0.66, 0.34
    mass_cycle, mass_tyre, mass_rider = 15.0, 1.7, 60.0
    mass, rate = mass_cycle + mass_rider, v / radius
    inertia = 13.0 / 3.0 * mass_cycle * height**2 + mass_rider * (height + 0.3) ** 2
    inertia_dc, inertia_dv, inertia_dl = mass_tyre * radius**2, 1.5 * mass_tyre * radius**2, 0.5 * mass_tyre * radius**2
    stop, fall = 80.0 * math.pi / 180.0, math.pi / 15.0
    for p in range(len(keys)):
        w, key = weights[p], keys[p]
        steer = steer_rate = lean = lean_rate = 0.0
        ridden = horizon
        for t in range(horizon):
            a, b, c, d = steer / stop, steer_rate / 2.0, lean / fall, lean_rate / 0.5
            if hidden == 0:
                push = w[0] * a + w[1] * b + w[2] * c + w[3] * d
                shift = w[4] * a + w[5] * b + w[6] * c + w[7] * d
            else:
                out = 5 * hidden
                push, shift = w[out + 2 * hidden], w[out + 2 * hidden + 1]
                for j in range(hidden):
                    k = 5 * j
                    unit = math.tanh(w[k] * a + w[k + 1] * b + w[k + 2] * c + w[k + 3] * d + w[k + 4])
                    push += w[out + j] * unit
                    shift += w[out + hidden + j] * unit
            torque = 2.0 if push > 0.5 else (-2.0 if push < -0.5 else 0.0)
            moved = 0.02 if shift > 0.5 else (-0.02 if shift < -0.5 else 0.0)
            moved += 0.02 * (_noise(key, t) if counter else 2.0 * np.random.random() - 1.0)  # noqa: NPY002 - numba's own
            sine, tangent = math.sin(steer), math.tan(steer)
            phi = lean + math.atan(moved / height)
            bend = mass_tyre * radius * (sine + tangent) / wheelbase
            bend += mass * height * tangent / math.sqrt(tangent**2 * (wheelbase - centre) ** 2 + wheelbase**2)
            side = inertia_dc * rate * steer_rate + v * v * bend
            lean_acc = (mass * height * g * math.sin(phi) - math.cos(phi) * side) / inertia
            steer_acc = (torque - inertia_dv * rate * lean_rate) / inertia_dl
            lean_rate += dt * lean_acc
            lean += dt * lean_rate
            steer_rate += dt * steer_acc
            steer = min(max(steer + dt * steer_rate, -stop), stop)
            if abs(lean) > fall:
                ridden = t + 1
                break
        steps[p] = ridden


def bare(hidden: int, counter: bool) -> Kernel:
    """The bare kernel as a function of weights, seeds and horizon."""
    from eitherway.bicycle import noise

    def ride(weights: np.ndarray, seeds: np.ndarray, horizon: int) -> np.ndarray:
        steps = np.zeros(len(seeds), np.int64)
        _bare(weights, noise.keys(seeds), horizon, hidden, counter, steps)
        return steps

    return ride


def ours(policy: str) -> Kernel:
    """The package's `rollout`, checks and all."""
    from eitherway.bicycle.kernel import rollout

    def ride(weights: np.ndarray, seeds: np.ndarray, horizon: int) -> np.ndarray:
        return rollout(weights, seeds, policy=policy, horizon=horizon).steps

    return ride


def rider() -> np.ndarray:
    """(8,) a linear policy that rides: the first of random ones that stays up for 200 s on each of ten roads."""
    from eitherway.bicycle.kernel import rollout

    rng = np.random.default_rng(0)
    while True:
        weights = 10.0 * rng.standard_normal(8)
        if (rollout(weights[None], np.arange(10), horizon=20_000).steps == 20_000).all():
            return weights


def as_network(weights: np.ndarray, hidden: int = 8) -> np.ndarray:
    """(58,) a network of 8 units that pushes as that linear policy does: half the units stand for each action."""
    inner, outer = np.zeros((hidden, 5)), np.zeros((2, hidden))
    for k in range(2):
        units = slice(k * hidden // 2, (k + 1) * hidden // 2)
        inner[units, :4] = 1e-3 * weights[4 * k : 4 * k + 4]  # 1e-3: where tanh is the identity
        outer[k, units] = 1e3 / (hidden // 2)
    return np.concatenate([inner.ravel(), outer.ravel(), np.zeros(2)])


@dataclass(frozen=True)
class Load:
    """What is ridden: P riders with weights (P, W), each on a road of its own."""

    title: str
    policy: str
    weights: np.ndarray
    horizon: int


def loads() -> list[Load]:
    """Riders who stay up, linear and network, and random ones who fall at different times."""
    good = rider()
    chance = 10.0 * np.random.default_rng(1).standard_normal((8192, 8))
    return [
        Load("512 learned riders for 100 s, linear", "linear", np.tile(good, (512, 1)), 10_000),
        Load("512 learned riders for 100 s, network", "mlp", np.tile(as_network(good), (512, 1)), 10_000),
        Load("8192 random riders until they fall, at most 100 s", "linear", chance, 10_000),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bicycle_speed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--publish", action="store_true", help="write results/bicycle_speed.md and .json")
    options = parser.parse_args()
    stamp = harness.stamp(["numba"], "roads 0, 1, 2, ...; weights from seeds 0 and 1")
    parts, raw = [], {}
    for load in loads():
        hidden = 8 if load.policy == "mlp" else 0
        kernels = {
            "bare kernel, numba's generator": bare(hidden, counter=False),
            "bare kernel, the package's noise": bare(hidden, counter=True),
            "**eitherway** kernel": ours(load.policy),
        }
        roads = np.arange(len(load.weights))
        speeds: dict[str, list[float]] = {name: [] for name in kernels}
        steps = {name: kernel(load.weights[:64], roads[:64], 200) for name, kernel in kernels.items()}  # compiles
        for _ in range(options.repeats):
            for name, kernel in kernels.items():
                before = time.process_time()
                steps[name] = kernel(load.weights, roads, load.horizon)
                speeds[name].append(float(steps[name].sum()) / (time.process_time() - before) / 1e6)
        same = float((steps["**eitherway** kernel"] == steps["bare kernel, the package's noise"]).mean())
        fastest = np.maximum(*(np.array(speeds[name]) for name in kernels if name.startswith("bare")))
        rows = [
            [n, harness.spread(s, 1), f"{harness.quartiles(np.array(s) / fastest)[1]:.2f}"] for n, s in speeds.items()
        ]
        header = ["", "million steps a CPU second", "x the faster bare kernel"]
        parts += [f"**{load.title}**", harness.table(header, rows)]
        parts += [f"{100 * same:.1f} % of the rides are as long as in the bare kernel with the same noise."]
        raw[load.title] = speeds
    text = (
        "Steps of 0.01 s of the Randlov & Alstrom bicycle, observation, policy and noise included, one thread. The "
        "bare kernels are straightforward scalar numba, one ride after another, written in this benchmark; the "
        "package's call includes its checks of the input. Median of the repeats (quartiles), rows taking turns."
    )
    if options.publish:
        harness.publish("bicycle_speed", "Speed of the bicycle", [text, *parts], stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
