"""Outputs that serve as matrices: what a hypernetwork puts out multiplies another signal (Ha et al. 2016)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from eitherway.graph import Op, Ref
from eitherway.graph.graph import substitute
from eitherway.signal.structure import Producer, Structure

_MOVES = {
    "view", "reshape", "_unsafe_view", "unflatten", "flatten", "permute", "transpose", "t", "squeeze", "unsqueeze",
    "contiguous", "clone", "alias", "movedim", "mT",
}  # fmt: skip
_PRODUCTS = {"matmul": (0, 1), "mm": (0, 1), "bmm": (0, 1), "mv": (0,), "linear": (1,)}
"""Operands that may be matrices."""
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}


def contracted(structure: Structure, producer: Producer) -> int:
    """Products in one output of a product whose matrix this output is; 0 where it is none.

    Both axes of the matrix must be made of the output's channels: of queries and keys one is positions.
    """
    graph = structure.graph
    shape = graph.values[producer.output].shape
    if len(shape) < 2 or producer.kind != "linear":
        return 0
    channels = torch.arange(shape[-1]).expand(shape)
    waiting: list[tuple[int, Tensor]] = [(producer.output, channels)]
    seen = {producer.output}
    while waiting:
        value, held = waiting.pop()
        for index in graph.users[value]:
            op = graph.ops[index]
            found = _size(op, value, held)
            if found:
                return found
            if op.name in _MOVES and len(op.inputs) == 1 and len(op.outputs) == 1 and op.outputs[0] not in seen:
                seen.add(op.outputs[0])
                args = substitute(list(op.args), lambda _, held=held: held)
                try:
                    waiting.append((op.outputs[0], op.target(*args, **op.kwargs)))
                except RuntimeError:  # a view of what is not contiguous here
                    continue
    return 0


def matrix_targets(structure: Structure) -> dict[int, tuple[float, str]]:
    """rms wanted, and why, of outputs that are matrices, by producer."""
    found = {}
    for producer in structure.producers:
        count = contracted(structure, producer)
        if count > 1:
            found[producer.index] = count**-0.5, f"serves as a matrix that sums {count} products: x 1/sqrt({count})"
    return found


def _size(op: Op, value: int, held: Tensor) -> int:
    """Products in one output of an operation that reads these channels as a matrix; 0 where it does not."""
    name = op.name
    if name == "einsum":
        return _einsum(op, value, held)
    if name in _CONVOLUTIONS:
        reads = len(op.args) > 1 and type(op.args[1]) is Ref and op.args[1].index == value
        return math.prod(held.shape[1:]) if reads and _varies(held, 0) and _varies(held, 1) else 0
    for place in _PRODUCTS.get(name, ()):
        if len(op.args) > place and type(op.args[place]) is Ref and op.args[place].index == value and held.dim() > 1:
            if _varies(held, -1) and _varies(held, -2):
                return int(held.shape[-2 if place == 1 and name != "linear" else -1])
    return 0


def _einsum(op: Op, value: int, held: Tensor) -> int:
    equation: Any = op.args[0]
    operands: Any = op.args[1] if len(op.args) > 1 else ()
    if (
        not isinstance(equation, str)
        or "->" not in equation
        or "." in equation
        or not isinstance(operands, (list, tuple))
    ):
        return 0
    left, out = equation.replace(" ", "").split("->")
    for letters, operand in zip(left.split(","), operands):
        if type(operand) is Ref and operand.index == value and len(letters) == held.dim():
            others = "".join(part for part in left.split(",") if part != letters)
            summed = [axis for axis, letter in enumerate(letters) if letter not in out]
            own = [axis for axis, letter in enumerate(letters) if letter in out and letter not in others]
            if any(_varies(held, axis) for axis in summed) and any(_varies(held, axis) for axis in own):
                return math.prod(held.shape[axis] for axis in summed)
    return 0


def _varies(held: Tensor, axis: int) -> bool:
    return held.shape[axis] > 1 and bool((held.select(axis, 0) != held.select(axis, 1)).any())
