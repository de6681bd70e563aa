"""A fused model answers as the original does; what merges, what is kept, and that the original is left alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.corpora import normal, seeded, settle
from tests.corpora.networks import FUSING
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.linear.fuse import effective_depth, fuse_linear


def made(build, *shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return settle(seeded(build, g), g), normal(g, *shape, dtype=torch.float32)


@torch.no_grad()
def close(fused, model, *xs, times=30.0):
    model.eval()
    wanted = copy.deepcopy(model).double()(*(x.double() if x.is_floating_point() else x for x in xs))
    error = (fused.model(*xs).double() - wanted).abs().max() / wanted.abs().max()
    return float(error) < times * torch.finfo(xs[0].dtype).eps


class Wrapped(nn.Module):
    """A module with a forward of its own."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *xs):
        return self.run(self, *xs)


@pytest.mark.slow
@pytest.mark.parametrize("network", FUSING, ids=lambda n: n.name)
def test_the_networks_that_are_timed_come_out_with_as_few_layers_as_can_be(network):
    model, x = network.make(torch.Generator().manual_seed(3))
    fused = fuse_linear(model, x[:2].contiguous())
    assert close(fused, model, x[:2]) and close(fused, model, x[:3])
    assert fused.report.layers_before == network.layers[0]
    low_rank = fuse_linear(model, x[:2], sizes="example").report.layers_after
    assert network.layers[1] in (fused.report.layers_after, low_rank)
    assert fused.report.multiplications_after <= fused.report.multiplications_before


def test_a_network_without_activations_comes_out_as_one_layer_whatever_its_depth():
    model, x = made(lambda: nn.Sequential(*(nn.Linear(9, 9) for _ in range(40))), 3, 9)
    fused = fuse_linear(model, x)
    assert fused.report.layers_after == fused.report.effective_depth == 1
    assert close(fused, model, x)


def test_untouched_parameters_keep_their_names_and_are_the_same_tensors():
    model, x = made(lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), 3, 4)
    fused = fuse_linear(model, x)
    assert fused.model.get_parameter("3.weight") is model[3].weight
    own = fuse_linear(model, x, copy=True)
    assert own.model.get_parameter("3.weight") is not model[3].weight
    assert torch.equal(own.model.get_parameter("3.weight"), model[3].weight)


def test_the_original_is_left_as_it_was():
    model, x = made(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)), 3, 4)
    model.train()
    model[2].eval()
    state = copy.deepcopy(model.state_dict())
    before = torch.get_rng_state()
    fuse_linear(model, x)
    assert [m.training for m in model] == [True, True, False, True]
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(before, torch.get_rng_state())


def test_changed_weights_are_noticed_and_taken_in():
    model, x = made(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)), 3, 4)
    fused = fuse_linear(model, x)
    module = fused.model
    assert not fused.stale
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert fused.stale and not close(fused, model, x)
    assert fused.refresh().model is module and not fused.stale and close(fused, model, x)


def test_the_axis_of_a_batch_norm_is_read_from_shapes():
    model, x = made(lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), 3, 6, 6)
    fused = fuse_linear(model, x)
    assert close(fused, model, x) and fused.report.layers_after == 1
    assert "the linear layer mixes the last one" in fused.report.refusals[0].why


def test_one_module_called_twice_is_two_layers_of_one_weight():
    model, x = made(
        lambda: Wrapped(lambda m, x: F.relu(m.a(m.a(x))) + m.b(x), a=nn.Linear(5, 5), b=nn.Linear(5, 5)), 3, 5
    )
    fused = fuse_linear(model, x)
    assert close(fused, model, x) and fused.report.layers_after == 2


def test_the_example_must_hold_a_tensor():
    with pytest.raises(ModelError, match="expected a tensor, a tuple of positional"):
        fuse_linear(nn.Linear(2, 2), "no tensor")


def test_the_model_must_be_something_to_call():
    with pytest.raises(ModelError, match="the model is None, a NoneType; expected an nn.Module or a function"):
        fuse_linear(None, torch.ones(2))


def test_effective_depth_counts_the_stretches_between_activations():
    model, x = made(
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4)), 3, 4
    )
    depth = effective_depth(model, x)
    assert (depth.written, depth.effective) == (3, 2)
    assert depth.runs[0].layers == ("0", "1") and "these 2 layers are one linear map" in depth.runs[0].advice
