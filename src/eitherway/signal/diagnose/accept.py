"""What `diagnose` takes: a module with parameters, an example in one of its forms, and a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError


def accept_model(model: Any) -> nn.Module:
    """A module with materialised parameters.

    Raises:
        ModelError: for anything else.
    """
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise ModelError(f"{model.__name__} is a class; give a module of it: diagnose({model.__name__}(...), example)")
    if not isinstance(model, nn.Module):
        raise ModelError(f"diagnose looks into an nn.Module; got {model!r:.60}, a {type(model).__name__}")
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ModelError(
            f"{type(model).__name__} has no parameters, so there is nothing to train; register its layers as "
            "attributes or in an nn.ModuleList: a plain list hides them"
        )
    for name, parameter in parameters.items():
        if isinstance(parameter, nn.UninitializedParameter):
            raise ModelError(f"{name} is lazy and has no shape yet; run the model once on a batch, then diagnose it")
        if parameter.is_complex():
            raise ModelError(
                f"{name} holds complex numbers, and what is measured here is of real ones; give a model of real weights"
            )
        if parameter.is_meta:
            raise ModelError(f"{name} is on the meta device and holds no numbers; materialise the model first")
    return model


def accept_example(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the model.

    Args:
        example: a tensor, a tuple of positional arguments, a dict of keyword arguments, or a function that makes one.

    Raises:
        ModelError: for anything else, or where a number in it is not finite.
    """
    if callable(example) and not isinstance(example, Tensor):
        example = example()
    if isinstance(example, Tensor):
        args, kwargs = (example,), {}
    elif isinstance(example, tuple):
        args, kwargs = example, {}
    elif isinstance(example, dict) and all(isinstance(key, str) for key in example):
        args, kwargs = (), dict(example)
    else:
        raise ModelError(
            f"the example is {type(example).__name__}; expected a tensor, a tuple of positional arguments, a dict of "
            "keyword arguments, or a function that makes one of them"
        )
    for path, leaf in pytree.tree_flatten_with_path((args, kwargs))[0]:
        if isinstance(leaf, Tensor) and leaf.numel() == 0:
            raise ModelError(f"the example holds an empty tensor of shape {tuple(leaf.shape)}; give a batch of samples")
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            bad = int((~torch.isfinite(leaf)).sum())
            if bool(torch.isnan(leaf).any()) or bad == leaf.numel():  # some -inf may be a mask
                place = pytree.keystr(path[1:])
                raise ModelError(
                    f"the example {place} {tuple(leaf.shape)} holds {bad:,} NaN or inf; give numbers: whatever comes "
                    "out of the model would only repeat them"
                )
    return args, kwargs


def accept_loss(loss: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """A function of the output and what else it is given; None without a loss.

    Args:
        loss: a callable of the output, a pair (function, target), called function(output, target), or None.

    Raises:
        ModelError: for anything else.
    """
    if loss is None:
        return None
    if isinstance(loss, tuple) and len(loss) == 2 and callable(loss[0]):
        function, rest = loss[0], (loss[1],)
    else:
        function, rest = loss, ()
    if not callable(function) or isinstance(function, type):
        raise ModelError(
            f"the loss is {loss!r:.60}; expected a function of the model's output, such as "
            "lambda out: cross_entropy(out, labels), or a pair (function, target)"
        )
    return function, rest


def shapes(tree: Any) -> str:
    """The shapes of the tensors in arguments, as a person would write them: 32x784, 8x128."""
    found = [
        "x".join(map(str, leaf.shape)) or "one number" for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)
    ]
    return ", ".join(found) or "no tensor"
