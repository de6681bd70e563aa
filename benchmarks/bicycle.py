"""Learning to ride the bicycle: rides and simulated steps until it is learned, random search beside us; robustness of
the committed policy; the model's eigenvalues beside the published ones.

python -m benchmarks.bicycle --tune      how SETTINGS was chosen, on other seeds than those reported
python -m benchmarks.bicycle --publish   the tables
"""

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from eitherway.bicycle import ride as riding
from eitherway.bicycle.ride import SETTINGS, Setting, learn

DEVELOPMENT = 1000
"""The first seed of those that settings were chosen on; reported are seeds from 0."""
GIVE_UP = 5000
"""Rides after which a run counts as not solved."""


@dataclass(frozen=True)
class Job:
    """One run of `learn`; a setting other than that of SETTINGS, if given."""

    task: str
    policy: str
    reward: str
    method: str | None
    seed: int
    setting: Setting | None = None
    rides: int = GIVE_UP


def run(job: Job) -> dict[str, Any]:
    """One run: what it took, what was learned."""
    before, kept = time.process_time(), dict(SETTINGS)
    if job.setting is not None:
        SETTINGS[job.task, job.policy, job.reward] = job.setting  # type: ignore[index]
    try:
        learned = learn(job.task, job.policy, job.reward, job.method, seed=job.seed, rides=job.rides)  # type: ignore[arg-type]
    finally:
        SETTINGS.update(kept)
    proofs = learned.episodes[-riding.PROOFS :]
    full = learned.rider.setting.steps
    return {
        "seed": job.seed,
        "solved": learned.solved,
        "rides": learned.rides,
        "falls": learned.falls,
        "steps": learned.steps,
        "training": sum(e.steps for e in learned.episodes if e.horizon < full or job.task == "goal"),
        "path": float(np.mean([e.steps for e in proofs])) * 0.01 * 10 / 3.6,
        "weights": None if learned.weights is None else learned.weights.tolist(),
        "seconds": time.process_time() - before,
    }
