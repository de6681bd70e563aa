"""A plan is made once, is right at every later point, and is made anew when what it was made for has changed."""

import pytest
import torch
from tests.corpora import generator, normal, seeded, settle
from torch import Tensor, nn
from torch.func import jacrev, vmap

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import JacobianPlan, jacobian, prepare_jacobian

WAYS = ("auto", "chain", "sparse", "reverse", "forward")
by_way = pytest.mark.parametrize("mode", WAYS)


def network(*layers: nn.Module) -> nn.Sequential:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 3))

    g = generator("network of the plan")
    return settle(nn.Sequential(*layers) if layers else seeded(build, g), g).double()  # type: ignore[return-value]


def points(*shape: int, count: int = 3) -> list[Tensor]:
    return [normal(generator(f"point {i}"), *shape) for i in range(count)]


def right(plan: JacobianPlan, f, x: Tensor) -> bool:
    """Against torch's reverse mode without vmap."""
    expected = torch.autograd.functional.jacobian(f, x)
    found = plan(x)
    found = found.to_dense().reshape(expected.shape) if found.is_sparse else found
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-9, atol=1e-11)


@by_way
def test_a_plan_is_right_at_other_points(mode):
    net, (example, *others) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, mode=mode)
    assert all(right(plan, net, x) for x in (example, *others, example))


@pytest.mark.parametrize("mode", ("auto", "chain", "reverse", "forward"))
def test_a_batched_plan_is_right_at_other_points(mode):
    net, (example, *others) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, batched=True, mode=mode)
    for x in (example, *others, example):
        expected = vmap(jacrev(lambda one: net(one[None])[0]))(x)
        assert torch.allclose(plan(x), expected, rtol=1e-9, atol=1e-11)


def test_a_plan_evaluates_without_planning_again(monkeypatch):
    net, (example, *others) = network(), points(4, 5)
    plan = prepare_jacobian(net, example)
    monkeypatch.setattr(JacobianPlan, "_plan", lambda self, x: pytest.fail("planned again"))
    assert all(right(plan, net, x) for x in (example, *others))


@by_way
def test_parameters_may_change_in_place(mode):
    net, (example, x, _) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, mode=mode)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5).add_(0.1)
    assert right(plan, net, x)


@by_way
def test_statistics_may_change_in_place(mode):
    net, (example, x, _) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, mode=mode)
    for buffer in net.buffers():
        buffer.mul_(2).add_(1)
    assert right(plan, net, x)


@by_way
def test_weights_that_were_zero_may_cease_to_be(mode):
    net = network(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(5))
        net[2].weight.copy_(torch.eye(5))
    example, x, _ = points(5)
    plan = prepare_jacobian(net, example, mode=mode)
    assert right(plan, net, x)
    with torch.no_grad():
        net[0].weight.fill_(0.3)
    assert right(plan, net, x)


@pytest.mark.parametrize("form", ("dense", "sparse"))
def test_a_pattern_made_of_zeros_holds_only_while_they_are_zeros(form):
    net = network(nn.Linear(90, 90), nn.Tanh())
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(90))
    example, x, _ = points(90)
    plan = prepare_jacobian(net, example, form=form, mode="sparse")
    assert right(plan, net, x)
    with torch.no_grad():
        net[0].weight[0, 7] = 2.0
    assert right(plan, net, x)


@by_way
def test_train_and_eval_are_two_plans(mode):
    net, (example, x, _) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, mode=mode)
    statistics = net[1].running_mean.clone()
    net.train()
    found = plan(x)
    net.eval()
    assert torch.equal(statistics, net[1].running_mean)
    assert right(plan, net, x)
    copy = network().train()
    expected = torch.autograd.functional.jacobian(copy, x)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-11)
    assert not torch.allclose(found, plan(x), rtol=1e-3)


@by_way
def test_a_replaced_parameter_is_seen(mode):
    net, (example, x, _) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, mode=mode)
    net[3].weight = nn.Parameter(net[3].weight.detach() * 3)
    assert right(plan, net, x)


@by_way
def test_a_replaced_buffer_is_seen(mode):
    net, (example, x, _) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, mode=mode)
    net[1].running_var = net[1].running_var * 4
    assert right(plan, net, x)


@by_way
def test_a_replaced_module_is_seen(mode):
    net, (example, x, _) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, mode=mode)
    net[2] = nn.Sigmoid()
    assert right(plan, net, x)
    net[2].register_parameter("unused", nn.Parameter(torch.ones(1)))
    net[1].eval()
    assert right(plan, net, x)


@by_way
def test_other_shapes_and_dtypes_are_planned_anew(mode):
    net, (example, _, _) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, mode=mode)
    assert right(plan, net, normal(generator("longer"), 6, 5))
    assert right(plan, net, example)
    net.float()
    assert plan(example.float()).dtype == torch.float32


