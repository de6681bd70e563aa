import math

import pytest
import torch
import torch.nn.functional as F

from eitherway.base.errors import ModelError
from eitherway.signal.schemes.draw import orthogonal
from eitherway.signal.schemes.shaped import affine, shape, shape_at

SMOOTH = [F.gelu, F.silu, F.mish, torch.tanh, torch.sigmoid, F.softplus, F.logsigmoid, F.elu, F.selu, F.softsign]
SMOOTH += [torch.sin, F.tanhshrink, F.hardswish]

# (alpha, |beta|) at depth 100, zeta 1.5, found by an independent program with fixed panels of Gauss-Legendre nodes
PUBLISHED = [
    (F.gelu, 0.0854, 0.259),
    (F.silu, 0.129, 0.349),
    (F.mish, 0.104, 0.156),
    (torch.tanh, 0.090, 0.560),
    (torch.sigmoid, 0.181, 1.120),
    (F.softplus, 0.228, 0.408),
    (F.elu, 0.095, 0.155),
    (F.selu, 0.089, 0.254),
    (F.softsign, 0.052, 0.098),
    (torch.sin, 0.064, 0.956),
    (F.tanhshrink, 0.064, 0.884),
]


def named(phi):
    return getattr(phi, "__name__", str(phi))


@pytest.mark.parametrize("depth", [30, 1000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("phi", SMOOTH, ids=named)
def test_both_equations_hold_at_every_depth(phi, depth):
    found = shape(phi, depth)
    assert found.exact
    assert found.q_slope**depth == pytest.approx(1.0, abs=1e-5)
    assert found.c_slope**depth == pytest.approx(1.5, rel=1e-5)


@pytest.mark.parametrize("phi, alpha, beta", PUBLISHED, ids=named)
def test_roots_are_those_of_an_independent_solver(phi, alpha, beta):
    found = shape(phi, 100)
    assert found.alpha == pytest.approx(alpha, abs=0.0011) and abs(found.beta) == pytest.approx(beta, abs=0.0016)


def test_the_root_of_a_great_depth_solves_the_equation_of_infinitely_many_layers():
    # as alpha goes to 0, Q' = 1 becomes 2 phi' phi''' + phi''^2 = 0; of tanh (t): 8 t^2 (1 - t^2) ... zero at t^2 = 1/4
    assert math.tanh(shape(torch.tanh, 1_000_000).beta) == pytest.approx(0.5, abs=1e-4)


def test_a_steeper_activation_has_the_same_shape_at_a_smaller_scale():
    plain, steep = shape(torch.sin, 100), shape(lambda u: torch.sin(3 * u), 100)
    assert steep.alpha == pytest.approx(plain.alpha / 3, rel=1e-6) and steep.beta == pytest.approx(plain.beta / 3)
    assert steep.gamma == pytest.approx(plain.gamma, rel=1e-6)


def test_functions_and_modules_of_one_activation_have_one_shape():
    assert shape(torch.nn.GELU(), 50) == shape(F.gelu, 50)


def test_a_module_whose_parameter_changed_is_solved_anew():
    class Wave(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.speed = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, u):
            return torch.sin(self.speed * u)

    wave = Wave()
    before = shape(wave, 100)
    with torch.no_grad():
        wave.speed.fill_(2.0)
    assert shape(wave, 100).alpha == pytest.approx(before.alpha / 2, rel=1e-6)


def test_affine_layers_make_an_ordinary_network_of_the_normalised_activation():
    found, generator = shape(F.silu, 3), torch.Generator().manual_seed(0)
    matrices = [orthogonal(16, 16, generator=generator, dtype=torch.float64) for _ in range(4)]
    x = torch.randn(5, 16, dtype=torch.float64, generator=generator)
    plain = x
    for i, matrix in enumerate(matrices):
        weight, bias = affine(matrix, before=found if i else None, after=found if i < 3 else None)
        plain = (F.silu(plain) if i else plain) @ weight.T + bias
    z = x @ matrices[0].T
    for matrix in matrices[1:]:
        z = found.gamma * (F.silu(found.alpha * z + found.beta) - found.mu) @ matrix.T
    assert torch.allclose(plain, z)


def test_the_normalised_activation_has_mean_zero_and_variance_one():
    found = shape(F.gelu, 100)
    z = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    w = torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum()
    y = found.gamma * (F.gelu(found.alpha * z + found.beta) - found.mu)
    assert float(w @ y) == pytest.approx(0, abs=1e-9) and float(w @ y**2) == pytest.approx(1, abs=1e-9)
    assert found.centring and not shape_at(torch.tanh, 1.0, 0.0).centring


@pytest.mark.parametrize("phi", [torch.relu, F.hardtanh, F.hardshrink, lambda u: u**3])
def test_activations_without_a_root_are_refused_with_a_way_out(phi):
    with pytest.raises(ModelError, match="has no operating point.*use scheme 'mirror' or 'window'"):
        shape(phi, 100)


def test_without_biases_the_point_must_be_at_zero():
    with pytest.raises(ModelError, match=r"with mean 0 \(its layers have no bias\)"):
        shape(torch.tanh, 100, bias=False)


@pytest.mark.parametrize("depth, zeta", [(0, 1.5), (2.5, 1.5), (10, 1.0), (True, 1.5)])
def test_depth_and_zeta_are_checked(depth, zeta):
    with pytest.raises(ModelError, match="expected how many activations follow one another"):
        shape(torch.tanh, depth, zeta)
