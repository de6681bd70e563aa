"""The house stands floor by floor: a folder imports only from floors below it, and a plain import costs nothing heavy.

Read are all imports of every file in src/eitherway: at the top, inside functions, under TYPE_CHECKING, relative ones,
and `import_module("...")` with a literal name.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import eitherway
from tests.sources import parsed

HOUSE = Path(eitherway.__file__).parent
FLOORS = (
    ("base",),
    ("space", "graph"),
    ("functions", "networks", "calculus", "linear"),
    ("signal",),
    ("methods",),
    ("run",),
    ("rl", "hyper", "gpt", "integrations", "testing"),
    ("bicycle",),
    ("report",),
    ("tour",),
    ("cli",),
)
FLOOR_OF = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}
TOP = len(FLOORS)  # __init__.py and __main__.py may name everything
FRONT = FLOOR_OF["bicycle"] + 0.5  # the public names: what shows and commands uses them as anybody would
FILES = sorted(HOUSE.rglob("*.py"))


def module_of(path: Path) -> tuple[str, ...]:
    """The dotted name of a file as parts; a package's `__init__.py` keeps that last part."""
    return ("eitherway", *path.relative_to(HOUSE).with_suffix("").parts)


def imported(tree: ast.AST, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of all that is imported; `from a import b` gives a.b, a module or a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(module[: len(module) - node.level]) if node.level else ""
            source = ".".join(part for part in (start, node.module) if part)
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def folder_of(name: str) -> str | None:
    """The folder of ours that a dotted name leads to, a public name through where it lives; None for other packages."""
    parts = name.split(".")
    if parts[0] != "eitherway":
        return None
    second = parts[1] if len(parts) > 1 else ""
    if second in eitherway._WHERE:
        second = eitherway._WHERE[second].split(".")[1]
    return second


def trespasses(tree: ast.AST, module: tuple[str, ...]) -> list[str]:
    """The imports of a file that lead to its own floor's other folders or upwards."""
    own = module[1] if len(module) > 2 else ""
    found = []
    for line, name in imported(tree, module):
        folder = folder_of(name)
        if folder is None or folder == own or name == "eitherway.__version__":
            continue
        if FLOOR_OF.get(own, TOP) <= FLOOR_OF.get(folder, FRONT):
            found.append(f"line {line}: {own or 'the top'} imports {name}")
    return found


def modules_after(statement: str) -> set[str]:
    """The modules a fresh Python holds after running `statement`."""
    code = f"{statement}\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_every_folder_has_its_floor():
    folders = {path.parent.relative_to(HOUSE).parts[0] for path in FILES if path.parent != HOUSE}
    assert folders <= set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_a_file_imports_only_from_floors_below(path):
    assert trespasses(parsed(path), module_of(path)) == []


@pytest.mark.parametrize(
    "source, module",
    [
        ("def f():\n    from eitherway.run import journal", "eitherway.space.space"),
        ("from eitherway.graph.tracer import trace", "eitherway.space.space"),
        ("from ..graph import tracer", "eitherway.space.space"),
        ("import eitherway as ew", "eitherway.rl.rollout"),
        ("from eitherway import minimize", "eitherway.methods.variables.de"),
        ("from importlib import import_module\nimport_module('eitherway.cli.main')", "eitherway.run.minimize"),
    ],
)
def test_a_trespass_is_seen(source, module):
    assert len(trespasses(ast.parse(source), tuple(module.split(".")))) == 1


def test_what_lies_below_is_allowed():
    lines = [
        "import os",
        "from . import help",
        "from eitherway import Real, __version__",
        "import eitherway.base.errors",
    ]
    assert trespasses(ast.parse("\n".join(lines)), ("eitherway", "cli", "main")) == []


@pytest.mark.parametrize("path", sorted((HOUSE / "methods" / "variables").glob("*.py")), ids=lambda path: path.stem)
def test_a_method_of_named_variables_never_imports_torch(path):
    names = [name for _, name in imported(parsed(path), module_of(path))]
    assert [name for name in names if name.split(".")[0] == "torch"] == []


def test_a_plain_import_brings_neither_torch_nor_numpy_nor_matplotlib():
    assert not modules_after("import eitherway; eitherway.__all__; dir(eitherway)") & {"torch", "numpy", "matplotlib"}


def test_the_help_of_the_command_line_brings_neither_torch_nor_numpy_nor_matplotlib():
    statement = """
import contextlib, io, sys
from eitherway.__main__ import main
sys.argv = ["eitherway", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main()
"""
    assert not modules_after(statement) & {"torch", "numpy", "matplotlib"}


def test_minimising_a_plain_cost_does_not_bring_torch():
    statement = "import eitherway as ew\new.minimize(lambda x: x * x, ew.Real(-1, 1), budget=20, progress=None)"
    assert not modules_after(statement) & {"torch", "matplotlib"}
