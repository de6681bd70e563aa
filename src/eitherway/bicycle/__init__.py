"""The bicycle: two published models, simulated fast, for anyone's learner.

Here live the physics, the policies that ride, Gymnasium's environments and the pictures. Importing this registers the
environments `eitherway/BicycleBalance-v0`, `eitherway/BicycleGoal-v0` and `eitherway/WhippleBalance-v0` if Gymnasium
is installed; numba, torch and matplotlib are imported by what needs them. Nothing here knows how a ride is learned
beyond counting how long it lasted.
"""

from typing import TYPE_CHECKING

from eitherway.base.lazy import lazy
from eitherway.bicycle.kernel import rollout
from eitherway.bicycle.physics import BICYCLE, Bicycle, State
from eitherway.bicycle.policies import MLP, Linear, Policy, load_policy, make_policy, save_policy
from eitherway.bicycle.registration import register
from eitherway.bicycle.tasks import CAUSES, FALL, GOAL_REACHED, TIME, TRACK, Rides, Task
from eitherway.bicycle.whipple import BENCHMARK, Benchmark

if TYPE_CHECKING:
    from eitherway.bicycle.env import BicycleEnv
    from eitherway.bicycle.vector import BicycleVectorEnv

register()

# imported when first named: they need Gymnasium
_WHERE = {"BicycleEnv": "eitherway.bicycle.env", "BicycleVectorEnv": "eitherway.bicycle.vector"}
__getattr__, __dir__ = lazy(__name__, _WHERE)

__all__ = [
    "BENCHMARK",
    "BICYCLE",
    "CAUSES",
    "FALL",
    "GOAL_REACHED",
    "MLP",
    "TIME",
    "TRACK",
    "Benchmark",
    "BicycleEnv",
    "BicycleVectorEnv",
    "Bicycle",
    "Linear",
    "Policy",
    "Rides",
    "State",
    "Task",
    "load_policy",
    "make_policy",
    "register",
    "rollout",
    "save_policy",
]
