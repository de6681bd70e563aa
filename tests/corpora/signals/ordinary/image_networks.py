"""Networks for images, as users write them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OldNet(nn.Module):
    """Convolutions and dense layers with sigmoids, average pooling: the fashion of 1998, only deeper."""

    def __init__(self, act: type[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 8, 5, padding=2), act(), nn.AvgPool2d(2)),
            *(nn.Conv2d(8, 16, 5, padding=2), act(), nn.AvgPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), act(), nn.AvgPool2d(2)),
        )
        self.classifier = nn.Sequential(
            *(nn.Flatten(), nn.Linear(288, 120), act(), nn.Linear(120, 84), act()),
            *(nn.Linear(84, 64), act(), nn.Linear(64, 48), act(), nn.Linear(48, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class LeNet(nn.Module):
    """Two convolutions and three dense layers with tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc1(x.flatten(1)))
        return self.fc3(torch.tanh(self.fc2(x)))


class MixerBlock(nn.Module):
    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(patches, 2 * patches), nn.GELU(), nn.Linear(2 * patches, patches))
        self.channels = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    """Patches, mixed along both axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 40, 4, 4)
        self.blocks = nn.Sequential(*[MixerBlock(25, 40) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(40), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


class Upscaler(nn.Module):
    """EDSR: residual blocks without a norm, pixels shuffled at the end. `scale` multiplies the branches."""

    def __init__(self, blocks: int, scale: float, width: int = 24) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.body = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
                for _ in range(blocks)
            ]
        )
        self.last = nn.Sequential(nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.body:
            x = x + (block(x) if self.scale == 1 else self.scale * block(x))
        return self.last(x)


def double(inner: int, outer: int) -> nn.Sequential:
    """Two convolutions, each with a batch norm and a ReLU."""
    layers: list[nn.Module] = []
    for a, b in ((inner, outer), (outer, outer)):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Three levels with batch norm. `squash`: a softmax over the classes at the end; `unit`: a factor there."""

    def __init__(self, inner: int, outer: int, squash: bool = False, unit: float = 1.0) -> None:
        super().__init__()
        self.squash, self.unit = squash, unit
        self.down1, self.down2, self.bottom = double(inner, 12), double(12, 24), double(24, 48)
        self.up2, self.up1 = nn.ConvTranspose2d(48, 24, 2, 2), nn.ConvTranspose2d(24, 12, 2, 2)
        self.merge2, self.merge1 = double(48, 24), double(24, 12)
        self.out = nn.Conv2d(12, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.merge2(torch.cat([self.up2(c), b], 1))
        a = self.merge1(torch.cat([self.up1(b), a], 1))
        y = self.out(a)
        if self.unit != 1:
            y = self.unit * y
        return y.softmax(1) if self.squash else y


class Faces(nn.Module):
    """A small convolutional network, a batch norm as its neck (BNNeck), and identities."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.PReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.PReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 64)),
        )
        self.neck = nn.BatchNorm1d(64)
        self.identities = nn.Linear(64, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.identities(self.neck(self.body(x)))


class ConvAutoEncoder(nn.Module):
    """Strided convolutions down, transposed ones up."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(16, 32, 4, 2, 1), nn.LeakyReLU(0.1)),
            nn.Conv2d(32, 16, 4, 2, 1),
        )
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(16, 32, 4, 2, 1), nn.LeakyReLU(0.1), nn.ConvTranspose2d(32, 16, 4, 2, 1)),
            *(nn.LeakyReLU(0.1), nn.ConvTranspose2d(16, 1, 4, 2, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Basic(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.shortcut = nn.Sequential()
        if stride != 1 or inner != outer:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """CIFAR's, with six blocks; convolutions as Kaiming has them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        shapes = ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1))
        self.layers = nn.Sequential(*[Basic(*shape) for shape in shapes])
        self.linear = nn.Linear(48, 10)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.linear(x.mean((2, 3)))


class Generator(nn.Module):
    """DCGAN's, with torch's start."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *(nn.ConvTranspose2d(40, 48, 4, bias=False), nn.BatchNorm2d(48), nn.ReLU(True)),
            *(nn.ConvTranspose2d(48, 24, 4, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(True)),
            *(nn.ConvTranspose2d(24, 1, 4, 2, 1), nn.Tanh()),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z[:, :, None, None])


class ViT(nn.Module):
    """Patches, a class token, places, and torch's multi-head attention; norms first."""

    def __init__(self, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 5, 5)
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.norms1 = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth)])
        self.attns = nn.ModuleList([nn.MultiheadAttention(width, 6, batch_first=True) for _ in range(depth)])
        self.norms2 = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth)])
        self.mlps = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width)) for _ in range(depth)]
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        for norm1, attn, norm2, mlp in zip(self.norms1, self.attns, self.norms2, self.mlps):
            y = norm1(x)
            x = x + attn(y, y, y, need_weights=False)[0]
            x = x + mlp(norm2(x))
        return self.head(self.norm(x[:, 0]))
