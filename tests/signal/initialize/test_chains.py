"""Deep plain chains carry signal, gradient and distances through, with weights and biases alone."""

import math

import pytest
import torch
from torch import nn

from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import mlp, numbers, residual


def geometry(model: nn.Module, x: torch.Tensor) -> tuple[float, float, float, float]:
    """rms, |mean cosine|, largest over smallest rms of the outputs, and rms of the gradient over that of its start."""
    x = x.clone().requires_grad_()
    y = model(x).flatten(1)
    (slope,) = torch.autograd.grad((y * numbers(*y.shape, seed=9)).sum(), x)
    rows = y.detach().double()
    norms = rows.norm(dim=1)
    unit = rows / norms[:, None]
    cosine = (unit.sum(0).square().sum() - len(rows)) / (len(rows) * (len(rows) - 1))
    entries = slope.numel() / y.numel()
    return (
        float(rows.square().mean().sqrt()),
        abs(float(cosine)),
        float(norms.max() / norms.min()),
        float(slope.square().mean().sqrt()) * math.sqrt(entries),
    )


def must_be_healthy(found: tuple[float, float, float, float], rms: float = 0.05) -> None:
    assert found[0] == pytest.approx(1, abs=rms)
    assert found[1] <= 0.05 and found[2] < 2 and 0.8 <= found[3] <= 1.5


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.Tanh])
def test_a_chain_of_thirty_layers_is_healthy(act):
    model = mlp(*[160] * 31, act=act)
    report = initialize_(model, numbers(16, 160))
    must_be_healthy(geometry(model, numbers(64, 160, seed=1)), rms=0.08)
    assert {report[f"{2 * k}.weight"].scheme for k in range(30)} == {"mirror" if act is not nn.Tanh else "window"}
    assert (report.lr_scale == 1) == (act is not nn.Tanh)


@pytest.mark.slow
@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.Sigmoid, nn.SELU])
def test_a_chain_of_a_hundred_layers_of_512_is_healthy(act):
    model = mlp(*[512] * 102, act=act)
    initialize_(model, numbers(16, 512))
    must_be_healthy(geometry(model, numbers(64, 512, seed=1)))


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("width", [65, 64])
@pytest.mark.parametrize("bias", [True, False])
def test_odd_widths_and_layers_without_biases_are_held(act, width, bias):
    layers = [layer for _ in range(20) for layer in (nn.Linear(width, width, bias=bias), act())]
    model = nn.Sequential(*layers, nn.Linear(width, width, bias=bias))
    report = initialize_(model, numbers(32, width))
    assert {e.scheme for e in report.entries if e.action == "drawn"} == {"mirror" if act is nn.ReLU else "window"}
    rms, cosine, _, gradient = geometry(model, numbers(64, width, seed=1))
    assert rms == pytest.approx(1, abs=0.2) and cosine < 0.05 and 0.7 < gradient < 1.6


def tower(act: type[nn.Module], channels: int = 32, groups: int = 1, bias: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, channels, 3, padding=1, bias=bias), act()]
    for _ in range(12):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=bias), act()]
    return layers


@pytest.mark.parametrize(
    "make",
    [
        lambda act: nn.Sequential(*tower(act), nn.Conv2d(32, 32, 1)),
        lambda act: nn.Sequential(*tower(act, bias=False), nn.Conv2d(32, 32, 1, bias=False)),
        lambda act: nn.Sequential(*tower(act, groups=4), nn.Conv2d(32, 32, 1)),
        lambda act: nn.Sequential(*tower(act, 33), nn.Conv2d(33, 33, 1)),
        lambda act: nn.Sequential(*tower(act), nn.Flatten(), nn.Linear(32 * 36, 512), act(), nn.Linear(512, 512)),
        lambda act: nn.Sequential(
            *tower(act),
            nn.Conv2d(32, 64, 2, 2),
            act(),
            nn.ConvTranspose2d(64, 32, 4, 2, 1),
            act(),
            nn.Conv2d(32, 32, 1),
        ),
    ],
    ids=["plain", "no biases", "groups", "odd", "flattened", "down and up"],
)
@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.Tanh])
def test_chains_of_convolutions_are_held_too(make, act):
    model = make(act)
    channels = model[0].in_channels
    report = initialize_(model, numbers(8, channels, 6, 6))
    assert {e.scheme for e in report.entries if e.action == "drawn"} <= {"mirror", "shaped", "window"}
    rms, cosine, _, _ = geometry(model, numbers(16, channels, 6, 6, seed=1))
    assert rms == pytest.approx(1, abs=0.2) and cosine < 0.1
    assert not any("did not do on the example" in note for note in report.notes)


