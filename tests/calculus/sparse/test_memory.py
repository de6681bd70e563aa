"""Memory that several tensors see: views, writes, detached handles, elements looked at in parts."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from eitherway.calculus.sparse.follow import follow
from eitherway.graph import capture

X = torch.linspace(0.5, 2, 4, dtype=torch.float64)


def pattern(f: Callable[[Tensor], Tensor], x: Tensor = X) -> list[list[int]]:
    """The columns of each row."""
    rows = follow(capture(f, x)).rows
    return [np.sort(rows.indices[rows.indptr[i] : rows.indptr[i + 1]]).tolist() for i in range(rows.shape[0])]


def test_a_view_taken_before_a_write_sees_it() -> None:
    def f(x: Tensor) -> Tensor:
        room = torch.zeros(4, dtype=x.dtype)
        early = room[1:3]
        room.copy_(x.flip(0))
        return early.sin()

    assert pattern(f) == [[2], [1]]


def test_a_constant_written_over_takes_the_dependence_away() -> None:
    def f(x: Tensor) -> Tensor:
        y = x.sin()
        y[1] = 3.0
        y[2:].zero_()
        return y

    assert pattern(f) == [[0], [], [], []]


def test_detached_views_hide_what_they_share() -> None:
    def f(x: Tensor) -> Tensor:
        y = x.sin()
        return y.detach() * y.flip(0)

    assert pattern(f) == [[3], [2], [1], [0]]


def test_a_detached_handle_depends_again_once_it_is_written_with_x() -> None:
    def f(x: Tensor) -> Tensor:
        handle = x.sin().detach()
        handle[0] = x[3]
        return handle * 2

    assert 3 in pattern(f)[0]


def test_no_write_through_a_detached_handle_takes_a_dependence_away() -> None:
    def f(x: Tensor) -> Tensor:
        y = x.sin()
        handle = y.detach()
        handle[0] = x[3]
        handle.zero_()
        return y + 1

    assert [row[:1] for row in pattern(f)] == [[0], [1], [2], [3]]


def test_nothing_passes_under_no_grad_and_forward_mode_is_left_out() -> None:
    def f(x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = x.sum()
        return torch.outer(x * scale, torch.ones(3, dtype=x.dtype)).reshape(-1)

    found = follow(capture(f, X))
    assert found.hidden
    assert found.nnz == 12


def test_transposed_in_place_means_another_order_not_another_tensor() -> None:
    def f(x: Tensor) -> Tensor:
        y = x.reshape(2, 2).clone()
        before = y[0].clone()
        y.t_()
        y[0] = 0
        return torch.cat([before, y.reshape(-1)])

    assert pattern(f) == [[0], [1], [], [], [1], [3]]


def test_complex_numbers_are_looked_at_in_parts() -> None:
    def f(x: Tensor) -> Tensor:
        z = torch.complex(x[:2], x[2:])
        parts = torch.view_as_real(z)
        parts[0, 1] = 0
        return (z * 1j).real

    assert pattern(f) == [[0], [1, 3]] or pattern(f) == [[0, 2], [1, 3]]
    assert pattern(lambda x: torch.view_as_complex(x.reshape(2, 2)).abs()) == [[0, 1], [2, 3]]


def test_writing_into_an_expanded_tensor_reaches_all_that_see_it() -> None:
    def f(x: Tensor) -> Tensor:
        y = x[:1].clone()
        y.expand(3, 1).zero_()
        return y + x[1]

    assert pattern(f) == [[1]]


@pytest.mark.parametrize(
    "mutate",
    [lambda y, x: y.add_(x), lambda y, x: y.mul_(x), lambda y, x: y.sub_(x).exp_()],
    ids=["add_", "mul_", "sub_"],
)
def test_writes_in_place_join_what_was_there(mutate: Callable[[Tensor, Tensor], Tensor]) -> None:
    def f(x: Tensor) -> Tensor:
        y = x.clone()
        mutate(y[:2], x[2:])
        return y

    assert pattern(f) == [[0, 2], [1, 3], [2], [3]]


def test_masks_written_from_x_are_no_constants() -> None:
    def f(x: Tensor) -> Tensor:
        mask = torch.zeros(4, dtype=torch.bool)
        view = mask[:]
        mask.copy_(x > 1)
        return torch.where(view, x, x.flip(0))

    assert pattern(f) == [[0, 3], [1, 2], [1, 2], [0, 3]]


def test_constants_changed_after_they_were_read_are_not_believed() -> None:
    def f(x: Tensor) -> Tensor:
        weight = torch.ones(2, 4, dtype=x.dtype)
        y = weight @ x
        weight.zero_()
        return y

    assert pattern(f) == [[0, 1, 2, 3], [0, 1, 2, 3]]
