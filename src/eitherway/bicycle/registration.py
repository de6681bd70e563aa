"""The environments' names in Gymnasium's registry, entered without importing them."""

from __future__ import annotations

import importlib.util

IDS = {
    "eitherway/BicycleBalance-v0": "balance",
    "eitherway/BicycleGoal-v0": "goal",
    "eitherway/WhippleBalance-v0": "whipple",
}


def register() -> None:
    """Enter the three environments; without Gymnasium there is nothing to enter, and using one says what to install."""
    if importlib.util.find_spec("gymnasium") is None:
        return
    import gymnasium

    # no max_episode_steps: time is up by the environment's own horizon=, which its binary reward must know
    for name, task in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="eitherway.bicycle.env:BicycleEnv",
                vector_entry_point="eitherway.bicycle.vector:BicycleVectorEnv",
                kwargs={"task": task},
            )
