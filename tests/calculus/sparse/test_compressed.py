"""Sparse Jacobians evaluated: equal to dense ones, within budgets, models untouched, refusals in sentences."""

import pytest
import torch
from tests.corpora import generator, normal, seeded, settle
from torch import Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.calculus.sparse import Compressed, block_diagonal, prepare
from eitherway.graph import capture

X = torch.linspace(-1, 1.5, 24, dtype=torch.float64)


def prepared(f, x: Tensor, **options) -> Compressed:
    return prepare(f, capture(f, x), x, **options)


def dense(f, x: Tensor) -> Tensor:
    rows: Tensor = torch.autograd.functional.jacobian(f, x)
    return rows.reshape(-1, x.numel())


def neighbours(x: Tensor) -> Tensor:
    return x[1:-1] * x[2:] - x[:-2].exp()


def net(train: bool = False) -> nn.Module:
    g = generator("net")
    made = seeded(lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)), g)
    return settle(made, g).double().train(train)


def test_answers_are_coalesced_sparse_tensors_equal_to_the_dense_jacobian() -> None:
    J = prepared(neighbours, X)
    answer = J(X * 2)
    assert answer.is_coalesced() and answer.layout == torch.sparse_coo and answer.shape == J.shape == (22, 24)
    torch.testing.assert_close(answer.to_dense(), dense(neighbours, X * 2))
    torch.testing.assert_close(J.values(X), J.dense(X)[tuple(J.indices)])
    assert J.nnz == 66 and J.seeds == J.bound == 3 and J.density == 66 / (22 * 24)
    assert torch.equal(J.pattern.to_dense(), J.dense(X) != 0)
    assert J.worthwhile and J.index_sets.nnz == 66


def test_elementwise_functions_take_one_product() -> None:
    J = prepared(lambda x: x.sin() * x, X)
    assert J.seeds == 1 and J.direction == "reverse"


def test_wide_functions_go_forward() -> None:
    def f(x: Tensor) -> Tensor:
        return torch.outer(x, torch.arange(1.0, 9, dtype=x.dtype)).sin() + x[0]

    J = prepared(f, X)
    assert J.direction == "forward" and J.seeds == 2
    torch.testing.assert_close(J.dense(X), dense(f, X))


class OnlyBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x * 3

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad * 3


def test_rows_are_coloured_where_nothing_goes_forward() -> None:
    def f(x: Tensor) -> Tensor:
        heads = [OnlyBackward.apply(x[i : i + 1]) for i in range(6)]
        return torch.cat(heads).expand(20, 6).reshape(-1) * 1.5

    x = X[:6].clone()
    J = prepared(f, x)
    assert J.direction == "reverse"
    torch.testing.assert_close(J.dense(x), dense(f, x))


def test_nothing_is_called_where_no_entry_can_be_other_than_zero() -> None:
    calls = []

    def f(x: Tensor) -> Tensor:
        calls.append(1)
        return x.round()

    J = prepared(f, X)
    before = len(calls)
    assert J.nnz == 0 and J(X).to_dense().abs().sum() == 0 and len(calls) == before
    assert J.explain() == "24 x 24, 0 entries that may be other than zero (0 %)."


@pytest.mark.parametrize("memory", [None, 1 << 14, 1])
def test_chunks_within_a_budget_give_the_same(memory: int | None) -> None:
    f = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 1, 3)).double().requires_grad_(False)
    x = normal(generator("chunks"), 1, 1, 8, 8)
    J = prepared(f, x, memory=memory)
    torch.testing.assert_close(J.dense(x), dense(f, x))
    assert ("at a time keep within" in J.explain()) == (memory is not None)


def test_dense_patterns_say_so_and_are_right_all_the_same() -> None:
    f = nn.Linear(6, 7).double()
    J = prepared(f, X[:6].clone())
    assert not J.worthwhile and "of the 6 seeds of a dense one: take that" in J.explain()
    torch.testing.assert_close(J.dense(X[:6]), f.weight.detach())


