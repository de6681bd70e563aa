"""What a method's settings may be: said once, beside the type of each, and looked at when a method is made.

A setting's type is its first rule (`int` is a whole number, `float` a finite one, `Literal` one of a few words), and
`Annotated[float, Range(above=0)]` adds bounds. A method's `__post_init__` calls `check(self)`, and that is all.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from eitherway.base.errors import EitherwayError, MethodError
from eitherway.methods.protocol import Method

_LONGEST = 60  # characters of a wrong value that are shown: an array given for a number would fill the screen


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number: `least` and `most` are allowed themselves, `above` and `below` are not.

    >>> str(Range(above=0)), str(Range(least=4)), str(Range(least=0, below=1))
    ('above 0', '4 or more', 'from 0 to below 1')
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, number: float) -> bool:
        return self.least <= number <= self.most and self.above < number < self.below

    def __str__(self) -> str:
        low, high = max(self.least, self.above), min(self.most, self.below)
        if high == math.inf:
            return f"above {low}" if low == self.above else f"{low} or more"
        if low == self.above and high == self.below:
            return f"between {low} and {high}"
        return f"{'above' if low == self.above else 'from'} {low} to {'below ' if high == self.below else ''}{high}"


def check(made: Any, error: type[EitherwayError] = MethodError) -> None:
    """Looks at every setting of a method, or another dataclass, that has just been made.

    A number of NumPy's becomes Python's: eight bits of `uint8` or the 16 of `float16` are not enough to compute with.

    Args:
        made: a dataclass; settings whose type is none of those above are left to it.
        error: what is raised.

    Raises:
        MethodError: for the first setting that is not of its type or within its range; it says what would be.
    """
    for field, kind in _settings(type(made)):
        value = getattr(made, field.name)
        if isinstance(value, np.generic):
            value = value.item()
            object.__setattr__(made, field.name, value)  # a method is frozen
        if not _fits(value, kind):
            shown = repr(value)
            shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
            unset = field.default is None or isinstance(field.default, str | tuple | dataclasses._MISSING_TYPE)
            such = "" if unset else f", such as {field.default:.4g}"
            raise error(f"{type(made).__name__} got {field.name}={shown}; expected {_words(kind)}{such}")


@cache
def _settings(cls: type) -> list[tuple[Any, Any]]:
    """The settings of a class with their types, ranges included."""
    kinds = get_type_hints(cls, include_extras=True)
    return [(field, kinds[field.name]) for field in dataclasses.fields(cls) if field.init]


def _fits(value: Any, kind: Any) -> bool:
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _fits(value, inside[0]) and (value is None or value in inside[1])
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in inside)
    if origin is tuple:
        return isinstance(value, tuple | list) and all(_fits(item, inside[0]) for item in value)
    if kind is type(None):
        return value is None
    if kind is int:
        return is_whole(value)
    if kind is float:
        return is_number(value)
    if kind is Method:
        return not isinstance(value, type) and all(hasattr(value, rule) for rule in ("init", "ask", "tell"))
    return True


def is_whole(value: Any) -> bool:
    """Whether a value is an int, Python's or NumPy's; True and False are no numbers here, nor is 8.0 a whole one."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is an int or a float that can be computed with in float64."""
    plain = value.item() if isinstance(value, np.generic) else value
    return isinstance(plain, int | float) and not isinstance(plain, bool) and -1e308 < plain < 1e308


def _words(kind: Any) -> str:
    """What is expected, in words."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        optional = type(None) in get_args(inside[0])
        whole = int in (inside[0], *get_args(inside[0]))
        return f"a {'whole ' if whole else ''}number {inside[1]}{', or None' if optional else ''}"
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in inside)
    if origin is Literal:
        return f"{', '.join(map(repr, inside[:-1]))} or {inside[-1]!r}"
    if origin is tuple:
        return "a tuple of methods such as (CMAES(), DE()), not their names"
    return {int: "a whole number", float: "a finite number"}.get(kind, "None" if kind is type(None) else str(kind))
