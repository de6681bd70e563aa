"""A function or module opened for checking: inputs and parameters by name, one precision, every call alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from eitherway.base.errors import ModelError
from eitherway.calculus.accept import as_inputs, as_output, call, name_of


@dataclass(frozen=True)
class Leaf:
    """One tensor that a gradient is taken by: its name, its value, and its place among the arguments (or None)."""

    name: str
    value: Tensor
    place: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    def flat(self) -> np.ndarray:
        """(n,) float64."""
        return self.value.double().reshape(-1).cpu().numpy().copy()


class Leaves:
    """f with its inputs and parameters laid open. The module, the inputs and torch's generator stay as they are.

    Args:
        f: a function of tensors, or a module.
        x: one input, or a tuple of them.
        dtype: what floating inputs, parameters and buffers are turned into; None leaves each in its own.
        seed: torch's generator is set to it before every call, inside a fork.

    Raises:
        ModelError: for inputs without a real number among them, and whatever `accept` refuses.
    """

    def __init__(self, f: Callable[..., Any], x: Any, *, dtype: torch.dtype | None, seed: int):
        self.f, self.seed, self.dtype = f, seed, dtype
        self.inputs = [self._cast(part.detach()) for part in as_inputs(x)]
        names = _argument_names(f, len(self.inputs))
        real = [part.is_floating_point() for part in self.inputs]
        self.skipped = [
            f"{name} holds {str(part.dtype).removeprefix('torch.')} {tuple(part.shape)}: skipped, it has no derivative"
            for name, part, is_real in zip(names, self.inputs, real)
            if not is_real
        ]
        self.leaves = [Leaf(n, p, k) for k, (n, p) in enumerate(zip(names, self.inputs)) if real[k] and p.numel()]
        self.buffers: dict[str, Tensor] = {}
        if isinstance(f, nn.Module):
            self.buffers = {name: self._cast(buffer) for name, buffer in f.named_buffers()}
            self.leaves += [
                Leaf(name, self._cast(p.detach()), None)
                for name, p in f.named_parameters()
                if p.is_floating_point() and p.numel()
            ]
        if not self.leaves:
            why = "; ".join(self.skipped) or "every input is empty"
            raise ModelError(f"{name_of(f)} was given no real numbers to differentiate by: {why}")

    def value(self, index: int | None = None, moved: Tensor | None = None, *, seed: int | None = None) -> Tensor:
        """y at the base point, or with one leaf moved; nothing is tracked."""
        tensors = [leaf.value for leaf in self.leaves]
        if index is not None and moved is not None:
            tensors[index] = moved.to(tensors[index]).reshape(tensors[index].shape)
        return self._run([tensor.clone() for tensor in tensors], self.seed if seed is None else seed).detach()

    def graph(self) -> tuple[list[Tensor], Tensor]:
        """Leaves that track gradients, and y made from them. f gets copies, so that it may write into its inputs."""
        tracked = [leaf.value.clone().requires_grad_() for leaf in self.leaves]
        return tracked, self._run([tensor.clone() for tensor in tracked], self.seed)

    def nearby(self, index: int, move: np.ndarray) -> Leaves:
        """The same with one leaf moved by (n,): the point to look at where this one has a kink."""
        other = copy(self)
        leaf = self.leaves[index]
        moved = torch.from_numpy(leaf.flat() + move).to(leaf.value).reshape(leaf.shape)
        other.leaves = [Leaf(part.name, moved if k == index else part.value, part.place)
                        for k, part in enumerate(self.leaves)]  # fmt: skip
        return other

    def changed_in_place(self) -> list[str]:
        """The names of the leaves that f writes into."""
        given = [leaf.value.clone() for leaf in self.leaves]
        self._run(given, self.seed)
        return [
            leaf.name for leaf, after in zip(self.leaves, given)
            if after.shape != leaf.value.shape or not _same(after, leaf.value)
        ]  # fmt: skip

    def _run(self, tensors: Sequence[Tensor], seed: int) -> Tensor:
        arguments = list(self.inputs)
        parameters: dict[str, Tensor] = {}
        for leaf, tensor in zip(self.leaves, tensors):
            if leaf.place is None:
                parameters[leaf.name] = tensor
            else:
                arguments[leaf.place] = tensor
        f = self.f
        cuda = sorted({leaf.value.device.index or 0 for leaf in self.leaves if leaf.value.is_cuda})
        with torch.random.fork_rng(devices=cuda), torch.enable_grad():
            torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a stack trace where CUDA sleeps
            if cuda:
                torch.cuda.manual_seed_all(seed)
            if isinstance(f, nn.Module):
                state = {**parameters, **{name: buffer.clone() for name, buffer in self.buffers.items()}}

                def run(*inputs: Tensor) -> Any:
                    return functional_call(f, state, inputs)

                run.__name__ = name_of(f)
                return as_output(call(run, *arguments), f)
            return as_output(call(f, *arguments), f)

    def _cast(self, tensor: Tensor) -> Tensor:
        whole = self.dtype is None or not tensor.is_floating_point()
        return tensor.clone() if whole else tensor.to(self.dtype).clone()


def _same(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN included."""
    return bool(((one == two) | (one.isnan() & two.isnan())).all())


def _argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """The names f gives its arguments; x, or x0, x1 ..., where it does not say."""
    plain = ["x"] if count == 1 else [f"x{k}" for k in range(count)]
    try:
        signature = inspect.signature(f.forward if isinstance(f, nn.Module) else f)
    except (TypeError, ValueError):
        return plain
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in signature.parameters.values() if p.kind in positional]
    return names[:count] if len(names) >= count else plain
