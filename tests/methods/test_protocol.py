"""How answers are ordered."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eitherway.methods.protocol import FAILED, Told, better

values = hnp.arrays(float, st.integers(1, 12), elements=st.sampled_from([0.0, 1.0, 2.0, np.inf, -3.0]))


@given(values, st.data())
def test_ranks_are_a_permutation_with_ties_averaged_and_failures_last(values, data):
    status = np.array(
        data.draw(st.lists(st.sampled_from([0, 0, FAILED, 2]), min_size=len(values), max_size=len(values)))
    )
    told = Told(np.where(status, np.nan, values), status)
    ranks = told.ranks()
    assert ranks.sum() == len(values) * (len(values) - 1) / 2
    for i in range(len(values)):
        for j in range(len(values)):
            first, second = (np.inf if status[k] else 0.0 for k in (i, j)), None
            a, b = ((bool(status[k]), 0.0 if status[k] else values[k]) for k in (i, j))
            assert (ranks[i] < ranks[j]) == (a < b) and (ranks[i] == ranks[j]) == (a == b), (first, second)


def test_infeasible_rows_follow_feasible_ones_by_violation():
    told = Told(
        np.array([5.0, 1.0, 0.0, np.nan]), np.array([0, 0, 0, 1]), violations=np.array([[0.0], [2.0], [1.0], [0.0]])
    )
    assert told.ranks().tolist() == [0, 2, 1, 3]


@given(values)
def test_standings_order_as_ranks_do(values):
    told = Told(values, np.zeros(len(values), int))
    standings, ranks = told.standings(), told.ranks()
    for i in range(len(values)):
        assert (better(standings[[i] * len(values)], standings) == (ranks[i] < ranks)).all()


def test_a_failure_is_better_than_nothing_and_the_costs_own_inf_beats_it():
    standings = Told(np.array([np.inf, np.nan]), np.array([0, 1])).standings()
    assert better(standings[:1], standings[1:]).all() and not better(standings[1:], standings[:1]).any()
    assert not better(standings[1:], standings[1:]).any()
