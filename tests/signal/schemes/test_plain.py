import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.signal.gain import moments
from eitherway.signal.schemes.plain import correction, noise, std, torch_bound, wander


def test_rules_are_those_of_torch():
    w, generator = torch.empty(300, 700), torch.Generator().manual_seed(0)
    nn.init.kaiming_normal_(w, nonlinearity="relu", generator=generator)
    assert std("kaiming", 700, gain=2**0.5) == pytest.approx(float(w.std()), rel=0.01)
    nn.init.xavier_normal_(w, generator=generator)
    assert std("xavier", 700, 300) == pytest.approx(float(w.std()), rel=0.01)
    assert std("lecun", 700) == 700**-0.5


@pytest.mark.parametrize(
    "kind, layer",
    [
        ("linear", lambda: nn.Linear(64, 96)),
        ("conv", lambda: nn.Conv2d(32, 64, 3, groups=4)),
        ("conv_transpose", lambda: nn.ConvTranspose2d(32, 64, 3, groups=2)),
        ("bilinear", lambda: nn.Bilinear(16, 20, 24)),
        ("recurrent", lambda: nn.LSTM(24, 32)),
        ("embedding", lambda: nn.Embedding(200, 50)),
    ],
)
def test_defaults_are_those_of_torch_s_constructors(kind, layer):
    with torch.random.fork_rng():
        weight = next(layer().parameters()).detach()
    bound = torch_bound(kind, weight.shape, hidden=32)
    if kind == "embedding":  # normal, without a bound
        assert bound is None
    else:
        assert bound * 0.98 < float(weight.abs().max()) < bound * 1.0001


def ends(phi, gain, *, orthogonal, width=128, depth=300, chains=400):
    """(chains,) log rms at the end, each chain with weights of its own.

    For one sample the weights need not be drawn: given y, a Gaussian W makes W y Gaussian, a Haar matrix makes it
    uniform on the sphere of y's norm.
    """
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(chains, width, generator=generator)
    h /= h.square().mean(1, keepdim=True).sqrt()
    for _ in range(depth):
        size = (gain * phi(h)).square().mean(1, keepdim=True).sqrt()
        h = torch.randn(chains, width, generator=generator)
        h *= size / (h.square().mean(1, keepdim=True).sqrt() if orthogonal else 1.0)
    return size.log().double().flatten()


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("phi", [torch.relu, nn.LeakyReLU(0.2)])
def test_a_chain_s_rms_drifts_and_wanders_as_said_and_the_correction_ends_the_drift(phi, orthogonal):
    found, width, depth = moments(phi), 128, 300
    plain = ends(phi, found.gain, orthogonal=orthogonal)
    v = noise(found, width, orthogonal=orthogonal)
    # 400 chains: standard errors are 5 % of the deviation, and 3.5 % of it for itself
    assert float(plain.std()) == pytest.approx(wander(found, width, depth, orthogonal=orthogonal), rel=0.15)
    assert float(plain.mean()) == pytest.approx(-v * depth / 4, abs=0.2 * float(plain.std()))
    mended = ends(phi, found.gain * correction(found, width, orthogonal=orthogonal), orthogonal=orthogonal)
    assert abs(float(mended.mean())) < 0.2 * float(plain.std()) < v * depth / 4


def test_a_stable_activation_forgets_what_its_layers_add():
    found = moments(torch.tanh)
    spread = float(ends(torch.tanh, found.gain, orthogonal=True).std())
    assert spread == pytest.approx(wander(found, 128, 300, orthogonal=True), rel=0.15)
    assert wander(found, 128, 300) == pytest.approx(wander(found, 128, 30))
    assert wander(moments(F.silu), 128, 10_000) > 1e6


def test_noise_of_relu_is_five_over_n_and_three_over_n():
    relu = moments(torch.relu)
    assert noise(relu, 100) == pytest.approx(0.05) and noise(relu, 100, orthogonal=True) == pytest.approx(0.03)
    assert noise(moments(lambda u: 2.0 * u), 100, orthogonal=True) == pytest.approx(0.0, abs=1e-9)
    assert correction(relu, 512) == pytest.approx(math.exp(5 / 4 / 512))
    assert noise(moments(F.gelu), 100) > noise(moments(torch.tanh), 100)


def test_unknown_rules_and_missing_fans_are_refused():
    with pytest.raises(ModelError, match="no plain rule is called 'he'"):
        std("he", 3)
    with pytest.raises(ModelError, match="it needs positive numbers"):
        std("xavier", 3)
    with pytest.raises(ModelError, match="needs hidden=, the size of the layer's state"):
        torch_bound("recurrent", (8, 2))
    with pytest.raises(ModelError, match="expected at least one unit"):
        noise(moments(torch.relu), 0)
