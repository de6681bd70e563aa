"""Reading costs time in proportion to the run: nothing walks back over all that came before."""

import time

import torch
from torch import nn

from eitherway.graph import capture
from eitherway.signal.structure import read_structure


class Stream(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))

    def forward(self, x):
        y = x
        for layer in self.layers:
            y = y + torch.tanh(layer(y)) + 0.1 * x
        return y


def seconds(model):
    graph = capture(model, torch.ones(2, 4))
    taken = []
    for _ in range(3):
        start = time.process_time()
        structure = read_structure(graph, model)
        taken.append(time.process_time() - start)
    return structure, min(taken)


def test_a_chain_of_a_thousand_layers_is_one_chain_read_in_under_a_second():
    model = nn.Sequential(*(part for _ in range(1000) for part in (nn.Linear(4, 4), nn.ReLU())))
    structure, taken = seconds(model)
    (chain,) = structure.chains
    assert chain.producers == tuple(range(1000)) and {path.text for path in chain.paths} == {"relu"}
    assert taken < 1  # 0.1 s


def test_a_stream_four_times_as_long_takes_about_four_times_as_long():
    (short, some), (long, more) = seconds(Stream(100)), seconds(Stream(400))
    assert [r.depth for r in long.residuals] == [400] * 400 and len(short.residuals) == 100
    assert more < 10 * some  # 4 to 5 times
