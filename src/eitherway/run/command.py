"""A program as a cost: run once a point, without a shell, its number read from what it prints."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import numpy as np

from eitherway.base.errors import CostError, Failed, nearest

NUMBER = re.compile(
    r"(?:(?<![A-Za-z_0-9])(?<!\d\.)|(?<=[0-9.])(?=[-+]))"
    r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|(?:inf(?:inity)?|nan)\b)",
    re.IGNORECASE,
)
"""A number as programs print them; exponents, inf and nan included. The 12 of step12 and the 1 of v2.1 are none."""
TAIL = 300
"""Characters of a program's last words that a failure keeps."""


def command(
    template: str | Sequence[str],
    parse: str | Callable[[str], Any] = "last",
    timeout: float | None = None,
    *,
    optional: Sequence[str] = (),
) -> Command:
    """A cost that runs a program for each point.

    Args:
        template: the program and its arguments; `{x}` stands for the variable x, `{x:.3f}` for it in that format. A
            text is cut into arguments as a shell would, but no shell runs: a value never becomes more than one
            argument, except that an argument which is nothing but `{x}` becomes one for each number of an Array.
        parse: "last" takes the last number printed; a regular expression takes its first group (or all of it) where it
            matches last; a function is given all that was printed and returns the value.
        timeout: seconds until the program, and what it started, are killed and the point counts as failed.
        optional: variables that a point may lack, because they are conditional: their argument is left out then, and
            with a bare `{x}` the option before it, too.

    Raises:
        CostError: if there is no such program, or the template or the expression cannot be read.

    >>> cost = command("python3 -c 'import sys; print(float(sys.argv[1]) ** 2)' {x}")
    >>> cost(x=3.0)
    9.0
    """
    try:
        arguments = tuple(shlex.split(template) if isinstance(template, str) else map(str, template))
    except ValueError as error:
        raise CostError(f"the command {template!r} cannot be cut into arguments ({error}); close its quotes") from None
    if not arguments:
        raise CostError("the command is empty; expected a program and its arguments, such as './sim --x {x}'")
    if not callable(parse) and parse != "last":
        try:
            re.compile(parse)
        except (re.error, TypeError) as error:
            raise CostError(
                f"parse={parse!r} cannot be used ({error}); expected 'last', a regular expression, or a function"
            ) from None
    if timeout is not None and not timeout > 0:
        raise CostError(f"timeout={timeout!r} was given; expected seconds above 0, or None for no limit")
    made = Command(arguments, parse, timeout, tuple(optional))
    made.names  # noqa: B018 - the template is read where it is given
    if "{" not in arguments[0]:
        made.program(arguments[0])
    return made


