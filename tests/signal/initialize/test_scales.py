"""Activations that are far from their useful range at rms 1 are read at the scale that they are made for."""

import math

import pytest
import torch
from torch import nn

from eitherway.signal.gain import moments
from eitherway.signal.initialize import initialize_
from eitherway.signal.initialize.scale import sane_scale
from tests.signal.initialize.models import mlp, numbers

F = nn.functional


class Fast(nn.Module):
    """sin(30 u)."""

    def forward(self, u):
        return torch.sin(30 * u)


class Steep(nn.Module):
    """tanh(100 u)."""

    def forward(self, u):
        return torch.tanh(100 * u)


class Narrow(nn.Module):
    """softshrink that is 0 up to 5."""

    def forward(self, u):
        return F.softshrink(u, 5.0)


@pytest.mark.parametrize("act", [Fast, Steep, Narrow])
@pytest.mark.parametrize("depth", [1, 3, 6])
def test_gradients_through_a_few_of_them_are_alike(act, depth):
    model = mlp(64, *[128] * depth, 16, act=act)
    report = initialize_(model, numbers(64, 64))
    sizes = [layer.gradient for layer in report.layers[:-1]]
    assert max(sizes) < 4 * min(sizes)
    assert [layer.measured / layer.predicted for layer in report.layers] == pytest.approx([1] * (depth + 1), abs=0.35)
    assert "read at rms 1 multiplies the squared gradient" in report["0.weight"].why


def test_a_fast_sine_fits_a_function_in_a_few_steps():
    model = mlp(2, 64, 64, 1, act=Fast)
    g = torch.Generator().manual_seed(0)
    points = torch.rand(256, 2, generator=g) * 2 - 1
    values = torch.sin(6 * points[:, :1]) * torch.cos(4 * points[:, 1:])
    report = initialize_(model, points)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2 * report.lr_scale)
    for _ in range(150):
        loss = F.mse_loss(model(points), values)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.02 * float(values.square().mean())


@pytest.mark.parametrize("act", [nn.Tanh, nn.Softshrink, nn.Tanhshrink, nn.GELU, nn.Sigmoid])
def test_customary_activations_are_read_at_rms_one(act):
    report = initialize_(mlp(16, 64, 64, 8, act=act), numbers(64, 16), data=False)
    assert {layer.predicted for layer in report.layers} == {1.0} and report.lr_scale == 1


@pytest.mark.parametrize("growth", [1.05, 1.3, 1.6])
def test_the_scale_keeps_chi_and_stability_and_is_the_nearest_to_one_that_does(growth):
    scales = [sane_scale(lambda u, k=k: torch.sin(k * u), growth) or 0.0 for k in (30.0, 100.0)]
    here, beyond = (moments(lambda u: torch.sin(30 * u), scale=s * scales[0]) for s in (1.0, 1.03))
    assert max(here.chi, here.stability) <= growth + 1e-6 < beyond.chi
    assert scales[0] / scales[1] == pytest.approx(100 / 30, rel=0.01)


def test_there_is_no_scale_for_a_function_that_is_alike_at_all_of_them():
    assert sane_scale(lambda u: u**5, 1.3) is None
    assert math.isfinite(moments(lambda u: u**5).chi)


def test_the_rate_shrinks_with_the_scale_as_in_windows():
    report = initialize_(mlp(16, 64, 64, 8, act=Fast), numbers(64, 16))
    assert report.lr_scales["0.weight"] == report.layers[0].predicted < 0.05
    assert report.lr_scales["4.weight"] == 1
