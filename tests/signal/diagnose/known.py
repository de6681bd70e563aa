"""Well-known architectures at their customary starts, and faults in other dress, for the tests of `diagnose`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tests.signal.diagnose.parts_ill import cnn_with_norms, ill
from tests.signal.diagnose.well import (
    CE,
    Language,
    Recurrent,
    ResNet,
    chain,
    draw,
    he,
    ids,
    images,
    labels,
    language_loss,
    noise,
)
from torch import nn


class GPT(Language):
    """GPT-2's start: std 0.02, the ends of branches by 1 / sqrt(2 L), the head tied to the table."""

    def __init__(self):
        super().__init__(d=64, layers=4, std=0.02, length=32)
        for block in self.blocks:
            for weight in (block.proj.weight, block.out.weight):
                nn.init.normal_(weight, 0, 0.02 / math.sqrt(8))
        self.head.weight = self.token.weight


class BERT(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.position, self.norm = (
            nn.Embedding(100, 64, padding_idx=0),
            nn.Embedding(32, 64),
            nn.LayerNorm(64),
        )
        layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, activation="gelu")
        self.body, self.head = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), nn.Linear(64, 2)
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, 0, 0.02)

    def forward(self, x):
        h = F.dropout(self.norm(self.token(x) + self.position(torch.arange(x.shape[1]))), 0.1, self.training)
        return self.head(torch.tanh(self.body(h, src_key_padding_mask=x.eq(0))[:, 0]))


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Gated(nn.Module):
    """A block as LLaMA's: RMSNorm by hand, attention, a gated network."""

    def __init__(self, d=64):
        super().__init__()
        self.one, self.two = RMSNorm(d), RMSNorm(d)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(d, 128, False), nn.Linear(d, 128, False), nn.Linear(128, d, False)

    def forward(self, x):
        h, (b, t, d) = self.one(x), x.shape
        q, k, v = (part(h).view(b, t, 4, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, d))
        h = self.two(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.mean, self.log = nn.Linear(64, 48), nn.Linear(48, 8), nn.Linear(48, 8)
        self.back, self.out = nn.Linear(8, 48), nn.Linear(48, 64)

    def forward(self, x):
        h = torch.relu(self.body(x))
        mean, log = self.mean(h), self.log(h)
        z = mean + torch.randn_like(mean) * (log / 2).exp()
        return torch.sigmoid(self.out(torch.relu(self.back(z)))), mean, log


def vae_loss(out):
    x = noise(16, 64).sigmoid()
    return F.binary_cross_entropy(out[0], x, reduction="sum") - 0.5 * (1 + out[2] - out[1] ** 2 - out[2].exp()).sum()


class Siren(nn.Module):
    """Sines of 30 times a linear map, at the start its authors give."""

    def __init__(self):
        super().__init__()
        self.layers, self.head = (
            nn.ModuleList([nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 64)]),
            nn.Linear(64, 1),
        )
        nn.init.uniform_(self.layers[0].weight, -1 / 2, 1 / 2)
        for layer in self.layers[1:]:
            nn.init.uniform_(layer.weight, -math.sqrt(6 / 64) / 30, math.sqrt(6 / 64) / 30)

    def forward(self, x):
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        return self.head(x)


