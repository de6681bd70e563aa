"""What `initialize_` starts, `diagnose` finds well: the two agree on what a good start is."""

import pytest
import torch
from tests.signal.diagnose.ill import FAULTS
from tests.signal.diagnose.well import CE, chain, labels, noise, seeded
from torch import nn

from eitherway.signal.diagnose import diagnose
from eitherway.signal.initialize import initialize_


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ReLU6, nn.Softsign])
def test_a_hundred_layers_that_were_started_are_well(act):
    model, x = seeded(lambda: chain(100, 64, act)), noise(16, 64)
    assert not diagnose(model, x).healthy
    initialize_(model, x, overwrite=True)
    report = diagnose(model, x, (CE, labels(16)))
    assert report.healthy, str(report)


@pytest.mark.parametrize(
    "name", ["unscaled, deep", "tiny weights", "biases at -3", "constant weights", "residual sums", "tanh, gain 5"]
)
def test_the_remedy_it_names_mends_the_fault(name):
    model, example, *loss = seeded(FAULTS[name][2])
    report = diagnose(model, example, *loss)
    assert "initialize_(" in report.alarms[0].remedy
    initialize_(model, example, overwrite=True)
    again = diagnose(model, example, *loss)
    assert again.healthy, str(again)


def test_a_model_is_well_after_the_call_that_a_verdict_spells_out():
    model, x = seeded(lambda: chain(6, 64, nn.ReLU)), noise(32, 64)
    with torch.no_grad():
        model[4].weight *= 200
    (verdict,) = diagnose(model, x).alarms
    assert verdict.layers == ("4",)
    initialize_(model, x, overwrite=True)
    assert diagnose(model, x).healthy
