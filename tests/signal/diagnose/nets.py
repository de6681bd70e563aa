"""Networks that are well and networks that are ill, for the tests of `diagnose`: each as a user would write it."""

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


def draw(model: nn.Module, rule: Callable[[Tensor, int], Any], seed: int = 0) -> nn.Module:
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
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)


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


def _language_loss(out: Tensor) -> Tensor:
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
    "pre-norm": lambda: (Language(), ids(8, 32, below=100), _language_loss),
    "pre-norm, std 0.02": lambda: (Language(std=0.02), ids(8, 32, below=100), _language_loss),
    "post-norm": lambda: (Language(pre=False), ids(8, 32, below=100), _language_loss),
    "post-norm, std 0.02": lambda: (Language(pre=False, std=0.02), ids(8, 32, below=100), _language_loss),
    "attention by hand": lambda: (Language(fused=False), ids(8, 32, below=100), _language_loss),
    "twelve blocks": lambda: (Language(d=32, layers=12, std=0.02), ids(4, 16, below=100), _language_loss),
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


# what breaks ----------------------------------------------------------------------------------------------------------


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


def _freeze(part: nn.Module) -> None:
    part.requires_grad_(False)


def _big_step(model: nn.Module, lr: float) -> nn.Module:
    """One step of gradient descent that is far too large."""
    x, y = noise(64, 20), labels(64)
    F.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= lr * p.grad
    model.zero_grad()
    return model


