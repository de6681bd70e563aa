"""What is true of simulated annealing alone: the rule of Metropolis, the schedule of the paper, moves of one column."""

import math

import numpy as np
import pytest

from eitherway.base.keys import Key
from eitherway.methods.protocol import Told
from eitherway.methods.variables.annealing import FIRST, Annealing, _longest
from eitherway.space.space import Space, as_space
from eitherway.space.variables import Choice, Integer, Real

MIXED = Space(
    x=Real(0, 1), n=Integer(1, 9), s=Integer(1, 512, scale="log"), c=Choice(["p", "q", "r"]), one=Choice(["a"])
)


def _told(values, **more) -> Told:
    values = np.asarray(values, float)
    return Told(values, np.isnan(values).astype(int), **more)


def _begun(method, space, seed=0):
    """A state whose first points had the values 0 to 7: it stands at the first, at their deviation."""
    key = Key(seed)
    state = method.init(space, key)
    question = method.ask(state, space, key.at(0))
    return method.tell(state, space, question, _told(np.arange(float(len(question.points)))), key.at(0))


def _step(method, space, state, value, turn, seed=0):
    key = Key(seed).at(turn)
    question = method.ask(state, space, key)
    return method.tell(state, space, question, _told([value] * len(question.points)), key), question


def test_the_first_temperature_is_the_deviation_of_the_first_values():
    state = _begun(Annealing(), MIXED)
    assert state.temperature == pytest.approx(np.arange(8.0).std())
    assert state.standing.tolist() == [[0.0, 0.0]]


def test_uphill_is_accepted_as_often_as_metropolis_says():
    method, space, won = Annealing(), as_space([(-5, 5)] * 3), 0
    begun = _begun(method, space)
    rise = 0.7 * begun.temperature
    for turn in range(1, 3001):
        state = _begun(method, space)
        state, question = _step(method, space, state, rise, turn)
        won += bool((state.point == question.points[-1]).all())
    assert won / 3000 == pytest.approx(math.exp(-0.7), abs=0.03)  # 3.4 deviations


def test_a_move_changes_one_column_and_always_the_call():
    method, state = Annealing(), _begun(Annealing(), MIXED)
    seen = set()
    for turn in range(1, 400):
        before = MIXED.snap(state.point[None])
        state, question = _step(method, MIXED, state, 0.0, turn)
        changed = np.flatnonzero((MIXED.snap(question.points) != before)[0])
        assert len(changed) == 1
        seen.add(int(changed[0]))
    assert seen == {0, 1, 2, 3}  # a choice of one option has nowhere to go


def test_columns_that_take_no_part_are_left_alone():
    space = Space(c=Choice(["p", "q"]), x=Real(0, 1).when(c="q"), y=Real(0, 1))
    method, state = Annealing(), _begun(Annealing(), space)
    for turn in range(1, 200):
        before = state.point.copy()
        state, question = _step(method, space, state, 0.0, turn)
        if space.decode(before[None])[0]["c"] == "p":
            assert question.points[-1][1] == before[1]


def test_the_temperature_falls_by_a_tenth_once_a_column_has_moved_on_average():
    method, space = Annealing(), as_space([(-5, 5)] * 4)
    state = _begun(method, space)
    hot = state.temperature
    for turn in range(1, 9):  # downhill each time
        state, _ = _step(method, space, state, -float(turn), turn)
    assert state.temperature == pytest.approx(0.81 * hot)


def test_frozen_at_three_temperatures_it_begins_anew():
    method, space = Annealing(attempts=2), as_space([(-5, 5)] * 4)
    state = _begun(method, space)
    for turn in range(1, 24):
        state, question = _step(method, space, state, 1e9, turn)
        assert len(question.points) == 1
    state, _ = _step(method, space, state, 1e9, 24)
    assert len(state.begin) == FIRST


def test_steps_grow_by_acceptances_and_shrink_by_refusals_within_their_bounds():
    method, space = Annealing(), as_space([(-5, 5)])
    state = _begun(method, space)
    half = state.steps[0]
    state, _ = _step(method, space, state, 1e9, 1)
    assert state.steps[0] == pytest.approx(half / 1.5)
    for turn in range(2, 12):
        state, _ = _step(method, space, state, -float(turn), turn)
    assert state.steps[0] == _longest(space)[0]


def test_a_cost_that_moves_is_asked_at_the_old_point_again():
    method, space, key = Annealing(), as_space([(-5, 5)] * 2), Key(0)
    state = _begun(method, space)
    question = method.ask(state, space, key.at(1))
    state = method.tell(state, space, question, _told([5e9], moved=True), key.at(1))
    again = method.ask(state, space, key.at(2)).points
    assert again[0].tolist() == state.point.tolist()
    assert len(again) == 2


def test_a_level_cost_is_searched_at_random():
    method, space, key = Annealing(), as_space([(-5, 5)] * 2), Key(0)
    state = method.init(space, key)
    for turn in range(5):
        question = method.ask(state, space, key.at(turn))
        assert len(question.points) == FIRST
        state = method.tell(state, space, question, _told([3.0] * FIRST), key.at(turn))


def test_values_too_large_to_have_a_deviation_are_survived():
    method, space, key = Annealing(), as_space([(-5, 5)] * 2), Key(0)
    state = method.init(space, key)
    question = method.ask(state, space, key.at(0))
    state = method.tell(state, space, question, _told([1e308, -1e308] * (FIRST // 2)), key.at(0))
    assert len(state.begin) == FIRST


def test_no_move_violates_a_constraint_more():
    method, space, key = Annealing(), as_space([(-5, 5)] * 2), Key(0)
    state = _begun(method, space)
    question = method.ask(state, space, key.at(1))
    told = _told([-100.0], violations=np.array([[0.1]]))
    after = method.tell(state, space, question, told, key.at(1))
    assert after.standing.tolist() == [[0.0, 0.0]]
