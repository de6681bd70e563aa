"""Random programs of views, in-place writes and arithmetic: no pattern ever misses a dependence."""

from collections.abc import Callable

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from eitherway.calculus.sparse import prepare
from eitherway.calculus.sparse.follow import follow
from eitherway.graph import capture

CONSTANT = torch.tensor([[1.0, 0, 2, 0], [0, 3, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]], dtype=torch.float64)
Step = Callable[[Tensor, Tensor, int], Tensor]


def alike(a: Tensor, b: Tensor) -> Tensor:
    """b where it has a's shape, else one number of it."""
    return b if a.shape == b.shape else b.reshape(-1)[:1].sum()


def written(a: Tensor, i: int, value: Tensor) -> Tensor:
    if a.dim():
        a[i % a.shape[0]] = value
    return a


def added(a: Tensor, b: Tensor) -> Tensor:
    return a.add_(alike(a, b.clone()))


def hidden(a: Tensor) -> Tensor:
    a.detach().mul_(1.5)
    return a


def turned(a: Tensor) -> Tensor:
    return a.clone().transpose_(0, -1) if a.dim() else a


MAKING: tuple[Step, ...] = (
    lambda a, b, i: a.sin(),
    lambda a, b, i: a * alike(a, b),
    lambda a, b, i: a - alike(a, b).exp(),
    lambda a, b, i: a.reshape(-1).cumsum(0) if i % 2 else a.sum(-1, keepdim=True).expand(a.shape).clone(),
    lambda a, b, i: a.softmax(0) if a.dim() else a.exp(),
    lambda a, b, i: torch.cat([a.reshape(-1), b.reshape(-1)])[: 4 + i % 4],
    lambda a, b, i: a.reshape(-1)[torch.tensor([0, -1, 0])],
    lambda a, b, i: torch.where(alike(a, b) > 0, a, alike(a, b)),
    lambda a, b, i: CONSTANT[: 2 + i % 2] @ a if a.dim() == 2 and a.shape[0] == 4 else a.square(),
    lambda a, b, i: a.detach() * 2,
    lambda a, b, i: torch.zeros_like(a),
    lambda a, b, i: a.roll(1, 0) if a.dim() else a.clone(),
    lambda a, b, i: torch.outer(a.reshape(-1)[:3], b.reshape(-1)[:2]),
)
LOOKING: tuple[Step, ...] = (
    lambda a, b, i: a.mT if a.dim() > 1 else a[None],
    lambda a, b, i: a[i % a.shape[0] :] if a.dim() else a,
    lambda a, b, i: a[::2] if a.dim() else a,
    lambda a, b, i: a.view(-1) if a.is_contiguous() else a.unsqueeze(-1),
    lambda a, b, i: a.diagonal() if a.dim() > 1 else a,
    lambda a, b, i: a.expand(2, *a.shape),
    lambda a, b, i: a.detach(),
)
WRITING: tuple[Step, ...] = (
    lambda a, b, i: a.mul_(2),
    lambda a, b, i: added(a, b),
    lambda a, b, i: written(a, i, b.reshape(-1)[:1].sum()),
    lambda a, b, i: a.copy_(alike(a, b.clone())),
    lambda a, b, i: a.zero_() if i % 3 == 0 else a.sin_(),
    lambda a, b, i: hidden(a),
    lambda a, b, i: turned(a),
    lambda a, b, i: a.reshape(-1)[::2].mul_(3),
)
STEPS = MAKING + LOOKING + WRITING


def program(steps: list[tuple[int, int, int, int]]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        pool = [x * 1.0]
        for kind, first, second, i in steps:
            made = STEPS[kind](pool[first % len(pool)], pool[second % len(pool)], i)
            if made.numel() and made.numel() <= 40:
                pool.append(made)
        return torch.cat([pool[-1].reshape(-1), pool[len(pool) // 2].reshape(-1)])

    return run


def columns(f: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    """(p, q) the Jacobian column by column, forward, which no write in place disturbs."""
    found = []
    for j in range(x.numel()):
        tangent = torch.zeros_like(x)
        tangent.view(-1)[j] = 1
        with forward_ad.dual_level():
            y, pushed = forward_ad.unpack_dual(f(forward_ad.make_dual(x, tangent)))
        found.append(torch.zeros_like(y) if pushed is None else pushed)
    return torch.stack(found, 1).numpy()


PROGRAMS = st.lists(
    st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=10
)
POINT = torch.linspace(-0.9, 1.1, 8, dtype=torch.float64).reshape(4, 2)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(PROGRAMS)
def test_no_program_has_a_non_zero_outside_its_pattern(steps: list[tuple[int, int, int, int]]) -> None:
    f = program(steps)
    try:
        true = columns(f, POINT)
    except RuntimeError:  # a write that torch refuses, such as into an expanded tensor
        assume(False)
        return
    found = follow(capture(f, POINT)).rows.toarray()
    assert not ((true != 0) & np.isfinite(true) & ~found).any()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(PROGRAMS)
def test_compressed_products_give_what_rows_one_by_one_give(steps: list[tuple[int, int, int, int]]) -> None:
    f = program(steps)
    try:
        rows: Tensor = torch.autograd.functional.jacobian(f, POINT)
    except RuntimeError:
        assume(False)
        return
    assume(bool(rows.isfinite().all()))
    J = prepare(f, capture(f, POINT), POINT)
    torch.testing.assert_close(J.dense(POINT), rows.reshape(J.shape), rtol=1e-9, atol=1e-12)
