"""How to search: methods that ask for points and are told values. Nothing here calls a cost, prints or keeps a file.

Every module of `variables/` and `auto/` that holds a class of its own name (`random_search` holds `RandomSearch`)
is a method; so is every entry point of the group `eitherway.methods`. Nothing else has to be told of a new one.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from eitherway.base.errors import MethodError, nearest

if TYPE_CHECKING:
    from eitherway.methods.protocol import Method

_FLOORS = ("variables", "auto")


@cache
def known() -> dict[str, str]:
    """Name as a string (the class name in lower case) -> where its class lives, "module:name" or a module."""
    found = _ours() | {entry.name.lower(): entry.value for entry in entry_points(group="eitherway.methods")}
    # a module without a class of its own name is a part of a method, not one
    return {name: where for name, where in sorted(found.items()) if ":" in where or _class(name, where) is not None}


@cache
def _ours() -> dict[str, str]:
    """The modules of our own folders, by the name of the method they may hold: looked up without importing them."""
    packages = [import_module(f"{__name__}.{floor}") for floor in _FLOORS]
    return {
        module.name.replace("_", ""): f"{package.__name__}.{module.name}"
        for package in packages
        for module in iter_modules(package.__path__)
        if not module.ispkg and not module.name.startswith("_")
    }


def _class(name: str, where: str) -> Any:
    module, _, attribute = where.partition(":")
    loaded = import_module(module)
    if attribute:
        return getattr(loaded, attribute)
    return next(
        (c for n, c in vars(loaded).items() if n.lower() == name and isinstance(c, type) and c.__module__ == module),
        None,
    )


def get(method: str | Method) -> Method:
    """A method by name, with its own settings as they stand; a method is handed back as it is.

    Raises:
        MethodError: if no method has this name; the nearest one is named.

    >>> get("randomsearch")
    RandomSearch(rows=8, points='quasi')
    """
    if not isinstance(method, str):
        if isinstance(method, type):
            raise MethodError(f"method={method.__name__} is a class; expected one of its own: {method.__name__}()")
        if not all(hasattr(method, rule) for rule in ("init", "ask", "tell")):
            raise MethodError(
                f"method={method!r} is not a method; expected a name such as 'cmaes', or one such as ew.methods.CMAES()"
            )
        return method
    name = method.lower().replace("_", "").replace("-", "")
    found = _find(name)
    if found is None:
        raise MethodError(f"there is no method {method!r}. {nearest(name, known())}")
    return found()


def _find(name: str) -> Any:
    """The class of a name in lower case; packages installed beside us are only looked through where it is not ours."""
    if name in _ours():
        return _class(name, _ours()[name])
    where = known().get(name)
    return None if where is None else _class(name, where)


def __getattr__(name: str) -> Any:
    found = None if name.startswith("_") else _find(name.lower())
    if found is None or found.__name__ != name:
        raise AttributeError(f"eitherway.methods has no {name!r}")
    return found


def __dir__() -> list[str]:
    return ["known", "get", *(_class(name, where).__name__ for name, where in known().items())]
