"""What cannot be started is refused in one clear sentence, and the model stays as it was."""

import copy

import pytest
import torch
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.base.keys import Key
from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import mlp, numbers, tokens

X = numbers(8, 16)


def shared() -> nn.Module:
    model = mlp(16, 8, 4)
    model.share_memory()
    return model


def overlapping() -> nn.Module:
    model, room = mlp(16, 16, 16), torch.randn(300)
    model[0].weight = nn.Parameter(room[:256].view(16, 16))
    model[2].weight = nn.Parameter(room[40:296].view(16, 16))
    return model


def aliased() -> nn.Module:
    model = mlp(16, 8, 4)
    model.register_buffer("copy", model[0].weight.detach())
    return model


def expanded() -> nn.Module:
    model = mlp(16, 8, 4)
    model[0].bias = nn.Parameter(torch.zeros(1).expand(8))
    return model


def with_parameter(parameter: torch.Tensor) -> nn.Module:
    model = mlp(16, 8, 4)
    model.register_parameter("extra", nn.Parameter(parameter, requires_grad=parameter.is_floating_point()))
    return model


def complex_one() -> nn.Module:
    return with_parameter(torch.ones(2, dtype=torch.complex64))


def of_inference() -> nn.Module:
    with torch.inference_mode():
        return mlp(16, 8, 4)


def all_integers() -> nn.Module:
    model = nn.Module()
    model.register_parameter("codes", nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False))
    return model


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda: nn.Linear, "initialize_ got the class Linear; make a module of it first"),
        (lambda: torch.relu, "expected an nn.Module with parameters"),
        (lambda: torch.jit.script(mlp(16, 8, 4)), "Sequential is TorchScript, which runs outside of Python"),
        (lambda: nn.Sequential(torch.jit.script(mlp(16, 8, 4))), "0 is TorchScript, which runs outside of Python"),
        (lambda: torch.compile(mlp(16, 8, 4)), "is compiled, and what was compiled cannot be followed"),
        (nn.ReLU, "has no parameters, so there is nothing to start"),
        (lambda: nn.Sequential(nn.LazyLinear(8)), "no shape yet; run the model once first"),
        (lambda: mlp(16, 8, 4).to("meta"), "no memory to write into; make it first"),
        (complex_one, "complex numbers; the laws here are for real ones"),
        (lambda: with_parameter(torch.eye(2).to_sparse()), "sparse; starts are drawn for dense parameters"),
        (shared, "lies in memory shared with other processes"),
        (overlapping, "overlap in memory, so that starting one changes the other"),
        (aliased, "overlap in memory, so that starting one changes the other"),
        (expanded, "is expanded: several of its entries are one number in memory"),
        (of_inference, "of inference mode and cannot be written outside of it"),
        (
            lambda: mlp(16, 8, 4).requires_grad_(False),
            "frozen \\(requires_grad is False\\), and nothing else was to be started",
        ),
        (all_integers, "no floating-point numbers, and nothing else was to be started"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_a_model_that_cannot_be_written_is_refused(model, message):
    with pytest.raises(ModelError, match=message):
        initialize_(model(), X)


@pytest.mark.parametrize(
    "example, message",
    [
        ("text", "got str as the example: expected a tensor, a tuple of positional arguments"),
        (None, "got NoneType as the example: expected a tensor"),
        (torch.empty(0, 16), "the example of shape \\(0, 16\\) is empty; expected a few samples"),
        (X * torch.nan, "holds 128 NaN or inf; expected finite numbers"),
        (X.to_sparse(), "; the model is run on real, dense numbers"),
        (X.to("meta"), "the example is on the meta device"),
        (
            X[:, :9],
            "0 \\(Linear\\(in_features=16.* refused its input of shape \\(8, 9\\).*so that 16 features stand last here",
        ),
        (X.long(), "refused its input of shape \\(8, 16\\).*\\(example int64; parameters float32\\)"),
        (X.double(), "called with: the shape may be right, the dtype is not: x.float\\(\\)$"),
        ([X], "a list was taken for one argument; positional arguments stand in a tuple, \\(x,\\)$"),
        ({"inp": X}, "the keys of a dict are names of arguments, and forward has input, not 'inp'$"),
        ({0: X}, "the keys of a dict are names of arguments, and forward has input, not 0$"),
        ((X, X[:, 0]), "refused its input of shape \\(8, 16\\) and \\(8,\\): TypeError.*with labels the inputs alone"),
    ],
)
def test_an_example_that_does_not_fit_is_refused_and_the_module_named(example, message):
    model = mlp(16, 8, 4)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError, match=message):
        initialize_(model, example)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


