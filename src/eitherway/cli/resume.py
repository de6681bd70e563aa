"""Go on with a kept run from its file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eitherway.cli._whole import Whole


def resume(
    run: Path,
    /,
    *,
    cost: str | None = None,
    budget: Whole | None = None,
    target: float | None = None,
    seconds: float | None = None,
    stall: Whole | None = None,
    workers: Whole = 1,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Go on with a kept run from its file, as if it had never stopped.

    Examples:
      eitherway resume run.db
      eitherway resume run.db --budget 20000

    Space, method, seed and cost are read from the file; limits that are
    not given are those of the last call. The same minimize command again
    does the same.

    Parameters
    ----------
    run
        What the run was given as --journal, or as journal=.
    cost
        The cost, where the file cannot name it: file.py:name or package.module:name.
    budget
        Evaluations at most, those of before included.
    target
        Stop at a value this low (this high where the run maximizes).
    seconds
        Stop after so long.
    stall
        Stop after so many evaluations without an improvement.
    workers
        Processes that judge at the same time.
    json
        Print the result as one line of JSON.
    """
    import eitherway as ew
    from eitherway.cli._outcome import show
    from eitherway.cli._target import find

    judged = _cost(run) if cost is None else find([cost], None).cost
    result = ew.resume(run, judged, budget=budget, target=target, seconds=seconds, stall=stall, workers=workers)
    return show(result, json)


def _cost(run: Path) -> object:
    """The program that a journal names, made again; None for functions, whose file is put within reach."""
    from eitherway.cli._target import reach
    from eitherway.run.command import command
    from eitherway.run.kept import begun_with
    from eitherway.space.plain import unplain

    kept, _ = begun_with(run)
    described = kept["cost"]
    if described["name"] == "Command" and "arguments" in described.get("settings", {}):
        settings = {name: unplain(value, strict=False) for name, value in described["settings"].items()}
        return command(settings["arguments"], settings["parse"], settings["timeout"], optional=settings["optional"])
    reach(Path("here"))
    if described["where"] and described["where"]["file"]:
        reach(Path(described["where"]["file"]))
    return None
