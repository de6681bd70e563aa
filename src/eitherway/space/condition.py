"""When a variable takes part: only while others have one of some values."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from eitherway.base.errors import SpaceError

V = TypeVar("V", bound="Conditional")


def describe(thing: Any) -> str:
    """A text that is the same in every process: what has no such `repr` is told by its name or type, a set in order.

    >>> describe({1: ({"b", "a"}, len)})
    "{1: ({'a', 'b'}, builtins.len)}"
    """
    return _describe(thing, ())


def _describe(thing: Any, inside: tuple[int, ...]) -> str:
    """The same within others, whose ids are known: what contains itself ends."""
    if id(thing) in inside:
        return "..."
    inner = (*inside, id(thing))
    if type(thing) in (list, tuple, set, frozenset):
        texts = [_describe(item, inner) for item in thing]
        if type(thing) is list:
            return f"[{', '.join(texts)}]"
        if type(thing) is tuple:
            return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
        members = f"{{{', '.join(sorted(texts))}}}" if texts else ""
        return (members or "set()") if type(thing) is set else f"frozenset({members})"
    if type(thing) is dict:
        return f"{{{', '.join(f'{_describe(k, inner)}: {_describe(v, inner)}' for k, v in thing.items())}}}"
    if is_dataclass(thing) and hasattr(type(thing).__repr__, "__wrapped__"):  # the repr that dataclasses make
        parts = [f"{f.name}={_describe(getattr(thing, f.name), inner)}" for f in fields(thing) if f.repr]
        return f"{type(thing).__qualname__}({', '.join(parts)})"
    if callable(thing) and hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    text = repr(thing)
    return f"<{type(thing).__module__}.{type(thing).__qualname__}>" if " at 0x" in text else text


@dataclass(frozen=True)
class Condition:
    """A variable takes part only while another one has one of some values (or satisfies a predicate)."""

    parent: str
    wanted: Any

    def holds(self, value: Any) -> bool:
        if callable(self.wanted):
            return bool(self.wanted(value))
        if isinstance(self.wanted, (list, tuple, set, frozenset)):
            return value in tuple(self.wanted)  # a set would want to hash an option that may be a list
        return bool(value == self.wanted)

    def __repr__(self) -> str:
        return f"{self.parent}={describe(self.wanted)}"


def text(variable: Any, *parts: str) -> str:
    when = f".when({', '.join(map(repr, variable.conditions))})" if variable.conditions else ""
    return f"{type(variable).__name__}({', '.join(p for p in parts if p)}){when}"


class Conditional:
    """Only what is said of a variable by others: when it takes part."""

    conditions: tuple[Condition, ...]

    def when(self: V, **conditions: Any) -> V:
        """The same variable, left out of the call unless every condition holds.

        Args:
            conditions: name of another variable -> a value, a list of values, or a predicate.

        >>> from eitherway.space.variables import Integer
        >>> Integer(1, 8).when(act="relu")
        Integer(1, 8).when(act='relu')
        """
        if not conditions:
            raise SpaceError('when() got no condition; expected one such as when(act="relu")')
        return replace(self, conditions=(*self.conditions, *(Condition(*c) for c in conditions.items())))  # type: ignore[type-var]
