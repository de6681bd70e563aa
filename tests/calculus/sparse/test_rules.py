"""Operations the corpus leaves out: patterns hold what is there, and no more where a rule can know."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.corpora import generator, normal
from tests.corpora.functions import dense, non_zeros
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.sparse.follow import Followed, follow
from eitherway.graph import capture

BANDED = torch.eye(4, dtype=torch.float64) + torch.diag(torch.ones(3, dtype=torch.float64), 1)
KERNEL = torch.tensor([[[[0.0, 1, 0], [1, 2, 1], [0, 1, 0]]]], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1])
MASK = torch.tensor([[True, False, True], [False, True, True], [True, True, False]])

TIGHT: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "triangular solve": (lambda x: torch.linalg.solve_triangular(BANDED, x, upper=True), (4, 2)),
    "triangular solve from the right": (
        lambda x: torch.linalg.solve_triangular(BANDED, x, upper=True, left=False),
        (2, 4),
    ),
    "solve for a vector": (lambda x: torch.linalg.solve(BANDED, x), (4,)),
    "solve from the right": (lambda x: torch.linalg.solve(BANDED, x, left=False), (3, 4)),
    "cholesky": (lambda x: torch.linalg.cholesky(x @ x.mT + 4 * torch.eye(3, dtype=x.dtype)), (3, 3)),
    "cholesky, upper": (lambda x: torch.linalg.cholesky(x.mT @ x + BANDED @ BANDED.mT, upper=True), (4, 4)),
    "R of a wide QR": (lambda x: torch.linalg.qr(x)[1], (3, 5)),
    "Q of a square QR": (lambda x: torch.linalg.qr(x)[0], (3, 3)),
    "distances of pairs": (torch.pdist, (5, 2)),
    "conv2d with zeros in the kernel": (lambda x: F.conv2d(x, KERNEL, padding=1), (2, 1, 4, 4)),
    "conv_transpose2d with zeros in the kernel": (
        lambda x: F.conv_transpose2d(x, KERNEL.repeat(2, 1, 1, 1), stride=2, groups=2),
        (1, 2, 3, 3),
    ),
    "conv1d in image, kernel and bias": (lambda x: F.conv1d(x[None, None, :6], x[None, None, 6:8], x[8:]), (9,)),
    "conv2d in the kernel, padded": (
        lambda k: F.conv2d(torch.ones(1, 1, 3, 3, dtype=k.dtype), k, padding=2),
        (2, 1, 3, 3),
    ),
    "products of a mask": (lambda x: x * MASK, (3, 3)),
    "masked_fill": (lambda x: x.masked_fill(MASK, 0.0), (3, 3)),
    "masked_select": (lambda x: x.masked_select(MASK), (3, 3)),
    "where of a constant": (lambda x: torch.where(MASK, x, x.mT), (3, 3)),
    "masked matrix times x": (lambda x: (MASK * BANDED[:3, :3]) @ x, (3, 2)),
    "addmm, addmv, baddbmm, addbmm": (
        lambda x: torch.cat(
            [
                torch.addmm(x, BANDED[:3, :3], x).reshape(-1),
                torch.addmv(x[0], BANDED[:3, :3], x[1], beta=0),
                torch.baddbmm(x[None], BANDED[None, :3, :3], x[None]).reshape(-1),
                torch.addbmm(x, BANDED[None, :3, :3], x[None]).reshape(-1),
            ]
        ),
        (3, 3),
    ),
    "outer by addr": (lambda x: torch.addr(x[:2, :], x[2, :2], x[3]), (4, 3)),
    "put and take": (lambda x: x.put(torch.tensor([0, 5]), x[0, :2] ** 2), (3, 3)),
    "index_fill and index_copy": (
        lambda x: x.index_fill(0, LABELS[:1], 2.0).index_copy(1, LABELS[1:], x[:, :2].sin()),
        (3, 3),
    ),
    "diagonal_scatter and select_scatter": (
        lambda x: x.diagonal_scatter(x[0]).select_scatter(x[1].exp(), 1, 0),
        (3, 3),
    ),
    "nll_loss": (lambda x: F.nll_loss(x, LABELS, reduction="none"), (3, 3)),
    "nll_loss of images": (lambda x: F.nll_loss(x, LABELS.reshape(1, 1, 3), reduction="none"), (1, 3, 1, 3)),
    "mse_loss, its mean": (lambda x: F.mse_loss(x[0], x[1]), (2, 3)),
    "renorm": (lambda x: torch.renorm(x + 4, 2, 0, 1.0), (3, 4)),
    "weight_norm": (lambda x: torch.ops.aten._weight_norm_interface(x, x[:, :1].abs(), 0)[0], (3, 4)),
    "multi_margin_loss": (lambda x: F.multi_margin_loss(3 * x, LABELS, margin=9.0, reduction="none"), (3, 3)),
    "view_as_complex, multiplied": (lambda x: torch.view_as_real(torch.view_as_complex(x) * (1 + 2j)), (3, 2)),
    "embedding in its weights": (lambda x: F.embedding(LABELS, x), (3, 2)),
    "cov": (torch.cov, (3, 4)),
    "fold with padding": (lambda x: F.fold(x, (4, 3), 2, padding=1, stride=2), (2, 4, 6)),
    "max_unpool at constant places": (
        lambda x: F.max_unpool2d(x, torch.tensor([[[[0, 3], [8, 15]]]]), [2, 2]),
        (1, 1, 2, 2),
    ),
}


def judged(f: Callable[[Tensor], Tensor], *shape: int) -> tuple[int, int, Followed]:
    """Non-zeros missed, entries to spare, and what was followed."""
    x = normal(generator("rules"), *shape)
    true = non_zeros(dense(f, x)).numpy()
    found = follow(capture(f, x))
    rows = found.rows.toarray()
    return int((true & ~rows).sum()), int((rows & ~true).sum()), found


@pytest.mark.parametrize("name", TIGHT)
def test_rules_tell_exactly_what_depends_on_what(name: str) -> None:
    f, shape = TIGHT[name]
    missed, spare, found = judged(f, *shape)
    assert (missed, spare, found.fallbacks) == (0, 0, [])


SUPERSETS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "indices that depend on x": (lambda x: x[x[:, 0].argsort()], (4, 2)),
    "a mask that depends on x": (lambda x: x.masked_fill(x > 0, 0.0) * 2, (3, 3)),
    "gather at places that depend on x": (lambda x: x.gather(0, x.argmax(0, keepdim=True)), (3, 3)),
    "index_select where x says": (lambda x: x.index_select(1, x.sum(0).argsort()), (3, 3)),
    "scatter where x says": (lambda x: torch.zeros_like(x).scatter(1, x.argsort(1), x.exp()), (3, 3)),
    "max_unpool where x says": (
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), [2, 2]),
        (1, 2, 4, 4),
    ),
    "fractional pooling": (
        lambda x: F.fractional_max_pool2d(x, 2, 2, _random_samples=torch.full((1, 2, 2), 0.3, dtype=x.dtype)),
        (1, 2, 4, 4),
    ),
    "grid_sample in both": (
        lambda x: F.grid_sample(x[:, :1], x.reshape(1, 4, 4, 2).tanh(), align_corners=False),
        (1, 2, 4, 4),
    ),
    "inverse": (lambda x: torch.linalg.inv(x @ x.mT + torch.eye(3, dtype=x.dtype)), (2, 3, 3)),
    "long scan": (lambda x: x.cumsum(0), (9,)),
}


@pytest.mark.parametrize("name", SUPERSETS)
def test_what_depends_on_values_holds_for_all_values(name: str) -> None:
    f, shape = SUPERSETS[name]
    x = normal(generator(name), *shape)
    rows = follow(capture(f, x)).rows.toarray()
    for seed in range(3):  # the pattern of one point, at others
        other = normal(generator(name, seed + 1), *shape)
        assert not (non_zeros(dense(f, other)).numpy() & ~rows).any()


@pytest.mark.filterwarnings("ignore:index_reduce")  # torch calls it beta
def test_index_reduce_unites_what_meets() -> None:
    missed, spare, _ = judged(lambda x: x.index_reduce(0, torch.tensor([1, 1, 0]), x.exp(), "prod"), 3, 3)
    assert (missed, spare) == (0, 0)


def test_an_unknown_operation_counts_as_dense_and_is_named() -> None:
    lengths = torch.tensor([2, 2])

    def f(x: Tensor) -> Tensor:
        return torch.segment_reduce(x, "sum", lengths=lengths).sin()

    missed, _, found = judged(f, 4)
    assert missed == 0
    assert found.rows.nnz == 8
    assert len(found.fallbacks) == 1 and found.fallbacks[0].startswith("segment_reduce, test_rules.py:")


class Mirrored(torch.autograd.Function):
    """Its forward keeps the order, its backward reverses it: what depends on what is the backward's affair."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad.flip(0) * 2


def test_a_hand_written_function_counts_as_dense_whatever_its_forward_does() -> None:
    def f(x: Tensor) -> Tensor:
        return Mirrored.apply(x)

    missed, _, found = judged(f, 5)
    assert missed == 0
    assert found.fallbacks[0].startswith("Mirrored")


def test_too_many_entries_are_refused_with_the_operation() -> None:
    x = torch.linspace(0.1, 1, 30)
    graph = capture(lambda x: x[:, None] * x[None, :] + 1, x)
    with pytest.raises(ModelError, match="the index sets of a sparse Jacobian outgrow 500 entries at mul"):
        follow(graph, most=500)


def test_dense_layers_share_one_set() -> None:
    f = torch.nn.Sequential(torch.nn.Linear(50, 40), torch.nn.Tanh(), torch.nn.Linear(40, 30))
    found = follow(capture(f, torch.ones(50)))
    assert found.kinds.shape == (1, 50) and found.shape == (30, 50) and found.nnz == 1500
