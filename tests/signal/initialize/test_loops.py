"""A weight that is used in a loop has one sane start, and nothing behind it makes up for what the loop did."""

import pytest
from torch import nn

from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import numbers

WIDTH = 64
GAINS = {"gelu": 1.533, "relu": 1.414, "tanh": 1.592, "prelu": 1.372}


class Loop(nn.Module):
    def __init__(self, name: str, turns: int, stream: bool = False):
        super().__init__()
        self.i, self.w, self.o = nn.Linear(8, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        self.act = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "prelu": nn.PReLU}[name]()
        self.turns, self.stream = turns, stream

    def forward(self, x):
        h = x = self.i(x)
        for _ in range(self.turns):
            h = self.act(self.w(h) + x) if self.stream else self.w(self.act(h))
        return self.o(h)


@pytest.mark.parametrize("turns", [3, 8, 20])
@pytest.mark.parametrize("name", GAINS)
def test_every_turn_of_a_loop_has_the_gain_of_theory(name, turns):
    for seed in range(5):
        model = Loop(name, turns)
        report = initialize_(model, numbers(64, 8), seed=seed)
        ratio = float(model.w.weight.detach().std()) / (GAINS[name] / WIDTH**0.5)
        assert 1 / 1.5 < ratio < 1.5
        assert float(model.o.weight.detach().std()) < 1
        assert any("behind earlier uses of the same weight" in note for note in report.notes)


def test_a_loop_over_sums_has_a_sane_start_too():
    for name in GAINS:
        model = Loop(name, 20, stream=True)
        initialize_(model, numbers(64, 8))
        assert 0.3 < float(model.w.weight.detach().std()) * WIDTH**0.5 < 2
        assert float(model.o.weight.detach().std()) < 1


def test_a_signal_that_exploded_in_a_loop_is_said_and_not_hidden():
    class Squares(Loop):
        def forward(self, x):
            h = self.i(x)
            for _ in range(self.turns):
                h = self.w(h) ** 2
            return self.o(h)

    model = Squares("relu", 6)
    report = initialize_(model, numbers(64, 8))
    assert any(
        "what o.weight read" in note and "the signal was lost or exploded before" in note for note in report.notes
    )
    assert float(model.o.weight.detach().std()) < 1
