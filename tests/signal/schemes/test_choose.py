import pytest
import torch
import torch.nn.functional as F

from eitherway.signal.schemes.choose import SHORT, best

MIRRORED = [torch.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish, F.softplus, F.logsigmoid]
SHAPED = [torch.tanh, torch.sigmoid, F.elu, F.selu, F.mish, torch.sin, F.softsign, F.tanhshrink]
WINDOWED = [F.hardtanh, F.softshrink, F.hardsigmoid, F.hardshrink]


@pytest.mark.parametrize(
    "phi, name",
    [
        *((phi, "mirror") for phi in MIRRORED),
        *((phi, "shaped") for phi in SHAPED),
        *((phi, "window") for phi in WINDOWED),
    ],
)
def test_deep_chains_get_the_scheme_their_activation_allows(phi, name):
    for depth in (50, 1000):
        choice = best(phi, depth)
        assert choice.name == name and len(choice.reason) > 20


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
