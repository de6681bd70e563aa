"""Products with the Jacobian, many at once, forward (J v) and reverse (w J): by the fastest of torch's ways."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.func import jvp, vjp, vmap

Function = Callable[[Tensor], Tensor]
Way = Callable[[Function, Tensor, Callable[[int, int], Tensor], int, int], Tensor]
"""(f, x, seeds(first, last), count, chunk) -> (count, n): all products, chunk by chunk."""
Direction = Literal["forward", "reverse"]

FEW = 16
"""Seeds up to which a loop over them is tried beside vmap."""


def reverse_loop(f: Function, x: Tensor, seeds: Callable[[int, int], Tensor], count: int, chunk: int) -> Tensor:
    """One recorded run, one backward pass a seed."""
    x, y = _recorded(f, x)
    made: list[Tensor] = []
    for i in range(count):
        made.append(_pulled(y, x, seeds(i, i + 1)[0].view(y.shape), i + 1 < count))
    return torch.stack(made).reshape(count, -1)


def reverse_batched(f: Function, x: Tensor, seeds: Callable[[int, int], Tensor], count: int, chunk: int) -> Tensor:
    """One recorded run, its backward pass under autograd's own vmap."""
    x, y = _recorded(f, x)
    made = []
    for first in range(0, count, chunk):
        last = min(first + chunk, count)
        given = seeds(first, last).view(last - first, *y.shape)
        made.append(_pulled(y, x, given, last < count, batched=True).reshape(last - first, -1))
    return made[0] if len(made) == 1 else torch.cat(made)


def reverse_func(f: Function, x: Tensor, seeds: Callable[[int, int], Tensor], count: int, chunk: int) -> Tensor:
    """`vmap` over torch.func's `vjp`."""
    with torch.no_grad():
        y, pull = vjp(f, x)[:2]
        several = vmap(lambda row: pull(row)[0])
        made = [
            several(seeds(first, min(first + chunk, count)).view(-1, *y.shape)).reshape(-1, x.numel())
            for first in range(0, count, chunk)
        ]
    return made[0] if len(made) == 1 else torch.cat(made)


def forward_func(f: Function, x: Tensor, seeds: Callable[[int, int], Tensor], count: int, chunk: int) -> Tensor:
    """`vmap` over torch.func's `jvp`."""
    with torch.no_grad():
        several = vmap(lambda column: jvp(f, (x,), (column,))[1])
        made = []
        for first in range(0, count, chunk):
            last = min(first + chunk, count)
            made.append(several(seeds(first, last).view(-1, *x.shape)).reshape(last - first, -1))
    return made[0] if len(made) == 1 else torch.cat(made)


def forward_loop(f: Function, x: Tensor, seeds: Callable[[int, int], Tensor], count: int, chunk: int) -> Tensor:
    """One run with dual numbers a seed."""
    made = []
    with torch.no_grad(), forward_ad.dual_level():
        for i in range(count):
            dual = forward_ad.make_dual(x, seeds(i, i + 1)[0].view(x.shape))
            y, tangent = forward_ad.unpack_dual(f(dual))
            made.append(torch.zeros_like(y) if tangent is None else tangent)
    return torch.stack(made).reshape(count, -1)


WAYS: dict[Direction, tuple[Way, ...]] = {
    "reverse": (reverse_batched, reverse_func, reverse_loop),
    "forward": (forward_func, forward_loop),
}


def fastest(
    direction: Direction,
    f: Function,
    x: Tensor,
    seeds: Callable[[int, int], Tensor],
    count: int,
    chunk: int,
) -> tuple[Way, float] | None:
    """The fastest of a direction's ways at x, each run twice at most, and its seconds; None if torch can do none.

    A loop is tried for few seeds, or where nothing else works; with one seed it is best without a trial.
    """
    ways = WAYS[direction]
    if count == 1:
        ways = ways[::-1]
    best: tuple[Way, float] | None = None
    for way in ways:
        loop = way in (reverse_loop, forward_loop)
        if best is not None and (count == 1 or (loop and count > FEW)):
            continue
        try:
            seconds = _timed(way, f, x, seeds, count, chunk, None if best is None else best[1])
        except (RuntimeError, ValueError, TypeError):
            continue
        if best is None or seconds < best[1]:
            best = way, seconds
    return best


def _timed(
    way: Way,
    f: Function,
    x: Tensor,
    seeds: Callable[[int, int], Tensor],
    count: int,
    chunk: int,
    best: float | None,
) -> float:
    """Seconds of the second run, or of the first where that is hopeless or long enough to tell."""
    seconds = 0.0
    for turn in range(2):
        start = time.perf_counter()
        way(f, x, seeds, count, chunk)
        seconds = time.perf_counter() - start
        if turn == 0 and (seconds > 0.05 or (best is not None and seconds > 4 * best)):
            break
    return seconds


def _recorded(f: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return x, f(x)


def _pulled(y: Tensor, x: Tensor, given: Tensor, again: bool, batched: bool = False) -> Tensor:
    (found,) = torch.autograd.grad(y, x, given, retain_graph=again, allow_unused=True, is_grads_batched=batched)
    if found is None:
        return x.new_zeros(*given.shape[: given.dim() - y.dim()], *x.shape)
    return found
