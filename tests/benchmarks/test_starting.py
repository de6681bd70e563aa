"""The benchmarks on starting networks: rivals start as their papers say, chains are measured as modules compute."""

import json
import math

import pytest
import torch
from benchmarks import chains, depth_pages, digits, initialized, kept, starting
from benchmarks.activations import ACTIVATIONS, chain
from benchmarks.depth_pages import Cell, Wanted
from torch import Generator, nn


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def draws() -> chains.Draws:
    return chains.Draws(4, 0)


@pytest.fixture(scope="module")
def given() -> chains.Batches:
    return chains.batches(0)


def small(activation: str = "gelu") -> nn.Sequential:
    return chain([nn.Linear(32, 32) for _ in range(5)], ACTIVATIONS[activation])


def test_lsuv_leaves_orthogonal_directions_and_unit_variance():
    model, batch = small(), torch.randn(64, 32, generator=seeded())
    starting.lsuv_(model, batch, seeded(1))
    x = batch
    for part in model:
        x = part(x).detach()
        if isinstance(part, nn.Linear):
            assert abs(float(x.var()) - 1.0) < 0.1
            gram = part.weight @ part.weight.T
            torch.testing.assert_close(gram / gram[0, 0], torch.eye(32), atol=1e-5, rtol=0.0)


def test_lsuv_of_chains_is_lsuv_of_modules(draws, given):
    layers = chains.lsuv(draws, ACTIVATIONS["tanh"], given.data)
    x = given.data
    for i, layer in enumerate(layers):
        x = chains.through([layer], nn.Identity(), torch.tanh(x) if i else x)
        assert abs(float(x.var()) - 1.0) < 0.1


def test_the_default_start_has_the_variances_of_reset_parameters():
    ours, torchs = nn.Linear(400, 300), nn.Linear(400, 300)
    starting.default(ours, seeded())
    for mine, theirs in zip(ours.state_dict().values(), torchs.state_dict().values(), strict=True):
        assert float(mine.abs().max()) <= 400**-0.5
        assert float(mine.std()) == pytest.approx(float(theirs.std()), rel=0.2)


def test_kaiming_and_orthogonal_have_the_gain_from_the_second_layer_on():
    model = chain([nn.Linear(256, 256) for _ in range(3)], ACTIVATIONS["tanh"])
    for start in (starting.kaiming, starting.orthogonal):
        start(model, seeded(), ACTIVATIONS["tanh"])
        sizes = [
            float(part.weight.detach().pow(2).mean() * 256) ** 0.5 for part in model if isinstance(part, nn.Linear)
        ]
        assert sizes == pytest.approx([1.0, 5 / 3, 5 / 3], rel=0.02)


def test_a_chain_of_matrices_computes_what_the_module_computes(given):
    model = chain([nn.Linear(chains.WIDTH, chains.WIDTH) for _ in range(3)], ACTIVATIONS["silu"])
    y = chains.through(chains.of_model(model), nn.SiLU(), given.judged)
    torch.testing.assert_close(y, model(given.judged), atol=1e-6, rtol=1e-5)


def test_an_orthogonal_linear_chain_meets_every_mark(draws, given):
    layers = chains.suo(draws, ACTIVATIONS["relu"], given.data)
    found = depth_pages.summary([dict(chains.measure(layers, nn.Identity(), given))])
    assert found["met"]
    assert found["error"] < 1e-5
    assert found["worst"] == pytest.approx(1.0, abs=1e-5)


def test_overflow_meets_no_mark(draws, given):
    layers = [layer._replace(factor=1e20) for layer in chains.suo(draws, ACTIVATIONS["relu"], given.data)]
    measured = chains.measure(layers, nn.Identity(), given)
    assert measured["error"] == measured["gradient"] == math.inf
    assert not depth_pages.summary([dict(measured)])["met"]


def test_one_bad_seed_of_gradients_is_enough_to_miss_the_mark():
    good = {"error": 0.01, "own": 0.0, "gradient": 1.0, "cosine": 0.0, "spread": 1.1}
    assert depth_pages.summary([good] * 10)["met"]
    assert not depth_pages.summary([good] * 9 + [{**good, "gradient": 1.6}])["met"]
    assert not depth_pages.summary([good] * 9 + [{**good, "unchanged": False}])["met"]
    assert depth_pages.summary([good] * 19 + [{**good, "error": 0.2}])["met"]  # the 90th percentile forgives one


def test_a_replaced_module_and_a_hook_are_changes():
    model = small()
    before = chains.description(model)
    starting.default(model, seeded())
    assert chains.description(model) == before
    model[1].register_forward_hook(lambda *_: None)
    assert chains.description(model) != before
    other = small()
    before = chains.description(other)
    other[1] = nn.GELU()
    assert chains.description(other) != before


def test_denormals_are_flushed_inside_only():
    tiny = torch.full((1,), 1e-40)
    with chains.without_denormals():
        assert float(tiny + tiny) == 0.0
    assert float(tiny + tiny) > 0.0


def test_kept_cells_are_found_again_by_the_code_that_measured_them(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "CACHE", tmp_path)
    cell = Cell(100, "LSUV", "relu", 0)
    kept.Kept("some", Cell, lambda _: "one").add(cell, {"error": math.inf})
    assert kept.Kept("some", Cell, lambda _: "one").cells == {cell: {"error": math.inf}}
    assert kept.Kept("some", Cell, lambda _: "two").cells == {}
    stale = kept.Kept("some", Cell, lambda _: "two", stale=True)
    assert stale.cells == {cell: {"error": math.inf}}
    assert "1 of 1 cells" in stale.confession()[0]
    stale.add(cell, {"error": 0.0})
    assert stale.confession() == kept.Kept("some", Cell, lambda _: "two").confession() == []
    # what its own version measured comes first
    assert kept.Kept("some", Cell, lambda _: "one", stale=True).cells == {cell: {"error": math.inf}}


def test_a_chain_has_the_same_bits_whenever_it_is_started_and_others_by_other_schemes():
    first = initialized.same_weights("gelu", 12, "auto")
    initialized.same_weights.cache_clear()
    assert initialized.same_weights("gelu", 12, "auto") == first
    assert (
        initialized.same_weights("gelu", 12, "kaiming") != first != initialized.same_weights("relu", 12, "orthogonal")
    )


def test_pages_show_what_was_run_and_are_strict_json():
    measured = {"error": math.inf, "own": 0.0, "gradient": 0.0, "cosine": math.nan, "spread": math.inf}
    cells = {Cell(100, "LSUV", "relu", 0): measured, Cell(100, "dks", "relu", 0): {"why": "unknown to it"}}
    parts, raw = depth_pages.pages(Wanted([100], ["LSUV", "dks"], ["relu", "gelu"], [0]), cells)
    assert "inf / 0 / nan / inf" in "\n".join(parts)
    assert json.loads(json.dumps(raw, allow_nan=False))["100"]["LSUV"]["relu"]["error"] == "inf"


def test_the_splits_of_the_digits_share_no_image():
    pytest.importorskip("sklearn")
    parts = digits.split(3)
    sizes = [len(images) for images, _ in parts]
    assert sum(sizes) == 1797
    assert sizes[0] / 1797 == pytest.approx(0.6, abs=1e-3)
    train = {tuple(row) for row in parts.train[0].tolist()}
    assert not train & {tuple(row) for part in (parts.validation, parts.test) for row in part[0].tolist()}
    assert float(parts.train[0].std(0).max()) == pytest.approx(1.0, abs=1e-4)
