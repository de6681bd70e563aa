"""Float32 functions are checked in float64, where as little can hide as in a float64 function, and stay as they are."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.corpora import generator, normal, seeded
from tests.corpora.case import DETACHED
from tests.corpora.fault import Applied, custom
from tests.corpora.faults import FAULTS
from tests.corpora.functions import CASES, Case
from tests.corpora.networks import JACOBIANS
from torch import Tensor, nn
from torch.func import jacrev

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import JacobianWarning, jacobian, prepare_jacobian
from eitherway.calculus.jacobian.check import FINEST, probe
from eitherway.calculus.jacobian.double import Doubled
from eitherway.graph.capture import owners

# a function in float64 ------------------------------------------------------------------------------------------------


class Twofold(torch.autograd.Function):
    """x W^T by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return grads[0] @ weight, None


class ByHand(nn.Linear):
    """A linear layer whose backward is written by hand, and may be wrong.

    wrong: what is made of the weight before the gradient is multiplied with it.
    """

    def __init__(self, columns: int, rows: int, wrong: Callable[[Tensor], Tensor] = lambda weight: weight):
        super().__init__(columns, rows)
        self.wrong = wrong

    def forward(self, input: Tensor) -> Tensor:
        wrong, bias = self.wrong, self.bias

        class LinearByHand(Twofold):
            @staticmethod
            def backward(ctx: Any, *grads: Tensor) -> Any:
                (weight,) = ctx.saved_tensors
                return grads[0] @ wrong(weight), None

        LinearByHand.generate_vmap_rule = False
        return LinearByHand.apply(input, self.weight) + bias


