"""Two small networks with a hole for whatever stands between layers, and what is read there."""

import torch
from torch import nn

from eitherway.graph import capture
from eitherway.signal.structure import read_structure

POINTS = torch.linspace(-4, 4, 81, dtype=torch.float64)


class Between(nn.Module):
    """Two layers with a function between them."""

    def __init__(self, phi, width=6):
        super().__init__()
        self.first, self.phi, self.second = nn.Linear(5, width), phi, nn.Linear(width, 3)

    def forward(self, x):
        return self.second(self.phi(self.first(x)))


def between(phi, model=None):
    model = Between(phi) if model is None else model
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    structure = read_structure(capture(model, x), model)
    return structure, structure.paths[1]


class Gated(nn.Module):
    def __init__(self, gate, width=8):
        super().__init__()
        self.a, self.b, self.both = nn.Linear(5, width), nn.Linear(5, width), nn.Linear(5, 2 * width)
        self.last, self.gate = nn.Linear(width, 3), gate

    def forward(self, x):
        return self.last(self.gate(self, x))


def gated(gate):
    model = Gated(gate)
    structure = read_structure(capture(model, torch.ones(4, 5)), model)
    return structure, structure.paths[len(structure.producers) - 1]
