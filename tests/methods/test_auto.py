"""Auto: engines that search as they would alone, and a ledger between them."""

from dataclasses import replace

import numpy as np
import pytest

from eitherway.base.errors import MethodError
from eitherway.base.keys import Key
from eitherway.methods.auto.auto import Auto
from eitherway.methods.codec import encode
from eitherway.methods.protocol import FAILED, Stop, Told
from eitherway.methods.variables.cmaes import CMAES
from eitherway.methods.variables.de import DE
from eitherway.methods.variables.random_search import RandomSearch
from eitherway.methods.variables.sqp import SQP
from eitherway.run.search import Search
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice, Integer, Real
from eitherway.testing import drive


def rippled(x):
    return 10 * len(x) + (x**2 - 10 * np.cos(2 * np.pi * x)).sum()


def box(D=4):
    return Space(Array((D,), -5, 5))


def questions(search, cost, name, turns):
    """The points that one engine asks for within Auto."""
    asked = []
    for _ in range(turns):
        search.open()
        s = search.state.method
        if s.names[s.now] == name:
            asked.append(search.question.points.copy())
        drive(search, cost, 1)
    return asked


@pytest.mark.parametrize("name, engine", [("sqp", SQP()), ("cmaes", CMAES())])
def test_each_engine_searches_as_it_would_alone(name, engine):
    within = questions(Search(box(), Auto(), 7), rippled, name, 400)
    alone = Search(box(), engine, Key(7).child(name))
    assert len(within) > 20
    for points in within:
        alone.open()
        np.testing.assert_array_equal(points, alone.question.points)
        drive(alone, rippled, 1)


def test_real_columns_are_for_sqp_and_cmaes_many_of_them_for_de_and_mixed_ones_for_cmaes_and_de():
    names = lambda space: Auto().init(space, Key(0)).names  # noqa: E731
    assert names(box()) == ["sqp", "cmaes"]
    assert names(box(1000)) == ["sqp", "de"]
    mixed = {"a": Real(0, 1), "b": Integer(0, 9), "c": Choice(["x", "y"])}
    assert names(Space(**mixed)) == ["de", "cmaes"]
    assert names(Space(**mixed, d=Array((20,), 0, 1))) == ["cmaes", "de"]


def test_on_smooth_ground_sqp_has_five_starts_before_another_engine_is_asked():
    valley = lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()  # noqa: E731
    search = Search(box(), Auto((SQP("differences"), CMAES())))
    while not search.state.method.accounts[1].spent:
        drive(search, valley, 1)
    s = search.state.method
    assert s.ground == "smooth"
    assert s.states[0].start == 5
    assert search.best_value < 1e-9


@pytest.mark.parametrize(
    "cost",
    [
        lambda x: abs(x).sum() + 3 * np.sin(200 * abs(x)).sum(),
        lambda x: np.floor(abs(x)).sum(),
        lambda x: abs(x).sum() + np.random.default_rng(int(1e6 * x[0]) + 10**8).normal(),
    ],
    ids=["ripples", "plateaus", "noise"],
)
def test_on_rough_ground_the_other_engine_is_asked_first(cost):
    search = Search(
        box(),
        Auto(
            (SQP("differences"), CMAES()),
        ),
        2,
    )
    while not search.state.method.ground:
        drive(search, cost, 1)
    s = search.state.method
    assert s.ground == "rough"
    assert s.accounts[0].spent < 60 * 4
    drive(search, cost, 30)
    assert s.accounts[1].turns >= 30


def test_without_sqp_the_first_engine_has_a_hundred_evaluations_a_column_first():
    search = Search(box(), Auto((DE(), CMAES())))
    while not search.state.method.accounts[1].spent:
        drive(search, rippled, 1)
    assert 400 <= search.state.method.accounts[0].spent < 420


def test_the_engine_ahead_has_three_evaluations_in_four():
    search = drive(Search(box(), Auto((CMAES(), DE())), 1), rippled, 400)
    s = search.state.method
    assert s.accounts[0].spent + s.accounts[1].spent == search.state.told
    ahead = int(np.argmin([a.best[1] for a in s.accounts]))
    assert 0.6 < s.accounts[ahead].spent / search.state.told < 0.9
    assert s.accounts[ahead].best[1] == search.best_value


