"""Jacobians as PyTorch gives them: its ways, each as somebody who knows them well would write it.

Torch has four: `jacrev`, `jacfwd`, and `vjp` or `jvp` under `vmap`; `torch.autograd.functional.jacobian` is its older
door to the same two directions. For a batch whose samples do not touch each other there are two more tricks, one a
direction: the reverse pass of the batch's sum, and one shift of all samples forward. All of them are called with
parameters that want no gradients and without an outer graph, which is the fastest they go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.func import jacfwd, jacrev, jvp, vjp, vmap

from benchmarks.timing import interleaved

Function = Callable[[Tensor], Tensor]
Way = Callable[[Function, Tensor, int | None], Tensor]
"""(f, x, chunk) -> the Jacobian; chunk: how many rows, columns or samples at a time, None for all."""


def _flat(J: Tensor, rows: int, columns: int) -> Tensor:
    """The Jacobian with its output axes and its input axes in one each: a view where it can be."""
    return J.reshape(rows, columns)


# --- one input, (q entries) -> (p entries) ---------------------------------------------------------------------------


@torch.no_grad()
def single_jacrev(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`jacrev(f)(x)`."""
    return _flat(jacrev(f, chunk_size=chunk)(x), -1, x.numel())


@torch.no_grad()
def single_jacfwd(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`jacfwd(f)(x)`; its chunks are those of `vmap` over `jvp`, since it has none of its own."""
    if chunk is not None:
        return single_jvp(f, x, chunk)
    return _flat(jacfwd(f)(x), -1, x.numel())


@torch.no_grad()
def single_vjp(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """One `vjp`, pulled back under `vmap` from each row of the identity."""
    y, pull = vjp(f, x)[:2]
    rows = torch.eye(y.numel(), dtype=y.dtype, device=y.device).view(-1, *y.shape)
    return _flat(vmap(lambda row: pull(row)[0], chunk_size=chunk)(rows), y.numel(), x.numel())


@torch.no_grad()
def single_jvp(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`jvp` under `vmap`, pushed forward from each column of the identity."""
    columns = torch.eye(x.numel(), dtype=x.dtype, device=x.device).view(-1, *x.shape)
    pushed = vmap(lambda column: jvp(f, (x,), (column,))[1], chunk_size=chunk)(columns)
    return pushed.reshape(x.numel(), -1).T


def single_functional_reverse(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`torch.autograd.functional.jacobian(vectorize=True)`. It has no chunks: with a chunk of 1 it is a loop."""
    J: Any = jacobian(f, x, vectorize=chunk is None)
    return _flat(J, -1, x.numel())


def single_functional_forward(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """The same with `strategy="forward-mode"`, which is vectorised always and has no chunks."""
    if chunk is not None:
        return single_jvp(f, x, chunk)
    J: Any = jacobian(f, x, vectorize=True, strategy="forward-mode")
    return _flat(J, -1, x.numel())


SINGLE: dict[str, Way] = {
    "jacrev": single_jacrev,
    "jacfwd": single_jacfwd,
    "vmap(vjp)": single_vjp,
    "vmap(jvp)": single_jvp,
    "functional, reverse": single_functional_reverse,
    "functional, forward": single_functional_forward,
}


# --- a batch of samples that do not touch each other, (B, ...) -> (B, ...) -------------------------------------------


def _one(f: Function) -> Function:
    """f of one sample, which is handed on as a batch of one, so that modules that ask for a batch have it."""
    return lambda sample: f(sample[None])[0]


@torch.no_grad()
def batched_jacrev(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`vmap(jacrev(f))(x)`; chunks are of samples."""
    return vmap(jacrev(_one(f)), chunk_size=chunk)(x).reshape(len(x), -1, x[0].numel())


@torch.no_grad()
def batched_jacfwd(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`vmap(jacfwd(f))(x)`; chunks are of samples."""
    return vmap(jacfwd(_one(f)), chunk_size=chunk)(x).reshape(len(x), -1, x[0].numel())


@torch.no_grad()
def batched_sum(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`jacrev` of the batch's sum: row i of every sample in one reverse pass; chunks are of rows."""
    J = jacrev(lambda batch: f(batch).sum(0), chunk_size=chunk)(x)  # (*out, B, *in)
    return J.reshape(-1, len(x), x[0].numel()).transpose(0, 1)


@torch.no_grad()
def batched_vjp(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """One `vjp` of the batch, pulled back under `vmap` from row i of all samples at once; chunks are of rows."""
    y, pull = vjp(f, x)[:2]
    p = y[0].numel()
    rows = torch.eye(p, dtype=y.dtype, device=y.device).view(p, *y.shape[1:])
    J = vmap(lambda row: pull(row.expand_as(y))[0], chunk_size=chunk)(rows)  # (p, B, *in)
    return J.reshape(p, len(x), -1).transpose(0, 1)


@torch.no_grad()
def batched_jvp(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`jvp` under `vmap`: column j of all samples at once; chunks are of columns."""
    q = x[0].numel()
    columns = torch.eye(q, dtype=x.dtype, device=x.device).view(q, *x.shape[1:])
    pushed = vmap(lambda column: jvp(f, (x,), (column.expand_as(x),))[1], chunk_size=chunk)(columns)  # (q, B, *out)
    return pushed.reshape(q, len(x), -1).permute(1, 2, 0)


def batched_functional_reverse(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """`torch.autograd.functional.jacobian` of the batch's sum, vectorised; with a chunk it is a loop over the rows."""
    J: Any = jacobian(lambda batch: f(batch).sum(0), x, vectorize=chunk is None)
    return J.reshape(-1, len(x), x[0].numel()).transpose(0, 1)


def batched_functional_forward(f: Function, x: Tensor, chunk: int | None = None) -> Tensor:
    """The same forward, vectorised, of one shift of all samples: its Jacobian is every sample's."""
    if chunk is not None:
        return batched_jvp(f, x, chunk)
    J: Any = jacobian(lambda shift: f(x + shift), torch.zeros_like(x[0]), vectorize=True, strategy="forward-mode")
    return J.reshape(len(x), -1, x[0].numel())


BATCHED: dict[str, Way] = {
    "vmap(jacrev)": batched_jacrev,
    "vmap(jacfwd)": batched_jacfwd,
    "jacrev of the sum": batched_sum,
    "vmap(vjp)": batched_vjp,
    "vmap(jvp)": batched_jvp,
    "functional, reverse": batched_functional_reverse,
    "functional, forward": batched_functional_forward,
}


def ways(batched: bool) -> dict[str, Way]:
    """Name -> way; of a batch, or of one input."""
    return BATCHED if batched else SINGLE


def shortlist(f: Function, x: Tensor, batched: bool, within: float) -> tuple[dict[str, Callable[[], Tensor]], dict]:
    """The ways worth many turns, after one turn of each.

    Args:
        within: ways slower than this times the fastest are left out; forward mode may be 130 x slower.

    Returns:
        Name -> call of those that are left, and name -> seconds, or what torch said, of all of them.
    """

    def call(way: Way) -> Callable[[], Tensor]:
        return lambda: way(f, x, None)

    calls, said = {}, {}
    for name, way in ways(batched).items():
        try:
            call(way)()
        except (RuntimeError, ValueError) as problem:
            said[name] = str(problem)
        else:
            calls[name] = call(way)
    taken = {name: times.best for name, times in interleaved(calls, 1).items()}
    least = min(taken.values())
    return {name: calls[name] for name in calls if taken[name] <= within * least}, taken | said


def reference(f: Function, x: Tensor, batched: bool) -> Tensor:
    """(B, p, q) or (p, q): row after row by plain reverse mode, without vmap; f and x are best in fp64."""
    x = x.detach().requires_grad_()
    y = f(x)
    if not batched:
        rows = [torch.autograd.grad(entry, x, retain_graph=True)[0].flatten() for entry in y.flatten()]
        return torch.stack(rows)
    total = y.flatten(1).sum(0)
    rows = [torch.autograd.grad(entry, x, retain_graph=True)[0].flatten(1) for entry in total]
    return torch.stack(rows, 1)


def error(J: Tensor, true: Tensor) -> float:
    """The largest difference, as a share of the largest entry of what is true; J of any layout, sparse too."""
    dense = (J.to_dense() if J.layout != torch.strided else J).detach().to(true.dtype).reshape(true.shape)
    return float((dense - true).abs().max() / true.abs().max().clamp_min(1e-300))
