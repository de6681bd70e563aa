import io

import numpy as np
import pytest

from eitherway.base.errors import ModelError
from eitherway.bicycle import render, rollout, show
from eitherway.bicycle.tasks import CAUSES

RIDER = np.array([-20.3, -9.1, 7.1, 11.6, -21.6, -5.0, 3.3, -6.1])
SEEKER = np.array([-17.23, -4.27, 9.16, 14.57, -13.85, -2.39, -14.24, 0.88, -11.13, 1.97])


@pytest.fixture(scope="module")
def to_the_goal():
    return rollout(SEEKER, [1], task="goal", record=1, horizon=1200).tracks[0]


def words(figure):
    """All text of a figure: what a reader can read."""
    from matplotlib.text import Text

    return " | ".join(text.get_text() for text in figure.findobj(Text) if text.get_text())


def draws(figure):
    """The figure can be drawn, and is not empty."""
    from PIL import Image

    from eitherway.base.style import png

    pixels = np.asarray(Image.open(io.BytesIO(png(figure, dpi=50))).convert("L"))
    assert (pixels < 128).mean() > 0.002


def test_first_rides_show_both_riders_and_count_them():
    seeds = np.arange(60)
    untrained = rollout(np.random.default_rng(1).normal(size=(60, 8)), seeds, record=1)
    learned = rollout(RIDER, seeds, record=5, horizon=2500)
    figure = show.first_rides(untrained.tracks, learned.tracks, fate="none fell in 25 s")
    assert set(untrained.cause.tolist()) == {CAUSES.index("fall")}
    text = words(figure)
    assert "60 first rides" in text
    assert "The same 60 roads, once learned" in text
    assert "none fell in 25 s" in text
    draws(figure)


def test_the_learning_curve_shows_the_median_run_and_what_others_needed():
    runs = [[1.5, 2.0, 900.0, 1000.0], [1.0, 1000.0], [3.0, 2.0, 2.5, 1000.0]]
    figure = show.learning_curve(runs, random_search=[[1.0, 1.2, 1000.0]])
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    # best so far, ride by ride: 1.5 1 3, 2 1000 3, 900 1000 3, all 1000; a run that ended keeps its best
    np.testing.assert_array_equal(lines["best so far, median of 3"].get_ydata()[:4], [1.5, 3, 900, 1000])
    text = words(figure)
    assert "Sarsa 1998\n1700 rides" in text
    assert "300 rides" in text
    assert "random search, median" in text
    draws(figure)
    assert "Sarsa" not in words(show.learning_curve(runs, references={}))


def test_the_turn_marks_the_counter_steer(to_the_goal):
    figure = show.turn(to_the_goal)
    assert "counter-steer, 1" in words(figure)
    draws(figure)


def test_a_ride_without_counter_steer_is_drawn_without_its_mark(to_the_goal):
    straight = to_the_goal.copy()
    straight[:, 0] = -np.abs(straight[:, 0])
    assert "counter-steer" not in words(show.turn(straight, seconds=3))


def test_a_moving_picture_is_small_and_plays_in_real_time(tmp_path, to_the_goal):
    from PIL import Image

    path = show.save_gif(tmp_path / "ride.gif", to_the_goal, goal=True)
    assert path.stat().st_size < 500_000
    with Image.open(path) as moving:
        assert 60 <= moving.n_frames <= 80
        assert moving.info["duration"] in range(60, 75)
        first = np.asarray(moving.convert("RGB"))
        moving.seek(30)
        assert (np.asarray(moving.convert("RGB")) != first).mean() > 0.01


def test_a_ride_that_falls_ends_its_moving_picture(tmp_path):
    from PIL import Image

    fall = rollout(np.zeros(8), [0], record=1).tracks[0]
    path = show.save_gif(tmp_path / "fall.gif", fall)
    with Image.open(path) as moving:
        assert moving.n_frames == pytest.approx(len(fall) * 0.15, abs=1)
    with pytest.raises(ModelError, match="the ride lasted .* s; begin earlier"):
        show.save_gif(path, fall, start=10.0)


def test_the_palette_fits_a_gif_and_says_each_colour_once():
    from eitherway.bicycle import render

    colours = render.palette()
    assert len(set(colours)) == len(colours) <= 64


def test_nothing_to_show_is_said():
    with pytest.raises(ModelError, match="learning_curve got no runs"):
        show.learning_curve([])
    with pytest.raises(ModelError, match="first_rides got 0 untrained and 0 learned tracks"):
        show.first_rides([], [])


@pytest.mark.parametrize("lean", [0.2094, 0.25, 1.0])
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("displacement", [-1, 0, 1])
def test_a_falling_rider_stays_within_the_picture(lean, side, displacement):
    trail = np.zeros((1, 2))
    upright = render.frame(0.0, 0.0, 0.0, trail)
    fallen = render.frame(side * lean, 0.0, 0.0, trail, displacement=displacement)
    above, edge = render.HEIGHT - 46, 3
    changed = (upright != fallen).any(2)[:above]
    assert changed[:, edge : render.BEHIND - edge].any()
    assert not changed[:, :edge].any()
    assert not changed[:, render.BEHIND - edge :].any()
