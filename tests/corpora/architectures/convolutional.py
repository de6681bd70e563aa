"""Convolutional networks of other kinds: separable, squeezed, branching, up and down again."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.architectures.architecture import Architecture, Facts


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, then an MLP over channels, times a learned scale (Liu et al. 2022, arXiv:2201.03545)."""

    def __init__(self, dim: int, scale: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(scale * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.dwconv(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        x = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(x))))
        return shortcut + x.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 4, 4)
        self.stem_norm = nn.LayerNorm(64)
        self.stages = nn.Sequential(*[ConvNeXtBlock(64) for _ in range(3)])
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(self.norm(self.stages(x).mean([-2, -1])))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project without an activation (Sandler et al. 2018, arXiv:1801.04381)."""

    def __init__(self, inner: int, outer: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inner * expand
        self.skip = stride == 1 and inner == outer
        self.conv = nn.Sequential(
            *(nn.Conv2d(inner, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            *(nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(hidden, outer, 1, bias=False), nn.BatchNorm2d(outer)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


def mobilenet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True)),
        InvertedResidual(32, 32, 1, 4),
        InvertedResidual(32, 64, 2, 4),
        InvertedResidual(64, 64, 1, 4),
        *(nn.Conv2d(64, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU6(inplace=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 100)),
    )


class SqueezeExcite(nn.Module):
    """A gate for each channel from the mean over positions (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.expand(F.silu(self.reduce(s))))


class MBConv(nn.Module):
    """MobileNetV2's block with SiLU and squeeze-and-excitation (Tan & Le 2019, arXiv:1905.11946)."""

    def __init__(self, channels: int, expand: int = 4) -> None:
        super().__init__()
        hidden = channels * expand
        self.expand_conv = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn0 = nn.BatchNorm2d(hidden)
        self.depthwise_conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.se = SqueezeExcite(hidden, channels // 4)
        self.project_conv = nn.Conv2d(hidden, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        x = F.silu(self.bn0(self.expand_conv(inputs)))
        x = F.silu(self.bn1(self.depthwise_conv(x)))
        return self.bn2(self.project_conv(self.se(x))) + inputs


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn0 = nn.BatchNorm2d(64)
        self.blocks = nn.ModuleList([MBConv(64), MBConv(64)])
        self.conv_head = nn.Conv2d(64, 256, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(256)
        self.fc = nn.Linear(256, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.bn0(self.conv_stem(x)))
        for block in self.blocks:
            x = block(x)
        x = F.silu(self.bn1(self.conv_head(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Inception(nn.Module):
    """Four branches side by side (Szegedy et al. 2015, arXiv:1409.4842, figure 2b), without norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, 32, 1)
        self.three = nn.Sequential(nn.Conv2d(channels, 48, 1), nn.ReLU(), nn.Conv2d(48, 64, 3, padding=1))
        self.five = nn.Sequential(nn.Conv2d(channels, 16, 1), nn.ReLU(), nn.Conv2d(16, 32, 5, padding=2))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(channels, 32, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], dim=1))


def inception() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(Inception(64), Inception(160), nn.MaxPool2d(2), Inception(160)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(160, 100)),
    )


def double(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(outer, outer, 3, padding=1), nn.ReLU(inplace=True)),
    )


class UNet(nn.Module):
    """Down, across, up with transposed convolutions (Ronneberger et al. 2015, arXiv:1505.04597), without norms."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = double(3, 32), double(32, 64), double(64, 128)
        self.up2, self.merge2 = nn.ConvTranspose2d(128, 64, 2, stride=2), double(128, 64)
        self.up1, self.merge1 = nn.ConvTranspose2d(64, 32, 2, stride=2), double(64, 32)
        self.out = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.merge2(torch.cat([self.up2(c), b], dim=1))
        a = self.merge1(torch.cat([self.up1(b), a], dim=1))
        return self.out(a)


def images() -> Tensor:
    return torch.randn(8, 3, 16, 16)


CONVOLUTIONAL = (
    Architecture(
        "ConvNeXt",
        ConvNeXt,
        lambda: torch.randn(8, 3, 32, 32),
        Facts(("head",), branches=("stages.*",)),
    ),
    Architecture(
        "MobileNetV2",
        mobilenet,
        lambda: torch.randn(16, 3, 16, 16),
        Facts(("12",), branches=("3.*", "5.*"), draws=True),
    ),
    Architecture(
        "EfficientNet", EfficientNet, lambda: torch.randn(16, 3, 16, 16), Facts(("fc",), branches=("blocks.*",))
    ),
    Architecture("Inception", inception, images, Facts(("9",)), slow=True),
    Architecture("U-Net", UNet, lambda: torch.randn(4, 3, 16, 16), Facts(("out",))),
)
