import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.signal.moments import moments
from eitherway.signal.schemes.draw import gaussian, orthogonal
from eitherway.signal.schemes.plain import correction, noise, std, torch_bound, torch_default


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
    made = torch_default(kind, weight.shape, hidden=32, generator=torch.Generator().manual_seed(0))
    assert made.shape == weight.shape and float(made.std()) == pytest.approx(float(weight.std()), rel=0.06)
    if kind != "embedding":
        bound = torch_bound(kind, weight.shape, hidden=32)
        assert bound * 0.98 < float(weight.abs().max()) < bound * 1.0001
        assert bound * 0.98 < float(made.abs().max()) < bound * 1.0001


def random_walk(phi, gain, *, orthogonal_weights, width=64, depth=200, chains=400):
    """(chains,) log mean squares at the end, each chain with weights of its own."""
    generator = torch.Generator().manual_seed(0)
    logs = []
    for _ in range(chains if orthogonal_weights else 1):
        rows = 1 if orthogonal_weights else chains
        h = torch.randn(rows, width, generator=generator)
        h = h / h.square().mean(1, keepdim=True).sqrt()
        for _ in range(depth):
            y = gain * phi(h)
            if orthogonal_weights:
                h = y @ orthogonal(width, width, generator=generator).T
            else:  # fresh Gaussian weights for each row: the product is Gaussian, given y
                h = gaussian(y.shape, generator=generator) * y.square().mean(1, keepdim=True).sqrt()
        logs.append((gain * phi(h)).square().mean(1).log())
    return torch.cat(logs).double()


@pytest.mark.parametrize("phi", [torch.relu, nn.LeakyReLU(0.2)])
def test_gaussian_weights_walk_as_the_noise_says_and_the_correction_keeps_the_typical_signal(phi):
    found, width, depth = moments(phi), 64, 200
    plain = random_walk(phi, found.gain, orthogonal_weights=False, width=width, depth=depth)
    v = noise(found, width) * (depth + 1)
    assert float(plain.mean()) == pytest.approx(-v / 2, rel=0.15)
    assert float(plain.var()) == pytest.approx(v, rel=0.25)
    gain = found.gain * correction(found, width)
    mended = random_walk(phi, gain, orthogonal_weights=False, width=width, depth=depth)
    assert abs(float(mended.mean())) < 0.15 * v / 2


@pytest.mark.slow
def test_orthogonal_weights_walk_less():
    found, width, depth = moments(torch.relu), 32, 100
    plain = random_walk(torch.relu, found.gain, orthogonal_weights=True, width=width, depth=depth, chains=200)
    v = noise(found, width, orthogonal=True) * depth
    assert float(plain.var()) == pytest.approx(v, rel=0.35)
    assert float(plain.mean()) == pytest.approx(-v / 2, rel=0.25)


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
