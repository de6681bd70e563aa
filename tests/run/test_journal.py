"""A kept run: the same call goes on with it, a larger budget too, and readers see everything that was paid for."""

import os
import signal
import sqlite3
import threading
import time

import numpy as np
import pytest

import eitherway as ew
from eitherway.base.errors import CostError, JournalError
from eitherway.methods.codec import encode
from eitherway.methods.variables.random_search import RandomSearch
from eitherway.run import journal as journal_module
from eitherway.run.journal import Journal
from eitherway.run.loop import Run
from eitherway.run.problem import Problem
from eitherway.run.stopping import Limits
from tests.run.costs import Curriculum, bowl, noisy, slow_bowl

SPACE = [(-1.0, 1.0)] * 5
NAMED = dict.fromkeys("abcde", (-1.0, 1.0))


def minimize(cost=bowl, path=None, **given):
    given = {"budget": 50, "method": "randomsearch", "progress": None, **given}
    method = given.pop("method")
    return ew.minimize(cost, given.pop("space", SPACE), method, journal=path, **given)


def same(a, b):
    """All that two results say, to the last bit."""
    assert (repr(a.best), repr(a.value), a.reason, a.evaluations, a.failures, a.notes) == (
        repr(b.best),
        repr(b.value),
        b.reason,
        b.evaluations,
        b.failures,
        b.notes,
    )
    for name in a.history:
        np.testing.assert_array_equal(a.history[name], b.history[name])
    assert a.history.why == b.history.why
    assert encode(a.search.state) == encode(b.search.state)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


# ---- going on --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "limits", [{"budget": 48}, {"budget": 50}, {"target": 1.0}, {"budget": 500, "stall": 30}], ids=repr
)
def test_the_same_call_on_a_finished_run_returns_at_once_with_the_same_result(path, limits):
    def cost(x):
        calls.append(1)
        return bowl(x)

    calls = []
    first = minimize(cost, path, **limits)
    before = path.read_bytes(), len(calls)
    same(first, minimize(cost, path, **limits))
    assert (path.read_bytes(), len(calls)) == before


def test_a_run_that_is_kept_is_the_run_that_is_not(path):
    same(minimize(path=path), minimize())


@pytest.mark.parametrize("sign", ["minimize", "maximize"])
def test_a_larger_budget_goes_on_with_the_unfinished_question(path, sign):
    def cost(x):
        calls.append(1)
        return bowl(x)

    calls = []
    verb = getattr(ew, sign)
    for budget in (3, 20, 21, 83):
        short = verb(cost, SPACE, "randomsearch", budget=budget, journal=path, progress=None)
        assert len(calls) == short.evaluations == budget
    whole = verb(cost, SPACE, "randomsearch", budget=83, progress=None)
    same(short, whole)


def test_everything_a_cost_may_say_comes_back(path):
    def cost(a, b, c, d, e):
        if a > 0.6:
            raise ew.Failed(f"a is {a}")
        if a < -0.8:
            return float("nan")
        if b > 0.8:
            return float("inf")
        return ew.Outcome(
            a + b, constraints={"c": c, "d": d - 0.5}, metrics={"e": e, **({"late": 1.0} if b > 0 else {})}
        )

    first, again = (minimize(cost, path, space=NAMED) for _ in range(2))
    same(first, again)
    assert 0 < first.failures < 50
    assert len(first.history.why) == first.failures
    assert np.isinf(first.history["value"]).any()
    assert np.isfinite(first.history["late"]).sum() > 5
    same(first, minimize(cost, None, space=NAMED))


def test_a_target_that_is_met_inside_a_turn_that_moves_the_cost_stays_met(path):
    first, again = (minimize(Curriculum(), path, target=-4) for _ in range(2))
    assert first.reason == again.reason == "the target -4 is met"
    assert first.evaluations == again.evaluations


def test_a_callback_that_stopped_the_run_is_asked_again(path):
    def stops(step):
        return step.turn == 2

    first = minimize(path=path, callbacks=[stops])
    again = minimize(path=path, callbacks=[stops])
    assert first.reason == again.reason == "a callback asked to stop"
    assert again.evaluations == first.evaluations == 24
    assert minimize(path=path).evaluations == 50
    assert minimize(path=path, callbacks=[lambda step: False], budget=60).evaluations == 60


def test_notes_are_kept_and_said_once(path):
    first = minimize(lambda x: 1.0, path, budget=100)
    again = minimize(lambda x: 1.0, path, budget=200)
    assert len(first.notes) == 1
    assert again.notes[0] == first.notes[0]
    assert Journal.read(path).notes == again.notes


def test_workers_may_change_from_call_to_call(path):
    minimize(path=path, budget=20, workers=2)
    same(minimize(path=path, budget=40), minimize(budget=40))


