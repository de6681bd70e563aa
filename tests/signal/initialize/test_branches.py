"""Branches that start at 0 must be able to open."""

import pytest
import torch
from torch import nn

from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import Odds, numbers

F = nn.functional


class Ended(nn.Module):
    """x + end(map(x)), with a norm behind the map or without."""

    def __init__(self, end, norm=False):
        super().__init__()
        self.one, self.two = nn.Linear(32, 32), nn.Linear(32, 32)
        self.norm, self.end = nn.LayerNorm(32) if norm else nn.Identity(), end

    def forward(self, x):
        return x + self.end(self.norm(self.two(F.gelu(self.one(x)))))


@pytest.mark.parametrize("rule", ["zero", "fixup"])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("end, opens", [(nn.ReLU(), False), (F.gelu, True), (torch.tanh, True), (torch.square, False)])
def test_a_branch_that_would_never_open_does_not_start_at_zero(end, opens, norm, rule):
    model = nn.Sequential(nn.Linear(16, 32), *(Ended(end, norm) for _ in range(4)))
    report = initialize_(model, numbers(32, 16), residual=rule)
    closing = [block.norm.weight if norm else block.two.weight for block in model[1:]]
    assert [not bool(weight.any()) for weight in closing] == [opens] * 4
    assert any("would get no gradient from 0" in note for note in report.notes) != opens
    model(numbers(32, 16, seed=1)).square().sum().backward()
    assert all(bool(weight.grad.any()) for weight in closing)


def test_a_learned_scale_that_keeps_branches_small_makes_the_rule_idle_and_the_report_says_so():
    for rule in ("sqrt", "zero"):
        report = initialize_(Odds(), numbers(16, 6, 16), residual=rule)
        assert any("residual= changes nothing there" in note and "scale" in note for note in report.notes)
        assert report["one.weight"].action == "drawn"
