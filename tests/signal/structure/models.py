"""Eighteen models as users write them, each with an example of its input."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def ids(*shape):
    return torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(0))


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.w = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * self.w


def turned(x):
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


class LlamaBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.n1, self.n2, self.heads = RMSNorm(width), RMSNorm(width), heads
        self.qkv, self.o = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.w1, self.w3 = (nn.Linear(width, 4 * width, bias=False) for _ in range(2))
        self.w2 = nn.Linear(4 * width, width, bias=False)

    def forward(self, x, cos, sin):
        B, T, D = x.shape
        q, k, v = self.qkv(self.n1(x)).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = q * cos + turned(q) * sin, k * cos + turned(k) * sin
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(D // self.heads)
        scores = scores + torch.triu(torch.full((T, T), float("-inf")), 1)
        x = x + self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, D))
        y = self.n2(x)
        return x + self.w2(F.silu(self.w1(y)) * self.w3(y))


class Llama(nn.Module):
    def __init__(self, width=16, depth=2):
        super().__init__()
        self.e = nn.Embedding(20, width)
        self.b = nn.ModuleList(LlamaBlock(width, 2) for _ in range(depth))
        self.n, self.head = RMSNorm(width), nn.Linear(width, 20, bias=False)
        self.head.weight = self.e.weight

    def forward(self, i):
        angles = torch.arange(i.shape[1])[:, None] * torch.ones(8)
        x = self.e(i)
        for block in self.b:
            x = block(x, angles.cos(), angles.sin())
        return self.head(self.n(x))


class Basic(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.c1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.c2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.b1, self.b2, self.relu = nn.BatchNorm2d(outer), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)
        shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.down = shortcut if stride > 1 else None

    def forward(self, x):
        y = self.b2(self.c2(self.relu(self.b1(self.c1(x)))))
        y += x if self.down is None else self.down(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2))
        self.stages, self.fc = nn.Sequential(Basic(8, 8, 1), Basic(8, 16, 2), Basic(16, 16, 1)), nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.stages(self.stem(x)), 1), 1))


class ViT(nn.Module):
    def __init__(self, width=16, **how):
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.zeros(1, 17, width))
        layer = nn.TransformerEncoderLayer(width, 2, 32, batch_first=True, activation="gelu", **how)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.encoder(x))[:, 0])


class ConvNeXt(nn.Module):
    def __init__(self, width=8, depth=2, keep=0.9):
        super().__init__()
        self.keep = keep
        self.dw = nn.ModuleList(nn.Conv2d(width, width, 7, padding=3, groups=width) for _ in range(depth))
        self.n = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.p1 = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(depth))
        self.p2 = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(depth))
        self.gamma = nn.ParameterList(nn.Parameter(1e-6 * torch.ones(width)) for _ in range(depth))
        self.fc1, self.fc2 = nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1)

    def forward(self, x):
        for dw, n, p1, p2, gamma in zip(self.dw, self.n, self.p1, self.p2, self.gamma):
            y = gamma * p2(F.gelu(p1(n(dw(x).permute(0, 2, 3, 1)))))
            y = y.permute(0, 3, 1, 2)
            y = y * self.fc2(F.relu(self.fc1(y.mean((2, 3), keepdim=True)))).sigmoid()
            drop = torch.rand(x.shape[0], 1, 1, 1) + self.keep
            x = x + y.div(self.keep) * drop.floor_()
        return x


class UNet(nn.Module):
    def __init__(self, c=4):
        super().__init__()

        def double(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(2, o), nn.SiLU(), nn.Conv2d(o, o, 3))

        self.down, self.middle, self.up = double(3, c), double(c, 2 * c), nn.ConvTranspose2d(2 * c, c, 2, 2)
        self.last, self.out = double(2 * c, c), nn.Conv2d(c, 1, 1)

    def forward(self, x):
        a = self.down(x)
        up = self.up(self.middle(F.max_pool2d(a, 2)))
        return self.out(self.last(torch.cat([up, a[:, :, : up.shape[2], : up.shape[3]]], 1)))


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(8 + 4 * i), nn.ReLU(), nn.Conv2d(8 + 4 * i, 4, 3, padding=1)) for i in range(3)
        )
        self.fc = nn.Linear(20, 5)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.fc(x.mean((2, 3)))


class LSTMByHand(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.x, self.h, self.out = nn.Linear(4, 4 * width), nn.Linear(width, 4 * width, bias=False), nn.Linear(width, 3)
        self.width = width

    def forward(self, x):
        h = c = torch.zeros(x.shape[0], self.width)
        for t in range(x.shape[1]):
            i, f, g, o = (self.x(x[:, t]) + self.h(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


class Mixer(nn.Module):
    def __init__(self, tokens=5, width=8):
        super().__init__()
        self.n, self.m = nn.LayerNorm(width), nn.LayerNorm(width)
        self.a, self.b = nn.Linear(tokens, 16), nn.Linear(16, tokens)
        self.c, self.d = nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, x):
        x = x + self.b(F.gelu(self.a(self.n(x).transpose(1, 2)))).transpose(1, 2)
        return x + self.d(F.gelu(self.c(self.m(x))))


class ReZero(nn.Module):
    def __init__(self, width=8, depth=4):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.alpha = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(depth))
        self.act = nn.PReLU(width)

    def forward(self, x):
        for layer, alpha in zip(self.layers, self.alpha):
            x = x + alpha * self.act(layer(x))
        return x


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.t, self.unused = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.ones(2))

    def forward(self, a, b):
        return (F.normalize(self.e(a), dim=-1) * F.normalize(self.e(b), dim=-1)).sum(-1) * self.t.exp()


class Queries(nn.Module):
    """Shared encoder layers, and learned queries that read what they put out."""

    def __init__(self, width=8):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 2, 16, batch_first=True)
        self.q, self.dec = (
            nn.Parameter(torch.zeros(3, width)), nn.TransformerDecoderLayer(width, 2, 16, batch_first=True),
        )  # fmt: skip

    def forward(self, x):
        for _ in range(3):
            x = self.layer(x)
        return self.dec(self.q.expand(x.shape[0], -1, -1), x)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(10, 64)
        self.c = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(True), nn.ConvTranspose2d(8, 3, 4, 2, 1)
        )

    def forward(self, z):
        return torch.tanh(self.c(self.f(z).view(-1, 16, 2, 2)))


class Parallel(nn.Module):
    """Attention and feed-forward beside each other, as PaLM and GPT-J have them."""

    def __init__(self, width=8):
        super().__init__()
        self.n, self.a = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.f, self.g = nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, x):
        h = self.n(x)
        return x + self.a(h, h, h, need_weights=False)[0] + self.g(F.gelu(self.f(h)))


class Modulated(nn.Module):
    """A diffusion transformer's block: shift, scale and gate come from a condition."""

    def __init__(self, width=8):
        super().__init__()
        self.m, self.n = nn.Linear(width, 6 * width), nn.LayerNorm(width, elementwise_affine=False)
        self.q, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.f, self.g = nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, x, c):
        shift, scale, gate, down, by, out = self.m(F.silu(c))[:, None].chunk(6, -1)
        q, k, v = self.q(self.n(x) * (1 + scale) + shift).chunk(3, -1)
        x = x + gate * self.o(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])
        return x + out * self.g(F.gelu(self.f(self.n(x) * (1 + by) + down)))


