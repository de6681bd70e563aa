"""Colourings are valid, no looser than greedy, and given up in time; dense lines are put apart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from torch import Tensor

from eitherway.calculus.sparse import prepare
from eitherway.calculus.sparse.colouring import colour, kinds_of
from eitherway.calculus.sparse.follow import Followed
from eitherway.calculus.sparse.plan import plan
from eitherway.graph import capture


def drawn(p: int, q: int, density: float, seed: int) -> csr_matrix:
    made = csr_matrix(np.random.default_rng(seed).random((p, q)) < density)
    made.sort_indices()
    return made


def followed(pattern: csr_matrix) -> Followed:
    return Followed(pattern, np.arange(len(pattern.indptr) - 1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 25), st.integers(1, 25), st.floats(0, 0.4), st.integers(0, 99))
def test_two_columns_of_one_colour_share_no_row(p: int, q: int, density: float, seed: int) -> None:
    pattern = drawn(p, q, density, seed)
    found = colour(pattern, q + 1)
    assert found is not None
    seeds = (found.colours[:, None] == np.arange(max(found.count, 1))).astype(int)
    assert np.asarray(pattern.astype(int) @ seeds).max(initial=0) <= 1
    assert found.bound <= found.count <= q


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 25), st.integers(1, 25), st.floats(0, 0.5), st.integers(0, 99))
def test_every_entry_is_told_once_by_the_products_of_a_plan(p: int, q: int, density: float, seed: int) -> None:
    pattern = drawn(p, q, density, seed)
    numbers = pattern.astype(float)
    numbers.data = np.arange(1.0, pattern.nnz + 1)
    values = np.zeros(pattern.nnz)
    for part in plan(followed(pattern)).parts:
        seeds = (part.colours[None] == np.arange(part.count)[:, None]).astype(float)
        products = (numbers @ seeds.T).T if part.direction == "forward" else seeds @ numbers
        at = np.arange(pattern.nnz) if part.entries is None else part.entries
        values[at] = products.reshape(-1)[part.take]
    np.testing.assert_array_equal(values, numbers.data)


def test_bands_need_as_many_colours_as_they_are_wide() -> None:
    band = csr_matrix(np.tril(np.triu(np.ones((40, 40), bool), -1), 2))
    found = colour(band, 40)
    assert found is not None and found.count == found.bound == 4


def test_colouring_is_given_up_where_it_is_not_worth_while() -> None:
    assert colour(csr_matrix(np.ones((5, 9), bool)), 8) is None
    assert not plan(followed(csr_matrix(np.ones((9, 9), bool)))).worthwhile


def test_rows_alike_are_looked_at_once() -> None:
    block = csr_matrix(np.kron(np.eye(3, dtype=bool), np.ones((4, 2), bool)))
    assert kinds_of(block).shape == (3, 6)


def test_arrows_take_lines_apart() -> None:
    arrow = np.eye(50, dtype=bool)
    arrow[0] = arrow[:, 0] = True
    found = plan(followed(csr_matrix(arrow)))
    assert found.seeds == 3 and found.direction == "both"


@pytest.mark.parametrize("turned", [False, True])
def test_arrow_shaped_jacobians_are_exact(turned: bool) -> None:
    def f(x: Tensor) -> Tensor:
        head = (x[:3].sum() if turned else x.square().sum())[None]
        rest = x[1:] * x[0] + x[1:] ** 2
        return torch.cat([head, rest, rest.sum()[None]] if turned else [head, rest])

    x = torch.linspace(-1, 1, 40, dtype=torch.float64)
    J = prepare(f, capture(f, x), x)
    true: Tensor = torch.autograd.functional.jacobian(f, x)
    assert J.direction == "both" and J.seeds <= 6
    torch.testing.assert_close(J.dense(x), true)
    torch.testing.assert_close(J(x).to_dense(), true)
