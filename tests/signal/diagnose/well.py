"""Networks that are well, for the tests of `diagnose`: each as a user would write it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ids(*shape: int, below: int, seed: int = 0) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def seeded(make: Callable[[], Any]) -> Any:
    """What a function makes under a fixed seed, the global generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def draw(model: nn.Module, rule: Callable[[Tensor, int], Any], seed: int = 1000) -> nn.Module:
    """Weights of linear and convolutional layers by rule(weight, fan_in), biases zero."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            with torch.no_grad():
                fan = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * rule(module.weight, fan))
                if module.bias is not None:
                    module.bias.zero_()
    return model


def chain(depth: int, width: int, act: Callable[[], nn.Module], out: int = 10, inp: int | None = None) -> nn.Sequential:
    sizes = [inp or width, *[width] * (depth - 1), out]
    layers: list[nn.Module] = []
    for k, (a, b) in enumerate(zip(sizes, sizes[1:])):
        layers += [nn.Linear(a, b), act()] if k < depth - 1 else [nn.Linear(a, b)]
    return nn.Sequential(*layers)


def he(model: nn.Module) -> nn.Module:
    return draw(model, lambda w, fan: math.sqrt(2 / fan))


class BasicBlock(nn.Module):
    def __init__(self, a: int, b: int, stride: int = 1, zero: bool = False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.relu = nn.ReLU(inplace=True)
        self.down = None
        if stride > 1 or a != b:
            self.down = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))
        if zero:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.down is None else self.down(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, zero: bool = False, blocks: int = 2):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        sizes = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.body = nn.Sequential(
            *[BasicBlock(a if k == 0 else b, b, s if k == 0 else 1, zero) for a, b, s in sizes for k in range(blocks)]
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


class Block(nn.Module):
    """A transformer block, pre- or post-norm, with attention by hand or fused."""

    def __init__(self, d: int, heads: int, pre: bool = True, fused: bool = True, scaled: bool = True):
        super().__init__()
        self.heads, self.pre, self.fused, self.scaled = heads, pre, fused, scaled
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc, self.out = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def attend(self, x):
        b, t, d = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1)
            if self.scaled:
                scores = scores / math.sqrt(q.shape[-1])
            mask = torch.ones(t, t, dtype=torch.bool).triu(1)
            y = scores.masked_fill(mask, -math.inf).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, t, d))

    def mlp(self, x):
        return self.out(F.gelu(self.fc(x)))

    def forward(self, x):
        if self.pre:
            x = x + self.attend(self.ln1(x))
            return x + self.mlp(self.ln2(x))
        x = self.ln1(x + self.attend(x))
        return self.ln2(x + self.mlp(x))


class Language(nn.Module):
    def __init__(
        self, d=64, layers=4, vocabulary=100, length=32, std: float | None = None, scale=1.0, table=1.0, **more
    ):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, d), nn.Embedding(length, d)
        self.blocks = nn.ModuleList(Block(d, 4, **more) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocabulary, bias=False)
        if std is not None:
            for p in self.parameters():
                if p.ndim > 1:
                    nn.init.normal_(p, 0, std)
            for module in self.modules():
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.token.weight *= scale
            self.position.weight *= table

    def forward(self, x):
        h = self.token(x) + self.position(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class Encoder(nn.Module):
    def __init__(self, pre: bool):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=pre, activation="gelu")
        self.embed = nn.Linear(12, 32)
        self.body, self.head = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.body(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.table, self.rnn, self.head = nn.Embedding(50, 32), kind(32, 64, 2, batch_first=True), nn.Linear(64, 50)

    def forward(self, x):
        return self.head(self.rnn(self.table(x))[0])


class Cells(nn.Module):
    """An LSTM by hand, step by step."""

    def __init__(self):
        super().__init__()
        self.gates, self.head = nn.Linear(8 + 32, 4 * 32), nn.Linear(32, 3)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], 32)
        for t in range(x.shape[1]):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], -1)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.head(h)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()

        def twice(a, b):
            return nn.Sequential(
                nn.Conv2d(a, b, 3, 1, 1),
                nn.BatchNorm2d(b),
                nn.ReLU(),
                nn.Conv2d(b, b, 3, 1, 1),
                nn.BatchNorm2d(b),
                nn.ReLU(),
            )

        self.one, self.two, self.three = twice(1, 8), twice(8, 16), twice(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.back2, self.back1, self.last = twice(32, 16), twice(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.one(x)
        b = self.two(F.max_pool2d(a, 2))
        c = self.three(F.max_pool2d(b, 2))
        b = self.back2(torch.cat([self.up2(c), b], 1))
        return self.last(self.back1(torch.cat([self.up1(b), a], 1)))


class Mixer(nn.Module):
    def __init__(self, tokens=16, d=32, layers=4):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2 * layers + 1))
        self.tokens = nn.ModuleList(
            nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens)) for _ in range(layers)
        )
        self.channels = nn.ModuleList(
            nn.Sequential(nn.Linear(d, 64), nn.GELU(), nn.Linear(64, d)) for _ in range(layers)
        )
        self.head = nn.Linear(d, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        for k, (a, b) in enumerate(zip(self.tokens, self.channels)):
            x = x + a(self.norms[2 * k](x).transpose(1, 2)).transpose(1, 2)
            x = x + b(self.norms[2 * k + 1](x))
        return self.head(self.norms[-1](x).mean(1))


class SwiGLU(nn.Module):
    def __init__(self, d=48, layers=4):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(d), "gate": nn.Linear(d, 2 * d), "up": nn.Linear(d, 2 * d),
                           "down": nn.Linear(2 * d, d)}) for _ in range(layers)
        )  # fmt: skip
        self.head = nn.Linear(d, 7)

    def forward(self, x):
        for part in self.layers:
            h = part["norm"](x)
            x = x + part["down"](F.silu(part["gate"](h)) * part["up"](h))
        return self.head(x)


class ResidualMLP(nn.Module):
    """x + f(x), nothing normalised; `scale` multiplies each branch."""

    def __init__(self, blocks: int, width: int = 64, scale: float = 1.0, zero: bool = False):
        super().__init__()
        self.scale = scale
        self.first = nn.Linear(20, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(blocks)
        )
        self.head = nn.Linear(width, 5)
        he(self)
        if zero:
            for block in self.blocks:
                nn.init.zeros_(block[2].weight)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + self.scale * block(x)
        return self.head(x)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, a, b):
        return F.cosine_similarity(self.net(a), self.net(b))


class Vision(nn.Module):
    """A ViT with a class token."""

    def __init__(self, d=32):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, d))
        self.position = nn.Parameter(0.02 * noise(1, 17, d, seed=3))
        self.blocks = nn.Sequential(*[Block(d, 4, fused=False) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8 + 8 * k, 8, 3, 1, 1) for k in range(5))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 8 * k) for k in range(5))
        self.first, self.head = nn.Conv2d(3, 8, 3, 1, 1), nn.Linear(48, 10)

    def forward(self, x):
        x = self.first(x)
        for norm, conv in zip(self.norms, self.convs):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return self.head(x.mean((2, 3)))


class ConvNeXt(nn.Module):
    def __init__(self, d=24, layers=4):
        super().__init__()
        self.stem = nn.Conv2d(3, d, 4, 4)
        self.depthwise = nn.ModuleList(nn.Conv2d(d, d, 7, 1, 3, groups=d) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(d, 4 * d) for _ in range(layers))
        self.down = nn.ModuleList(nn.Linear(4 * d, d) for _ in range(layers))
        self.gamma = nn.ParameterList(nn.Parameter(1e-6 * torch.ones(d)) for _ in range(layers))
        self.head = nn.Linear(d, 10)

    def forward(self, x):
        x = self.stem(x)
        for conv, norm, up, down, gamma in zip(self.depthwise, self.norms, self.up, self.down, self.gamma):
            h = norm(conv(x).permute(0, 2, 3, 1))
            x = x + (gamma * down(F.gelu(up(h)))).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


def generator() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(32, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 4), nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid()
    )


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10),
    )  # fmt: skip


def digits() -> tuple[Tensor, Tensor]:
    """Something like scanned digits: ten 8 x 8 patterns with noise, from 0 to 1."""
    patterns, labels = noise(10, 64, seed=11), ids(512, below=10, seed=12)
    return (patterns[labels] + 0.7 * noise(512, 64, seed=13)).sigmoid(), labels


def trained(steps: int = 150, act: Callable[[], nn.Module] = nn.ReLU, lr: float = 3e-3, raw: bool = False) -> nn.Module:
    """A digits classifier after some hundred steps of Adam."""
    x, y = digits()
    x = x * 16 if raw else x
    model = seeded(lambda: chain(3, 64, act))
    step = torch.optim.Adam(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(x), (128,), generator=generator)
        step.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        step.step()
    model.zero_grad()
    return model


def labels(n: int, classes: int = 10) -> Tensor:
    return ids(n, below=classes, seed=7)


def images(n: int, channels: int, size: int) -> Tensor:
    return noise(n, channels, size, size)


CE = F.cross_entropy


def language_loss(out: Tensor) -> Tensor:
    return F.cross_entropy(out.flatten(0, 1), ids(out.shape[0] * out.shape[1], below=out.shape[-1], seed=3))


HEALTHY: dict[str, Callable[[], tuple[Any, ...]]] = {
    "shallow relu, torch's start": lambda: (chain(3, 64, nn.ReLU), noise(32, 64), (CE, labels(32))),
    "narrow relu, five layers": lambda: (chain(5, 32, nn.ReLU, 3), noise(32, 32)),
    "wide relu, four layers": lambda: (chain(4, 256, nn.ReLU), noise(16, 256), (CE, labels(16))),
    "tanh, four layers": lambda: (chain(4, 64, nn.Tanh), noise(32, 64)),
    "sigmoid, two layers": lambda: (chain(2, 64, nn.Sigmoid), noise(32, 64), (CE, labels(32))),
    "he relu, ten layers": lambda: (he(chain(10, 128, nn.ReLU)), noise(32, 128)),
    "one layer": lambda: (nn.Linear(20, 3), noise(8, 20)),
    "one sample": lambda: (chain(3, 64, nn.ReLU), noise(1, 64)),
    "two samples": lambda: (chain(3, 64, nn.ReLU), noise(2, 64), (CE, labels(2))),
    "four samples": lambda: (chain(4, 64, nn.ReLU), noise(4, 64), (CE, labels(4))),
    "a number as input": lambda: (chain(4, 64, nn.Tanh, 1, 1), noise(64, 1), (F.mse_loss, noise(64, 1, seed=2))),
    "positive inputs": lambda: (chain(3, 128, nn.ReLU, inp=784), noise(64, 784).abs() / 2, (CE, labels(64))),
    "resnet": lambda: (ResNet(), images(8, 3, 16), (CE, labels(8))),
    "deeper resnet, eval": lambda: (ResNet(blocks=4).eval(), images(8, 3, 16), (CE, labels(8))),
    "resnet, zero gamma": lambda: (ResNet(zero=True), images(8, 3, 16), (CE, labels(8))),
    "plain cnn": lambda: (small_cnn(), images(16, 1, 28), (CE, labels(16))),
    "pre-norm": lambda: (Language(), ids(8, 32, below=100), language_loss),
    "pre-norm, std 0.02": lambda: (Language(std=0.02), ids(8, 32, below=100), language_loss),
    "post-norm": lambda: (Language(pre=False), ids(8, 32, below=100), language_loss),
    "post-norm, std 0.02": lambda: (Language(pre=False, std=0.02), ids(8, 32, below=100), language_loss),
    "attention by hand": lambda: (Language(fused=False), ids(8, 32, below=100), language_loss),
    "twelve blocks": lambda: (Language(d=32, layers=12, std=0.02), ids(4, 16, below=100), language_loss),
    "torch's encoder, pre": lambda: (Encoder(True), noise(16, 10, 12)),
    "torch's encoder, post": lambda: (Encoder(False), noise(16, 10, 12)),
    "lstm": lambda: (Recurrent(), ids(8, 20, below=50)),
    "gru": lambda: (Recurrent(nn.GRU), ids(8, 20, below=50)),
    "cells by hand": lambda: (Cells(), noise(16, 12, 8)),
    "unet": lambda: (UNet(), images(4, 1, 16)),
    "mixer": lambda: (Mixer(), images(8, 3, 16)),
    "swiglu": lambda: (SwiGLU(), noise(32, 48)),
    "residual mlp, scaled": lambda: (ResidualMLP(16, scale=0.25), noise(32, 20)),
    "residual mlp, zero": lambda: (ResidualMLP(8, zero=True), noise(32, 20)),
    "siamese": lambda: (Siamese(), (noise(16, 20), noise(16, 20, seed=1))),
    "vision transformer": lambda: (Vision(), images(8, 3, 16), (CE, labels(8))),
    "densenet": lambda: (Dense(), images(8, 3, 16)),
    "convnext": lambda: (ConvNeXt(), images(8, 3, 16), (CE, labels(8))),
    "generator": lambda: (generator(), noise(8, 32, 1, 1)),
    "autoencoder": lambda: (autoencoder(), noise(32, 64).sigmoid()),
    "trained on digits": lambda: (trained(), digits()[0][:64], (CE, digits()[1][:64])),
    "trained on raw digits": lambda: (trained(raw=True), digits()[0][:64] * 16, (CE, digits()[1][:64])),
    "trained tanh": lambda: (trained(act=nn.Tanh, steps=400), digits()[0][:64], (CE, digits()[1][:64])),
    "trained gelu": lambda: (trained(act=nn.GELU, steps=400), digits()[0][:64], (CE, digits()[1][:64])),
}
