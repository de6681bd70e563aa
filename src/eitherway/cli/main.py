"""Finds the verbs, hands them their arguments, and says what went wrong in one message."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from eitherway import __version__
from eitherway.base.errors import EitherwayError

DONE, MISTAKE, INTERRUPTED = 0, 1, 130
"""Exit codes; a verb returns one of them."""
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and says how it ended.

    Args:
        arguments: None takes those of the process.

    Returns:
        the exit code: 0 done, 1 a mistake in what was given, 130 interrupted.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    previous = _hear_sigterm()
    try:
        code = app(tokens[0] if tokens else None)(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return DONE if code is None else int(code)
    except CycloptsError as error:
        return _wrong(f"{error} See: eitherway {_verb(tokens)}--help")
    except EitherwayError as error:
        return _wrong(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except Exception as error:
        return _wrong(
            f"eitherway failed in a way it should not: {type(error).__name__}: {error}\n"
            f"Please report this, with what is shown if you set {FULL}=1 and run it again."
        )
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


def _wrong(message: str) -> int:
    if os.environ.get(FULL):
        traceback.print_exc()
    try:
        print(message, file=sys.stderr)
    except OSError:
        pass
    return MISTAKE
