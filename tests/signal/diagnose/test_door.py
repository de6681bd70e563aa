"""What `diagnose` takes, what it refuses and how, and that it leaves a model as it was."""

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from tests.signal.diagnose.well import ResNet, chain, ids, images, labels, noise, seeded
from torch import Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.signal.diagnose import diagnose


def net() -> nn.Sequential:
    return seeded(lambda: chain(3, 32, nn.ReLU, 4, 20))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 16), nn.Linear(20, 16)

    def forward(self, left, right=None, scale=1.0):
        return self.a(left) + scale * torch.tanh(self.b(left if right is None else right))


class Answer(nn.Module):
    """Answers in one way or another."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(20, 4), how

    def forward(self, x):
        return self.how(self.layer(x))


@dataclass
class Output:
    logits: Tensor
    name: str = "scores"


@pytest.mark.parametrize(
    "example",
    [
        (noise(8, 20),),
        (noise(8, 20), noise(8, 20, seed=1)),
        {"left": noise(8, 20), "scale": 0.5},
        lambda: noise(8, 20),
        lambda: {"left": noise(8, 20)},
    ],
    ids=["a tuple", "two", "a dict", "a function", "a function of a dict"],
)
def test_an_example_is_a_tensor_a_tuple_a_dict_or_a_function(example):
    report = diagnose(seeded(Two), example)
    assert {layer.name for layer in report.layers} == {"a", "b"} and report.batch == 8


def test_without_a_loss_the_backward_starts_from_a_cotangent_and_says_so():
    report = diagnose(net(), noise(16, 20), seed=3)
    assert report.start == "a random cotangent of unit rms on the output (16, 4) (seed 3): no loss was given"
    assert report.layers[-1].gradient == pytest.approx(1.0)


def test_a_scalar_answer_is_its_own_loss():
    report = diagnose(Answer(lambda y: y.square().mean()), noise(16, 20))
    assert report.start.startswith("the model's own answer, ")


@pytest.mark.parametrize(
    "loss", [(F.cross_entropy, labels(16, 4)), lambda y: F.cross_entropy(y, labels(16, 4))], ids=["pair", "function"]
)
def test_a_loss_is_a_function_of_the_output_or_a_pair(loss):
    report = diagnose(net(), noise(16, 20), loss)
    assert report.start.startswith("the loss, 1.")
    model = net()
    F.cross_entropy(model(noise(16, 20)), labels(16, 4)).backward()
    for layer in report.layers:
        gradient = model.get_parameter(layer.weight).grad
        assert layer.weight_gradient == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize(
    "how",
    [lambda y: {"logits": y}, lambda y: [y, None], lambda y: (y, "text"), Output],
    ids=["a dict", "a list", "a tuple", "a dataclass"],
)
def test_answers_of_any_make_are_looked_into(how):
    model = Answer(how)
    if how is not Output:
        assert "on the output (8, 4)" in diagnose(model, noise(8, 20)).start
    report = diagnose(model, noise(8, 20), lambda out: first(out).square().mean())
    assert report.start.startswith("the loss, ")


def first(out):
    return out.logits if isinstance(out, Output) else out["logits"] if isinstance(out, dict) else out[0]


def test_whole_numbers_are_embedded():
    model = nn.Sequential(nn.Embedding(30, 32), nn.Linear(32, 30))
    report = diagnose(model, ids(8, 12, below=30), lambda y: F.cross_entropy(y.flatten(0, 1), ids(96, below=30)))
    assert [layer.kind for layer in report.layers] == ["embedding", "linear"]
    assert report.jacobian.of == "its embedding"


def test_the_mode_that_is_measured_is_the_mode_the_model_is_in():
    model = seeded(lambda: ResNet())
    assert diagnose(model, images(4, 3, 8)).mode == "training mode"
    assert diagnose(model.eval(), images(4, 3, 8)).mode == "eval mode"
    model.fc.train()
    assert diagnose(model, images(4, 3, 8)).mode.startswith("mixed modes (1 modules training")


def left_as_it_was(model, call):
    """The model's state, gradients, modes and torch's generator before and after a call."""
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    tracked, before = [p.requires_grad for p in model.parameters()], torch.get_rng_state()
    call()
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values()))
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert modes == [m.training for m in model.modules()]
    assert tracked == [p.requires_grad for p in model.parameters()]
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten())
    model.append(nn.Linear(8 * 36, 4))
    model[0].eval()
    x = images(8, 3, 8)
    before = x.clone()
    left_as_it_was(model, lambda: diagnose(model, x, (F.cross_entropy, labels(8, 4))))
    assert torch.equal(x, before) and not x.requires_grad


def test_a_model_is_left_as_it_was_when_the_loss_fails():
    model = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))

    def fails(y):
        raise RuntimeError("no such thing")

    def call():
        with pytest.raises(ModelError, match="the loss failed on the model's output"):
            diagnose(model, noise(8, 20), fails)

    left_as_it_was(model, call)


def test_the_same_seed_says_the_same():
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 4))
    assert str(diagnose(model, noise(8, 20), seed=1)) == str(diagnose(model, noise(8, 20), seed=1))
    assert str(diagnose(model, noise(8, 20), seed=1)) != str(diagnose(model, noise(8, 20), seed=2))


def test_values_overwritten_in_place_are_measured_as_they_were_made():
    plain = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
    inplace = copy.deepcopy(plain)
    inplace[1].inplace = True
    ours, theirs = diagnose(plain, noise(16, 20)), diagnose(inplace, noise(16, 20))
    assert ours["0"].rms == pytest.approx(theirs["0"].rms) and ours["0"].dead == theirs["0"].dead
    assert ours["0"].gradient == pytest.approx(theirs["0"].gradient)


def cut(y):
    return y.detach().argmax(-1)


@pytest.mark.parametrize(
    "model, example, loss, message",
    [
        (nn.Linear, noise(4, 20), None, "is a class; give a module of it"),
        (torch.relu, noise(4, 20), None, "diagnose looks into an nn.Module; got"),
        (nn.Sequential(nn.ReLU()), noise(4, 20), None, "has no parameters, so there is nothing to train"),
        (nn.Sequential(nn.LazyLinear(3)), noise(4, 20), None, "is lazy and has no shape yet; run the model once"),
        (nn.Linear(20, 3, device="meta"), noise(4, 20), None, "is on the meta device and holds no numbers"),
        (net(), noise(4, 21), None, r"0 \(Linear.*refused 4x21: RuntimeError: .*The example was 4x21"),
        (nn.Embedding(5, 3), torch.tensor([[7]]), None, "refused 1x1: IndexError"),
        (net(), [noise(4, 20)], None, "the example is list; expected a tensor, a tuple of positional"),
        (net(), {1: noise(4, 20)}, None, "a dict of keyword arguments, or a function that makes one of them"),
        (net(), noise(0, 20), None, "the example holds an empty tensor of shape"),
        (net(), noise(4, 20).fill_(float("nan")), None, "80 NaN or inf; give numbers: whatever comes out"),
        (net(), noise(4, 20).fill_(float("inf")), None, "NaN or inf; give numbers: whatever comes"),
        (nn.Linear(4, 4, dtype=torch.complex64), noise(4, 4), None, "holds complex numbers, and what is measured here"),
        (net(), noise(4, 20), 3.0, "the loss is 3.0; expected a function of the model's output"),
        (net(), noise(4, 20), nn.MSELoss, "or a pair .function, target."),
        (net(), noise(4, 20), lambda y: y.square().sum(-1), "the loss answered a tensor of shape .*add .mean"),
        (net(), noise(4, 20), lambda y: y.sum().item(), "the loss answered a plain number, cut off from the model"),
        (net(), noise(4, 20), lambda y: torch.ones(3).sum(), "the loss does not depend on the model's output"),
        (net(), noise(4, 20), lambda y: y.argmax(), "no gradient starts from whole numbers: return a float"),
        (net(), noise(4, 20), lambda y, t: y.sum(), r"the loss failed on the model's output \(4x4\): TypeError"),
        (Answer(cut), noise(4, 20), None, "the model answered int64, from which no gradient can start"),
        (Answer(lambda y: "text"), noise(4, 20), None, "in which there is no tensor of floating type; give loss="),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_cannot_be_diagnosed_is_refused_in_a_sentence(model, example, loss, message):
    with pytest.raises(ModelError, match=message):
        diagnose(model, example, loss)


@pytest.mark.parametrize("lr", [0, -1.0, float("nan"), "fast"])
def test_a_rate_is_a_number_above_zero(lr):
    with pytest.raises(ModelError, match="a rate is a finite number above 0"):
        diagnose(net(), noise(4, 20), lr=lr)


def test_a_model_that_leaves_torch_is_refused_by_name():
    class Away(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(20, 4)

        def forward(self, x):
            return self.layer(torch.from_numpy(x.detach().numpy() * 2))

    with pytest.raises(ModelError, match="Away cannot be followed: .*keep the forward pass in operations of torch"):
        diagnose(Away(), noise(4, 20))
