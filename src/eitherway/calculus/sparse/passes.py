"""Products with the Jacobian, many at once, forward (J v) and reverse (w J): by the fastest of torch's ways."""

from __future__ import annotations

import time
import warnings
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
LONG = 0.03
"""Seconds of a run that need no repetition to tell."""
HOPELESS = 4.0
"""A way this many times slower than the best so far is not tried again."""


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
    spare: float = float("inf"),
) -> tuple[Way, float] | None:
    """The fastest of a direction's ways at x, and its seconds; None if torch can do none of them.

    A loop is tried for few seeds, or where nothing else works; with one seed it is best without a trial.

    Args:
        spare: seconds after which no further way is tried, unless a run is so long that the choice matters more.
    """
    ways = WAYS[direction][::-1] if count <= FEW // 4 else WAYS[direction]
    best: tuple[Way, float] | None = None
    clock = _clock(x)
    start = clock()
    for way in ways:
        if best is not None:
            loop = way in (reverse_loop, forward_loop)
            late = clock() - start > spare and best[1] < LONG
            if late or count == 1 or (loop and count > FEW):
                continue
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                seconds = _timed(way, f, x, seeds, count, chunk, None if best is None else best[1])
        except (RuntimeError, ValueError, TypeError):
            continue
        if any("performance drop" in str(warning.message) for warning in said):
            continue  # what vmap does one by one is no faster than a loop, which does not complain
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
    """Seconds of a second run, or of the first where that is hopeless or long enough to tell."""
    clock, seconds = _clock(x), 0.0
    for _ in range(2):
        start = clock()
        way(f, x, seeds, count, chunk)
        seconds = clock() - start
        if seconds > LONG or (best is not None and seconds > HOPELESS * best):
            break
    return seconds


def _clock(x: Tensor) -> Callable[[], float]:
    """On one thread its own clock, which does not count what others take of the machine."""
    return time.thread_time if x.device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def _recorded(f: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return x, f(x)


def _pulled(y: Tensor, x: Tensor, given: Tensor, again: bool, batched: bool = False) -> Tensor:
    (found,) = torch.autograd.grad(y, x, given, retain_graph=again, allow_unused=True, is_grads_batched=batched)
    if found is None:
        return x.new_zeros(*given.shape[: given.dim() - y.dim()], *x.shape)
    return found
