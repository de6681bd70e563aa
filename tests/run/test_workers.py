"""Rows judged elsewhere: the same bits, whatever becomes of a worker."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import eitherway as ew
from eitherway.run.answers import Answer
from eitherway.run.loop import Run
from eitherway.run.minimize import finish
from eitherway.run.problem import Problem
from eitherway.run.search import Search
from eitherway.run.stopping import Limits
from tests.run import costs

BOX = [(-1, 1)] * 2


def run(cost, workers, budget=24, **options):
    return ew.minimize(cost, BOX, "randomsearch", budget=budget, workers=workers, progress=None, **options)


def test_two_workers_give_the_bits_of_none():
    alone, two = run(costs.noisy, 1), run(costs.noisy, 2)
    assert alone.history["value"].tobytes() == two.history["value"].tobytes() and (alone.best == two.best).all()


def test_a_worker_that_dies_costs_its_point_and_no_other():
    result = run(costs.kills_its_worker, 2, budget=9)
    lost = result.history["status"] == 2
    assert (
        (result.history["x"][lost, 0] > 0.5).all() and (result.history["x"][~lost, 0] <= 0.5).all() and lost.sum() > 1
    )
    assert "its worker died twice (exit code 9)" in result.history.why.values()


def test_an_evaluation_that_hangs_fails_by_its_timeout():
    result = ew.minimize(costs.hangs, BOX, "randomsearch", budget=4, timeout=0.3, progress=None)
    assert result.evaluations == 4 and result.failures == 2
    assert set(result.history.why.values()) == {"took longer than the timeout of 0.3 s"}


class AtOnce:
    """Answers all rows in one breath, each with its number."""

    count = 8

    def __init__(self):
        self.rows = []

    def free(self):
        return self.count - len(self.rows)

    def submit(self, row, job):
        self.rows.append(row)

    def wait(self, seconds):
        answers, self.rows = [(row, Answer(float(row))) for row in self.rows], []
        return answers

    def cancel(self):
        pass

    def close(self):
        pass


def test_answers_that_came_together_are_all_kept_though_one_ends_the_run():
    search = Search(BOX, "randomsearch")
    result = finish(Run(search, Problem(costs.bowl, search.space), Limits(16, target=0.0), pool=AtOnce()), None)
    assert result.reason == "the target 0 is met" and result.history["value"].tolist() == list(range(8))


def test_numbers_of_numpy_are_numbers():
    with pytest.raises(ew.CostError, match="expected a whole number of at least 1"):
        run(costs.bowl, np.int64(0))
    assert run(costs.bowl, np.int64(2)).value == run(costs.bowl, 1).value


def test_a_lambda_travels_or_is_told_how_to(monkeypatch):
    pytest.importorskip("cloudpickle")
    assert run(lambda x: costs.bowl(x), 2).value == run(costs.bowl, 1).value
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(
        ew.CostError, match="cannot be sent to a worker .*top of a module, or install cloudpickle, or use workers=1"
    ):
        run(lambda x: costs.bowl(x), 2)


def test_what_cannot_travel_is_said():
    pytest.importorskip("cloudpickle")
    import threading

    lock = threading.Lock()
    with pytest.raises(ew.CostError, match="let it open what it needs inside, or use workers=1"):
        run(lambda x: costs.bowl(x) if lock else 0.0, 2)


def test_a_cost_that_only_this_process_knows_is_said_to_be_unloadable(monkeypatch):
    monkeypatch.setattr(costs, "of_this_process", lambda x: costs.bowl(x), raising=False)
    costs.of_this_process.__qualname__ = costs.of_this_process.__name__ = "of_this_process"
    costs.of_this_process.__module__ = costs.__name__
    with pytest.raises(
        ew.CostError, match="a worker cannot load the cost: AttributeError.* Define it at the top of a module"
    ):
        run(costs.of_this_process, 2)


def test_a_worker_that_is_not_ready_in_time_is_said_to_be_slow(monkeypatch):
    monkeypatch.setattr("eitherway.run.workers.PATIENCE", 0.01)
    with pytest.raises(
        ew.CostError, match="a worker was not ready after 0.01 s; does importing the cost's module take that long"
    ):
        run(costs.bowl, 2)


def test_a_batched_cost_has_no_use_for_workers():
    with pytest.raises(ew.CostError, match="a batched cost judges all points in one call, so workers=2"):
        run(ew.batched(lambda x: (x * x).sum(1)), 2)


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=100)


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path):
    done = script(
        tmp_path,
        """
        import eitherway as ew
        def cost(x): return x * x
        ew.minimize(cost, ew.Real(-1, 1), "randomsearch", budget=8, workers=2, progress=None)
        """,
    )
    assert "a worker ended before it began" in done.stderr and "under `if __name__ == '__main__':`" in done.stderr


def test_ctrl_c_returns_the_best_and_leaves_no_orphans(tmp_path):
    done = script(
        tmp_path,
        """
        import os, signal, time
        import multiprocessing as mp
        import eitherway as ew
        def cost(x):
            time.sleep(0.02)
            if 0 < x < 0.05 and not os.path.exists("sent"):  # the 25th point
                open("sent", "w").close()
                os.kill(os.getppid(), signal.SIGINT)
            return x * x
        if __name__ == "__main__":
            result = ew.minimize(cost, ew.Real(-1, 1), "randomsearch", workers=2, progress=None)
            print(result.interrupted, result.best is not None, len(mp.active_children()), result.reason)
        """,
    )
    assert done.stdout.startswith("True True 0 interrupted by Ctrl-C"), done.stderr
