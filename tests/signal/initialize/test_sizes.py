"""Every layer puts out what it should: rms 1, whatever the layer is and whatever its input went through."""

import math

import pytest
import torch
from torch import nn

from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import (
    MODELS,
    Gpt,
    Odds,
    Resnet,
    Siamese,
    SwiGlu,
    Words,
    mlp,
    numbers,
    residual,
    tokens,
)

F = nn.functional


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Bilinear(64, 64, 64)

    def forward(self, a, b):
        return self.map(a, b)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Transposed(nn.Module):
    """x @ W with W held as (in, out), and an einsum over heads."""

    def __init__(self):
        super().__init__()
        self.matrix, self.heads = nn.Parameter(torch.ones(48, 96)), nn.Parameter(torch.ones(4, 24, 32))

    def forward(self, x):
        h = torch.tanh(x @ self.matrix).unflatten(-1, (4, 24))
        return torch.einsum("bhi,hio->bho", h, self.heads)


LAYERS = {
    "linear": (lambda: nn.Linear(64, 128), (numbers(64, 64),)),
    "convolution": (lambda: nn.Conv2d(16, 64, 3), (numbers(8, 16, 9, 9),)),
    "padded": (lambda: nn.Conv2d(16, 64, 5, padding=2), (numbers(8, 16, 5, 5),)),
    "strided": (lambda: nn.Conv1d(16, 64, 4, stride=4), (numbers(8, 16, 32),)),
    "depthwise": (lambda: nn.Conv2d(256, 256, 3, groups=256), (numbers(4, 256, 7, 7),)),
    "grouped": (lambda: nn.Conv2d(64, 64, 3, groups=8), (numbers(8, 64, 8, 8),)),
    "transposed": (lambda: nn.ConvTranspose2d(64, 64, 2, stride=2), (numbers(8, 64, 6, 6),)),
    "overlapping transposed": (lambda: nn.ConvTranspose2d(64, 32, 4, 2, 1), (numbers(8, 64, 8, 8),)),
    "grouped transposed": (lambda: nn.ConvTranspose1d(64, 64, 4, 2, 1, groups=4), (numbers(8, 64, 16),)),
    "bilinear": (Bilinear, (numbers(32, 64), numbers(32, 64, seed=1))),
    "embedding": (lambda: nn.Embedding(200, 64), (tokens(200, 16, 32),)),
    "attention": (Attention, (numbers(16, 12, 64),)),
    "matrices": (Transposed, (numbers(64, 48),)),
    "large input": (lambda: mlp(64, 128, 64), (300 * numbers(64, 64),)),
    "one-hot": (lambda: nn.Linear(40, 256), (F.one_hot(tokens(40, 64), 40).float(),)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("data", [False, True])
def test_every_kind_of_layer_puts_out_rms_one(name, data):
    make, example = LAYERS[name]
    report = initialize_(make(), example, data=data, seed=3)
    measured = report.layers if data else initialize_(make(), example, seed=3).layers
    before = [layer.measured / layer.scaled for layer in measured]
    assert before == pytest.approx([1] * len(before), abs=0.1 if name == "attention" else 0.05)
    if data:
        assert [layer.measured for layer in report.layers] == pytest.approx([1] * len(before), abs=0.05)


def test_queries_and_keys_make_logits_of_order_one():
    model = Attention()
    initialize_(model, numbers(16, 12, 64))
    q, k, _ = F.linear(numbers(16, 12, 64, seed=5), model.attention.in_proj_weight.detach()).chunk(3, -1)
    q, k = (t.unflatten(-1, (4, 16)).transpose(1, 2) for t in (q, k))
    assert float((q @ k.mT / 4).detach().std()) == pytest.approx(1, abs=0.15)
    assert model.attention.in_proj_weight.detach().std().item() == pytest.approx(
        1 / 8, rel=0.05
    )  # not torch's 1 / sqrt(2) of it


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.Mish, nn.Hardtanh])
def test_weights_have_the_gain_of_what_they_read(act):
    from eitherway.signal.gain import moments

    model = mlp(64, 512, 512, 64, act=act)
    report = initialize_(model, numbers(64, 64), data=False)
    assert report["2.weight"].gain == pytest.approx(moments(act()).gain, rel=0.02)
    assert model[2].weight.std().item() == pytest.approx(report["2.weight"].std, rel=0.01)
    assert report["0.weight"].gain == pytest.approx(1, rel=0.05)


