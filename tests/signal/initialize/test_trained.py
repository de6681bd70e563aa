"""A trained model is not overwritten unawares; no fresh one, however it was started, is taken for trained."""

import pytest
import torch
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.signal.initialize import initialize_
from eitherway.signal.initialize.trained import evidence, smeared, structured
from tests.signal.initialize.models import MODELS, Resnet, mlp, numbers

F = nn.functional


def learned(model: nn.Module, shape: tuple[int, ...], lr: float = 1e-3, steps: int = 150) -> nn.Module:
    """Trained on a rule that has to be found: which of ten patterns is in the noise."""
    chance = torch.Generator().manual_seed(0)
    patterns = torch.randn(10, *shape, generator=chance)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        y = torch.randint(10, (64,), generator=chance)
        x = patterns[y] + 0.5 * torch.randn(64, *shape, generator=chance)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model.requires_grad_()


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: mlp(64, 32, 10), (64,)),
        (lambda: mlp(64, 64, 64, 10, act=nn.GELU), (64,)),
        (lambda: mlp(64, 128, 10, act=nn.Tanh), (64,)),
        (small_cnn, (1, 8, 8)),
    ],
)
def test_a_trained_model_is_refused_unless_it_shall_be_overwritten(make, shape):
    torch.manual_seed(0)
    model = learned(make(), shape)
    held = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(ModelError, match="this model looks trained: .* initialize_ would overwrite it"):
        initialize_(model, numbers(8, *shape))
    assert all(torch.equal(held[name], p) for name, p in model.named_parameters())
    report = initialize_(model, numbers(8, *shape), overwrite=True)
    assert report["0.weight"].action == "drawn" and not torch.equal(held["0.weight"], model[0].weight)


def test_statistics_of_many_batches_are_evidence_and_those_of_a_try_are_not():
    model = Resnet()
    for _ in range(2):
        model(numbers(8, 3, 8, 8))
    initialize_(model, numbers(8, 3, 8, 8))
    for _ in range(8):
        model(numbers(8, 3, 8, 8))
    with pytest.raises(ModelError, match="has seen 10 batches \\(num_batches_tracked\\)"):
        initialize_(model, numbers(8, 3, 8, 8))
    report = initialize_(model, numbers(8, 3, 8, 8), overwrite=True)
    assert any("keep the running statistics of the old weights: reset_running_stats()" in note for note in report.notes)


def test_scales_of_norms_that_differ_are_evidence():
    norm = nn.LayerNorm(32)
    with torch.no_grad():
        norm.weight.add_(numbers(32), alpha=0.05)
        norm.bias.add_(numbers(32, seed=1), alpha=0.05)
    model = nn.Sequential(nn.Linear(16, 32), norm, nn.Linear(32, 4))
    with pytest.raises(ModelError, match="has scales that differ from channel to channel"):
        initialize_(model, numbers(8, 16))


def test_only_judges_the_part_that_would_be_started():
    torch.manual_seed(0)
    model = learned(mlp(64, 64, 64, 10), (64,))
    model[4] = nn.Linear(64, 10)
    body = [p.clone() for p in model[:4].parameters()]
    report = initialize_(model, numbers(32, 64), only="4.*")
    assert [entry.name for entry in report.entries if entry.action != "kept"] == ["4.weight", "4.bias"]
    assert all(torch.equal(one, two) for one, two in zip(body, model[:4].parameters()))
    assert report.layers[-1].measured == pytest.approx(1, abs=0.05)


def sparse(weight):
    return nn.init.sparse_(weight, 0.2)


def gates(weight):
    for part in weight.chunk(4):
        nn.init.orthogonal_(part)
    return weight


def padded(weight):
    nn.init.normal_(weight)
    weight[0] = 0
    return weight


STARTS = {
    "normal": nn.init.normal_,
    "small normal": lambda w: nn.init.normal_(w, 0, 0.02),
    "truncated": lambda w: nn.init.trunc_normal_(w, std=0.02),
    "uniform": nn.init.uniform_,
    "xavier": nn.init.xavier_uniform_,
    "xavier normal": nn.init.xavier_normal_,
    "kaiming": nn.init.kaiming_normal_,
    "kaiming uniform": lambda w: nn.init.kaiming_uniform_(w, a=5**0.5),
    "orthogonal": nn.init.orthogonal_,
    "sparse": sparse,
    "eye": nn.init.eye_,
    "zeros": nn.init.zeros_,
    "ones": nn.init.ones_,
    "constant": lambda w: nn.init.constant_(w, 0.3),
    "gates": gates,
    "padded": padded,
}


