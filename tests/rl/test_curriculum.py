"""The horizon curriculum: one bit an episode, all of them counted, on any environment and with any method."""

import numpy as np
import pytest

import eitherway as ew
from eitherway.base.errors import CostError
from eitherway.rl import Climb, HorizonCurriculum


class Toy:
    """Lasts 100 - |x - 3| steps; keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, x, horizon, seed):
        self.asked.append((x, horizon, seed))
        return 100 - abs(x - 3) > horizon


def ladder(survives, **settings):
    return HorizonCurriculum(survives, **{"first": 10, "full": 90, "growth": 2.0, **settings})


def test_the_rungs_grow_to_the_full_horizon():
    assert ladder(Toy()).rungs == (10, 20, 40, 80, 90)
    assert ladder(Toy(), leap=30).rungs == (10, 20, 90)
    assert ladder(Toy(), first=90).rungs == (90,)
    assert ladder(Toy(), first=1, growth=1.4, full=5).rungs == (1, 2, 3, 5)


def test_a_candidate_climbs_until_it_fails_and_every_episode_is_counted():
    toy = Toy()
    outcome, rung = ladder(toy).judge(50.0, Climb(0), seed=1)  # lasts 53
    assert [horizon for _, horizon, _ in toy.asked] == [10, 20, 40, 80]
    assert (outcome.cost, rung, outcome.metrics["episodes"]) == (-3, 3, 4)


def test_the_full_horizon_is_asked_for_as_often_as_there_are_proofs():
    toy = Toy()
    curriculum = ladder(toy, proofs=3)
    outcome, _ = curriculum.judge(3.0, Climb(0), seed=1)
    assert [horizon for _, horizon, _ in toy.asked] == [10, 20, 40, 80, 90, 90, 90]
    assert outcome.cost == curriculum.target == -7


def test_no_candidate_meets_a_seed_twice_and_all_of_a_turn_meet_the_same():
    toy = Toy()
    curriculum = ladder(toy, proofs=3)
    for x in (3.0, 4.0):
        curriculum.judge(x, Climb(0), seed=1)
    first, second = ([s for x, _, s in toy.asked if x == which] for which in (3.0, 4.0))
    assert len(set(first)) == len(first)
    assert first == second


def test_a_value_means_the_same_whatever_the_base():
    curriculum = ladder(Toy())
    assert [curriculum.judge(50.0, Climb(base), 1)[0].cost for base in range(4)] == [-3, -3, -3, 0]
    assert not curriculum.moved(Climb(0), Climb(1))


@pytest.mark.parametrize(
    "reports, base",
    [
        ([3, 3, 2, 2], 3),  # half of them are beyond rung 2
        ([3, 2, 2, 2], 2),  # fewer
        ([2, 2, 2, 2], 1),  # nobody
        ([None, None, None, None], 1),  # all of them failed
    ],
)
def test_the_base_follows_the_candidates(reports, base):
    assert ladder(Toy(), share=0.5).absorb(Climb(2), reports) == Climb(base)


def test_the_base_stays_on_the_ladder():
    curriculum = ladder(Toy(), proofs=3)
    assert curriculum.absorb(Climb(4), [7, 7]) == Climb(4)
    assert curriculum.absorb(Climb(0), [0, 0]) == Climb(0)


@pytest.mark.parametrize("method", ["cmaes", "de", "randomsearch"])
def test_any_method_learns_from_bits_alone(method):
    toy = Toy()
    curriculum = ladder(toy, proofs=2)
    space = ew.Real(-200, 200)
    result = ew.minimize(curriculum, space, method, target=curriculum.target, budget=3000, progress=None)
    assert result.value == curriculum.target and abs(result.best - 3) < 10
    assert result.history["episodes"].sum() == len(toy.asked)


def test_learning_with_a_carry_is_the_same_twice():
    def run():
        toy = Toy()
        ew.minimize(ladder(toy), ew.Real(-200, 200), "cmaes", budget=200, seed=4, progress=None)
        return toy.asked

    assert run() == run()


def test_a_kept_run_goes_on_where_it_was(tmp_path):
    space = ew.Real(-2000, 2000)
    whole = ew.minimize(ladder(lasts), space, "cmaes", budget=90, progress=None)
    for budget in (37, 90):
        parts = ew.minimize(ladder(lasts), space, "cmaes", budget=budget, journal=tmp_path / "run.db", progress=None)
    assert np.array_equal(parts.history["value"], whole.history["value"])
    assert np.array_equal(parts.history["episodes"], whole.history["episodes"])


def lasts(x, horizon, seed):
    return 100 - abs(x - 3) > horizon + seed % 7


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"survives": 3}, "expected a function of values, horizon and seed"),
        ({"first": 0}, "got first=0; expected a whole number 1 or more"),
        ({"first": 91}, "got first=91 and full=90; expected 1 <= first <= full, steps"),
        ({"growth": 1.0}, "got growth=1.0; expected a number above 1, such as 1.5"),
        ({"share": 0.0}, "got share=0.0; expected a number above 0 to 1, such as 0.5"),
        ({"proofs": 0}, "got proofs=0; expected a whole number 1 or more, such as 1"),
        ({"proofs": True}, "got proofs=True; expected a whole number 1 or more"),
        ({"first": "10"}, "got first='10'; expected a whole number 1 or more$"),
        ({"leap": 1.5}, "got leap=1.5; expected a whole number 0 or more, or None$"),
        ({"growth": float("nan")}, "got growth=nan; expected a number above 1"),
    ],
)
def test_settings_that_make_no_sense_are_told(settings, message):
    with pytest.raises(CostError, match=message):
        ladder(**{"survives": Toy(), **settings})
