"""Gymnasium environments asked for one bit."""

import pickle

import gymnasium
import numpy as np
import pytest

import eitherway as ew
from eitherway.base.errors import CostError, MissingExtra
from eitherway.rl import HorizonCurriculum, survives

BALANCED = np.array([0.0, 0.0, 1.0, 1.0])


def push(weights, observation):
    return int(weights @ observation > 0)


class Clock(gymnasium.Env):
    """Ends by itself after 5 steps, one way or the other."""

    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, terminates):
        self.terminates = terminates

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += 1
        over = self.t == 5
        return 0, 0.0, over and self.terminates, over and not self.terminates, {}


def test_an_episode_that_terminates_within_the_horizon_has_not_survived():
    ask = survives(lambda: Clock(terminates=True), lambda values, observation: 0)
    assert [ask(None, horizon, 0) for horizon in (4, 5, 6)] == [True, False, False]


def test_the_time_limit_of_the_environment_is_survival():
    ask = survives(lambda: Clock(terminates=False), lambda values, observation: 0)
    assert ask(None, 100, 0)


def test_a_seed_decides_the_episode():
    ask = survives("CartPole-v1", push)
    weak = np.array([0.0, 0.0, 1.0, 0.0])
    answers = [[ask(weak, 40, seed) for seed in range(20)] for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == 2


def test_the_curriculum_balances_a_pole_from_bits_alone():
    curriculum = HorizonCurriculum(survives("CartPole-v1", push), first=15, full=500, proofs=5)
    space = ew.Array(4, start=0, spread=1)
    result = ew.minimize(curriculum, space, "cmaes", target=curriculum.target, budget=500, seed=1, progress=None)
    assert result.value == curriculum.target
    ask = survives("CartPole-v1", push)
    assert all(ask(result.best, 500, seed) for seed in range(10))


def test_it_travels_without_the_environment():
    ask = survives("CartPole-v1", push)
    assert ask(BALANCED, 100, 7)
    assert pickle.loads(pickle.dumps(ask))(BALANCED, 100, 7)


def test_without_gymnasium_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gymnasium", None)
    with pytest.raises(MissingExtra, match="Gymnasium is not installed"):
        survives("CartPole-v1", push)(BALANCED, 10, 0)


@pytest.mark.parametrize("policy", [None, "push", np.zeros(4)])
def test_a_policy_that_is_no_function_is_refused_at_once(policy):
    with pytest.raises(CostError, match="expected a function of values and observation"):
        survives("CartPole-v1", policy)


@pytest.mark.parametrize("environment", [None, 3, Clock(terminates=True)])
def test_an_environment_is_a_name_or_made_by_a_function(environment):
    with pytest.raises(CostError, match="expected an id such as 'CartPole-v1', or a function that makes one"):
        survives(environment, push)
