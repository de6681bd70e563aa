"""How to search: methods that ask for points and are told values. Nothing here calls a cost, prints or keeps a file.

Every module of `variables/` and `auto/` that holds a class of its own name (`random_search` holds `RandomSearch`)
is a method; so is every entry point of the group `eitherway.methods`. Nothing else has to be told of a new one.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from eitherway.base.errors import MethodError, nearest

if TYPE_CHECKING:
    from eitherway.methods.protocol import Method

_FLOORS = ("variables", "auto")


def known() -> dict[str, str]:
    """Name as a string (the class name in lower case) -> where its class lives, "module:name" or a module."""
    found = {}
    for floor in _FLOORS:
        package = import_module(f"{__name__}.{floor}")
        for module in iter_modules(package.__path__):
            if not module.ispkg and not module.name.startswith("_"):
                found[module.name.replace("_", "")] = f"{package.__name__}.{module.name}"
    for entry in entry_points(group="eitherway.methods"):
        found[entry.name.lower()] = entry.value
    # a module without a class of its own name is a part of a method, not one
    return {name: where for name, where in sorted(found.items()) if ":" in where or _class(name, where) is not None}


def _class(name: str, where: str) -> Any:
    module, _, attribute = where.partition(":")
    loaded = import_module(module)
    if attribute:
        return getattr(loaded, attribute)
    return next((c for n, c in vars(loaded).items() if n.lower() == name and isinstance(c, type) and c.__module__ == module), None)


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
            raise MethodError(f"method={method!r} is not a method; expected a name such as 'cmaes', or one such as ew.methods.CMAES()")
        return method
    methods = known()
    name = method.lower().replace("_", "").replace("-", "")
    if name not in methods:
        raise MethodError(f"there is no method {method!r}. {nearest(name, methods)}")
    return _class(name, methods[name])()


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        methods = known()
        if name.lower() in methods:
            found = _class(name.lower(), methods[name.lower()])
            if found.__name__ == name:
                return found
    raise AttributeError(f"eitherway.methods has no {name!r}")


def __dir__() -> list[str]:
    return ["known", "get", *(_class(name, where).__name__ for name, where in known().items())]
