"""What the values of a chain are called: by the names that the user's own lines give them, else z1, z2, ..."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from eitherway.calculus.chain_rule.program import Program


def input_names(f: Callable[..., Any], count: int) -> list[str]:
    """The names of a function's first parameters; x for a module and wherever there are none.

    >>> input_names(lambda w: w**2, 1)
    ['w']
    """
    default = ["x"] if count == 1 else [f"x{i + 1}" for i in range(count)]
    if isinstance(f, nn.Module):
        return default
    try:
        given = inspect.signature(f).parameters.values()
        found = [p.name for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        return default
    plain = len(found) >= count and not any(name in ("args", "input", "self") for name in found[:count])
    return found[:count] if plain else default


def value_names(
    program: Program, nodes: Sequence[int], stages: Sequence[tuple[int, str]], functions: Sequence[Any], source: str
) -> dict[int, str]:
    """A name for each value of a chain.

    Args:
        nodes: indices in the order of computation; the source first, the output last.
        stages: values that a composition hands on, with the names of the functions that made them; "" for none.
        functions: whose lines are read for names.
        source: what the first value is called.
    """
    names = {nodes[0]: source}
    taken = {source}

    def give(index: int, name: str) -> None:
        if name and name not in taken and index not in names and name.isidentifier():
            names[index] = name
            taken.add(name)

    for index, name in stages:
        give(index, name)
    assigned = {}
    for f in functions:
        assigned.update(_assigned(f))
    last: dict[str, int] = {}
    for index in nodes[1:]:
        where = program.steps[program.producer[index]].op.where
        if where in assigned:
            last[where] = index
    for where, index in last.items():
        give(index, assigned[where])
    output = nodes[-1]
    give(output, "C" if program.env[output].numel() == 1 else "y")
    for k, index in enumerate(nodes):
        if index not in names:
            names[index] = f"z{k}" if f"z{k}" not in taken else f"z{k}'"  # the user has a z1 of their own
    return names


def _assigned(f: Any) -> dict[str, str]:
    """`file.py:12` to the one name that line assigns, for lines of a function that assign a name nobody else does."""
    while isinstance(f, functools.partial):
        f = f.func
    f = inspect.unwrap(f) if callable(f) else f
    if getattr(f, "__name__", "") == "<lambda>" or not hasattr(f, "__code__"):
        return {}
    try:
        lines, start = inspect.getsourcelines(f)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return {}
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found += [(line, node.targets[0].id) for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)]
    here = os.path.basename(f.__code__.co_filename)
    stored = Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return {f"{here}:{start + line - 1}": name for line, name in found if stored[name] == 1}
