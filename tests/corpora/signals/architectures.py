"""Networks that only the healthy corpus has."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.dense_networks import MLP


class LeNet(nn.Module):
    """Convolutions and max pooling, no norm (LeCun et al. 1998)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 25, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class ConvNeXt(nn.Module):
    """Depthwise 7x7, norm, MLP, and a learned scale of 1e-6 at the branch's end (Liu et al. 2022, arXiv:2201.03545)."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
            self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.gamma = nn.Parameter(torch.full((width,), 1e-6))

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
            return x + (self.gamma * self.fc2(F.gelu(self.fc1(y)))).permute(0, 3, 1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 2, 2)
        self.blocks = nn.Sequential(self.Block(24), self.Block(24))
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean((2, 3))))


class DenseNet(nn.Module):
    """Each layer reads all that came before (Huang et al. 2017, arXiv:1608.06993)."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(3 + 8 * i) for i in range(4))
        self.convs = nn.ModuleList(nn.Conv2d(3 + 8 * i, 8, 3, 1, 1) for i in range(4))
        self.head = nn.Linear(35, 10)

    def forward(self, x: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return self.head(x.mean((2, 3)))


class ReZero(nn.Module):
    """x + alpha * branch(x) with alpha 0 (Bachlechner et al. 2021, arXiv:2003.04887)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(20, 32), nn.Linear(32, 5)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(depth))
        self.alphas = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer, alpha in zip(self.layers, self.alphas):
            x = x + alpha * F.relu(layer(x))
        return self.head(x)


class GRU(nn.Module):
    """Two layers of GRU over vectors; the mean over time is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(12, 48, 2, batch_first=True), nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0].mean(1))


class Critic(nn.Module):
    """DCGAN's discriminator: one logit an image."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32)),
            *(nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(32 * 16, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(1)


class PointNet(nn.Module):
    """Points through one network, their maximum through another (Qi et al. 2017, arXiv:1612.00593)."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 64))
        self.whole = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(self.point(x).amax(1))


class Graphs(nn.Module):
    """Two graph convolutions over a fixed graph (Kipf & Welling 2017, arXiv:1609.02907)."""

    adjacency: Tensor

    def __init__(self, adjacency: Tensor) -> None:
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.adjacency @ self.second(F.relu(self.adjacency @ self.first(x)))


class Ratings(nn.Module):
    """Products of the embeddings of users and things."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.things = nn.Embedding(200, 16), nn.Embedding(300, 16)
        for table in (self.users, self.things):
            nn.init.normal_(table.weight, 0.0, 0.5)

    def forward(self, users: Tensor, things: Tensor) -> Tensor:
        return (self.users(users) * self.things(things)).sum(-1)


class VQ(nn.Module):
    """Nearest codes, passed straight through, with the two losses that move them (arXiv:1711.00937)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
        self.codebook = nn.Embedding(24, 8)
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(x)
        code = self.codebook(torch.cdist(z, self.codebook.weight).argmin(1))
        moved = F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(z, code.detach())
        return self.decoder(z + (code - z).detach()), moved


class Student(nn.Module):
    """A network that is to answer as its teacher does, who does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = MLP([20, 64, 8]), MLP([20, 64, 8])
        self.teacher.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            wanted = self.teacher(x)
        return self.student(x), wanted


class Policy(nn.Module):
    """Means from what is seen, a spread that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean = (
            nn.Sequential(nn.Linear(11, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()),
            nn.Linear(64, 3),
        )
        self.log_std = nn.Parameter(torch.full((3,), -0.5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(self.body(x)), self.log_std.exp()


class Probabilities(nn.Module):
    """A classifier that answers with probabilities, or their logarithms."""

    def __init__(self, outputs: int, squash: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head, self.squash = nn.Sequential(nn.Linear(20, 64), nn.ReLU()), nn.Linear(64, outputs), squash

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(self.head(self.body(x)))
