"""`initialize_` on architectures as users write them: every parameter accounted for, nothing else touched, healthy.

Nothing here knows how a start is chosen; the laws are those any good start obeys.
"""

import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eitherway.signal.diagnose import diagnose
from eitherway.signal.initialize import initialize_
from tests.corpora.architectures import ARCHITECTURES, Architecture, answers, call, cost, matches, norm_parameters

BY_NAME = {entry.name: entry for entry in ARCHITECTURES}
each = pytest.mark.parametrize(
    "architecture",
    [pytest.param(entry, marks=[pytest.mark.slow] if entry.slow else []) for entry in ARCHITECTURES],
    ids=lambda entry: entry.name,
)
AGAIN = ("autoencoder", "GRU", "DCGAN generator", "residual MLP", "Perceiver")  # looked at twice in the fast suite
RESIDUAL = [entry for entry in ARCHITECTURES if entry.facts.branches]


@dataclass(frozen=True)
class Started:
    """A module after `initialize_`, and what was seen on the way. Nobody may change it."""

    module: nn.Module
    example: Any
    report: Any
    before: dict[str, Tensor]  # parameters and buffers, tied ones under each name
    changed: tuple[str, ...]  # what else was found changed, in words


def contents(module: nn.Module) -> dict[str, Tensor]:
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return {name: tensor.detach().clone() for name, tensor in named}


def chances() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return (torch.get_rng_state().tolist(), kind, np.asarray(keys).tolist(), rest, random.getstate())


@cache
def started(name: str, seed: int = 0, residual: str = "sqrt") -> Started:
    """An architecture of the corpus, started once for all tests that look at it."""
    module, example = BY_NAME[name].make()
    # one part evaluates and one parameter holds a gradient: the call finds and leaves them so
    parts, parameters = list(module.modules()), dict(module.named_parameters())
    held = next(iter(parameters))
    parts[-1].eval()
    parameters[held].grad = torch.full_like(parameters[held], 3.0)
    before, inputs = contents(module), [x.clone() for x in answers(example)]
    modes, chance = [part.training for part in parts], chances()
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts]
    report = initialize_(module, example, residual=residual, seed=seed)  # type: ignore[arg-type]
    after, now = contents(module), dict(module.named_parameters())
    grads = {n: p.grad for n, p in now.items() if p.grad is not None}
    facts = {
        "a buffer": all(torch.equal(after[n], before[n]) for n, _ in module.named_buffers()),
        "a mode": modes == [part.training for part in module.modules()],
        "the parts": all(one is other for one, other in zip(parts, module.modules(), strict=True)),
        "a hook": hooks == [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts],
        "the parameters": list(now) == list(parameters) and all(now[n] is parameters[n] for n in now),
        "requires_grad": all(p.requires_grad for p in now.values()),
        "a gradient": list(grads) == [held] and bool((grads[held] == 3.0).all()),
        "a type or shape": all(after[n].dtype == t.dtype and after[n].shape == t.shape for n, t in before.items()),
        "the example": all(torch.equal(x, y) for x, y in zip(inputs, answers(example))),
        "a global generator": chances() == chance,
    }
    parameters[held].grad = None
    return Started(module, example, report, before, tuple(word for word, kept in facts.items() if not kept))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@each
def test_every_parameter_is_in_the_report_once(architecture: Architecture):
    s = started(architecture.name)
    named = {name: tuple(parameter.shape) for name, parameter in s.module.named_parameters()}
    entries = {entry.name: entry for entry in s.report.entries}
    assert len(entries) == len(s.report.entries)
    assert set(entries) == set(named)
    assert all(tuple(entry.shape) == named[name] for name, entry in entries.items())
    assert all(s.report[name] is entry for name, entry in entries.items())
    assert all(entry.why for entry in entries.values())


@each
def test_what_the_report_calls_kept_is_unchanged_and_drawn_is_drawn(architecture: Architecture):
    s = started(architecture.name)
    for name, parameter in s.module.named_parameters():
        action = s.report[name].action
        assert action in ("drawn", "set", "kept"), name
        assert torch.isfinite(parameter).all(), name
        if action == "kept":
            assert torch.equal(parameter, s.before[name]), name
        elif action == "drawn":
            assert parameter.unique().numel() > 1 and not torch.equal(parameter, s.before[name]), name


@each
def test_only_parameters_change(architecture: Architecture):
    assert started(architecture.name).changed == ()


@each
def test_weights_are_drawn_and_norms_are_not(architecture: Architecture):
    s = started(architecture.name)
    norms = norm_parameters(architecture, s.module)
    assert all(s.report[name].action != "drawn" for name in norms)
    assert all(s.module.get_parameter(name).unique().numel() == 1 for name in norms)
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Bilinear)
    weights = {id(part.weight) for part in s.module.modules() if isinstance(part, layers)}
    for name, parameter in s.module.named_parameters():
        if id(parameter) in weights and not matches(name, architecture.facts.unread):
            assert s.report[name].action == "drawn", name


@each
def test_tied_parameters_stay_tied(architecture: Architecture):
    module = started(architecture.name).module
    for one, *others in architecture.facts.tied:
        assert all(module.get_parameter(one) is module.get_parameter(other) for other in others)


