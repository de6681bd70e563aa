"""Roots first: what follows from another verdict is told with it, not beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eitherway.signal.diagnose.verdicts.parts import Found, Verdict

_LATER = 10**9
_FORWARD: dict[str, tuple[str, ...]] = {
    "not finite": (
        "exploding gradient",
        "vanishing gradient",
        "no gradient",
        "update ratio",
        "unequal samples",
        "parallel samples",
        "low rank",
        "saturated units",
        "dead units",
        "exploding signal",
        "vanishing signal",
        "residual growth",
        "identical units",
        "normalisation",
        "attention saturated",
    ),
    "input scale": (
        "exploding signal",
        "saturated units",
        "attention saturated",
        "exploding gradient",
        "vanishing gradient",
        "update ratio",
        "parallel samples",
        "vanishing signal",
        "unequal samples",
        "low rank",
        "residual growth",
        "dead units",
        "not finite",
    ),
    "identical units": (
        "low rank",
        "parallel samples",
        "attention uniform",
        "exploding signal",
        "vanishing signal",
        "vanishing gradient",
        "exploding gradient",
        "saturated units",
        "dead units",
        "unequal samples",
        "normalisation",
        "update ratio",
    ),
    "normalisation": (
        "vanishing signal",
        "parallel samples",
        "low rank",
        "vanishing gradient",
        "exploding gradient",
        "no gradient",
        "dead units",
        "unequal samples",
        "exploding signal",
        "normalisation",
    ),
    "dead units": (
        "dead units",
        "vanishing signal",
        "vanishing gradient",
        "parallel samples",
        "low rank",
        "no gradient",
        "normalisation",
        "unequal samples",
        "update ratio",
        "attention uniform",
    ),
    "residual growth": (
        "exploding signal",
        "exploding gradient",
        "unequal samples",
        "saturated units",
        "attention saturated",
        "update ratio",
        "low rank",
        "parallel samples",
    ),
    "exploding signal": (
        "not finite",
        "residual growth",
        "saturated units",
        "attention saturated",
        "exploding gradient",
        "unequal samples",
        "update ratio",
        "low rank",
        "vanishing gradient",
        "parallel samples",
        "exploding signal",
    ),
    "vanishing signal": (
        "vanishing gradient",
        "parallel samples",
        "low rank",
        "attention uniform",
        "update ratio",
        "unequal samples",
        "normalisation",
        "dead units",
        "exploding gradient",
    ),
    "saturated units": (
        "vanishing gradient",
        "exploding gradient",
        "low rank",
        "parallel samples",
        "update ratio",
        "unequal samples",
    ),
    "unequal samples": ("low rank", "exploding gradient", "vanishing gradient", "parallel samples"),
    "vanishing gradient": ("parallel samples", "low rank", "update ratio"),
    "exploding gradient": ("update ratio", "low rank"),
    "parallel samples": ("low rank", "vanishing gradient", "attention uniform"),
    "attention saturated": ("vanishing gradient", "exploding gradient", "exploding signal", "low rank", "update ratio"),
    "attention uniform": ("low rank",),
    "dropout": ("unequal samples", "low rank", "exploding signal"),
    "double squashing": ("vanishing gradient", "update ratio"),
    "no gradient": (),
    "linear run": (),
    "low rank": (),
    "update ratio": (),
}
"""What each kind brings about, most fundamental first: an earlier kind of the table can be the cause of a later one."""
_BACKWARD = ("vanishing gradient", "exploding gradient", "no gradient", "update ratio")
"""Consequences that lie before their cause: gradients travel towards the input."""


def fold(found: Sequence[Found]) -> tuple[Verdict, ...]:
    """Verdicts in the order of their causes; consequences are named in the text of the verdict that explains them."""
    alarms = sorted((f for f in found if f.verdict.severity == "alarm"), key=_rank)
    cause = {
        id(f): next((c for k, c in enumerate(alarms) if c is not f and _causes(c, f, first=k < j)), None)
        for j, f in enumerate(alarms)
    }

    def root(f: Found) -> Found:
        seen: list[Found] = []
        while (above := cause[id(f)]) is not None and not any(above is s for s in seen):
            seen.append(f)
            f = above
        return f

    kept = [(f, [g for g in alarms if g is not f and root(g) is f]) for f in alarms if root(f) is f]
    told = [_with(top, follow) for top, follow in kept]
    notes = [f for f in found if f.verdict.severity == "note"]
    spare = [f.verdict for f in notes if not any(_explains(root, f) or _same(root, f) for root, _ in kept)]
    return (*told, *spare)


def _rank(f: Found) -> tuple[int, int]:
    """Kinds in the table's order; among equals the earlier operation."""
    return list(_FORWARD).index(f.verdict.kind), f.at


def _causes(one: Found, other: Found, *, first: bool) -> bool:
    """Whether one brings about the other; where each could bring about the other, the earlier operation does.

    Args:
        first: whether it stands first in the table's order, which decides between equals.
    """
    if not _explains(one, other):
        return False
    return not _explains(other, one) or one.at < other.at or (one.at == other.at and first)


def _explains(root: Found, f: Found) -> bool:
    kind = f.verdict.kind
    if kind not in _FORWARD[root.verdict.kind] or f is root:
        return False
    if kind in _BACKWARD or (root.verdict.kind, kind) == ("parallel samples", "low rank"):
        return True  # samples lie on a line long before they are one point
    return f.upto >= root.at  # what lies wholly before a cause is not its doing


def _same(root: Found, f: Found) -> bool:
    return root.verdict.kind == f.verdict.kind and set(f.verdict.layers) <= set(root.verdict.layers)


def _with(root: Found, follow: Sequence[Found]) -> Verdict:
    if not follow:
        return root.verdict
    words = tuple(dict.fromkeys(f.short for f in follow if not _same(root, f)))
    if not words:
        return root.verdict
    return replace(root.verdict, consequences=words, text=f"{root.verdict.text}. With it: {', '.join(words)}")
