"""Picking a rider by a race, and the policies that come with the package."""

import numpy as np
import pytest

from eitherway.base.errors import ModelError
from eitherway.bicycle.learning import Rider
from eitherway.bicycle.race import TRAINED, conditions, race, train, trained

TASKS = ("balance", "goal", "whipple")


def test_the_race_finds_the_one_that_rides_among_those_that_fall():
    rider = Rider()
    runners = np.zeros((5, 8))
    runners[3] = trained("balance")[0]
    heats = []
    assert race([rider], runners, roads=2, heard=heats.append) == 3
    assert [(heat.runners, heat.roads) for heat in heats] == [(5, 2), (2, 4)]
    assert heats[-1].held == heats[-1].of == 4


def test_of_those_who_never_fall_the_straightest_wins():
    rider = Rider(horizon=2000)
    straight, bent = trained("balance")[0], np.array(trained("balance")[0])
    bent[5] = 0.0  # the body does not mind how fast the handlebar turns
    runners = [bent, straight]
    far = [np.hypot(*rider.ride(w, [0], record=1000).tracks[0][-1, 5:7]) for w in runners]
    assert (rider.ride(np.stack(runners), [0]).cause == rider.held).all()
    assert race([rider], np.stack(runners)) == int(np.argmax(far)) == 1


def test_a_lone_runner_wins():
    assert race([Rider()], np.zeros((1, 8)), roads=1) == 0


def test_conditions_are_rougher_and_have_the_other_sign():
    assert [(one.noise, one.gyro) for one in conditions(Rider())] == [
        (0.04, "published"),
        (0.06, "published"),
        (0.04, "skew"),
    ]
    assert len(conditions(Rider("whipple"))) == 2


def test_training_is_the_same_twice():
    first, second = (train("whipple", runners=2, roads=1, seed=5) for _ in range(2))
    assert np.array_equal(first[0], second[0]) and first[1] == second[1]


@pytest.mark.parametrize("task", TASKS)
def test_the_rider_of_the_package_rides_unseen_roads(task):
    weights, facts = trained(task)
    for rider in (Rider(task), *conditions(Rider(task))):
        rides = rider.ride(weights, np.arange(5_000_000, 5_000_003))
        assert (rides.cause == rider.held).all()
    assert facts["task"] == task


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_rider_of_the_package_never_falls(task):
    weights, _ = trained(task)
    rider = Rider(task)
    assert (rider.ride(weights, np.arange(1000)).cause == rider.held).all()
    for one in conditions(rider):
        assert (one.ride(weights, np.arange(100)).cause == one.held).all()


def test_the_trained_policies_are_small():
    assert sum(path.stat().st_size for path in TRAINED.iterdir()) < 100_000


def test_a_task_without_a_policy_is_told():
    with pytest.raises(ModelError, match="no policy for task='moon' comes with the package; there are: balance, goal"):
        trained("moon")