def test_ctrl_c_keeps_every_answer(path):
    calls = []

    def cost(x):
        calls.append(1)
        if len(calls) == 13:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return bowl(x)

    first = minimize(cost, path)
    assert first.interrupted
    assert Journal.read(path).evaluations == first.evaluations == 12
    same(minimize(cost, path), minimize())
    assert len(calls) == 13 + 38


def test_a_run_of_a_learning_cost_goes_on_with_what_it_has_learned(path):
    for budget in (30, 90, 203):
        part = minimize(Curriculum(), path, budget=budget)
    same(part, minimize(Curriculum(), None, budget=203))


# ---- what is written, and when ---------------------------------------------------------------------------------------
def test_an_evaluation_that_took_long_is_in_the_file_before_the_next_begins(path):
    seen = []

    def cost(x):
        if path.exists():
            seen.append(Journal.read(path).evaluations)
        time.sleep(0.06)
        return bowl(x)

    minimize(cost, path, budget=10)
    assert seen == list(range(10))  # across the end of a turn, too


def test_a_finished_run_is_one_file(path):
    minimize(path=path)
    assert os.listdir(path.parent) == [path.name]


def test_the_folder_is_made(tmp_path):
    path = tmp_path / "not" / "yet" / "run.db"
    minimize(path=path)
    assert path.exists()


def test_a_cost_that_never_worked_leaves_no_file(path):
    def broken(x):
        return undefined(x)  # noqa: F821

    with pytest.raises(CostError, match="NameError"):
        minimize(broken, path)
    assert os.listdir(path.parent) == []


def test_a_file_with_values_is_never_removed(path):
    minimize(path=path, budget=9)
    book = Journal(path, Journal.read(path).configuration)
    search = ew.Search(SPACE, "randomsearch")
    book.replay(Run(search, Problem(bowl, search.space), Limits(9)))
    book.discard()
    assert Journal.read(path).evaluations == 9


def test_points_of_large_turns_are_computed_again(path):
    method = RandomSearch(rows=900)
    first, again = (minimize(path=path, method=method, space=[(-1, 1)] * 10, budget=2000) for _ in range(2))
    same(first, again)
    kept = Journal.read(path)
    assert kept.value == first.value
    np.testing.assert_array_equal(kept.best, first.best)  # the best of all is always kept
    assert np.isnan(kept.history.points()).all()


def test_the_overhead_is_far_below_a_millisecond(path):
    spans = {True: [], False: []}
    for i in range(5):
        for kept in (True, False):
            began = time.perf_counter()
            minimize(path=path.with_name(f"{i}.db") if kept else None, budget=2000)
            spans[kept].append((time.perf_counter() - began) / 2000)
    assert min(spans[True]) - min(spans[False]) < 1e-3  # the least disturbed of five


# ---- snapshots -------------------------------------------------------------------------------------------------------
@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(journal_module, "REPLAY", 0.0)
    monkeypatch.setattr(journal_module, "PATIENCE", 0.0)


@pytest.mark.parametrize("beside", [2**20, 0], ids=["inside", "beside"])
def test_two_snapshots_are_kept_and_the_turns_before_are_not_asked_again(path, often, monkeypatch, beside):
    monkeypatch.setattr(journal_module, "BESIDE", beside)
    minimize(path=path, budget=83)
    assert len(os.listdir(path.parent)) == (3 if beside == 0 else 1)
    asked = []
    ask = RandomSearch.ask
    monkeypatch.setattr(RandomSearch, "ask", lambda *a: asked.append(1) or ask(*a))
    again = minimize(path=path, budget=83)
    assert len(asked) == 1
    monkeypatch.undo()
    same(again, minimize(budget=83))


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_snapshot_is_told_and_the_turns_are_computed_again(path, often, damaged):
    minimize(path=path)
    db = sqlite3.connect(path)
    db.execute("UPDATE snapshot SET state = x'00' WHERE turn > ?", (6 - damaged,))
    db.commit()
    db.close()
    again = minimize(path=path, budget=60)
    assert len(again.notes) == damaged
    assert "the snapshot before turn 6 of run.db is damaged or missing" in again.notes[0]
    assert again.evaluations == 60


def test_a_snapshot_whose_file_is_gone_is_told(path, often, monkeypatch):
    monkeypatch.setattr(journal_module, "BESIDE", 0)
    minimize(path=path)
    for beside in path.parent.glob("*.state"):
        beside.unlink()
    assert "damaged or missing" in minimize(path=path, budget=60).notes[0]


# ---- readers ---------------------------------------------------------------------------------------------------------
def test_a_reader_sees_what_the_result_says(path):
    result = minimize(noisy, path, budget=43, target=-100, seed=3)
    kept = Journal.read(path)
    assert (kept.evaluations, kept.failures, kept.reason) == (result.evaluations, result.failures, result.reason)
    assert kept.value == result.value
    np.testing.assert_array_equal(kept.best, result.best)
    assert (kept.calls, kept.turns) == (1, 5)
    assert kept.limits.budget == 43
    assert kept.configuration["seed"]["seed"] == 3
    assert kept.seconds > 0
    for name in result.history:
        np.testing.assert_array_equal(kept.history[name], result.history[name])