def test_a_gate_is_integrated_over_both_its_sources():
    model = SwiGlu()
    report = initialize_(model, numbers(64, 64), data=False)
    z = numbers(1_000_000).double()
    second = F.silu(z).square().mean()  # times E b^2 = 1
    assert report["down.weight"].gain == pytest.approx(float(second) ** -0.5, rel=0.01)
    assert report["gate.weight"].follows == "silu(a) * b"


@pytest.mark.parametrize("rule, size", [("sqrt", 0.25), ("zero", 0.0), ("fixup", 0.0)])
def test_residual_branches_follow_the_rule(rule, size):
    model = residual(128, 16)
    report = initialize_(model, numbers(64, 16), residual=rule)
    last = [layer for layer in report.layers if layer.name.endswith("two.weight")]
    stream = float(model[0](numbers(64, 16)).detach().square().mean().sqrt())
    assert [layer.measured for layer in last] == pytest.approx([size * stream] * 16, rel=0.1)
    if rule == "fixup":  # two weights a branch: 16^(-1 / 2)
        assert report["3.one.weight"].gain == pytest.approx(report["1.one.weight"].gain, rel=0.2)
        assert report.layers[1].predicted == pytest.approx(0.25)


def test_the_stream_doubles_its_variance_over_all_branches():
    model = residual(256, 30)
    initialize_(model, numbers(64, 16))
    x = numbers(64, 16, seed=7)
    growth = model[:-1](x).square().mean() / model[0](x).square().mean()
    assert 1.5 < float(growth.detach()) < math.e


def test_a_branch_that_ends_in_a_norm_is_scaled_there():
    report = initialize_(Resnet(4), numbers(16, 3, 8, 8))
    assert [report[f"blocks.{k}.bn2.weight"].value for k in range(4)] == [0.5] * 4
    assert report["blocks.0.bn1.weight"].value == 1
    assert "residual branches" in report["blocks.0.bn2.weight"].why


def test_embeddings_that_are_added_share_the_variance_and_tied_ones_serve_the_head():
    free, tied = Gpt(tied=False), Gpt()
    assert initialize_(free, tokens(50, 16, 12))["tokens.weight"].std == pytest.approx(0.5**0.5)
    report = initialize_(tied, tokens(50, 16, 12))
    assert report["tokens.weight"].std == pytest.approx(32**-0.5, rel=0.1)
    assert tied.head.weight is tied.tokens.weight
    assert report.layers[-1].measured == pytest.approx(1, abs=0.1)


def test_recurrent_cells_keep_their_state():
    model = Words()
    report = initialize_(model, tokens(40, 16, 10))
    for gate in model.cells.weight_hh_l0.detach().chunk(4):
        assert torch.allclose(gate @ gate.T, torch.eye(32), atol=1e-5)
    forget = model.cells.bias_ih_l0.detach().chunk(4)
    assert [float(part.mean()) for part in forget] == [0, 1, 0, 0]
    assert float(model.cells.bias_hh_l0.detach().abs().max()) == 0
    assert "Jozefowicz" in report["cells.bias_ih_l1"].why
    assert float(model.words.weight.detach()[0].abs().max()) == 0  # the padding row


