"""Threads of linear algebra: kept with a run, and told where a run goes on with others."""

import json
import sqlite3
import sys

import pytest

import eitherway as ew
from eitherway.report.page import render
from eitherway.run import configuration, threads
from eitherway.run.journal import Journal


def cost(x):
    return (x - 1) ** 2


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


def go(path, budget=30):
    return ew.minimize(cost, ew.Real(-5, 5), "cmaes", budget=budget, journal=path, progress=None)


def rewrite(path, change):
    """Changes the kept configuration, as another machine or an earlier version would have written it."""
    with sqlite3.connect(path) as db:
        kept = json.loads(db.execute("SELECT value FROM run WHERE name = 'configuration'").fetchone()[0])
        change(kept)
        db.execute("UPDATE run SET value = ? WHERE name = 'configuration'", (json.dumps(kept),))
    db.close()


def test_a_journal_knows_the_threads_of_its_run(path):
    go(path)
    assert Journal.read(path).configuration["threads"] == threads.threads()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="loaded libraries are looked up as Linux lists them")
def test_numpys_blas_can_be_asked():
    assert threads.threads()["blas"] >= 1


def test_torchs_threads_count_once_it_is_imported():
    torch = pytest.importorskip("torch")
    assert threads.threads()["torch"] == torch.get_num_threads()


def test_a_run_that_goes_on_with_other_threads_says_so(path, monkeypatch):
    monkeypatch.setattr(configuration, "threads", lambda: {"blas": 8})
    go(path)
    monkeypatch.setattr(configuration, "threads", lambda: {"blas": 2, "torch": 4})
    again = go(path, 60)
    assert again.evaluations == 60
    assert [note for note in again.notes if "begun with blas on 8 threads, going on with 2: sums may" in note]
    assert Journal.read(path).notes == again.notes
    monkeypatch.setattr(configuration, "threads", lambda: {"blas": 8})
    assert go(path, 90).notes == again.notes


def test_a_journal_from_before_goes_on_without_a_word(path):
    first = go(path)
    rewrite(path, lambda kept: kept.pop("threads"))
    with sqlite3.connect(path) as db:
        assert '"threads"' not in db.execute("SELECT value FROM run WHERE name = 'configuration'").fetchone()[0]
    db.close()
    assert "<html" in render([Journal.read(path)])
    assert go(path, 60).notes == first.notes
    assert Journal.read(path).evaluations == 60