def test_a_reader_sees_maximized_scores_and_failures_texts(path):
    def score(a, b, c, d, e):
        if a < 0:
            raise ew.Failed("too low")
        return a

    result = ew.maximize(score, NAMED, "randomsearch", budget=43, journal=path, progress=None)
    kept = Journal.read(path)
    assert kept.value == result.value > 0.5
    assert kept.best == result.best
    assert kept.failures == result.failures
    assert set(kept.history.why.values()) == {"too low"}


def test_many_readers_disturb_no_writer(path):
    seen, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            if path.exists():
                kept = Journal.read(path)
                assert kept.evaluations == 0 or kept.value == kept.history["best"][-1]
                seen.append(kept.evaluations)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    result = minimize(slow_bowl, path, budget=60)
    stop.set()
    for reader in readers:
        reader.join()
    assert result.evaluations == 60
    assert len(set(seen)) > 3


def test_a_run_that_was_killed_has_no_reason(path):
    child = os.fork()
    if child == 0:
        minimize(slow_bowl, path, budget=10_000)
        os._exit(0)
    while not path.exists() or Journal.read(path).evaluations <= 5:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kept = Journal.read(path)
    assert kept.reason is None
    assert 5 < kept.evaluations < 10_000
    assert minimize(slow_bowl, path, budget=kept.evaluations + 1).evaluations == kept.evaluations + 1


# ---- resume ----------------------------------------------------------------------------------------------------------
def test_resume_needs_nothing_but_the_file(path):
    minimize(path=path, budget=20, seed=7)
    same(ew.resume(path, budget=43, progress=None), minimize(budget=43, seed=7))
    assert ew.resume(path, progress=None).evaluations == 43  # the budget of the last call


def test_resume_keeps_sign_starts_and_constraints(path):
    start = dict.fromkeys("abcde", 0.1 + 0.2)
    given = {"start": start, "constraints": [limit], "method": "randomsearch", "progress": None}
    ew.maximize(score, NAMED, budget=20, journal=path, **given)
    resumed = ew.resume(path, budget=43, target=9.5, progress=None)
    same(resumed, ew.maximize(score, NAMED, budget=43, **given))


def score(a, b, c, d, e):
    return a + b


def limit(a, b, c, d, e):
    return c - 0.5


def test_resume_takes_a_cost_that_cannot_be_imported(path):
    def local(x):
        return bowl(x)

    minimize(local, path, budget=20)
    with pytest.raises(
        JournalError, match=r"cannot be imported, since no module holds it.*give it, ew.resume\('.*run.db', cost\)"
    ):
        ew.resume(path, progress=None)
    same(ew.resume(path, local, budget=43, progress=None), minimize(local, budget=43))


def test_resume_says_when_the_file_alone_is_not_enough(path):
    minimize(lambda a: 1.0 + len(str(a)), path, space={"a": [len, str, bowl, noisy]}, budget=3)
    wanted = (
        "cannot be gone on with from the file alone: the variable 'a' .* known by its name only.* call minimize again"
    )
    with pytest.raises(JournalError, match=wanted):
        ew.resume(path, lambda a: 1.0, progress=None)


def test_resume_with_another_cost_is_refused(path):
    minimize(path=path, budget=20)
    with pytest.raises(JournalError, match=r"keeps another run. cost.name: kept \"bowl\", now \"slow_bowl\""):
        ew.resume(path, slow_bowl, progress=None)


def test_numbers_of_numpy_are_kept_as_numbers(tmp_path):
    path, seed = tmp_path / "run.db", ew.Key(np.int64(3))
    ew.minimize(bowl, [(-1, 1)] * 2, "de", budget=6, seed=seed, timeout=np.int64(9), journal=path, progress=None)
    assert ew.resume(path, bowl, budget=8, progress=None).evaluations == 8


def test_a_file_without_its_configuration_is_damaged(tmp_path):
    path = tmp_path / "run.db"
    ew.minimize(bowl, [(-1, 1)] * 2, "de", budget=6, journal=path, progress=None)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM run WHERE name = 'configuration'")
    for read in (Journal.read, lambda path: ew.resume(path, bowl, progress=None)):
        with pytest.raises(JournalError, match=r"is damaged \(its configuration is missing\)"):
            read(path)


def test_what_a_name_with_brackets_leaves_is_swept(tmp_path):
    path, left = tmp_path / "run[1].db", tmp_path / "run[1].db.turn3.state"
    left.touch()
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE snapshot(file TEXT)")
        Journal(path, {})._sweep(db)
    assert not left.exists()
