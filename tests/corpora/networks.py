"""The networks that are timed: eleven whose Jacobians are taken, ten whose linear layers are fused.

Names, sizes and batches are those of the published tables. Where a table is silent (activations, channels, kernels)
`chosen` says what was taken; widths were taken so that the arithmetic saved by the best bracketing over plain reverse
mode (`saving`, in multiply-adds) agrees with the figure the table predicts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.corpora import normal, seeded, settle


@dataclass(frozen=True)
class Network:
    """A module and the batch it is timed on, both float32 and made from a generator alone."""

    name: str
    batch: int
    size: tuple[int, ...]  # of one sample
    build: Callable[[], nn.Module]
    chosen: str
    saving: float | None = None  # multiply-adds of reverse mode over those of the best bracketing
    layers: tuple[int, int] | None = None  # Linear and conv layers: written, and left after the best fusing

    def make(self, g: torch.Generator) -> tuple[nn.Module, Tensor]:
        """The module in eval mode, its norms away from their start, and x (batch, *size)."""
        module = settle(seeded(self.build, g), g)
        return module, normal(g, self.batch, *self.size, dtype=torch.float32)


def mlp(*widths: int, act: Callable[[], nn.Module], end: tuple[nn.Module, ...] = ()) -> nn.Sequential:
    """Linear layers of these widths with an activation between each two, and `end` after the last."""
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for i, o in zip(widths[1:], widths[2:]):
        layers += [act(), nn.Linear(i, o)]
    return nn.Sequential(*layers, *end)


def linear_runs() -> nn.Sequential:
    def run() -> list[nn.Module]:
        return [layer for _ in range(3) for layer in (nn.Linear(256, 256), nn.BatchNorm1d(256))]

    return nn.Sequential(*run(), nn.Tanh(), *run())


def conv_classifier() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 10),
    )


def conv_autoencoder() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 8),
        nn.Linear(8, 256),
        nn.ReLU(),
        nn.Unflatten(1, (16, 4, 4)),
        nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1),
    )


def layer_norm_mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(256, 256),
        nn.LayerNorm(256),
        nn.GELU(),
        nn.Linear(256, 16),
        nn.GELU(),
        nn.Linear(16, 256),
        nn.LayerNorm(256),
        nn.GELU(),
        nn.Linear(256, 256),
    )


def deep_narrow() -> nn.Sequential:
    return mlp(*[64] * 13, act=nn.Tanh)


def classifier() -> nn.Sequential:
    return mlp(784, 512, 10, act=nn.ReLU)


JACOBIANS: tuple[Network, ...] = (
    Network("MLP 784-512-10, B64", 64, (784,), classifier, "ReLU", 1.0),
    Network("MLP 784-512-10, B1", 1, (784,), classifier, "ReLU", 1.0),
    Network(
        "MLP 784-512-512-10 + softmax, B64",
        64,
        (784,),
        lambda: mlp(784, 512, 512, 10, act=nn.ReLU, end=(nn.Softmax(dim=-1),)),
        "ReLU; the softmax is the last layer",
        1.0,
    ),
    Network(
        "autoencoder 784-256-16-256-784, B8",
        8,
        (784,),
        lambda: mlp(784, 256, 16, 256, 784, act=nn.Tanh),
        "Tanh, also after the bottleneck; the last layer is linear",
        6.6,
    ),
    Network(
        "2048-512-8-512-2048, B1",
        1,
        (2048,),
        lambda: mlp(2048, 512, 8, 512, 2048, act=nn.Tanh),
        "Tanh, also after the bottleneck; the last layer is linear",
        26.0,
    ),
    Network("deep narrow 12 x 64, B32", 32, (64,), deep_narrow, "12 Linear(64, 64), Tanh between", 1.0),
    Network("deep narrow 12 x 64, B1", 1, (64,), deep_narrow, "12 Linear(64, 64), Tanh between", 1.0),
    Network(
        "linear runs 6 x 256 + BN, B16",
        16,
        (256,),
        linear_runs,
        "two runs of (Linear, BatchNorm1d) x 3, one Tanh between the runs",
        2.6,
    ),
    Network(
        "conv 28x28 s2, s2, fc10, B32",
        32,
        (1, 28, 28),
        conv_classifier,
        "channels 1-16-32, kernels 3 with padding 1, BatchNorm2d and ReLU after each",
        1.1,
    ),
    Network(
        "conv autoencoder 16x16 -> 8 -> 16x16, B8",
        8,
        (1, 16, 16),
        conv_autoencoder,
        "channels 1-8-16 down by stride 2, Linear 256-8-256, transposed convolutions 4x4 up; ReLU, none at the 8",
        10.5,
    ),
    Network(
        "LayerNorm + GELU MLP, B16",
        16,
        (256,),
        layer_norm_mlp,
        "256-256-16-256-256, LayerNorm and GELU at the wide layers, GELU alone at the 16",
        5.0,
    ),
)


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm around a skip connection (He et al. 2016, arXiv:1512.03385, figure 2)."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.skip: nn.Module | None = None
        if stride != 1 or inner != outer:
            self.skip = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + (x if self.skip is None else self.skip(x)))


class RepVGG(nn.Module):
    """3x3, 1x1 and, where sizes allow, the identity, each with batch norm (Ding et al. 2021, arXiv:2101.03697)."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3 = nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer))
        self.conv1 = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.same = nn.BatchNorm2d(inner) if stride == 1 and inner == outer else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(x) + self.conv1(x)
        return self.relu(y if self.same is None else y + self.same(x))


