import math

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F

from eitherway.base.errors import ModelError
from eitherway.signal.depth import carry, demonstration


def test_unscaled_normal_weights_overflow_at_layer_28():
    found = carry()
    assert (
        found.overflow == 28 and found.verdict == "overflows at layer 28" and found.rms[27] < math.inf == found.rms[28]
    )


def test_a_hundredth_vanishes():
    found = carry(scheme=0.01, depth=70, samples=4)
    # 0.01 sqrt(512) = 0.226 a layer: below 1.2e-38 after 59
    assert found.vanished == 59 and found.rms[10] == pytest.approx(0.2263**10, rel=0.3)


@pytest.mark.parametrize("width", [96, 97])
@pytest.mark.parametrize("phi, scheme", [(F.gelu, "mirror"), (torch.tanh, "shaped"), (F.hardtanh, "window")])
def test_our_schemes_stay_in_size_gradient_and_geometry(phi, scheme, width):
    found = carry(phi, scheme, width=width, depth=60)
    assert found.verdict == "stays" and found.rms[-1] == pytest.approx(1, abs=0.1)
    assert 0.8 < found.gradient < 1.5 and abs(found.cosine) < 0.05 and found.spread < 4


def test_glorot_loses_half_of_a_relu_network_s_mean_square_a_layer():
    found = carry(torch.relu, "xavier", width=128, depth=40, samples=8)
    assert found.rms[-1] == pytest.approx(2 ** (-39 / 2), rel=0.9) and "shrinks to" in found.verdict


def test_what_only_seems_to_stay_is_told():
    assert "all inputs become alike" in carry(torch.relu, "orthogonal", width=128, depth=60, samples=8).verdict
    assert "the gradient becomes" in carry(torch.tanh, "kaiming", width=128, depth=60, samples=8).verdict


def test_the_gradient_is_the_jacobian_s():
    generator = torch.Generator().manual_seed(0)
    found = carry(F.silu, "kaiming", width=24, depth=5, samples=4000)
    from eitherway.signal.schemes.chain import chain

    x = torch.randn(4000, 24, generator=generator)
    x /= x.square().mean().sqrt()
    torch.randn(4000, 24, generator=generator)  # the directions
    layers = list(chain(F.silu, "kaiming", [24] * 6, generator=generator))

    def run(x):
        for i, layer in enumerate(layers):
            x = (F.silu(x) if i else x) @ layer.weight.T
        return x

    jacobians = torch.func.vmap(torch.func.jacrev(run))(x[:500])
    assert found.gradient == pytest.approx(float(jacobians.square().sum((1, 2)).mean() / 24) ** 0.5, rel=0.1)


def test_one_seed_is_one_result():
    first, second = (carry(torch.relu, "kaiming", width=32, depth=20, samples=4, seed=3) for _ in range(2))
    assert first == second and first != carry(torch.relu, "kaiming", width=32, depth=20, samples=4, seed=4)


def test_the_demonstration_reads_draws_and_fits_a_notebook():
    shown = demonstration(width=48, depth=40, samples=8)
    text, html = str(shown), shown._repr_html_()
    for case in shown.cases:
        assert case.label in text and case.verdict in text
    assert html.count("<tr>") == len(shown.cases) + 1 and "mirror" in html
    axes = shown.plot()
    assert len(axes.lines) >= len(shown.cases) and not plt.get_fignums()
    words = " ".join(text.get_text() for text in axes.texts)
    assert "mirror" in words and "xavier" not in words


def test_a_case_reads_and_draws():
    found = carry(torch.relu, "kaiming", width=32, depth=12, samples=4)
    assert "12 layers of width 32, 4 samples: relu, Kaiming" in str(found) and "rms  0: 1  1:" in str(found)
    assert "relu, Kaiming" in found._repr_html_()
    assert found.plot().get_ylabel() == "rms of the signal"


@pytest.mark.parametrize("width, depth, samples", [(0, 3, 4), (3, 0, 4), (3, 3, 1), (2.5, 3, 4), (3, "3", 4)])
def test_sizes_are_checked(width, depth, samples):
    with pytest.raises(ModelError, match="expected positive whole sizes and"):
        carry(width=width, depth=depth, samples=samples)


@pytest.mark.parametrize("seed", [None, 1.5, "0", True, 2**64])
def test_a_seed_is_a_whole_number_that_torch_takes(seed):
    with pytest.raises(ModelError, match="expected a whole number of at most 63 bits"):
        carry(width=4, depth=3, samples=4, seed=seed)


@pytest.mark.parametrize("size", [-1.0, math.nan, math.inf])
def test_a_standard_deviation_is_no_less_than_0(size):
    with pytest.raises(ModelError, match="were asked for; expected a finite number from 0 on"):
        carry(torch.relu, size, width=4, depth=3, samples=4)


def test_an_activation_with_a_setting_a_channel_is_refused():
    with pytest.raises(ModelError, match="carry needs one function for all units"):
        carry(torch.nn.PReLU(4), width=4, depth=3, samples=4)


def test_functions_of_a_number_are_carried_too():
    found = carry(lambda u: max(float(u), 0.0), "kaiming", width=16, depth=4, samples=4)
    assert found.rms == pytest.approx(carry(torch.relu, "kaiming", width=16, depth=4, samples=4).rms)
