"""What does not depend on the run's signal: parameters, buffers, and all that is computed from them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eitherway.graph import Graph, Op
from eitherway.graph.chance import chance_kept
from eitherway.graph.graph import substitute

_LARGEST = 1 << 23
"""Elements of a weight up to which a copied view of it is followed position by position."""


@dataclass(frozen=True, slots=True)
class Known:
    """A value without signal."""

    parameters: tuple[int, ...] = ()
    """Values of the parameters behind it."""
    chance: Literal["", "mask", "noise"] = ""
    """Drawn: to keep or to drop (dropout, stochastic depth), or something else."""
    root: int = -1
    """The parameter, buffer or computed value that it is a view of, or itself."""


@dataclass(frozen=True)
class View:
    """Where the axes of a weight operand lie in the weight itself."""

    axes: tuple[tuple[int, ...], ...]
    """For each axis of the operand the axes of the weight that it runs over."""
    part: tuple[slice, ...]
    """The region it covers; () for the whole."""


_OUTSIDE = -1
Writers = Mapping[int, Sequence[int]]
"""For each room the operations that write into it in sight of others."""


def writers(graph: Graph) -> dict[int, list[int]]:
    """Where a value holds something else than what made it; _OUTSIDE stands for what the model itself holds."""
    outside = {value.room for value in graph.values if value.kind != "result"}
    found: dict[int, list[int]] = {}
    for op in graph.ops:
        if op.mutates and op.functional is None:
            for i in op.mutates:
                room = graph.values[i].room
                if room is not None:
                    found.setdefault(room, []).append(_OUTSIDE if room in outside else op.index)
    return found


def evaluate(graph: Graph, value: int, written: Writers | None = None) -> Tensor | None:
    """A constant's content with today's parameters; None where it cannot be computed again.

    Args:
        written: of `writers`.
    """
    env: dict[int, Tensor] = {}
    ops: set[int] = set()
    written = written or {}
    wanted = [value]
    while wanted:
        i = wanted.pop()
        found = graph.values[i]
        if i in env:
            continue
        makers = [] if found.producer is None else [found.producer]
        if found.producer is None:
            if found.tensor is None:
                return None
            env[i] = found.tensor
        elif found.room is not None:
            makers += written.get(found.room, ())
        for maker in makers:
            if maker == _OUTSIDE:
                return found.tensor  # to run it again would write into the model
            op = graph.ops[maker]
            if op.random or (op.mutates and op.functional is None and not written):
                return found.tensor
            if maker not in ops:
                ops.add(maker)
                wanted += op.inputs
    try:
        with torch.no_grad(), chance_kept():
            for index in sorted(ops):
                op = graph.ops[index]
                target = op.functional or op.target
                answer = target(*substitute(list(op.args), env.__getitem__), **substitute(op.kwargs, env.__getitem__))
                op.file(answer, env)
    except (RuntimeError, TypeError, ValueError, KeyError, NotImplementedError):
        return graph.values[value].tensor
    return env[value].detach()


def view(graph: Graph, root: int, operand: int) -> View | None:
    """How an operand that is made of a weight by moves lies in it; None where it is no regular part of it."""
    weight, here = graph.values[root], graph.values[operand]
    rank = len(weight.shape)
    if root == operand:
        return View(tuple((axis,) for axis in range(rank)), ())
    if weight.room is not None and weight.room == here.room:
        return _lying(weight.shape, weight.stride, here.shape, here.stride, here.offset - weight.offset)
    moves = _between(graph, root, operand)
    if moves is None or not weight.numel or not here.numel:
        return None
    thin = torch.empty(weight.shape, device="meta")
    moved = _moved(graph, moves, thin)
    if moved is not None and moved.untyped_storage()._cdata == thin.untyped_storage()._cdata:
        return _lying(weight.shape, thin.stride(), moved.shape, moved.stride(), int(moved.storage_offset()))
    if weight.numel > _LARGEST:
        return None
    places = torch.arange(weight.numel).reshape(weight.shape)
    found = _moved(graph, moves, places)
    if found is None or found.shape != here.shape:
        return None
    origin = int(found.flatten()[0])
    stride = [
        int(found.select(axis, 1).flatten()[0]) - origin if size > 1 else 0 for axis, size in enumerate(found.shape)
    ]
    expected = torch.full([1] * found.dim(), origin)
    for axis, (size, step) in enumerate(zip(found.shape, stride)):
        expected = expected + (torch.arange(size) * step).reshape([-1 if i == axis else 1 for i in range(found.dim())])
    if not torch.equal(expected, found):
        return None
    return _lying(weight.shape, places.stride(), found.shape, tuple(stride), origin)


_STILL = {"to", "_to_copy", "type_as", "contiguous", "clone", "alias", "detach", ".data", "lift_fresh", "dropout"}
"""Moves after which every element stands where it stood."""


def _between(graph: Graph, root: int, operand: int) -> list[tuple[Op, int]] | None:
    """The moves from a weight to an operand, each with which of its results goes on."""
    found: list[tuple[Op, int]] = []
    while operand != root:
        maker = graph.values[operand].producer
        if maker is None:
            return None
        op = graph.ops[maker]
        if op.random:
            return None  # a weight with dropout is another weight each time
        found.append((op, op.outputs.index(operand)))
        operand = op.inputs[0]
    return found[::-1]


def _moved(graph: Graph, moves: list[tuple[Op, int]], tensor: Tensor) -> Tensor | None:
    """A tensor in a weight's place after the moves."""
    try:
        for op, which in moves:
            if op.name.rstrip("_") in _STILL:
                continue
            first, now = op.inputs[0], tensor

            def operand(i: int, first: int = first, now: Tensor = now) -> Tensor | None:
                return now if i == first else evaluate(graph, i)

            answer = op.target(*substitute(list(op.args), operand), **substitute(op.kwargs, operand))
            tensor = answer if isinstance(answer, Tensor) else answer[which]
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None
    return tensor


