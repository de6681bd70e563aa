"""Moments of activations: against independent integrals, identities, and everything a user may hand in."""

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, stats
from torch import nn

import eitherway as ew
from eitherway.base.errors import ModelError
from eitherway.signal import moments

# Every element-wise activation of torch.nn, with the places where its formula changes.
ACTIVATIONS = {
    "ELU": (nn.ELU(), (0,)),
    "ELU(0.7)": (nn.ELU(0.7), (0,)),
    "Hardshrink": (nn.Hardshrink(), (-0.5, 0.5)),
    "Hardshrink(0.31)": (nn.Hardshrink(0.31), (-0.31, 0.31)),
    "Hardsigmoid": (nn.Hardsigmoid(), (-3, 3)),
    "Hardtanh": (nn.Hardtanh(), (-1, 1)),
    "Hardtanh(-0.123, 1.77)": (nn.Hardtanh(-0.123, 1.77), (-0.123, 1.77)),
    "Hardswish": (nn.Hardswish(), (-3, 3)),
    "LeakyReLU": (nn.LeakyReLU(), (0,)),
    "LeakyReLU(0.2)": (nn.LeakyReLU(0.2), (0,)),
    "LogSigmoid": (nn.LogSigmoid(), ()),
    "PReLU": (nn.PReLU(), (0,)),
    "ReLU": (nn.ReLU(), (0,)),
    "ReLU inplace": (nn.ReLU(inplace=True), (0,)),
    "ReLU6": (nn.ReLU6(), (0, 6)),
    "RReLU": (nn.RReLU(), (0,)),
    "SELU": (nn.SELU(), (0,)),
    "CELU": (nn.CELU(), (0,)),
    "CELU(0.5)": (nn.CELU(0.5), (0,)),
    "GELU": (nn.GELU(), ()),
    "GELU tanh": (nn.GELU("tanh"), ()),
    "Sigmoid": (nn.Sigmoid(), ()),
    "SiLU": (nn.SiLU(), ()),
    "Mish": (nn.Mish(), ()),
    "Softplus": (nn.Softplus(), ()),
    "Softplus(3, 2)": (nn.Softplus(3, 2), (2 / 3,)),
    "Softshrink": (nn.Softshrink(), (-0.5, 0.5)),
    "Softsign": (nn.Softsign(), (0,)),
    "Tanh": (nn.Tanh(), ()),
    "Tanhshrink": (nn.Tanhshrink(), ()),
    "Threshold": (nn.Threshold(0.137, 0.5), (0.137,)),
    "Identity": (nn.Identity(), ()),
    "Dropout": (nn.Dropout(0.3), ()),
}


def integral(f, breaks, scale=1.0):
    """E f(scale z) by SciPy's adaptive quadrature between the known kinks."""
    ends = [-12.0, *(b / scale for b in breaks), 12.0]
    return sum(
        integrate.quad(lambda z: f(scale * z) * stats.norm.pdf(z), a, b, epsabs=1e-14, epsrel=1e-12, limit=400)[0]
        for a, b in zip(ends, ends[1:])
    )


def value(phi):
    module = phi.double().eval() if isinstance(phi, nn.Module) else phi
    return lambda u: float(module(torch.tensor([u], dtype=torch.float64)).detach()[0])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gain_of_every_activation_of_torch_is_the_integral_to_1e_9(name):
    phi, breaks = ACTIVATIONS[name]
    f = value(phi)
    assert ew.calculate_gain(phi) == pytest.approx(integral(lambda u: f(u) ** 2, breaks) ** -0.5, rel=1e-9)


