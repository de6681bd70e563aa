"""At the door of every derivative: which points and functions are taken, and clear sentences for those that are not."""

from __future__ import annotations

import builtins
import dis
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.graph.capture import UNSEEN, name_of

_TORCH_NAMES = {
    "fabs": "torch.abs",
    "degrees": "torch.rad2deg",
    "radians": "torch.deg2rad",
    "fsum": "torch.sum",
    "fmod": "torch.fmod",
    "gamma": "torch.lgamma(x).exp",
    "cbrt": "torch.pow(x, 1 / 3)",
    "array": "torch.stack",
    "asarray": "torch.stack",
    "dot": "torch.dot",
    "power": "torch.pow",
    "norm": "torch.linalg.norm",
    "max": "torch.amax",
    "min": "torch.amin",
    "expit": "torch.sigmoid",
    "isclose": "torch.isclose",
}
"""What torch calls a function of `math` or NumPy, where the names differ; elsewhere `torch.` and its name."""

_PLAIN = {name for name in dir(math) if callable(getattr(math, name)) and name[0] != "_"}
_OURS = Path(__file__).resolve().parent.parent


def as_point(x: Any, *, name: str = "x") -> Tensor:
    """A point to differentiate at, as a tensor of real numbers.

    Args:
        x: a tensor, a NumPy array, a number, or (nested) lists of numbers; lists and numbers, whole ones too, get
            torch's default dtype, tensors and arrays keep theirs.
        name: what messages call it.

    Returns:
        A tensor of the same shape; a floating-point tensor is returned as it is, not copied.

    Raises:
        ModelError: for what has no derivative (integers, booleans, complex numbers, text) or is no dense array.

    >>> as_point([1, 2.5])
    tensor([1.0000, 2.5000])
    """
    if isinstance(x, Tensor):
        point = x
    elif isinstance(x, np.ndarray | np.generic):
        array = np.asarray(x)
        if array.dtype.kind not in "fiubc":
            raise ModelError(f"{name} is an array of {array.dtype}; a point is made of real numbers: .astype(float)")
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
        point = torch.from_numpy(np.array(array, dtype=np.float64 if wide else array.dtype.newbyteorder("=")))
    else:
        point = _from_plain(x, name)
    if point.is_nested or point.layout != torch.strided or point.is_meta:
        kind = "a nested" if point.is_nested else "an empty meta" if point.is_meta else "a sparse"
        raise ModelError(
            f"{name} is {kind} tensor; derivatives are taken at dense ones: {name}.to_dense(), or real data"
        )
    if not point.is_floating_point():
        kind = str(point.dtype).removeprefix("torch.")
        advice = "take the real and the imaginary part apart" if point.is_complex() else f"give {name} as floats"
        raise ModelError(f"{name} holds {kind} {tuple(point.shape)}, and derivatives need real numbers: {advice}")
    return point


def as_inputs(x: Any) -> tuple[Tensor, ...]:
    """The inputs of a function: one point, or a tuple of them; whole-number tensors pass (indices, labels) untouched.

    A tuple of tensors, arrays or lists is several inputs; a tuple of numbers is one point.

    Raises:
        ModelError: for what is no array of numbers.
    """
    several = isinstance(x, tuple) and any(isinstance(part, Tensor | np.ndarray | list | tuple) for part in x)
    inputs = []
    for i, part in enumerate(x if several else (x,)):
        kind = "" if not isinstance(part, Tensor | np.ndarray) else str(part.dtype)
        whole = "int" in kind or "bool" in kind
        inputs.append(torch.as_tensor(part) if whole else as_point(part, name=f"x[{i}]" if several else "x"))
    return tuple(inputs)