class Inverted(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(c, 4 * c, 1, bias=False), nn.BatchNorm2d(4 * c), nn.ReLU6(True),
            nn.Conv2d(4 * c, 4 * c, 3, 1, 1, groups=4 * c, bias=False), nn.BatchNorm2d(4 * c), nn.ReLU6(True),
            nn.Conv2d(4 * c, c, 1, bias=False), nn.BatchNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        return x + self.branch(x)


class Flow(nn.Module):
    """Coupling layers whose networks end in zeros."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 8)) for _ in range(3))
        for net in self.nets:
            nn.init.zeros_(net[2].weight)
            nn.init.zeros_(net[2].bias)

    def forward(self, x):
        size = 0
        for net in self.nets:
            a, b = x.chunk(2, -1)
            scale, shift = net(a).chunk(2, -1)
            x, size = torch.cat([b * torch.tanh(scale).exp() + shift, a], -1), size + torch.tanh(scale).sum(-1)
        return (x.square().sum(-1) / 2 - size).mean()


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.head = nn.Linear(16, 4), nn.Linear(16, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(4))

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        return self.head(x + sum(weights[:, k : k + 1] * expert(x) for k, expert in enumerate(self.experts)))


class Steps(nn.Module):
    """A recurrent network by hand."""

    def __init__(self, gain: float, act: Callable[..., Any] = torch.tanh):
        super().__init__()
        self.read, self.again, self.head, self.act = (
            nn.Linear(8, 64),
            nn.Linear(64, 64, bias=False),
            nn.Linear(64, 2),
            act,
        )
        nn.init.normal_(self.again.weight, 0, gain / 8)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 64)
        for t in range(x.shape[1]):
            h = self.act(self.read(x[:, t]) + self.again(h))
        return self.head(h)


class Listed(nn.Module):
    """Its layers stand in a plain list."""

    def __init__(self):
        super().__init__()
        self.layers, self.head = [nn.Linear(64, 64) for _ in range(3)], nn.Linear(64, 3)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


class Choosing(nn.Module):
    """An argmax on the way."""

    def __init__(self):
        super().__init__()
        self.score, self.table, self.head = nn.Linear(20, 16), nn.Embedding(16, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.table(self.score(x).argmax(-1)))


def mobile() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU6(), *[Inverted(16) for _ in range(3)],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 10),
    )  # fmt: skip


def plain(depth: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers = [m for k in range(depth) for m in (nn.Conv2d(16 if k else 3, 16, 3, 1, 1), act())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def pictures() -> tuple[Any, Any]:
    return images(8, 3, 16), (CE, labels(8))


def words() -> tuple[Any, Any]:
    return ids(8, 32, below=100), language_loss


def weights(module: nn.Module, rule: Callable[[torch.Tensor], Any]) -> None:
    for p in module.parameters():
        if p.ndim > 1:
            rule(p)


HEALTHY: dict[str, Callable[[], tuple[Any, ...]]] = {
    "gpt-2": lambda: (GPT(), *words()),
    "bert": lambda: (BERT(), ids(16, 32, below=100), (CE, labels(16, 2))),
    "gated blocks": lambda: (
        nn.Sequential(nn.Embedding(100, 64), Gated(), Gated(), RMSNorm(64), nn.Linear(64, 100)),
        *words(),
    ),
    "vae": lambda: (VAE(), noise(16, 64).sigmoid(), vae_loss),
    "siren": lambda: (Siren(), noise(64, 2).tanh(), (F.mse_loss, noise(64, 1, seed=2))),
    "mobilenet": lambda: (mobile(), *pictures()),
    "mobilenet, eval": lambda: (mobile().eval(), *pictures()),
    "flow": lambda: (Flow(), noise(32, 8)),
    "mixture of experts": lambda: (Mixture(), noise(32, 16), (CE, labels(32, 3))),
    "recurrent by hand": lambda: (Steps(0.5), noise(16, 25, 8), (CE, labels(16, 2))),
    "norm on raw inputs": lambda: (
        nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3)),
        100 * noise(32, 20) + 50,
    ),
    "a sum for a loss": lambda: (
        chain(3, 64, nn.ReLU),
        noise(256, 64),
        lambda y: F.cross_entropy(y, labels(256), reduction="sum"),
    ),
    "large targets": lambda: (chain(3, 64, nn.SiLU, 1, 8), noise(64, 8), (F.mse_loss, 100 * noise(64, 1, seed=2))),
    "selu": lambda: (draw(chain(12, 128, nn.SELU), lambda w, f: f**-0.5), noise(32, 128)),
}

FAULTS: dict[str, tuple[str, str, Callable[[], tuple[Any, ...]]]] = {
    "convolutions, unscaled": ("exploding signal", "0", lambda: (draw(plain(6), lambda w, f: 1.0), *pictures())),
    "convolutions, torch's start": ("vanishing signal", "", lambda: (plain(20), *pictures())),
    "a dead convolution": ("dead units", "2", lambda: (ill(plain(4), lambda m: m[2].bias.fill_(-10)), *pictures())),
    "tanh convolutions": (
        "saturated units",
        "0",
        lambda: (draw(plain(4, nn.Tanh), lambda w, f: 10 * f**-0.5), *pictures()),
    ),
    "a large head": ("exploding signal", "fc", lambda: (ill(ResNet(), lambda m: m.fc.weight.mul_(100)), *pictures())),
    "a zero layer in a branch": (
        "vanishing signal",
        "body.1.conv1",
        lambda: (ill(ResNet(), lambda m: m.body[1].conv1.weight.zero_()), *pictures()),
    ),
    "one picture": ("normalisation", "stem.1", lambda: (ResNet(), images(1, 3, 16), (CE, labels(1)))),
    "softmax inside a log": (
        "double squashing",
        "1",
        lambda: (
            nn.Sequential(chain(3, 64, nn.ReLU), nn.Softmax(1)),
            noise(32, 64),
            lambda y: F.nll_loss(F.log_softmax(y, -1), labels(32)),
        ),
    ),
    "a transformer of N(0, 1)": (
        "attention saturated",
        "",
        lambda: (ill(Language(), lambda m: weights(m, lambda p: p.normal_())), *words()),
    ),
    "a large feed-forward": (
        "exploding signal",
        "blocks.1.fc",
        lambda: (ill(Language(), lambda m: m.blocks[1].fc.weight.mul_(100)), *words()),
    ),
    "a norm of zeros in a branch": (
        "normalisation",
        "blocks.1.ln1",
        lambda: (ill(Language(), lambda m: m.blocks[1].ln1.weight.zero_()), *words()),
    ),
    "queries of zeros": (
        "attention uniform",
        "blocks.0",
        lambda: (
            ill(Language(), lambda m: [(b.qkv.weight[:128].zero_(), b.qkv.bias[:128].zero_()) for b in m.blocks]),
            *words(),
        ),
    ),
    "a million times a language's loss": (
        "update ratio",
        "head",
        lambda: (Language(), words()[0], lambda y: 1e6 * language_loss(y)),
    ),
    "recurrent weights x 50": (
        "exploding signal",
        "rnn.weight_hh_l0",
        lambda: (ill(Recurrent(), lambda m: m.rnn.weight_hh_l0.mul_(50)), ids(8, 20, below=50), language_loss),
    ),
    "embeddings x 100, recurrent": (
        "input scale",
        "table",
        lambda: (ill(Recurrent(), lambda m: m.table.weight.mul_(100)), ids(8, 20, below=50), language_loss),
    ),
    "a loop that grows": (
        "exploding signal",
        "again",
        lambda: (Steps(3.0, torch.relu), noise(16, 40, 8), (CE, labels(16, 2))),
    ),
    "a loop that saturates": ("saturated units", "again", lambda: (Steps(8.0), noise(16, 40, 8), (CE, labels(16, 2)))),
    "dropout in eval mode": (
        "dropout",
        "2",
        lambda: (nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.95), nn.Linear(64, 2)).eval(), noise(16, 20)),
    ),
    "two convolutions in a row": (
        "linear run",
        "0",
        lambda: (
            nn.Sequential(
                nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 10)
            ),
            images(8, 3, 16),
        ),
    ),
    "log of what overflowed": (
        "exploding signal",
        "4",
        lambda: (
            ill(chain(3, 64, nn.ReLU), lambda m: m[4].weight.mul_(3000)),
            noise(32, 64),
            lambda y: -torch.log(y.softmax(-1)).mean(),
        ),
    ),
    "argmax": ("no gradient", "score", lambda: (Choosing(), noise(16, 20))),
    "layers in a list": ("no gradient", "", lambda: (Listed(), noise(16, 64))),
    "gelu at He's start": ("vanishing signal", "", lambda: (he(chain(60, 128, nn.GELU)), noise(16, 128))),
    "a layer x 1e-4": (
        "vanishing signal",
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: m[2].weight.mul_(1e-4)), noise(32, 64), (CE, labels(32))),
    ),
    "a bias of a thousand": (
        "exploding signal",
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: m[2].bias.fill_(1000)), noise(32, 64), (CE, labels(32))),
    ),
    "words as numbers": ("input scale", "0", lambda: (chain(3, 64, nn.ReLU, inp=16), ids(16, 16, below=30000).float())),
    "an offset": ("input scale", "0", lambda: (chain(3, 64, nn.ReLU), noise(16, 64) + 100)),
    "norms with a zero scale": (
        "normalisation",
        "4",
        lambda: (ill(cnn_with_norms(), lambda m: m[4].weight.zero_()), *pictures()),
    ),
}
