"""What the local Jacobians of operations are: elementwise ones, products with weights, and what moves entries about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.chain.factors import Factor, Registers, diagonal, gather, identity, matrix, operator, scaled
from eitherway.calculus.chain.forward import contents
from eitherway.calculus.chain.layout import Layout, Setting
from eitherway.graph import Op, Ref

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Edge:
    """A local Jacobian between two values."""

    source: int
    target: int
    factor: Factor


Rule = Callable[[Op, Setting], "list[Edge] | None"]
"""Gives an operation's edges and sets the layout of its results; None if it is not one of the rule's after all."""


def only(op: Op, s: Setting) -> int | None:
    """The one value that a gradient reaches the operation from; None if there are several, or one that comes twice."""
    found = [i for i in op.inputs if i in s.layouts]
    return found[0] if len(found) == 1 else None


def argument(op: Op, position: int, name: str, default: Any = None) -> Any:
    return op.args[position] if position < len(op.args) else op.kwargs.get(name, default)


# --- elementwise ----------------------------------------------------------------------------------------------------

OUT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda y, one: torch.sign(y),  # never negative, and 0 for what is no number
    "tanh": lambda y, one: torch.addcmul(one, y, y, value=-1),
    "sigmoid": lambda y, one: aten.sigmoid_backward.default(one, y),
    "exp": lambda y, one: y,
    "sqrt": lambda y, one: 0.5 / y,
}
"""Slopes from what the operation gave, and a one of its dtype: a call fewer than arithmetic with a Python number."""
IN: dict[str, Callable[..., Tensor]] = {
    "gelu": lambda x, approximate="none": aten.gelu_backward.default(torch.ones_like(x), x, approximate=approximate),
    "silu": lambda x: aten.silu_backward.default(_ones(x), x),
    "sin": lambda x: torch.cos(x),
    "cos": lambda x: -torch.sin(x),
    "log": lambda x: torch.reciprocal(x),
}
"""Slopes from what it was given."""
PLAIN = {
    "abs", "neg", "square", "pow", "leaky_relu", "elu", "selu", "celu", "softplus", "logsigmoid", "log_sigmoid",
    "hardtanh", "relu6", "hardswish", "hardsigmoid", "mish", "clamp", "clamp_min", "clamp_max", "erf", "expm1", "log1p",
    "rsqrt", "reciprocal",
    "softshrink", "hardshrink", "tanhshrink", "threshold", "softsign", "mul", "div", "add", "sub",
    "true_divide", "rsub", "where", "maximum", "minimum", "masked_fill", "lerp", "addcmul", "addcdiv", "prelu", "atan2",
    "hypot",
}  # fmt: skip
"""Elementwise without being tagged so, or not all of them."""


def _ones(x: Tensor) -> Tensor:
    return x.new_ones(()).expand_as(x)


def is_elementwise(op: Op) -> bool:
    name = op.name.rstrip("_")
    return name in OUT or name in IN or name in PLAIN or torch.Tag.pointwise in getattr(op.target, "tags", ())


def elementwise(op: Op, s: Setting) -> list[Edge] | None:
    """Any operation whose every output depends on one entry of each input, with broadcasting."""
    if not is_elementwise(op) or op.custom or len(op.outputs) != 1:
        return None
    out = op.outputs[0]
    shape, name = s.value(out).shape, op.name.rstrip("_")
    given = list(dict.fromkeys(i for i in op.inputs if i in s.layouts))
    for i in given:
        s.set(out, s.broadcast(i, shape), op)
    edges = []
    for i in given:
        plain = s.value(i).shape == shape
        n, label = s.size(out), op.label
        if (plain or len(given) > 1) and (quick := _quick(op, name, i, out, s)) is not None:
            factor = quick
        else:
            factor = _slope(op, i, out, s)
        if plain:
            edges.append(Edge(i, out, factor))
        else:
            edges.append(Edge(i, out, _broadcast(label, s.size(i), n, i, out, factor, s)))
    return edges


def _quick(op: Op, name: str, i: int, out: int, s: Setting) -> Factor | None:
    """Slopes without a call of autograd."""
    n, varying = s.size(out), bool(s.batch)
    if name in ("add", "sub", "mul", "div", "true_divide") and "rounding_mode" not in op.kwargs:
        return _arithmetic(op, name, i, out, s)
    if name in OUT:
        slope, rows = OUT[name], s.reader(out)
        one = torch.ones((), dtype=s.value(out).dtype, device=s.value(out).device)
        return diagonal(op.label, n, lambda r: slope(rows(r[out]), one), varying, reads=(out,))
    if name in IN:
        slope_in, rows, kwargs = IN[name], s.reader(i), op.kwargs
        return diagonal(op.label, n, lambda r: slope_in(rows(r[i]), **kwargs), varying, reads=(i,))
    if name == "neg":
        return scaled(op.label, n, lambda r: -1.0)
    return None


def _arithmetic(op: Op, name: str, i: int, out: int, s: Setting) -> Factor | None:
    """Sums, products and quotients of tensors and numbers."""
    n, label = s.size(out), op.label
    first, second = argument(op, 0, "self"), argument(op, 1, "other")
    if first == second:
        return None
    mine = type(first) is Ref and first.index == i
    other = second if mine else first
    if name in ("add", "sub"):
        factor = 1.0 if mine else float(op.kwargs.get("alpha", 1)) * (-1.0 if name == "sub" else 1.0)
        return identity(label, n) if factor == 1 else scaled(label, n, lambda r: factor)
    if not isinstance(other, Ref):
        if (
            isinstance(other, bool)
            or not isinstance(other, (int, float))
            or (name != "mul" and (not mine or not other))
        ):
            return None
        number = float(other) if name == "mul" else 1.0 / float(other)
        return scaled(label, n, lambda r: number)
    if name == "mul" or mine:
        if other.index not in s.layouts and not s.value(other).depends:
            return _constant_scale(op, name, other.index, out, s)
        j = other.index

        def times(r: Registers) -> Tensor:
            d = s.rows(r[j].expand(r[out].shape), out)
            return d if name == "mul" else d.reciprocal()

        return diagonal(label, n, times, bool(s.batch))

    def below(r: Registers) -> Tensor:
        """y = a / x: dy/dx = -y / x."""
        return s.rows((r[out] / r[i]).neg_(), out)

    return diagonal(label, n, below, bool(s.batch))


def _constant_scale(op: Op, name: str, other: int, out: int, s: Setting) -> Factor:
    """Times, or over, a tensor from outside, which may be the same for all samples."""
    shape, n = s.value(out).shape, s.size(out)
    own = s.value(other).shape
    padded = (1,) * (len(shape) - len(own)) + tuple(own)
    shared = s.batch > 0 and s.alone(out) and padded[s.axis(out)] == 1
    one = tuple(1 if a == s.axis(out) else length for a, length in enumerate(shape)) if shared else tuple(shape)

    def make(r: Registers) -> Tensor:
        d = r[other].expand(one)
        d = d.reshape(-1) if shared else s.rows(d, out)
        return d if name == "mul" else d.reciprocal()

    varying = bool(s.batch) and not shared
    return diagonal(op.label, n, make, varying, "shared diagonal" if shared else "diagonal", (other,))


def _slope(op: Op, i: int, out: int, s: Setting) -> Factor:
    """The slope with respect to one input, by autograd of this operation alone on inputs of the full shape."""
    target = op.functional or op.target

    def make(r: Registers) -> Tensor:
        leaf = r[i].detach().expand(r[out].shape).clone().requires_grad_()
        args, kwargs = s.arguments(op, lambda j: leaf if j == i else r[j].detach())
        with torch.enable_grad():
            y = target(*args, **kwargs)
        if not y.requires_grad:
            return s.rows(torch.zeros_like(y), out)
        (d,) = torch.autograd.grad(y, leaf, torch.ones_like(y), allow_unused=True)
        return s.rows(torch.zeros_like(y) if d is None else d, out)

    return diagonal(op.label, s.size(out), make, bool(s.batch))


def _broadcast(label: str, n: int, m: int, i: int, out: int, slope: Factor, s: Setting) -> Factor:
    """A diagonal after a broadcast: pulled back, the copies are added."""
    small, large = _sample_shape(i, s), _sample_shape(out, s)
    small = (1,) * (len(large) - len(small)) + small
    summed = tuple(a - len(large) for a in range(len(large)) if small[a] == 1 and large[a] != 1)

    def push(d: Any, stack: Tensor) -> Tensor:
        wide = stack.reshape(*stack.shape[:-1], *small).expand(*stack.shape[:-1], *large)
        return wide.reshape(*stack.shape[:-1], m) * d

    def pull(d: Any, stack: Tensor) -> Tensor:
        scaled_stack = stack * d
        cut = scaled_stack.reshape(*scaled_stack.shape[:-1], *large)
        return cut.sum(summed).reshape(*scaled_stack.shape[:-1], n) if summed else cut.flatten(-len(large))

    return operator(
        label, m, n, "broadcast diagonal", slope.make, pull, push, varying=slope.varying, products=0, elements=3.0 * m
    )


def _sample_shape(index: int, s: Setting) -> tuple[int, ...]:
    """The axes of one sample, in the order that its entries lie in; the samples' axis is gone, or what it leaves."""
    shape = tuple(s.value(index).shape)
    if not s.batch:
        return shape or (1,)
    axis = s.axis(index)
    return (*shape[:axis], shape[axis] // s.batch, *shape[axis + 1 :])


# --- what moves entries ---------------------------------------------------------------------------------------------

VIEWS = {
    "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "contiguous", "clone", "alias", "view_as",
    "reshape_as", "_unsafe_view", "_reshape_alias", "dropout", "feature_dropout", "alpha_dropout", "ravel", "to",
    "_to_copy", "type_as", "double", "float", "lift_fresh", "identity",
}  # fmt: skip
"""What leaves entries and their order as they are. Dropout in eval mode is one: in training it is random."""
MOVES = {
    "transpose", "permute", "t", "mT", "mH", "T", "adjoint", "movedim", "swapaxes", "swapdims", "moveaxis", "numpy_T",
    "select", "slice", "narrow", "index_select", "flip", "fliplr", "flipud", "roll", "rot90", "expand", "expand_as",
    "repeat", "tile", "repeat_interleave", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "split",
    "split_with_sizes", "chunk", "unbind", "tensor_split", "unfold", "constant_pad_nd", "pad", "reflection_pad1d",
    "reflection_pad2d", "replication_pad1d", "replication_pad2d", "im2col", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "diagonal", "diag", "diag_embed", "tril", "triu", "index", "gather", "take", "take_along_dim",
    "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "broadcast_to", "atleast_1d", "atleast_2d", "atleast_3d",
    "dsplit", "hsplit", "vsplit", "block_diag", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "masked_select",
}  # fmt: skip
"""What puts entries elsewhere, leaves some out, repeats some, or sets zeros and constants beside them."""


def views(op: Op, s: Setting) -> list[Edge] | None:
    i = only(op, s)
    if op.name not in VIEWS or i is None or op.args[0] != Ref(i) or len(op.outputs) != 1:
        return None
    out = op.outputs[0]
    if s.value(out).numel != s.value(i).numel:
        return None
    s.set(out, s.layouts[i], op)
    return [Edge(i, out, identity(op.label, s.size(i)))]


def moves(op: Op, s: Setting) -> list[Edge] | None:
    """Runs the operation on the numbers of the entries instead of on the entries."""
    if op.name not in MOVES:
        return None
    given = list(dict.fromkeys(i for i in op.inputs if i in s.layouts))
    live = [
        i for i in op.inputs if i not in s.layouts and s.value(i).depends and not s.value(i).dtype.is_floating_point
    ]
    if live or any(_is_index(op, i) for i in given):
        return None  # what goes where is known at each run only
    edges: list[Edge] = []
    for i in given:

        def lookup(j: int, i: int = i) -> Tensor:
            value = s.value(j)
            if j == i:
                return s.codes(i)
            if not value.dtype.is_floating_point:
                return value.tensor if value.tensor is not None else contents(s)[j]
            return torch.zeros(value.shape, dtype=torch.float64, device=value.device)

        args, kwargs = s.arguments(op, lookup)
        if op.name in ("constant_pad_nd", "pad"):
            args = args[:2] if op.name == "constant_pad_nd" else args[:3]
        with torch.no_grad():
            answer = op.target(*args, **kwargs)
        for out, codes in zip(op.outputs, [answer] if isinstance(answer, Tensor) else answer):
            if not bool(codes.any()):
                continue
            layout, index = s.decode(codes, i, op)
            s.set(out, layout, op)
            n = s.size(i)
            if len(index) == n and bool((index == torch.arange(n, device=index.device)).all()):
                edges.append(Edge(i, out, identity(op.label, n)))
            else:
                edges.append(Edge(i, out, gather(op.label, len(index), index, n)))
    return edges


def _is_index(op: Op, i: int) -> bool:
    return op.name in ("index", "gather", "index_select", "take") and Ref(i) != op.args[0]


# --- products with weights ------------------------------------------------------------------------------------------


def weights(op: Op, s: Setting) -> list[Edge] | None:
    """x W on the last axis, with W from outside: linear, matmul, mm, addmm, mv."""
    found = _weight(op, s)
    if found is None:
        return None
    i, make, inner, outer = found
    if not s.clear_of(i, 1) or is_sparse(op, s):
        return None
    out, layout = op.outputs[0], s.layouts[i]
    s.set(out, Layout(layout.outer, layout.inner // inner * outer), op)
    blocks = s.size(i) // inner
    shape = f"{outer} x {inner}" + (f", for each of {blocks}" if blocks > 1 else "")
    w = next(j for j in op.inputs if j != i)
    return [Edge(i, out, matrix(op.label, blocks * outer, blocks * inner, blocks, make, f"linear {shape}", (w,)))]


def is_sparse(op: Op, s: Setting) -> bool:
    """Whether a tensor from outside is not an ordinary one."""
    tensors = [s.value(i).tensor for i in op.inputs]
    return any(t is not None and t.layout != torch.strided for t in tensors)


def _weight(op: Op, s: Setting) -> tuple[int, Callable[[Registers], Tensor], int, int] | None:
    """(input, W (outer, inner), inner, outer)."""
    name, i = op.name, only(op, s)
    if i is None:
        return None
    if name == "linear" and op.args[0] == Ref(i):
        w = op.args[1].index
        shape = s.value(w).shape
        if len(shape) == 1:
            return i, lambda r: r[w][None], shape[0], 1
        return i, lambda r: r[w], shape[1], shape[0]
    if name == "addmm" and op.args[1] == Ref(i) and not {"alpha", "beta"} & set(op.kwargs):
        first, second = op.args[1], op.args[2]
    elif name in ("matmul", "mm", "mv", "dot") and len(op.args) == 2:
        first, second = op.args
    else:
        return None
    if type(first) is not Ref or type(second) is not Ref:
        return None
    if first.index == i and len(s.value(second).shape) <= 2:
        w = second.index
        shape = s.value(w).shape
        if len(shape) == 1:
            return i, lambda r: r[w][None], shape[0], 1
        return i, lambda r: r[w].mT, shape[0], shape[1]
    if second.index == i and len(s.value(i).shape) == 1:
        w = first.index
        shape = s.value(w).shape
        if len(shape) == 1:
            return i, lambda r: r[w][None], shape[0], 1
        if len(shape) == 2:
            return i, lambda r: r[w], shape[1], shape[0]
    return None
