"""What no tracer sees, TorchScript and nested tensors, is named and never taken for the run."""

import functools

import pytest
import torch
from torch import nn

import eitherway as ew
from eitherway.graph import capture
from eitherway.linear.fuse.fuse import effective_depth

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]
X = torch.ones(2, 3)


@functools.cache
def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = scripted()

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize("door", [ew.jacobian, ew.prepare_jacobian, ew.chain_rule, ew.fuse_linear, effective_depth])
@pytest.mark.parametrize("make", [scripted, lambda: torch.jit.trace(nn.Linear(3, 2), X), Around])
def test_torchscript_modules_are_refused_by_every_door(door, make):
    with pytest.raises(ew.ModelError, match="is TorchScript, which runs outside of Python, where nothing can be"):
        door(make(), X)


def test_a_torchscript_module_that_a_function_calls_is_found():
    net = scripted()
    with pytest.raises(ew.ModelError, match="Sequential is TorchScript"):
        ew.jacobian(lambda x: net(x), X)


def test_gradient_check_says_so_too():
    with pytest.raises(ew.ModelError, match="Sequential is TorchScript, which runs outside of Python"):
        ew.gradient_check(scripted(), X)


def test_a_scripted_function_is_one_that_the_graph_does_not_tell():
    twice = torch.jit.script(double)
    assert "double is TorchScript" in capture(lambda x: twice(x), X).opaque
    assert torch.equal(ew.jacobian(twice, torch.ones(2)), 2 * torch.eye(2))
    with pytest.raises(ew.ModelError, match="links of this run cannot all be seen: double is TorchScript"):
        ew.chain_rule(twice, X)


def double(x):
    return x * 2


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_answer_is_refused(layout):
    def ragged(x):
        return torch.nested.as_nested_tensor([x, x[:1]], layout=layout)

    with pytest.raises(ew.ModelError, match="returned a nested tensor, which has no one shape"):
        capture(ragged, X)
    for door in (ew.jacobian, ew.chain_rule, ew.gradient_check, ew.fuse_linear):
        with pytest.raises(ew.ModelError, match="ragged returned a nested tensor"):
            door(ragged, X)


def test_a_nested_tensor_on_the_way_leaves_torchs_own_ways():
    def padded(x):
        return torch.nested.to_padded_tensor(torch.nested.as_nested_tensor([x, x[:1]]), 0.0)

    assert "a nested tensor inside has no one shape (test_unseen.py:" in capture(padded, torch.ones(2)).opaque
    found = ew.jacobian(padded, torch.ones(2))  # of [[a, b], [a, 0]]
    assert found.tolist() == [[[1, 0], [0, 1]], [[1, 0], [0, 0]]]
