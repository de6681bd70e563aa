"""What networks that are ill are made of: modules with a fault, and changes that make a sound one ill."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tests.signal.diagnose.well import (
    labels,
    noise,
)
from torch import Tensor, nn


class Cut(nn.Module):
    """A gradient cut in the middle, one way or another."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.front, self.back = (
            nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()),
            nn.Linear(64, 10),
        )

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                h = self.front(x)
        else:
            h = self.front(x)
        if self.how == "detach":
            h = h.detach()
        elif self.how == "data":
            h = h.data
        elif self.how == "round":
            h = torch.round(h)
        return self.back(h)


class Branches(nn.Module):
    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.one, self.two, self.head = nn.Linear(20, 64), nn.Linear(20, 64), nn.Linear(64, 10)

    def forward(self, x):
        a = torch.relu(self.one(x))
        if self.how == "dropped":
            torch.relu(self.two(x))
        elif self.how == "detached":
            a = a + torch.relu(self.two(x)).detach()
        return self.head(a)


class LogOf(nn.Module):
    def __init__(self, how: str):
        super().__init__()
        self.how, self.body, self.head = how, nn.Sequential(nn.Linear(20, 32), nn.ReLU()), nn.Linear(32, 1)

    def forward(self, x):
        h = self.body(x)
        if self.how == "log":
            h = torch.log(h)
        elif self.how == "sqrt":
            h = h + torch.sqrt((h - h).square())  # forward fine, backward 0 x inf
        elif self.how == "exp":
            h = torch.exp(100 * h)
        elif self.how == "divide":
            h = h / h.sum(1, keepdim=True).relu().mul(0)
        return self.head(h)


class Deep(nn.Module):
    """Deep residual attention by hand without a scale on the scores."""

    def __init__(self, d=64, temperature=1.0):
        super().__init__()
        self.q, self.k, self.v, self.head = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, 10)
        self.norm, self.temperature = nn.LayerNorm(d), temperature
        with torch.no_grad():
            for part in (self.q, self.k, self.v):
                part.weight.copy_(noise(d, d, seed=d) / math.sqrt(d))

    def forward(self, x):
        h = self.norm(x)
        scores = self.q(h) @ self.k(h).transpose(-2, -1) * self.temperature
        return self.head((x + scores.softmax(-1) @ self.v(h)).mean(1))


class Pooling(nn.Module):
    """Pooled by weights that sum to one along an axis of (B, T, 1)."""

    def __init__(self, axis: int):
        super().__init__()
        self.axis, self.score, self.head = axis, nn.Linear(20, 1), nn.Linear(20, 10)

    def forward(self, x):
        return self.head((self.score(x).softmax(self.axis) * x).sum(1))


class Heads(nn.Module):
    """Attention of four heads whose weights sum to one along an axis of (B, H, T, T)."""

    def __init__(self, axis: int):
        super().__init__()
        self.axis, self.v, self.head = axis, nn.Linear(32, 32), nn.Linear(32, 5)
        self.q, self.k = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (4, 8)).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = (q @ k.transpose(-2, -1) / 8**0.5).softmax(self.axis) @ v
        return self.head((x + y.transpose(1, 2).flatten(2)).mean(1))


class Adapter(nn.Module):
    """A layer and a correction of low rank."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(20, 32), nn.Linear(32, 5)
        self.down, self.up = nn.Linear(20, 4, bias=False), nn.Linear(4, 32, bias=False)

    def forward(self, x):
        return self.head(torch.tanh(self.base(x) + self.up(self.down(x))))


def ill(model: nn.Module, change: Callable[[Any], Any]) -> nn.Module:
    with torch.no_grad():
        change(model)
    return model


def cnn_with_norms(batch_norm: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def freeze(part: nn.Module) -> None:
    part.requires_grad_(False)


def big_step(model: nn.Module, lr: float) -> nn.Module:
    """One step of gradient descent that is far too large."""
    x, y = noise(64, 20), labels(64)
    F.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for p in model.parameters():
            assert p.grad is not None
            p -= lr * p.grad
    model.zero_grad()
    return model


def signs(out: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(torch.sigmoid(out[:, 0]), labels(len(out), 2).float())
