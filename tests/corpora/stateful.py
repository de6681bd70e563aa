"""Faults of chance and memory: calls that disagree, or that change what earlier calls gave."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.corpora.fault import Fault, fresh, net, on


class Cached:
    """Gives its first answer for ever."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.last is None:
            self.last = x.sin()
        return self.last


class Counting:
    """Multiplies by the number of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class Averaging(nn.Module):
    """Divides by a running mean of magnitudes, moved by every call."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 0.5 * self.scale + 0.5 * x.detach().abs().mean()
        return x / self.scale


class Buffered:
    """Answers with a view of one buffer: a later call changes an earlier answer."""

    def __init__(self) -> None:
        self.buffer = torch.zeros(9, dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        self.buffer = self.buffer.detach()
        self.buffer[: len(x)] = x.sin()
        return self.buffer[: len(x)]


class Recomputed:
    """Recomputes for backward with another scale than forward had."""

    def __init__(self) -> None:
        self.scale = 1.0

    def part(self, x: Tensor) -> Tensor:
        self.scale *= 2
        return (x.sin() * self.scale) ** 2

    def __call__(self, x: Tensor) -> Any:
        self.scale = 1.0
        return checkpoint(self.part, x, use_reentrant=False)


class Noisy:
    """Adds noise from a generator of its own."""

    def __init__(self) -> None:
        self.g = torch.Generator().manual_seed(5)

    def __call__(self, x: Tensor) -> Tensor:
        return x * torch.randn(x.shape, generator=self.g, dtype=x.dtype)


def spectral() -> nn.Module:
    return parametrizations.spectral_norm(nn.Linear(6, 5))


def dropped() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 6))


CHANCE = (
    Fault(
        "dropout in training mode",
        net(dropped, 4, 6, train=True),
        "random",
        "[dD]ropout|bernoulli",
        "masks are drawn anew",
    ),
    Fault("noise", on(lambda x: x + torch.randn_like(x), 6), "random", "randn", "normal noise of the global generator"),
    Fault("noise of its own", fresh(Noisy, 6), "random", "randn|Noisy|normal", "another generator than the global one"),
    Fault("RReLU in training mode", net(nn.RReLU, 20, train=True), "random", "RReLU|rrelu", "slopes are drawn anew"),
    Fault("random choice", on(lambda x: x[torch.randint(6, (3,))], 6), "random", "randint", "entries are drawn anew"),
    Fault(
        "hard Gumbel softmax",
        on(lambda x: F.gumbel_softmax(x, hard=True), 9, 6),
        "random",
        "gumbel|exponential",
        "drawn",
    ),
    Fault("stale cache", fresh(Cached, 5), "state", r"Cached|cache|state\b", "the first answer is given for ever"),
    Fault(
        "counter",
        fresh(Counting, 5),
        "state",
        r"Counting|state\b|two calls|called twice",
        "every call multiplies by one more",
    ),
    Fault("running scale", fresh(Averaging, 5), "state", r"Averaging|scale|state\b", "every call moves the scale"),
    Fault("view of a buffer", fresh(Buffered, 5), "state", r"Buffered|buffer|state\b", "answers share one memory"),
    Fault(
        "spectral norm in training mode",
        net(spectral, 3, 6, train=True),
        "state",
        "[sS]pectral_?[nN]orm|buffer|_u",
        "every call is one step of the power iteration",
    ),
    Fault("checkpoint with a state", fresh(Recomputed, 5), "hook", "checkpoint|Recomputed", "recomputed with 4 for 2"),
)
