"""A space as plain JSON values, and back: for files that keep a run, where no code may be stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eitherway.base.errors import SpaceError
from eitherway.space.condition import Condition, describe
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice, Integer, Real, Variable

_KINDS: dict[str, type] = {"Real": Real, "Integer": Integer, "Choice": Choice, "Array": Array}
_FIELDS: dict[str, tuple[str, ...]] = {
    "Real": ("low", "high", "scale", "start", "spread", "step"),
    "Integer": ("low", "high", "scale"),
    "Choice": ("options",),
    "Array": ("shape", "low", "high", "scale", "start", "spread", "dtype"),
}


def plain(value: Any) -> Any:
    """A value as JSON can hold it, to the last bit; what has no plain form is told by its description.

    Numbers that JSON has no word for, tuples, sets and arrays are dicts of one entry whose name begins with "@".

    >>> plain({"x": (1, float("inf")), "f": len})
    {'x': {'@tuple': [1, {'@number': 'inf'}]}, 'f': {'@described': 'builtins.len'}}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"@number": repr(value)}
    if type(value) is list:
        return [plain(item) for item in value]
    if type(value) is tuple:
        return {"@tuple": [plain(item) for item in value]}
    if type(value) in (set, frozenset):
        return {"@set": sorted((plain(item) for item in value), key=repr)}
    if type(value) is dict and all(type(key) is str and not key.startswith("@") for key in value):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return {"@array": [value.dtype.str, list(value.shape), [plain(item) for item in value.ravel().tolist()]]}
    return {"@described": describe(value)}


def unplain(value: Any, *, strict: bool = True) -> Any:
    """What `plain` was given.

    Args:
        strict: False gives the description in place of what had no plain form.

    Raises:
        SpaceError: if it had no plain form.
    """
    if isinstance(value, list):
        return [unplain(item, strict=strict) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), "")
    inside: Any = value.get(kind)
    if kind == "@number":
        return float(inside)
    if kind == "@tuple":
        return tuple(unplain(item, strict=strict) for item in inside)
    if kind == "@set":
        return {unplain(item, strict=strict) for item in inside}
    if kind == "@array":
        dtype, shape, items = inside
        return np.array([unplain(item) for item in items], dtype).reshape(shape)
    if kind == "@described":
        if strict:
            raise SpaceError(f"{inside} is known by its name only; expected a number, a text, a list or an array")
        return inside
    return {key: unplain(item, strict=strict) for key, item in value.items()}


def space_to_plain(space: Space) -> dict[str, Any]:
    """A space as JSON values: variables by name with their conditions, and the starts at the user's own numbers."""
    variables = {name: _variable_to_plain(variable) for name, variable in space.variables.items()}
    starts = [
        {"point": plain(point.tolist()), "value": plain(value)}
        for point, value in zip(space.starts, space.decode(space.starts) if len(space.starts) else [], strict=True)
    ]
    return {"lone": space.lone, "variables": variables, "starts": starts}


def space_from_plain(kept: dict[str, Any], *, strict: bool = True) -> Space:
    """The space that `space_to_plain` was given, column for column and bit for bit.

    Args:
        strict: False puts descriptions in place of options that are objects, for reading; such a space cannot be
            searched.

    Raises:
        SpaceError: naming the variable whose options or conditions are objects that JSON cannot hold.
    """
    variables: dict[str, Variable] = {}
    for name, each in kept["variables"].items():
        try:
            variables[name] = _variable_from_plain(each, strict)
        except SpaceError as error:
            raise SpaceError(f"the variable {name!r} cannot be made again: {error}") from None
    made = Space(variables["value"]) if kept["lone"] else Space(**variables)
    if kept["starts"]:
        values = [unplain(start["value"], strict=strict) for start in kept["starts"]]
        points = np.array([unplain(start["point"]) for start in kept["starts"]], float)
        again = object.__new__(Space)
        again.__dict__.update(made.__dict__)
        again.starts = points
        # the points themselves, not `with_starts`: it would put inactive columns elsewhere than the user did
        again._given = {point.tobytes(): value for point, value in zip(points, values, strict=True)}
        return again
    return made


def _variable_to_plain(variable: Variable) -> dict[str, Any]:
    kind = type(variable).__name__
    fields: dict[str, Any] = {}
    for name in _FIELDS[kind]:
        value = getattr(variable, name)
        fields[name] = [plain(option) for option in value] if name == "options" else plain(value)
    conditions = [[condition.parent, plain(condition.wanted)] for condition in variable.conditions]
    return {"kind": kind, **fields, **({"when": conditions} if conditions else {})}


def _variable_from_plain(kept: dict[str, Any], strict: bool) -> Variable:
    kind = kept["kind"]
    fields = {name: unplain(kept[name], strict=strict) for name in _FIELDS[kind]}
    if kind == "Choice" and not strict:  # two options may share a description
        fields["options"] = _apart(fields["options"])
    conditions = tuple(Condition(parent, unplain(wanted, strict=strict)) for parent, wanted in kept.get("when", ()))
    return _KINDS[kind](**fields, conditions=conditions)


def _apart(options: list[Any]) -> list[Any]:
    seen: list[Any] = []
    for option in options:
        text, n = option, 2
        while any(type(text) is type(other) and text == other for other in seen if not isinstance(text, np.ndarray)):
            text, n = f"{option} ({n})", n + 1
        seen.append(text)
    return seen
