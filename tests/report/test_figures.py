"""What the pictures of a report are drawn from."""

import numpy as np
import pytest

import eitherway as ew
from eitherway.report.figures import aligned, columns_of, safe, telling

SPACE = ew.Space(
    lr=ew.Real(1e-4, 1, scale="log"), act=ew.Choice(["a", "b"]), w=ew.Array((2,), -1, 1), s=ew.Real(0, 1).when(act="b")
)


def test_every_column_is_in_the_users_unit():
    lr, act, first, second, s = columns_of(SPACE, np.array([[0.5, 0.1, 0.0, 1.0, 0.25], [1.0, 0.9, 0.5, 0.5, 0.25]]))
    assert [column.label for column in (lr, act, first, second, s)] == ["lr", "act", "w[0]", "w[1]", "s"]
    assert lr.values == pytest.approx([1e-2, 1.0])
    assert lr.log
    assert act.values.tolist() == [0, 1]
    assert act.options == ["a", "b"]
    assert (first.values[0], second.values[0]) == (-1.0, 1.0)


def test_a_variable_that_takes_no_part_is_not_drawn():
    s = columns_of(SPACE, np.array([[0.5, 0.1, 0.0, 1.0, 0.25], [1.0, 0.9, 0.5, 0.5, 0.25]]))[-1]
    assert np.isnan(s.values[0])
    assert np.isnan(s.unit[0])
    assert s.values[1] == 0.25


def test_what_was_searched_fills_the_axis_even_without_bounds():
    space = ew.Space(x=ew.Real(start=100.0, spread=10.0))
    column = columns_of(space, np.array([[-1.0], [0.0], [3.0]]))[0]
    assert column.unit.tolist() == [0.0, 0.25, 1.0]
    assert column.values.tolist() == [90.0, 100.0, 130.0]


def test_of_many_columns_those_that_tell_most_are_drawn_in_their_order():
    rng = np.random.default_rng(0)
    points = rng.random((500, 20))
    space = ew.Space(**{f"x{i}": ew.Real(0, 1) for i in range(20)})
    values = (points[:, 3] - 0.5) ** 2 + 0.1 * points[:, 17] + 1e-6 * rng.random(500)
    columns = columns_of(space, points)
    assert telling(columns, values, 2) == [columns[3], columns[17]]
    assert telling(columns[:5], values, 5) == columns[:5]


def test_a_run_that_has_stopped_keeps_its_last_value():
    at, best = aligned([np.array([3.0, 2.0]), np.arange(1000.0)[::-1]])
    assert len(at) <= 400
    assert (at[0], at[-1]) == (1, 1000)
    assert best[0, -1] == 2.0
    assert best[1, -1] == 0.0


def test_texts_are_written_literally_and_not_too_long():
    assert safe("$x_1$", 20) == r"\$x_1\$"
    assert safe("a\x00b\n", 20) == "a?b?"
    assert safe("x" * 50, 10) == "x" * 9 + "…"
