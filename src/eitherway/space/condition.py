"""When a variable takes part: only while others have one of some values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from eitherway.base.errors import SpaceError

V = TypeVar("V", bound="Conditional")


def describe(thing: Any) -> str:
    """A text that is the same in every process: what has no such `repr` is told by its name or type, a set in order."""
    if type(thing) in (set, frozenset) and thing:
        members = "{" + ", ".join(sorted(map(describe, thing))) + "}"
        return members if type(thing) is set else f"frozenset({members})"
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
