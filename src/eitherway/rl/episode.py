"""A Gymnasium environment asked one question: is it still going on after so many steps?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eitherway.base.errors import CostError, MissingExtra
from eitherway.rl.curriculum import Survives

Act = Callable[[Any, Any], Any]
"""(values, observation) -> action."""


def survives(environment: str | Callable[[], Any], policy: Act) -> Survives:
    """What `HorizonCurriculum` asks, answered by an environment: still going on after `horizon` steps?

    `terminated` within the horizon is a no; `truncated`, the environment's own time limit, is a yes. Rewards are not
    looked at. The environment is made at the first episode, one in each process, and used for all.

    Args:
        environment: the id of a registered environment, or a function that makes one.
        policy: called with the candidate's values and an observation; returns an action of the environment's space.

    Raises:
        CostError: if the policy is no function, or the environment neither a name nor a function.
        MissingExtra: when the first episode begins, if Gymnasium is needed and not installed.

    >>> ask = survives("CartPole-v1", lambda x, observation: int(x @ observation > 0))
    >>> import numpy as np
    >>> ask(np.array([0.0, 0.0, 1.0, 1.0]), 100, 7), ask(np.zeros(4), 100, 7)
    (True, False)
    """
    if not callable(policy):
        raise CostError(f"survives got policy={policy!r:.60}; expected a function of values and observation")
    if not (isinstance(environment, str) or callable(environment)):
        raise CostError(
            f"survives got environment={environment!r:.60}; expected an id such as 'CartPole-v1', or a function that "
            "makes one"
        )
    return _Episodes(environment, policy)


class _Episodes:
    """Keeps the one environment, which is left behind when this is sent to another process."""

    def __init__(self, environment: str | Callable[[], Any], policy: Act):
        self.environment, self.policy = environment, policy
        self._made: Any = None

    def __call__(self, values: Any, horizon: int, seed: int) -> bool:
        if self._made is None:
            self._made = _make(self.environment)
        observation, _ = self._made.reset(seed=seed)
        for _ in range(horizon):
            observation, _, terminated, truncated, _ = self._made.step(self.policy(values, observation))
            if terminated:
                return False
            if truncated:
                return True
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}


def _make(environment: str | Callable[[], Any]) -> Any:
    """An environment from its id or its maker."""
    if not isinstance(environment, str):
        return environment()
    try:
        import gymnasium
    except ImportError as error:
        raise MissingExtra("Gymnasium", "rl") from error
    return gymnasium.make(environment)
