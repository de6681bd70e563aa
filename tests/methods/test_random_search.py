"""What is true of random search alone: the sequence is even, goes on where it stopped, and rows change no point."""

import numpy as np
import pytest

from eitherway.base.keys import Key
from eitherway.methods.protocol import Told
from eitherway.methods.variables import _quasi
from eitherway.methods.variables.random_search import RandomSearch
from eitherway.space.space import Space, as_space
from eitherway.space.variables import Array, Choice, Integer, Real


def _points(method: RandomSearch, space: Space, turns: int, seed: int = 0) -> np.ndarray:
    key, points = Key(seed), []
    state = method.init(space, key)
    for turn in range(turns):
        question = method.ask(state, space, key.at(turn))
        points.append(question.points.copy())
        P = len(question.points)
        state = method.tell(state, space, question, Told(np.zeros(P), np.zeros(P, int)), key.at(turn))
    return np.concatenate(points)


def test_every_block_of_a_power_of_two_has_one_point_in_each_slice_of_every_column():
    sequence = _quasi.quasi(20, np.random.default_rng(1))
    for first, n in ((0, 8), (8, 8), (64, 64), (0, 256)):
        points = _quasi.fill(sequence, first, n, 20, np.random.default_rng(0))
        slices = np.sort((points * n).astype(int), axis=0)
        assert (slices == np.arange(n)[:, None]).all()


def test_the_first_two_columns_form_a_net_in_every_elementary_interval():
    points = _quasi.fill(_quasi.quasi(2, np.random.default_rng(3)), 0, 64, 2, np.random.default_rng(0))
    for k in range(7):  # 2^k by 2^(6-k) boxes, one point in each (a (0, 6, 2)-net)
        boxes = (points * [2**k, 2 ** (6 - k)]).astype(int)
        assert len({tuple(box) for box in boxes.tolist()}) == 64


def test_the_polynomials_are_primitive_and_as_many_as_the_theory_says():
    # phi(2^d - 1) / d of degree d: 1, 1, 2, 2, 6, 6, 18, 16
    degrees = [p.bit_length() - 1 for p in _quasi._primitive(52)]
    assert [degrees.count(d) for d in range(1, 9)] == [1, 1, 2, 2, 6, 6, 18, 16]


def test_two_seeds_give_two_sequences_and_the_points_are_uniform_over_them():
    space = as_space([(-1, 1)] * 3)
    first = np.array([_points(RandomSearch(rows=1), space, 1, seed)[0] for seed in range(400)])
    assert abs(first.mean(0) - 0.5).max() < 0.06  # four standard errors
    assert abs(first.var(0) - 1 / 12).max() < 0.02


@pytest.mark.parametrize("points", ["quasi", "uniform"])
def test_an_unbounded_column_is_drawn_about_its_start(points):
    space = Space(a=Real(start=3.0, spread=2.0), b=Real(0, 1))
    drawn = _points(RandomSearch(points=points), space, 64)
    assert abs(drawn[:, 0].mean()) < 0.2
    assert abs(drawn[:, 0].std() - 1) < 0.15
    assert (drawn[:, 1] >= 0).all()
    assert (drawn[:, 1] <= 1).all()


def test_rows_a_question_change_no_quasi_random_point():
    space = as_space([(-1, 1)] * 4)
    space = space.with_starts([np.full(4, 0.25), np.full(4, 0.5), np.full(4, 0.75)])
    few, many = _points(RandomSearch(rows=2), space, 12), _points(RandomSearch(rows=6), space, 4)
    assert (few == many).all()
    assert (few[:3] == space.starts).all()


def test_every_option_is_asked_for_equally_often():
    space = Space(a=Choice(["x", "y", "z", "w"]), n=Integer(1, 8))
    cells = space.cells(_points(RandomSearch(), space, 8))
    assert (np.bincount(cells[:, 0]) == 16).all()
    assert (np.bincount(cells[:, 1]) == 8).all()


def test_columns_beyond_the_sequence_are_uniform():
    space = as_space(Array((_quasi.COLUMNS + 40,), -1, 1))
    drawn = _points(RandomSearch(), space, 32)
    assert drawn.shape == (256, _quasi.COLUMNS + 40)
    assert abs(drawn[:, -40:].mean() - 0.5) < 0.02