@pytest.mark.parametrize("name", ["ReLU6", "Hardtanh(-0.123, 1.77)", "GELU", "Softplus(3, 2)", "Softsign"])
def test_moments_hold_at_other_scales_and_means(name):
    phi, breaks = ACTIVATIONS[name]
    f = value(phi)
    found = moments(phi, scale=2.5)
    assert found.mean == pytest.approx(integral(f, breaks, 2.5), rel=1e-9, abs=1e-12)
    assert found.fourth == pytest.approx(integral(lambda u: f(u) ** 4, breaks, 2.5), rel=1e-9)
    shifted = moments(phi, mean=0.7)
    breaks = [b - 0.7 for b in breaks]
    assert shifted.second == pytest.approx(integral(lambda u: f(u + 0.7) ** 2, breaks), rel=1e-9)


@pytest.mark.parametrize("phi", [torch.tanh, F.gelu, F.hardtanh, torch.sign], ids=["tanh", "gelu", "hardtanh", "sign"])
def test_stability_is_the_slope_of_the_variance_map(phi):
    step = 1e-4
    up, down = (moments(phi, scale=math.sqrt(1 + s)).second for s in (step, -step))
    slope = (up - down) / (2 * step) / moments(phi).second
    assert moments(phi).stability == pytest.approx(slope, abs=1e-6)


def test_the_table_of_the_fields_known_numbers_is_met():
    # He et al. 2015 (ReLU), Klambauer et al. 2017 (SELU keeps mean 0 and variance 1), and closed forms.
    relu = moments(torch.relu)
    assert (relu.gain, relu.chi, relu.stability) == pytest.approx((math.sqrt(2), 1, 1), abs=1e-12)
    assert relu.mean_share == pytest.approx(1 / math.pi, abs=1e-12)
    assert relu.noise == pytest.approx(5, abs=1e-9)  # E relu^4 = 3/2 over (1/2)^2, minus 1
    selu = moments(F.selu)
    assert (selu.mean, selu.second) == pytest.approx((0, 1), abs=1e-6)
    sine = moments(torch.sin)
    assert sine.second == pytest.approx((1 - math.exp(-2)) / 2, abs=1e-12)
    assert sine.slope == pytest.approx((1 + math.exp(-2)) / 2, abs=1e-12)


@pytest.mark.parametrize("phi", [torch.tanh, torch.sin, F.elu], ids=["tanh", "sin", "elu"])
def test_the_edge_keeps_variance_and_gradient(phi):
    found = moments(phi)
    sigma_w, bias = found.edge
    assert sigma_w**2 * found.second + bias == pytest.approx(1)
    assert sigma_w**2 * found.slope == pytest.approx(1)


def test_there_is_no_edge_for_sigmoid_nor_for_a_step():
    assert moments(torch.sigmoid).edge is None
    assert moments(torch.sign).edge is None


@pytest.mark.parametrize(
    ("phi", "c"),
    [
        (nn.ReLU(), 1),
        (nn.LeakyReLU(0.2), 1.2),
        (nn.GELU(), 1),
        (nn.GELU("tanh"), 1),
        (nn.SiLU(), 1),
        (nn.Hardswish(), 1),
        (nn.Softplus(), 1),
        (nn.LogSigmoid(), 1),
        (nn.PReLU(7), 1.25),
    ],
    ids=repr,
)
def test_mirrored_activations_are_seen_to_be_linear(phi, c):
    found = moments(phi)
    assert found.odd == pytest.approx(c)
    assert found.odd_reach == math.inf


@pytest.mark.parametrize(
    ("phi", "c", "reach"),
    [(nn.ReLU6(), 1, 6), (nn.Hardsigmoid(), 1 / 3, 3), (nn.Hardtanh(), 2, 1)],
    ids=repr,
)
def test_the_reach_of_the_mirrors_identity_is_found(phi, c, reach):
    found = moments(phi)
    assert (found.odd, found.odd_reach) == pytest.approx((c, reach), rel=1e-6)


@pytest.mark.parametrize("phi", [torch.tanh, F.elu, torch.sigmoid, torch.sin, F.softshrink], ids=lambda f: f.__name__)
def test_others_have_no_mirror(phi):
    assert moments(phi).odd is None


