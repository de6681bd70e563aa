"""The Jacobian of a module's output with respect to its parameters, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from eitherway.base.errors import ModelError, nearest
from eitherway.calculus.accept import as_output, as_point, call
from eitherway.calculus.jacobian.first_call import must_repeat
from eitherway.calculus.jacobian.memory import must_fit
from eitherway.calculus.jacobian.still import Still
from eitherway.calculus.jacobian.ways import Quiet
from eitherway.graph.chance import chance_kept


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
    with Still(f), Quiet(), chance_kept():
        y = as_output(call(f, *inputs), f).detach()
        total = sum(parameter.numel() for parameter in varied.values())
        advice = "name fewer parameters by wrt=[...], or give fewer samples at a time"
        must_fit(y.numel(), total, 1, y.dtype, y.device, memory, advice)
        must_repeat(f, y, as_output(call(f, *inputs), f))
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
    if not out.requires_grad or not len(eye):
        return {name: out.new_zeros(y.shape + part.shape) for name, part in varied.items()}
    parts = list(leaves.values())
    try:
        found = [
            torch.autograd.grad(out, parts, some, is_grads_batched=True, retain_graph=True, allow_unused=True)
            for some in eye.split(min(rows, len(eye)))
        ]
        columns = [None if blocks[0] is None else torch.cat(blocks) for blocks in zip(*found)]
    except RuntimeError:  # a hand-written Function without a vmap rule: one row after the other
        found = [torch.autograd.grad(out, parts, row, retain_graph=True, allow_unused=True) for row in eye]
        columns = [None if blocks[0] is None else torch.stack(blocks) for blocks in zip(*found)]
    shapes = {name: y.shape + part.shape for name, part in varied.items()}
    return {
        name: out.new_zeros(shapes[name]) if J is None else J.reshape(shapes[name]) for name, J in zip(varied, columns)
    }


def _per_sample(
    f: nn.Module, varied: dict[str, Tensor], inputs: tuple[Any, ...], y: Tensor, total: int, memory: int | None
) -> dict[str, Tensor]:
    """Each sample's own; samples one by one where the module cannot be mapped over them."""
    samples = len(y)
    each = y[0].numel() * total * y.dtype.itemsize
    chunk = None if memory is None else max(1, min(samples, int(memory // (3 * max(each, 1)))))

    def one(parameters: dict[str, Tensor], *sample: Tensor) -> Tensor:
        return functional_call(f, parameters, tuple(part[None] for part in sample))[0]

    _must_be_apart(f, inputs, y)
    try:
        return vmap(jacrev(one), in_dims=(None, *[0] * len(inputs)), chunk_size=chunk)(varied, *inputs)
    except RuntimeError:
        rows = [
            _whole(f, varied, tuple(part[i : i + 1] for part in inputs), y[i : i + 1], total, memory)
            for i in range(samples)
        ]
        return {name: torch.cat([row[name] for row in rows]) for name in varied}


def _must_be_apart(f: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> None:
    """A sample by itself must have the value that it has in the batch."""
    wrong = f"wrt parameters with batched=True needs one sample a row: f(x) has shape {tuple(y.shape)}"
    if any(not isinstance(part, Tensor) or part.ndim == 0 or y.ndim == 0 or len(part) != len(y) for part in inputs):
        raise ModelError(f"{wrong}, and the inputs' first axes must be as long")
    slack = 1e4 * torch.finfo(y.dtype).eps * float(y.abs().max()) if y.numel() else 0.0
    for i in (0, len(y) - 1) if len(y) > 1 else ():
        try:
            alone = f(*[part[i : i + 1] for part in inputs])
        except ValueError:  # a norm in training has no use for one sample
            alone = None
        if alone is None or alone.shape != y[i : i + 1].shape or bool(((alone - y[i : i + 1]).abs() > slack).any()):
            raise ModelError(
                f"samples of the batch touch each other: sample {i} by itself has another value than in the batch; "
                "call .eval() on the model if a norm does it, or take the whole with batched=False"
            )
