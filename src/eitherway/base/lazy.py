"""Public names of a folder, each imported at its first use: importing the folder itself loads nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy(
    package: str, where: Mapping[str, str], *, submodules: Sequence[str] = (), known: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a folder's `__init__` (PEP 562).

    Args:
        package: the folder's `__name__`.
        where: public names and the modules that hold them.
        submodules: folders inside that are public names themselves.
        known: the end of the message about an unknown name; by default the names themselves.

    >>> __getattr__, __dir__ = lazy(__name__, {"sqrt": "math"})
    >>> __getattr__("sqrt")(9.0)
    3.0
    """
    known = known or f"it has {', '.join((*where, *submodules))}"

    def find(name: str) -> Any:
        """Import a public name at its first use, and keep it."""
        if name in where:
            found = getattr(import_module(where[name]), name)
        elif name in submodules:
            found = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; {known}")
        vars(sys.modules[package])[name] = found
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where, *submodules})

    return find, names
