"""The benchmarks of Jacobians and of fusing: what they count is what happened, and their targets name what they run."""

import math

import pytest
import torch
from benchmarks import fusing, jacobian, sparse
from tests.corpora.networks import FUSING, JACOBIANS
from torch import nn


def test_every_target_names_a_network_that_is_timed():
    assert set(jacobian.TARGETS) <= {network.name for network in JACOBIANS}
    assert set(fusing.TARGETS) <= {network.name for network in FUSING}


@pytest.mark.parametrize("network", JACOBIANS, ids=lambda network: network.name)
def test_one_sample_of_a_network_gives_the_output_it_has_in_the_batch(network):
    module, x = jacobian.case(network, batched=True, dtype=torch.float64)
    again, sample = jacobian.case(network, batched=False, dtype=torch.float64)
    assert torch.allclose(again(sample).flatten(), module(x)[0].flatten(), rtol=1e-12, atol=1e-12)


def test_the_tall_function_has_the_shape_that_was_asked_about():
    f, x = jacobian.residuals()
    assert (*f(x).shape, *x.shape) == (10_000, 1001)


def test_the_jacobian_of_each_sparse_function_is_mostly_zeros():
    for name, entry in sparse.FUNCTIONS.items():
        f = entry.build()
        x = torch.ones(entry.size)
        assert f is not entry.build(), name
        row = torch.autograd.functional.vjp(
            f, x, torch.nn.functional.one_hot(torch.tensor(0), f(x).numel()).view_as(f(x)) * 1.0
        )[1]
        assert 0 < int((row != 0).sum()) < x.numel() / 10, name  # type: ignore[union-attr]


def test_the_least_number_of_colours_is_the_densest_row_or_column():
    arrow = torch.eye(5, dtype=torch.bool)
    arrow[0, :] = True
    assert sparse.bound(arrow.to_sparse()) == 2
    assert sparse.bound(torch.ones(3, 4, dtype=torch.bool).to_sparse()) == 3


def test_what_the_corpus_says_is_counted_and_named():
    seen = {"can be tight": True, "true": 4, "missed": 0}
    entries = [
        {**seen, "name": "exact", "found": 4},
        {**seen, "name": "loose", "found": 6},
        {**seen, "name": "wrong", "found": 3, "missed": 1},
        {"name": "odd", "can be tight": None, "true": 1, "refused": "why"},
    ]
    text = sparse.corpus_text(entries)
    for piece in ("Missed a non-zero: 1 (wrong)", "sentence: 1 (odd)", "1, 25 %", "of the 3", "be: 1 (loose)"):
        assert piece in text


def test_layers_and_products_are_counted_as_they_run():
    shared = nn.Linear(3, 3)
    module, x = nn.Sequential(shared, nn.ReLU(), shared), torch.ones(5, 3)
    assert fusing.layers(module, x) == 2
    assert fusing.products(module, x) == 2 * 5 * 9


@pytest.mark.parametrize("name", fusing.WRONG)
def test_torch_fuse_is_wrong_where_the_page_says_so(name: str):
    assert fusing.wrong(name, ours=False)["fuse"] > 0.1


def test_misses_stand_in_bold():
    assert fusing.bold(1.5, 2) == "**1.50**" and fusing.bold(2.5, 2) == "2.50"
    row = {"network": "net", "batched": True, "best": "vmap(vjp)", "torch": 1e-3, "ours": 2e-3, "ratio": 0.5}
    row |= {"median ratio": 0.6, "errors": {p: {"torch": 1e-7, "ours": 1e-7} for p in ("float32", "float64")}}
    assert "**0.50**" in jacobian.prepared_table([row])
    assert "**0.50**" not in jacobian.prepared_table([{**row, "ratio": math.nan}])
    assert "**4.00**" in jacobian.first_table([{**row, "ratio": 4.0}])


def test_memory_beyond_the_fastest_way_or_the_budget_stands_in_bold():
    def row(ours: float, torch_way: float) -> dict:
        one = {"bytes": torch_way, "seconds": 1e-3, "why": "", "chunk": None}
        row = {"network": "net", "batched": False, "torch": {"jacrev": one}, "fastest": "jacrev", "smallest": "jacrev"}
        return {**row, "ours": {"bytes": ours, "seconds": 1e-3, "why": ""}}

    assert "**" not in jacobian.memory_table([row(20e6, 20e6)])
    assert "**30 MB**" in jacobian.memory_table([row(30e6, 20e6)])
    assert "**201 MB**" in jacobian.memory_table([row(201e6, 300e6)])
    assert "killed" in jacobian.memory_table([row(math.nan, 20e6) | {"ours": {"bytes": math.nan, "why": "killed"}}])