@dataclass(frozen=True)
class Command:
    """What `command` returns: called with the variables by name, or with a lone value. It can travel to workers."""

    arguments: tuple[str, ...]
    parse: str | Callable[[str], Any] = "last"
    timeout: float | None = None
    optional: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The variables that the template names, in order."""
        found: dict[str, None] = {}
        for argument in self.arguments:
            try:
                fields = [field for _, field, _, _ in Formatter().parse(argument) if field is not None]
            except ValueError as error:
                raise CostError(
                    f"the argument {argument!r} cannot be read ({error}); a variable is written {{x}}, a brace {{{{"
                ) from None
            found.update(dict.fromkeys(_name(field) for field in fields))
        return list(found)

    def check(self, variables: Iterable[str] | None) -> None:
        """Compares the template with the variables of a space.

        Args:
            variables: their names; None for a lone variable, which any one name stands for.

        Raises:
            CostError: if the template names something else, or nothing at all.
        """
        shown = shlex.join(self.arguments)
        if not self.names:
            raise CostError(
                f"the command {shown} names no variable, so every point would be the same; write {{x}} where x goes"
            )
        if variables is None:
            if len(self.names) > 1:
                raise CostError(
                    f"the command {shown} names {', '.join(self.names)}, and there is one lone variable; name one only"
                )
            return
        known = list(variables)
        for name in self.names:
            if name not in known:
                raise CostError(f"the command names {{{name}}}, which is no variable. {nearest(name, known)}")

    def __call__(self, *lone: Any, **values: Any) -> Any:
        """Runs the program once.

        Raises:
            Failed: if it ends with an error, prints no number, or takes too long.
            CostError: if it cannot be started, or the template names an unknown variable.
        """
        if lone:
            self.check(None)
            values = {self.names[0]: lone[0]}
        name, *rest = self.line(values)
        return self._read(self._run([self.program(name), *rest]))

    # ---- what is run ------------------------------------------------------------------------------------------------
    def line(self, values: dict[str, Any]) -> list[str]:
        """The program and its arguments at one point."""
        arguments: list[str] = []
        for argument in self.arguments:
            if self._lacks(argument, values):
                if WHOLE.fullmatch(argument) and arguments and arguments[-1].startswith("-"):
                    arguments.pop()
            else:
                arguments += self._filled(argument, values)
        return arguments

    def _lacks(self, argument: str, values: dict[str, Any]) -> bool:
        """Whether an argument names a variable that may be left out, and is."""
        missing = set(self.optional) - values.keys()
        return bool(missing) and any(
            f is not None and _name(f) in missing for _, f, _, _ in Formatter().parse(argument)
        )

    def _filled(self, argument: str, values: dict[str, Any]) -> list[str]:
        """One argument of the template with the values in it."""
        whole = WHOLE.fullmatch(argument)
        if whole and isinstance(values.get(whole[1]), np.ndarray):
            return [format(number, whole[2] or "") for number in values[whole[1]].ravel().tolist()]
        try:
            return [argument.format(**{name: _shown(value) for name, value in values.items()})]
        except KeyError as error:
            name = error.args[0]
            raise CostError(
                f"the command names {{{name}}}, which this point does not have. {nearest(name, values)}"
            ) from None
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise CostError(f"the argument {argument!r} cannot be filled ({error})") from None

    @staticmethod
    def program(name: str) -> str:
        """Where a program is.

        Raises:
            CostError: if it is nowhere, or must not be run.
        """
        found = shutil.which(name)
        if found is None:
            if os.path.isdir(name):
                why = "is a folder"
            elif os.path.exists(name):
                why = f"is there, but must not be run; try chmod +x {shlex.quote(name)}"
            elif os.path.dirname(name):
                why = f"does not exist (looked from {os.getcwd()})"
            else:
                why = f"is nowhere on the PATH; for one in this folder write ./{name}"
            raise CostError(f"the program {name} {why}")
        return found

    def _run(self, arguments: list[str]) -> str:
        """What the program prints. It runs in a session of its own, so that all it starts can be killed with it."""
        waiting = _Signals()
        try:
            with waiting:
                process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                    preexec_fn=_die_with_parent if multiprocessing.parent_process() else None,
                )
        except OSError as error:
            raise CostError(
                f"the program {arguments[0]} cannot be started ({error.strerror}); is it a program for this machine?"
            ) from None
        try:
            waiting.deliver()
            out, err = process.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise Failed(f"the program took longer than {self.timeout:g} s") from None
        except BaseException:  # Ctrl-C and SIGTERM come as KeyboardInterrupt
            _kill(process)
            raise
        if process.returncode:
            code = process.returncode
            how = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
            raise Failed(f"the program {how}{_last_words(err)}")
        if callable(self.parse):
            return out
        if not self._matches(out):
            wanted = "no number" if self.parse == "last" else f"nothing that matches {self.parse!r}"
            raise Failed(f"the program printed {wanted}{_last_words(out)}")
        return out

    def _matches(self, out: str) -> list[re.Match[str]]:
        expression = NUMBER if self.parse == "last" else re.compile(str(self.parse), re.MULTILINE)
        return list(expression.finditer(out))

    def _read(self, out: str) -> Any:
        if callable(self.parse):
            return self.parse(out)
        last = self._matches(out)[-1]
        text = last.group(1) if last.re.groups else last.group()
        try:
            return float(text)
        except (TypeError, ValueError):
            raise Failed(f"parse={self.parse!r} found {text!r}, which is not a number") from None


WHOLE = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
"""An argument that is one variable and nothing else."""


def _name(field: str) -> str:
    return re.split(r"[.\[]", field)[0]


class _Numbers(str):
    """An Array's numbers, with commas between them; a format goes to each."""

    numbers: list[float]

    def __format__(self, spec: str) -> str:
        return ",".join(format(number, spec) for number in self.numbers)

    def __getitem__(self, index: Any) -> Any:
        return self.numbers[int(index)]


def _shown(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    text = _Numbers()
    text.numbers = value.ravel().tolist()
    return text


def _last_words(text: str) -> str:
    lines = text.strip()
    if not lines:
        return ""
    return ": " + (lines if len(lines) <= TAIL else "..." + lines[-TAIL:])


class _Signals:
    """Inside, Ctrl-C and SIGTERM wait: one that came while a program starts would leave it running, known to nobody."""

    def __init__(self) -> None:
        self._came: list[tuple[int, Any]] = []
        self._old: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):
                    self._old[number] = signal.signal(number, lambda *came: self._came.append(came))

    def __exit__(self, *error: object) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)

    def deliver(self) -> None:
        """Now."""
        for number, frame in self._came:
            self._old[number](number, frame)


def _kill(process: subprocess.Popen[str]) -> None:
    """Ends a program and all it started, and waits for it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()


# A worker may be killed outright, and then nobody is left to end its program: Linux does it for us. The library is
# looked up here, not between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
