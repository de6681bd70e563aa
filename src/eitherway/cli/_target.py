"""What is to be minimised, from words: a function in a file or a module, a test function, or a program."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eitherway.base.errors import CostError, nearest

_PLACES = "expected file.py:name or package.module:name"
_FORMS = "expected file.py:name, package.module:name, or the name of a test function"


@dataclass(frozen=True)
class Target:
    """A cost and what may vary.

    Args:
        cost: the function, or the program.
        space: None where the cost's own annotations say it.
        name: how it was called for.
    """

    cost: Any
    space: Any
    name: str


def find(words: Sequence[str], space_file: Path | None, dimension: int | None = None) -> Target:
    """The cost that words on the command line call for.

    Args:
        words: TARGET alone; or a program and its arguments.
        space_file: a TOML file; None takes the object named `space` beside the cost, or the cost's annotations.
        dimension: of a test function.

    Raises:
        CostError, SpaceError: if there is no such thing, or it cannot be imported.
    """
    from eitherway.cli._space import read_space

    if not words:
        raise CostError(f"nothing was given to minimise; {_FORMS}, or a program: --space space.toml -- ./sim --x {{x}}")
    space = None if space_file is None else read_space(space_file)
    if len(words) > 1 or "{" in words[0]:
        return _program(words, space)
    if ":" not in words[0]:
        return _test_function(words[0], space, dimension)
    if dimension is not None:
        raise CostError("--dimension is for test functions only; a cost of yours takes what its space says")
    module, cost = load(words[0])
    return Target(cost, getattr(module, "space", None) if space is None else space, words[0])


def load(word: str) -> tuple[Any, Any]:
    """The module and the object that `file.py:name` or `package.module:name` calls for.

    Raises:
        CostError: if there is no such thing, or it cannot be imported.
    """
    place, _, name = word.rpartition(":")
    module = _from_file(Path(place)) if place.endswith(".py") or "/" in place else _from_module(place)
    return module, _named(module, name, place)


def _program(words: Sequence[str], space: Any) -> Target:
    from eitherway.run.command import command

    cost = command(words[0] if len(words) == 1 else list(words))
    if space is None:
        raise CostError(f"what may vary is not said; give --space space.toml for {', '.join(cost.names) or words[0]}")
    cost.check(space.variables)
    optional = [name for name, variable in space.variables.items() if variable.conditions]
    return Target(command(cost.arguments, optional=optional), space, " ".join(cost.arguments))


def _test_function(name: str, space: Any, dimension: int | None) -> Target:
    from eitherway import functions

    if name not in functions.names():
        path = Path(name)
        if path.suffix == ".py" and path.exists():
            held = _functions_of(path)
            which = f"such as {name}:{held[0]}" if held else f"but it holds none; {_FORMS}"
            raise CostError(f"{name} is a file; say which function in it, {which}")
        raise CostError(f"there is no target {name!r}; {_FORMS}. {nearest(name, functions.names())}")
    found = functions.get(name)
    return Target(found.function, found.space(dimension) if space is None else space, name)


def _functions_of(path: Path) -> list[str]:
    """The functions at the top of a file, without running it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def reach(path: Path) -> None:
    """Lets a file's neighbours, and itself, be imported by name, here and in workers."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _from_file(path: Path) -> Any:
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.py")]) if path.parent.is_dir() else ""
        raise CostError(f"there is no file {path} (looked from {Path.cwd()}). {near}")
    if "." in path.stem:
        raise CostError(f"{path.name} has a name that cannot be imported; rename it without dots before .py")
    reach(path)
    module = _imported(path.stem, str(path))
    if Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        raise CostError(f"{path.name} has the name of another module, {module.__name__}; rename your file")
    return module


def _from_module(name: str) -> Any:
    reach(Path("here"))
    try:
        missing = importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        missing = True
    except Exception as error:  # a package whose own __init__ fails
        raise CostError(_failed(name, error)) from None
    if missing:
        raise CostError(f"there is no module {name!r} (looked in {Path.cwd()} and in what is installed); {_PLACES}")
    return _imported(name, name)


def _imported(name: str, shown: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise CostError(_failed(shown, error)) from error


def _failed(shown: str, error: BaseException) -> str:
    """Why a module of the user's cannot be imported, and the last of their lines that was reached."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}: " if error.filename else ""  # none for a file of other bytes
        return f"{shown} cannot be imported: {place}{type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    place = f" ({ours[-1].filename}:{ours[-1].lineno})" if ours else ""
    return f"{shown} cannot be imported: {type(error).__name__}: {error}{place}"


def _named(module: Any, name: str, place: str) -> Any:
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n, thing in vars(module).items() if callable(thing) and not n.startswith("_")]
            raise CostError(f"{place} has no {name!r}. {nearest(name, known)}")
        found = getattr(found, part)
    return found
