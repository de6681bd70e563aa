"""Local Jacobians: the factors of a chain, kept in the form that they have, multiplied without being written out.

Every factor maps a tensor of the input's shape to one of the output's. `push` multiplies from the left (J v), `pull`
from the right (J^T u); both take K vectors at once, as a leading dimension.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd import forward_ad

WRITTEN_OUT = 2**20
"""Elements up to which a local Jacobian is made dense to look into: 8 MB in float64."""
EXACT = 160
"""Smaller side up to which singular values come from a decomposition, 2 ms or so; beyond from power iterations."""
TURNS = 24
"""Power iterations: the largest singular value to a percent or so, from below."""


class Local:
    """A factor of p x q numbers.

    Args:
        output: shape of what the operation makes, p elements.
        input: shape of what it reads, q elements.
    """

    def __init__(self, output: torch.Size, input: torch.Size, like: Tensor):
        self.output, self.input = torch.Size(output), torch.Size(input)
        self.p, self.q = self.output.numel(), self.input.numel()
        self.dtype, self.device = like.dtype, like.device

    def push(self, v: Tensor) -> Tensor:
        """J v: (K, *input) to (K, *output)."""
        raise NotImplementedError

    def pull(self, u: Tensor) -> Tensor:
        """J^T u: (K, *output) to (K, *input)."""
        raise NotImplementedError

    @cached_property
    def dense(self) -> Tensor:
        """(p, q)."""
        if self.p <= self.q:
            eye = torch.eye(self.p, dtype=self.dtype, device=self.device)
            return self.pull(eye.view(self.p, *self.output)).reshape(self.p, self.q)
        eye = torch.eye(self.q, dtype=self.dtype, device=self.device)
        return self.push(eye.view(self.q, *self.input)).reshape(self.q, self.p).T

    @property
    def small(self) -> bool:
        return self.p * self.q <= WRITTEN_OUT

    @cached_property
    def spread(self) -> tuple[float, float | None]:
        """The largest and the smallest of the min(p, q) singular values; None for the smallest where it costs much."""
        if self.p * self.q == 0:
            return 0.0, 0.0
        core = self.core
        if core is not None and min(core.shape) <= EXACT and core.numel() <= WRITTEN_OUT:
            if not core.isfinite().all():
                return float("nan") if core.isnan().any() else float("inf"), None
            found = torch.linalg.svdvals(core.detach())
            return float(found[0]), float(found[-1])
        return self._largest(), None

    @property
    def core(self) -> Tensor | None:
        """A matrix with the same singular values, some repeated."""
        return self.dense if self.small and min(self.p, self.q) <= EXACT else None

    def _largest(self) -> float:
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(1, *self.input, generator=generator, dtype=torch.float64).to(self.device, self.dtype)
        size = 0.0
        for _ in range(TURNS):
            v = v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)
            u = self.push(v)
            before, size = size, float(u.norm())
            if not size > 0 or abs(size - before) < 1e-3 * size:
                break
            v = self.pull(u)
        return size


class Entries(Local):
    """A factor with few entries: diagonals, gathers, sums over groups, pooling.

    Args:
        rows, cols: (n,) places, whole numbers; None for rows means 0, 1, ..., p - 1.
        weights: (n,) values; None means ones.
    """

    def __init__(self, output, input, like, rows: Tensor | None, cols: Tensor | None, weights: Tensor | None):
        super().__init__(output, input, like)
        self.rows, self.cols = rows, cols
        self.weights = None if weights is None else weights.reshape(-1)

    def push(self, v: Tensor) -> Tensor:
        return self._move(v, self.cols, self.rows, self.q, self.output)

    def pull(self, u: Tensor) -> Tensor:
        return self._move(u, self.rows, self.cols, self.p, self.input)

    def _move(self, v: Tensor, source: Tensor | None, target: Tensor | None, size: int, shape: torch.Size) -> Tensor:
        flat = v.reshape(len(v), size)
        if source is not None:
            flat = flat[:, source]
        if self.weights is not None:
            flat = flat * self.weights
        if target is None:
            return flat.reshape(len(v), *shape)
        made = flat.new_zeros(len(v), shape.numel()).index_add_(1, target, flat)
        return made.reshape(len(v), *shape)

    @cached_property
    def dense(self) -> Tensor:
        made = torch.zeros(self.p, self.q, dtype=self.dtype, device=self.device)
        weights = torch.ones((), dtype=self.dtype, device=self.device) if self.weights is None else self.weights
        rows, cols = self.places
        return made.index_put_((rows, cols), weights.expand(rows.shape), accumulate=True)

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        everyone = torch.arange(max(self.p, self.q), device=self.device)
        rows = everyone[: self.p if self.cols is None else len(self.cols)] if self.rows is None else self.rows
        return rows, (everyone[: len(rows)] if self.cols is None else self.cols)

    @property
    def core(self) -> Tensor | None:
        return None if self.orthogonal is not None else super().core

    @cached_property
    def orthogonal(self) -> tuple[float, float] | None:
        """The singular values' ends where rows or columns are orthogonal to each other: at most one entry in each."""
        rows, cols = self.places
        weights = torch.ones(len(rows), dtype=self.dtype, device=self.device) if self.weights is None else self.weights
        for own, size, other, count in ((cols, self.q, rows, self.p), (rows, self.p, cols, self.q)):
            if len(own) and int(torch.bincount(other, minlength=count).max()) > 1:
                continue
            squares = weights.new_zeros(size).index_add_(0, own, weights * weights)
            values = squares.sqrt().sort(descending=True).values[: min(self.p, self.q)]
            return (float(values[0]), float(values[-1])) if len(values) else (0.0, 0.0)
        return None

    @cached_property
    def spread(self) -> tuple[float, float | None]:
        return super().spread if self.orthogonal is None else self.orthogonal