@each
def test_one_seed_gives_one_start_whatever_stood_there_and_another_gives_another(architecture: Architecture):
    s = started(architecture.name)
    other, _ = architecture.make(seed=1)
    named = dict(other.named_parameters())
    with torch.no_grad():
        for name, parameter in named.items():
            if s.report[name].action == "kept":
                parameter.copy_(s.before[name])
    initialize_(other, s.example, overwrite=True)
    assert same(other, s.module)
    initialize_(other, s.example, overwrite=True, seed=1)
    drawn = [name for name in named if s.report[name].action == "drawn"]
    assert drawn and [n for n in drawn if torch.equal(named[n], s.module.get_parameter(n))] == []


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(entry, marks=[] if entry.name in AGAIN else [pytest.mark.slow]) for entry in ARCHITECTURES],
    ids=lambda entry: entry.name,
)
def test_a_started_model_is_not_taken_for_a_trained_one_and_starts_again_alike(architecture: Architecture):
    s = started(architecture.name)
    module, example = architecture.make()
    module.load_state_dict(s.module.state_dict())
    initialize_(module, example)
    assert same(module, s.module)


@each
def test_outputs_are_finite_and_heads_put_out_about_1(architecture: Architecture):
    """The example itself was looked at, so what is left is weights that serve twice, and the chance of dropout: 0.3.

    Dropout was looked at resting; at 0.5, the largest in the corpus, it doubles the mean square of what it passes on.
    """
    s = started(architecture.name)
    given: dict[str, list[Tensor]] = {}
    hooks = [
        s.module.get_submodule(head).register_forward_hook(
            lambda _, __, output, head=head: given.setdefault(head, []).append(output.detach())
        )
        for head in architecture.facts.heads
    ]
    outputs = answers(call(s.module, s.example))
    for hook in hooks:
        hook.remove()
    assert all(torch.isfinite(y).all() for y in outputs)
    assert set(given) == set(architecture.facts.heads)
    for head, uses in given.items():
        rms = float(torch.cat([y.flatten() for y in uses]).square().mean().sqrt())
        assert 0.7 <= rms <= 1.3 * (2**0.5 if architecture.facts.draws else 1.0), head


def gradients(architecture: Architecture, module: nn.Module, example: Any) -> dict[str, float]:
    """The rms of the gradient to each parameter; 0 where none arrives."""
    named = dict(module.named_parameters())
    loss = cost(architecture, call(module, example))
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: 0.0 if g is None else float(g.square().mean().sqrt()) for n, g in zip(named, found)}


def reached_by_default(architecture: Architecture) -> set[str]:
    """Parameters that a gradient reaches under torch's own start, rounding noise left out (a bias of keys)."""
    found = gradients(architecture, *architecture.make())
    return {name for name, size in found.items() if size > 1e-6 * max(found.values())}


@each
def test_gradients_arrive_wherever_they_did(architecture: Architecture):
    s = started(architecture.name)
    found = gradients(architecture, s.module, s.example)
    assert all(np.isfinite(size) for size in found.values())
    assert {name for name in reached_by_default(architecture) if not found[name]} == set()


@pytest.mark.parametrize("residual", ["zero", "fixup"])
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(e, marks=[] if e.name in ("ResNet", "LLaMA") else [pytest.mark.slow]) for e in RESIDUAL],
    ids=lambda entry: entry.name,
)
def test_branches_that_start_at_zero_cut_gradients_inside_themselves_alone(architecture: Architecture, residual: str):
    """What ends a branch gets a gradient, or the branch never opens: a ReLU behind it passes none at 0.

    Where that forbids a start at 0, or a learned scale keeps branches small already, the report says so.
    """
    facts, s = architecture.facts, started(architecture.name, residual=residual)
    found = gradients(architecture, s.module, s.example)
    cut = {name for name, size in found.items() if not size and not matches(name, facts.unread)}
    inside = {name for name in found if matches(name, facts.branches)}
    closed = {name for name in inside if "bias" not in name and not s.module.get_parameter(name).any()}
    behind = {"patch_embed.weight", "patch_embed.bias"}  # of the ViT: its class token reads patches by branches alone
    told = any("would get no gradient from 0" in n or "residual= changes nothing" in n for n in s.report.notes)
    assert (closed or told) and cut <= inside | behind
    assert {name for name in closed if not found[name] and not matches(name, facts.unread)} == set()


@each
def test_a_started_architecture_is_healthy(architecture: Architecture):
    s = started(architecture.name)
    diagnosis = diagnose(s.module, s.example, architecture.loss)
    unread = architecture.facts.unread
    alarms = [
        verdict
        for verdict in diagnosis.verdicts
        if verdict.severity == "alarm"
        and not (
            verdict.kind == "no gradient"
            and all(matches(name, unread) or matches(f"{name}.weight", unread) for name in verdict.layers)
        )
    ]
    assert [(verdict.kind, verdict.layers, verdict.cause) for verdict in alarms] == []
    assert diagnosis.healthy or unread


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["kaiming", "lecun", "xavier", "orthogonal", "edge", "torch"])
@pytest.mark.parametrize(
    "name", ["VGG", "ResNet", "U-Net", "GPT", "LLaMA", "LSTM", "DCGAN generator", "two towers", "MLP-Mixer"]
)
def test_a_scheme_asked_for_by_name_starts_every_parameter(name: str, scheme: str):
    module, example = BY_NAME[name].make()
    report = initialize_(module, example, scheme=scheme)  # type: ignore[arg-type]
    assert {entry.name for entry in report.entries} == {name for name, _ in module.named_parameters()}
    assert all(torch.isfinite(y).all() for y in answers(call(module, example)))
