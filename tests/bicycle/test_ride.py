"""Learning to ride: what is told, what is counted, what is kept."""

import numpy as np
import pytest

from eitherway.base.errors import MethodError, ModelError
from eitherway.bicycle import load_policy
from eitherway.bicycle.learning import PROOFS, TRAINING, Binary, Rider, Survival
from eitherway.bicycle.ride import ANGLE, SETTINGS, _spreads, learn
from eitherway.rl import Climb

IDLE = np.zeros(8)


@pytest.fixture(scope="module")
def learned():
    return learn(seed=0)


def test_it_learns_from_how_long_it_stayed_up(learned):
    assert learned.solved
    assert learned.result.reason == "the target -1.001e+06 is met"
    assert sum(ride.steps == 100_000 for ride in learned.episodes) >= PROOFS
    assert learned.falls + sum(ride.cause == "time" for ride in learned.episodes) == learned.rides


def test_every_ride_is_counted(learned):
    history = learned.result.history
    assert history["episodes"].sum() == learned.rides
    assert history["steps"].sum() == learned.steps == sum(ride.steps for ride in learned.episodes)
    assert np.isclose(learned.seconds.sum(), 0.01 * learned.steps)


def test_whole_rides_begin_only_after_a_training_ride_was_held(learned):
    for before, ride in zip(learned.episodes, learned.episodes[1:]):
        if ride.horizon > TRAINING:
            assert before.candidate == ride.candidate and before.steps == before.horizon
        else:
            assert before.candidate + 1 == ride.candidate


def test_the_same_seed_learns_the_same_and_another_something_else(learned):
    again, other = learn(seed=0), learn(seed=1)
    assert again.episodes == learned.episodes
    assert np.array_equal(again.weights, learned.weights)
    assert other.episodes != learned.episodes


def test_whoever_listens_hears_every_ride_in_order(learned):
    heard = []
    assert learn(seed=0, heard=heard.append).episodes == tuple(heard)


def test_the_learned_weights_are_kept_with_what_they_cost(learned, tmp_path):
    learned.save(tmp_path / "policy.safetensors")
    policy, weights, about = load_policy(tmp_path / "policy.safetensors")
    assert policy == learned.rider.rule
    assert np.array_equal(weights, learned.weights)
    assert (about["task"], about["rides"], about["falls"], about["solved"]) == (
        "balance",
        learned.rides,
        learned.falls,
        True,
    )


def test_unseen_roads_are_whole_rides(learned):
    rides = learned.unseen(3)
    assert rides.steps.shape == (3,) and rides.steps.max() == 100_000


@pytest.mark.parametrize("task", ["balance", "whipple"])
def test_yes_or_no_is_enough(task):
    learned = learn(task, reward="binary", seed=2)
    assert learned.solved
    assert learned.result.history["episodes"].sum() == learned.rides


@pytest.mark.parametrize("method", ["randomsearch", "de", "pso"])
def test_any_method_may_search(method):
    learned = learn("whipple", method=method, rides=400)
    assert learned.solved and learned.rides < 400 + 2 * PROOFS


def test_the_goal_is_found_from_events_alone():
    learned = learn("goal", seed=0)
    assert learned.solved
    assert [ride.cause for ride in learned.episodes[-PROOFS:]] == ["goal"] * PROOFS


def test_the_goals_value_orders_events_and_nothing_else():
    cost = Survival(Rider("goal", horizon=40_000))
    assert cost._worth(39_999, 0) < cost._worth(40_000, 1) < cost._worth(20_000, 2)
    assert cost.target == -11 * 2 * 40_000


def test_an_idle_rider_survives_no_rung_for_long():
    cost = Binary(Rider())
    outcome, rung = cost.judge(IDLE, cost.start(), 3)
    assert outcome.metrics["episodes"] == rung + 1 <= 4
    assert cost.curriculum.rungs == (100, 150, 225, 337, 506, 100_000)
    assert cost.absorb(Climb(1), [1, 1]) == Climb(0)


def test_a_search_that_may_not_go_on_says_so():
    learned = learn(policy="mlp", reward="binary", rides=2)
    assert not learned.solved and learned.rides >= 2
    assert learned.weights is not None


@pytest.mark.parametrize("policy, count", [("linear", 2), ("mlp", 8)])
def test_only_the_weights_on_the_angle_to_the_goal_begin_smaller(policy, count):
    spreads = _spreads(Rider("goal", policy), 5)
    smaller = np.flatnonzero(spreads < 5.0)
    assert len(smaller) == count and np.allclose(spreads[smaller], ANGLE * 5.0)
    weights = np.zeros((1, len(spreads)))
    weights[:, smaller] = 1.0
    if policy == "mlp":
        weights[:, 48:64] = 1.0  # what the hidden units do
    rule = Rider("goal", policy).rule
    blind, seeing = (rule.act(weights, np.array([[1.0, 1.0, 1.0, 1.0, angle]])) for angle in (0.0, 1.0))
    assert not blind.any() and seeing.all()
    assert (_spreads(Rider("balance", policy), 5.0) == 5.0).all()


def test_every_task_policy_and_reward_has_a_setting():
    assert len(SETTINGS) == 3 * 2 * 2


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"task": "balence"}, ModelError, "task='balence'"),
        ({"policy": "rbf"}, ModelError, "policy='rbf'"),
        ({"reward": "shaped"}, ModelError, "reward='shaped'"),
        ({"method": "cmaas"}, MethodError, "there is no method 'cmaas'. Did you mean cmaes?"),
        ({"rides": 0}, ModelError, "rides=0: expected how many rides to spend at most, 1 or more"),
        ({"noise": -1.0}, ModelError, "noise=-1.0: expected metres, 0 or more"),
    ],
)
def test_what_cannot_be_ridden_is_told(arguments, error, message):
    with pytest.raises(error, match=message):
        learn(**arguments)


def test_nothing_learned_is_not_kept(tmp_path, learned):
    from dataclasses import replace

    with pytest.raises(ModelError, match="no candidate has finished a ride yet"):
        replace(learned, weights=None).save(tmp_path / "policy.safetensors")
