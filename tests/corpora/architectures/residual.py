"""Convolutional networks with skips."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.architectures.architecture import Architecture, Facts


class Basic(nn.Module):
    """Two 3x3 convolutions around a skip (He et al. 2016, arXiv:1512.03385, figure 5 left)."""

    def __init__(self, inner: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inner != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Basic(64, 64), Basic(64, 64))
        self.layer2 = nn.Sequential(Basic(64, 128, 2), Basic(128, 128))
        self.linear = nn.Linear(128, 100)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer2(self.layer1(out))
        out = F.avg_pool2d(out, out.shape[-1])
        return self.linear(out.view(out.size(0), -1))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (arXiv:1512.03385, figure 5 right)."""

    def __init__(self, inner: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)),
            *(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)),
        )
        self.downsample: nn.Module | None = None
        if stride != 1 or inner != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(self.branch(x) + identity)


def bottlenecks() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        Bottleneck(64, 32),
        Bottleneck(128, 32),
        Bottleneck(128, 64, 2),
        Bottleneck(256, 64),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(1),
        nn.Linear(256, 100),
    )


class PreActivation(nn.Module):
    """Norm and ReLU before each convolution, the skip untouched (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(torch.relu(self.bn1(x)))
        return x + self.conv2(torch.relu(self.bn2(y)))


class PreResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*[PreActivation(64) for _ in range(6)])
        self.bn = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn(self.blocks(self.stem(x)))).mean((2, 3)))


class DenseBlock(nn.Module):
    """Every layer reads all maps before it (Huang et al. 2017, arXiv:1608.06993)."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(nn.BatchNorm2d(channels + i * growth), nn.ReLU()),
                *(nn.Conv2d(channels + i * growth, 4 * growth, 1, bias=False), nn.BatchNorm2d(4 * growth), nn.ReLU()),
                nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
            )
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


def densenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1, bias=False),
        DenseBlock(64, 32, 4),
        *(nn.BatchNorm2d(192), nn.ReLU(), nn.Conv2d(192, 96, 1, bias=False), nn.AvgPool2d(2)),
        DenseBlock(96, 32, 4),
        *(nn.BatchNorm2d(224), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(224, 100),
    )


class HandWritten(nn.Module):
    """A residual MLP whose activation is written in place: x * sigmoid(1.702 x)."""

    def __init__(self, width: int = 128, depth: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(64, width)
        self.up = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.head = nn.Linear(width, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for up, down in zip(self.up, self.down):
            h = up(x)
            x = x + down(h * torch.sigmoid(1.702 * h))
        return self.head(x)


def images() -> Tensor:
    return torch.randn(16, 3, 16, 16)


RESIDUAL = (
    Architecture("ResNet", ResNet, images, Facts(("linear",), branches=("layer*.conv?.weight", "layer*.bn?.*"))),
    Architecture("ResNet, bottlenecks", bottlenecks, images, Facts(("9",), branches=("*.branch.*",)), slow=True),
    Architecture("ResNet, pre-activation", PreResNet, images, Facts(("fc",), branches=("blocks.*",)), slow=True),
    Architecture("DenseNet", densenet, lambda: torch.randn(8, 3, 16, 16), Facts(("11",)), slow=True),
    Architecture(
        "residual MLP", HandWritten, lambda: torch.randn(64, 64), Facts(("head",), branches=("up.*", "down.*"))
    ),
)
