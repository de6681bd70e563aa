"""Normalisations taken apart: what is non-linear in them, and the scale and shift at their end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from eitherway.graph import Graph, Op, Ref
from eitherway.linear.fuse.constants import Constants
from eitherway.linear.fuse.merges import Diagonal

_WHERE = {"layer_norm": (2, 3), "rms_norm": (2, None), "group_norm": (2, 3), "instance_norm": (1, 2)}
"""Where gain and bias stand among the arguments."""


def ending(op: Op, graph: Graph, constants: Constants) -> Diagonal | None:
    """The scale and shift at the end of a normalisation; None if it has none."""
    if op.name not in _WHERE or len(op.outputs) != 1 or op.random:
        return None
    if op.name == "instance_norm" and not op.args[5]:
        return None  # by running statistics it is affine as a whole
    gain, bias = (_constant(op, at, constants) for at in _WHERE[op.name])
    if gain is None and bias is None:
        return None
    rank = len(graph.values[op.outputs[0]].shape)

    def shaped(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if op.name in ("group_norm", "instance_norm"):
            return tensor.reshape(1, -1, *[1] * (rank - 2))
        return tensor.reshape(*[1] * (rank - tensor.dim()), *tensor.shape)

    return Diagonal(shaped(gain), shaped(bias))


def bare(op: Op) -> Op:
    """The normalisation without its scale and shift."""
    args = list(op.args)
    kwargs: dict[str, Any] = dict(op.kwargs)
    for at, name in zip(_WHERE[op.name], ("weight", "bias")):
        if at is not None and at < len(args):
            args[at] = None
        if name in kwargs:
            kwargs[name] = None
    return replace(op, args=tuple(args), kwargs=kwargs)


def _constant(op: Op, at: int | None, constants: Constants) -> Tensor | None:
    if at is None:
        return None
    given = op.args[at] if at < len(op.args) else op.kwargs.get("weight" if at == _WHERE[op.name][0] else "bias")
    if type(given) is not Ref or given.index not in constants:
        return None
    return constants.exact(given.index)
