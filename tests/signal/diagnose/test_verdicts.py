"""What `diagnose` says of networks that are well and of networks that are ill."""

import math

import pytest
import torch
from tests.signal.diagnose import known
from tests.signal.diagnose.ill import FAULTS
from tests.signal.diagnose.well import (
    CE,
    HEALTHY,
    Language,
    chain,
    digits,
    draw,
    he,
    ids,
    labels,
    noise,
    seeded,
    trained,
)
from torch import nn

from eitherway.signal.diagnose import diagnose
from eitherway.signal.diagnose.verdicts.parts import Kind

LONG = {"relu, hundred layers", "tanh, hundred layers", "twelve blocks"}


def slowly(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in names]


@pytest.mark.parametrize("name", slowly(HEALTHY))
def test_what_is_well_raises_no_alarm(name):
    report = diagnose(*seeded(HEALTHY[name]))
    assert report.healthy, str(report)


@pytest.mark.parametrize("name", slowly(FAULTS))
def test_what_is_ill_is_told_by_its_cause_alone(name):
    kinds, layer, make = FAULTS[name]
    report = diagnose(*seeded(make))
    assert len(report.alarms) == 1, str(report)
    verdict = report.alarms[0]
    assert verdict.kind in kinds, str(report)
    assert not layer or layer in verdict.layers, str(report)
    assert verdict.cause in verdict.text and verdict.remedy in verdict.text


@pytest.mark.parametrize("name", known.HEALTHY)
def test_what_is_known_to_train_raises_no_alarm(name):
    report = diagnose(*seeded(known.HEALTHY[name]))
    assert report.healthy, str(report)


@pytest.mark.parametrize("name", known.FAULTS)
def test_a_fault_in_other_dress_is_told_by_its_cause_alone(name):
    kind, layer, make = known.FAULTS[name]
    report = diagnose(*seeded(make))
    assert [verdict.kind for verdict in report.alarms] == [kind], str(report)
    assert not layer or layer in report.alarms[0].layers, str(report)


@pytest.mark.parametrize("batch", [1, 4, 8])
@pytest.mark.parametrize(
    "name", ["tanh, gain 5", "biases at -3", "a zero layer inside", "unscaled, deep", "tiny weights"]
)
def test_a_small_batch_tells_as_much(name, batch):
    kinds, _, make = FAULTS[name]
    model, example, *_ = seeded(make)
    assert [v.kind for v in diagnose(model, example[:batch]).alarms if v.kind in kinds]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_well_raises_no_alarm_whatever_the_seed(name, seed):
    def make():
        torch.manual_seed(100 + seed)
        return HEALTHY[name]()

    report = diagnose(*seeded(make), seed=seed)
    assert report.healthy, str(report)


def test_every_kind_of_verdict_is_somewhere_the_right_one():
    told = set().union(*(kinds for kinds, _, _ in FAULTS.values()))
    assert told == set(Kind.__args__) | told and not set(Kind.__args__) - told


def test_an_unstable_function_is_named_with_its_slope():
    model = draw(chain(100, 64, nn.GELU), lambda w, fan: 1.5335 / math.sqrt(fan))
    text = str(diagnose(model, noise(16, 64)))
    assert "gelu's variance map is unstable here (Q' = 1.14); `initialize_(model, example, scheme='mirror')`" in (
        " ".join(text.split())
    )


def test_weights_are_told_by_how_much_they_are_wrong():
    model = draw(chain(12, 64, nn.ReLU), lambda w, fan: 4 * math.sqrt(2 / fan))
    (verdict,) = diagnose(model, noise(16, 64)).alarms
    assert verdict.kind == "exploding signal" and "4" in verdict.cause and "times too large" in verdict.cause
    assert 3.5 < float(verdict.cause.partition("relu, ")[2].split()[0]) < 4.5


def test_consequences_stand_with_their_cause():
    model = draw(chain(12, 128, nn.ReLU), lambda w, fan: 0.01)
    (verdict,) = diagnose(model, noise(16, 128)).alarms
    assert verdict.kind == "vanishing signal"
    assert any("vanishing gradient" in text for text in verdict.consequences)
    assert "With it: " in verdict.text


