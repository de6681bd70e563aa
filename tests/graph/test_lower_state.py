"""Lowering repeats a run and leaves nothing behind."""

import torch
from torch import nn

from eitherway.graph import capture, lower


def test_lowering_leaves_running_statistics_as_they_are() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Unflatten(1, (1, 3)), nn.InstanceNorm1d(1, track_running_stats=True))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    lower(capture(net, torch.arange(12.0).reshape(4, 3)))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