def test_two_activations_that_take_turns_are_held():
    acts = [nn.Tanh(), nn.Sigmoid()] * 8
    layers = [layer for act in acts for layer in (nn.Linear(64, 64), act)]
    model = nn.Sequential(*layers, nn.Linear(64, 64))
    initialize_(model, numbers(32, 64))
    rms, cosine, _, _ = geometry(model, numbers(64, 64, seed=1))
    assert rms == pytest.approx(1, abs=0.15) and cosine < 0.05


@pytest.mark.parametrize("act, scheme", [(nn.Sigmoid, "shaped"), (nn.Softplus, "mirror")])
def test_short_chains_that_would_make_samples_parallel_have_a_start_of_their_own(act, scheme):
    model = mlp(64, 64, 64, 64, 64, act=act)
    report = initialize_(model, numbers(64, 64))
    assert {report[f"{2 * k}.weight"].scheme for k in range(4)} <= {scheme, "window"}
    assert geometry(model, numbers(64, 64, seed=1))[1] < 0.05


def test_short_chains_norms_and_residuals_have_the_gain_alone():
    for model, example in ((mlp(16, 32, 32, 8), numbers(8, 16)), (residual(32, 12), numbers(8, 16))):
        report = initialize_(model, example)
        assert {e.scheme for e in report.entries if e.action == "drawn"} == {"gain"}


@pytest.mark.parametrize("scheme", ["mirror", "shaped", "window"])
def test_a_scheme_that_is_asked_for_is_given_to_short_chains_too(scheme):
    report = initialize_(mlp(16, 32, 32, 8, act=nn.GELU), numbers(8, 16), scheme)
    assert {report[f"{k}.weight"].scheme for k in (0, 2, 4)} == {scheme}


def test_where_a_scheme_cannot_be_held_the_gain_is_taken_and_the_reason_told():
    report = initialize_(mlp(16, 32, 32, 8), numbers(8, 16), "shaped")
    assert any("no shaped start: relu" in note for note in report.notes)
    assert {e.scheme for e in report.entries if e.action == "drawn"} == {"gain"}
    alone = initialize_(nn.Linear(16, 8), numbers(8, 16), "mirror")
    assert any("mirror is for chains of weights with only activations between" in note for note in alone.notes)
    lone = initialize_(mlp(16, 1, 8), numbers(8, 16), "mirror")
    assert any("channels between its weights cannot be paired" in note for note in lone.notes)
    model = mlp(16, 32, 32, 8)
    model[2].weight.requires_grad_(False)
    kept = initialize_(model, numbers(8, 16), "mirror")
    assert any("2.weight keep what they hold" in note for note in kept.notes)


def test_a_mapping_gives_parts_their_own_scheme():
    report = initialize_(
        mlp(16, 32, 32, 8), numbers(8, 16), {"0": "orthogonal", "*.bias": "auto", "2.weight": "kaiming"}
    )
    assert [report[f"{k}.weight"].scheme for k in (0, 2, 4)] == ["orthogonal", "kaiming", "gain"]


def test_a_chain_that_does_something_else_on_the_example_is_started_by_the_gain(monkeypatch):
    from eitherway.signal.initialize import chains

    real = chains.Chained.contents

    def wrong(self, index, second, stage):
        weight, bias, planned = real(self, index, second, stage)
        return (3 * weight if self.at[index] == 5 else weight), bias, planned

    monkeypatch.setattr(chains.Chained, "contents", wrong)
    report = initialize_(mlp(*[32] * 16), numbers(32, 32))
    assert any("did not do on the example what it should; the gain instead" in note for note in report.notes)
    assert {e.scheme for e in report.entries if e.action == "drawn"} == {"gain"}


@pytest.mark.parametrize("scheme", ["kaiming", "lecun", "xavier", "orthogonal", "edge"])
def test_textbook_schemes_have_their_formula_and_right_fans(scheme):
    model = nn.Sequential(nn.Conv2d(16, 64, 3, groups=4), nn.ReLU(), nn.ConvTranspose2d(64, 32, 2, 2), nn.ReLU())
    model.append(nn.Conv2d(32, 16, 1))
    report = initialize_(model, numbers(8, 16, 9, 9), scheme)
    first, second, third = (report[f"{k}.weight"] for k in (0, 2, 4))
    assert (first.fan_in, second.fan_in, third.fan_in) == (36, 64, 32)
    gain = {"kaiming": 2**0.5, "orthogonal": 2**0.5, "edge": 2**0.5, "lecun": 1, "xavier": 1}[scheme]
    if scheme != "xavier":
        assert second.std == pytest.approx(gain / 8)
        assert scheme == "edge" or first.std == pytest.approx(gain / 6)  # He's simplification
    else:
        assert third.std == pytest.approx((2 / (32 + 16)) ** 0.5)
    for k in (0, 2, 4):
        assert model[k].weight.detach().square().mean().sqrt().item() == pytest.approx(
            report[f"{k}.weight"].std, rel=0.06
        )
        assert report[f"{k}.weight"].scheme == scheme and report[f"{k}.weight"].why
    assert [layer.scaled for layer in report.layers] == [1, 1, 1]


