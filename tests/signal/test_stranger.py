"""A stranger's model: none of the others are like it, and what starts models was finished before it was written."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eitherway as ew


def softclip(x):
    return x / torch.sqrt(1 + 0.25 * x * x) + 0.1 * x


class Radial(nn.Module):
    """Distances as bumps, and a gate for each channel of the messages."""

    def __init__(self, bumps, width):
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, 3, bumps))
        self.to_gate = nn.Linear(bumps, width)

    def forward(self, distance):
        bumps = torch.exp(-4 * (distance[:, None] - self.centres) ** 2)
        return F.softplus(self.to_gate(bumps)) - math.log(2)


class Interaction(nn.Module):
    def __init__(self, width, bumps, heads):
        super().__init__()
        self.radial = Radial(bumps, width)
        self.mix = nn.ParameterList(
            [nn.Parameter(torch.randn(heads, width // heads, width // heads) * 0.01) for _ in range(2)]
        )
        self.pair = nn.Bilinear(width, 8, width, bias=False)
        self.scale = nn.Parameter(torch.ones(width))
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.Mish(), nn.Linear(width, width))
        self.heads = heads

    def norm(self, h):
        return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale

    def forward(self, h, kind, source, target, distance):
        n = self.norm(h)
        split = n.view(len(n), self.heads, -1)
        first = torch.einsum("nhc,hcd->nhd", split, self.mix[0])
        second = softclip(torch.einsum("nhc,hcd->nhd", split, self.mix[1]))
        m = (first * second).reshape(len(n), -1)
        m = self.pair(m, kind)
        message = m[source] * self.radial(distance)
        degree = torch.zeros(len(h)).index_add_(0, target, torch.ones(len(target))).clamp(min=1)
        got = torch.zeros_like(h).index_add_(0, target, message) / degree.sqrt()[:, None]
        return h + self.update(torch.cat([n, got], -1))


class Molecules(nn.Module):
    def __init__(self, width=96, bumps=12, heads=4, blocks=6, kinds=9):
        super().__init__()
        self.atoms = nn.Embedding(kinds, width)
        self.kind = nn.Linear(kinds, 8)
        self.kinds = kinds
        self.blocks = nn.ModuleList(Interaction(width, bumps, heads) for _ in range(blocks))
        self.query = nn.Parameter(torch.zeros(3, width))
        self.cell = nn.GRUCell(width, width)
        self.value = nn.Linear(width, width)
        self.energy = nn.Sequential(
            *[m for _ in range(14) for m in (nn.Linear(width, width), nn.Softsign())], nn.Linear(width, 1)
        )

    def forward(self, atoms, places, molecule, source, target, count):
        distance = (places[source] - places[target]).norm(dim=-1)
        h = self.atoms(atoms)
        kind = self.kind(F.one_hot(atoms, self.kinds).float())
        for block in self.blocks:
            h = block(h, kind, source, target, distance)
        state = torch.zeros(count, h.shape[1])
        for query in self.query:
            score = (h * (query + state[molecule])).sum(-1) / math.sqrt(h.shape[1])
            weight = torch.exp(score - score.max())
            total = torch.zeros(count).index_add_(0, molecule, weight)
            pooled = torch.zeros(count, h.shape[1]).index_add_(
                0, molecule, (weight / total[molecule])[:, None] * self.value(h)
            )
            state = self.cell(pooled, state)
        return self.energy(state)


def batch(generator, molecules=48, atoms=10, kinds=9):
    n = molecules * atoms
    molecule = torch.arange(n) // atoms
    source, target = [t.flatten() for t in torch.meshgrid(torch.arange(atoms), torch.arange(atoms), indexing="ij")]
    keep = source != target
    source = (torch.arange(molecules)[:, None] * atoms + source[keep]).flatten()
    target = (torch.arange(molecules)[:, None] * atoms + target[keep]).flatten()
    return (
        torch.randint(kinds, (n,), generator=generator),
        torch.randn(n, 3, generator=generator),
        molecule,
        source,
        target,
        molecules,
    )


@pytest.fixture(scope="module")
def started():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Molecules()
    generator = torch.Generator().manual_seed(0)
    example = batch(generator)
    loss = (F.mse_loss, torch.randn(48, 1, generator=generator))
    before = ew.diagnose(net, example, loss)
    report = ew.initialize_(net, example)
    return net, example, before, report, ew.diagnose(net, example, loss)


def test_as_torch_starts_it_the_strangers_model_does_not_learn_and_that_is_said(started):
    _, _, before, _, _ = started
    assert [verdict.kind for verdict in before.alarms] == ["vanishing gradient"]
    assert "softsign" in before.alarms[0].text


def test_every_parameter_of_the_strangers_model_is_told(started):
    net, _, _, report, _ = started
    assert {entry.name for entry in report.entries} == {name for name, _ in net.named_parameters()}
    kept = [entry for entry in report.entries if entry.action == "kept"]
    assert [entry.name for entry in kept] == ["query"]
    assert kept[0].why


def test_the_strangers_model_is_well_at_the_first_try(started):
    net, example, _, _, after = started
    assert after.healthy
    assert after.notes == () or all("explod" not in note and "vanish" not in note for note in after.notes)
    answer = net(*example)
    assert 0.7 < float(answer.detach().square().mean().sqrt()) < 1.4
    assert 0.4 < float(answer.detach().std()) < 1.4