def test_kinks_are_found_wherever_they_lie():
    assert moments(nn.Threshold(0.137, 0.5)).kinks == pytest.approx((0.137,), abs=1e-8)
    assert moments(nn.Hardtanh(-0.123, 1.77)).kinks == pytest.approx((-0.123, 1.77), abs=1e-8)
    assert moments(torch.relu).kinks == (0,)
    assert moments(F.gelu).smooth
    assert moments(nn.Hardtanh(-0.123, 1.77)).piecewise_linear
    assert not moments(nn.Hardswish()).piecewise_linear
    assert not moments(F.gelu).piecewise_linear


class Wave(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return x + torch.sin(self.rate * x) ** 2 / self.rate


def test_users_own_modules_and_functions_are_taken_with_their_parameters():
    found = moments(Wave())
    expected = integral(lambda u: (u + math.sin(1.5 * u) ** 2 / 1.5) ** 2, ())
    assert found.second == pytest.approx(expected, rel=1e-9)
    hand = moments(lambda x: x * torch.sigmoid(x))
    assert hand.gain == pytest.approx(moments(F.silu).gain, rel=1e-12)


@pytest.mark.parametrize(
    "phi",
    [math.tanh, np.tanh, lambda u: math.tanh(u) if u > 0 else -math.tanh(-u), lambda x: x.float().tanh()],
    ids=["a number's function", "a ufunc", "a branch", "float32 inside"],
)
def test_functions_of_numbers_and_arrays_are_taken(phi):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = moments(phi)
    assert found.gain == pytest.approx(moments(torch.tanh).gain, rel=1e-6)
    assert found.slope == pytest.approx(moments(torch.tanh).slope, rel=1e-5)


def test_a_straight_through_estimator_passes_autograds_slope():
    def rounded(x):
        return x + (torch.sign(x) - x).detach()

    found = moments(rounded)
    assert (found.second, found.slope) == pytest.approx((1, 1))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_slopes_are_found_where_gradients_are_off(mode):
    leaky = nn.PReLU()
    with mode():
        assert moments(nn.GELU()).slope == pytest.approx(0.4559, abs=1e-4)
        assert moments(leaky).chi == pytest.approx(1)


def test_a_module_is_left_as_it_was():
    phi = nn.Sequential(nn.PReLU(), nn.Dropout(0.5))
    before = {name: p.clone() for name, p in phi.named_parameters()}
    moments(phi)
    assert phi.training and phi[1].training
    assert all(p.dtype == torch.float32 and torch.equal(p, before[name]) for name, p in phi.named_parameters())
    assert all(p.grad is None for p in phi.parameters())


def test_names_are_torchs_and_functions_names():
    assert ew.calculate_gain("relu") == pytest.approx(nn.init.calculate_gain("relu"))
    assert ew.calculate_gain("leaky_relu", 0.2) == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.2))
    assert ew.calculate_gain("leaky_relu") == pytest.approx(nn.init.calculate_gain("leaky_relu"))
    assert ew.calculate_gain("conv_transpose2d") == ew.calculate_gain("linear") == pytest.approx(1)
    assert ew.calculate_gain("gelu") == ew.calculate_gain(F.gelu)
    assert ew.calculate_gain("sin") == ew.calculate_gain(torch.sin)


@pytest.mark.parametrize(
    ("phi", "message"),
    [
        (lambda x: 0 * x + 1, "is constant"),
        (lambda x: 0 * x, "no signal passes it"),
        (lambda x: torch.exp(x * x), "grows without bound"),
        (lambda x: 1 / x, "has a pole: its mean square over a Gaussian"),
        (torch.log, "a gain needs finite values everywhere"),
        (lambda x: F.dropout(x), "two calls on the same numbers differ"),
        (nn.Softmax(-1), "is not element-wise"),
        (lambda x: x.sum(), "an element-wise function answers one number for each"),
        (nn.Linear(3, 3), "cannot be called on a tensor of 7 numbers"),
        (lambda x: torch.complex(x, x), "answers complex numbers; expected real ones"),
        (5, "an activation must be a function or module of a tensor"),
    ],
    ids=["constant", "zero", "growth", "pole", "nan", "random", "softmax", "sum", "linear", "complex", "a number"],
)
def test_what_has_no_gain_is_refused_in_a_sentence(phi, message):
    with pytest.raises(ModelError, match=message):
        ew.calculate_gain(phi)


