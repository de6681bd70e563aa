"""Proof from a captured run that a function is linear or affine: each operation keeps it so, whatever x is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from eitherway.graph import Graph, Op, Ref


class Order(IntEnum):
    """How a value depends on the inputs; the larger one wins where two meet."""

    CONSTANT = 0
    LINEAR = 1
    AFFINE = 2
    OTHER = 3


@dataclass(frozen=True)
class Certificate:
    """What a graph proves.

    Args:
        order: of the output.
        breaks: the first operations that are not affine, as a person would point at them.
    """

    order: Order
    breaks: tuple[str, ...]


MOVES = frozenset(
    [
        "view",
        "reshape",
        "_unsafe_view",
        "view_as",
        "permute",
        "transpose",
        "t",
        "numpy_T",
        "mT",
        "select",
        "slice",
        "narrow",
        "expand",
        "expand_as",
        "unsqueeze",
        "squeeze",
        "flatten",
        "unflatten",
        "clone",
        "contiguous",
        "alias",
        "roll",
        "flip",
        "fliplr",
        "flipud",
        "rot90",
        "movedim",
        "moveaxis",
        "swapaxes",
        "swapdims",
        "repeat",
        "tile",
        "repeat_interleave",
        "chunk",
        "split",
        "split_with_sizes",
        "tensor_split",
        "unbind",
        "tril",
        "triu",
        "diagonal",
        "diag",
        "diag_embed",
        "unfold",
        "im2col",
        "col2im",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "real",
        "imag",
        "view_as_real",
        "view_as_complex",
        "resolve_conj",
        "resolve_neg",
        "lift_fresh",
        "as_strided",
        "take",
        "index_select",
        "gather",
        "index",
        "hstack",
        "vstack",
        "cat",
        "stack",
        "concat",
        "concatenate",
        "column_stack",
        "meshgrid",
        "broadcast_to",
        "atleast_1d",
        "atleast_2d",
        "ravel",
        "adjoint",
        "conj",
        "conj_physical",
    ]
)
"""Elements are copied and moved; where to is decided by constants."""
SUMS = frozenset(
    [
        "sum",
        "mean",
        "cumsum",
        "neg",
        "positive",
        "sub",
        "add",
        "rsub",
        "trace",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "upsample_linear1d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
        "upsample_trilinear3d",
        "fft_fft",
        "fft_ifft",
        "fft_rfft",
        "fft_irfft",
        "fft_fft2",
        "fft_ifft2",
        "fft_fftn",
        "fft_ifftn",
        "fft_fftshift",
        "fft_ifftshift",
        "nansum",
        "diff",
        "dropout",
        "feature_dropout",
        "alpha_dropout",
        "native_dropout",
        "scatter_add",
        "index_add",
    ]
)
"""Sums of elements with constant weights."""
PRODUCTS = frozenset(
    [
        "mul",
        "matmul",
        "mm",
        "bmm",
        "mv",
        "dot",
        "vdot",
        "inner",
        "outer",
        "ger",
        "einsum",
        "tensordot",
        "kron",
        "linear",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "convolution",
        "addmm",
        "addmv",
        "addbmm",
        "baddbmm",
        "bilinear",
        "multiply",
        "linalg_matmul",
        "addcmul",
    ]
)
"""Linear in each factor: affine as long as no more than one factor depends on the inputs."""
SCALED = frozenset(["div", "divide", "true_divide", "batch_norm", "instance_norm"])
"""Affine in the first argument alone, by constants."""


def certify(graph: Graph) -> Certificate:
    """Follows each value from the inputs to the output.

    Args:
        graph: of a function of any number of tensors with one output.
    """
    orders = [Order.LINEAR if value.kind == "input" else Order.CONSTANT for value in graph.values]
    breaks: list[str] = []
    for op in graph.ops:
        if not any(orders[i] for i in op.inputs):
            continue
        found = _order(graph, op, orders)
        if found is Order.OTHER and not any(orders[i] is Order.OTHER for i in op.inputs) and op.index in graph.needed:
            breaks.append(op.label)
        for i in op.outputs:
            orders[i] = found
    if graph.guards:
        breaks += [graph.ops[i].label for i in graph.guards]
    breaks += [op.label for op in graph.ops if op.mutates and op.functional is None]
    doubtful = graph.opaque or not graph.pure or graph.random or graph.guards
    order = Order.OTHER if doubtful else max((orders[i] for i in graph.outputs), default=Order.CONSTANT)
    if graph.opaque:
        breaks.append(graph.opaque)
    return Certificate(order, tuple(dict.fromkeys(breaks)))


def _order(graph: Graph, op: Op, orders: list[Order]) -> Order:
    """What an operation makes of what it reads."""
    name = op.name.removesuffix("_") if op.mutates else op.name
    read = [orders[i] for i in op.inputs]
    highest = max(read)
    if highest is Order.OTHER or op.custom or op.cut or op.random:
        return Order.OTHER
    first = _order_of(op.args[0], orders) if op.args else Order.CONSTANT
    if name in MOVES:
        others = [order for arg in op.args[1:] for order in _orders_in(arg, orders)]
        moved_by_input = any(others) and name in ("index_select", "gather", "index", "take", "repeat_interleave")
        return Order.OTHER if moved_by_input else _with_constants(read)
    if name == "to" or name.startswith("_to_copy") or name == "type_as":
        made = graph.values[op.outputs[0]].dtype
        return highest if made.is_floating_point or made.is_complex else Order.OTHER
    if name in SUMS:
        return _shifted(op, read, _scalars_added(op, name))
    if name in PRODUCTS:
        return _product(op, name, orders)
    if name in SCALED:
        if any(orders[i] for i in op.inputs[1:]) or not first or True in op.args[:6]:
            return Order.OTHER
        return first if name.startswith(("div", "true")) and _plain_division(op) else _affine_if(name, first)
    if name in ("constant_pad_nd", "pad"):
        return first if _pads_with_zero(op) else Order.AFFINE
    if name in ("where", "masked_fill"):
        return _chosen(op, name, orders)
    return Order.OTHER


def _plain_division(op: Op) -> bool:
    """Division as such, not rounded: `rounding_mode` would be a third argument."""
    return op.kwargs.get("rounding_mode") is None and len(op.args) < 3


def _affine_if(name: str, first: Order) -> Order:
    return Order.AFFINE if name.endswith("norm") else Order.OTHER if name.startswith(("div", "true")) else first


def _with_constants(read: list[Order]) -> Order:
    """Joined with constants, a linear part is affine."""
    highest = max(read)
    return Order.AFFINE if highest is Order.LINEAR and Order.CONSTANT in read and len(read) > 1 else highest


def _shifted(op: Op, read: list[Order], scalar: bool) -> Order:
    joined = _with_constants(read)
    return Order.AFFINE if scalar and joined is Order.LINEAR else joined


def _scalars_added(op: Op, name: str) -> bool:
    """Whether a number other than 0 is added: x + 1."""
    if name not in ("add", "sub", "rsub"):
        return False
    return any(isinstance(arg, (int, float, complex)) and arg != 0 for arg in op.args[:2])


def _product(op: Op, name: str, orders: list[Order]) -> Order:
    """At most one factor may depend on the inputs; what is added afterwards shifts."""
    factors, added = list(op.args), []
    if name in ("linear", "bilinear") or name.startswith("conv"):
        factors, added = list(op.args[: 3 if name == "bilinear" else 2]), list(op.args[2:4])
    elif name in ("addmm", "addmv", "addbmm", "baddbmm", "addcmul"):
        factors, added = list(op.args[1:3]), list(op.args[:1])
    inside = [order for arg in factors for order in _orders_in(arg, orders) if order]
    outside = [order for arg in added for order in _orders_in(arg, orders)]
    if len(inside) > 1:
        return Order.OTHER
    inner = inside[0] if inside else Order.CONSTANT
    if not outside:
        return inner
    return max(inner, *outside) if Order.CONSTANT not in (inner, *outside) else Order.AFFINE


def _chosen(op: Op, name: str, orders: list[Order]) -> Order:
    """where(mask, a, b) with a constant mask; masked_fill(x, mask, value)."""
    mask = op.args[0] if name == "where" else op.args[1]
    if _order_of(mask, orders):
        return Order.OTHER
    taken = op.args[1:3] if name == "where" else (op.args[0], op.args[2])
    orders_taken = [order for arg in taken for order in _orders_in(arg, orders)]
    plain = [arg for arg in taken if isinstance(arg, (int, float)) and arg != 0]
    return Order.AFFINE if plain else _with_constants(orders_taken)


def _pads_with_zero(op: Op) -> bool:
    given = [arg for arg in op.args[2:] if isinstance(arg, (int, float))]
    mode = next((arg for arg in op.args[2:] if isinstance(arg, str)), "constant")
    return mode == "constant" and not any(given) and not op.kwargs.get("value")


def _order_of(arg: object, orders: list[Order]) -> Order:
    return orders[arg.index] if type(arg) is Ref else Order.CONSTANT


def _orders_in(arg: object, orders: list[Order]) -> list[Order]:
    if isinstance(arg, (list, tuple)):
        return [order for part in arg for order in _orders_in(part, orders)]
    return [_order_of(arg, orders)] if type(arg) is Ref else []