def test_one_layer_among_many_is_named_alone():
    model = he(chain(9, 64, nn.ReLU))
    with torch.no_grad():
        model[8].weight *= 200
    (verdict,) = diagnose(model, noise(32, 64)).alarms
    assert verdict.kind == "exploding signal" and verdict.layers == ("8",)


def test_a_frozen_stem_that_was_trained_is_a_note():
    model, (x, y) = trained(), digits()
    model[0].requires_grad_(False)
    report = diagnose(model, x[:32], (CE, y[:32]))
    assert report.healthy
    assert [v.kind for v in report.verdicts if "frozen" in v.text] == ["no gradient"]


def test_random_features_in_front_are_a_note():
    model = seeded(lambda: chain(4, 64, nn.ReLU))
    model[0].requires_grad_(False)
    report = diagnose(model, noise(32, 64))
    assert report.healthy
    assert [v.layers for v in report.verdicts if "as they were drawn" in v.cause] == [("0",)]


def test_an_input_that_the_model_scales_itself_is_no_fault():
    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = chain(3, 64, nn.ReLU)

        def forward(self, x):
            return self.body(x / 255 - 0.5)

    class Waves(Pixels):
        def forward(self, x):
            turns = x[:, :1] * torch.exp(-torch.arange(32) * 0.3)
            return self.body(torch.cat([turns.sin(), turns.cos()], 1))

    x = (noise(32, 64).sigmoid() * 255).round()
    assert diagnose(seeded(Pixels), x).healthy and diagnose(seeded(Waves), x).healthy
    assert not diagnose(seeded(lambda: chain(3, 64, nn.ReLU)), x).healthy


def test_what_is_frozen_beside_something_that_learns_is_a_note():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.down, self.up = nn.Linear(64, 64), nn.Linear(64, 4), nn.Linear(4, 64)
            self.base.requires_grad_(False)

        def forward(self, x):
            return self.base(x) + 2 * self.up(self.down(x))

    model = seeded(lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), Adapted(), nn.ReLU(), nn.Linear(64, 5)))
    assert diagnose(model, noise(32, 64)).healthy
    model[2].down.requires_grad_(False), model[2].up.requires_grad_(False)
    assert [v.kind for v in diagnose(model, noise(32, 64)).alarms] == ["no gradient"]


def test_a_rate_that_would_replace_the_weights_is_an_alarm_and_a_small_one_is_none():
    model, x, y = seeded(lambda: chain(3, 64, nn.ReLU)), noise(32, 64), labels(32)
    assert diagnose(model, x, (CE, y), lr=0.1).healthy
    (verdict,) = diagnose(model, x, (CE, y), lr=1e3).alarms
    assert verdict.kind == "update ratio" and "times their own size" in verdict.text


def test_an_attention_told_to_look_everywhere_is_named_only_where_most_are_so():
    model = seeded(lambda: Language(layers=3))
    with torch.no_grad():
        model.blocks[0].qkv.weight[:128] *= 1e-4
        model.blocks[0].qkv.bias[:128] = 0
    report = diagnose(model, ids(8, 32, below=100))
    assert report.healthy and any(v.kind == "attention uniform" for v in report.verdicts)


def test_masks_of_minus_infinity_are_no_fault():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.score, self.head = nn.Linear(8, 1), nn.Linear(8, 3)

        def forward(self, x):
            scores = self.score(x).squeeze(-1).masked_fill(torch.arange(x.shape[1]) > 3, -math.inf)
            return self.head((scores.softmax(-1).unsqueeze(-1) * x).sum(1))

    assert diagnose(seeded(Masked), noise(16, 6, 8)).healthy


def test_alike_samples_are_said_to_tell_little():
    x = 1.0 + 1e-3 * noise(16, 64)
    report = diagnose(seeded(lambda: chain(3, 64, nn.ReLU)), x)
    assert any("the samples of the example are alike" in note for note in report.notes)
