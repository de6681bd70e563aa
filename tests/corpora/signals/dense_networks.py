"""Networks of dense layers, as people write them; some take the fault as an argument."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Act = Callable[[Tensor], Tensor]


class MLP(nn.Module):
    """Linear layers with a function between them."""

    def __init__(self, sizes: Sequence[int], act: Act = F.relu) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self.layers)[:-1]:
            x = self.act(layer(x))
        return self.layers[-1](x)


class ResidualMLP(nn.Module):
    """x + second(relu(first(x))), without norms."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.second(F.relu(self.first(x)))

    def __init__(self, size: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Linear(size, width)
        self.blocks = nn.Sequential(*(self.Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


class SwiGLU(nn.Module):
    """Residual blocks down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202), normed or not."""

    class Block(nn.Module):
        def __init__(self, width: int, hidden: int, norm: bool) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width) if norm else nn.Identity()
            self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
            self.down = nn.Linear(hidden, width, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)
            return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def __init__(self, width: int, hidden: int, depth: int, norm: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(self.Block(width, hidden, norm) for _ in range(depth)))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x))


class Scaled(nn.Module):
    """An MLP whose hidden features are multiplied by a learned number."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(20, 64), nn.Linear(64, 4)
        self.scale = nn.Parameter(torch.ones(()))
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.second(x * (self.scale.item() if self.cut else self.scale))


class Narrow(nn.Module):
    """A classifier through a squeeze: width // reduction units."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(32, width)
        self.squeeze = nn.Linear(width, width // reduction)
        self.expand = nn.Linear(width // reduction, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inputs(x))
        x = self.squeeze(x)
        return self.head(F.relu(self.expand(torch.tanh(x))))


class Uneven(nn.Module):
    """Five dense layers of which two have no function behind them."""

    def __init__(self, complete: bool) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.fc4, self.out = nn.Linear(64, 64), nn.Linear(64, 3)
        self.between: Act = F.relu if complete else lambda x: x

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        x = self.between(self.fc2(x))
        x = self.between(self.fc3(x))
        return self.out(F.relu(self.fc4(x)))
