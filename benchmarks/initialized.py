"""Ours, for the benchmarks on starting networks: `ew.initialize_` behind one function."""

from __future__ import annotations

from typing import Any

from torch import nn


def ours(model: nn.Module, example: Any, seed: int, scheme: str = "auto", **options: Any) -> Any:
    """`ew.initialize_`, and its report."""
    import eitherway as ew

    return ew.initialize_(model, example, scheme, seed=seed, overwrite=True, **options)


def available() -> bool:
    """Is `ew.initialize_` there? Where it is not, the rivals can still be run."""
    import eitherway as ew

    return hasattr(ew, "initialize_")


def scheme_of(report: Any) -> str:
    """The scheme that the report's weights were drawn by: the one that most drawn weights have."""
    names = [entry.scheme for entry in report.entries if entry.action == "drawn" and entry.scheme]
    return max(dict.fromkeys(names), key=names.count) if names else str(report.scheme)
