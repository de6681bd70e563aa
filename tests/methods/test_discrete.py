"""What populations share about columns that are cut into cells."""

import numpy as np

from eitherway.methods.variables._discrete import apart, stepped
from eitherway.space.space import Space
from eitherway.space.variables import Choice, Integer, Real

SPACE = Space(n=Integer(0, 9), m=Integer(1, 64, scale="log"), c=Choice(["a", "b", "c", "d"]), x=Real(0, 1))


def _points(n: int = 200) -> np.ndarray:
    return SPACE.sample(n, np.random.default_rng(0))


def test_a_step_moves_an_integer_by_that_many_cells_and_turns_round_at_the_bounds():
    points = _points()
    before = SPACE.cells(points)
    for step in (-3, -1, 1, 2):
        cells = np.tile([step, 0, 0, 0], (len(points), 1))
        after = SPACE.cells(stepped(SPACE, points, cells, np.random.default_rng(1)))
        wanted = before[:, 0] + step
        wanted = np.where((wanted < 0) | (wanted > 9), before[:, 0] - step, wanted)
        assert (after[:, 0] == wanted).all()
        assert (after[:, 1:] == before[:, 1:]).all()


def test_one_step_on_a_log_scale_leaves_the_cell_and_lands_near():
    points = _points()
    before = SPACE.cells(points)[:, 1]
    for step in (-1, 1):
        cells = np.tile([0, step, 0, 0], (len(points), 1))
        after = SPACE.cells(stepped(SPACE, points, cells, np.random.default_rng(1)))[:, 1]
        inner = (before > 0) & (before < 63)
        assert (np.abs(after - before)[inner] == 1).all()


def test_a_step_of_a_choice_is_to_another_option_each_equally_often():
    points = np.tile(_points(1), (3000, 1))
    before = SPACE.cells(points)[:, 2]
    after = SPACE.cells(stepped(SPACE, points, np.tile([0, 0, 1, 0], (3000, 1)), np.random.default_rng(1)))[:, 2]
    assert (after != before).all()
    counts = np.bincount(after, minlength=4)
    assert (np.abs(np.delete(counts, before[0]) - 1000) < 120).all()  # four standard deviations


def test_a_child_that_would_be_the_same_call_is_sent_to_another_cell():
    points = _points()
    children = apart(SPACE, points.copy(), points, np.random.default_rng(2))
    assert (SPACE.cells(children) != SPACE.cells(points)).any(1).all()
    assert (children == SPACE.clip(children)).all()


def test_children_that_differ_are_left_alone():
    points = _points()
    children = points.copy()
    children[:, 3] = 1 - children[:, 3]
    assert apart(SPACE, children, points, np.random.default_rng(2)) is children


def test_a_space_with_one_value_a_column_has_nowhere_to_go():
    space = Space(n=Integer(3, 3), c=Choice(["only"]))
    points = space.sample(4, np.random.default_rng(0))
    assert apart(space, points, points, np.random.default_rng(1)) is points
