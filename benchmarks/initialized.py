"""Ours, for the benchmarks on starting networks: `ew.initialize_` behind one function."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import torch
from torch import nn

from benchmarks import starting
from benchmarks.activations import ACTIVATIONS, chain
from eitherway.base.errors import EitherwayError
from eitherway.signal.initialize import InitializeReport, initialize_


def ours(model: nn.Module, example: Any, seed: int, scheme: Any = "auto") -> InitializeReport:
    """`initialize_` with its defaults, on a model that may look trained."""
    return initialize_(model, example, scheme, seed=seed, overwrite=True)


@cache
def same_weights(activation: str, depth: int, scheme: str) -> str:
    """Of what a chain is started with: the bits of a narrow one of the same depth, and the report's learning rate.

    `initialize_` is a function of its seed, so a change of the code that leaves these bits has left the law.
    """
    layers = [nn.Linear(32, 32) for _ in range(depth)]
    model = chain(layers, ACTIVATIONS[activation])
    starting.default(model, torch.Generator().manual_seed(0))
    digest = hashlib.blake2b(digest_size=8)
    try:
        report = ours(model, torch.randn(16, 32, generator=torch.Generator().manual_seed(1)), 0, scheme)
    except EitherwayError as error:
        return str(error)
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return f"{digest.hexdigest()} {report.lr_scale:.6g}"


def scheme_of(report: InitializeReport) -> str:
    """The scheme that the report's weights were drawn by: the one that most drawn weights have."""
    names = [entry.scheme for entry in report.entries if entry.action == "drawn" and entry.scheme]
    return max(dict.fromkeys(names), key=names.count) if names else str(report.scheme)