@pytest.mark.parametrize(
    "layers, example, message",
    [
        ((nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(9, 2)), numbers(2, 3, 8, 8), "2 \\(Linear.* shape \\(2, 144\\)"),
        ((nn.Identity(), nn.Conv2d(3, 4, 3)), numbers(2, 1, 8, 8), "1 \\(Conv2d.*so that \\(batch, 3 channels, ...\\)"),
        ((nn.Linear(4, 6), nn.BatchNorm1d(8)), numbers(5, 4), "1 \\(BatchNorm1d.*so that 8 channels stand on axis 1"),
        ((nn.LSTM(4, 3),), numbers(5, 2, 6), "0 \\(LSTM.*so that 4 features stand last here"),
        (
            (nn.Embedding(10, 4),),
            tokens(99, 4, 5),
            "0 \\(Embedding\\(10, 4\\)\\) has rows 0 to 9 and was asked for rows",
        ),
    ],
)
def test_the_module_that_refused_is_named_with_what_it_expects(layers, example, message):
    with pytest.raises(ModelError, match=message):
        initialize_(nn.Sequential(*layers), example)


class Between(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.one, self.two, self.function = nn.Linear(16, 16), nn.Linear(16, 4), function

    def forward(self, x):
        return self.two(self.function(self.one(x)))


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda u: u * 0 + 1, "at add, test_refusals.py:.* is constant"),
        (nn.Threshold(50.0, 0.0), "at function \\(Threshold\\), threshold.* is constant"),
        (lambda u: torch.exp(u * u), "at exp, test_refusals.py:.*grows without bound"),
        (lambda u: torch.from_numpy(u.detach().numpy()), "Between cannot be followed: Tensor.numpy takes values out"),
    ],
)
def test_an_activation_that_has_no_moments_is_refused_with_its_line(function, message):
    model = Between(function)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError, match=message):
        initialize_(model, X)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scheme": "kaimin"}, "scheme='kaimin' is not known. Did you mean kaiming"),
        ({"scheme": {"0": "he"}}, "scheme='he' is not known. Known: auto"),
        ({"scheme": {"body.*": "kaiming"}}, "the scheme for 'body.\\*' means no parameter of this model. Known: 0, 2"),
        ({"residual": "none"}, "residual='none' is no rule for residual branches. Known: sqrt, zero, fixup"),
        ({"only": "head.*"}, "only='head.\\*' means no parameter of this model. Known: 0, 2, 0.weight"),
        ({"only": "weigth"}, "only='weigth' means no parameter of this model"),
        ({"only": ()}, "holds no patterns; expected names of parameters or modules"),
        ({"only": 3}, "holds no patterns; expected names of parameters"),
        ({"seed": Key(0)}, "is no whole number; a start is drawn from an int, such as seed=0"),
        ({"seed": None}, "seed=None is no whole number"),
        ({"seed": "7"}, "seed='7' is no whole number"),
        ({"seed": True}, "seed=True is no whole number"),
        ({"overwrite": "no"}, "overwrite='no' is neither True nor False"),
        ({"data": None}, "data=None is neither True nor False"),
        ({"seed": 1.5}, "seed=1.5 is no whole number"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(options, message):
    with pytest.raises(ModelError, match=message):
        initialize_(mlp(16, 8, 4), X, **options)


def test_a_long_list_of_names_is_cut_and_the_nearest_named():
    with pytest.raises(ModelError, match="Did you mean 10.weight\\? Known: 0, 2"):
        initialize_(mlp(*[16] * 9), X, only="10.weigth")


def test_names_of_a_long_model_stand_once():
    with pytest.raises(ModelError) as refused:
        initialize_(mlp(*[16] * 9), X, only="head.*")
    assert str(refused.value).count("Known:") == 1 and str(refused.value).count(",") == 8
    assert initialize_(mlp(16, 8, 4), X, {}).scheme == "auto"


def test_a_start_that_would_draw_nothing_is_refused():
    model = Between(torch.relu)
    model.unused = nn.Linear(3, 3)
    with pytest.raises(ModelError, match="no weight is left to draw.*give an example that reaches the weights"):
        initialize_(model, X, only="unused")


def test_the_report_has_no_other_parameters():
    report = initialize_(mlp(16, 8, 4), X)
    with pytest.raises(ModelError, match="the report has no parameter '1.weight'"):
        report["1.weight"]
    deep = initialize_(mlp(*[16] * 9), X)
    with pytest.raises(ModelError, match="Did you mean 8.weight.*There are 16"):
        deep["O.weight"]
