"""Each operation of a run as an affine map of one tensor: form and axis, by its shapes, never by class names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from eitherway.graph import Graph, Op, Ref
from eitherway.linear.fuse.constants import Constants
from eitherway.linear.fuse.merges import Dense, Diagonal, Form, Kernel, Transposed, ZeroPad

MOVES = {
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "numpy_T", "matrix_H", "mT",
    "swapaxes", "swapdims", "movedim", "moveaxis", "squeeze", "unsqueeze", "slice", "select", "narrow", "index_select",
    "expand", "expand_as", "flip", "roll", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "contiguous", "clone",
    "repeat", "tile", "repeat_interleave", "rot90", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "view_as", "reshape_as", "adjoint", "alias", "ravel",
}  # fmt: skip
"""Operations that only move elements."""
OTHERS = {
    "mean", "sum", "cumsum", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d",
    "upsample_bicubic2d", "im2col", "col2im", "diagonal", "tril", "triu", "diff",
}  # fmt: skip
"""Linear operations without a form of their own."""
_QUIET = {"dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"}


@dataclass(frozen=True)
class Reading:
    """What an operation is to the tensor it reads."""

    kind: Literal["form", "move", "other", "join"]
    data: int
    """The value it is affine in."""
    form: Form | None = None
    second: int = -1
    """Of a join: the other value."""
    factors: tuple[float, float] = (1.0, 1.0)
    """Of a join."""
    weighted: bool = False
    """Whether a person would call it a layer with weights."""


Reader = Callable[[dict[str, Any], Graph, Constants], Reading | str | None]


def read(op: Op, graph: Graph, constants: Constants) -> Reading | str | None:
    """The operation as an affine map; a sentence where one could have expected that; None where it is not one.

    Args:
        constants: which values no input reaches.
    """
    if op.custom or op.random or len(op.outputs) != 1 or (op.cut and op.name in ("detach", "data")):
        return None
    moving = [i for i in op.inputs if i not in constants]
    output = graph.values[op.outputs[0]]
    if not moving or not output.dtype.is_floating_point:
        return None
    if any(graph.values[i].dtype != output.dtype for i in moving):
        return None
    name = op.name.removesuffix("_")
    given = _named(op)
    if given is None:
        return None
    if name in MOVES:
        if name == "index_select" and len(moving) != 1:
            return None
        return Reading("move", moving[0]) if len(set(moving)) == 1 else None
    if name == "pad":
        return _pad(given, moving)
    reader = _READERS.get(name)
    if reader is not None:
        found = reader({**given, "outputs": op.outputs}, graph, constants)
        if isinstance(found, Reading) and isinstance(found.form, Diagonal) and found.kind == "form":
            if not all(t is None or bool(t.isfinite().all()) for t in (found.form.scale, found.form.shift)):
                return None  # infinities mask; they do not multiply out
            same = graph.values[found.data].shape == output.shape
            return found if same else Reading("other", found.data)
        return found
    if name in OTHERS and len(moving) == 1:
        return Reading("other", moving[0])
    return None


def _named(op: Op) -> dict[str, Any] | None:
    """Arguments by the names of the schema, defaults included."""
    schema = getattr(op.target, "_schema", None)
    if schema is None:
        return None
    found = {}
    for i, argument in enumerate(schema.arguments):
        if i < len(op.args):
            found[argument.name] = op.args[i]
        else:
            found[argument.name] = op.kwargs.get(argument.name, argument.default_value)
    return found


def _of(given: Any) -> int:
    return given.index if type(given) is Ref else -1


def _tensor(given: Any, constants: Constants) -> Tensor | None:
    return None if given is None else constants.exact(_of(given))


def _all_constant(constants: Constants, *given: Any) -> bool:
    return all(g is None or (type(g) is Ref and g.index in constants) for g in given)


def _linear(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    data = _of(a["input"])
    if data in constants or not _all_constant(constants, a["weight"], a["bias"]):
        return "its weights follow the input"
    weight = _tensor(a["weight"], constants)
    if weight is None or weight.dim() != 2 or not weight.is_floating_point():
        return None
    return Reading("form", data, Dense(weight, _tensor(a["bias"], constants)), weighted=True)


def _matmul(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    left, right = (_of(a[n]) for n in (("input", "mat2") if "mat2" in a and "input" in a else _pair(a)))
    if left in constants and right not in constants:
        return Reading("other", right, weighted=True)
    if right not in constants:
        return None
    matrix = constants.exact(right)
    if matrix.dim() != 2 or len(graph.values[left].shape) < 2:
        return Reading("other", left, weighted=True)
    return Reading("form", left, Dense(matrix.T), weighted=True)


def _pair(a: dict[str, Any]) -> tuple[str, str]:
    names = [name for name in a if name in ("self", "other", "mat2", "vec")]
    return names[0], names[1]


def _addmm(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    data = _of(a["mat1"])
    if data in constants or not _all_constant(constants, a["self"], a["mat2"]):
        return None
    bias, matrix = constants.exact(_of(a["self"])), constants.exact(_of(a["mat2"]))
    if bias.dim() > 1 and bias.shape[:-1].numel() != 1:
        return Reading("other", data, weighted=True)
    row = (bias.double() * float(a["beta"])).reshape(-1).expand(matrix.shape[1])
    return Reading("form", data, Dense(matrix.T * float(a["alpha"]), row), weighted=True)


def _convolution(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    data = _of(a["input"])
    if data in constants or not _all_constant(constants, a["weight"], a["bias"]):
        return "its weights follow the input"
    weight, bias = _tensor(a["weight"], constants), _tensor(a["bias"], constants)
    if weight is None:
        return None
    n = weight.dim() - 2
    stride, dilation = _spread(a["stride"], n), _spread(a["dilation"], n)
    if a.get("transposed") or ("output_padding" in a and "transposed" not in a):
        padding, more = _spread(a["padding"], n), _spread(a["output_padding"], n)
        form: Form = Transposed(weight, bias, stride, padding, more, dilation, int(a["groups"]))
        return Reading("form", data, form, weighted=True)
    padding = a["padding"]
    if padding == "valid":
        padding = 0
    elif padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
        if any(r % 2 for r in reach):
            return Reading("other", data, weighted=True)  # one zero more on one side
        padding = [r // 2 for r in reach]
    form = Kernel(weight, bias, stride, _spread(padding, n), dilation, int(a["groups"]))
    return Reading("form", data, form, weighted=True)


def _spread(given: Any, n: int) -> tuple[int, ...]:
    """One number for all axes, or one each."""
    found = [int(g) for g in (given if isinstance(given, (list, tuple)) else [given])]
    return tuple(found * n if len(found) == 1 else found)


def _batch_norm(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    data = _of(a["input"])
    training = a["training"] if "training" in a else a.get("use_input_stats", True)
    if training or a["running_mean"] is None or a["running_var"] is None:
        return "it is normalised by the statistics of its own batch, which no constant scale can stand for"
    if data in constants or not _all_constant(constants, a["weight"], a["bias"], a["running_mean"], a["running_var"]):
        return "its scale follows the input"
    mean, variance = constants.exact(_of(a["running_mean"])), constants.exact(_of(a["running_var"]))
    scale = torch.rsqrt(variance + float(a["eps"]))
    weight, bias = _tensor(a["weight"], constants), _tensor(a["bias"], constants)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    rank = len(graph.values[data].shape)
    if rank < 2:
        return None
    column = (-1, *[1] * (rank - 2))  # axis 1, whatever the layer before it mixed
    return Reading("form", data, Diagonal(scale.reshape(1, *column), shift.reshape(1, *column)))


def _avg_pool(n: int) -> Reader:
    def reader(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
        data = _of(a["self"])
        size, padding = _spread(a["kernel_size"], n), _spread(a["padding"], n)
        stride = _spread(a["stride"] or a["kernel_size"], n)
        shape = graph.values[data].shape
        if a["ceil_mode"] or (any(padding) and not a["count_include_pad"]) or len(shape) < n + 1:
            return Reading("other", data)
        channels, number = shape[-1 - n], a.get("divisor_override") or torch.Size(size).numel()
        weight = torch.full((channels, 1, *size), 1.0 / number, dtype=torch.float64, device=graph.values[data].device)
        return Reading("form", data, Kernel(weight, None, stride, padding, (1,) * n, channels))

    return reader


def _pad(a: dict[str, Any], moving: list[int]) -> Reading | None:
    pads, mode, value = a["pad"], a.get("mode", "constant"), a.get("value")
    if mode != "constant":
        return Reading("move", moving[0])
    sides = list(zip(pads[::2], pads[1::2]))[::-1]
    if value or any(left != right or left < 0 for left, right in sides):
        return Reading("other", moving[0])
    return Reading("form", moving[0], ZeroPad(tuple(left for left, _ in sides)))


def _number(given: Any, constants: Constants) -> Tensor | float | None:
    if type(given) is Ref:
        if given.index not in constants:
            return None
        tensor = constants.exact(given.index)
        return tensor.double() if not tensor.is_complex() else None
    return float(given) if isinstance(given, (int, float)) else None


def _broad(factor: Tensor | float, rank: int, device: torch.device) -> Tensor:
    tensor = factor if isinstance(factor, Tensor) else torch.tensor(factor, dtype=torch.float64, device=device)
    return tensor.reshape(*[1] * (rank - tensor.dim()), *tensor.shape) if tensor.dim() < rank else tensor


def _mul(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    one, two = _of(a["self"]), a["other"]
    data, factor = (one, _number(two, constants)) if one not in constants else (_of(two), _number(a["self"], constants))
    if factor is None or data < 0 or data in constants:
        return None
    value = graph.values[data]
    return Reading("form", data, Diagonal(_broad(factor, len(value.shape), value.device)))


def _div(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    data, factor = _of(a["self"]), _number(a["other"], constants)
    if data in constants or factor is None or a.get("rounding_mode"):
        return None
    value = graph.values[data]
    return Reading("form", data, Diagonal(1.0 / _broad(factor, len(value.shape), value.device)))


def _neg(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    data = _of(a["self"])
    value = graph.values[data]
    return Reading("form", data, Diagonal(_broad(-1.0, len(value.shape), value.device)))


def _sum_of(sign: float, *, reverse: bool = False) -> Reader:
    """add, sub and rsub: of two tensors that both follow the input a join, else a shift."""

    def reader(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
        one, alpha = a["self"], float(a.get("alpha") or 0.0) if a.get("alpha") is not None else 1.0
        factors = (sign * alpha, 1.0) if reverse else (1.0, sign * alpha)
        first, second = _of(one), _of(a["other"])
        output = graph.values[a["outputs"][0]]
        both = first >= 0 and second >= 0 and first not in constants and second not in constants
        if both:
            same = graph.values[first].shape == graph.values[second].shape == output.shape
            return Reading("join", first, second=second, factors=factors) if same else None
        data, other, mine, theirs = first, a["other"], *factors
        if first < 0 or first in constants:
            data, other, mine, theirs = second, one, *factors[::-1]
        factor = _number(other, constants)
        if factor is None or data < 0:
            return None
        value = graph.values[data]
        rank = len(value.shape)
        scale = None if mine == 1.0 else _broad(mine, rank, value.device)
        return Reading("form", data, Diagonal(scale, _broad(factor, rank, value.device) * theirs))

    return reader


def _nothing(a: dict[str, Any], graph: Graph, constants: Constants) -> Reading | str | None:
    if a.get("train") and float(a["p"]) > 0:
        return "dropout is active, so each call answers differently"
    return Reading("form", _of(a["input"]), Diagonal())


_READERS: dict[str, Reader] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "addmm": _addmm,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "_convolution"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
    **dict.fromkeys(("batch_norm", "instance_norm", "_batch_norm_impl_index"), _batch_norm),
    **{f"avg_pool{n}d": _avg_pool(n) for n in (1, 2, 3)},
    **dict.fromkeys(("mul", "multiply"), _mul),
    **dict.fromkeys(("div", "divide", "true_divide"), _div),
    "neg": _neg,
    "add": _sum_of(1.0),
    **dict.fromkeys(("sub", "subtract"), _sum_of(-1.0)),
    "rsub": _sum_of(-1.0, reverse=True),
    **dict.fromkeys(_QUIET, _nothing),
}
