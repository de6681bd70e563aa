"""What is measured, against theory and against torch: chi, slopes, spectra, samples, trunks, attention."""

import math

import pytest
import torch
import torch.nn.functional as F
from tests.signal.diagnose.well import Block, ResidualMLP, chain, draw, ids, noise, seeded
from torch import nn

from eitherway.graph import capture
from eitherway.signal import moments
from eitherway.signal.diagnose import diagnose
from eitherway.signal.diagnose.measure import norm, rms, samples
from eitherway.signal.diagnose.slopes import theory
from eitherway.signal.diagnose.ways import trunk
from eitherway.signal.structure import read_structure


def path_of(act, x):
    model = nn.Sequential(nn.Linear(8, 8), act, nn.Linear(8, 8))
    graph = capture(model, x, keep=True, track=True)
    return read_structure(graph, model).paths[1]


@pytest.mark.parametrize("act", [nn.ReLU(), nn.GELU(), nn.Tanh(), nn.Sigmoid(), nn.Hardswish()], ids=repr)
@pytest.mark.parametrize("mean, scale", [(0.0, 1.0), (-0.5, 2.0)])
def test_theory_is_that_of_the_moments(act, mean, scale):
    ours, exact = theory(path_of(act, noise(4, 8)), mean, scale), moments(act, mean=mean, scale=scale)
    assert ours is not None
    assert ours.second == pytest.approx(exact.second, rel=2e-3)
    assert ours.slope == pytest.approx(exact.slope, rel=5e-3)
    assert ours.mean_share == pytest.approx(exact.mean_share, abs=2e-3)
    assert ours.stability == pytest.approx(exact.stability, rel=5e-3)
    assert ours.squashing == isinstance(act, (nn.Tanh, nn.Sigmoid))


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6])
def test_slopes_are_right_at_every_scale(scale):
    relu, sigmoid = (
        theory(path_of(nn.ReLU(), noise(4, 8)), 0.0, scale),
        theory(path_of(nn.Sigmoid(), noise(4, 8)), 0.0, scale),
    )
    assert relu is not None and sigmoid is not None
    assert relu.slope == pytest.approx(0.5, rel=5e-3) and relu.stability == pytest.approx(1.0, rel=5e-3)
    assert sigmoid.slope == pytest.approx(1 / 16 if scale < 1e-3 else sigmoid.slope, rel=1e-4)


@pytest.mark.parametrize("act, gain", [(nn.ReLU, 2**0.5), (nn.Tanh, 1.5925), (nn.GELU, 1.5335)])
def test_chi_measured_is_chi_predicted(act, gain):
    report = diagnose(draw(chain(6, 512, act), lambda w, fan: gain / math.sqrt(fan)), noise(64, 512))
    for layer in report.layers[1:-1]:
        assert layer.chi == pytest.approx(layer.chi_predicted, rel=0.1)


def test_the_gradients_are_torchs():
    model, x = seeded(lambda: chain(3, 32, nn.Tanh, 4, 20)), noise(16, 20)
    report = diagnose(model, x, lambda y: y.square().mean(), lr=0.1)
    held = []

    def keep(module, given, y):
        y.retain_grad()
        held.append(y)

    model[2].register_forward_hook(keep)
    model(x).square().mean().backward()
    assert report["2"].gradient == pytest.approx(float(held[0].grad.square().mean().sqrt()), rel=1e-4)
    gradient, weight = model[2].weight.grad, model[2].weight.detach()
    assert report["2"].update_ratio == pytest.approx(0.1 * float(gradient.norm() / weight.norm()), rel=1e-4)
    assert report["2"].update_ratio_adam == pytest.approx(0.1 / float(weight.square().mean().sqrt()), rel=1e-4)


def test_singular_values_of_a_linear_model_are_its_matrix_own():
    model = nn.Linear(20, 12)
    values = torch.linalg.svdvals(model.weight.detach())
    found = diagnose(model, noise(8, 20)).jacobian
    assert found.exact and found.size == (12, 20)
    assert (found.largest, found.smallest) == pytest.approx((float(values[0]), float(values[-1])), rel=1e-4)
    assert found.typical == pytest.approx(float(values.square().mean().sqrt()), rel=1e-4)


def test_singular_values_are_those_of_the_jacobian():
    model, x = seeded(lambda: chain(3, 32, nn.Tanh, 10)), noise(8, 32)
    dense = torch.autograd.functional.jacobian(lambda v: model(v[None])[0], x[0])
    values = torch.linalg.svdvals(dense)
    found = diagnose(model, x).jacobian
    assert (found.largest, found.smallest) == pytest.approx((float(values[0]), float(values[-1])), rel=1e-3)


def test_of_a_large_jacobian_the_largest_and_the_typical_value_are_about_right():
    model, x = seeded(lambda: chain(3, 128, nn.Tanh, 100)), noise(8, 128)
    values = torch.linalg.svdvals(torch.autograd.functional.jacobian(lambda v: model(v[None])[0], x[0]))
    found = diagnose(model, x).jacobian
    assert not found.exact and math.isnan(found.smallest)
    assert found.largest == pytest.approx(float(values[0]), rel=0.05)
    assert found.typical == pytest.approx(float(values.square().mean().sqrt()), rel=0.5)  # four signs: 2 sqrt(2/4)