def call(f: Callable[..., Any], *inputs: Any) -> Any:
    """What f returns; where it fails because it was written for plain numbers, the sentence that mends it.

    Args:
        f: a function or module.
        inputs: what it is called with.

    Raises:
        ModelError: if f called a function of `math` or NumPy on a tensor, or wrote into a tensor that tracks
            gradients; the message names the call and torch's function. Everything else is raised as it came.

    >>> call(lambda x: math.sin(x), torch.zeros(2))
    Traceback (most recent call last):
    eitherway.base.errors.ModelError: <lambda> calls math.sin on a tensor; math works on one plain number and cuts the gradient: use torch.sin
    """  # noqa: E501
    with warnings.catch_warnings():
        # a lone number leaves torch with a warning only; `as_output` says the rest
        warnings.filterwarnings("ignore", "Converting a tensor with requires_grad")
        try:
            return f(*inputs)
        except (TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, ModelError) or not any(isinstance(part, Tensor) for part in inputs):
                raise
            message = _explain(f, error)
            if message is None:
                raise
            raise ModelError(message) from error


def as_output(y: Any, f: Callable[..., Any]) -> Tensor:
    """What f returned, if it is one tensor of real numbers.

    Raises:
        ModelError: for numbers (the gradient is cut), dicts, tuples, text, None, integers and complex numbers.
    """
    name = name_of(f)
    if isinstance(y, Tensor):
        if y.is_nested or y.layout != torch.strided:
            kind = "nested" if y.is_nested else "sparse"
            mend = "torch.nested.to_padded_tensor(y, 0.0)" if y.is_nested else "y.to_dense()"
            raise ModelError(f"{name} returned a {kind} tensor, and derivatives are of dense ones: return {mend}")
        if y.is_floating_point():
            return y
        kind = str(y.dtype).removeprefix("torch.")
        raise ModelError(f"{name} returned {kind} values, which have no derivative: return floating-point numbers")
    if y is None:
        raise ModelError(f"{name} returned None; expected a tensor: is a `return` missing?")
    if isinstance(y, Mapping):
        keys = ", ".join(repr(key) for key in list(y)[:4])
        raise ModelError(f"{name} returned a dict ({keys}); expected one tensor: lambda x: f(x)[{next(iter(y), '')!r}]")
    if isinstance(y, tuple | list):
        raise ModelError(
            f"{name} returned a {type(y).__name__} of {len(y)}; expected one tensor: pick one, f(x)[0], or torch.cat"
        )
    if isinstance(y, int | float | np.generic | np.ndarray):
        used = _itself(f) or _called_on_plain_numbers(f)
        advice = f"it calls {used}: use {torch_name(used)}" if used else "leave out float(), .item() and .numpy()"
        raise ModelError(
            f"{name} returned {type(y).__name__}, no tensor, so the gradient ends inside it; {advice}, or estimate "
            f"the derivative from values alone"
        )
    raise ModelError(f"{name} returned {type(y).__name__}; expected a tensor of real numbers")


def must_be_vectors(vectors: Any) -> None:
    """Refuses what an operator cannot be multiplied with.

    Raises:
        ModelError: for lists, arrays and all else that is no tensor.
    """
    if not isinstance(vectors, Tensor):
        raise ModelError(
            f"an operator was multiplied with {vectors!r:.60}, a {type(vectors).__name__}; expected a tensor: "
            "torch.tensor(...)"
        )


def must_be_callable(f: Any, asked: str) -> None:
    """Refuses what is no function.

    Args:
        asked: who wants one: "jacobian".

    Raises:
        ModelError: if f cannot be called.
    """
    if isinstance(f, type) and issubclass(f, nn.Module):
        raise ModelError(f"{asked} got the class {f.__name__}; make a module of it first: {f.__name__}(...)")
    if not callable(f):
        raise ModelError(f"{asked} got {f!r:.60}, a {type(f).__name__}; expected a function or a module of tensors")


def torch_name(called: str) -> str:
    """Torch's function for one of `math` or NumPy.

    >>> torch_name("math.fabs"), torch_name("sin")
    ('torch.abs', 'torch.sin')
    """
    last = called.rpartition(".")[2]
    if last in _TORCH_NAMES:
        return _TORCH_NAMES[last]
    return f"torch.{last}" if hasattr(torch, last) else "functions of torch"


