"""Ours, for the benchmarks on starting networks: `ew.initialize_` behind one function."""

from __future__ import annotations

from typing import Any

from torch import nn

from benchmarks import harness
from eitherway.signal.initialize import InitializeReport, initialize_


def ours(model: nn.Module, example: Any, seed: int, scheme: Any = "auto") -> InitializeReport:
    """`initialize_` with its defaults, on a model that may look trained."""
    return initialize_(model, example, scheme, seed=seed, overwrite=True)


def version() -> str:
    """Of the code that starts a model."""
    parts = ("quadrature.py", "moments.py", "curve.py", "structure", "schemes", "initialize")
    return harness.fingerprint("src/eitherway/graph", *(f"src/eitherway/signal/{part}" for part in parts))


def scheme_of(report: InitializeReport) -> str:
    """The scheme that the report's weights were drawn by: the one that most drawn weights have."""
    names = [entry.scheme for entry in report.entries if entry.action == "drawn" and entry.scheme]
    return max(dict.fromkeys(names), key=names.count) if names else str(report.scheme)
