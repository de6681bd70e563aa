"""Biases that somebody has set on purpose: gates that start shut or open, heads that start at a prior."""

from __future__ import annotations

import torch
from torch import Tensor

from eitherway.signal.initialize.theory import MOVES
from eitherway.signal.structure import Producer, Structure

_VALUES = 4  # different numbers in a bias that is set by part
_SQUASHING = {"sigmoid", "hardsigmoid", "softmax"}
_MIXING = {"mul", "lerp", "addcmul", "where"}
_PIECES = {"chunk", "split", "split_with_sizes", "unbind", "select", "slice", "narrow", "permute", "transpose", "t"}
_TURNED = {"rsub", "sub", "neg", "add"}  # 1 - t


def deliberate(structure: Structure, bias: Tensor, producer: Producer, *, fresh: bool) -> str:
    """Why a bias is kept: a few numbers, not all 0, that shift a gate or a head; "" for a bias to start anew.

    torch's constructors draw biases, so that equal entries are somebody's choice (a highway's gate at -2, forget gates
    at 1, objectness at -4.6: Lin et al. 2017, arXiv:1708.02002, section 4.1). One number alone is one where it lies
    beyond what torch draws, 1 / sqrt(fan_in), in a model that nobody has trained.

    Args:
        fresh: whether the model is known not to be trained.
    """
    held = bias.detach().double().flatten()
    if not held.numel() or not bool(torch.isfinite(held).all()) or not bool(held.any()):
        return ""
    values = held.unique()
    if held.numel() == 1:
        if not fresh or float(held.abs()) <= 1.001 * producer.fan_in**-0.5:
            return ""
    elif len(values) > _VALUES or 2 * len(values) > held.numel():
        return ""
    if producer.kind == "recurrent":
        place = "" if _usual(held, producer) else "gates of a recurrent cell"
    elif producer.index in structure.heads:
        place = "a head"
    else:
        place = "a gate" if _gates(structure, producer) else ""
    text = ", ".join(f"{float(v):.3g}" for v in values)
    return f"{text} was set on purpose: it shifts {place}" if place else ""


def _usual(held: Tensor, producer: Producer) -> bool:
    """Whether forget gates hold 1 and the others 0, which is what they start with anyway."""
    usual = torch.zeros_like(held)
    for block in producer.blocks:
        if block.role == "forget gate":
            usual[block.rows] = 1.0
    return torch.equal(held, usual)


def _gates(structure: Structure, producer: Producer) -> bool:
    """Whether an output, squashed, multiplies something other than itself."""
    graph = structure.graph
    own = {
        op
        for path in structure.paths.values()
        if path.kind == "activation" and any(_made_by(structure, value) == producer.index for value in path.sources)
        for op in path.ops
    }
    squashed = _reached(structure, {producer.output}, {*MOVES, *_PIECES}, _SQUASHING)
    outputs = {value for op in squashed - own for value in graph.ops[op].outputs}
    return bool(_reached(structure, outputs, {*MOVES, *_PIECES, *_TURNED}, _MIXING))


def _made_by(structure: Structure, value: int) -> int | None:
    source = structure.sources.get(value)
    return source.producer if source is not None else None


def _reached(structure: Structure, values: set[int], through: set[str], wanted: set[str]) -> set[int]:
    """Operations of some names that read a value, or what others make of it."""
    graph, found = structure.graph, set()
    waiting, seen = list(values), set(values)
    while waiting:
        for index in graph.users[waiting.pop()]:
            op = graph.ops[index]
            name = op.name.removesuffix("_")
            if name in wanted:
                found.add(index)
            elif name in through:
                new = set(op.outputs) - seen
                seen |= new
                waiting += new
    return found