def test_a_shared_weight_serves_all_its_uses():
    model = Siamese()
    a, b = numbers(64, 16), 9 * numbers(64, 16, seed=1)
    report = initialize_(model, (a, b))
    sizes = [layer.measured for layer in report.layers if layer.name == "tower.0.weight"]
    assert math.prod(sizes) == pytest.approx(1, rel=0.2) and sizes[1] > 5 * sizes[0]
    assert "shared by 2 uses" in report["tower.0.weight"].why


def test_what_is_no_weight_keeps_its_own_start_and_says_why():
    report = initialize_(Odds(), numbers(16, 6, 16))
    kept = {entry.name: entry.why for entry in report.entries if entry.action == "kept"}
    assert set(kept) == {"table", "scale", "temperature", "act.weight", "unused.weight", "unused.bias"}
    assert "never reads" in kept["unused.weight"] and "table" in kept["table"]


class Broken(nn.Module):
    """Made by torch.empty and never filled."""

    def __init__(self):
        super().__init__()
        self.one, self.scale = nn.Linear(16, 16), nn.Parameter(torch.full((16,), float("nan")))

    def forward(self, x):
        return self.one(x) * self.scale


def test_a_scale_that_holds_no_numbers_is_set():
    report = initialize_(Broken(), numbers(8, 16))
    assert report["scale"].value == 1 and "it held no usable numbers" in report["scale"].why


