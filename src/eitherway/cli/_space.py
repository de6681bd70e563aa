"""A space in a TOML file: a table a variable.

[lr]
type = "real"          # low and high, or start and spread for an open side; scale = "log"; step
low = 1e-5
high = 1
scale = "log"

[layers]
type = "integer"       # low, high; scale = "log"
low = 1
high = 8

[act]
type = "choice"
options = ["relu", "gelu"]

[slope]
type = "real"
low = 0.0
high = 0.5
when = {act = "relu"}  # takes part only then; a list for several values

[weights]
type = "array"         # shape, low, high, start, spread (numbers, or arrays of the shape), scale, dtype
shape = [3]
low = -1
high = 1
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eitherway.base.errors import SpaceError, nearest

if TYPE_CHECKING:
    from eitherway.space.space import Space
    from eitherway.space.variables import Variable

_KEYS = {
    "real": ("low", "high", "scale", "start", "spread", "step"),
    "integer": ("low", "high", "scale"),
    "choice": ("options",),
    "array": ("shape", "low", "high", "scale", "start", "spread", "dtype"),
}
_EXAMPLE = '[x]\\ntype = "real"\\nlow = -5\\nhigh = 5'.replace("\\n", "\n")


def read_space(path: Path) -> Space:
    """The space that a TOML file describes.

    Raises:
        SpaceError: naming the file, the table and the key that cannot be used.
    """
    from eitherway.space.space import Space

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpaceError(f"there is no file {path}; expected a space such as\n{_EXAMPLE}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} cannot be read ({error}); expected a TOML file such as\n{_EXAMPLE}") from None
    except tomllib.TOMLDecodeError as error:
        raise SpaceError(f"{path} is not TOML: {error}") from None
    if not tables:
        raise SpaceError(f"{path} is empty; expected a table a variable, such as\n{_EXAMPLE}")
    for name in tables:
        if not name.isidentifier():
            raise SpaceError(f"{path}: [{name}] cannot be a variable; expected a name such as x or learning_rate")
    try:
        return Space(**{name: _variable(f"{path}: [{name}]", table) for name, table in tables.items()})
    except SpaceError as error:
        text = str(error)
        raise SpaceError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _variable(where: str, table: Any) -> Variable:
    from eitherway.space.variables import Array, Choice, Integer, Real

    if not isinstance(table, dict):
        raise SpaceError(f"{where} is {table!r}; expected a table such as\n{_EXAMPLE}")
    kind = table.get("type")
    if kind is None:
        raise SpaceError(f"{where} has no type; expected type = one of {', '.join(map(repr, _KEYS))}")
    if kind not in _KEYS:
        raise SpaceError(f"{where} has type {kind!r}. {nearest(str(kind), _KEYS)}")
    known = (*_KEYS[kind], "when")
    for key in table:
        if key not in ("type", *known):
            raise SpaceError(f"{where} has a key {key!r} that a {kind} does not know. {nearest(key, known)}")
    fields = {key: value for key, value in table.items() if key not in ("type", "when")}
    made = {"real": Real, "integer": Integer, "choice": Choice, "array": Array}[kind]
    try:
        variable = made(**fields)
        return variable.when(**table["when"]) if "when" in table else variable
    except SpaceError as error:
        raise SpaceError(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key} = {value!r}" for key, value in table.items())
        raise SpaceError(f"{where} cannot be made from {given} ({error}); it takes {', '.join(known)}") from None
