"""At the door: which models and examples are taken, and a clear sentence for each that is not. Nothing is changed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import ScriptFunction, ScriptModule
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.graph.capture import UNSEEN, name_of
from eitherway.signal.initialize.patterns import names_of

_SHOWN = 3


def must_be_model(model: Any) -> None:
    """Refuses what is no module in memory of its own, made of parameters that can be written.

    Raises:
        ModelError: for classes, functions, scripted or compiled modules, and modules without parameters or with lazy,
            meta, complex, sparse, shared, overlapping or inference ones.
    """
    if isinstance(model, type):
        raise ModelError(
            f"initialize_ got the class {model.__name__}; make a module of it first: {model.__name__}(...)"
        )
    if isinstance(model, ScriptFunction | ScriptModule):
        raise ModelError(f"{name_of(model)} is TorchScript, {UNSEEN}")
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"initialize_ got {model!r:.60}, a {type(model).__name__}; expected an nn.Module with parameters"
        )
    for name, part in model.named_modules():
        place = name or name_of(part)
        if isinstance(part, ScriptModule):
            raise ModelError(f"{place} is TorchScript, {UNSEEN}")
        if type(part).__name__ == "OptimizedModule" and hasattr(part, "_orig_mod"):
            raise ModelError(
                f"{place} is compiled, and what was compiled cannot be followed; give the original, model._orig_mod: "
                "the compiled module reads the same parameters"
            )
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ModelError(f"{name_of(model)} has no parameters, so there is nothing to start")
    _must_be_writable(parameters)
    _must_be_apart(parameters, dict(model.named_buffers()))


def _must_be_writable(parameters: Mapping[str, Tensor]) -> None:
    lazy = [name for name, p in parameters.items() if is_lazy(p)]
    if lazy:
        raise ModelError(
            f"{_some(lazy)} {_is(lazy)} lazy and {_has(lazy)} no shape yet; run the model once first, in eval mode, "
            "model.eval()(example), then call initialize_"
        )
    meta = [name for name, p in parameters.items() if p.is_meta]
    if meta:
        raise ModelError(
            f"{_some(meta)} {_is(meta)} on the meta device and {_has(meta)} no memory to write into; make it first: "
            'model.to_empty(device="cpu"), then initialize_ with overwrite=True'
        )
    strange = [name for name, p in parameters.items() if p.layout != torch.strided or p.is_nested]
    if strange:
        raise ModelError(
            f"{_some(strange)} {_is(strange)} sparse; starts are drawn for dense parameters: p.to_dense(), or leave "
            "them out of the model while it is started"
        )
    complex_ones = [name for name, p in parameters.items() if p.is_complex()]
    if complex_ones:
        raise ModelError(
            f"{_some(complex_ones)} {_has(complex_ones)} complex numbers; the laws here are for real ones: hold the "
            "real and the imaginary part as two parameters"
        )
    frozen = [name for name, p in parameters.items() if p.is_inference()]
    if frozen:
        raise ModelError(
            f"{_some(frozen)} {_is(frozen)} of inference mode and cannot be written outside of it; build the model "
            "outside of torch.inference_mode()"
        )


def _must_be_apart(parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
    """Each parameter stands in memory of its own, where nobody else looks."""
    spans: dict[int, list[tuple[int, int, str]]] = {}
    for name, p in parameters.items():
        if p.device.type == "cpu" and p.is_shared():
            raise ModelError(
                f"{name} lies in memory shared with other processes (share_memory), which would see it change under "
                "them; start the model before it is shared"
            )
        if any(n > 1 and s == 0 for n, s in zip(p.shape, p.stride())):
            raise ModelError(
                f"{name} is expanded: several of its entries are one number in memory; give it memory of its own: "
                "nn.Parameter(p.detach().clone())"
            )
    for name, p in (*parameters.items(), *buffers.items()):
        if p.layout == torch.strided and not p.is_meta and p.numel():
            first = int(p.storage_offset()) * p.element_size()
            last = first + (1 + sum((n - 1) * int(s) for n, s in zip(p.shape, p.stride()))) * p.element_size()
            spans.setdefault(p.untyped_storage().data_ptr(), []).append((first, last, name))
    for found in spans.values():
        found.sort()
        for (_, end, one), (start, _, other) in zip(found, found[1:]):
            if start < end and (one in parameters or other in parameters):
                raise ModelError(
                    f"{one} and {other} overlap in memory, so that starting one changes the other; tie them as one "
                    "parameter (b.weight = a.weight) or give each its own: nn.Parameter(p.detach().clone())"
                )


def startable(model: nn.Module, chosen: frozenset[str]) -> dict[str, str]:
    """The chosen parameters that cannot be started, by first name, with the reason.

    Raises:
        ModelError: if that is all of them.
    """
    why: dict[str, str] = {}
    parameters = dict(model.named_parameters())
    for name in names_of(model):
        p = parameters[name]
        if not p.is_floating_point():
            kind = str(p.dtype).removeprefix("torch.")
            why[name] = f"it holds {kind}, no floating-point numbers (quantised weights keep what they hold)"
        elif not p.requires_grad:
            why[name] = "frozen: requires_grad is False"
    left = [name for name in chosen if name not in why]
    if left:
        return {name: text for name, text in why.items() if name in chosen}
    names = sorted(chosen)
    if any("frozen" in why[name] for name in names):
        raise ModelError(
            f"{_some(names)} {_is(names)} frozen (requires_grad is False), and nothing else was to be started; "
            "a frozen parameter keeps what it holds: model.requires_grad_() first, if it shall be started"
        )
    raise ModelError(
        f"{_some(names)} {_has(names)} no floating-point numbers, and nothing else was to be started; start the model "
        "before it is quantised"
    )


def arguments(example: Any, model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example as positional and keyword arguments; a mapping that names no arguments is one argument itself.

    Raises:
        ModelError: if there is no tensor in it, or one that is empty, sparse, on the meta device or not finite.
    """
    keywords = isinstance(example, Mapping) and all(isinstance(key, str) for key in example)
    keywords = keywords and (_binds(model, **example) or not _binds(model, example))
    args, kwargs = ((), dict(example)) if keywords else (example, {})
    args = args if isinstance(args, tuple) else (args,)
    args, kwargs = pytree.tree_map(
        lambda leaf: _tensor(leaf) if type(leaf).__module__ == "numpy" else leaf, (args, kwargs)
    )
    found = [(path, t) for path, t in pytree.tree_flatten_with_path((args, kwargs))[0] if isinstance(t, Tensor)]
    if not found:
        raise ModelError(
            f"got {type(example).__name__} as the example: expected a tensor, a tuple of positional arguments or a "
            "dict of keyword arguments with a tensor among them, such as torch.randn(32, 784)"
        )
    for _, tensor in found:
        shape = tuple(tensor.shape)
        if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
            kind = "is on the meta device" if tensor.is_meta else "is nested" if tensor.is_nested else "is sparse"
            raise ModelError(f"the example {kind}; the model is run on real, dense numbers: x.to_dense(), or real data")
        if not tensor.numel():
            raise ModelError(
                f"the example of shape {shape} is empty; expected a few samples to run the model on, such as "
                "next(iter(loader))[0]"
            )
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()):
            wrong = int((~torch.isfinite(tensor)).sum())
            raise ModelError(
                f"the example of shape {shape} holds {wrong} NaN or inf; expected finite numbers: drop them, or "
                "torch.nan_to_num(x)"
            )
    return args, kwargs


def shapes(tree: Any) -> str:
    """The shapes of the tensors in arguments, as a message shows them.

    >>> shapes((torch.ones(2, 3), {"mask": torch.ones(2)}))
    '(2, 3) and (2,)'
    """
    return " and ".join(str(tuple(t.shape)) for t in pytree.tree_leaves(tree) if isinstance(t, Tensor)) or "no tensor"


def _binds(model: nn.Module, *args: Any, **kwargs: Any) -> bool:
    """Whether the model's forward takes these arguments, as far as its signature tells."""
    try:
        inspect.signature(model.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return False
    return True


def _tensor(given: Any) -> Tensor:
    """NumPy's numbers as models take them: reals in torch's default dtype."""
    tensor = torch.as_tensor(given)
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _has(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"