class Way(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.one(x) if x.sum() > 0 else self.two(x)
        return self.head(x.relu())


def test_of_a_model_that_branches_the_way_of_the_example_is_started():
    report = initialize_(Way(), numbers(8, 16).abs())
    assert report["one.weight"].action == "drawn" and report["two.weight"].action == "kept"
    assert any("what runs depends on values" in note and "test_sizes.py" in note for note in report.notes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_computed_wide_and_rounded_once(dtype):
    wide, model = mlp(64, 128, 64, 8), mlp(64, 128, 64, 8).to(dtype)
    x = numbers(32, 64)
    report = initialize_(model, x.to(dtype))
    initialize_(wide, x)
    assert all(p.dtype == dtype for p in model.parameters())
    assert [layer.measured for layer in report.layers] == pytest.approx([1] * 3, abs=0.05)
    for one, two in zip(model.parameters(), wide.parameters()):
        assert torch.allclose(one.float(), two.float(), rtol=0.03, atol=0.01)


def test_half_precision_does_not_overflow_on_large_inputs():
    model = mlp(64, 128, 8).half()
    report = initialize_(model, (3e4 * numbers(32, 64)).clamp(-6e4, 6e4).half())
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert report.layers[0].measured == pytest.approx(1, abs=0.05)


def test_one_sample_is_measured_and_not_rescaled():
    report = initialize_(mlp(16, 64, 8), numbers(1, 16))
    assert [layer.scaled for layer in report.layers] == [1, 1]
    assert any("spread and cosine are not available" in note for note in report.notes)
    assert math.isnan(report.cosine[0])


def test_a_batch_norm_on_one_sample_is_read_with_its_running_statistics():
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    report = initialize_(model, numbers(1, 16))
    assert any("norms were read with their running statistics" in note for note in report.notes)


def test_frozen_and_quantised_parameters_are_kept_and_named():
    model = mlp(16, 32, 8)
    model[0].weight.requires_grad_(False)
    model.register_parameter("codes", nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False))
    before = model[0].weight.clone()
    report = initialize_(model, numbers(32, 16))
    assert torch.equal(model[0].weight, before) and "frozen" in report["0.weight"].why
    assert "int8" in report["codes"].why


@pytest.mark.parametrize("name", list(MODELS))
def test_every_output_is_as_planned(name):
    model, example = MODELS[name]()
    report = initialize_(model, example)
    for layer in report.layers:
        if layer.predicted > 0 and layer.kind != "embedding":
            assert layer.measured == pytest.approx(layer.predicted, rel=0.2 if name == "siamese" else 0.1)
            assert layer.gradient > 0


def test_the_data_pass_is_undone_where_it_would_make_samples_worse(monkeypatch):
    from eitherway.signal.initialize import certify

    real, calls = certify._geometry, []

    def worse(*args):
        calls.append(1)
        found = real(*args)
        return found if len(calls) % 2 else certify._Geometry(found.cosine, found.spread * 100)

    monkeypatch.setattr(certify, "_geometry", worse)
    report = initialize_(mlp(16, 32, 8), numbers(8, 16))
    assert any("the data pass was undone: the samples' spread would grow" in note for note in report.notes)
    assert [layer.scaled for layer in report.layers] == [1, 1]


@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("act", [nn.Tanh, nn.Softsign])
def test_chance_in_a_head_of_few_units_does_not_undo_the_data_pass(act, units):
    for seed in range(6):
        report = initialize_(mlp(8, *[64] * 8, units, act=act), 2 * numbers(32, 8, seed=seed), seed=seed)
        assert not any("the data pass was undone" in note for note in report.notes)
        assert report.spread[1] <= 1.25 * report.spread[0]


class Batch(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = mlp(16, 32, 8)

    def forward(self, batch):
        return {"logits": self.one(batch["x"])}


def test_examples_may_be_keywords_or_a_batch_by_name():
    assert initialize_(Batch(), {"x": numbers(8, 16)}).layers[1].measured == pytest.approx(1, abs=0.05)
    assert initialize_(mlp(16, 32, 8), {"input": numbers(8, 16)}).layers[1].measured == pytest.approx(1, abs=0.05)
    assert initialize_(mlp(16, 32, 8), numbers(8, 16).numpy()).layers[1].measured == pytest.approx(1, abs=0.05)


def test_what_the_run_itself_writes_into_a_parameter_is_undone():
    model = nn.Sequential(nn.Embedding(20, 16, max_norm=1.0), nn.Linear(16, 8))
    before = model[0].weight.detach().clone()
    report = initialize_(model, tokens(20, 16), only="1")
    assert torch.equal(model[0].weight, before)
    assert report.layers[-1].measured == pytest.approx(1, abs=0.05)


class Adapter(nn.Module):
    """LoRA beside a frozen weight."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(16, 16).requires_grad_(False)
        self.down, self.up = nn.Linear(16, 4, bias=False), nn.Linear(4, 16, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def test_an_adapter_that_starts_silent_beside_a_frozen_weight_stays_silent():
    model = Adapter()
    report = initialize_(model, numbers(32, 16))
    assert report["up.weight"].action == "kept" and not bool(model.up.weight.any())
    assert "starts silent on purpose" in report["up.weight"].why and report["down.weight"].action == "drawn"


def test_an_example_of_zeros_is_noted_and_gives_plain_fans():
    report = initialize_(mlp(16, 64, 8), torch.zeros(8, 16))
    assert any("the example holds zeros alone" in note for note in report.notes)
    assert report["0.weight"].gain == pytest.approx(1)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, slope):
        return slope


class Between(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.one, self.two, self.function = nn.Linear(16, 64), nn.Linear(64, 8), function

    def forward(self, x):
        return self.two(self.function(self.one(x)))


@pytest.mark.parametrize(
    "function",
    [
        Straight.apply,
        lambda u: u + torch.rand_like(u),
        lambda u: F.softmax(u, -1),
        lambda u: torch.sin(30 * u),
        lambda u: u * torch.sigmoid(1.702 * u),
        lambda u: torch.where(u > 0, u, 0.1 * u.exp()),
        nn.RReLU(),
        nn.PReLU(64),
    ],
    ids=["straight through", "random", "softmax", "fast sine", "by hand", "where", "rrelu", "prelu"],
)
def test_functions_that_no_table_knows_are_read(function):
    report = initialize_(Between(function), numbers(64, 16))
    assert [layer.measured / layer.predicted for layer in report.layers] == pytest.approx([1, 1], abs=0.06)
