"""A model and an example input, from words: a module, class or factory in a file; a shape, or a batch in a file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eitherway.base.errors import CostError, ModelError
from eitherway.cli._target import load

_EXAMPLES = "expected a shape such as 32x784, int64:8x128:50257 for whole numbers below 50257, or file.py:batch"
LARGEST = 2**28
"""Numbers of noise that are drawn at most: a gigabyte in float32."""
_SHAPE = re.compile(r"(?:(?P<dtype>[a-z]+\d*):)?(?P<shape>\d+(?:x\d+)*)(?::(?P<below>\d+))?")


def find_model(word: str) -> nn.Module:
    """The module that a word calls for: an instance, or what a class or factory without arguments makes.

    Args:
        word: file.py:name or package.module:name.

    Raises:
        ModelError: if there is none, or it cannot be made.
    """
    if ":" not in word:
        hint = f"; say which model in it: {word}:model" if Path(word).suffix == ".py" else ""
        raise ModelError(f"{word!r} names no model; expected file.py:name or package.module:name{hint}")
    try:
        _, found = load(word)
    except CostError as error:
        raise ModelError(str(error)) from error.__cause__
    if isinstance(found, nn.Module):
        return found
    if callable(found):
        made = _made(word, found, "a module")
        if isinstance(made, nn.Module):
            return made
        found = made
    raise ModelError(
        f"{word} is {type(found).__name__}; expected an nn.Module, its class, or a function that makes one"
    )


def find_example(words: Sequence[str], seed: int) -> tuple[Any, ...]:
    """The inputs that words call for, one each.

    Args:
        words: shapes (32x784: normal noise; float16:4x3x8x8; int64:8x128:50257), or file.py:name of a tensor, a tuple
            of tensors, or a function that makes one.
        seed: of the noise.

    Raises:
        ModelError: for anything else.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs: list[Any] = []
    for word in words:
        shape = _SHAPE.fullmatch(word)
        if shape is not None:
            inputs.append(_noise(word, shape, generator))
        elif ":" in word:
            inputs += _from_place(word)
        else:
            raise ModelError(f"the example is {word!r}; {_EXAMPLES}")
    return tuple(inputs)


def _made(word: str, make: Callable[[], Any], wanted: str) -> Any:
    """What a function of the user's makes; its own failures are his to mend, and are told as such.

    Raises:
        ModelError: if it needs arguments or fails.
    """
    try:
        return make()
    except TypeError as error:
        raise ModelError(
            f"{word} cannot be called without arguments ({error}); give {wanted}, or a function that makes one"
        ) from error
    except Exception as error:
        raise ModelError(f"{word}() failed: {type(error).__name__}: {error}") from error


def _noise(word: str, shape: re.Match[str], generator: torch.Generator) -> Tensor:
    sizes = [int(size) for size in shape["shape"].split("x")]
    if math.prod(sizes) > LARGEST:
        raise ModelError(f"the example is {word!r}, {math.prod(sizes):,} numbers; give a smaller batch, such as 8x...")
    name = shape["dtype"] or ("int64" if shape["below"] else "float32")
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ModelError(f"the example is {word!r}, and torch has no dtype {name!r}; {_EXAMPLES}")
    if shape["below"] and int(shape["below"]) < 1:
        raise ModelError(f"the example is {word!r}; the bound of whole numbers is at least 1: int64:8x128:50257")
    if dtype.is_floating_point:
        if shape["below"]:
            raise ModelError(f"the example is {word!r}; a bound goes with whole numbers only: int64:8x128:50257")
        return torch.randn(sizes, generator=generator).to(dtype)
    return torch.randint(int(shape["below"] or 2), sizes, generator=generator).to(dtype)


def _from_place(word: str) -> list[Any]:
    try:
        _, found = load(word)
    except CostError as error:
        raise ModelError(str(error)) from error.__cause__
    made = _made(word, found, "a tensor") if callable(found) and not isinstance(found, Tensor) else found
    parts = list(made) if isinstance(made, (tuple, list)) else [made]
    if not parts or not all(isinstance(part, Tensor) for part in parts):
        raise ModelError(
            f"{word} is {type(made).__name__}; expected a tensor, a tuple of them, or a function that makes one"
        )
    return parts
