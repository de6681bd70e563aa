"""Samples of a batch that touch each other are found, and the operation that mixes them is named."""

import pytest
import torch
import torch.nn.functional as F
from tests.corpora import generator, normal, seeded, settle
from torch import nn
from torch.func import jacrev

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import jacobian, prepare_jacobian
from eitherway.calculus.jacobian.apart import must_be_apart
from eitherway.graph import capture

MIXING = {
    "flip": (lambda x: x.flip(0), "flip"),
    "mean of the batch": (lambda x: x - x.mean(0), "mean"),
    "softmax over the batch": (lambda x: x.softmax(0), "softmax"),
    "sum of all": (lambda x: x.sin() * x.sum(), "sum"),
    "the first sample": (lambda x: x * x[:1], "mul|slice"),
    "roll": (lambda x: (x.cos() + x.roll(1, 0)).exp(), "roll"),
    "cumulative sum": (lambda x: x.cumsum(0), "cumsum"),
    "attention over the batch": (lambda x: (x @ x.T).softmax(-1) @ x, "T|matmul|softmax"),
    "normalise over the batch": (lambda x: F.normalize(x, dim=0), "norm"),
    "sorted": (lambda x: x.sort(0).values, "sort"),
}


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("mode", ("auto", "chain", "reverse", "forward"))
def test_what_mixes_samples_is_refused_and_named(name, mode):
    f, named = MIXING[name]
    with pytest.raises(ModelError, match=f"({named})") as caught:
        jacobian(f, normal(generator(name), 4, 3), batched=True, mode=mode)
    if mode in ("auto", "reverse", "forward"):
        assert "samples of the batch touch each other" in str(caught.value)
        assert "take the whole with batched=False" in str(caught.value)


@pytest.mark.parametrize("mode", ("auto", "reverse", "forward"))
def test_a_norm_in_training_is_named_with_its_module(mode):
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), generator("norm")).double()
    x = normal(generator("norm"), 5, 3)
    with pytest.raises(ModelError, match=r"samples.*1 \(BatchNorm1d\), batch_norm.*in training mode.*\.eval\(\)"):
        jacobian(net, x, batched=True, mode=mode)
    assert jacobian(net.eval(), x, batched=True, mode=mode).shape == (5, 4, 3)


APART = {
    "layers": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU()), (4, 3)),
    "group norm in training": (lambda: nn.GroupNorm(2, 4).train(), (3, 4, 5)),
    "instance norm": (lambda: nn.InstanceNorm1d(2), (3, 2, 5)),
    "attention within a sample": (lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), (2, 3, 4)),
    "convolution and flatten": (lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten()), (3, 1, 6)),
}


@pytest.mark.parametrize("name", APART)
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # in what is compared with
def test_what_keeps_samples_apart_is_taken(name):
    build, shape = APART[name]
    g = generator(name)
    net, x = settle(seeded(build, g), g).double(), normal(g, *shape)
    found = jacobian(net, x, batched=True)
    expected = torch.stack([jacrev(lambda one: net(one[None])[0])(sample) for sample in x])
    assert found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-8, atol=1e-11)


def test_zeros_that_cancel_are_no_touch():
    assert jacobian(lambda x: x * 2 + 0 * x.detach().sum(), torch.ones(3, 2), batched=True).shape == (3, 2, 2)


def test_one_sample_cannot_touch_another():
    assert jacobian(lambda x: x.flip(0), torch.ones(1, 2), batched=True).shape == (1, 2, 2)


@pytest.mark.parametrize("batch", (2, 3, 5, 8))
def test_any_two_samples_that_touch_are_found(batch):
    x = normal(generator("pairs"), batch, 2)
    for i in range(batch):
        for j in range(batch):
            if i != j:
                mixing = torch.eye(batch, dtype=x.dtype)
                mixing[i, j] = 1e-3
                with pytest.raises(ModelError, match="samples of the batch touch each other"):
                    jacobian(lambda x, mixing=mixing: mixing @ x.sin(), x, batched=True, mode="reverse")


def test_without_a_graph_the_touch_is_still_found():
    with pytest.raises(ModelError, match="samples of the batch touch each other, so no sample"):
        must_be_apart(lambda x: x.flip(0), None, torch.ones(3, 2))
    must_be_apart(torch.sin, None, torch.ones(3, 2))
    must_be_apart(lambda x: torch.ones_like(x), capture(torch.ones_like, torch.ones(3, 2)), torch.ones(3, 2))


def test_a_plan_finds_a_touch_that_begins_later():
    def sometimes(x):
        return x.flip(0) if x.max() > 10 else x.sin()

    plan = prepare_jacobian(sometimes, torch.ones(3, 2), batched=True)
    with pytest.raises(ModelError, match="touch"):
        plan(torch.full((3, 2), 11.0))