def test_sizes_do_not_overflow():
    assert rms(torch.full((3,), 1e30)) == pytest.approx(1e30)
    assert norm(torch.full((4,), 1e300, dtype=torch.float64)) == pytest.approx(2e300)
    assert math.isnan(rms(torch.tensor([1.0, math.nan]))) and rms(torch.zeros(0)) == 0.0


def test_samples_are_told_apart():
    one = noise(1, 64)
    alike = samples(torch.cat([one, 3 * one]), 2)
    assert (
        alike.cosine == pytest.approx(1.0) and alike.spread == pytest.approx(3.0) and alike.rank == pytest.approx(1.0)
    )
    apart = samples(torch.eye(8), 8)
    assert (
        apart.cosine == pytest.approx(0.0) and apart.spread == pytest.approx(1.0) and apart.rank == pytest.approx(7.0)
    )
    assert math.isnan(samples(one, 1).cosine)
    constant = samples(torch.full((4, 8), -3.0), 4)
    assert constant.mean_share == pytest.approx(1.0) and constant.rank == 0.0


def test_samples_are_found_on_whatever_axis_they_are():
    x = noise(5, 12, 8)
    first = samples(x, 5)
    moved = samples(x.transpose(0, 1).contiguous(), 5)
    assert (moved.cosine, moved.spread) == pytest.approx((first.cosine, first.spread))
    folded = samples(x.reshape(60, 8), 5)
    assert (folded.cosine, folded.spread) == pytest.approx((first.cosine, first.spread))


def test_dead_and_saturated_units_are_counted():
    model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 3))
    with torch.no_grad():
        model[0].bias[:10] = -100
        model[2].bias[:20] = 100
    report = diagnose(model, noise(256, 20))
    assert report["0"].dead == pytest.approx(0.25) and report["0"].saturated == 0
    assert report["2"].saturated == pytest.approx(0.5) and report["2"].dead == 0


def test_the_trunk_is_what_every_way_leads_through():
    model = ResidualMLP(3)
    graph = capture(model, noise(4, 20), keep=True, track=True)
    names = [graph.values[i].name for i in trunk(graph, graph.outputs)]
    assert names == ["x", "linear", "add", "add", "add", "linear"]


def test_fused_attention_and_attention_by_hand_measure_alike():
    x = noise(4, 12, 32)
    fused, by_hand = seeded(lambda: Block(32, 4)), seeded(lambda: Block(32, 4, fused=False))
    with torch.no_grad():
        for block in (fused, by_hand):
            block.qkv.weight.mul_(4)
    one, other = diagnose(fused, x).attention[0], diagnose(by_hand, x).attention[0]
    assert one.entropy == pytest.approx(other.entropy, rel=1e-4)
    assert one.logit_std == pytest.approx(other.logit_std, rel=1e-4)
    assert one.keys == other.keys == pytest.approx((2 + 12) / 2)
    assert not one.unscaled and not other.unscaled


def test_entropy_is_one_where_all_keys_are_alike():
    model = seeded(lambda: Block(32, 4))
    with torch.no_grad():
        model.qkv.weight[:32] = 0
        model.qkv.bias[:32] = 0
    (row,) = diagnose(model, noise(4, 12, 32)).attention
    assert row.entropy == pytest.approx(1.0) and row.logit_std == 0.0


def test_a_shared_weight_has_one_row_for_each_use_and_one_gradient():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))

    rows = [layer for layer in diagnose(Twice(), noise(8, 16)).layers if layer.name == "layer"]
    assert len(rows) == 2 and rows[0].weight_gradient == rows[1].weight_gradient and rows[0].rms != rows[1].rms


def test_residual_branches_are_measured_beside_their_stream():
    report = diagnose(ResidualMLP(4, scale=0.1), noise(16, 20))
    assert len(report.residuals) == 4 and all(0.05 < size < 0.3 for _, size in report.residuals)


def test_packed_weights_and_embeddings_are_rows_under_their_names():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    names = [row.name for row in diagnose(layer, noise(4, 6, 16)).layers]
    assert names == ["self_attn.in_proj_weight", "self_attn.out_proj", "linear1", "linear2"]


def test_half_of_a_loss_is_half_of_every_gradient():
    model, x, y = seeded(lambda: chain(3, 32, nn.ReLU, 4, 20)), noise(16, 20), ids(16, below=4)
    whole = diagnose(model, x, (F.cross_entropy, y))
    half = diagnose(model, x, lambda out: F.cross_entropy(out, y) / 2)
    for one, other in zip(whole.layers, half.layers):
        assert other.gradient == pytest.approx(one.gradient / 2, rel=1e-5)
        assert other.chi == pytest.approx(one.chi, rel=1e-5, nan_ok=True)