class Closed(Local):
    """A factor that its formula multiplies without writing it out: products with matrices, convolutions, softmax.

    Args:
        push, pull: one vector at a time when `one`, else K at once.
        matrix: with the same singular values, some repeated.
    """

    def __init__(
        self,
        output,
        input,
        like,
        push: Callable[[Tensor], Tensor],
        pull: Callable[[Tensor], Tensor],
        *,
        matrix: Tensor | None = None,
        one: bool = False,
    ):
        super().__init__(output, input, like)
        self._push, self._pull, self.matrix, self.one = push, pull, matrix, one

    def push(self, v: Tensor) -> Tensor:
        return _each(self._push, v, self.output) if self.one else self._push(v).reshape(len(v), *self.output)

    def pull(self, u: Tensor) -> Tensor:
        return _each(self._pull, u, self.input) if self.one else self._pull(u).reshape(len(u), *self.input)

    @property
    def core(self) -> Tensor | None:
        return super().core if self.matrix is None else self.matrix


class Differentiated(Local):
    """The factor that autograd makes of an operation: whatever its backward says, right or wrong.

    Args:
        f: the operation, of this input alone.
        at: where.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], at: Tensor):
        self.f = f
        self.at = at.detach().requires_grad_()
        with torch.enable_grad():
            self.y = f(self.at.clone())  # a copy, since f may hand back what it was given
        super().__init__(self.y.shape, at.shape, self.y.detach())

    def pull(self, u: Tensor) -> Tensor:
        if "dense" in self.__dict__:
            return (u.reshape(len(u), self.p) @ self.dense).reshape(len(u), *self.input)
        return _each(self.vjp, u, self.input)

    def vjp(self, u: Tensor) -> Tensor:
        """J^T u for one u, by backward."""
        if self.y.grad_fn is None:
            return torch.zeros(self.input, dtype=self.dtype, device=self.device)
        found = torch.autograd.grad(self.y, self.at, u, retain_graph=True, allow_unused=True)[0]
        return torch.zeros(self.input, dtype=self.dtype, device=self.device) if found is None else found.to(self.dtype)

    @cached_property
    def dense(self) -> Tensor:
        eye = torch.eye(self.p, dtype=self.dtype, device=self.device)
        return _each(self.vjp, eye.view(self.p, *self.output), self.input).reshape(self.p, self.q)

    def push(self, v: Tensor) -> Tensor:
        if self.p <= 512 and self.small:
            return (v.reshape(len(v), self.q) @ self.dense.T).reshape(len(v), *self.output)
        return _each(self._jvp, v, self.output)

    def _jvp(self, v: Tensor) -> Tensor:
        """J v by differentiating u -> J^T u, which is linear; so that it is what backward says."""
        try:
            with torch.enable_grad():
                u = torch.zeros_like(self.y, requires_grad=True)
                pulled = torch.autograd.grad(self.y, self.at, u, create_graph=True, allow_unused=True)[0]
                if pulled is None or pulled.grad_fn is None:
                    return torch.zeros(self.output, dtype=self.dtype, device=self.device)
                found = torch.autograd.grad(pulled, u, v, allow_unused=True)[0]
            return torch.zeros_like(self.y) if found is None else found.detach()
        except RuntimeError:  # no second derivative: forward mode, where there is one
            return forward_mode(self.f, self.at.detach(), v)


def forward_mode(f: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    """J v by dual numbers: what the operation's forward rule says."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, at its first use of forward mode
        made = f(forward_ad.make_dual(z, v))
        tangent = forward_ad.unpack_dual(made).tangent
        return torch.zeros_like(made) if tangent is None else tangent.clone()


class Nothing(Local):
    """The factor of a cut: zeros."""

    def push(self, v: Tensor) -> Tensor:
        return torch.zeros(len(v), *self.output, dtype=self.dtype, device=self.device)

    def pull(self, u: Tensor) -> Tensor:
        return torch.zeros(len(u), *self.input, dtype=self.dtype, device=self.device)

    @cached_property
    def spread(self) -> tuple[float, float | None]:
        return 0.0, 0.0


class Together(Local):
    """The factor of several links between two values: along each path the product, over the paths the sum.

    Args:
        links: (index of the value read, index of the value made, factor), in the order of computation.
        start, end: indices of the two values.
    """

    def __init__(self, links: list[tuple[int, int, Local]], start: int, end: int):
        first = next(local for a, _, local in links if a == start)
        last = next(local for _, b, local in reversed(links) if b == end)
        super().__init__(last.output, first.input, torch.empty((), dtype=first.dtype, device=first.device))
        self.links, self.start, self.end = links, start, end

    def push(self, v: Tensor) -> Tensor:
        found = {self.start: v}
        for a, b, local in self.links:
            if a in found:
                add(found, b, local.push(found[a]))
        return found[self.end]

    def pull(self, u: Tensor) -> Tensor:
        found = {self.end: u}
        for a, b, local in reversed(self.links):
            if b in found:
                add(found, a, local.pull(found[b]))
        return found[self.start]


def add(found: dict[int, Tensor], index: int, part: Tensor) -> None:
    """Branches are summed where they meet."""
    found[index] = found[index] + part if index in found else part


def _each(f: Callable[[Tensor], Tensor], vectors: Tensor, shape: torch.Size) -> Tensor:
    return torch.stack([f(v) for v in vectors]) if len(vectors) else vectors.new_zeros(0, *shape)
