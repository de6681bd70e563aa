"""Write one page about a kept run, or several, that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    *runs: Path,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
) -> int:
    """Write one page about a kept run, or several, that opens offline.

    Examples:
      eitherway report run.db
      eitherway report a.db b.db c.db -o comparison.html

    The page holds the verdict, the best point as code, pictures, failures,
    the configuration and how to go on. It reads the file without disturbing
    a run that is still writing it.

    Parameters
    ----------
    runs
        What the runs were given as --journal, or as journal=.
    out
        The page; without it, the first run's name with .html.
    """
    from eitherway.base import files
    from eitherway.base.errors import JournalError
    from eitherway.report import page
    from eitherway.run.journal import Journal

    if not runs:
        raise JournalError("no run was given; expected the journal of one, such as: eitherway report run.db")
    kept = [Journal.read(run) for run in runs]
    to = runs[0].with_suffix(".html") if out is None else out
    if to.resolve() in [run.resolve() for run in runs]:
        raise JournalError(f"the page would be written over the run {to}; give another name with -o")
    try:
        files.write(to, page.render(kept))
    except OSError as error:
        raise JournalError(f"the page {to} cannot be written ({error.strerror}); give another name with -o") from None
    for verdict in page.verdicts(kept):
        print(verdict)
    print(f"written: {to}")
    return 0