def test_the_plan_takes_lists_and_arrays():
    plan = prepare_jacobian(lambda x: x**2, [1.0, 2.0])
    assert plan([3.0, 4.0]).tolist() == [[6, 0], [0, 8]]
    assert plan(torch.tensor([3.0, 4.0]).numpy()).tolist() == [[6, 0], [0, 8]]


def branching(x: Tensor) -> Tensor:
    return x.sin() * 2 if x.sum() > 0 else x.flip(0) ** 2


def counting(x: Tensor) -> Tensor:
    for _ in range(int(x.abs().sum().item())):
        x = x.cos()
    return x


def masked(x: Tensor) -> Tensor:
    return x[x > 0] ** 2


@by_way
def test_another_branch_is_planned_anew(mode):
    plan = prepare_jacobian(branching, torch.full((6,), 0.5, dtype=torch.float64), mode=mode)
    for sign in (1, -1, 1, -1):
        assert right(plan, branching, sign * torch.linspace(0.1, 1, 6, dtype=torch.float64))


@pytest.mark.parametrize("f", (counting, masked))
def test_another_number_of_turns_or_outputs_is_planned_anew(f):
    plan = prepare_jacobian(f, torch.full((4,), 0.3, dtype=torch.float64))
    for factor in (0.3, 1.3, 2.2, 0.3):
        x = factor * torch.tensor([1.0, -0.5, 0.7, 0.2], dtype=torch.float64)
        assert right(plan, f, x)


def test_a_tensor_from_outside_may_change_in_place():
    scale = torch.tensor([2.0, 3.0], dtype=torch.float64)
    plan = prepare_jacobian(lambda x: x * scale, torch.ones(2, dtype=torch.float64))
    scale.fill_(7)
    assert plan(torch.ones(2, dtype=torch.float64)).diagonal().tolist() == [7, 7]


def test_the_caller_may_write_into_the_example_afterwards():
    example = torch.tensor([1.0, 2.0], dtype=torch.float64)
    plan = prepare_jacobian(lambda x: x**2, example)
    example.fill_(5)
    assert plan(example).diagonal().tolist() == [10, 10]


def test_a_plan_is_for_one_argument():
    with pytest.raises(ModelError, match="a plan is for one argument and got a tuple of 2"):
        prepare_jacobian(torch.mul, (torch.ones(2), torch.ones(2)))


def test_a_plan_that_was_called_has_forgotten_its_example():
    plan = prepare_jacobian(torch.sin, torch.zeros(2))
    assert torch.equal(plan.at_example(), torch.eye(2))
    plan(torch.ones(2))
    with pytest.raises(ModelError, match="the plan has been called since it was made"):
        plan.at_example()


def test_a_plan_tells_itself():
    net, (example, _, _) = network(), points(4, 5)
    plan = prepare_jacobian(net, example, batched=True)
    told = str(plan)
    assert "Jacobian of Sequential: 4 x 3 x 5" in told and f"way: {plan.mode}" in told and plan.why in told
    assert "predicted" in told
    assert repr(plan).startswith("JacobianPlan(3 x 5, way=")


def test_a_plan_remarks_what_was_cut():
    with pytest.warns(Warning, match="is not what its values do"):
        plan = prepare_jacobian(lambda x: x * x.detach(), torch.ones(3))
    assert "note: detach lets no gradient pass" in plan.explain()


@pytest.mark.parametrize("form", ("dense", "sparse"))
def test_a_sparse_plan_shows_its_pattern_and_colours(form):
    x = normal(generator("banded"), 90)
    plan = prepare_jacobian(lambda x: x[1:] * x[:-1], x, form=form, mode="sparse")
    assert plan.colours == 2 and plan.pattern.shape == (89, 90)
    assert plan.pattern.to_dense().sum() == 2 * 89
    assert "2 products" in plan.explain()


def test_a_plan_that_is_not_sparse_has_no_pattern():
    plan = prepare_jacobian(torch.sin, torch.ones(3), mode="reverse")
    for look in (lambda: plan.pattern, lambda: plan.colours):
        with pytest.raises(ModelError, match="which knows no pattern; ask for form='sparse'"):
            look()


def test_one_jacobian_and_a_plan_say_the_same():
    net, (example, _, _) = network(), points(4, 5)
    for batched in (False, True):
        once = jacobian(net, example, batched=batched)
        assert torch.allclose(once, prepare_jacobian(net, example, batched=batched)(example), rtol=1e-10, atol=1e-12)


def test_a_way_that_breaks_while_it_is_planned_is_not_open(monkeypatch):
    def broken(*_, **__):
        raise IndexError("list index out of range")

    monkeypatch.setattr("eitherway.calculus.jacobian.choose.prepare_chain", broken)
    x = torch.ones(3)
    plan = prepare_jacobian(torch.sin, x)
    assert torch.allclose(plan(x), torch.diag(x.cos())) and "IndexError" in plan.explain()
    with pytest.raises(ModelError, match="way cannot be planned here: IndexError"):
        prepare_jacobian(torch.sin, x, mode="chain")
