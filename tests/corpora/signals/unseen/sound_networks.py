"""Networks that only the second healthy corpus has."""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from tests.corpora.networks import Block, LoRA


class MeanTeacher(nn.Module):
    """A student and the running mean of what it has been (Tarvainen & Valpola 2017, arXiv:1703.01780)."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Moves the teacher by this share of the way."""
        for mine, theirs in zip(self.teacher.parameters(), self.student.parameters()):
            mine.lerp_(theirs, share)

    def forward(self, x: Tensor, otherwise: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            wanted = self.teacher(otherwise)
        return self.student(x), wanted


class TCN(nn.Module):
    """Dilated convolutions with weight norm, in pairs with a skip (Bai et al. 2018, arXiv:1803.01271)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv1d(6, 32, 1), nn.Linear(32, 4)
        self.first = nn.ModuleList(weight_norm(nn.Conv1d(32, 32, 3, dilation=2**i, padding=2**i)) for i in range(3))
        self.second = nn.ModuleList(weight_norm(nn.Conv1d(32, 32, 3, dilation=2**i, padding=2**i)) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:  # (B, 6, T)
        x = self.embed(x)
        for first, second in zip(self.first, self.second):
            x = F.relu(x + F.relu(second(F.relu(first(x)))))
        return self.head(x[..., -1])


class Discriminator(nn.Module):
    """One score an image, every weight divided by its largest singular value (Miyato et al. 2018, arXiv:1802.05957)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in ((1, 16), (16, 32), (32, 64)))
        self.head = spectral_norm(nn.Linear(64 * 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
        return self.head(x.flatten(1)).squeeze(1)


class TopExperts(nn.Module):
    """Two experts of six for each sample, a skip around them; gives shares, too (arXiv:1701.06538)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.gate = nn.Linear(20, 32), nn.LayerNorm(32), nn.Linear(32, 6, bias=False)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(6))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(x)
        y = self.norm(x)
        shares = self.gate(y).softmax(-1)  # (B, 6)
        best, chosen = shares.topk(2, dim=-1)
        kept = torch.zeros_like(shares).scatter(1, chosen, best / best.sum(-1, keepdim=True))
        every = torch.stack([expert(y) for expert in self.experts], 1)
        return self.head(x + (kept[..., None] * every).sum(1)), shares


class Translator(nn.Module):
    """GRUs that read and write, and attention of the one over the other (Luong et al. 2015, arXiv:1508.04025)."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(40, 32), nn.Embedding(50, 32)
        self.reader, self.writer = nn.GRU(32, 48, batch_first=True), nn.GRU(32, 48, batch_first=True)
        self.general, self.mix, self.head = nn.Linear(48, 48, bias=False), nn.Linear(96, 48), nn.Linear(48, 50)

    def forward(self, given: Tensor, said: Tensor) -> Tensor:
        states, last = self.reader(self.source(given))
        y, _ = self.writer(self.target(said), last)
        weights = (self.general(y) @ states.transpose(1, 2)).softmax(-1)
        return self.head(torch.tanh(self.mix(torch.cat([weights @ states, y], -1))))


class Fourier(nn.Module):
    """A field as a function of place, by fixed random waves (Tancik et al. 2020, arXiv:2006.10739)."""

    waves: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("waves", 2 * torch.randn(2, 32))
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        angles = 2 * math.pi * x @ self.waves
        return self.net(torch.cat([angles.sin(), angles.cos()], -1))


class FiLM(nn.Module):
    """Channels scaled and moved by what is asked (Perez et al. 2018, arXiv:1709.07871)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.question = nn.Conv2d(3, 24, 3, 2, 1), nn.Embedding(10, 16)
        self.convs = nn.ModuleList(nn.Conv2d(24, 24, 3, 1, 1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(24, affine=False) for _ in range(2))
        self.films = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))
        self.head = nn.Linear(24, 6)

    def forward(self, x: Tensor, asked: Tensor) -> Tensor:
        x, asked = F.relu(self.stem(x)), self.question(asked)
        for conv, norm, film in zip(self.convs, self.norms, self.films):
            scale, move = film(asked)[..., None, None].chunk(2, 1)
            x = x + F.relu((1 + scale) * norm(conv(x)) + move)
        return self.head(x.mean((2, 3)))


class Equilibrium(nn.Module):
    """One block applied twelve times, told the input each time (Bai et al. 2019, arXiv:1909.01377)."""

    def __init__(self) -> None:
        super().__init__()
        self.inject, self.again, self.norm = nn.Linear(20, 48), nn.Linear(48, 48), nn.LayerNorm(48)
        self.head = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inject(x)
        z = torch.zeros_like(x)
        for _ in range(12):
            z = self.norm(torch.tanh(self.again(z)) + x)
        return self.head(z)


class Quantiles(nn.Module):
    """Three quantiles, each from a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.low, self.middle, self.high = (
            nn.Sequential(nn.Linear(64, 16), nn.SiLU(), nn.Linear(16, 1)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return torch.cat([self.low(y), self.middle(y), self.high(y)], 1)


class CLIP(nn.Module):
    """Pictures and words, cosines, a learned temperature (Radford et al. 2021, arXiv:2103.00020)."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()),
            nn.Linear(32 * 16, 32),
        )
        self.words, self.project = nn.EmbeddingBag(60, 48), nn.Linear(48, 32)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, picture: Tensor, words: Tensor) -> Tensor:
        a = F.normalize(self.pictures(picture), dim=-1)
        b = F.normalize(self.project(self.words(words)), dim=-1)
        return self.logit_scale.exp() * a @ b.T


class DiT(nn.Module):
    """Blocks whose norms are told the time and whose ends are zero at the start (arXiv:2212.09748)."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
            self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
            self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
            self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.told = nn.Linear(width, 6 * width)
            nn.init.zeros_(self.told.weight)
            nn.init.zeros_(self.told.bias)

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            move1, scale1, gate1, move2, scale2, gate2 = self.told(F.silu(time))[:, None].chunk(6, -1)
            y = self.norm1(x) * (1 + scale1) + move1
            x = x + gate1 * self.attention(y, y, y, need_weights=False)[0]
            y = self.norm2(x) * (1 + scale2) + move2
            return x + gate2 * self.fc2(F.gelu(self.fc1(y)))

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.positions = nn.Linear(12, 32), nn.Parameter(0.02 * torch.randn(16, 32))
        self.time = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 32))
        self.blocks = nn.ModuleList(self.Block(32) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 12)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:  # (B, 16, 12), (B, 8)
        x, time = self.patches(x) + self.positions, self.time(time)
        for block in self.blocks:
            x = block(x, time)
        return self.head(self.norm(x))


class Adapted(nn.Module):
    """An MLP that has been trained, frozen but for corrections of low rank."""

    def __init__(self, base: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for part in base:
            if isinstance(part, nn.Linear):
                adapted = LoRA(part.in_features, part.out_features, 4)
                adapted.base = part.requires_grad_(False)
                nn.init.zeros_(adapted.up.weight)
                part = adapted
            self.layers.append(part)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Few(nn.Module):
    """A ResNet's block between group norms: for batches so small that batch norm is none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.ReLU())
        block: Any = Block(16, 32, 2)
        block.bn1, block.bn2, block.skip = nn.GroupNorm(4, 32), nn.GroupNorm(4, 32), nn.Conv2d(16, 32, 1, 2)
        self.block, self.head = block, nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))


class MobileNet(nn.Module):
    """Narrow, wide, depthwise, narrow; no activation at the narrow ends, as meant (arXiv:1801.04381)."""

    class Block(nn.Module):
        def __init__(self, inner: int, outer: int, stride: int) -> None:
            super().__init__()
            wide = 4 * inner
            self.net = nn.Sequential(
                *(nn.Conv2d(inner, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
                *(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
                *(nn.Conv2d(wide, outer, 1, bias=False), nn.BatchNorm2d(outer)),
            )
            self.skip = inner == outer and stride == 1

        def forward(self, x: Tensor) -> Tensor:
            return x + self.net(x) if self.skip else self.net(x)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(self.Block(8, 8, 1), self.Block(8, 16, 2), self.Block(16, 16, 1))
        self.last = nn.Sequential(nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU6())
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))


class Flow(nn.Module):
    """Couplings with bounded scales (Dinh et al. 2017, arXiv:1605.08803); gives codes and log determinants."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (B, 8)
        a, b = x.chunk(2, 1)
        total = torch.zeros_like(x[:, 0])
        for net in self.nets:
            scale, move = net(a).chunk(2, 1)
            scale = torch.tanh(scale)
            a, b = b * scale.exp() + move, a
            total = total + scale.sum(1)
        return torch.cat([a, b], 1), total


class Half(nn.Module):
    """Two pre-norm blocks of an MLP, in bfloat16 from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norms = nn.Linear(24, 64), nn.ModuleList(nn.LayerNorm(64) for _ in range(2))
        self.wide, self.back = (
            nn.ModuleList(nn.Linear(64, 128) for _ in range(2)),
            nn.ModuleList(nn.Linear(128, 64) for _ in range(2)),
        )
        self.head = nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for norm, wide, back in zip(self.norms, self.wide, self.back):
            x = x + back(F.gelu(wide(norm(x))))
        return self.head(x)
