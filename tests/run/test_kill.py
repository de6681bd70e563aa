"""kill -9 at any moment: the run that goes on is the run that was never stopped, to the last bit."""

import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from eitherway import methods

METHODS = list(methods.known())
EACH = -(-20 // len(METHODS))  # so that there are 20 kills in all
PLAIN = ("flaky", "noisy", "curriculum")


class Parent:
    """The warmed process; it outlives every run it forks."""

    def __init__(self, folder):
        self.folder, self.runs, self.whole = folder, 0, {}
        command = [sys.executable, "-m", "tests.run.killing"]
        root = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        assert "error" not in told, told["error"]
        return told

    def path(self):
        self.runs += 1
        return str(self.folder / f"{self.runs}.db")

    def order(self, method, cost, **more):
        # every row is committed, a snapshot follows almost every turn, and some lie beside the file
        common = {"budget": 83, "seed": 5, "tick": 0.0, "replay": 3e-4, "beside": 4000, "torch": cost == "smooth"}
        return {"method": method, "cost": cost, **common, **more}

    def unbroken(self, order):
        """What the run comes to that nobody kills: what it says, its records, its statements, its seconds."""
        name = json.dumps(order)
        if name not in self.whole:
            path = self.path()
            told = self.ask(path=path, **order)
            self.whole[name] = (told["said"], records(path), told["statements"], told["seconds"])
        return self.whole[name]

    def gradients(self, method):
        return self.ask(ask=method)["gradients"]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    parent = Parent(tmp_path_factory.mktemp("kill"))
    yield parent
    parent.process.stdin.close()
    parent.process.wait(10)
    parent.process.stdout.close()


def records(path):
    """Every record of a journal, and a proof that SQLite finds it whole."""
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    turns = db.execute("SELECT * FROM turn ORDER BY turn").fetchall()
    parts = db.execute("SELECT * FROM part ORDER BY turn, number").fetchall()
    db.close()
    return turns, parts


def kill_until_done(parent, order, kills):
    """One run, killed as asked for one time after the other, then left alone: it equals the unbroken one."""
    said, kept, _, _ = parent.unbroken(order)
    path, killed = parent.path(), 0
    for kill in kills:
        killed += parent.ask(path=path, **order, **kill)["killed"]
    told = parent.ask(path=path, **order)
    assert told["said"] == said
    assert records(path) == kept
    paid = len(Path(f"{path}.log").read_bytes())
    if order["tick"] == 0.0:  # each kill may cost the one row that was being judged, or was not committed yet
        assert said["evaluations"] <= paid <= said["evaluations"] + killed
    beside = [
        name for name in Path(path).parent.glob(f"*{Path(path).name}*") if not name.name.endswith((".log", ".out"))
    ]
    assert len(beside) <= 3  # the file and two snapshots: nothing is left behind
    return killed


def some_kills(rng, parent, order, n):
    """n kills of one run, at moments and at statements, all over it: each is likely to come before the run's end."""
    _, _, statements, seconds = parent.unbroken(order)
    moments = [{"after": rng.random() * seconds * min(1, 1.5 / n)} for _ in range(n)]
    at = [{"statement": rng.randint(1, max(1, min(statements, 3 * statements // (2 * n))))} for _ in range(n)]
    return [rng.choice(pair) for pair in zip(moments, at, strict=True)]


def costs_for(parent, method):
    return ("smooth",) if parent.gradients(method) else PLAIN


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_as_if_it_had_never_stopped(parent, method):
    costs = costs_for(parent, method)
    rng = random.Random(method)
    order = parent.order(method, costs[METHODS.index(method) % len(costs)])
    kill_until_done(parent, order, some_kills(rng, parent, order, EACH))


def test_a_learning_cost_goes_on_with_its_carry(parent):
    order = parent.order("randomsearch", "curriculum", budget=203)
    statements = parent.unbroken(order)[2]
    assert kill_until_done(parent, order, [{"statement": n} for n in (9, statements // 3, statements // 4)]) == 3


def test_with_grouped_commits_nothing_is_counted_twice(parent):
    order = parent.order("randomsearch", "flaky", budget=1003, tick=0.002)
    seconds = parent.unbroken(order)[3]
    kill_until_done(parent, order, [{"after": seconds * part} for part in (0.3, 0.5, 0.7)])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_hundred_kills_of_all_methods_and_costs(parent, method):
    costs, rng = costs_for(parent, method), random.Random(method + "slow")
    killed = runs = 0
    while killed < -(-200 // len(METHODS)):
        budget, tick = rng.randint(30, 200), rng.choice([0.0, 0.005])
        order = parent.order(method, costs[runs % len(costs)], seed=runs % 3, budget=budget, tick=tick)
        killed += kill_until_done(parent, order, some_kills(rng, parent, order, 4))
        runs += 1


@pytest.mark.slow
@pytest.mark.parametrize("cost", PLAIN)
def test_a_kill_at_every_statement(parent, cost):
    order = parent.order("randomsearch", cost, budget=27)
    statements = parent.unbroken(order)[2]
    killed = sum(kill_until_done(parent, order, [{"statement": n}]) for n in range(1, statements + 1))
    assert killed > 0.8 * statements  # snapshots are taken by the clock, so runs differ in their last statements
