"""What is said while a run goes on: early, seldom, in the user's sign, and never at the run's expense."""

import io
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import eitherway as ew
from eitherway.run import progress
from eitherway.run.progress import Line, Live, Plain, duration, watcher
from eitherway.run.stopping import Limits
from eitherway.space.space import as_space


class Heard:
    """An outlet that remembers."""

    def __init__(self):
        self.lines: list[str] = []
        self.notes: list[str] = []

    def show(self, fraction, text):
        assert 0 <= fraction <= 1
        self.lines.append(text)

    def say(self, text):
        self.notes.append(text)

    def close(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when told to."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress, "clock", lambda: now.seconds)
    return now


def watched(clock, seconds_each: float, n: int, every=10.0, workers=1, sign=1.0, **limits):
    """What an outlet hears of a run whose n evaluations take so long each; a tick after every one, and between."""
    search = ew.Search(as_space({"x": (-1.0, 1.0)}), "randomsearch")
    pool: Any = SimpleNamespace(count=workers) if workers > 1 else None
    run: Any = SimpleNamespace(
        search=search, problem=SimpleNamespace(sign=sign), limits=Limits(**limits), pool=pool, judged=0, reason=None
    )
    heard = Heard()
    line = Line(heard, every)  # type: ignore[arg-type]
    line.begin(run)
    while run.judged < n:
        clock.seconds += seconds_each
        for _ in range(workers):
            trials = search.ask()
            search.tell(trials[0], sign * (5.0 - 0.001 * run.judged))
            run.judged += 1
        line.tick(run)
    run.reason = "done"
    line.end(run)
    return heard


def test_the_forecast_comes_with_the_first_answers(clock):
    heard = watched(clock, 20.3, 8, workers=8, budget=10_000)
    assert heard.notes == ["20.3 s each; 10,000 on 8 workers: about 7 h; `budget=` or `seconds=` to change"]


def test_the_forecast_is_said_once(clock):
    assert len(watched(clock, 2.0, 50, budget=1000).notes) == 1


def test_a_limit_in_seconds_is_told_what_fits_into_it(clock):
    heard = watched(clock, 2.0, 40, budget=10_000, seconds=200)
    assert heard.notes == ["2 s each; about 100 of 10,000 in 3.3 min; `seconds=` to change"]


def test_a_short_run_says_nothing(clock):
    heard = watched(clock, 0.001, 900, budget=900)
    assert heard.lines == heard.notes == []


def test_a_run_of_five_seconds_has_no_forecast(clock):
    assert watched(clock, 0.05, 100, budget=100).notes == []


def test_plain_lines_are_ten_seconds_apart_and_the_last_state_stays(clock):
    heard = watched(clock, 0.5, 70, budget=70)
    assert len(heard.lines) == 4
    assert heard.lines[0].startswith("20 of 70, best 4.981, 500 ms each, 25 s left")
    assert heard.lines[-1] == "70 of 70, best 4.931, 500 ms each"


def test_values_keep_the_sign_of_the_user(clock):
    assert "best -4.981" not in watched(clock, 0.5, 20, sign=-1.0, budget=20).lines[0]
    assert "best 5," in watched(clock, 0.5, 20, sign=-1.0, budget=20).lines[0]


def test_the_warm_up_of_the_first_evaluation_does_not_spoil_the_forecast(clock):
    """A first evaluation that compiles for 8 s, then 0.1 s each."""
    search = ew.Search({"x": (-1.0, 1.0)}, "randomsearch")
    run: Any = SimpleNamespace(
        search=search, problem=SimpleNamespace(sign=1.0), limits=Limits(1000), pool=None, judged=0, reason=None
    )
    heard = Heard()
    line = Line(heard, 10.0)  # type: ignore[arg-type]
    line.begin(run)
    for i in range(60):
        clock.seconds += 8.0 if i == 0 else 0.1
        search.tell(search.ask()[0], 1.0)
        run.judged += 1
        line.tick(run)
    assert "left" in heard.lines[-1]
    assert heard.lines[-1].split(", ")[2] == "100 ms each"


def test_the_best_of_an_unfinished_question_counts():
    class Run:
        search = ew.Search({"x": (-1.0, 1.0)}, "randomsearch")

    first, second = Run.search.ask(2)
    Run.search.tell(first, 3.0)
    Run.search.tell(second, failed="no")
    assert progress._best(Run) == (3.0, 1)  # type: ignore[arg-type]


def test_a_violated_constraint_is_not_the_best_so_far():
    class Run:
        search = ew.Search({"x": (-1.0, 1.0)}, "randomsearch")

    first, second = Run.search.ask(2)
    Run.search.tell(first, 3.0)
    Run.search.answers.violations[1] = np.array([1.0])
    Run.search.tell(second, 1.0)
    assert progress._best(Run)[0] == 3.0  # type: ignore[arg-type]


def test_notes_are_said_once_and_to_stderr(capsys):
    line = Line(Plain(), 10.0)
    line.say("something to know")
    line.say("something to know")
    said = capsys.readouterr()
    assert said.err == "note: something to know\n"
    assert said.out == ""


def test_a_run_says_its_notes_however_short_it_is(capsys):
    ew.minimize(lambda x: np.array([x * x]), ew.Real(-1, 1), "randomsearch", budget=4)
    assert "its one element was taken" in capsys.readouterr().err


def test_none_shows_nothing(capsys):
    assert watcher(None) is None
    assert watcher(False) is None
    ew.minimize(lambda x: np.array([x * x]), ew.Real(-1, 1), "randomsearch", budget=4, progress=None)
    assert capsys.readouterr().err == ""


def test_an_unknown_progress_is_refused():
    with pytest.raises(ew.CostError, match="progress='bar' was given; expected 'auto', or None for none"):
        watcher("bar")


def test_a_stream_that_has_gone_away_is_no_reason_to_lose_a_run(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    Plain().say("anything")
    monkeypatch.setattr(sys, "stderr", None)
    Plain().say("anything")


def test_the_live_line_changes_in_place(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    live = Live()
    live.show(0.25, "1 of 4, best [3]")
    live.say("note: [/bold] is no markup here")
    live.show(0.5, "2 of 4, best 2")
    live.close()
    out = terminal.getvalue()
    assert "1 of 4, best [3]" in out
    assert "[/bold] is no markup" in out
    assert "\x1b[2K" in out  # the line is wiped before it is written again
    assert out.rstrip().endswith("\x1b[?25h")  # the cursor is back


@pytest.mark.parametrize(
    "seconds, said",
    [
        (0.0000123, "12 µs"),
        (0.0123, "12 ms"),
        (1.0, "1 s"),
        (20.3, "20 s"),
        (95, "1.6 min"),
        (25200, "7 h"),
        (2e5, "2.3 days"),
    ],
)
def test_durations_read_as_people_say_them(seconds, said):
    assert duration(seconds) == said
