"""Find where a cost is lowest: a function, or a program in any language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eitherway.cli._whole import Whole


def minimize(
    cost: Annotated[str | None, Parameter(name="TARGET")] = None,
    /,
    *program: str,
    space: Path | None = None,
    method: str | None = None,
    budget: Whole = 10_000,
    target: float | None = None,
    seconds: float | None = None,
    stall: Whole | None = None,
    seed: Whole = 0,
    workers: Whole = 1,
    timeout: float | None = None,
    journal: Path | None = None,
    dimension: Whole | None = None,
    parse: str = "last",
    maximize: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Find where a cost is lowest: a function, or a program in any language.

    Examples:
      eitherway minimize rosenbrock --dimension 5 --budget 2000
      eitherway minimize cost.py:cost --journal run.db
      eitherway minimize package.module:score --maximize --workers 4
      eitherway minimize --space space.toml -- ./sim --x {x}

    The last one runs a program for each point, without a shell, and takes
    the last number it prints. space.toml has a table for each variable:
      [x]
      type = "real"       # or "integer", "choice" with options, "array"
      low = 1e-5
      high = 1
      scale = "log"
      when = {act = "relu"}  # if it takes part only then
    Without --space, an object named space beside the cost says what may
    vary, or the cost's annotations do.

    Parameters
    ----------
    cost
        file.py:name, package.module:name, or the name of a test function.
    program
        After --: a program and its arguments, {x} where the variable x goes.
    space
        A TOML file that says what may vary.
    method
        How to search, such as cmaes, de or sqp; without it, the cost decides.
    budget
        Evaluations at most.
    target
        Stop at a value this low (this high with --maximize).
    seconds
        Stop after so long.
    stall
        Stop after so many evaluations without an improvement.
    seed
        All randomness follows from it.
    workers
        Processes that judge at the same time.
    timeout
        Seconds an evaluation may take before it counts as failed.
    journal
        A file that keeps the run; the same command again goes on with it.
    dimension
        Of a test function.
    parse
        What a program's value is: last for the last number it prints, or a regular expression for it.
    maximize
        Look for the highest value.
    json
        Print the result as one line of JSON.
    """
    import eitherway as ew
    from eitherway.base.errors import CostError
    from eitherway.cli._outcome import show
    from eitherway.cli._target import find
    from eitherway.run.command import Command, command

    found = find(() if cost is None else (cost, *program), space, dimension)
    judged = found.cost
    if isinstance(judged, Command):  # it ends a late program itself, without a process between
        judged, timeout = command(judged.arguments, parse, timeout, optional=judged.optional), None
    elif parse != "last":
        raise CostError("--parse is for programs; a function returns its value")
    verb = ew.maximize if maximize else ew.minimize
    result = verb(
        judged,
        found.space,
        method,
        budget=budget,
        target=target,
        seconds=seconds,
        stall=stall,
        seed=seed,
        workers=workers,
        timeout=timeout,
        journal=journal,
    )
    return show(result, json)
