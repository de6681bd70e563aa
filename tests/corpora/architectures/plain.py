"""Deep stacks with nothing but layers and functions: no norm, no skip."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.architectures.architecture import Architecture, Facts


def vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, "M", 128, 128, "M", 128, 128, 128, "M", 128, 128, 128, "M"):
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, int(width), 3, padding=1), nn.ReLU(inplace=True)]
            channels = int(width)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 256), nn.ReLU(True), nn.Dropout(), nn.Linear(256, 100))


class GELUStack(nn.Module):
    def __init__(self, depth: int = 60, width: int = 128) -> None:
        super().__init__()
        self.first = nn.Linear(64, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 2))
        self.last = nn.Linear(width, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.first(x))
        for layer in self.hidden:
            x = F.gelu(layer(x))
        return self.last(x)


def tanh_stack() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(64, 128), nn.Tanh()]
    for _ in range(38):
        layers += [nn.Linear(128, 128), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(128, 100))


class SwiGLU(nn.Module):
    """silu(a) * b between two linear layers (Shazeer 2020, arXiv:2002.05202, eq. 6), three of them in a row."""

    def __init__(self, width: int = 128, hidden: int = 256) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in range(3))
        self.ups = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in range(3))
        self.downs = nn.ModuleList(nn.Linear(hidden, width, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for gate, up, down in zip(self.gates, self.ups, self.downs):
            x = down(F.silu(gate(x)) * up(x))
        return x


PLAIN = (
    Architecture("VGG", vgg, lambda: torch.randn(8, 3, 16, 16), Facts(("28",), draws=True), slow=True),
    Architecture("60 layers of GELU", GELUStack, lambda: torch.randn(32, 64), Facts(("last",)), slow=True),
    Architecture("40 layers of tanh", tanh_stack, lambda: torch.randn(32, 64), Facts(("78",)), slow=True),
    Architecture("SwiGLU MLP", SwiGLU, lambda: torch.randn(64, 128), Facts(("downs.2",)), slow=True),
)
