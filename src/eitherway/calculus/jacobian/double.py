"""A function as it would be in float64: torch computes wider than it was asked to, and no model is touched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, handle_torch_function

from eitherway.base.errors import ModelError
from eitherway.graph.capture import modules_of
from eitherway.graph.contents import alone
from eitherway.graph.graph import leaves, mapped
from eitherway.graph.handwritten import handed_to
from eitherway.graph.kernels import uncompiled

_WIDE: dict[torch.dtype, torch.dtype] = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}
_WIDER: dict[str, Callable[..., Any]] = {"float": Tensor.double, "half": Tensor.double, "bfloat16": Tensor.double}
_BLOCK = 2**16
"""Entries of a linear layer's weight that are widened at once: half a megabyte."""
_ASKS = {"dim", "size", "stride", "numel", "is_floating_point", "is_complex", "is_contiguous", "__len__", "data_ptr"}
"""Methods that tell something about a tensor; those that hold no numbers need no wider copy."""


class Doubled:
    """f of float64 numbers: what f reads and makes in fewer bits is float64 as well, each time it is read or made.

    Parameters, buffers and closed-over tensors are read as copies, made for one operation and thrown away after it, so
    they stay as they are, and what f writes into them, or puts in their place, is lost. Constants are widened as they
    were rounded.

    Args:
        f: of one tensor.

    >>> weight = torch.tensor([0.5])
    >>> Doubled(lambda x: x.float() * weight)(torch.ones(1, dtype=torch.float64)).dtype, weight.dtype
    (torch.float64, torch.float32)
    """

    def __init__(self, f: Callable[[Tensor], Tensor]):
        self.f, self.modules = f, modules_of(f)

    def __call__(self, x: Tensor) -> Tensor:
        """f at x.

        Raises:
            ModelError: if an operation answers in fewer bits whatever it is given.
        """
        mode = _Wide()
        with ExitStack() as stack:
            if "torch._dynamo" in sys.modules:  # what was compiled would be compiled again for other numbers
                stack.enter_context(uncompiled())
            stack.enter_context(alone)
            stack.enter_context(_places_kept(self.modules))
            stack.enter_context(handed_to(_apply))
            stack.enter_context(mode)
            y = self.f(x)
        if mode.rounded:
            raise ModelError(
                f"{mode.rounded} rounds to fewer bits whatever it is given, so there is no float64 to be had"
            )
        return y


class _Wide(TorchFunctionMode):
    """Inside, whatever torch is given and whatever it makes in fewer bits is float64, or complex128."""

    def __init__(self):
        super().__init__()
        self.rounded = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _ASKS:
            return func(*args, **(kwargs or {}))
        if name == "__set__" and isinstance(args[1], Tensor) and args[0].dtype in _WIDE:
            return None  # `weight.data = ...` would leave the user a float64 weight
        if name in ("__get__", "__set__"):
            found = func(*args, **(kwargs or {}))
            return _WIDE.get(found, found) if isinstance(found, torch.dtype) else found
        large = name == "linear" and not kwargs and args[1].dim() == 2 and args[1].numel() > _BLOCK
        if large and not torch.is_grad_enabled():
            return _linear(*args)
        args, kwargs = mapped(args, _widened), mapped(kwargs or {}, _widened)
        answer = _WIDER[name](*args) if name in _WIDER else func(*args, **kwargs)
        if type(answer) is Tensor and answer.dtype not in _WIDE:
            return answer
        made = [leaf for leaf in leaves(answer) if isinstance(leaf, Tensor) and leaf.dtype in _WIDE]
        if not made:
            return answer
        if any(isinstance(leaf, Tensor) and leaf.dtype.is_floating_point for leaf in leaves((args, kwargs))):
            self.rounded = name
        return mapped(answer, _widened)


@contextmanager
def _places_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, f may assign tensors to attributes, buffers and parameters; afterwards what was there is there again."""
    held: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (place, dict(place)) for m in modules for place in (m.__dict__, m._buffers, m._parameters)
    ]
    try:
        yield
    finally:
        for place, before in held:
            for name in [n for n, now in place.items() if isinstance(now, Tensor) and before.get(n) is not now]:
                if name in before:
                    place[name] = before[name]
                else:
                    del place[name]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer, some rows of its weight after the other: a wide copy of all would be the largest tensor there."""
    x, rows = _widened(x), max(1, _BLOCK // weight.shape[-1])
    parts = [F.linear(x, _widened(some)) for some in weight.split(rows)]
    made = torch.cat(parts, -1)
    return made if bias is None else made.add_(_widened(bias))


def _widened(leaf: Any) -> Any:
    """A tensor or a dtype, wider where it is narrow; all else as it is."""
    if isinstance(leaf, Tensor):
        return leaf.to(_WIDE[leaf.dtype]) if leaf.dtype in _WIDE else leaf
    if isinstance(leaf, torch.dtype):
        return _WIDE.get(leaf, leaf)
    return leaf


def _apply(cls: Any, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A hand-written Function on wider numbers: its backward, which torch calls by itself, finds nothing else."""
    args, kwargs = handle_torch_function(_as_given, (), args, kwargs)  # the mode widens what it is called with
    return original(cls, *args, **kwargs)


def _as_given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs
