"""The Jacobian of a module's output with respect to its parameters, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from eitherway.base.errors import ModelError, nearest
from eitherway.calculus.accept import as_output, as_point, call
from eitherway.calculus.jacobian.memory import must_fit
from eitherway.calculus.jacobian.still import Still


def parameter_jacobian(
    f: Callable[..., Any], x: Any, names: Sequence[str] | None, *, batched: bool, memory: int | None
) -> dict[str, Tensor]:
    """Derivative of f(x) with respect to each named parameter.

    Args:
        f: an `nn.Module`.
        x: its input, or a tuple of inputs.
        names: of parameters; all that want a gradient if None.
        batched: one sample a row: each sample's own.
        memory: bytes that a call may take: rows or samples are taken in chunks.

    Returns:
        For each name f(x).shape + parameter.shape; batched, f(x).shape already begins with the batch.

    Raises:
        ModelError: if f is no module, has no such parameter, or the answer does not fit.

    >>> line = nn.Linear(2, 1)
    >>> parameter_jacobian(line, torch.tensor([3.0, 4.0]), ["weight"], batched=False, memory=None)["weight"]
    tensor([[[3., 4.]]])
    """
    if not isinstance(f, nn.Module):
        raise ModelError("wrt names parameters, so f must be an nn.Module; for a function, pass what it varies as x")
    inputs = tuple(x) if isinstance(x, tuple) else (as_point(x),)
    every = dict(f.named_parameters())
    chosen = list(names) if names is not None else [n for n, p in every.items() if p.requires_grad]
    for name in chosen:
        if name not in every:
            raise ModelError(f"the module has no parameter {name!r}. {nearest(name, every)}")
    if not chosen:
        raise ModelError("the module has no parameters that want a gradient; name them, or set requires_grad")
    varied = {name: every[name].detach() for name in chosen}
    with Still(f):
        y = as_output(call(f, *inputs), f)
        total = sum(parameter.numel() for parameter in varied.values())
        must_fit(y.numel(), total, 1, y.dtype, y.device, memory)
        if batched:
            return _per_sample(f, varied, inputs, y, total, memory)
        return _whole(f, varied, inputs, y, total, memory)


def _whole(
    f: nn.Module, varied: dict[str, Tensor], inputs: tuple[Any, ...], y: Tensor, total: int, memory: int | None
) -> dict[str, Tensor]:
    """One pull-back for each output entry."""
    rows = y.numel() if memory is None else max(1, int(memory // (3 * max(total, 1) * y.dtype.itemsize)))
    leaves = {name: parameter.clone().requires_grad_() for name, parameter in varied.items()}
    with torch.enable_grad():
        out = functional_call(f, leaves, inputs).flatten()
    eye = torch.eye(out.numel(), dtype=out.dtype, device=out.device)
    options: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
    parts = list(leaves.values())
    try:
        found = [
            torch.autograd.grad(out, parts, some, is_grads_batched=True, **options)
            for some in eye.split(min(rows, len(eye)))
        ]
        columns = [torch.cat(blocks) for blocks in zip(*found)]
    except RuntimeError:  # a hand-written Function without a vmap rule: one row after the other
        found = [torch.autograd.grad(out, parts, row, **options) for row in eye]
        columns = [torch.stack(blocks) for blocks in zip(*found)]
    return {name: J.reshape(y.shape + varied[name].shape) for name, J in zip(varied, columns)}


def _per_sample(
    f: nn.Module, varied: dict[str, Tensor], inputs: tuple[Any, ...], y: Tensor, total: int, memory: int | None
) -> dict[str, Tensor]:
    """Each sample's own; samples one by one where the module cannot be mapped over them."""
    samples = len(y)
    each = y[0].numel() * total * y.dtype.itemsize
    chunk = None if memory is None else max(1, min(samples, int(memory // (3 * max(each, 1)))))

    def one(parameters: dict[str, Tensor], *sample: Tensor) -> Tensor:
        return functional_call(f, parameters, tuple(part[None] for part in sample))[0]

    try:
        return vmap(jacrev(one), in_dims=(None, *[0] * len(inputs)), chunk_size=chunk)(varied, *inputs)
    except RuntimeError:
        rows = [
            _whole(f, varied, tuple(part[i : i + 1] for part in inputs), y[i : i + 1], total, memory)
            for i in range(samples)
        ]
        return {name: torch.cat([row[name] for row in rows]) for name in varied}
