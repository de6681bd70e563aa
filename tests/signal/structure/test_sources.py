"""Sources: what functions start from, and the laws that theory tells of them."""

import pytest
import torch
import torch.nn.functional as F
from tests.signal.structure.nets import POINTS, Between, between, gated
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.graph import capture
from eitherway.signal.structure import read_structure


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 1.5))

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return y.type_as(x) * self.weight


class HandLayerNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.g, self.b = nn.Parameter(torch.full((width,), 2.0)), nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        var = ((x - mean) ** 2).mean(-1, keepdim=True)
        return self.g * ((x - mean) / torch.sqrt(var + 1e-5)) + self.b


class RootNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.g = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + self.g)


NORMS = {
    "layer": (nn.LayerNorm(6), "layer", "weight", "bias"),
    "rms": (nn.RMSNorm(6), "rms", "weight", None),
    "batch": (nn.BatchNorm1d(6), "batch", "weight", "bias"),
    "group": (nn.GroupNorm(2, 6), "group", "weight", "bias"),
    "functional": (lambda u: F.layer_norm(u, (6,)), "layer", None, None),
    "rms by hand": (RMSNorm(6), "rms", "weight", None),
    "layer by hand": (HandLayerNorm(6), "layer", "g", "b"),
    "rms with one plus": (RootNorm(6), "rms", "g", None),
    "length": (lambda u: F.normalize(u, dim=-1), "l2", None, None),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_sources_whose_law_is_known(name):
    phi, kind, weight, bias = NORMS[name]
    model = Between(phi)
    x = torch.randn(4096, 5, generator=torch.Generator().manual_seed(0))
    structure = read_structure(capture(model, x), model)
    (norm,) = structure.norms
    assert norm.kind == kind
    assert (norm.weight, norm.bias) == tuple(None if n is None else f"phi.{n}" for n in (weight, bias))
    path = structure.paths[1]
    source = structure.sources[path.sources[0]]
    assert path.kind == "same" and source.kind == "norm" and path.sources == (norm.output,)
    measured = float(model.phi(model.first(x)).detach().square().mean())
    assert source.second == pytest.approx(measured, rel=2e-3)
    for role, name in (("norm weight", weight), ("norm bias", bias)):
        if name is not None:
            assert structure.roles[f"phi.{name}"].kind == role


def test_batch_norm_by_what_it_remembers_normalises_nothing():
    model = Between(nn.BatchNorm1d(6)).eval()
    structure = read_structure(capture(model, torch.ones(7, 5)), model)
    assert structure.norms[0].kind == "running" and structure.sources[structure.norms[0].output].second is None


def test_a_concatenation_has_the_mean_of_its_parts_laws():
    structure, path = gated(lambda net, x: torch.cat([net.a(x)[:, :4], F.layer_norm(net.b(x), (8,))[:, :4]], -1))
    source = structure.sources[path.sources[0]]
    assert (source.kind, source.second, len(source.parts)) == ("concat", 1.0, 2)


def test_what_is_written_into_is_measured():
    def phi(u):
        u = u * 1
        u[:, 0] = 0
        return torch.relu(u)

    structure, path = between(phi)
    assert [structure.sources[i].kind for i in path.sources] == ["measured"]


def test_steps_copied_into_a_buffer_keep_what_they_come_from():
    class Scan(nn.Module):
        def __init__(self):
            super().__init__()
            self.step, self.head = nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x):
            out = torch.zeros(3, 4, 5)
            for t in range(4):
                out[:, t] = torch.tanh(self.step(x))
            return self.head(out)

    model = Scan()
    structure = read_structure(capture(model, torch.ones(3, 5)), model)
    assert structure.heads == (4,) and structure.paths[4].kind == "measured"


def test_a_value_that_was_read_before_it_was_written_into_cannot_be_replayed():
    class Views(nn.Module):
        def forward(self, x):
            y = x.clone()
            z = y.view(-1)
            z[::2].mul_(2)
            return y.tanh()

    model = Views()
    structure = read_structure(capture(model, torch.ones(4, 4)), model)
    texts = []
    for value in structure.graph.values:
        path = structure.path(value.index)
        if path.ops:
            try:
                path(POINTS)
            except ModelError as error:
                texts.append(str(error))
    assert any("was written into after it was read" in text for text in texts)


def test_constants_filled_in_place_hold_what_they_hold_at_the_end():
    def phi(u):
        by = torch.zeros(6)
        by[:3] = 2.0
        by[3:] = 2.0
        return torch.tanh(u * by)

    _, path = between(phi)
    torch.testing.assert_close(path(POINTS), torch.tanh(2 * POINTS))


def test_a_constant_that_is_gone_is_named(monkeypatch):
    _, path = between(lambda u: torch.tanh(u * torch.full((6,), 2.0)))
    monkeypatch.setattr(path.replay.flow, "content", lambda value: None)
    with pytest.raises(ModelError, match="cannot be computed again, so the function"):
        path(POINTS)


def test_noise_is_no_dropout():
    for noisy in (lambda u: u * torch.randn(7, 6), lambda u: u + torch.randn(7, 6), lambda u: u * torch.rand(7, 6)):
        assert between(noisy)[1].kind == "measured"
    _, path = between(lambda u: u * (torch.rand(7, 1) > 0.1) / 0.9)
    assert path.text == "u / 0.9" and path.kind == "activation"
    _, path = between(lambda u: torch.relu(u) * torch.empty(7, 1).bernoulli_(0.9))
    assert path.text == "relu"


def test_rounding_to_integers_is_measured_and_masks_are_functions():
    assert between(lambda u: (u * 10).long().float())[1].kind == "measured"
    _, path = between(lambda u: (u > 0).float() * u)
    assert path.kind == "activation" and torch.equal(path(POINTS), POINTS.relu())


def test_an_opaque_run_is_refused():
    model = Between(lambda u: torch.from_numpy(u.detach().numpy().copy()))
    graph = capture(model, torch.ones(2, 5))
    with pytest.raises(ModelError, match="the structure cannot be read: .* give the model without that part"):
        read_structure(graph, model)
