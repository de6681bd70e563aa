"""Whatever is no parameter stays as it was, and parameters change in place, the same way every time."""

import copy

import pytest
import torch
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import MODELS, Odds, Resnet, mlp, numbers


def standing(model: nn.Module) -> dict:
    """Everything that must not change, by name."""
    found = {f"mode {name}": part.training for name, part in model.named_modules()}
    found |= {f"buffer {name}": b.clone() for name, b in model.named_buffers()}
    for name, p in model.named_parameters():
        found |= {f"tracks {name}": p.requires_grad, f"room {name}": p.data_ptr(), f"object {name}": id(p)}
        found[f"gradient {name}"] = None if p.grad is None else (id(p.grad), p.grad.clone())
    found["chance"] = torch.get_rng_state()
    return found


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple):
        return all(map(same, one, other))
    return one == other


def mixed_up(model: nn.Module, example) -> nn.Module:
    """In a state that nobody would guess: odd modes, gradients, a frozen part."""
    for k, part in enumerate(model.modules()):
        part.training = k % 2 == 0
    for k, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, 0.5) if k % 2 else None
    next(model.parameters()).requires_grad_(False)
    return model


@pytest.mark.parametrize("name", ["resnet", "gpt", "lstm", "odds", "post-norm transformer"])
def test_modes_buffers_gradients_and_generators_stay(name):
    model, example = MODELS[name]()
    mixed_up(model, example)
    before = standing(model)
    initialize_(model, example)
    after = standing(model)
    assert [key for key in before if not same(before[key], after[key])] == []


class Bound(nn.Module):
    """Buffers that every run binds to new tensors: a count, and a table that grows with what it is given."""

    def __init__(self):
        super().__init__()
        self.layer, self.length = nn.Linear(16, 4), 2
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("table", torch.ones(2))

    def forward(self, x):
        self.calls = self.calls + 1
        if len(x) > self.length:
            self.length, self.table = len(x), torch.ones(len(x))
        return self.layer(x) * self.table[: len(x), None]


def test_buffers_that_a_run_binds_anew_are_put_back_and_grown_tables_stay():
    model = Bound()
    calls = model.calls
    initialize_(model, numbers(8, 16))
    assert model.calls is calls and float(calls) == 0
    assert model(numbers(8, 16)).shape == (8, 4)  # the table is as long as the model believes


def test_a_refusal_half_way_leaves_everything_too():
    model = Resnet()
    model.head.forward = lambda x: 1 / 0  # type: ignore[method-assign]
    before, held = standing(model), copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError, match="ZeroDivisionError"):
        initialize_(model, numbers(4, 3, 8, 8))
    after = standing(model)
    assert all(same(before[key], after[key]) for key in before)
    assert all(torch.equal(held[key], now) for key, now in model.state_dict().items())


def test_an_error_while_drawing_leaves_the_parameters(monkeypatch):
    from eitherway.signal.initialize import start

    model, calls = mlp(16, 32, 32, 8), []

    def broken(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return torch.zeros(args[0].shape, dtype=torch.float64)

    monkeypatch.setattr(start, "content", broken)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt):
        initialize_(model, numbers(8, 16))
    assert all(torch.equal(before[key], now) for key, now in model.state_dict().items())


def test_the_surroundings_do_not_matter():
    plain, inside = mlp(*[16] * 14, act=nn.Tanh), mlp(*[16] * 14, act=nn.Tanh)
    initialize_(plain, numbers(32, 16))
    with torch.autocast("cpu"), torch.no_grad():
        initialize_(inside, numbers(32, 16))
    with torch.inference_mode():
        other = initialize_(inside, numbers(32, 16))
    assert other.layers[0].gradient > 0
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), inside.parameters()))


@pytest.mark.parametrize("name", ["deep", "resnet", "gpt", "lstm", "siamese", "odds", "post-norm transformer"])
def test_the_same_seed_gives_the_same_start_whatever_was_there_before(name):
    torch.manual_seed(0)
    one, example = MODELS[name]()
    torch.manual_seed(1)
    other, _ = MODELS[name]()
    kept = {entry.name for entry in initialize_(one, example).entries if entry.action == "kept"}
    other.load_state_dict({k: v for k, v in one.state_dict().items() if k in kept}, strict=False)
    initialize_(other, example)
    started = {name: p.clone() for name, p in one.named_parameters()}
    assert all(torch.equal(started[name], p) for name, p in other.named_parameters())
    initialize_(one, example)
    assert all(torch.equal(started[name], p) for name, p in one.named_parameters())
    report = initialize_(other, example, seed=1)
    drawn = [entry.name for entry in report.entries if entry.action == "drawn" and "bias" not in entry.name]
    assert drawn and not any(torch.equal(started[n], dict(other.named_parameters())[n]) for n in drawn)


def test_draws_do_not_depend_on_what_else_is_in_the_model():
    one, two = Odds(), Odds()
    del two.unused
    example = numbers(16, 6, 16)
    initialize_(one, example)
    initialize_(two, example)
    assert torch.equal(one.one.weight, two.one.weight) and torch.equal(one.head.weight, two.head.weight)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_parameter_stands_in_the_report(name):
    model, example = MODELS[name]()
    report = initialize_(model, example)
    assert [entry.name for entry in report.entries] == [name for name, _ in model.named_parameters()]
    parameters = dict(model.named_parameters())
    for entry in report.entries:
        parameter = parameters[entry.name].detach()
        assert entry.shape == tuple(parameter.shape) and entry.why
        if entry.action == "set" and entry.value == entry.value:
            assert bool((parameter == entry.value).all())
        if entry.action == "drawn":
            assert float(parameter.square().mean().sqrt()) == pytest.approx(entry.std, rel=0.2)
    assert set(report.lr_scales) == set(parameters)
    text, page = str(report), report._repr_html_()
    assert "why" in text and page.startswith("<p><b>initialize_")
    assert report.plot().get_ylabel() == "rms"
