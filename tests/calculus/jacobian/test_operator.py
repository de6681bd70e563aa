"""The Jacobian as products: they are those of the dense one, on both sides, for vectors and for several at once."""

import pytest
import torch
from tests.corpora import generator, normal, seeded
from torch import Tensor, nn
from torch.func import jacrev

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import JacobianOperator, jacobian, prepare_jacobian
from eitherway.calculus.jacobian.operator import operator_of

NET = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), generator("operator")).double()
MADE = {
    "a network": (NET, (4,)),
    "a batch through a network": (NET, (5, 4)),
    "a matrix of a matrix": (lambda x: x @ x.T, (3, 2)),
    "a scalar": (lambda x: (x**2).sum(), (4,)),
    "of a scalar": (lambda x: torch.stack([x, x**3]), ()),
    "neighbours": (lambda x: x[1:] * x[:-1], (7,)),
    "nothing depends": (lambda x: torch.ones(2, dtype=x.dtype), (3,)),
}


@pytest.mark.parametrize("mode", ("auto", "chain", "reverse", "forward", "sparse"))
@pytest.mark.parametrize("name", MADE)
def test_products_are_those_of_the_dense_jacobian(name, mode):
    f, shape = MADE[name]
    g = generator(name)
    x = normal(g, *shape)
    expected: Tensor = jacrev(f)(x)
    p, q = f(x).numel(), x.numel()
    dense = expected.reshape(p, q)
    J = jacobian(f, x, form="operator", mode=mode)
    u, v, several, more = normal(g, p), normal(g, q), normal(g, q, 3), normal(g, p, 2)

    def same(one: Tensor, other: Tensor) -> bool:
        return one.shape == other.shape and torch.allclose(one, other, rtol=1e-9, atol=1e-12)

    assert tuple(J.shape) == (p, q) and tuple(J.T.shape) == (q, p)
    assert same(J @ v, dense @ v) and same(J.T @ u, u @ dense)
    assert same(J @ several, dense @ several) and same(J.T @ more, dense.T @ more)
    assert same(J.T.T @ v, dense @ v) and same(J.dense(), dense)
    assert same(J.T.dense(), dense.T)


def test_a_chain_operator_stays_at_its_point():
    x = normal(generator("stays"), 4)
    slope = jacrev(NET)(x)
    J = jacobian(NET, x, form="operator", mode="chain")
    x.zero_()
    assert torch.allclose(J @ torch.ones(4, dtype=x.dtype), slope.sum(1))


def test_both_sides_are_adjoint():
    g = generator("adjoint")
    J = operator_of(NET, normal(g, 4))
    u, v = normal(g, 3), normal(g, 4)
    assert torch.allclose(u @ (J @ v), (J.T @ u) @ v)


def test_a_plan_of_operators_is_right_at_other_points():
    plan = prepare_jacobian(NET, normal(generator("one"), 4), form="operator")
    assert plan.mode == "operator" and "form='operator' was asked for" in plan.why
    for name in ("two", "three"):
        x = normal(generator(name), 4)
        assert torch.allclose(plan(x).dense(), jacrev(NET)(x), rtol=1e-10)


def test_the_operator_stays_at_its_point():
    x = normal(generator("stays"), 4)
    J = operator_of(lambda x: x**2, x)
    slope = 2 * x
    x.zero_()
    assert torch.allclose(J @ torch.ones(4, dtype=x.dtype), slope)
    assert torch.allclose(J.T @ torch.ones(4, dtype=x.dtype), slope)


@pytest.mark.parametrize("wrong", (torch.ones(3), torch.ones(4, 2, 2), torch.ones(()), torch.ones(3, 4)))
@pytest.mark.parametrize("mode", ("chain", "reverse"))
def test_vectors_of_another_length_are_refused(wrong, mode):
    J = jacobian(NET, normal(generator("wrong"), 4), form="operator", mode=mode)
    with pytest.raises(ModelError, match=r"an operator .*(expected \(4,\)|takes vectors \(4,\))"):
        J @ wrong.double()


@pytest.mark.parametrize("mode", ("chain", "reverse"))
def test_what_is_no_tensor_is_refused(mode):
    J = jacobian(NET, normal(generator("lists"), 4), form="operator", mode=mode)
    with pytest.raises(ModelError, match="an operator was multiplied with .*, a list; expected a tensor"):
        J @ [1.0, 2.0, 3.0, 4.0]


def test_an_operator_says_what_it_expected():
    J = operator_of(NET, normal(generator("says"), 4))
    assert repr(J) == "JacobianOperator(3 x 4)" and isinstance(J.T, JacobianOperator)
    with pytest.raises(ModelError, match=r"was multiplied with \(3,\); expected \(4,\) or \(4, K\): flatten the point"):
        J @ torch.ones(3, dtype=torch.float64)


class Once(torch.autograd.Function):
    """Right, without a forward rule and without a second derivative."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grads[0]


class Twice(torch.autograd.Function):
    """Right, without a forward rule."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grads[0]


@pytest.mark.parametrize("mode", ("auto", "reverse"))
def test_without_a_forward_rule_vectors_are_pushed_by_pulling_twice(mode):
    x = normal(generator("pulling"), 3, 2)
    J = jacobian(lambda x: Twice.apply(x.sin()).sum(0), x, form="operator", mode=mode)  # type: ignore[union-attr]
    expected = torch.autograd.functional.jacobian(lambda x: (x.sin() ** 2).sum(0), x).reshape(2, 6)
    v = normal(generator("v"), 6)
    assert torch.allclose(J @ v, expected @ v) and torch.allclose(J.dense(), expected)


def test_without_a_second_derivative_either_that_is_said():
    x = normal(generator("once"), 3)
    J = operator_of(lambda x: Once.apply(x), x)
    assert torch.allclose(J.T @ torch.ones_like(x), 2 * x)
    with pytest.raises(ModelError, match="needs an operation's forward rule or its second derivative"):
        J @ torch.ones_like(x)


def test_single_precision_stays_single():
    net = seeded(lambda: nn.Linear(4, 3), generator("single"))
    J = operator_of(net, normal(generator("single"), 4).float())
    assert J.dense().dtype == J.T.dense().dtype == torch.float32
    assert torch.allclose(J.dense(), net.weight.detach())


def test_a_cut_is_told_for_operators_too():
    from eitherway.calculus.jacobian import JacobianWarning

    with pytest.warns(JacobianWarning, match="detach"):
        jacobian(lambda x: x * x.detach(), torch.ones(3), form="operator")
