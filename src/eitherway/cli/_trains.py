"""Whether importing a file would start a training, read from its source before it runs."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from eitherway.base.errors import ModelError

_STEPS = {"backward", "fit", "fit_generator", "train_on_batch"}
"""Methods that train whatever they are called on."""
_OPTIMISERS = ("opt", "sgd", "adam", "scaler", "accelerator")
"""Beginnings of names whose `.step()` is a step of training; environments have one, too."""
_BLOCKS = (ast.For, ast.While, ast.With, ast.If, ast.Try, ast.ClassDef)


def must_not_train(word: str) -> None:
    """Refuses a place whose file trains as soon as it is imported.

    Args:
        word: file.py:name or package.module:name.

    Raises:
        ModelError: naming file and line.
    """
    path = _file_of(word.rpartition(":")[0])
    if path is None:
        return
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return  # importing it will say why
    found = first_training(tree)
    if found is not None:
        line, what, loop = found
        inside = f" in the loop of line {loop}" if loop else ""
        raise ModelError(
            f"{path}:{line} calls {what}{inside}: importing {path.name} would train before it can be looked at. Put "
            'what trains under `if __name__ == "__main__":`, or the model in a file of its own; --trust runs it all '
            "the same"
        )


def first_training(tree: ast.Module) -> tuple[int, str, int] | None:
    """Line, call and line of the outermost loop (0 for none) of the first training that runs on import.

    >>> first_training(ast.parse("for x in data:\\n    loss(x).backward()"))
    (2, 'loss(x).backward()', 1)
    >>> first_training(ast.parse("if __name__ == '__main__':\\n    loss.backward()")) is None
    True
    """
    trainers = _trainers(tree)
    for call, loop in _calls(tree.body, 0):
        if _trains(call) or (isinstance(call.func, ast.Name) and call.func.id in trainers):
            text = ast.unparse(call)
            return call.lineno, text if len(text) < 50 else f"{ast.unparse(call.func)}(...)", loop
    return None


def _trainers(tree: ast.Module) -> set[str]:
    """Functions of the file that train, or call one that does."""
    bodies = {node.name: node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    found: set[str] = set()
    while True:
        more = {
            name
            for name, node in bodies.items()
            if any(
                isinstance(call, ast.Call)
                and (_trains(call) or (isinstance(call.func, ast.Name) and call.func.id in found))
                for call in ast.walk(node)
            )
        }
        if more == found:
            return found
        found = more


def _trains(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    owner = ast.unparse(call.func.value).rpartition(".")[2].lower()
    return call.func.attr in _STEPS or (call.func.attr == "step" and owner.startswith(_OPTIMISERS))


def _calls(body: list[ast.stmt], loop: int) -> Iterator[tuple[ast.Call, int]]:
    """Calls that run on import: not those inside functions and methods, nor under the main guard."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if _guard(statement):
            yield from _calls(getattr(statement, "orelse", []), loop)
            continue
        if isinstance(statement, _BLOCKS):
            looping = loop or (statement.lineno if isinstance(statement, (ast.For, ast.While)) else 0)
            for part in ast.iter_child_nodes(statement):
                if isinstance(part, (ast.expr, ast.withitem)):  # what is looped over, asked or entered
                    yield from ((call, looping) for call in _reached(part))
            for name in ("body", "orelse", "finalbody"):
                yield from _calls(getattr(statement, name, []), looping)
            for handler in getattr(statement, "handlers", []):
                yield from _calls(handler.body, looping)
            continue
        yield from ((call, loop) for call in _reached(statement))


def _reached(node: ast.AST) -> Iterator[ast.Call]:
    """Calls in a piece of code, outermost first; what a lambda holds does not run where it is written."""
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _reached(child)


def _guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _file_of(place: str) -> Path | None:
    """The source file that a place is imported from; None where there is none to read."""
    if place.endswith(".py") or "/" in place:
        return Path(place) if Path(place).is_file() else None
    local = Path(*place.split(".")).with_suffix(".py")
    if local.is_file():
        return local
    try:
        spec = importlib.util.find_spec(place)
    except Exception:  # whatever a package's own __init__ raises: importing it will say so
        return None
    origin = getattr(spec, "origin", None)
    return Path(origin) if origin and origin.endswith(".py") and "site-packages" not in origin else None