class LoRA(nn.Module):
    """A Linear plus a correction of low rank, scale * up(down(x)) (Hu et al. 2021, arXiv:2106.09685)."""

    def __init__(self, inner: int, outer: int, rank: int, scale: float = 2.0) -> None:
        super().__init__()
        self.base = nn.Linear(inner, outer)
        self.down = nn.Linear(inner, rank, bias=False)
        self.up = nn.Linear(rank, outer, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x)) * self.scale


def deep_linear() -> nn.Sequential:
    def wide() -> nn.Linear:
        return nn.Linear(512, 512)

    return nn.Sequential(
        *(wide(), wide(), nn.BatchNorm1d(512), nn.Dropout(0.1), wide(), wide(), nn.ReLU(), nn.Linear(512, 10))
    )


def regular() -> nn.Sequential:
    return nn.Sequential(
        *(layer for _ in range(4) for layer in (nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.1)))
    )


def resnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def repvgg() -> nn.Sequential:
    return nn.Sequential(
        RepVGG(3, 16),
        RepVGG(16, 16),
        RepVGG(16, 32, 2),
        RepVGG(32, 32),
        RepVGG(32, 64, 2),
        RepVGG(64, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def stacked_convs() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(8, 64, 3), nn.Conv2d(64, 8, 3), nn.ReLU(), nn.Conv2d(8, 64, 1), nn.Conv2d(64, 8, 3))
    )


def mobilenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(24, 144, 1, bias=False),
        nn.BatchNorm2d(144),
        nn.ReLU6(),
        nn.Conv2d(144, 144, 3, 1, 1, groups=144, bias=False),
        nn.BatchNorm2d(144),
        nn.ReLU6(),
        nn.Conv2d(144, 24, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.Conv2d(24, 144, 1, bias=False),
        nn.BatchNorm2d(144),
    )


FUSING: tuple[Network, ...] = (
    Network(
        "deep linear 4x512 + BN + dropout, B64",
        64,
        (512,),
        deep_linear,
        "BN and dropout after the second Linear; then ReLU and a Linear to 10",
        layers=(5, 2),
    ),
    Network(
        "low rank 1024-32-1024 (kept), B64",
        64,
        (1024,),
        lambda: nn.Sequential(
            nn.Linear(1024, 32), nn.Linear(32, 1024), nn.ReLU(), nn.Linear(1024, 32), nn.Linear(32, 1024)
        ),
        "twice, ReLU between",
        layers=(4, 4),
    ),
    Network(
        "linear expand 64-1024-64, B256",
        256,
        (64,),
        lambda: nn.Sequential(
            nn.Linear(64, 1024),
            nn.BatchNorm1d(1024),
            nn.Linear(1024, 64),
            nn.ReLU(),
            nn.Linear(64, 1024),
            nn.Linear(1024, 64),
        ),
        "twice, ReLU between, BN in the first",
        layers=(4, 2),
    ),
    Network(
        "(Linear-BN-ReLU-Dropout) x4, B64",
        64,
        (256,),
        regular,
        "width 256",
        layers=(4, 4),
    ),
    Network(
        "ResNet-style 16-32-64, B8",
        8,
        (3, 32, 32),
        resnet,
        "a stem of 16, one basic block a width, average pool, Linear to 10; images 32x32",
        layers=(10, 10),
    ),
    Network(
        "RepVGG-style, B8",
        8,
        (3, 32, 32),
        repvgg,
        "six blocks of 16, 16, 32, 32, 64, 64 channels, the second of each pair with the identity branch; images 32x32",
        layers=(13, 7),
    ),
    Network(
        "BN before valid conv, B8",
        8,
        (8, 32, 32),
        lambda: nn.Sequential(
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3),
            nn.ReLU(),
        ),
        "channels 8-16-16, images 32x32",
        layers=(2, 2),
    ),
    Network(
        "conv 8-64-8 valid 3x3-3x3 and 1x1-3x3, B8",
        8,
        (8, 32, 32),
        stacked_convs,
        "ReLU between the two pairs, images 32x32",
        layers=(4, 2),
    ),
    Network(
        "LoRA r=8, d=512 twice, B64",
        64,
        (512,),
        lambda: nn.Sequential(LoRA(512, 512, 8), nn.ReLU(), LoRA(512, 512, 8)),
        "ReLU between, scale 2; the correction's second factor is not zero",
        layers=(6, 2),
    ),
    Network(
        "MobileNetV2-like project-expand, B4",
        4,
        (24, 28, 28),
        mobilenet,
        "24-144-24-144 channels, depthwise 3x3, images 28x28; project and expand meet without an activation",
        layers=(4, 4),
    ),
)
