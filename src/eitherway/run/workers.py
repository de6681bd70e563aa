"""Rows judged in processes of their own: spawned, one pipe each, so that the culprit of a crash is known."""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import signal
import sys
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from numbers import Integral, Real
from typing import Any

from eitherway.base.errors import CostError
from eitherway.methods.protocol import LOST
from eitherway.run.answers import Answer
from eitherway.run.problem import Problem, told_by
from eitherway.run.stopping import clock

PATIENCE = 60.0
"""Seconds a worker may take to say ready: importing torch on a loaded machine takes a good part of it."""


@dataclass(slots=True)
class _Worker:
    """One process, and the job it is at: the row, when it has to be done, and how often it was lost."""

    pipe: Connection
    process: Any
    ready: bool = False
    row: int = -1
    job: tuple[Any, ...] | None = None
    deadline: float = float("inf")
    lost: int = 0


class Workers:
    """n processes that judge the rows of a question.

    A worker that dies takes one evaluation with it: its row is tried once more, and is LOST the second time. One that
    is late is killed, and its row failed. Whatever the order of the answers, the search sees the same bits.

    Args:
        problem: what to judge; it travels once to each worker, by pickle through a pipe, never through a file.
        n: how many processes.
        timeout: seconds an evaluation may take.

    Raises:
        CostError: if the cost cannot travel, or workers end before they begin.
    """

    def __init__(self, problem: Problem, n: int, timeout: float | None = None):
        if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
            raise CostError(f"workers={n!r} was given; expected a whole number of at least 1")
        if timeout is not None and not (isinstance(timeout, Real) and timeout > 0):
            raise CostError(f"timeout={timeout!r} was given; expected seconds above 0, or None for no limit")
        if problem.batched:
            raise CostError(
                f"a batched cost judges all points in one call, so workers={n} and timeout={timeout} "
                "cannot help it; leave them out"
            )
        if getattr(mp.current_process(), "_inheriting", False):
            raise SystemExit(1)  # a script without a guard, run again by its own worker: the parent says so
        self.count, self.timeout = int(n), timeout
        self._message = (_pickled(problem), _threads())
        self._context = mp.get_context("spawn")
        self._again: deque[tuple[int, tuple[Any, ...], int]] = deque()
        self._workers = [self._start() for _ in range(self.count)]
        self.lost = 0

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there,), daemon=True)
        process.start()
        there.close()
        try:
            here.send(self._message)
        except (BrokenPipeError, OSError):
            pass  # it has ended already: `wait` finds out and says why
        return _Worker(here, process, deadline=clock() + PATIENCE)

    def free(self) -> int:
        """How many workers stand ready for a row."""
        return max(0, sum(w.ready and w.row < 0 for w in self._workers) - len(self._again))

    def submit(self, row: int, job: tuple[Any, ...]) -> None:
        """Hands one row to a free worker. `job` is what `Problem.judge` takes."""
        self._give(row, job, 0)

    def _give(self, row: int, job: tuple[Any, ...], lost: int) -> None:
        worker = next(w for w in self._workers if w.ready and w.row < 0)
        worker.row, worker.job, worker.lost = row, job, lost
        worker.deadline = clock() + (self.timeout or float("inf"))
        try:
            worker.pipe.send(job)
        except (BrokenPipeError, OSError):
            pass  # `wait` meets the closed pipe

    def wait(self, seconds: float) -> list[tuple[int, Answer]]:
        """Answers that have come, after at most so many seconds."""
        pipes: dict[Any, _Worker] = {w.pipe: w for w in self._workers}
        soonest = min(w.deadline for w in self._workers) - clock()
        answers = []
        for pipe in wait(list(pipes), max(0.0, min(seconds, soonest))):
            answer = self._hear(pipes[pipe])
            if answer is not None:
                answers.append(answer)
        for worker in list(self._workers):
            if clock() > worker.deadline:
                answers.append(self._late(worker))
        while self._again and any(w.ready and w.row < 0 for w in self._workers):
            self._give(*self._again.popleft())
        return answers

    def _hear(self, worker: _Worker) -> tuple[int, Answer] | None:
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            return self._died(worker)
        if not worker.ready:
            if said != "ready":
                raise CostError(
                    f"a worker cannot load the cost: {said}. Define it at the top of a module, or install cloudpickle"
                )
            worker.ready, worker.deadline = True, float("inf")
            return None
        row, answer = worker.row, said
        answer.again = worker.lost
        worker.row, worker.job, worker.deadline = -1, None, float("inf")
        return row, answer

    def _died(self, worker: _Worker) -> tuple[int, Answer] | None:
        worker.process.join()
        code = worker.process.exitcode
        if not worker.ready:
            raise CostError(
                f"a worker ended before it began (exit code {code}); a script that uses workers= must make its calls "
                "under `if __name__ == '__main__':`. Add that guard, or use workers=1"
            )
        row, job, lost = worker.row, worker.job, worker.lost + 1
        self._workers[self._workers.index(worker)] = self._start()
        worker.pipe.close()
        if row < 0 or job is None:
            return None
        self.lost += 1
        if lost == 1:
            self._again.append((row, job, lost))
            return None
        return row, Answer(status=LOST, why=f"its worker died twice (exit code {code})", again=lost - 1)

    def _late(self, worker: _Worker) -> tuple[int, Answer]:
        if not worker.ready:
            raise CostError(
                f"a worker was not ready after {PATIENCE:g} s; "
                "does importing the cost's module take that long, or wait for input?"
            )
        row, lost = worker.row, worker.lost
        self._kill(worker)
        self._workers[self._workers.index(worker)] = self._start()
        return row, Answer(status=1, why=f"took longer than the timeout of {self.timeout:g} s", again=lost)

    @staticmethod
    def _kill(worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()

    def cancel(self) -> None:
        """Drops all rows under way; busy workers are killed."""
        self._again.clear()
        for worker in [w for w in self._workers if w.row >= 0]:
            self._kill(worker)
            self._workers.remove(worker)

    def close(self) -> None:
        """Ends all workers: idle ones are asked to, busy ones killed."""
        for worker in self._workers:
            if worker.ready and worker.row < 0:
                try:
                    worker.pipe.send(None)
                except OSError:
                    pass
                worker.process.join(0.5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers = []


def _pickled(problem: Problem) -> bytes:
    """The problem as bytes; functions that no module holds need cloudpickle."""
    interactive = getattr(problem.cost, "__module__", None) == "__main__" and not hasattr(
        sys.modules["__main__"], "__file__"
    )
    try:
        if interactive:
            raise pickle.PicklingError("it was defined interactively")
        return pickle.dumps(problem)
    except Exception as error:  # pickle raises many kinds, AttributeError and TypeError among them
        try:
            import cloudpickle
        except ImportError:
            raise CostError(
                f"the cost cannot be sent to a worker ({error}); define it, and what it uses, with `def` "
                "at the top of a module, or install cloudpickle, or use workers=1"
            ) from None
        try:
            return cloudpickle.dumps(problem)
        except Exception as deeper:
            raise CostError(
                f"the cost cannot be sent to a worker ({deeper}); let it open what it needs inside, or use workers=1"
            ) from None


def _threads() -> int | None:
    """torch's thread count, if torch is in use: it decides the order of sums, so workers must have the same."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_num_threads()


def _work(pipe: Connection) -> None:
    """What a worker does: says ready, then judges until it is told to end or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    try:
        pickled, threads = pipe.recv()
        problem: Problem = pickle.loads(pickled)
    except EOFError:
        return
    except Exception as error:
        pipe.send(told_by(error))
        return
    pipe.send("ready")
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            os._exit(0)
        if job is None:
            return
        if threads is not None and (job[2] == "gradient" or "torch" in sys.modules):
            import torch

            torch.set_num_threads(threads)
            threads = None if job[2] == "gradient" else threads
        answer = problem.judge(*job)
        try:
            pipe.send(answer)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            pipe.send(Answer.failed(f"its report cannot travel back: {error}"))
        except BrokenPipeError:
            os._exit(0)
