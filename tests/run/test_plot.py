"""The picture of a run: what is drawn, and what must not be squashed or left out."""

import numpy as np
import pytest
from matplotlib import pyplot

import eitherway as ew
from eitherway.base.style import INK, figure, png, style, svg
from eitherway.run.plot import draw_history, scale_values, thinned


@pytest.fixture
def axes():
    with style():
        return figure().add_subplot()


def columns(values, failed=()):
    values = np.array(values, float)
    status = np.zeros(len(values), int)
    status[list(failed)] = 1
    values[list(failed)] = np.nan
    return values, status, np.minimum.accumulate(np.where(status == 0, values, np.inf))


def test_a_result_draws_itself_with_every_value_and_the_best():
    result = ew.minimize(lambda x: x * x, ew.Real(-5, 5), "randomsearch", budget=30, progress=None)
    axes = result.plot()
    every, best = axes.lines[:2]
    assert len(every.get_xdata()) == 30
    assert best.get_ydata()[-1] == result.value
    assert axes.get_xlabel() == "evaluations"
    pyplot.close(axes.figure)


def test_it_draws_where_it_is_asked_to(axes):
    result = ew.minimize(lambda x: x * x, ew.Real(-5, 5), "randomsearch", budget=8, progress=None)
    assert result.plot(axes) is axes
    with pytest.raises(ew.EitherwayError, match=r'picture is kept by .plot\(\).figure.savefig\("run.png"\)'):
        result.plot("run.png")


def test_positive_values_over_decades_get_a_log_axis(axes):
    draw_history(axes, *columns([100.0, 1.0, 0.01]))
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize("values", [[5.0, 4.0, 3.0], [100.0, 1.0, -0.01]])
def test_other_values_keep_a_linear_axis(axes, values):
    draw_history(axes, *columns(values))
    assert axes.get_yscale() == "linear"


def test_one_huge_value_does_not_squash_the_rest_and_the_best_stays_in_view(axes):
    values = np.r_[np.linspace(-3, -1, 99), 1e9]
    scale_values(axes, values, -3.0)
    low, high = axes.get_ylim()
    assert high < 100
    assert low < -3.0


def test_the_best_stays_in_view_when_it_is_far_from_everything(axes):
    values = np.r_[np.random.default_rng(0).normal(0, 1, 500), 1e6]
    draw_history(axes, values, np.zeros(501, int), np.maximum.accumulate(values))  # a maximum
    assert axes.get_ylim()[1] > 1e6


def test_failures_are_marked(axes):
    draw_history(axes, *columns([3.0, 0.0, 2.0, 0.0], failed=[1, 3]))
    marks = next(line for line in axes.lines if line.get_label() == "no value")
    assert marks.get_xdata().tolist() == [2, 4]


def test_a_run_without_any_value_says_so(axes):
    draw_history(axes, *columns([1.0, 1.0], failed=[0, 1]))
    assert "nothing had a value" in [text.get_text() for text in axes.texts]


def test_thinning_keeps_the_extremes_and_every_late_improvement():
    values = np.random.default_rng(1).random(100_000)
    values[54321], values[12345] = -1.0, 9.0
    rows = thinned(values)
    assert len(rows) < 5000
    assert {54321, 12345, 99_999} - set(rows.tolist()) <= {99_999}
    improved = np.flatnonzero(np.diff(np.minimum.accumulate(values)) < 0) + 1
    assert set(improved.tolist()) <= set(rows.tolist())


def test_a_picture_has_the_same_bytes_every_time_and_the_ink_of_its_page():
    def draw():
        with style():
            made = figure()
            made.add_subplot().plot([1, 2], [3, 4])
        return svg(made, 'best & "worst"'), png(made)

    assert draw() == draw()
    text, picture = draw()
    assert picture.startswith(b"\x89PNG")
    assert INK not in text
    assert "currentColor" in text
    assert 'aria-label="best &amp; &quot;worst&quot;"' in text
