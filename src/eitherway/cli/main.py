"""Finds the verbs, hands them their arguments, and says what went wrong in one message."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from eitherway import __version__
from eitherway.base.errors import EitherwayError

DONE, MISTAKE, INTERRUPTED = 0, 1, 130
"""Exit codes; a verb returns one of them."""
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
NARROWEST = 20
"""Columns that help is drawn in at least: in fewer its frames would never end."""
FULL = "EITHERWAY_TRACEBACK"
"""Set to 1, every error shows where it was raised."""

_HELP = """Makes anything learn, with gradients where they exist and without them where they do not.

Each verb tells more: eitherway minimize --help"""


def verbs() -> dict[str, str]:
    """Verb -> what it does, in one line; read from the files of this folder, none of which is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem != "main" and not path.stem.startswith("_"):
            with path.open(encoding="utf-8") as file:
                found[path.stem.replace("_", "-")] = file.readline().strip().strip('"')
    return found


def app(verb: str | None = None) -> App:
    """The command line, whose verbs are imported when they are called.

    Args:
        verb: the one that is about to be called: its own docstring is its help then.
    """
    made = App(
        name="eitherway",
        help=_HELP,
        help_format="plaintext",
        version=__version__,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for name, line in verbs().items():
        module = name.replace("-", "_")
        named: dict[str, Any] = {} if name == verb else {"help": line}
        made.command(f"eitherway.cli.{module}:{module}", name=name, **named)
    return made


@contextmanager
def _room() -> Iterator[None]:
    """Inside, nobody takes the terminal to be narrower than frames can be drawn in."""
    said = os.environ.get("COLUMNS")
    columns = int(said) if said is not None and said.isdigit() else shutil.get_terminal_size().columns
    if columns >= NARROWEST:
        yield
        return
    os.environ["COLUMNS"] = str(NARROWEST)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if said is not None:
            os.environ["COLUMNS"] = said


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and says how it ended.

    Args:
        arguments: None takes those of the process.

    Returns:
        the exit code: 0 done, 1 a mistake in what was given, 130 interrupted.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    previous = _hear_sigterm()
    for stream in (sys.stdout, sys.stderr):  # a terminal without a letter shows its code, and no run is lost over it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _room():
            code = app(tokens[0] if tokens else None)(tokens, exit_on_error=False, print_error=False)
        if sys.stdout is not None:  # closed by `>&-`
            sys.stdout.flush()
        return DONE if code is None else int(code)
    except CycloptsError as error:
        return _wrong(f"{error} See: eitherway {_verb(tokens)}--help")
    except EitherwayError as error:
        return _wrong(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        _mute()
        return DONE
    except SystemExit as end:  # rich's own way to say the same
        if isinstance(end.__context__, BrokenPipeError):
            return DONE
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not _has_folder():
            return _wrong("the folder that this was called from is gone; call it from another one")
        if error.filename is not None or error.errno not in _UNWRITABLE:
            return _unexpected(error)
        _mute()
        return _wrong(f"what was to be shown cannot be written: {error.strerror}; send it elsewhere")
    except Exception as error:
        return _unexpected(error)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _hear_sigterm() -> Any:
    """SIGTERM is Ctrl-C; hands back what was heard before, None where it cannot be changed."""

    def heard(number: int, frame: Any) -> None:
        raise KeyboardInterrupt("SIGTERM")

    try:
        return signal.signal(signal.SIGTERM, heard)
    except ValueError:  # not the main thread
        return None


def _verb(tokens: list[str]) -> str:
    return f"{tokens[0]} " if tokens and tokens[0] in verbs() else ""


def _mute() -> None:
    """Nothing more is written to the process's output, so that its end cannot fail on what waits there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _has_folder() -> bool:
    """Whether the folder that the process stands in is there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _unexpected(error: Exception) -> int:
    return _wrong(
        f"eitherway failed in a way it should not: {type(error).__name__}: {error}\n"
        f"Please report this, with what is shown if you set {FULL}=1 and run it again."
    )


def _wrong(message: str) -> int:
    if os.environ.get(FULL):
        traceback.print_exc()
    try:
        print(message, file=sys.stderr)
    except OSError:
        pass
    return MISTAKE