def test_an_engine_that_stops_hands_its_share_on():
    auto = Auto((SQP(gradients="differences", starts=1), RandomSearch()))
    search = drive(Search(box(), auto), lambda x: (x**2).sum(), 120)
    assert search.stopped is None
    assert search.state.method.accounts[0].spent < 100
    assert search.state.method.accounts[1].turns > 50


def test_it_stops_once_every_engine_has():
    auto = Auto((SQP(gradients="differences", starts=1), CMAES(restarts="never")))
    search = drive(Search(box(), auto), lambda x: (x**2).sum(), 2000)
    assert search.stopped.reason.startswith("SQP has converged from its start; CMAES has converged")
    assert not search.stopped.error


class Broken(RandomSearch):
    def stopped(self, state):
        return Stop("it is broken", error=True)


class Torn(Broken):
    pass


def test_it_is_an_error_only_where_every_engine_ends_in_one():
    both, one = Auto((Broken(), Torn())), Auto((Broken(), RandomSearch()))
    assert both.stopped(both.init(box(), Key(0))) == Stop("it is broken; it is broken", True)
    assert one.stopped(one.init(box(), Key(0))) is None


def test_a_feasible_value_counts_more_than_a_low_one():
    search = Search(box(), Auto((CMAES(), DE())))
    for _ in range(200):
        question = search.open()
        low = search.state.method.now == 1  # what DE finds is low, and not allowed
        P = len(question.points)
        values = question.points.sum(1) - (100 if low else 0)
        search.move(Told(values, np.zeros(P, np.uint8), violations=np.full((P, 1), 1.0 if low else -1.0)))
    s = search.state.method
    assert s.accounts[0].spent > 1.5 * s.accounts[1].spent


def test_once_the_cost_moves_every_account_starts_afresh():
    search = drive(Search(box(), Auto(), 1), rippled, 300)
    search.open()
    P = len(search.question.points)
    search.move(Told(np.full(P, -1e6), np.zeros(P, np.uint8), moved=True))
    s = search.state.method
    assert all(np.isinf(a.best).all() for a in s.accounts)
    assert sum(a.stale for a in s.accounts) == 1
    assert s.ground == "moving"
    drive(search, lambda x: rippled(x) + 1e6, 1500)
    assert not any(a.stale for a in search.state.method.accounts)
    assert min(a.best[1] for a in search.state.method.accounts) > 1e5


def test_failures_are_survived():
    search = Search(box(), Auto())
    for _ in range(100):
        P = len(search.open().points)
        search.move(Told(np.full(P, np.nan), np.full(P, FAILED, np.uint8)))
    assert search.stopped is None
    assert Auto().findings(search.state.method) == "Nothing has had a value yet."


def test_what_it_found_is_told_in_words():
    search = drive(Search(box(), Auto(), 1), rippled, 600)
    text = Auto().findings(search.state.method)
    assert "sqp best " in text
    assert "cmaes best " in text
    assert " is ahead. sqp goes by differences; the ground is " in text


def test_the_advice_is_the_leaders():
    search = drive(Search(box(), Auto((CMAES(), DE()))), rippled, 200)
    s = search.state.method
    s.accounts[0].best[:] = [0.0, -1.0]
    np.testing.assert_array_equal(search.method.recommend(s), CMAES().recommend(s.states[0]))


@pytest.mark.parametrize("engines", [(CMAES(),), (CMAES(), DE(), CMAES(sigma=0.1))])
def test_engines_that_cannot_share_are_refused(engines):
    with pytest.raises(MethodError, match="expected none, or at least two, each of its own class.*method='cmaes'"):
        Auto(engines).init(box(), Key(0))


def test_the_start_given_is_the_first_point_of_all():
    search = Search(box().with_starts([np.full(4, 2.5)]), Auto())
    search.open()
    np.testing.assert_array_equal(search.inputs[0], np.full(4, 2.5))


def test_the_choice_is_in_the_state_so_a_named_engine_does_not_change_it():
    """The same two engines named or chosen: the same run."""
    chosen = drive(Search(box(), Auto(), 3), rippled, 100)
    named = drive(Search(box(), replace(Auto(), engines=(SQP(), CMAES())), 3), rippled, 100)
    assert encode(chosen.state) == encode(named.state)
