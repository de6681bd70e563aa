import pytest
import torch
import torch.nn.functional as F

from eitherway.signal.schemes.choose import SHORT, best
from eitherway.signal.schemes.shaped import shape
from eitherway.signal.schemes.window import window

MIRRORED = [torch.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish, F.softplus, F.logsigmoid]
SHAPED = [F.elu, F.selu, F.mish]
WINDOWED = [F.hardtanh, F.softshrink, F.hardsigmoid, F.hardshrink, torch.tanh, torch.sigmoid, torch.sin, F.softsign]
NAMED = [(phi, name) for name, some in (("mirror", MIRRORED), ("shaped", SHAPED), ("window", WINDOWED)) for phi in some]


@pytest.mark.parametrize("phi, name", NAMED, ids=[f"{phi.__name__}-{name}" for phi, name in NAMED])
def test_deep_chains_get_the_scheme_their_activation_allows(phi, name):
    choice = best(phi, 100)
    assert choice.name == name and len(choice.reason) > 20


@pytest.mark.parametrize("phi", [torch.tanh, F.elu, F.mish, F.tanhshrink])
def test_of_a_point_and_a_window_the_one_with_less_of_a_mean_is_taken(phi):
    for depth in (30, 1000):
        point, wide = shape(phi, depth), window(phi, depth)
        less = abs(point.mu) * point.gamma < 1.1 * abs(wide.mu) * wide.gamma
        assert best(phi, depth).name == ("shaped" if less else "window")


def test_short_chains_get_the_gain():
    assert best(F.gelu, SHORT - 1).name == "gain" and best(F.gelu, SHORT).name == "mirror"


def test_linear_chains_get_orthogonal_matrices():
    assert best(torch.nn.Identity(), 100).name == "orthogonal"


def test_units_that_cannot_be_paired_get_the_next_best():
    assert best(F.gelu, 100, width_even=False).name == "shaped"
    assert best(torch.relu, 100, width_even=False).name == "window"


def test_without_biases_odd_activations_get_a_window_around_zero():
    assert best(torch.tanh, 100, bias=False).name == "window" and best(F.gelu, 100, bias=False).name == "mirror"


def test_where_nothing_helps_the_reason_promises_nothing():
    choice = best(torch.sign, 100)
    assert choice.name == "gain" and "no promise" in choice.reason