class RealNVP(nn.Module):
    """Additive coupling: one half of the channels is shifted by a network of the other."""

    def __init__(self):
        super().__init__()
        self.t = nn.ModuleList(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4)) for _ in range(3))

    def forward(self, x):
        a, b = x.chunk(2, -1)
        for t in self.t:
            a, b = b + t(a), a
        return torch.cat([a, b], -1)


class Highway(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.t, self.h = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        t = torch.sigmoid(self.t(x))
        return t * torch.relu(self.h(x)) + (1 - t) * x


MODELS = {
    "Llama": (Llama, (ids(2, 6),)),
    "ResNet": (ResNet, (randn(2, 3, 16, 16),)),
    "ViT": (ViT, (randn(2, 3, 16, 16),)),
    "ViT, pre-norm": (lambda: ViT(norm_first=True), (randn(2, 3, 16, 16),)),
    "ConvNeXt": (ConvNeXt, (randn(2, 8, 6, 6),)),
    "U-Net": (UNet, (randn(1, 3, 24, 24),)),
    "DenseNet": (DenseNet, (randn(2, 8, 4, 4),)),
    "LSTM by hand": (LSTMByHand, (randn(2, 3, 4),)),
    "LSTM": (lambda: nn.LSTM(4, 6, 2), (randn(3, 2, 4),)),
    "Mixer": (Mixer, (randn(2, 5, 8),)),
    "ReZero": (ReZero, (randn(4, 8),)),
    "Siamese": (Siamese, (randn(3, 8), randn(3, 8))),
    "queries": (Queries, (randn(2, 4, 8),)),
    "GAN": (Generator, (randn(2, 10),)),
    "parallel": (Parallel, (randn(2, 3, 8),)),
    "modulated": (Modulated, (randn(2, 3, 8), randn(2, 8))),
    "coupling": (RealNVP, (randn(5, 8),)),
    "highway": (Highway, (randn(5, 8),)),
}
