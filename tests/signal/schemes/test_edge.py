import pytest
import torch
import torch.nn.functional as F

from eitherway.base.errors import ModelError
from eitherway.signal.gain import moments
from eitherway.signal.schemes.edge import edge


@pytest.mark.parametrize("phi", [torch.tanh, F.gelu, F.selu, torch.sigmoid, torch.relu])
def test_the_edge_keeps_variance_and_gradient(phi):
    found = edge(phi)
    at = moments(phi, scale=found.scale)
    assert found.sigma_w**2 * at.second + found.sigma_b**2 == pytest.approx(found.scale**2, rel=1e-9)
    assert found.sigma_w**2 * at.slope == pytest.approx(1.0, rel=1e-9)


def test_where_variance_one_has_no_edge_another_is_found():
    assert edge(torch.tanh).scale == 1.0 and edge(torch.sigmoid).scale > 1.0


def test_q_slope_is_the_derivative_of_the_variance_map():
    found, step = edge(torch.tanh), 1e-4
    above, below = (found.sigma_w**2 * moments(torch.tanh, scale=(1 + s) ** 0.5).second for s in (step, -step))
    assert found.q_slope == pytest.approx((above - below) / (2 * step), rel=1e-6)


def test_activations_without_an_edge_are_refused():
    with pytest.raises(ModelError, match="has no edge of chaos between"):
        edge(F.softplus)
