"""What the pictures of a report are drawn from."""

import numpy as np
import pytest

import eitherway as ew
from eitherway.report import figures
from eitherway.report.figures import aligned, columns_of, plain_ticks, safe, telling
from eitherway.run.journal import Journal

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


@pytest.mark.parametrize(
    "low, high",
    [(0.02, 0.09), (1.0, 1.5), (1e3, 9.9e3), (20, 90), (1e-9, 1.00002e-9), (0.5, 4.9), (3.0, 29.0), (1e-300, 5e-300)],
)
def test_numbers_along_a_narrow_log_axis_stand_side_by_side(low, high):
    ticks = plain_ticks(low, high, 1.4)
    assert ticks
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(low <= number <= high for number, _ in ticks)
    assert all(float(text) == pytest.approx(number, rel=1e-9) for number, text in ticks)
    places = [1.4 * np.log(number / low) / np.log(high / low) for number, _ in ticks]
    widths = [0.06 * len(text) for _, text in ticks]
    assert all(a + v / 2 < b - w / 2 for a, b, v, w in zip(places, places[1:], widths, widths[1:]))


def test_one_value_on_a_log_axis_is_named():
    assert plain_ticks(0.5, 0.5, 1.4) == [(0.5, "0.5")]


def test_labels_of_slices_do_not_overlap(tmp_path, monkeypatch):
    scales = {"narrow": (0.02, 0.09), "tight": (1, 1.5), "big": (1e3, 9e3), "wide": (1e-12, 1e12)}
    space = ew.Space(**{name: ew.Real(low, high, scale="log") for name, (low, high) in scales.items()})
    path = tmp_path / "run.db"
    ew.minimize(lambda **x: sum(x.values()), space, "randomsearch", budget=40, journal=path, progress=None)
    drawn = []
    monkeypatch.setattr(figures, "svg", lambda made, label: drawn.append(made))
    figures.slices(Journal.read(path))
    drawn[0].canvas.draw()
    for axes in drawn[0].axes[: len(scales)]:
        labels = [label for label in axes.get_xticklabels() + axes.get_xticklabels(minor=True) if label.get_text()]
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
        assert boxes
        assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:]))