def _from_plain(x: Any, name: str) -> Tensor:
    """Numbers and nested lists of numbers or tensors, as a tensor of torch's default dtype."""
    if isinstance(x, bool | str | bytes | Mapping | set) or x is None or callable(x):
        raise ModelError(
            f"{name} is {x!r:.60}, a {type(x).__name__}; a point is a number, a list of numbers, an array or a tensor"
        )
    if isinstance(x, list | tuple) and x and all(isinstance(part, Tensor) for part in x):
        shapes = {tuple(part.shape) for part in x}
        if len(shapes) == 1:
            return torch.stack(list(x))
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"{name} is no array of numbers ({error}); its rows must be equally long") from error
    if array.dtype.kind not in "fiuc":
        raise ModelError(f"{name} is {x!r:.60}; a point is a number, a list of numbers, an array or a tensor")
    if array.dtype.kind == "c":
        return torch.from_numpy(array)
    return torch.from_numpy(np.array(array, dtype=np.float64)).to(torch.get_default_dtype())


def _explain(f: Callable[..., Any], error: Exception) -> str | None:
    """A sentence for the errors that plain-number code raises on tensors; None for all others."""
    text = str(error)
    plain = "converted to Python scalars" in text or "must be real number, not" in text or ".item()" in text
    array = "Can't call numpy()" in text or "got an unexpected keyword argument 'axis'" in text
    if plain or array:
        called = _called_at(error.__traceback__) or _itself(f)
        if plain:
            name = called or "float() or a function of math"
            return (
                f"{name_of(f)} calls {name} on a tensor; math works on one plain number and cuts the gradient: use "
                f"{torch_name(called) if called else 'functions of torch'}"
            )
        name = called or "NumPy"
        return (
            f"{name_of(f)} calls {name} on a tensor; NumPy knows no gradient and would cut it: use "
            f"{torch_name(called) if called else 'functions of torch'}"
        )
    if "can't be used with Jitted modules" in text:
        return f"{name_of(f)} is TorchScript, {UNSEEN}"
    if "is being used in an in-place operation" in text:
        return f"{name_of(f)} changes its input in place; work on a copy: x = x.clone()"
    return None


def _itself(f: Callable[..., Any]) -> str | None:
    """A function of `math` that was given as it is."""
    return f"math.{f.__name__}" if getattr(f, "__module__", None) == "math" else None


def _called_at(where: TracebackType | None) -> str | None:
    """The dotted name of the call that raised, as the innermost frame of the user's own code wrote it."""
    found = None
    while where is not None:
        path = Path(where.tb_frame.f_code.co_filename)
        foreign = {"site-packages", "dist-packages"} & set(path.parts) or (_OURS in path.parents)
        if not foreign:
            found = where
        where = where.tb_next
    if found is None:
        return None
    before = [i for i in dis.get_instructions(found.tb_frame.f_code) if i.offset <= found.tb_lasti]
    for k in range(len(before) - 1, -1, -1):
        load = before[k]
        if not load.opname.startswith("LOAD_") or not isinstance(load.argval, str):
            continue
        if load.opname in ("LOAD_METHOD", "LOAD_ATTR"):
            owner = str(before[k - 1].argval) if k else ""
            module = found.tb_frame.f_globals.get(owner, found.tb_frame.f_locals.get(owner))
            place = getattr(module, "__name__", "")
            if place in ("math", "numpy", "cmath", "numpy.linalg", "scipy.special"):
                return f"{'np' if place == 'numpy' else place}.{load.argval}"
            if load.argval in ("item", "numpy"):
                return f".{load.argval}()"
        else:
            target = found.tb_frame.f_globals.get(load.argval, found.tb_frame.f_locals.get(load.argval))
            if getattr(target, "__module__", None) == "math":
                return f"math.{load.argval}"
            if target is None and load.argval in ("float", "int") and hasattr(builtins, load.argval):
                return f"{load.argval}()"
    return None


def _called_on_plain_numbers(f: Callable[..., Any]) -> str | None:
    """The first function of `math` that the code of f names, if any."""
    code = getattr(f, "__code__", None)
    if not isinstance(code, CodeType) or "math" not in code.co_names:
        return None
    return next((f"math.{name}" for name in code.co_names if name in _PLAIN), None)
