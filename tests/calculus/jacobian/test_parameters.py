"""Jacobians with respect to parameters: what functional_call and jacrev say, by name, single and batched."""

import pytest
import torch
from tests.corpora import generator, normal, seeded, settle
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import jacobian


class Tied(nn.Module):
    """One matrix there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 4)
        self.back = nn.Linear(4, 4)
        self.back.weight = self.out.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.back(torch.tanh(self.out(x)))


NETWORKS = {
    "dense": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), (5, 4)),
    "convolutions": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.GELU(), nn.Flatten()), (3, 2, 6)),
    "recurrent": (lambda: First(nn.GRU(3, 2, batch_first=True)), (2, 4, 3)),
    "shared": (Tied, (3, 4)),
}


class First(nn.Module):
    """The first of a module's answers."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)[0]


def made(name: str) -> tuple[nn.Module, Tensor]:
    build, shape = NETWORKS[name]
    g = generator(name)
    return settle(seeded(build, g), g).double(), normal(g, *shape)


def expected(net: nn.Module, x: Tensor, names: list[str] | None = None) -> dict[str, Tensor]:
    parameters = {k: v.detach() for k, v in net.named_parameters() if names is None or k in names}
    return jacrev(lambda parameters: functional_call(net, parameters, (x,)))(parameters)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return list(found) == list(wanted) and all(
        found[k].shape == wanted[k].shape and torch.allclose(found[k], wanted[k], rtol=1e-9, atol=1e-12) for k in wanted
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_all_parameters_are_as_functional_call_and_jacrev_say(name):
    net, x = made(name)
    assert same(jacobian(net, x, wrt="parameters"), expected(net, x))


@pytest.mark.parametrize("name", ("dense", "convolutions", "shared"))
def test_each_samples_own_are_the_rows_of_the_whole(name):
    net, x = made(name)
    found = jacobian(net, x, wrt="parameters", batched=True)
    assert same(found, expected(net, x))  # each output is one sample's


def test_each_samples_own_are_vmapped_jacrev():
    net, x = made("dense")
    parameters = {k: v.detach() for k, v in net.named_parameters()}
    one = jacrev(lambda parameters, sample: functional_call(net, parameters, (sample,)))
    assert same(jacobian(net, x, wrt="parameters", batched=True), vmap(one, in_dims=(None, 0))(parameters, x))


def test_recurrent_samples_that_cannot_be_mapped_go_one_by_one():
    net, x = made("recurrent")
    assert same(jacobian(net, x, wrt="parameters", batched=True), expected(net, x))


class Halved(torch.autograd.Function):
    """Right, without a rule for vmap."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x / 2

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return grads[0] / 2


class Halving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Halved.apply(x)  # type: ignore[return-value]


@pytest.mark.parametrize("batched", (False, True))
def test_functions_without_a_rule_for_vmap_go_row_by_row(batched):
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 2), Halving()), generator("halved")).double()
    x = normal(generator("halved"), 4, 3)
    plain = nn.Sequential(net[0])
    wanted = {k: v / 2 for k, v in expected(plain, x).items()}
    assert same(jacobian(net, x, wrt="parameters", batched=batched), wanted)


@pytest.mark.parametrize("wrt", ("2.weight", ["2.weight"], ("2.bias", "0.weight")))
def test_parameters_are_taken_by_name(wrt):
    net, x = made("dense")
    names = [wrt] if isinstance(wrt, str) else list(wrt)
    found, wanted = jacobian(net, x, wrt=wrt), expected(net, x, names)
    assert list(found) == names and same(found, {name: wanted[name] for name in names})


def test_frozen_parameters_are_left_out_unless_named():
    net, x = made("dense")
    net[0].requires_grad_(False)  # type: ignore[index]
    assert list(jacobian(net, x, wrt="parameters")) == ["2.weight", "2.bias"]
    assert same(jacobian(net, x, wrt=["0.weight"]), expected(net, x, ["0.weight"]))
    net.requires_grad_(False)
    with pytest.raises(ModelError, match="the module has no parameters that want a gradient"):
        jacobian(net, x, wrt="parameters")


def test_parameters_that_nothing_reads_have_zeros():
    net, x = made("dense")
    net.register_parameter("idle", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    for batched in (False, True):
        found = jacobian(net, x, wrt="parameters", batched=batched)
        assert found["idle"].shape == (5, 2, 2) and not found["idle"].any()
    net.register_parameter("long", nn.Parameter(torch.ones(10, dtype=torch.float64)))
    assert jacobian(net, x, wrt="long")["long"].shape == (5, 2, 10)


def test_nothing_out_gives_empty_jacobians():
    net, x = made("dense")
    assert jacobian(net, x[:0], wrt="2.bias")["2.bias"].shape == (0, 2, 2)


def test_batched_wants_one_sample_a_row_of_every_input():
    net = nn.Bilinear(3, 2, 4)
    with pytest.raises(ModelError, match="and the inputs' first axes must be as long"):
        jacobian(Broadcasting(net), (torch.ones(5, 3), torch.ones(1, 2)), wrt="parameters", batched=True)


class Broadcasting(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.part(a, b.expand(len(a), -1))


def test_each_samples_own_where_samples_change_shape():
    net, x = made("convolutions")
    assert jacobian(net, x[:1], wrt="parameters", batched=True)["0.weight"].shape == (1, 12, 3, 2, 3)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # in what is compared with
def test_several_inputs_are_a_tuple():
    net = seeded(lambda: nn.Bilinear(3, 2, 4), generator("bilinear")).double()
    a, b = normal(generator("a"), 5, 3), normal(generator("b"), 5, 2)
    parameters = {k: v.detach() for k, v in net.named_parameters()}
    wanted = jacrev(lambda parameters: functional_call(net, parameters, (a, b)))(parameters)
    assert same(jacobian(net, (a, b), wrt="parameters"), wanted)
    assert same(jacobian(net, (a, b), wrt="parameters", batched=True), wanted)


def test_a_scalar_loss_gives_gradients_as_long_as_the_parameters():
    net, x = made("dense")
    loss = nn.Sequential(net, Squared())
    found = jacobian(loss, x, wrt="parameters")
    loss(x).backward()
    assert all(torch.allclose(found[k], v.grad) for k, v in loss.named_parameters() if v.grad is not None)


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x**2).mean()


@pytest.mark.parametrize("training", (False, True))
@pytest.mark.parametrize("batched", (False, True))
def test_the_model_is_left_as_it_was(training, batched):
    net, x = made("convolutions")
    net.train(training)
    state, chance = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    jacobian(net, x, wrt="parameters", batched=batched and not training)
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert net.training == training and torch.equal(chance, torch.get_rng_state())


def test_a_function_has_no_parameters_by_name():
    with pytest.raises(ModelError, match="wrt names parameters, so f must be an nn.Module"):
        jacobian(torch.sin, [1.0], wrt="parameters")


def test_a_name_that_is_not_there_gets_the_nearest():
    net, x = made("dense")
    with pytest.raises(ModelError, match="the module has no parameter '0.wieght'.*0.weight"):
        jacobian(net, x, wrt=["0.wieght"])


def test_lists_and_arrays_are_taken():
    net = seeded(lambda: nn.Linear(2, 1), generator("lists"))
    assert jacobian(net, [3.0, 4.0], wrt="weight")["weight"].tolist() == [[[3, 4]]]
    assert jacobian(net.double(), torch.tensor([3.0, 4.0]).double().numpy(), wrt="weight")["weight"].shape == (1, 1, 2)


def test_samples_that_touch_each_other_have_no_jacobians_of_their_own():
    net, x = made("convolutions")
    with pytest.raises(ModelError, match="samples of the batch touch each other"):
        jacobian(net.train(), x, wrt="parameters", batched=True)


def test_random_modules_are_refused():
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    with pytest.raises(ModelError, match="two calls of Sequential at one point returned two values, so it"):
        jacobian(net, torch.ones(2, 4), wrt="parameters")


@pytest.mark.parametrize("asked", ({"mode": "chain"}, {"form": "sparse"}, {"argnums": 1}))
def test_settings_of_the_input_are_refused(asked):
    with pytest.raises(ModelError, match="those by parameters are dense and torch's: leave these out"):
        jacobian(nn.Linear(2, 1), torch.ones(2), wrt="parameters", **asked)


@pytest.mark.parametrize("wrt", (None, 3, ["weight", 1]))
def test_names_of_parameters_are_words(wrt):
    with pytest.raises(ModelError, match="expected 'input', 'parameters', or a list of the names of parameters"):
        jacobian(nn.Linear(2, 1), torch.ones(2), wrt=wrt)