def _lying(shape: torch.Size, strides: tuple[int, ...], sizes: torch.Size, steps: tuple[int, ...], offset: int):
    """Axes and region of a strided view of a strided tensor."""
    outward = sorted((a for a in range(len(shape)) if shape[a] > 1), key=lambda a: -strides[a])
    start = dict.fromkeys(range(len(shape)), 0)
    for a in outward:
        start[a], offset = divmod(offset, strides[a])
    if offset:
        return None
    reach, step = dict(start), dict.fromkeys(range(len(shape)), 0)
    axes: list[tuple[int, ...]] = []
    for n, s in zip(sizes, steps):
        if n == 1 or s == 0:
            axes.append(())
            continue
        inner = next((a for a in outward if strides[a] <= s and s % strides[a] == 0), None)
        if inner is None:
            return None
        over, left, at = [inner], n, outward.index(inner)
        by = s // strides[inner]
        if by * (n - 1) < shape[inner]:
            reach[inner] += by * (n - 1)
            step[inner] = min(step[inner], by) if step[inner] else by
        else:  # it runs over several axes of the weight, each whole
            while left > 1 and at >= 0:
                a = outward[at]
                if left % shape[a] and left > shape[a]:
                    return None
                reach[a], step[a] = start[a] + min(left, shape[a]) - 1, 1
                left, at = left // shape[a], at - 1
                over.append(a)
            if left > 1:
                return None
            over = sorted(set(over))
        axes.append(tuple(over))
    if any(reach[a] >= shape[a] for a in reach):
        return None
    taken = {a for over in axes for a in over}
    single = [a for a in range(len(shape)) if a not in taken and shape[a] == 1]
    for i, over in enumerate(axes):  # axes of size 1 have no stride to know them by: in order
        if not over and sizes[i] == 1 and single:
            axes[i] = (single.pop(0),)
    part = tuple(slice(start[a], reach[a] + 1, step[a] if step[a] > 1 else None) for a in range(len(shape)))
    whole = all(p.start == 0 and p.stop == n and p.step is None for p, n in zip(part, shape))
    return View(tuple(axes), () if whole else part)


def uniform(tensor: Tensor) -> float | None:
    """The one number that it holds everywhere; None if it holds several."""
    if tensor.numel() == 0 or tensor.is_complex():
        return None
    first = tensor.flatten()[0]
    return float(first) if tensor.numel() == 1 or bool((tensor == first).all()) else None


def wide_axes(shape: torch.Size) -> int:
    """Axes along which something of this shape can differ."""
    return sum(n != 1 for n in shape)


_STEPS = {"floor", "round", "ceil", "gt", "lt", "ge", "le", "greater", "less", "logical_not"}
"""Operations that make a mask of numbers that were drawn."""


def chance(op: Op, behind: Sequence[Known] = ()) -> Literal["", "mask", "noise"]:
    """Whether an answer without signal is drawn, and what for."""
    name = op.name.rstrip("_")
    if op.random or name in ("rand", "randn", "randint", "rand_like", "randn_like"):
        return "mask" if name in ("bernoulli", "dropout", "native_dropout", "feature_dropout") else "noise"
    drawn = {known.chance for known in behind} - {""}
    if drawn == {"noise"} and name in _STEPS:
        return "mask"
    return "noise" if "noise" in drawn else "mask" if drawn else ""