@pytest.mark.parametrize("shape", [(12, 12), (10, 32), (64, 300), (128, 8)])
@pytest.mark.parametrize("start", STARTS)
def test_no_known_start_looks_trained(start, shape):
    for seed in range(2):
        torch.manual_seed(seed)
        weight = torch.empty(shape)
        with torch.no_grad():
            STARTS[start](weight)
        assert structured(weight) == "" and smeared(weight) == ""


@pytest.mark.parametrize("size", [0.9, 1.0, 1.05, 1.2, 1.6, 2.4])
@pytest.mark.parametrize("shape", [(20, 32), (64, 64), (256, 128)])
def test_uniform_laws_of_any_size_do_not_look_smeared(size, shape):
    for seed in range(5):
        bound = size * shape[1] ** -0.5
        weight = torch.empty(shape).uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
        assert smeared(weight) == ""
        assert smeared(0.577 * bound * numbers(*shape, seed=seed)) == ""
        moved = weight + 0.05 * bound * numbers(*shape, seed=seed)
        assert size != 1.0 or moved.numel() < 4000 or "lies beyond" in smeared(moved)


def test_kernels_of_known_starts_do_not_look_trained():
    for start in (nn.init.dirac_, nn.init.kaiming_normal_, nn.init.orthogonal_):
        weight = torch.empty(32, 16, 3, 3)
        start(weight)
        assert structured(weight) == ""


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("law", ["torch's", "all normal", "dcgan"])
def test_fresh_models_are_not_taken_for_trained(name, law):
    torch.manual_seed(0)
    model, _ = MODELS[name]()
    for part in model.modules():
        for leaf, p in part._parameters.items():
            if p is None or law == "torch's":
                continue
            if law == "all normal":
                nn.init.normal_(p, 0, 0.02)
            elif "norm" in type(part).__name__.lower():
                nn.init.normal_(p, 1, 0.02) if leaf == "weight" else nn.init.zeros_(p)
            else:
                nn.init.normal_(p, 0, 0.02)
    weights = [(n, p) for n, p in model.named_parameters() if p.dim() > 1]
    assert evidence(model, weights) == []


@pytest.mark.parametrize("scheme", ["auto", "mirror", "shaped", "window", "orthogonal", "edge", "torch"])
def test_our_own_starts_may_be_started_again(scheme):
    model = mlp(16, 33, 64, 32, 8, act=nn.GELU)
    initialize_(model, numbers(32, 16), scheme)
    initialize_(model, numbers(32, 16))


@pytest.mark.parametrize("act", [nn.GELU, nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("ours", [True, False])
def test_steps_of_an_optimiser_are_counted_where_the_weights_show_nothing(act, ours):
    torch.manual_seed(0)
    model = mlp(20, 64, 64, 5, act=act)
    if ours:
        for seed in range(40):
            initialize_(model, numbers(64, 20), seed=seed)
    else:
        for part in model:
            if isinstance(part, nn.Linear):
                nn.init.kaiming_normal_(part.weight)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(40):
        if step == 12:
            with pytest.raises(ModelError, match="gradients stand beside parameters that were written in place 1"):
                initialize_(model, numbers(64, 20))
        optimizer.zero_grad()
        F.mse_loss(model(numbers(64, 20)), numbers(64, 5)).backward()
        optimizer.step()
    model.zero_grad()
    with pytest.raises(ModelError, match="its parameters were written in place 4. times .*as an optimiser does"):
        initialize_(model, numbers(64, 20))
    initialize_(model, numbers(64, 20), overwrite=True)
    initialize_(model, numbers(64, 20))


def test_weights_that_were_filled_row_by_row_are_fresh():
    model = nn.Sequential(nn.Conv2d(1, 64, 3, bias=False), nn.ReLU(), nn.Conv2d(64, 64, 3, bias=False))
    nn.init.dirac_(model[2].weight)
    with torch.no_grad():
        for row in model[0].weight:
            row.normal_()
    model.load_state_dict(model.state_dict())
    initialize_(model.double().float(), numbers(8, 1, 8, 8))