def test_models_are_left_as_they_were() -> None:
    f, x = net(train=True), normal(generator("left"), 6, 5)
    before = {name: tensor.clone() for name, tensor in f.state_dict().items()}
    state = torch.get_rng_state()
    prepared(f, x).dense(x)
    assert all(torch.equal(before[name], tensor) for name, tensor in f.state_dict().items())
    assert all(p.grad is None for p in f.parameters())
    assert f.training and torch.equal(state, torch.get_rng_state())


def test_inputs_written_by_the_function_stay_as_they_are() -> None:
    def f(x: Tensor) -> Tensor:
        x.mul_(2)
        return x * x.roll(1)

    x = X.clone()
    J = prepared(f, x)
    torch.testing.assert_close(J.dense(x), dense(lambda x: 4 * x * x.roll(1), x))
    assert torch.equal(x, X)


def test_samples_of_a_batch_are_apart_unless_batch_norm_trains() -> None:
    x = normal(generator("batch"), 6, 5)
    apart, coupled = prepared(net(), x), prepared(net(train=True), x)
    assert apart.seeds == 3 and block_diagonal(apart.pattern, 6) and block_diagonal(apart.index_sets, 6)
    assert not block_diagonal(coupled.index_sets, 6)
    assert not block_diagonal(apart.index_sets, 4)  # 18 and 30 are no multiples of 4
    torch.testing.assert_close(coupled.dense(x), dense(net(train=True), x))


def test_functions_with_other_types_inside_are_exact_in_theirs() -> None:
    def f(x: Tensor) -> Tensor:
        return x.float().sin().double() * x.roll(1)

    torch.testing.assert_close(prepared(f, X).dense(X), dense(f, X))


def test_zeros_of_a_constant_are_watched() -> None:
    weight = nn.Parameter(torch.eye(5, dtype=torch.float64))

    def f(x: Tensor) -> Tensor:
        return weight @ x

    x = X[:5].clone()
    J = prepared(f, x)
    assert J.nnz == 5 and "stay zeros" in J.explain()
    with torch.no_grad():
        weight.mul_(3)
    torch.testing.assert_close(J.dense(x), weight.detach())
    with torch.no_grad():
        weight[0, 1] = 1
    with pytest.raises(ModelError, match="made this sparse pattern smaller, and they are zeros no more"):
        J(x)


def test_zeros_made_of_numbers_forbid_any_change_of_them() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64))

    def f(x: Tensor) -> Tensor:
        return weight.relu() @ x

    J = prepared(f, X[:2].clone())
    assert J.nnz == 2
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(ModelError, match="prepare the Jacobian again"):
        J(X[:2])


def test_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match="this Jacobian was prepared for an input of shape"):
        prepared(neighbours, X)(X[:-1])


def test_several_inputs_are_refused() -> None:
    pair = (X, X)
    with pytest.raises(ModelError, match="a sparse Jacobian is of one tensor, and f was captured with 2"):
        prepare(lambda p: p[0] * p[1], capture(lambda p: p[0] * p[1], pair), X)


@pytest.mark.parametrize(
    "f", [lambda x: (x, x), lambda x: x.argsort(), lambda x: torch.fft.rfft(x)], ids=["two", "whole", "complex"]
)
def test_several_or_other_outputs_are_refused(f) -> None:
    with pytest.raises(ModelError, match="a sparse Jacobian is of one tensor of real numbers"):
        prepared(f, X)


def test_the_plan_can_be_read() -> None:
    text = prepared(neighbours, X).explain()
    assert "22 x 24, 66 entries" in text and "3 products w J, each for all rows of one colour." in text
    assert repr(prepared(neighbours, X)) == "Compressed(22 x 24, 66 entries, 3 seeds reverse)"


def test_more_seeds_are_expected_to_cost_more() -> None:
    few, many = prepared(lambda x: x.sin(), X), prepared(lambda x: x.unfold(0, 9, 1).prod(-1), X)
    assert 0 < few.cost.seconds < many.cost.seconds and few.cost.peak > 0 and few.seconds > 0
