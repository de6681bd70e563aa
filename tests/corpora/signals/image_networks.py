"""Networks for images and tables, and their neighbours that generate; some take the fault as an argument."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.networks import Block


class ConvNet(nn.Module):
    """Three strided convolutions, with batch norm or without, and a linear head."""

    def __init__(self, norm: bool, channels: int = 1) -> None:
        super().__init__()
        sizes = [channels, 16, 32, 32]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(sizes, sizes[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) if norm else nn.Identity() for b in sizes[1:])
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms):
            x = F.relu(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class Plain(nn.Module):
    """Twenty convolutions in a row, with batch norm or without."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, 1, 1) for _ in range(20))
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) if norm else nn.Identity() for _ in range(20))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for conv, norm in zip(self.convs, self.norms):
            x = F.relu(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class ResNet(nn.Module):
    """A stem, three stages of one basic block each, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stage1, self.stage2, self.stage3 = Block(16, 16), Block(16, 32, 2), Block(32, 64, 2)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.head(x.mean((2, 3)))


class Extractor(nn.Module):
    """A body of features, and a head on them; the features are cut from autograd or not."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten())
        )
        self.classifier = nn.Sequential(nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10))
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.cut):
            y = self.features(x)
        return self.classifier(y)


class UNet(nn.Module):
    """Two levels down, a middle, two up, with skips (Ronneberger et al. 2015, arXiv:1505.04597)."""

    def __init__(self, cut: bool = False) -> None:
        super().__init__()

        def double(a: int, b: int) -> nn.Module:
            norm = nn.BatchNorm2d(b)
            return nn.Sequential(nn.Conv2d(a, b, 3, 1, 1), norm, nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1), nn.ReLU())

        self.down1, self.down2, self.middle = double(1, 8), double(8, 16), double(16, 32)
        self.lift2, self.up2 = nn.ConvTranspose2d(32, 16, 2, 2), double(32, 16)
        self.lift1, self.up1 = nn.ConvTranspose2d(16, 8, 2, 2), double(16, 8)
        self.last, self.cut = nn.Conv2d(8, 1, 1), cut

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.middle(F.max_pool2d(b, 2))
        c = c.detach() if self.cut else c
        b = self.up2(torch.cat([self.lift2(c), b], 1))
        return self.last(self.up1(torch.cat([self.lift1(b), a], 1)))


class Mixer(nn.Module):
    """Patches mixed along tokens and along channels in turn (Tolstikhin et al. 2021, arXiv:2105.01601)."""

    class Part(nn.Module):
        def __init__(self, size: int, hidden: int, act: bool) -> None:
            super().__init__()
            self.fc1, self.fc2, self.act = nn.Linear(size, hidden), nn.Linear(hidden, size), act

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc1(x)
            return self.fc2(F.gelu(y) if self.act else y)

    class Layer(nn.Module):
        def __init__(self, tokens: int, width: int, act: bool) -> None:
            super().__init__()
            self.norm1, self.tokens = nn.LayerNorm(width), Mixer.Part(tokens, 2 * tokens, True)
            self.norm2, self.channels = nn.LayerNorm(width), Mixer.Part(width, 2 * width, act)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.norm2(x))

    def __init__(self, act: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 4, 4)
        self.mixing = nn.Sequential(*(self.Layer(16, 48, act) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.mixing(x)).mean(1))


class AutoEncoder(nn.Module):
    """Down to a code and back; what the decoder reads is cut or not."""

    def __init__(self, cut: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 48), nn.Tanh(), nn.Linear(48, 64))
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        return self.decoder(code.detach() if self.cut else code)


class Generator(nn.Module):
    """Noise to images by transposed convolutions (Radford et al. 2016, arXiv:1511.06434), normed or not."""

    def __init__(self, norm: bool) -> None:
        super().__init__()

        def up(a: int, b: int, stride: int = 2, pad: int = 1) -> list[nn.Module]:
            conv = nn.ConvTranspose2d(a, b, 4, stride, pad, bias=not norm)
            return [conv, *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU()]

        self.net = nn.Sequential(*up(16, 64, 1, 0), *up(64, 32), *up(32, 16), nn.ConvTranspose2d(16, 1, 4, 2, 1))

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.net(z))


class GAN(nn.Module):
    """A generator judged by a discriminator: the probability that what it makes is real."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
        self.discriminator = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.discriminator(self.generator(z)))


class TwoHeads(nn.Module):
    """A classifier with a side branch, whose result is used or forgotten."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.side = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
        self.head, self.used = nn.Linear(16, 10), used

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        detail = self.side(x)
        return self.head((x + detail if self.used else x).mean((2, 3)))


class Tabular(nn.Module):
    """A norm on what comes in, then an MLP."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(size)
        self.net = nn.Sequential(nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.norm(x))


class Series(nn.Module):
    """One number a time step, normed, embedded and mixed; the last step is classified."""

    def __init__(self, over_time: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(30 if over_time else 1)
        self.embed, self.mix = nn.Linear(1, 32), nn.Conv1d(32, 32, 5)
        self.head, self.over_time = nn.Linear(32, 4), over_time

    def forward(self, x: Tensor) -> Tensor:  # (B, T, 1)
        x = self.norm(x.squeeze(-1)).unsqueeze(-1) if self.over_time else self.norm(x)
        x = F.relu(self.embed(x)).transpose(1, 2)
        return self.head(F.relu(self.mix(x))[:, :, -1])


class Pooled(nn.Module):
    """A norm by groups behind the pooling to one pixel."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 32, 3, 2, 1), nn.GroupNorm(groups, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(F.relu(self.conv(x)), 1)
        return self.head(self.norm(x).flatten(1))


class Dropped(nn.Module):
    """An MLP with dropout behind each layer."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(32, 128), nn.Linear(128, 128), nn.Linear(128, 5)
        self.drop = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(F.relu(self.fc1(x)))
        return self.fc3(self.drop(F.relu(self.fc2(x))))
