"""Where a gradient under check comes from: autograd, or what somebody wrote by hand; both as products with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eitherway.base.errors import ModelError, nearest
from eitherway.calculus.gradient_check.leaves import Leaves


class Autograd:
    """Rows w^T J for weights w over the outputs, by one backward pass each.

    `missing` names the leaves for which autograd returned nothing; `failure` is what backward raised, if it did.
    """

    source = "autograd"

    def __init__(self, leaves: Leaves):
        self.leaves = leaves
        self.failure: str | None = None
        self.tracked, self.y = leaves.graph()
        self.missing = {leaf.name for leaf in leaves.leaves}

    def rows(self, weights: np.ndarray) -> list[np.ndarray]:
        """For each leaf (k, n): the products of weights (k, m) with its Jacobian."""
        found = [np.zeros((len(weights), leaf.value.numel())) for leaf in self.leaves.leaves]
        if not self.y.requires_grad or self.failure:
            return found
        for k, weight in enumerate(weights):
            w = torch.from_numpy(weight).to(self.y).reshape(self.y.shape)
            try:
                slopes = torch.autograd.grad(self.y, self.tracked, w, retain_graph=True, allow_unused=True)
            except RuntimeError as error:
                self.failure = str(error).splitlines()[0]
                return found
            for leaf, into, slope in zip(self.leaves.leaves, found, slopes):
                if slope is not None:
                    self.missing.discard(leaf.name)
                    into[k] = slope.detach().to_dense().double().reshape(-1).cpu().numpy()
        return found


class Given:
    """A gradient somebody wrote: arrays, or a function that returns them, held as Jacobians (m, n)."""

    source = "the given gradient"

    def __init__(self, leaves: Leaves, gradient: Any, y: Tensor):
        self.leaves = leaves
        self.failure: str | None = None
        self.missing: set[str] = set()
        given = gradient(*leaves.inputs) if callable(gradient) else gradient
        names = [leaf.name for leaf in leaves.leaves]
        if isinstance(given, Mapping):
            unknown = [name for name in given if name not in names]
            if unknown:
                raise ModelError(f"gradient= names {unknown[0]!r}, which f has not. {nearest(str(unknown[0]), names)}")
            parts: list[Any] = [given.get(name) for name in names]
        elif len(names) > 1 and isinstance(given, tuple | list) and len(given) == len(names):
            parts = list(given)
        else:
            parts = [given, *[None] * (len(names) - 1)]
        if all(part is None for part in parts):
            said = "returned" if callable(gradient) else "is"
            raise ModelError(
                f"gradient= {said} {given!r:.60}: expected a gradient by at least one of {', '.join(names)}"
            )
        self.jacobians: list[np.ndarray | None] = []
        self.wrong_shapes: list[str] = []
        for leaf, part in zip(leaves.leaves, parts):
            if part is None:
                self.jacobians.append(None)
                continue
            array = _as_numbers(part, leaf.name)
            wanted = tuple(y.shape) + leaf.shape
            if array.shape != wanted and not (y.numel() == 1 and array.shape == leaf.shape):
                said = "y.shape + x.shape" if y.ndim else "the shape of x"
                self.wrong_shapes.append(
                    f"the given gradient by {leaf.name} has shape {array.shape}, expected {wanted}: {said}"
                )
                self.jacobians.append(None)
                continue
            self.jacobians.append(array.reshape(y.numel(), -1))

    def rows(self, weights: np.ndarray) -> list[np.ndarray]:
        """For each leaf (k, n): the products of weights (k, m) with its Jacobian; zeros where none was given."""
        return [
            np.zeros((len(weights), leaf.value.numel())) if jacobian is None else weights @ jacobian
            for leaf, jacobian in zip(self.leaves.leaves, self.jacobians)
        ]

    def has(self, index: int) -> bool:
        """Whether there is a gradient by this leaf to check."""
        return self.jacobians[index] is not None


def _as_numbers(part: Any, name: str) -> np.ndarray:
    """A gradient by one leaf, float64.

    Raises:
        ModelError: if it is not made of real numbers.
    """
    try:
        array = part.detach().cpu().numpy() if isinstance(part, Tensor) else np.asarray(part)
    except (TypeError, ValueError, RuntimeError):  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "iuf":
        raise ModelError(
            f"gradient= by {name} is {part!r:.60}, a {type(part).__name__}: expected real numbers, an array or a list "
            "with an entry for each entry of it"
        )
    return array.astype(np.float64)


def plain_function(f: Callable[..., Any]) -> Callable[..., Tensor]:
    """A function of numbers or arrays as one of tensors, for a gradient that was written by hand."""

    def run(*inputs: Tensor) -> Tensor:
        arguments = [part.detach().cpu().numpy() for part in inputs]
        return torch.as_tensor(np.asarray(f(*(a.item() if a.ndim == 0 else a for a in arguments)), dtype=np.float64))

    run.__name__ = getattr(f, "__name__", type(f).__name__)
    run.__signature__ = _signature(f)
    return run


def _signature(f: Callable[..., Any]) -> Any:
    import inspect

    try:
        return inspect.signature(f)
    except (TypeError, ValueError):
        return inspect.Signature()