def _signs(out: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(torch.sigmoid(out[:, 0]), labels(len(out), 2).float())


FAULTS: dict[str, tuple[set[str], str, Callable[[], tuple[Any, ...]]]] = {
    # name: kinds that are right, a layer that must be named ("" any), model with example and loss
    "unscaled, deep": (
        {"exploding signal"},
        "0",
        lambda: (draw(chain(12, 128, nn.ReLU), lambda w, f: 1.0), noise(16, 128)),
    ),
    "unscaled, overflow": (
        {"exploding signal"},
        "0",
        lambda: (draw(chain(60, 128, nn.ReLU), lambda w, f: 1.0), noise(16, 128)),
    ),
    "unscaled, shallow": (
        {"exploding signal"},
        "0",
        lambda: (draw(chain(3, 128, nn.ReLU), lambda w, f: 1.0), noise(16, 128), (CE, labels(16))),
    ),
    "tiny weights": (
        {"vanishing signal"},
        "0",
        lambda: (draw(chain(12, 128, nn.ReLU), lambda w, f: 0.01), noise(16, 128)),
    ),
    "tiny weights, biases": (
        {"vanishing signal"},
        "2",
        lambda: (
            ill(chain(12, 128, nn.ReLU), lambda m: [p.mul_(0.1) for p in m.parameters() if p.ndim > 1]),
            noise(16, 128),
        ),
    ),
    "torch's start, fifty layers": (
        {"vanishing signal", "vanishing gradient"},
        "",
        lambda: (chain(50, 64, nn.ReLU), noise(32, 64)),
    ),
    "gelu, hundred layers": (
        {"exploding signal", "vanishing signal", "unequal samples"},
        "",
        lambda: (draw(chain(100, 128, nn.GELU), lambda w, f: 1.5335 / math.sqrt(f)), noise(16, 128)),
    ),
    "silu, hundred layers": (
        {"exploding signal", "vanishing signal", "unequal samples"},
        "",
        lambda: (draw(chain(100, 128, nn.SiLU), lambda w, f: 1.6765 / math.sqrt(f)), noise(16, 128)),
    ),
    "relu, hundred layers": ({"parallel samples"}, "", lambda: (he(chain(100, 256, nn.ReLU)), noise(16, 256))),
    "tanh, hundred layers": (
        {"exploding gradient"},
        "",
        lambda: (draw(chain(100, 256, nn.Tanh), lambda w, f: 1.5925 / math.sqrt(f)), noise(16, 256)),
    ),
    "sigmoid chain": ({"vanishing gradient"}, "", lambda: (chain(8, 64, nn.Sigmoid), noise(32, 64))),
    "sigmoid chain, xavier": (
        {"vanishing gradient"},
        "",
        lambda: (draw(chain(10, 64, nn.Sigmoid), lambda w, f: f**-0.5), noise(32, 64)),
    ),
    "softplus chain": (
        {"parallel samples", "vanishing gradient"},
        "",
        lambda: (draw(chain(30, 64, nn.Softplus), lambda w, f: 1.04 * f**-0.5), noise(32, 64)),
    ),
    "biases at -3": (
        {"dead units"},
        "0",
        lambda: (
            ill(he(chain(4, 64, nn.ReLU)), lambda m: [p.fill_(-3) for p in m.parameters() if p.ndim == 1]),
            noise(32, 64),
        ),
    ),
    "one layer's biases at -10": (
        {"dead units"},
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: m[2].bias.fill_(-10)), noise(32, 64)),
    ),
    "a step too large": (
        {"dead units", "exploding signal"},
        "",
        lambda: (_big_step(he(chain(4, 64, nn.ReLU, inp=20)), 100.0), noise(32, 20)),
    ),
    "tanh, gain 5": (
        {"saturated units"},
        "0",
        lambda: (draw(chain(6, 64, nn.Tanh), lambda w, f: 5 * f**-0.5), noise(32, 64)),
    ),
    "sigmoid, large weights": (
        {"saturated units"},
        "0",
        lambda: (draw(chain(4, 64, nn.Sigmoid), lambda w, f: 3.0), noise(32, 64)),
    ),
    "inputs 0..255": (
        {"input scale"},
        "",
        lambda: (small_cnn(), (noise(8, 1, 28, 28).sigmoid() * 255).round(), (CE, labels(8))),
    ),
    "inputs 0..255 into tanh": (
        {"input scale"},
        "0",
        lambda: (chain(3, 64, nn.Tanh), (noise(16, 64).sigmoid() * 255).round(), (CE, labels(16))),
    ),
    "inputs of 1e-4": ({"input scale"}, "0", lambda: (chain(3, 64, nn.ReLU), 1e-4 * noise(32, 64))),
    "one column of thousands": (
        {"input scale"},
        "0",
        lambda: (chain(3, 64, nn.ReLU), noise(32, 64) * torch.ones(64).index_fill(0, torch.tensor([5]), 5e3)),
    ),
    "a forgotten activation": (
        {"linear run"},
        "2",
        lambda: (
            nn.Sequential(
                nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5)
            ),
            noise(32, 20),
        ),
    ),
    "no activation at all": (
        {"linear run"},
        "0",
        lambda: (nn.Sequential(nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 5)), noise(32, 20)),
    ),
    "detach": ({"no gradient"}, "front.0", lambda: (Cut("detach"), noise(32, 20))),
    "no_grad": ({"no gradient"}, "front.0", lambda: (Cut("no_grad"), noise(32, 20))),
    ".data": ({"no gradient"}, "front.0", lambda: (Cut("data"), noise(32, 20))),
    "round": ({"no gradient"}, "front.0", lambda: (Cut("round"), noise(32, 20))),
    "an unused branch": ({"no gradient"}, "two", lambda: (Branches("unused"), noise(32, 20))),
    "a dropped branch": ({"no gradient"}, "two", lambda: (Branches("dropped"), noise(32, 20))),
    "a detached branch": ({"no gradient"}, "two", lambda: (Branches("detached"), noise(32, 20))),
    "frozen in the middle": (
        {"no gradient"},
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: _freeze(m[2])), noise(32, 64)),
    ),
    "frozen in front": (
        {"no gradient"},
        "0",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: _freeze(m[0])), noise(32, 64)),
    ),
    "all frozen": ({"no gradient"}, "0", lambda: (ill(chain(4, 64, nn.ReLU), _freeze), noise(32, 64))),
    "constant weights": (
        {"identical units"},
        "0",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: [p.fill_(0.02) for p in m.parameters()]), noise(32, 64)),
    ),
    "one constant layer": (
        {"identical units"},
        "2",
        lambda: (ill(he(chain(4, 64, nn.ReLU)), lambda m: m[2].weight.fill_(0.1)), noise(32, 64)),
    ),
    "equal rows": (
        {"identical units"},
        "2",
        lambda: (
            ill(
                chain(4, 64, nn.Tanh), lambda m: (m[2].weight.copy_(m[2].weight[:1].expand(64, 64)), m[2].bias.zero_())
            ),
            noise(32, 64),
        ),
    ),
    "a zero layer inside": (
        {"vanishing signal"},
        "2",
        lambda: (
            ill(chain(4, 64, nn.ReLU), lambda m: (m[2].weight.zero_(), m[2].bias.zero_())),
            noise(32, 64),
            (CE, labels(32)),
        ),
    ),
    "a zero weight, a bias": (
        {"vanishing signal"},
        "2",
        lambda: (ill(chain(4, 64, nn.Tanh), lambda m: m[2].weight.zero_()), noise(32, 64)),
    ),
    "residual sums": ({"residual growth"}, "", lambda: (ResidualMLP(30), noise(32, 20))),
    "no 1/sqrt(d)": ({"attention saturated"}, "", lambda: (Deep(), noise(8, 32, 64))),
    "no 1/sqrt(d), language": (
        {"attention saturated"},
        "",
        lambda: (
            ill(
                Language(d=128, fused=False, scaled=False),
                lambda m: [b.qkv.weight.normal_(0, 128**-0.5) for b in m.blocks],
            ),
            ids(8, 32, below=100),
            _language_loss,
        ),
    ),
    "a temperature of 1e-6": ({"attention uniform"}, "", lambda: (Deep(temperature=1e-6), noise(8, 32, 64))),
    "softmax before cross_entropy": (
        {"double squashing"},
        "",
        lambda: (nn.Sequential(*chain(3, 64, nn.ReLU), nn.Softmax(-1)), noise(32, 64), (CE, labels(32))),
    ),
    "sigmoid before bce with logits": (
        {"double squashing"},
        "",
        lambda: (chain(3, 64, nn.ReLU, 1), noise(32, 64), _signs),
    ),
    "log of zero": ({"not finite"}, "", lambda: (LogOf("log"), noise(32, 20))),
    "slope of a root at zero": ({"not finite"}, "", lambda: (LogOf("sqrt"), noise(32, 20))),
    "exp": ({"not finite"}, "", lambda: (LogOf("exp"), noise(32, 20))),
    "division by zero": ({"not finite"}, "", lambda: (LogOf("divide"), noise(32, 20))),
    "nan in a weight": (
        {"not finite"},
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: m[2].weight[0, 0].fill_(math.nan)), noise(32, 64)),
    ),
    "a batch of one": ({"normalisation"}, "1", lambda: (cnn_with_norms(), images(1, 3, 16))),
    "constant features": (
        {"normalisation"},
        "0",
        lambda: (
            nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3)),
            torch.ones(16, 20) * torch.arange(20.0),
        ),
    ),
    "a dead norm": (
        {"normalisation"},
        "1",
        lambda: (ill(cnn_with_norms(), lambda m: m[1].weight.zero_()), images(8, 3, 16)),
    ),
    "dropout 0.95": (
        {"dropout"},
        "2",
        lambda: (
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.95), nn.Linear(64, 10)),
            noise(32, 64),
            (CE, labels(32)),
        ),
    ),
    "a layer 100 x": (
        {"exploding signal"},
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: m[2].weight.mul_(100)), noise(32, 64), (CE, labels(32))),
    ),
    "a layer 100 x before a norm": (
        {"exploding signal", "update ratio"},
        "3",
        lambda: (ill(cnn_with_norms(), lambda m: m[3].weight.mul_(100)), images(8, 3, 16), (CE, labels(8))),
    ),
    "a loss of a million": (
        {"update ratio", "exploding gradient"},
        "",
        lambda: (chain(3, 64, nn.ReLU), noise(32, 64), lambda y: 1e6 * CE(y, labels(32))),
    ),
    "a loss of 1e-12": (
        {"update ratio", "vanishing gradient"},
        "",
        lambda: (chain(3, 64, nn.ReLU), noise(32, 64), lambda y: 1e-12 * CE(y, labels(32))),
    ),
    "embeddings x 100": (
        {"input scale"},
        "token",
        lambda: (Language(scale=100.0), ids(8, 32, below=100), _language_loss),
    ),
    "drowning positions": (
        {"parallel samples"},
        "position",
        lambda: (Language(scale=0.02, table=1.0), ids(8, 32, below=100), _language_loss),
    ),
    "a matrix of rank one": (
        {"low rank"},
        "2",
        lambda: (
            ill(chain(4, 64, nn.Tanh), lambda m: m[2].weight.copy_(noise(64, 1, seed=4) @ noise(1, 64, seed=5) / 8)),
            noise(32, 64),
        ),
    ),
}
