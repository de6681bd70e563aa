"""Which function a run was begun with: its name, a hash of its code, and where to find it again."""

from __future__ import annotations

import dataclasses
import dis
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from hashlib import blake2b
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from eitherway.base.errors import JournalError
from eitherway.space.plain import plain


def identity(thing: Any) -> dict[str, Any]:
    """What tells a cost from another, the same in every process and on every machine, and `where` to find it again.

    The code is hashed as it was compiled, so comments, line numbers and layout do not count, nor does what else
    stands in the statement of a lambda. What a function closes over counts where it is a plain value that the
    function does not change; of an object count the fields of a frozen dataclass, else texts and frozen dataclasses
    among its attributes: numbers there may be counters.

    >>> def cost(x): return x * x
    >>> def same(x):
    ...     return x * x  # the square
    >>> identity(cost)["code"] == identity(same)["code"]
    True
    """
    settings: dict[str, Any] = {}
    inner = thing
    if isinstance(inner, functools.partial):
        settings = {"args": plain(inner.args), "keywords": plain(dict(inner.keywords))}
        inner = inner.func
    owner = inner.__self__ if inspect.ismethod(inner) else inner
    names = inner if hasattr(inner, "__qualname__") else type(inner)
    if not inspect.isroutine(owner) and not isinstance(owner, type):
        settings |= _settings(owner, frozenset())
    settings |= _closed_over(inner)
    found: dict[str, Any] = {"name": names.__qualname__, "code": _code_hash(inner)}
    if settings:
        found["settings"] = settings
    return {**found, "where": _where(thing, inner)}


def find(kept: dict[str, Any], what: str, instead: str) -> Any:
    """The function that `identity` described, imported from where it was.

    Only the module or the script that the journal names is imported, as any import would; nothing else is executed.

    Args:
        kept: the identity.
        what: "cost" or "constraint".
        instead: what to do where it cannot be imported.

    Raises:
        JournalError: if it cannot be imported.
    """
    where, name = kept["where"], kept["name"]
    if where is None:
        raise JournalError(f"the {what} {name} cannot be imported, since no module holds it by a name; {instead}")
    try:
        found: Any = _module(where["module"], where["file"])
        for part in where["name"].split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        place = where["file"] or where["module"]
        raise JournalError(f"the {what} {place}:{where['name']} cannot be imported ({error}); {instead}") from None
    return found


# ---- settings --------------------------------------------------------------------------------------------------------
def _frozen(thing: Any) -> bool:
    parameters = getattr(type(thing), "__dataclass_params__", None)
    return parameters is not None and parameters.frozen


def _settings(owner: Any, seen: frozenset[int]) -> dict[str, Any]:
    """What an object was set to, as far as it stays so."""
    if id(owner) in seen:
        return {}
    seen |= {id(owner)}
    if _frozen(owner):
        return {f.name: _setting(getattr(owner, f.name), seen) for f in dataclasses.fields(owner)}
    attributes = sorted(getattr(owner, "__dict__", {}).items())
    return {name: _setting(value, seen) for name, value in attributes if isinstance(value, str) or _frozen(value)}


def _setting(value: Any, seen: frozenset[int]) -> Any:
    if _frozen(value):
        return {"of": type(value).__qualname__, **_settings(value, seen)}
    if inspect.isroutine(value):
        return {"name": value.__qualname__, "code": _code_hash(value)}
    if isinstance(value, np.ndarray) and value.size > 64:
        return f"{value.dtype} {value.shape} {blake2b(value.tobytes(), digest_size=8).hexdigest()}"
    return plain(value)


# ---- code ----------------------------------------------------------------------------------------------------------
def _code_hash(thing: Any) -> str | None:
    digest = blake2b(digest_size=8)
    known = False
    functions = [_unwrapped(thing)] if not isinstance(thing, type) and hasattr(_unwrapped(thing), "__code__") else []
    if not functions and not inspect.isroutine(thing):  # an object: every function of its class
        classes: list[Any] = [cls for cls in inspect.getmro(type(thing)) if cls is not object]
        functions = [f for cls in classes for _, f in sorted(vars(cls).items()) if inspect.isfunction(f)]
    for function in functions:
        _feed(digest, function.__code__, function.__doc__)
        digest.update(repr(plain(function.__defaults__)).encode())
        known = True
    return digest.hexdigest() if known else None


def _unwrapped(thing: Any) -> Any:
    inner = getattr(thing, "__func__", thing)
    try:
        return inspect.unwrap(inner)
    except ValueError:
        return inner


def _feed(digest: Any, code: CodeType, doc: str | None) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)).encode())
    constants: tuple[Any, ...] = code.co_consts
    for constant in constants:
        if isinstance(constant, CodeType):
            _feed(digest, constant, None)
        elif isinstance(constant, frozenset):
            digest.update(repr(sorted(map(repr, constant))).encode())
        elif not (isinstance(constant, str) and constant == doc):
            digest.update(f"{type(constant).__name__}{constant!r}".encode())


def _closed_over(function: Any) -> dict[str, Any]:
    """The plain values that a function closes over and leaves as they are."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or not cells:
        return {}
    changed = {i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_DEREF", "DELETE_DEREF")}
    values: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not set yet
            continue
        if name in changed:
            continue
        if isinstance(value, (bool, int, float, str, np.number)) or value is None:
            values[name] = plain(value)
        elif inspect.isfunction(value):
            values[name] = _code_hash(value)
    return values


# ---- places --------------------------------------------------------------------------------------------------------
def _where(thing: Any, inner: Any) -> dict[str, Any] | None:
    """The module, its file and the name under which a thing can be imported; None where it has no such name."""
    module_name = getattr(inner, "__module__", None) or type(inner).__module__
    modules = [sys.modules.get(name) for name in dict.fromkeys((module_name, type(inner).__module__, "__main__"))]
    for module in modules:
        if module is None:
            continue
        name = getattr(thing, "__qualname__", None)
        if name is None or _reach(module, name) is not thing:
            name = next((n for n, v in list(vars(module).items()) if v is thing), None)
        if name is not None:
            file = getattr(module, "__file__", None)
            spec = getattr(module, "__spec__", None)
            known = module.__name__ if module.__name__ != "__main__" or spec is None else spec.name
            return {"module": known, "file": None if file is None else os.path.abspath(file), "name": name}
    return None


def _reach(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _module(name: str, file: str | None) -> ModuleType:
    main = sys.modules.get("__main__")
    if file is not None and main is not None and os.path.abspath(getattr(main, "__file__", None) or "") == file:
        return main
    if name != "__main__":
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            if file is None:
                raise
    if file is None:
        raise ImportError("it was typed in, not read from a file")
    # not "__main__": a script's own guarded part must not run
    stem, folder = os.path.splitext(os.path.basename(file))[0], os.path.dirname(file)
    if stem.isidentifier() and stem not in sys.modules and folder not in sys.path:
        sys.path.append(folder)  # under its own name a worker finds it, too
    spec = importlib.util.spec_from_file_location(stem if folder in sys.path else "__eitherway_script__", file)
    if spec is None or spec.loader is None or not os.path.exists(file):
        raise ImportError(f"there is no script {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pickling and annotations look a function's module up
    spec.loader.exec_module(module)
    return module
