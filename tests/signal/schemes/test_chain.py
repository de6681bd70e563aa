import pytest
import torch
import torch.nn.functional as F

from eitherway.base.errors import ModelError
from eitherway.signal.schemes.chain import SCHEMES, chain


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("scheme", [*SCHEMES, 0.02])
@pytest.mark.parametrize("phi", [None, torch.relu, F.gelu])
def test_every_scheme_makes_the_layers_asked_for_twice_alike(phi, scheme):
    if phi is torch.relu and scheme == "shaped":
        pytest.skip("ReLU has no shape")
    layers, again = (list(chain(phi, scheme, [6, 9, 8, 7], generator=seeded())) for _ in range(2))
    assert [tuple(layer.weight.shape) for layer in layers] == [(9, 6), (8, 9), (7, 8)]
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(layers, again))


@pytest.mark.parametrize("phi, depth", [(F.gelu, 60), (torch.tanh, 60), (F.hardtanh, 60), (torch.relu, 3)])
def test_auto_puts_out_what_it_was_given(phi, depth):
    generator = seeded(1)
    h = x = torch.randn(64, 96, generator=generator)
    for i, layer in enumerate(chain(phi, "auto", [96] * (depth + 1), generator=generator)):
        h = (phi(h) if i else h) @ layer.weight.T
        h = h if layer.bias is None else h + layer.bias
    assert float(h.square().mean().sqrt() / x.square().mean().sqrt()) == pytest.approx(1.0, abs=0.15)


def test_unknown_schemes_and_widths_are_refused():
    with pytest.raises(ModelError, match="no scheme is called 'kaimimg'. Did you mean kaiming"):
        chain(torch.relu, "kaimimg", [4, 4], generator=seeded())
    with pytest.raises(ModelError, match="expected the input's and one a layer"):
        chain(torch.relu, "kaiming", [4], generator=seeded())
