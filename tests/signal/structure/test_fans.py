"""Fans by measurement: weights N(0, 1 / (fan_in * coverage)) on unit noise put out rms 1, whatever the operation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eitherway.graph import capture
from eitherway.signal.structure import read_structure

KINDS = {
    "linear": (nn.Linear(48, 64, bias=False), (64, 48)),
    "linear, three axes": (nn.Linear(24, 32, bias=False), (8, 16, 24)),
    "conv1d, strided": (nn.Conv1d(16, 32, 5, stride=2, bias=False), (8, 16, 41)),
    "conv1d, dilated": (nn.Conv1d(16, 32, 3, dilation=4, padding=4, bias=False), (8, 16, 20)),
    "conv2d, padded": (nn.Conv2d(16, 32, 5, padding=2, bias=False), (4, 16, 7, 7)),
    "conv2d, strided and padded": (nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), (4, 16, 9, 10)),
    "conv2d, same": (nn.Conv2d(16, 32, (3, 4), padding="same", dilation=2, bias=False), (4, 16, 7, 8)),
    "conv2d, reflected": (nn.Conv2d(16, 32, 3, padding=1, padding_mode="reflect", bias=False), (4, 16, 8, 8)),
    "conv2d, grouped": (nn.Conv2d(32, 64, 3, groups=8, padding=1, bias=False), (4, 32, 8, 8)),
    "conv2d, depthwise": (nn.Conv2d(128, 128, 7, groups=128, padding=3, bias=False), (2, 128, 8, 8)),
    "conv3d": (nn.Conv3d(8, 32, 3, padding=(0, 1, 1), bias=False), (2, 8, 5, 6, 7)),
    "transposed 1d": (nn.ConvTranspose1d(32, 32, 5, stride=3, bias=False), (4, 32, 20)),
    "transposed, stride 2": (nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1, bias=False), (2, 64, 6, 6)),
    "transposed, no overlap": (nn.ConvTranspose2d(64, 32, 2, stride=2, bias=False), (2, 64, 6, 6)),
    "transposed, stride 1": (nn.ConvTranspose2d(32, 32, 3, padding=2, bias=False), (4, 32, 9, 9)),
    "transposed, grouped": (
        nn.ConvTranspose2d(32, 32, 3, stride=2, padding=1, output_padding=1, groups=4, bias=False), (4, 32, 6, 6),
    ),
    "transposed 3d": (nn.ConvTranspose3d(16, 16, 3, stride=2, bias=False), (2, 16, 3, 3, 3)),
}  # fmt: skip


def producers(model, *inputs):
    return read_structure(capture(model, *inputs), model).producers


def rms(model, producer, *inputs, seed):
    """The root of the mean square that comes out of weights N(0, 1 / products in an average output)."""
    draw = torch.Generator().manual_seed(100 + seed)
    weight = dict(model.named_parameters())[producer.name]
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=draw) * producer.reads**-0.5)
        return float(model(*inputs).double().square().mean())


@pytest.mark.parametrize("name", KINDS)
def test_weights_by_the_fan_put_out_rms_one(name):
    model, shape = KINDS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (found,) = producers(model, x)
    squares = [rms(model, found, x, seed=seed) for seed in range(3)]
    # 0.93 to 1.06 over 20 seeds for the smallest of these
    assert math.sqrt(sum(squares) / 3) == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize("name", KINDS)
def test_coverage_is_one_without_padding_and_below_it_with(name):
    model, shape = KINDS[name]
    (found,) = producers(model, torch.zeros(shape))
    padded = any(getattr(model, "padding", (0,))) if not isinstance(getattr(model, "padding", 0), str) else True
    if not name.startswith("transposed"):
        assert (found.coverage < 1) == (padded and "reflected" not in name)


def test_bilinear_sums_over_both_inputs():
    model = nn.Bilinear(16, 24, 32, bias=False)
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(256, 16, generator=draw), torch.randn(256, 24, generator=draw)
    (found,) = producers(model, x, y)
    assert (found.kind, found.fan_in, found.fan_out, found.sources) == ("bilinear", 384, 32, (0, 1))
    assert rms(model, found, x, y, seed=0) ** 0.5 == pytest.approx(1, abs=0.06)


def test_an_embedding_reads_one_row():
    model = nn.Embedding(50, 64)
    ids = torch.arange(50)[None]
    (found,) = producers(model, ids)
    assert (found.kind, found.fan_in, found.out_axis, found.in_axis) == ("embedding", 1, 1, 0)
    assert rms(model, found, ids, seed=0) ** 0.5 == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("mode", "fan"), [("sum", 4), ("mean", 1 / 4), ("max", 1)])
def test_a_bag_of_embeddings_reads_as_many_rows_as_it_holds(mode, fan):
    model = nn.EmbeddingBag(50, 64, mode=mode)
    ids = torch.arange(48).reshape(12, 4)
    (found,) = producers(model, ids)
    assert found.fan_in == fan
    if mode != "max":
        assert rms(model, found, ids, seed=0) ** 0.5 == pytest.approx(1, abs=0.06)


def test_zeros_put_around_by_hand_count_as_padding():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, stride=2)

        def forward(self, x):
            return self.conv(F.pad(x, (0, 1, 1, 0)))

    (found,) = producers(Padded(), torch.zeros(1, 4, 8, 8))
    exact = 0
    for i in range(4):
        for j in range(4):
            exact += sum(2 * i + a > 0 and 2 * j + b < 8 for a in range(3) for b in range(3))
    assert found.coverage == pytest.approx(exact / (16 * 9), rel=1e-12)


def test_coverage_counts_every_tap_that_reads_an_element():
    for size, kernel, stride, padding, dilation in ((7, 3, 1, 1, 1), (8, 5, 2, 2, 1), (9, 3, 3, 4, 2), (5, 4, 2, 3, 3)):
        model = nn.Conv1d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
        (found,) = producers(model, torch.zeros(1, 1, size))
        with torch.no_grad():
            model.weight.fill_(1)
            seen = float(model(torch.ones(1, 1, size)).mean())
        assert found.reads == pytest.approx(seen, rel=1e-6)


def test_coverage_of_transposed_convolutions_counts_every_pair_that_lands():
    for size, kernel, stride, padding, extra in ((7, 3, 1, 1, 0), (4, 5, 2, 2, 1), (5, 2, 3, 0, 2), (6, 4, 2, 1, 0)):
        model = nn.ConvTranspose1d(1, 1, kernel, stride, padding, output_padding=extra, bias=False)
        (found,) = producers(model, torch.zeros(1, 1, size))
        with torch.no_grad():
            model.weight.fill_(1)
            seen = float(model(torch.ones(1, 1, size)).mean())
        assert found.reads == pytest.approx(seen, rel=1e-6)


def test_recurrent_layers_have_a_producer_for_each_weight():
    model = nn.LSTM(5, 8, num_layers=2, bidirectional=True, proj_size=3)
    found = producers(model, torch.zeros(4, 2, 5))
    assert {p.name for p in found} == {n for n, _ in model.named_parameters() if n.startswith("weight")}
    for p in found:
        weight = dict(model.named_parameters())[p.name]
        assert p.kind == "recurrent" and p.fan_in == weight.shape[1]
        if "_hr" not in p.name:
            assert [b.role for b in p.blocks] == ["input gate", "forget gate", "cell gate", "output gate"]
            assert p.blocks[2].rows == slice(16, 24) and p.bias == p.name.replace("weight", "bias")


def test_cells_name_their_gates():
    gru = nn.GRUCell(4, 6)
    found = producers(gru, torch.zeros(2, 4), torch.zeros(2, 6))
    assert [p.name for p in found] == ["weight_ih", "weight_hh"]
    assert [(b.role, b.rows) for b in found[0].blocks] == [
        ("reset gate", slice(0, 6)),
        ("update gate", slice(6, 12)),
        ("new gate", slice(12, 18)),
    ]