class Casting(nn.Module):
    """Asks for float32 in every way there is."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x.float()).to(torch.float32) * torch.ones(6, dtype=torch.float32)
        made = torch.zeros(x.shape)
        made[..., :3] = x[..., 3:].type_as(self.inner.weight)
        return made.to(dtype=x.dtype) + x.half().tanh()


MODULES: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.LayerNorm(7), nn.Softmax(-1)),
    "large dense": lambda: nn.Sequential(nn.Linear(6, 20_000), nn.Tanh(), nn.Linear(20_000, 5, bias=False)),
    "convolution": lambda: nn.Sequential(nn.Unflatten(-1, (1, 6)), nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2).eval()),
    "attention": lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).eval(),
    "recurrent": lambda: nn.GRU(6, 4, batch_first=True),
    "hand-written": lambda: nn.Sequential(ByHand(6, 5), nn.Tanh()),
    "casting": Casting,
}


@pytest.mark.parametrize("name", MODULES)
def test_a_float32_module_answers_as_its_copy_in_float64(name):
    g = generator(name)
    net, x = seeded(MODULES[name], g), normal(g, 3, 6)
    wide = copy.deepcopy(net).double()
    if name == "casting":
        wide.forward = lambda x: torch.cat([wide.inner(x)[:, 3:], 0 * x[:, 3:]], 1) + wide.inner(x).tanh()  # type: ignore

    def first(model: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: model(x)[0] if name == "recurrent" else model(x)

    with torch.no_grad():
        found, expected = Doubled(first(net))(x), first(wide)(x)
    assert found.dtype == torch.float64 and torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_what_a_function_closes_over_is_widened_as_well():
    weight, index = torch.tensor([[0.1, 0.2]]), torch.tensor([1, 0])
    found = Doubled(lambda x: (weight @ x)[..., None].expand(1, 2)[:, index] * torch.finfo(weight.dtype).eps)(
        torch.ones(2, dtype=torch.float64)
    )
    assert torch.equal(found, (weight.double().sum() * FINEST).expand(1, 2))
    assert weight.dtype == torch.float32
    row = torch.ones(2**17)
    with torch.no_grad():
        assert Doubled(lambda x: F.linear(x, row))(row.double()) == 2**17


def test_gradients_are_wide_too_and_of_the_leaf():
    net = seeded(lambda: nn.Sequential(ByHand(6, 5), nn.Tanh(), nn.Linear(5, 1)), generator("wide gradient"))
    wide, x = copy.deepcopy(net).double(), normal(generator("wide gradient"), 6)
    (found,), (expected,) = (
        torch.autograd.grad(f(leaf), leaf) for f in (Doubled(net), wide) for leaf in (x.clone().requires_grad_(),)
    )
    assert torch.allclose(found, expected, rtol=1e-13)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_what_rounds_all_the_same_is_said():
    x = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ModelError, match="rounds to fewer bits whatever it is given"):
        Doubled(lambda x: x.type("torch.FloatTensor"))(x)


def test_what_must_have_float32_is_checked_in_float32():
    def strict(x: Tensor) -> Tensor:
        if x.numpy(force=True).dtype != "float32":
            raise TypeError("float32 is all I take")
        return x.sin() * 2

    x = normal(generator("strict"), 9).float()
    assert probe(strict, x).eps == torch.finfo(torch.float32).eps and probe(torch.sin, x).eps == FINEST
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(jacobian(strict, x), torch.diag(2 * x.cos()))


def test_another_function_in_float64_is_no_judge():
    def other(x: Tensor) -> Tensor:  # in float64 its derivative is cut
        return x.sin() + (x.detach() if x.numpy(force=True).dtype == "float64" else 0)

    x = normal(generator("other"), 9).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(jacobian(other, x, mode="reverse"), torch.diag(x.cos()))


def test_where_float32_rounds_its_derivative_away_nothing_is_wrong():
    g = generator("saturated")
    for f, x in (
        (torch.tanh, 12 * torch.ones(7)),
        (torch.sigmoid, 30 * torch.ones(7)),
        (lambda x: (1e4 * x).sin(), normal(g, 7).float()),
        (lambda x: (1e5 * x).sin(), normal(g, 7).float()),
        (lambda x: (x + 1e4) - 1e4, normal(g, 7).float()),
        (lambda x: (x + 1e4) ** 2 - 1e8, normal(g, 7).float()),
        (lambda x: x.log_softmax(0).exp().log(), 30 * normal(g, 7).float()),
        (lambda x: (x - x.mean()) / (x.var() + 1e-12), 1000 + 1e-3 * normal(g, 7).float()),
    ):
        for mode in ("auto", "reverse"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                jacobian(f, x, mode=mode)


@pytest.mark.parametrize("train", (False, True))
def test_the_model_and_chance_are_as_they_were(train):
    g = generator("as it was")
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), g).train(train)
    x = normal(g, 4, 6).float()
    net(x).sum().backward()
    state = {name: (id(part), part.clone(), part.dtype) for name, part in net.state_dict(keep_vars=True).items()}
    grads, modes = [p.grad.clone() for p in net.parameters()], [m.training for m in net.modules()]  # type: ignore
    before = torch.get_rng_state()
    jacobian(net, x)
    prepare_jacobian(net, x)
    for name, part in net.state_dict(keep_vars=True).items():
        assert (id(part), part.dtype) == state[name][::2] and torch.equal(part, state[name][1])
    assert all(torch.equal(p.grad, grad) for p, grad in zip(net.parameters(), grads))  # type: ignore[arg-type]
    assert [m.training for m in net.modules()] == modes and torch.equal(before, torch.get_rng_state())


class Assigning(nn.Linear):
    """Keeps its weight small and its last answer at hand, as a running mean and as an attribute, by assignment."""

    def __init__(self) -> None:
        super().__init__(5, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.last: Any = None

    def forward(self, input: Tensor) -> Tensor:
        self.weight.data = self.weight.data.renorm(2, 0, 0.5)
        y = super().forward(input)
        self.mean = 0.9 * self.mean + 0.1 * y.detach()
        self.last = self.newest = y.detach()
        return y


@pytest.mark.parametrize("train", (False, True))
def test_what_a_forward_assigns_stays_narrow(train):
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 5), nn.Tanh(), Assigning()), generator("assigning")).train(train)
    x = normal(generator("assigning"), 5).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        J = jacobian(net, x)
    assert J.dtype == net(x).dtype == torch.float32
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32}
    assert torch.allclose(J, torch.autograd.functional.jacobian(net, x), atol=1e-6)


def test_what_wide_calls_assign_first_is_gone_afterwards():
    net, x = seeded(Assigning, generator("first")), torch.ones(5)
    Doubled(net)(x.double())
    assert not torch.is_tensor(net.last) and not hasattr(net, "newest") and not net.mean.any()
    y = net(x)
    Doubled(net)(2 * x.double())
    assert torch.equal(net.last, y) and torch.equal(net.newest, y) and torch.equal(net.mean, 0.1 * y)


# what is seen ---------------------------------------------------------------------------------------------------------


def zeroed_entry(weight: Tensor) -> Tensor:
    weight = weight.clone()
    weight.view(-1)[weight.abs().argmax()] = 0
    return weight


def zeroed_row(weight: Tensor) -> Tensor:
    return weight * (torch.arange(len(weight)) != 3)[:, None]


def swapped_signs(weight: Tensor) -> Tensor:
    return weight * (1 - 2.0 * (torch.arange(weight.shape[1]) % 9 == 4))


WRONG = {
    "a zeroed entry": zeroed_entry,
    "a zeroed row": zeroed_row,
    "some signs swapped": swapped_signs,
    "two per cent too large": lambda weight: weight * 1.02,
    "one per cent too small": lambda weight: weight * 0.99,
    "NaN": lambda weight: weight * float("nan"),
}


def with_layer(wrong: Callable[[Tensor], Tensor], width: int = 24) -> nn.Sequential:
    def build() -> nn.Sequential:
        return nn.Sequential(
            *(nn.Linear(10, width), nn.Tanh(), ByHand(width, width, wrong), nn.LayerNorm(width), nn.Linear(width, 12))
        )

    return seeded(build, generator("by hand"))


@pytest.mark.parametrize("batched", (False, True))
@pytest.mark.parametrize("wrong", WRONG)
def test_a_float32_layer_with_a_wrong_backward_is_caught_and_named(wrong, batched):
    net, x = with_layer(WRONG[wrong]), normal(generator("caught"), 8, 10).float()
    x = x if batched else x[0]
    for ask in (jacobian, prepare_jacobian):
        with pytest.warns(JacobianWarning, match=r"first at 2 \(ByHand\), LinearByHand"):
            ask(net, x, batched=batched)


@pytest.mark.parametrize("mode", ("auto", "chain", "reverse"))
def test_a_right_one_is_left_in_peace(mode):
    net, x = with_layer(lambda weight: weight), normal(generator("caught"), 8, 10).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        J = jacobian(net, x[0], mode=mode)
        jacobian(net, x, mode=mode, batched=True)
    assert torch.allclose(J, torch.autograd.functional.jacobian(net, x[0]), atol=1e-6)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_half_precision_hides_no_fault_either(dtype):
    x = normal(generator("half"), 20).to(dtype)
    for factor in (1.0, 1.2, 3.0):
        apply: Any = custom("Sine", torch.sin, lambda g, x, y: g * x.cos() * factor)  # noqa: B023
        assert ("first at Sine" in said(lambda x: 2 * apply(x), x)) == (factor > 1)  # noqa: B023


def test_large_layers_are_seen_through_as_well():
    net, x = with_layer(WRONG["two per cent too large"], width=300), normal(generator("large"), 64, 10).float()
    with pytest.warns(JacobianWarning, match="LinearByHand"):
        jacobian(net, x, batched=True)


def test_values_of_another_dtype_than_the_point_are_compared():
    x = normal(generator("mixed"), 5).float()
    for f in (lambda x: x.double().sin(), lambda x: (x.double() ** 2).float().sum()[None]):
        for mode in ("auto", "reverse", "forward"):
            assert torch.allclose(jacobian(f, x, mode=mode).float(), jacrev(f)(x).float(), rtol=1e-5)
    apply: Any = custom("WrongSine", torch.sin, lambda g, x, y: g * x.cos() * 1.02)
    with pytest.warns(JacobianWarning, match="WrongSine"):
        jacobian(lambda x: apply(x.double()), x)


# no false alarm -------------------------------------------------------------------------------------------------------


def in_float32(case: Any, seed: int = 0) -> tuple[Callable[[Tensor], Any], Tensor] | None:
    """The case with float32 weights and a float32 point; None where its constants stand in the way."""
    f, x = case.make(generator(case.name, seed))
    for _, owner in owners(f):
        owner.float()
    x = x.float()
    try:
        torch.autograd.functional.jacobian(f, x.clone())
    except (RuntimeError, ValueError):
        return None
    fresh = case.make(generator(case.name, seed))[0]  # of those with a memory nothing is remembered yet
    for _, owner in owners(fresh):
        owner.float()
    return fresh, x


def said(f: Callable[[Tensor], Any], x: Tensor, **how: Any) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", JacobianWarning)
        jacobian(f, x, **how)
    return " | ".join(str(one.message) for one in caught)


def said_of(f: Callable[[Tensor], Any], x: Tensor) -> str:
    """What is said, or why f is refused."""
    try:
        return said(f, x)
    except ModelError as error:
        return str(error)


def in_peace(case: Case, seed: int) -> None:
    made = in_float32(case, seed)
    if made is None or case.note == DETACHED:
        return
    for mode in ("auto", "reverse"):
        assert not said(*made, mode=mode) or "cdist" in case.name


@pytest.mark.parametrize("case", CASES[2::7], ids=lambda case: case.name)
def test_no_right_function_is_refused_in_float32(case: Case):
    in_peace(case, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_right_function_is_refused_in_float32_at_any_point(case: Case, seed: int):
    in_peace(case, seed)


@pytest.mark.parametrize("network", JACOBIANS, ids=lambda network: network.name)
def test_no_right_network_is_refused_in_float32(network):
    net, x = network.make(generator(network.name, 1))
    few = x[: 1 if x[0].numel() > 1000 else 3]
    assert not said(net, few, batched=True)


FLOAT32_FAULTS = [f for f in FAULTS if f.naive == "reverse" and f.kind in ("backward", "cut", "hook")]


@pytest.mark.parametrize("fault", FLOAT32_FAULTS[::3], ids=lambda fault: fault.name)
def test_faults_are_seen_in_float32_as_in_float64(fault):
    made = in_float32(fault)
    if made is None:
        return
    f, x = fault.make(generator(fault.name))
    assert bool(said_of(*made)) == bool(said_of(f, x))


class ExpInFloat32(torch.autograd.Function):
    """exp, by NumPy in float32 whatever it is given: rounding that torch does not tell of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.from_numpy(np.exp(x.numpy(force=True).astype(np.float32))).to(x.dtype)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0]


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_rounding_that_nobody_tells_of_is_no_fault(dtype):
    for seed in range(12):  # of 40 seeds 7 were called wrong while steps shorter than the rounding were believed
        g = generator("hidden rounding", seed)
        x, weight = normal(g, 6).to(dtype), normal(g, 4, 6).to(dtype)
        assert not said(lambda x: torch.tanh(weight @ ExpInFloat32.apply(x) * 0.1), x)  # noqa: B023
        assert not said(lambda x: x + ExpInFloat32.apply(x), x)


def test_upsampling_is_repeatable_up_to_rounding():
    for seed in range(4):
        x = normal(generator("up", seed), 1, 2, 4, 4).float()
        J = jacobian(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), x, mode="reverse")
        assert J.shape == (1, 2, 8, 8, 1, 2, 4, 4)


def test_an_applied_function_is_found_inside():
    apply: Any = custom("WrongTanh", torch.tanh, lambda g, x, y: g * (1 - y**2) * 1.02)
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 5), Applied(apply), nn.Linear(5, 3)), generator("applied"))
    with pytest.warns(JacobianWarning, match=r"first at 1 \(Applied\), WrongTanh"):
        jacobian(net, normal(generator("applied"), 5).float())
