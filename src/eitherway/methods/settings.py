"""A method's settings as plain JSON values, and back: for files that keep a run, where no code may be stored."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from eitherway.base.errors import MethodError
from eitherway.methods import _class, known
from eitherway.space.condition import describe
from eitherway.space.plain import plain, unplain

if TYPE_CHECKING:
    from eitherway.methods.protocol import Method


def settings_to_plain(method: Any) -> dict[str, Any]:
    """A method as its class and its settings; methods among the settings as themselves.

    >>> from eitherway.methods import get
    >>> settings_to_plain(get("randomsearch"))
    {'@method': 'RandomSearch', 'rows': 8, 'points': 'quasi'}
    """
    if not dataclasses.is_dataclass(method) or isinstance(method, type):
        return {"@method": type(method).__qualname__, "described": describe(method)}
    fields = {f.name: _plain(getattr(method, f.name)) for f in dataclasses.fields(method) if f.init}
    return {"@method": type(method).__qualname__, **fields}


def settings_from_plain(kept: dict[str, Any]) -> Method:
    """The method that `settings_to_plain` was given, if it is one that is known here by name.

    Raises:
        MethodError: if the method is not installed, or was set to something that JSON cannot hold.
    """
    kept = dict(kept)
    name = kept.pop("@method")
    methods = known()
    cls = _class(name.lower(), methods[name.lower()]) if name.lower() in methods else None
    if cls is None or cls.__qualname__ != name or not dataclasses.is_dataclass(cls):
        raise MethodError(f"the method {name} is not installed here; expected one of {', '.join(methods)}")
    try:
        return cls(**{field: _unplain(value) for field, value in kept.items()})  # type: ignore[return-value]
    except (TypeError, ValueError) as error:
        raise MethodError(f"the method {name} cannot be made again from its settings: {error}") from None


def _is_method(value: Any) -> bool:
    return all(hasattr(value, rule) for rule in ("init", "ask", "tell")) and not isinstance(value, type)


def _plain(value: Any) -> Any:
    if _is_method(value):
        return settings_to_plain(value)
    if type(value) is tuple:
        return {"@tuple": [_plain(item) for item in value]}
    if type(value) is list:
        return [_plain(item) for item in value]
    return plain(value)


def _unplain(value: Any) -> Any:
    if isinstance(value, dict) and "@method" in value:
        return settings_from_plain(value)
    if isinstance(value, dict) and "@tuple" in value:
        return tuple(_unplain(item) for item in value["@tuple"])
    if isinstance(value, list):
        return [_unplain(item) for item in value]
    return unplain(value)
