"""The verbs: minimize, maximize, iterate, resume."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from eitherway.base.keys import Key
from eitherway.methods.protocol import Method
from eitherway.run.loop import Book, Pool, Run, Step, Watch
from eitherway.run.problem import Problem
from eitherway.run.progress import watcher
from eitherway.run.result import Result
from eitherway.run.search import Search
from eitherway.run.stopping import Limits
from eitherway.run.workers import Workers
from eitherway.space.signature import from_signature

Progress = Literal["auto"] | None


def minimize(
    cost: Any,
    space: Any = None,
    method: str | Method | None = None,
    *,
    budget: int = 10_000,
    target: float | None = None,
    seconds: float | None = None,
    stall: int | None = None,
    seed: int | Key = 0,
    start: Any = None,
    workers: int = 1,
    timeout: float | None = None,
    journal: str | os.PathLike[str] | None = None,
    constraints: Sequence[Callable[..., Any]] = (),
    callbacks: Sequence[Callable[[Step], Any]] = (),
    progress: Progress = "auto",
) -> Result:
    """The point of a space where a cost is lowest, as far as a budget goes.

    Args:
        cost: called with a lone variable's value, or with the variables by name; returns a number.
        space: what may vary; None reads it from the cost's annotations.
        method: a method or its name; None looks at the space and decides (`Auto`).
        budget: how many evaluations at most.
        target: stop at a value this low.
        seconds: stop after so long.
        stall: stop after so many evaluations without an improvement.
        seed: all randomness of the run follows from it.
        start: a point, or several, to be judged first.
        workers: processes that judge at the same time.
        timeout: seconds an evaluation may take before it counts as failed.
        journal: a file that keeps the run; the same call again goes on with it.
        constraints: functions called as the cost is, feasible where <= 0.
        callbacks: called with a Step after each turn; returning True stops the run.
        progress: "auto" shows a line on a terminal, and every ten seconds elsewhere; None shows nothing.

    Raises:
        SpaceError, MethodError, CostError, JournalError: what was given, what was expected, how to mend it.

    >>> minimize(lambda x: (x - 2) ** 2, (Real(-5, 5)), budget=200, progress=None).best  # doctest: +ELLIPSIS
    2.0...
    """
    return _optimize(
        1.0,
        cost,
        space,
        method,
        budget,
        target,
        seconds,
        stall,
        seed,
        start,
        workers,
        timeout,
        journal,
        constraints,
        callbacks,
        progress,
    )


def maximize(
    score: Any,
    space: Any = None,
    method: str | Method | None = None,
    *,
    budget: int = 10_000,
    target: float | None = None,
    seconds: float | None = None,
    stall: int | None = None,
    seed: int | Key = 0,
    start: Any = None,
    workers: int = 1,
    timeout: float | None = None,
    journal: str | os.PathLike[str] | None = None,
    constraints: Sequence[Callable[..., Any]] = (),
    callbacks: Sequence[Callable[[Step], Any]] = (),
    progress: Progress = "auto",
) -> Result:
    """`minimize`, the other way up: values, target, progress and pictures keep the sign of the score."""
    return _optimize(
        -1.0,
        score,
        space,
        method,
        budget,
        target,
        seconds,
        stall,
        seed,
        start,
        workers,
        timeout,
        journal,
        constraints,
        callbacks,
        progress,
    )


def iterate(
    cost: Any,
    space: Any = None,
    method: str | Method | None = None,
    *,
    seed: int | Key = 0,
    start: Any = None,
    budget: int = 10**12,
) -> Iterator[Step]:
    """The loop in your hands: one Step a turn, for as long as you like; `break` stops.

    >>> for step in iterate(lambda x: x * x, [(-1, 1)], "de"):
    ...     if step.value < 1e-6:
    ...         break
    """
    search = Search(from_signature(cost) if space is None else space, method, seed, start=start)
    run = Run(search, Problem(cost, search.space), Limits(budget))
    run.stepping = True
    yield from run.steps()


def _optimize(
    sign: float,
    cost: Any,
    space: Any,
    method: str | Method | None,
    budget: int,
    target: float | None,
    seconds: float | None,
    stall: int | None,
    seed: int | Key,
    start: Any,
    workers: int,
    timeout: float | None,
    journal: str | os.PathLike[str] | None,
    constraints: Sequence[Callable[..., Any]],
    callbacks: Sequence[Callable[[Step], Any]],
    progress: Progress,
) -> Result:
    limits = Limits(budget, None if target is None else sign * target, seconds, stall, sign)
    search = Search(from_signature(cost) if space is None else space, method, seed, start=start)
    problem = Problem(cost, search.space, constraints, sign)
    watch: Watch | None = watcher(progress)
    book: Book | None = None
    pool: Pool | None = Workers(problem, workers, timeout) if workers != 1 or timeout is not None else None
    run = Run(search, problem, limits, watch=watch, book=book, pool=pool, callbacks=callbacks)
    return finish(run, journal)


def finish(run: Run, journal: str | os.PathLike[str] | None) -> Result:
    """Moves a run to its end and reads the result off it."""
    for _ in run.steps():
        pass
    search = run.search
    value, violation, point = search.best_row()
    if point is not None and violation > 0:
        run.note(f"no feasible point was found; the best violates its constraints by {violation:.3g} in all")
    assert run.reason is not None
    return Result(
        best=None if point is None else search.space.decode(point[None])[0],
        value=run.problem.sign * value if point is not None else float("nan"),
        reason=run.reason,
        evaluations=search.evaluations,
        failures=int((run.history["status"] != 0).sum()) if len(run.history) else 0,
        seconds=run.seconds,
        history=run.history,
        notes=tuple(run.notes),
        interrupted=run.interrupted,
        method=search.method,
        search=search,
        journal=None if journal is None else os.fspath(journal),
    )
