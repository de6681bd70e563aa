"""Biases that somebody has set on purpose are kept: gates, forget gates, heads that start at a prior."""

import pytest
import torch
from torch import nn

from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import mlp, numbers

F = nn.functional


class Highway(nn.Module):
    """t h + (1 - t) x, each gate nearly shut at the start."""

    def __init__(self, shut):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))
        self.gates = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))
        self.head = nn.Linear(32, 1)
        for gate in self.gates:
            nn.init.constant_(gate.bias, shut)

    def forward(self, x):
        for one, gate in zip(self.maps, self.gates):
            t = torch.sigmoid(gate(x))
            x = t * F.relu(one(x)) + (1 - t) * x
        return self.head(x)


def test_a_gate_that_was_shut_on_purpose_stays_shut():
    model = Highway(-2.0)
    report = initialize_(model, numbers(64, 32))
    assert all(bool((gate.bias == -2).all()) for gate in model.gates)
    assert all("set on purpose: it shifts a gate" in report[f"gates.{k}.bias"].why for k in range(6))
    assert report["maps.0.bias"].value == report["head.bias"].value == 0
    assert [layer.measured / layer.predicted for layer in report.layers] == pytest.approx([1] * 13, abs=0.1)
    assert initialize_(Highway(0.0), numbers(64, 32))["gates.0.bias"].action == "set"


@pytest.mark.parametrize("units", [1, 8])
@pytest.mark.parametrize("act, depth", [(nn.ReLU, 2), (nn.Tanh, 20)])
def test_a_head_that_starts_at_a_prior_keeps_it(units, act, depth):
    model = mlp(*[32] * (depth + 1), units, act=act)
    nn.init.constant_(model[-1].bias, -4.6)
    report = initialize_(model, numbers(32, 32))
    name = f"{2 * depth}.bias"
    assert "set on purpose: it shifts a head" in report[name].why and bool((model[-1].bias == -4.6).all())
    assert report.layers[-1].measured == pytest.approx(report.layers[-1].predicted, rel=0.2)
    assert not any("did not do on the example" in note for note in report.notes)
    again = initialize_(model, numbers(32, 32), overwrite=True)
    assert (again[name].action == "set") == (units == 1)  # one number may have been learned


def test_torch_s_own_biases_and_constants_before_activations_start_anew():
    model = mlp(16, 32, 32, 8)
    nn.init.constant_(model[0].bias, 0.1)
    report = initialize_(model, numbers(32, 16))
    assert [report[f"{k}.bias"].value for k in (0, 2, 4)] == [0, 0, 0]


@pytest.mark.parametrize("leaf", ["bias_ih_l0", "bias_hh_l0"])
def test_forget_gates_that_were_set_keep_what_they_hold(leaf):
    model = nn.LSTM(16, 32, batch_first=True)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
    getattr(model, leaf).data[32:64] = 3.0
    report = initialize_(model, numbers(16, 8, 16))
    assert "gates of a recurrent cell" in report[leaf].why
    total = (model.bias_ih_l0 + model.bias_hh_l0).detach()
    assert [float(part.mean()) for part in total.chunk(4)] == [0, 3, 0, 0]


class Swish(nn.Module):
    def forward(self, u):
        return u * torch.sigmoid(u)


def test_an_activation_that_multiplies_with_itself_is_no_gate():
    model = mlp(16, 32, 8, act=Swish)
    nn.init.constant_(model[0].bias, 0.5)
    assert initialize_(model, numbers(32, 16))["0.bias"].value == 0
