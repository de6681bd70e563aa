"""What the emitted module calls: torch's own functions, checks of its arguments, and containers put together again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError

_DIRECT = (
    "linear", "relu", "sigmoid", "tanh", "gelu", "silu", "elu", "selu", "celu", "mish", "softplus",
    "leaky_relu", "hardtanh", "relu6", "hardswish", "hardsigmoid", "softmax", "log_softmax", "layer_norm",
    "group_norm", "batch_norm", "conv1d", "conv2d", "conv3d", "max_pool1d", "max_pool2d", "max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "add", "mul", "sub", "div", "matmul", "bmm", "mm", "addmm", "flatten", "permute",
    "transpose", "cat", "mean", "sum", "exp", "sqrt", "rsqrt", "pow", "abs", "square", "unsqueeze", "squeeze",
    "neg", "scaled_dot_product_attention",
)  # fmt: skip
"""Operations whose own call in torch takes the same arguments, without the dispatch of `torch.ops`."""
NN: Any = torch._C._nn  # type: ignore[attr-defined]
CALLS: dict[str, Callable[..., Any]] = {}
for _name in _DIRECT:
    _found = getattr(torch, _name, None) or getattr(NN, _name, None)
    if type(_found) is not type(torch.relu):  # a function written in Python: take the one below it
        _found = getattr(NN, _name, None)
    if _found is not None:
        CALLS[_name] = _found
METHODS = {"view": "reshape", "_unsafe_view": "reshape", "reshape": "reshape"}


def _retraced(check: Callable[..., None], *args: Any) -> bool:
    """Whether torch.fx is following the module again, as unpickling does: then the check is written down as it is."""
    if not isinstance(args[0], fx.Proxy):
        return False
    args[0].tracer.create_proxy("call_function", check, args, {})
    return True


def check_sizes(x: Tensor, rank: int, fixed: tuple[tuple[int, int], ...], ranges: Any, name: str) -> None:
    """Raises unless an input has the sizes that the fused model is right for.

    Args:
        fixed: axes and their sizes.
        ranges: (axis, low, size, step) of free axes that do not take every size.

    Raises:
        ModelError: naming the axis.
    """
    if _retraced(check_sizes, x, rank, fixed, ranges, name):
        return
    shape = x.shape
    if len(shape) != rank:
        raise ModelError(
            f"the fused model was made for {name} with {rank} axes and got shape {list(shape)}; "
            "fuse the original again with such an example"
        )
    for axis, size in fixed:
        if shape[axis] != size:
            raise ModelError(
                f"the fused model was made for {name} of size {size} along axis {axis} and got shape {list(shape)}; "
                "fuse the original again with such an example (report.sizes says why this size is fixed)"
            )
    for axis, low, size, step in ranges:
        if shape[axis] < low or (shape[axis] - size) % step:
            raise ModelError(
                f"the fused model is right for {name} of size {size} along axis {axis}, at least {low} in steps of "
                f"{step}, and got shape {list(shape)}; fuse the original again with such an example"
            )


def check_same(given: Any, expected: Any, name: str) -> None:
    """Raises unless an argument that is no tensor is the example's.

    Raises:
        ModelError: naming the argument.
    """
    if _retraced(check_same, given, expected, name):
        return
    if given is not expected and given != expected:
        raise ModelError(
            f"the fused model was made with {name}={expected!r} and got {given!r}; fuse the original again with it"
        )


def check_alike(one: int, other: int, names: str) -> None:
    """Raises unless two sizes that belong together are equal.

    Raises:
        ModelError: naming both.
    """
    if _retraced(check_alike, one, other, names):
        return
    if one != other:
        raise ModelError(f"the fused model needs equal sizes of {names} and got {one} and {other}")


class Rebuilt(nn.Module):
    """Puts what a model returns into the container it comes in."""

    def __init__(self, spec: Any):
        super().__init__()
        self.spec = spec

    def forward(self, *leaves: Any) -> Any:
        return pytree.tree_unflatten(leaves, self.spec)


class Called(nn.Module):
    """A hand-written function as it is."""

    def __init__(self, function: Callable[..., Any], name: str):
        super().__init__()
        self.function, self.name = function, name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def extra_repr(self) -> str:
        return self.name


def argument_names(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """What the arguments are called where f is written; x, x1, x2... where that cannot be told."""
    forward = f.forward if isinstance(f, nn.Module) else f
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = positional[: len(args)]
    names += [f"x{i}" if i else "x" for i in range(len(names), len(args))]
    return [*names, *kwargs]
