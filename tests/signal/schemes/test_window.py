import pytest
import torch
import torch.nn.functional as F

from eitherway.base.errors import ModelError
from eitherway.signal.schemes.shaped import shape_at
from eitherway.signal.schemes.window import window

KINKED = [torch.relu, F.leaky_relu, F.relu6, F.hardsigmoid, F.hardtanh, F.softshrink, F.hardswish, torch.abs]


def named(phi):
    return getattr(phi, "__name__", str(phi))


@pytest.mark.parametrize("depth", [100, 1000])
@pytest.mark.parametrize("phi", KINKED, ids=named)
def test_windows_keep_both_bounds(phi, depth):
    found = window(phi, depth)
    assert not found.exact
    assert found.q_slope**depth <= 1.001 and found.c_slope**depth <= 1.501
    assert 0.2 < found.alpha <= 1.0


@pytest.mark.parametrize("phi", [F.hardtanh, F.relu6, F.hardsigmoid], ids=named)
def test_a_window_cannot_be_wider_where_it_stands(phi):
    depth = 1000
    found = window(phi, depth)
    wider = shape_at(phi, found.alpha * 1.01, found.beta)
    assert wider.c_slope**depth > 1.5


def test_windows_lie_where_an_activation_is_linear():
    assert window(F.hardtanh, 100).beta == 0 and window(F.hardsigmoid, 100).beta == 0
    assert window(F.relu6, 1000).beta == pytest.approx(3, abs=0.05)
    assert abs(window(F.softshrink, 100).beta) > 3


@pytest.mark.parametrize("phi, jump", [(F.hardshrink, 0.5), (lambda u: F.threshold(u, 0.1, 20.0), 0.1)])
def test_windows_keep_away_from_jumps(phi, jump):
    found = window(phi, 100)
    assert abs(abs(found.beta) - jump) >= 6.5 * found.alpha * 0.999


@pytest.mark.parametrize("phi", [torch.tanh, F.hardtanh, F.gelu, torch.sigmoid], ids=named)
def test_without_biases_windows_lie_around_zero(phi):
    found = window(phi, 100, bias=False)
    assert found.beta == 0 and found.c_slope**100 <= 1.501 and found.q_slope**100 <= 1.501
    assert found.centring == (phi in (F.gelu, torch.sigmoid))


def test_where_nothing_is_linear_enough_the_refusal_says_what_to_do():
    with pytest.raises(ModelError, match="is not linear enough anywhere.*normalise between the layers"):
        window(torch.sign, 100)
    with pytest.raises(ModelError, match="around 0, where layers without bias work"):
        window(torch.relu, 100, bias=False)
