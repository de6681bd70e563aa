"""Whether the samples of a batch are apart: no sample's output reads another sample's input."""

from __future__ import annotations

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian.check import first_wrong, function_of
from eitherway.calculus.jacobian.ways import Function
from eitherway.graph import Graph

_NORMS = ("batch_norm", "instance_norm")


def must_be_apart(f: Function, graph: Graph | None, x: Tensor) -> None:
    """Refuses samples that touch each other.

    Args:
        f: of a batch, (B, ...) -> (B, ...).
        graph: its run at x, to name the operation that mixes samples.

    Raises:
        ModelError: if samples touch each other.
    """
    if len(x) > 1 and touch(f, x):
        raise ModelError(
            f"samples of the batch touch each other{_mixer(graph, x)}, so no sample has a Jacobian of its own; call "
            ".eval() on the model if a norm does it, or take the whole with batched=False"
        )


def touch(f: Function, x: Tensor) -> bool:
    """Whether a pull-back from some samples reaches any other.

    Any two samples differ in a bit of their numbers, so each bit parts the batch once: 2 log2 B pull-backs see every
    touch.
    """
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        y = f(leaf)
    if not y.requires_grad:
        return False
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(y)
    numbers = torch.arange(len(x), device=x.device)
    for bit in range((len(x) - 1).bit_length()):
        ones = (numbers >> bit) & 1 == 1
        for those in (ones, ~ones):
            some = weights.clone()
            some[~those] = 0
            (found,) = torch.autograd.grad(y, leaf, some, allow_unused=True, retain_graph=True)
            if found is not None and bool(found[~those].any()):
                return True
    return False


def _mixer(graph: Graph | None, x: Tensor) -> str:
    """The operation that mixes samples, if the graph tells."""
    if graph is None or graph.opaque:
        return ""
    for op in graph.ops:
        if op.name in _NORMS and True in op.args:
            return f" ({op.label}, in training mode)"
    found = first_wrong(graph, lambda part: _mixes(part, x))
    return f" ({found.label})" if found else ""


def _mixes(graph: Graph, x: Tensor) -> bool:
    """Whether a value's blocks, as many rows each as a sample has, read other samples than their own."""
    f = function_of(graph)
    with torch.no_grad():
        shape = f(x).shape
    if not shape or shape[0] % len(x):
        return True
    return touch(lambda point: f(point).reshape(len(x), -1), x)