def test_a_slope_without_a_mean_square_has_an_infinite_chi():
    found = moments(lambda u: u.abs().sqrt())
    assert found.second == pytest.approx(math.sqrt(2 / math.pi))
    assert (found.chi, found.edge, found.kinks) == (math.inf, None, (0,))
    gentle = moments(lambda u: u.abs() ** 0.9)  # 0.81 E |z|^-0.2
    expected = 0.81 * 2**-0.1 * math.gamma(0.4) / math.sqrt(math.pi)
    assert gentle.slope == pytest.approx(expected, rel=1e-6)


def test_an_identity_that_soon_ends_promises_no_start():
    assert "an exact start exists" not in str(moments(nn.Hardtanh()))
    assert "an exact start exists" in str(moments(nn.ReLU6()))


def test_what_passes_in_a_tail_alone_has_a_huge_gain():
    assert moments(lambda u: torch.relu(u - 10)).gain > 1e12


def test_a_bad_name_a_bad_parameter_and_a_bad_scale_are_refused():
    with pytest.raises(ModelError, match="no activation is called 'gelo'. Did you mean gelu"):
        ew.calculate_gain("gelo")
    with pytest.raises(ModelError, match="takes no param; got 0.2. Only 'leaky_relu' has one"):
        ew.calculate_gain("tanh", 0.2)
    with pytest.raises(ModelError, match="beside a function; a parameter goes with the name 'leaky_relu'"):
        ew.calculate_gain(torch.tanh, 0.2)
    with pytest.raises(ModelError, match="the negative slope of leaky_relu must be a number"):
        ew.calculate_gain("leaky_relu", "0.2")
    with pytest.raises(ModelError, match="both must be finite, and the scale above 0"):
        moments(torch.tanh, scale=0.0)
    with pytest.raises(ModelError, match="both must be finite, and the scale above 0"):
        moments(torch.tanh, scale="a")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="a pre-activation of mean 'a' and scale 1.0 was asked for"):
        moments(torch.tanh, mean="a")


def test_a_scale_may_be_a_tensor_of_one_number():
    assert moments(torch.tanh, scale=torch.tensor(2.0)) == moments(torch.tanh, scale=2.0)


def test_what_is_random_is_refused_without_using_up_chance():
    before = torch.get_rng_state()
    for phi in (lambda u: u + torch.randn_like(u), "manual_seed"):
        with pytest.raises(ModelError):
            ew.calculate_gain(phi)
        assert torch.equal(torch.get_rng_state(), before)


def test_the_text_says_what_the_numbers_mean():
    text = str(moments(F.gelu))
    assert "gain" in text and "1.53353" in text
    assert "unstable: differences between samples grow" in text
    assert "phi(u) - phi(-u) = 1 u" in text
    assert "none at this scale" in str(moments(torch.sigmoid))
    assert "for |u| <= 6" in str(moments(nn.ReLU6()))
    assert moments(torch.tanh)._repr_html_().startswith("<table>")


def test_the_picture_shows_the_curve_its_slope_and_the_numbers():
    axes = moments(F.gelu).plot()
    assert len(axes.lines) == 2
    assert "gain 1.534" in axes.get_title("left")


def test_the_functions_are_reached_from_the_folder_whatever_was_imported_before():

    assert callable(ew.signal.moments)
    assert callable(ew.signal.carry)
    assert callable(ew.diagnose)
    assert callable(ew.initialize_)
