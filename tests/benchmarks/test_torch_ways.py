"""Torch's ways to a Jacobian give the same Jacobian, whatever the chunks."""

import pytest
import torch
from benchmarks.torch_ways import BATCHED, SINGLE, error, reference
from tests.corpora import generator, normal, seeded, settle
from torch import Tensor, nn


def network(*layers) -> nn.Module:
    g = generator("torch ways")
    return settle(seeded(lambda: nn.Sequential(*(layer() for layer in layers)).double(), g), g)


def convolutional() -> nn.Module:
    """With a norm and a reshaping that want a batch axis, and outputs that have more than one axis."""
    return network(lambda: nn.Conv2d(1, 2, 3), lambda: nn.BatchNorm2d(2), nn.Tanh, lambda: nn.Unflatten(1, (2, 1)))


@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize("way", BATCHED)
def test_every_way_gives_each_sample_its_jacobian(way: str, chunk: int | None):
    module, x = convolutional(), normal(generator(way), 4, 1, 4, 4)
    J = BATCHED[way](module, x, chunk)
    assert J.shape == (4, 8, 16)
    assert error(J, reference(module, x, batched=True)) < 1e-13


@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize("way", SINGLE)
def test_every_way_gives_the_jacobian_of_one_input(way: str, chunk: int | None):
    def f(x: Tensor) -> Tensor:
        return torch.sin(x).outer(x[:2]) * x.sum()

    x = normal(generator(way), 5)
    J = SINGLE[way](f, x, chunk)
    assert J.shape == (10, 5)
    assert error(J, reference(f, x, batched=False)) < 1e-13


def test_the_reference_is_the_matrix_of_a_linear_map():
    W = normal(generator("matrix"), 3, 4)
    x = normal(generator("points"), 2, 4)
    assert torch.equal(reference(lambda x: x @ W.T, x[0], batched=False), W)
    assert torch.equal(reference(lambda x: x @ W.T, x, batched=True), W.expand(2, 3, 4))


def test_errors_are_shares_of_the_largest_entry_and_read_sparse_tensors():
    true = torch.tensor([[0.0, 4.0], [1.0, 0.0]], dtype=torch.float64)
    found = torch.tensor([[0.0, 4.0], [2.0, 0.0]])
    assert error(found, true) == error(found.to_sparse(), true) == 0.25
