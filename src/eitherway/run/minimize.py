"""The verbs: minimize, maximize, iterate, resume."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal

from eitherway.base.errors import CostError, JournalError, MethodError, SpaceError
from eitherway.base.keys import Key
from eitherway.methods.protocol import Method
from eitherway.run.loop import Book, Pool, Run, Step, Watch
from eitherway.run.problem import Problem
from eitherway.run.progress import watcher
from eitherway.run.result import Result
from eitherway.run.search import Search
from eitherway.run.stopping import Limits
from eitherway.run.workers import Workers
from eitherway.space.condition import describe
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

    >>> import eitherway as ew
    >>> result = ew.minimize(lambda x: (x - 2) ** 2, ew.Real(-5, 5), budget=200, progress=None)
    >>> round(result.best, 3)
    2.0
    """
    search, problem = _begin(1.0, cost, space, method, seed, start, constraints)
    limits = Limits(budget, target, seconds, stall, 1.0)
    return _move(search, problem, limits, workers, timeout, journal, callbacks, progress)


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
    search, problem = _begin(-1.0, score, space, method, seed, start, constraints)
    flipped: Any = -target if isinstance(target, Real) else target  # what is no number, Limits refuses
    limits = Limits(budget, flipped, seconds, stall, -1.0)
    return _move(search, problem, limits, workers, timeout, journal, callbacks, progress)


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
    run = Run(*_begin(1.0, cost, space, method, seed, start, ()), Limits(budget))
    run.stepping = True
    yield from run.steps()


def _begin(
    sign: float,
    cost: Any,
    space: Any,
    method: str | Method | None,
    seed: int | Key,
    start: Any,
    constraints: Sequence[Callable[..., Any]],
) -> tuple[Search, Problem]:
    """A fresh search, and the problem it is about."""
    search = Search(from_signature(cost) if space is None else space, method, seed, start=start)
    return search, Problem(cost, search.space, constraints, sign)


def resume(
    path: str | os.PathLike[str],
    cost: Any = None,
    *,
    budget: int | None = None,
    target: float | None = None,
    seconds: float | None = None,
    stall: int | None = None,
    workers: int = 1,
    callbacks: Sequence[Callable[[Step], Any]] = (),
    progress: Progress = "auto",
) -> Result:
    """Goes on with a kept run from its file alone: space, method, seed and sign are read from it.

    Args:
        path: what the run was given as journal=.
        cost: the same function; None imports the one that the file names, and nothing else is executed.
        budget, target, seconds, stall: limits of this call; what is left out is as it was in the last call.
        workers, callbacks, progress: as for `minimize`.

    Raises:
        JournalError: if there is no journal, if it cannot be gone on with from the file alone, or the cost is another.
    """
    from eitherway.run.kept import begun_with

    kept, limits = begun_with(path)
    search, problem = again(path, kept, cost)
    given = {"budget": budget, "target": None if target is None else problem.sign * target}
    given |= {"seconds": seconds, "stall": stall}
    limits = replace(limits, **{name: value for name, value in given.items() if value is not None})
    return _move(search, problem, limits, workers, kept["timeout"], path, callbacks, progress)


def again(path: str | os.PathLike[str], kept: dict[str, Any], cost: Any = None) -> tuple[Search, Problem]:
    """A fresh search and its problem, made from the configuration in a journal."""
    from eitherway.methods.settings import settings_from_plain
    from eitherway.run.configuration import key_of
    from eitherway.run.identity import find
    from eitherway.space.plain import space_from_plain

    verb = "maximize" if kept["sign"] < 0 else "minimize"
    repeat = f"call {verb} again with the same arguments and journal={os.fspath(path)!r}"
    try:
        space, method = space_from_plain(kept["space"]), settings_from_plain(kept["method"])
    except (SpaceError, MethodError) as error:
        raise JournalError(
            f"{os.fspath(path)} cannot be gone on with from the file alone: {error}. Instead, {repeat}"
        ) from None
    if cost is None:
        cost = find(kept["cost"], "cost", f"give it, ew.resume({os.fspath(path)!r}, cost), or {repeat}")
    constraints = [find(constraint, "constraint", repeat) for constraint in kept["constraints"]]
    return Search(space, method, key_of(kept)), Problem(cost, space, constraints, kept["sign"])


def _move(
    search: Search,
    problem: Problem,
    limits: Limits,
    workers: int,
    timeout: float | None,
    journal: str | os.PathLike[str] | None,
    callbacks: Sequence[Callable[[Step], Any]],
    progress: Progress,
) -> Result:
    if not isinstance(callbacks, Iterable) or not all(map(callable, callbacks := tuple(callbacks))):
        raise CostError(f"callbacks={describe(callbacks)} was given; expected a list of functions, each given a Step")
    watch: Watch | None = watcher(progress)
    book: Book | None = None
    if journal is not None:
        from eitherway.run.configuration import configuration
        from eitherway.run.journal import Journal

        book = Journal(journal, configuration(search, problem, timeout))
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
