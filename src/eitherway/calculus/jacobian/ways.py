"""Torch's own two ways to a Jacobian, rows in reverse and columns forward, in chunks that fit a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from eitherway.calculus.cost import Cost
from eitherway.graph import Graph

Function = Callable[[Tensor], Tensor]
_functorch = getattr(torch._C, "_functorch", None)
_warnings_of_vmap = getattr(_functorch, "_set_vmap_fallback_warning_enabled", lambda on: None)


class Quiet:
    """Inside, torch does not say that it has no batching rule for an operation: nobody could do anything about it."""

    def __enter__(self) -> None:
        _warnings_of_vmap(False)

    def __exit__(self, *failure: object) -> None:
        _warnings_of_vmap(True)


class Way(Protocol):
    """Something that evaluates the Jacobian of one function at points of one shape."""

    @property
    def cost(self) -> Cost: ...

    def __call__(self, x: Tensor) -> Tensor:
        """(p, q), or (B, p, q) for a batch: outputs by inputs, flattened."""
        ...


class Reverse:
    """One pull-back for each output, as many at once as the chunk says.

    Args:
        f: of one tensor; for a batch, of samples that do not touch each other.
        rows: outputs, of one sample if batched.
        chunk: rows at a time.
        tape: "func" for torch.func's vjp, "autograd" for `torch.autograd.grad`; which is faster depends on the network.
    """

    def __init__(
        self, f: Function, rows: int, *, batched: bool, chunk: int, tape: Literal["func", "autograd"], cost: Cost
    ):
        self.f, self.rows, self.batched, self.chunk, self.tape, self.cost = f, rows, batched, chunk, tape, cost
        self.name = "reverse" if tape == "func" else "reverse (autograd.grad)"
        self.vectorised = True

    def __call__(self, x: Tensor) -> Tensor:
        if self.vectorised:
            try:
                return self._by_func(x) if self.tape == "func" else self._by_autograd(x)
            except RuntimeError:  # no vmap rule, saved tensor hooks, NumPy inside: one row after the other
                J = self._by_autograd(x, loop=True)
                self.vectorised = False
                return J
        return self._by_autograd(x, loop=True)

    @torch.no_grad()
    def _by_func(self, x: Tensor) -> Tensor:
        y, pull = vjp(self.f, x)[:2]
        shape = y.shape[1:] if self.batched else y.shape
        pulled = vmap(lambda row: pull(row.expand_as(y))[0])
        J = in_chunks(self.rows, self.chunk, y, lambda rows: pulled(rows.view(-1, *shape)))
        return self._shaped(J, x)

    def _by_autograd(self, x: Tensor, *, loop: bool = False) -> Tensor:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = self.f(x)
            y = (y.sum(0) if self.batched else y).flatten()
        if not y.requires_grad:
            return self._shaped(x.new_zeros(self.rows, *x.shape), x)
        options: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}

        def pulled(rows: Tensor) -> Tensor:
            if loop:
                return torch.autograd.grad(y, x, rows[0], **options)[0][None]
            return torch.autograd.grad(y, x, rows, is_grads_batched=True, **options)[0]

        return self._shaped(in_chunks(self.rows, 1 if loop else self.chunk, y, pulled), x)

    def _shaped(self, J: Tensor, x: Tensor) -> Tensor:
        """(rows, *x.shape) -> (p, q) or (B, p, q)."""
        return J.reshape(self.rows, len(x), -1).transpose(0, 1) if self.batched else J.reshape(self.rows, -1)


class Forward:
    """One push-forward for each input, as many at once as the chunk says.

    Args:
        f: of one tensor; for a batch, of samples that do not touch each other.
        columns: inputs, of one sample if batched.
        chunk: columns at a time.
    """

    name = "forward"

    def __init__(self, f: Function, columns: int, *, batched: bool, chunk: int, cost: Cost):
        self.f, self.columns, self.batched, self.chunk, self.cost = f, columns, batched, chunk, cost

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        shape = x.shape[1:] if self.batched else x.shape
        push = vmap(lambda column: jvp(self.f, (x,), (column.expand_as(x),))[1])
        J = in_chunks(
            self.columns, self.chunk, x, lambda columns: push(columns.view(-1, *shape))
        )  # (columns, *y.shape)
        if self.batched:
            return J.reshape(self.columns, len(x), -1).permute(1, 2, 0)
        return J.reshape(self.columns, -1).T


def in_chunks(seeds: int, chunk: int, like: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
    """The products of all rows of the identity, (seeds, ...), some rows at a time, into one tensor that is made once.

    Args:
        chunk: rows at a time; all at once are not copied.
        like: gives dtype and device of the identity.
        product: (k, seeds) -> (k, ...).
    """
    if chunk >= seeds:
        return product(torch.eye(seeds, dtype=like.dtype, device=like.device))
    made: Tensor | None = None
    for start in range(0, seeds, chunk):
        rows = torch.zeros(min(chunk, seeds - start), seeds, dtype=like.dtype, device=like.device)
        rows.diagonal(start).fill_(1.0)
        part = product(rows).detach()
        made = part.new_empty(seeds, *part.shape[1:]) if made is None else made
        made[start : start + len(part)] = part
    assert made is not None
    return made


class Empty:
    """Of a function with no outputs or no inputs."""

    name, cost = "empty", Cost()

    def __init__(self, rows: int, columns: int, batch: int | None):
        self.shape = (*(() if batch is None else (batch,)), rows, columns)

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_zeros(self.shape)


class AsSparse:
    """A dense way in the place of a sparse one that was wrong."""

    def __init__(self, way: Way):
        self.way, self.name, self.cost = way, "reverse", way.cost

    def __call__(self, x: Tensor) -> Tensor:
        return self.way(x).to_sparse()


def work(graph: Graph) -> Cost:
    """One run of a captured graph: multiply-adds, elements, calls; its peak is all it makes, as autograd keeps it."""
    products = elements = held = 0.0
    for op in graph.ops:
        made = [graph.values[i] for i in op.outputs]
        if not any(value.depends for value in made):
            continue
        size = float(sum(value.numel for value in made))
        elements += 2 * size
        held += sum(value.numel * value.dtype.itemsize for value in made)
        products += size * _inner(op.name, [graph.values[i].shape for i in op.inputs], size)
    return Cost(products, elements, len(graph.ops), held)


def _inner(name: str, shapes: list[torch.Size], made: float) -> float:
    """Multiply-adds for each element that a product makes."""
    if len(shapes) < 2:
        return 0.0
    if name == "linear":
        return float(shapes[1][-1])
    if name.startswith("conv_transpose"):
        return float(shapes[0].numel() * shapes[1].numel() / max(1, shapes[1][0]) / max(1, made))
    if name.startswith("conv"):
        return float(shapes[1].numel() / max(1, shapes[1][0]))
    if name in ("matmul", "mm", "bmm", "addmm", "mv", "dot", "einsum"):
        return float(shapes[-2][-1]) if shapes[-2] else 0.0
    return 0.0


def largest(graph: Graph) -> int:
    """Bytes of the largest tensor that depends on an input."""
    sizes = [value.numel * value.dtype.itemsize for value in graph.values if value.depends]
    return max(sizes, default=0)
