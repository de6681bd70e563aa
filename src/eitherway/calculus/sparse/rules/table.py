"""Where rules are kept: one function an operation or a family of them, found by the operation's plain name."""

from __future__ import annotations

from collections.abc import Callable

from eitherway.calculus.sparse.site import Answer, Site

Rule = Callable[[Site], Answer]

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Says of which operations a function is the rule; in-place ones and copies of views go by the same name."""

    def keep(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return keep


def plain(name: str) -> str:
    """The name a rule is kept under: `add` for `add_`, `permute` for `permute_copy`.

    >>> plain("add_"), plain("permute_copy"), plain("index_copy_"), plain("_to_copy")
    ('add', 'permute', 'index_copy', '_to_copy')
    """
    name = name.rstrip("_")
    if name.endswith("_copy") and name not in ("_to_copy", "index_copy"):
        name = name.removesuffix("_copy")
    return name
