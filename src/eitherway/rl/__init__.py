"""Learning from rewards: what turns an environment into a cost that any method can search.

Here live the horizon curriculum, which makes a reward of nothing but yes or no learnable, and the way from a Gymnasium
environment to it. Nothing here knows a particular environment or method.
"""

from eitherway.rl.curriculum import Climb, HorizonCurriculum, Survives
from eitherway.rl.episode import survives

__all__ = ["Climb", "HorizonCurriculum", "Survives", "survives"]
