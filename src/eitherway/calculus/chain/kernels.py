"""Local Jacobians of convolutions and pools: operators with torch's own products in both directions."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.chain.factors import Registers, operator, picked
from eitherway.calculus.chain.images import pair, spread
from eitherway.calculus.chain.layout import Layout, Setting, mixes
from eitherway.calculus.chain.rules import Edge, argument, only
from eitherway.graph import Op, Ref

aten = torch.ops.aten

SLOWNESS = 2.5
"""How many times longer a multiply-add takes in a convolution than in a large product."""


def _images(op: Op, s: Setting, axes: int) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
    """(input, axes of one image going in, coming out) where samples stand before channels and space."""
    i = only(op, s)
    if i is None or op.args[0] != Ref(i) or not op.outputs:
        return None
    shape, made = s.value(i).shape, s.value(op.outputs[0]).shape
    if len(shape) not in (axes + 1, axes + 2):
        return None
    if s.layouts[i].outer != 1 or not s.clear_of(i, axes + 1):
        if s.batch and s.axis(i) >= len(shape) - axes - 1:
            raise mixes(op)
        return None
    return i, tuple(shape[-axes - 1 :]), tuple(made[-axes - 1 :])


def _edge(op: Op, s: Setting, i: int, inner: tuple[int, ...], outer: tuple[int, ...], structure: str, make: Any,
          pull: Callable[[Any, Tensor], Tensor], push: Callable[[Any, Tensor], Tensor], macs: float,
          calls: float = 3.0, reads: tuple[int, ...] = ()) -> list[Edge]:  # fmt: skip
    """An operator on images: stacks are folded into one batch, whatever each image belongs to."""
    out, n = op.outputs[0], s.size(i)
    images = n // prod(inner)
    m = images * prod(outer)
    s.set(out, Layout(1, m), op)

    def pull_stack(content: Any, stack: Tensor) -> Tensor:
        return pull(content, stack.reshape(-1, *outer)).reshape(*stack.shape[:-1], n)

    def push_stack(content: Any, stack: Tensor) -> Tensor:
        return push(content, stack.reshape(-1, *inner)).reshape(*stack.shape[:-1], m)

    return [
        Edge(i, out, operator(
            op.label, m, n, structure, make, pull_stack, push_stack,
            varying=False, products=images * macs, calls=calls, reads=reads,
        ))
    ]  # fmt: skip


def convolution(op: Op, s: Setting) -> list[Edge] | None:
    """conv1d to conv3d and their transposes."""
    name = op.name
    if name[:4] != "conv" or name[-1] != "d" or not name[-2].isdigit() or name[4:-2] not in ("", "_transpose"):
        return None
    axes, transposed = int(name[-2]), "transpose" in name
    found = _images(op, s, axes)
    w = op.args[1].index
    if found is None or w in s.layouts or isinstance(argument(op, 4, "padding", 0), str):
        return None
    i, inner, outer = found
    stride, padding = pair(argument(op, 3, "stride", 1), axes), pair(argument(op, 4, "padding", 0), axes)
    if transposed:
        extra = pair(argument(op, 5, "output_padding", 0), axes)
        groups, dilation = argument(op, 6, "groups", 1), pair(argument(op, 7, "dilation", 1), axes)
    else:
        extra, groups, dilation = (), argument(op, 6, "groups", 1), pair(argument(op, 5, "dilation", 1), axes)
    kernel = tuple(s.value(w).shape)
    macs = prod(kernel) * prod((inner if transposed else outer)[1:])
    lean = axes == 2 and s.value(i).device.type == "cpu"
    if not transposed:
        extra = tuple(
            inner[1 + a] - ((outer[1 + a] - 1) * stride[a] - 2 * padding[a] + dilation[a] * (kernel[2 + a] - 1) + 1)
            for a in range(axes)
        )

    def gathered(weight: Tensor, v: Tensor) -> Tensor:
        if lean:
            v = v.contiguous(memory_format=torch.channels_last)
        return torch.convolution(v, weight, None, stride, padding, dilation, False, (0,) * axes, groups)

    def scattered(weight: Tensor, g: Tensor) -> Tensor:
        return spread(g, weight, stride, padding, dilation, extra, groups)

    pull, push = (gathered, scattered) if transposed else (scattered, gathered)
    structure = f"{'transposed ' if transposed else ''}convolution {'x'.join(map(str, kernel))}"
    return _edge(op, s, i, inner, outer, structure, lambda r: r[w], pull, push, macs * SLOWNESS, reads=(w,))


def average_pool(op: Op, s: Setting) -> list[Edge] | None:
    """avg_pool and adaptive_avg_pool: linear, the same for all samples."""
    name = op.name
    if not name.startswith(("avg_pool", "adaptive_avg_pool")):
        return None
    axes = int(name[-2])
    found = _images(op, s, axes)
    if found is None:
        return None
    i, inner, outer = found
    rest, kwargs = op.args[1:], op.kwargs
    target = op.target

    def push(_: Any, v: Tensor) -> Tensor:
        return target(v, *rest, **kwargs)

    def pull(_: Any, g: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = g.new_zeros(len(g), *inner).requires_grad_()
            y = target(leaf, *rest, **kwargs)
        return torch.autograd.grad(y, leaf, g)[0]

    return _edge(op, s, i, inner, outer, "average pool", lambda r: None, pull, push, 2.0 * prod(inner), calls=12)


def max_pool(op: Op, s: Setting) -> list[Edge] | None:
    """max_pool and adaptive_max_pool: of each window the entry that won."""
    name = op.name.removesuffix("_with_indices")
    if not name.startswith(("max_pool", "adaptive_max_pool")):
        return None
    axes = int(name[-2])
    found = _images(op, s, axes)
    if found is None:
        return None
    i, inner, outer = found
    finder = getattr(torch.nn.functional, name)
    rest, kwargs, out, n = op.args[1:], op.kwargs, op.outputs[0], s.size(i)
    images = n // prod(inner)
    m, space = images * prod(outer), prod(inner[1:])
    s.set(out, Layout(1, m), op)

    def make(r: Registers) -> Tensor:
        given = {"kernel_size": 0, "stride": 1, "padding": 2, "dilation": 3, "ceil_mode": 4}
        if name.startswith("adaptive"):
            index = finder(r[i], *rest, **kwargs, return_indices=True)[1]
        else:
            options = {key: rest[at] for key, at in given.items() if at < len(rest)} | kwargs
            if options.get("stride") == []:
                options.pop("stride")
            index = finder(r[i], **options, return_indices=True)[1]
        flat = index.reshape(-1, images, inner[0], prod(outer[1:]))
        channels = torch.arange(images * inner[0], device=index.device).reshape(images, inner[0], 1) * space
        flat = flat + channels
        return flat.reshape(-1, 1, m) if s.batch else flat.reshape(m)

    return [Edge(i, out, picked(op.label, m, n, s.batch, make, "maxima of windows"))]
