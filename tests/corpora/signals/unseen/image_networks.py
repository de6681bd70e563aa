"""The faulty networks of images, sounds and coordinates; what is wrong is an argument."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sounds(nn.Module):
    """Convolutions over a waveform, each with batch norm (Dai et al. 2017, arXiv:1610.00087); a mean over time."""

    def __init__(self, complete: bool) -> None:
        super().__init__()
        sizes = [(1, 24, 16, 4), (24, 48, 3, 2), (48, 48, 3, 1), (48, 48, 3, 2), (48, 48, 3, 1)]
        self.convs = nn.ModuleList(nn.Conv1d(a, b, size, stride) for a, b, size, stride in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for _, b, _, _ in sizes)
        self.bent = (True, complete, complete, True, True)
        self.head = nn.Linear(48, 6)

    def step(self, x: Tensor, i: int) -> Tensor:
        """One convolution, its norm, and its activation if it has one."""
        y = self.norms[i](self.convs[i](x))
        return F.relu(y) if self.bent[i] else y

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, T)
        for i in range(len(self.convs)):
            x = self.step(x, i)
        return self.head(x.mean(-1))


class Planes(nn.Module):
    """Pictures from planes of labels: convolutions with reflected edges, a norm, a tanh."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        edges: dict[str, Any] = {"padding": 1, "padding_mode": "reflect"}
        self.embed, self.norm = nn.Conv2d(8, 32, 3, **edges), norm
        self.middle, self.out = nn.Conv2d(32, 32, 3, **edges), nn.Conv2d(32, 3, 3, **edges)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.embed(x)))
        return torch.tanh(self.out(F.relu(self.middle(x))))


class Segmenter(nn.Module):
    """A class for each pixel: down, up, and a 1x1 convolution (Long et al. 2015, arXiv:1411.4038)."""

    def __init__(self, squashed: bool) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(32, 16, 3, 1, 1), nn.ReLU())
        self.classify, self.squashed = nn.Conv2d(16 + 3, 4, 1), squashed

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) to (B, 4, H, W)
        y = self.classify(torch.cat([self.up(self.down(x)), x], 1))
        return F.softmax(y, dim=1) if self.squashed else y


class Siren(nn.Module):
    """A picture as a function of its coordinates, by sines of 30 times what layers give (arXiv:2006.09661)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        sizes = [2, width, width, width]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.head = nn.Linear(width, 1)
        for i, weight in enumerate(weight for name, weight in self.named_parameters() if name.endswith("weight")):
            bound = 1 / 2 if i == 0 else (6 / width) ** 0.5 / 30  # section 3.2 of the paper
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        return self.head(x)
