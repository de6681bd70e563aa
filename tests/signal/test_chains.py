"""Plain chains, no norm and no skip: what goes in comes out as large, as different, and so do gradients.

Chains are judged on inputs that they were not started on: a look at data makes any start look right on that data.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eitherway.signal.initialize import initialize_
from tests.corpora import generator, seeded


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky relu 0.01": nn.LeakyReLU,
    "leaky relu 0.2": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "celu": lambda: nn.CELU(0.5),
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "softplus": nn.Softplus,
    "logsigmoid": nn.LogSigmoid,
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": nn.Softshrink,
    "sin": Sine,
}
NO_EXACT_START = ("hardtanh", "softshrink")  # none is known: the best there is, and a note that says so
MIRRORED: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky relu": lambda: nn.LeakyReLU(0.2),
    "gelu": nn.GELU,
    "gelu, tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "softplus": nn.Softplus,
    "logsigmoid": nn.LogSigmoid,
}
PAIRS = 64


@dataclass(frozen=True)
class Signal:
    """What a chain does with unrelated inputs of rms 1 and unrelated gradients of rms 1 at its output."""

    error: float  # |rms of the output - 1|
    gradient: float  # rms of the gradient at the input
    cosine: float  # mean over pairs of unrelated inputs
    spread: float  # largest rms of a sample over the smallest


def unit(g: torch.Generator, rows: int, width: int) -> Tensor:
    """(rows, width): each row of rms 1."""
    x = torch.randn(rows, width, generator=g)
    return x / x.square().mean(dim=1, keepdim=True).sqrt()


def chain(activation: Callable[[], nn.Module], widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for inner, outer in zip(widths[1:], widths[2:]):
        layers += [activation(), nn.Linear(inner, outer)]
    return nn.Sequential(*layers)


def signal(model: nn.Module, width: int, seed: int) -> Signal:
    g = generator("judged on", seed)
    x = unit(g, 2 * PAIRS, width).requires_grad_()
    y = model(x)
    (gradient,) = torch.autograd.grad(y, x, unit(g, *y.shape))
    y, size = y.detach(), y.detach().square().mean(dim=1).sqrt()
    return Signal(
        error=abs(float(y.square().mean().sqrt()) - 1),
        gradient=float(gradient.square().mean().sqrt()),
        cosine=float(torch.cosine_similarity(y[:PAIRS], y[PAIRS:]).mean()),
        spread=float(size.max() / size.min()),
    )


def started(activation: Callable[[], nn.Module], width: int, depth: int, seed: int) -> tuple[nn.Module, object]:
    model = seeded(lambda: chain(activation, [width] * (depth + 1)), generator("chain", seed))
    return model, initialize_(model, unit(generator("started on", seed), 32, width), seed=seed)


def judge(activation: Callable[[], nn.Module], width: int, depth: int, seeds: range) -> None:
    """The criteria: of the outputs' size 9 draws in 10, of the rest the geometric mean or the mean over draws."""
    signals = [signal(started(activation, width, depth, seed)[0], width, seed) for seed in seeds]
    assert np.percentile([s.error for s in signals], 90) <= 0.05, signals
    assert 0.8 <= math.exp(np.mean([math.log(s.gradient) for s in signals])) <= 1.5, signals
    assert abs(np.mean([s.cosine for s in signals])) <= 0.05, signals
    assert max(s.spread for s in signals) < 2, signals


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "sigmoid"])
def test_a_chain_of_forty_layers_keeps_sizes_angles_and_gradients(name: str):
    judge(ACTIVATIONS[name], width=256, depth=40, seeds=range(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in NO_EXACT_START])
def test_a_chain_of_a_hundred_layers_keeps_sizes_angles_and_gradients(name: str):
    judge(ACTIVATIONS[name], width=512, depth=100, seeds=range(3))


@pytest.mark.slow
@pytest.mark.parametrize("name", NO_EXACT_START)
def test_where_no_exact_start_is_known_the_report_says_so(name: str):
    model, report = started(ACTIVATIONS[name], 512, 100, seed=0)
    kept = signal(model, 512, 0)
    assert all(map(math.isfinite, (kept.error, kept.gradient, kept.cosine, kept.spread)))
    assert kept.error < 1 and 1e-3 < kept.gradient < 1e3 and kept.spread < 10
    assert report.notes  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "softshrink"])
def test_no_module_is_exchanged_and_no_function_attached(name: str):
    model = seeded(lambda: chain(ACTIVATIONS[name], [64] * 9), generator(name))
    parts, text, entries = list(model.modules()), repr(model), list(model.state_dict())
    initialize_(model, unit(generator("started on"), 32, 64))
    assert all(one is other for one, other in zip(parts, model.modules(), strict=True))
    assert repr(model) == text and list(model.state_dict()) == entries
    assert not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)
    plain = chain(ACTIVATIONS[name], [64] * 9)
    plain.load_state_dict(model.state_dict())
    x = unit(generator("judged on"), 8, 64)
    assert torch.equal(plain(x), model(x))


def singular_values(model: nn.Module, x: Tensor) -> Tensor:
    """Of the Jacobian at one input x (D,), in float64."""
    rows = x.expand(len(x), -1).clone().requires_grad_()
    y = model(rows)
    (jacobian,) = torch.autograd.grad(y, rows, torch.eye(y.shape[1]))
    return torch.linalg.svdvals(jacobian.double())


def mirrored(name: str, depth: int, width: int = 64) -> Tensor:
    """The singular values at three inputs of a chain that is half as wide at its ends."""
    widths = [width // 2, *[width] * (depth - 1), width // 2]
    model = seeded(lambda: chain(MIRRORED[name], widths), generator(name))
    initialize_(model, unit(generator("started on"), 32, width // 2), scheme="mirror")
    return torch.stack([singular_values(model, x) for x in unit(generator("judged on"), 3, width // 2)])


@pytest.mark.parametrize("name", MIRRORED)
def test_mirrored_layers_are_an_orthogonal_map(name: str):
    values = mirrored(name, depth=50, width=32)
    assert torch.allclose(values, torch.ones_like(values), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", MIRRORED)
def test_a_thousand_mirrored_layers_are_an_orthogonal_map(name: str):
    values = mirrored(name, depth=1000)
    assert torch.allclose(values, torch.ones_like(values), atol=1e-3)