def test_the_edge_of_chaos_draws_biases():
    model = mlp(64, 256, 256, 64, act=nn.Tanh)
    report = initialize_(model, numbers(64, 64), "edge")
    assert report["2.bias"].action == "drawn" and report["2.bias"].std == pytest.approx(0.151**0.5, rel=0.01)
    assert report["2.weight"].gain == pytest.approx(1.467, rel=0.01)
    assert report.layers[1].measured == pytest.approx(1, abs=0.1)
    none = initialize_(mlp(64, 256, 64, act=nn.Softplus), numbers(64, 64), "edge")
    assert "has no edge of chaos" in none["2.weight"].why


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.cells = nn.Conv1d(8, 12, 3), nn.BatchNorm1d(12), nn.GRU(12, 6, batch_first=True)
        self.attention, self.act = nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True), nn.PReLU()
        self.pair, self.own = nn.Bilinear(6, 6, 4), nn.Parameter(torch.ones(4))
        self.words = nn.Embedding(9, 6, padding_idx=2)

    def forward(self, x, ids):
        h = self.cells(self.norm(self.conv(x)).transpose(1, 2))[0]
        h = self.act(self.attention(h, h, h)[0])
        return self.pair(h, self.words(ids)) * self.own


def test_torchs_own_laws_are_drawn_anew():
    model, torchs = Everything(), Everything()
    report = initialize_(model, (numbers(4, 8, 10), torch.zeros(4, 8, dtype=torch.long)), "torch")
    for (name, mine), theirs in zip(model.named_parameters(), torchs.parameters()):
        a, b = mine.detach(), theirs.detach()
        assert float(a.abs().max()) <= 1.6 * float(b.abs().max()) + 0.02, name
        assert float(a.std(correction=0)) == pytest.approx(float(b.std(correction=0)), rel=0.6, abs=0.1), name
    assert report["own"].action == "kept" and "has no law for it" in report["own"].why
    assert float(model.words.weight.detach()[2].abs().max()) == 0
    assert report["act.weight"].value == 0.25 and report["norm.weight"].value == 1


@pytest.mark.slow
def test_a_chain_of_a_thousand_layers_is_started_in_half_a_minute():
    import time

    model = mlp(*[512] * 1001)
    begin = time.process_time()
    report = initialize_(model, numbers(8, 512))
    assert time.process_time() - begin < 60  # half a minute on an idle core
    assert len(str(report).splitlines()) < 25
    must_be_healthy(geometry(model, numbers(64, 512, seed=1)))


def test_a_deep_chain_that_cannot_have_its_start_says_why():
    model = mlp(*[32] * 16)
    model[6].weight.requires_grad_(False)
    report = initialize_(model, numbers(32, 32))
    assert any("no start of its own: 6.weight keep what they hold; the gain instead" in note for note in report.notes)


@pytest.mark.parametrize("act, exact", [(nn.Hardtanh, False), (nn.Softshrink, False), (nn.Tanh, True)])
def test_a_window_start_is_told_and_whether_an_exact_one_is_known(act, exact):
    report = initialize_(mlp(*[32] * 22, act=act), numbers(16, 32))
    said = [note for note in report.notes if "have a window start" in note]
    assert len(said) == 1 and "0.weight to 40.weight" in said[0] and "linear enough over" in said[0]
    assert ("no exact start is known" in said[0]) != exact


@pytest.mark.parametrize("act", [nn.Tanh, nn.Softshrink, nn.ReLU, nn.Hardtanh])
def test_biases_that_hold_one_number_are_set_to_it(act):
    model = mlp(*[32] * 42, act=act)
    report = initialize_(model, numbers(16, 32))
    for name, parameter in model.named_parameters():
        if "bias" in name:
            alike = bool((parameter == parameter[0]).all())
            assert (report[name].action == "set") == alike
            assert not alike or report[name].value == float(parameter.detach()[0])
