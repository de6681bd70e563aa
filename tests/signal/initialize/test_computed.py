"""Weights that modules compute from parameters: weight_norm, spectral_norm, and what cannot be inverted."""

import pytest
import torch
from torch import nn

from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import numbers

F = nn.functional
NORMS = {
    "weight norm": nn.utils.parametrizations.weight_norm,
    "old weight norm": nn.utils.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "old spectral norm": nn.utils.spectral_norm,
}
quiet = pytest.mark.filterwarnings("ignore:.*(weight_norm|spectral_norm).*")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_a_weight_that_is_computed_by_weight_norm_is_drawn_through_it(old):
    norm = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    model = nn.Sequential(norm(nn.Conv2d(8, 64, 3)), nn.ReLU(), nn.Flatten(), norm(nn.Linear(64 * 16, 32)))
    report = initialize_(model, numbers(16, 8, 6, 6))
    assert [layer.measured for layer in report.layers] == pytest.approx([1, 1], abs=0.1)
    assert [layer.predicted for layer in report.layers] == pytest.approx([1, 1], abs=0.1)
    assert all(entry.action != "kept" and entry.why for entry in report.entries)


def test_a_spectral_norm_keeps_its_size_and_other_computed_weights_what_they_hold():
    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32)), nn.ReLU(), nn.Linear(32, 32))
    nn.utils.parametrize.register_parametrization(model[2], "weight", Twice())
    model.append(nn.Linear(32, 8))
    report = initialize_(model, numbers(32, 32))
    assert report["0.parametrizations.weight.original"].action == "drawn"
    assert report["2.parametrizations.weight.original"].action == "kept"
    assert [layer.measured / layer.predicted for layer in report.layers] == pytest.approx([1] * 3, abs=0.2)
    assert report.layers[2].measured == pytest.approx(1, abs=0.05)


class Enhanced(nn.Module):
    """Super-resolution by residual blocks without batch norms, every weight computed (Lim et al. 2017)."""

    def __init__(self, norm):
        super().__init__()

        def conv(a, b):
            return norm(nn.Conv2d(a, b, 3, padding=1))

        self.head = conv(3, 16)
        self.body = nn.ModuleList(nn.Sequential(conv(16, 48), nn.ReLU(), conv(48, 16)) for _ in range(4))
        self.tail = conv(16, 12)

    def forward(self, x):
        x = self.head(x)
        for block in self.body:
            x = x + block(x)
        return F.pixel_shuffle(self.tail(x), 2)


@quiet
@pytest.mark.parametrize("residual", ["sqrt", "zero"])
@pytest.mark.parametrize("name", NORMS)
def test_a_model_all_of_computed_weights_is_started(name, residual):
    model, x = Enhanced(NORMS[name]), numbers(8, 3, 8, 8)
    report = initialize_(model, x, residual=residual)
    assert {entry.action for entry in report.entries} == {"drawn", "set"}
    assert all(bool(p.isfinite().all()) for p in model.parameters()) and bool(model(x).isfinite().all())
    ratios = [layer.measured / layer.predicted for layer in report.layers if layer.predicted]
    # the old spectral norm divides by what one step of the power method has found, further at each run
    assert ratios == pytest.approx([1] * len(ratios), rel=0.7 if name == "old spectral norm" else 0.25)
    ends = [layer for layer in report.layers if layer.name in {f"body.{k}.2.weight" for k in range(4)}]
    model(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    if "weight" in name:
        assert [e.measured for e in ends] == pytest.approx([0.5 if residual == "sqrt" else 0.0] * 4, rel=0.3)
        first = [p for n, p in model.body[0][2].named_parameters() if n.endswith(("_g", "original0"))]
        assert bool(first[0].grad.any())  # the branch can open
    elif residual == "zero":
        assert any("cannot start at 0" in entry.why for entry in report.entries)


def test_a_parametrisation_that_cannot_be_inverted_is_kept_and_named():
    model = nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(16, 16)), nn.ReLU(), nn.Linear(16, 4))
    report = initialize_(model, numbers(32, 16))
    entry = report["0.parametrizations.weight.original"]
    assert entry.action == "kept" and "0.weight is computed from it" in entry.why
    assert report["2.weight"].action == "drawn" and not torch.isnan(model[2].weight).any()
