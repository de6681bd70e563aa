"""The house's own files as syntax trees, parsed once for all tests that read them."""

import ast
from functools import cache
from pathlib import Path


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file; shared, so nobody may change it."""
    return ast.parse(path.read_text(encoding="utf-8"))
