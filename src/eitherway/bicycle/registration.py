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

    for name, task in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="eitherway.bicycle.env:BicycleEnv",
                vector_entry_point="eitherway.bicycle.vector:BicycleVectorEnv",
                kwargs={"task": task},
                # time is up by the environment's own horizon=, which the binary reward must know
                disable_env_checker=False,
            )
