"""Whole numbers on the command line: 1.5 is none, and 1e4 is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter


def whole(kind: Any, tokens: Sequence[Any]) -> int:
    """The number that a word says.

    Raises:
        ValueError: if it says none; the parser adds for which flag.
    """
    word = tokens[0].value
    try:
        return int(word)
    except ValueError:
        pass
    try:
        number = float(word)
    except ValueError:
        number = 0.5
    if not number.is_integer():
        raise ValueError(f'expected a whole number, got "{word}".')
    return int(number)


Whole = Annotated[int, Parameter(converter=whole)]
"""The type of a flag that counts."""
