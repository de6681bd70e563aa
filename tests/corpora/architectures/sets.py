"""Sets, graphs, pairs, tables and experts: several inputs, or many of one kind."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.architectures.architecture import Architecture, Facts


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.fc = nn.Sequential(nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).flatten(1))


class Siamese(nn.Module):
    """One tower reads both images (Hadsell et al. 2006)."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
        return self.tower(one), self.tower(two)


def contrastive(output: tuple[Tensor, Tensor]) -> Tensor:
    distance = F.pairwise_distance(*output)
    alike = torch.arange(len(distance)) % 2
    return (alike * distance**2 + (1 - alike) * torch.relu(16.0 - distance) ** 2).mean()


class PointNet(nn.Module):
    """One MLP for every point, the maximum over points (Qi et al. 2017, arXiv:1612.00593, without the transforms)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(3, 64, 1), nn.BatchNorm1d(64)
        self.conv2, self.bn2 = nn.Conv1d(64, 128, 1), nn.BatchNorm1d(128)
        self.conv3, self.bn3 = nn.Conv1d(128, 256, 1), nn.BatchNorm1d(256)
        self.fc1, self.bn4 = nn.Linear(256, 128), nn.BatchNorm1d(128)
        self.fc2 = nn.Linear(128, 100)

    def forward(self, points: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(points)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(self.bn3(self.conv3(x)), 2)[0]
        return F.log_softmax(self.fc2(F.relu(self.bn4(self.fc1(x)))), dim=1)


def likelihood(output: Tensor) -> Tensor:
    return F.nll_loss(output, torch.arange(len(output)))


class DeepSets(nn.Module):
    """The sum of phi over the elements, then rho (Zaheer et al. 2017, arXiv:1703.06114)."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(64, 128), nn.ELU(), nn.Linear(128, 128), nn.ELU(), nn.Linear(128, 128))
        self.rho = nn.Sequential(nn.Linear(128, 128), nn.ELU(), nn.Linear(128, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.rho(self.phi(x).sum(dim=1))


class GCN(nn.Module):
    """Neighbours averaged by a dense matrix, bare parameters as weights (Kipf & Welling 2017, arXiv:1609.02907)."""

    def __init__(self, sizes: tuple[int, ...] = (64, 128, 128, 100)) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(i, o)) for i, o in zip(sizes, sizes[1:]))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(o)) for o in sizes[1:])
        for weight in self.weights:
            nn.init.xavier_uniform_(weight)

    def forward(self, features: Tensor, adjacency: Tensor) -> Tensor:
        adjacency = adjacency + torch.eye(adjacency.shape[0])
        degree = adjacency.sum(1).rsqrt()
        adjacency = degree[:, None] * adjacency * degree
        x = features
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = adjacency @ (x @ weight) + bias
            if i < len(self.weights) - 1:
                x = F.relu(x)
        return x


def ring() -> tuple[Tensor, Tensor]:
    """Features of 48 nodes, each joined to its four nearest in a ring."""
    places = torch.arange(48)
    apart = (places[:, None] - places).abs()
    apart = torch.minimum(apart, 48 - apart)
    return torch.randn(48, 64), ((apart > 0) & (apart <= 2)).float()


class MixerBlock(nn.Module):
    """An MLP across patches, one across channels (Tolstikhin et al. 2021, arXiv:2105.01601)."""

    def __init__(self, patches: int, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tokens = nn.Sequential(nn.Linear(patches, 2 * patches), nn.GELU(), nn.Linear(2 * patches, patches))
        self.channels = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, dim: int = 128) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 4, stride=4)
        self.blocks = nn.Sequential(*[MixerBlock(64, dim) for _ in range(4)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


class MixtureOfExperts(nn.Module):
    """All experts run, a softmax weighs them; their weights stand in one tensor each."""

    def __init__(self, dim: int = 128, hidden: int = 128, experts: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, experts)
        self.w1 = nn.Parameter(torch.randn(experts, dim, hidden) * dim**-0.5)
        self.b1 = nn.Parameter(torch.zeros(experts, hidden))
        self.w2 = nn.Parameter(torch.randn(experts, hidden, dim) * hidden**-0.5)
        self.out = nn.Linear(dim, 64)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).softmax(-1)
        h = F.silu(torch.einsum("bd,edh->beh", x, self.w1) + self.b1)
        y = torch.einsum("beh,ehd->bed", h, self.w2)
        return self.out(torch.einsum("be,bed->bd", share, y))


class FactorisationMachine(nn.Module):
    """First-order terms, pairwise products of embeddings, and an MLP beside (Guo et al. 2017, arXiv:1703.04247)."""

    def __init__(self, fields: tuple[int, ...] = (1000, 500, 50, 20), dim: int = 32) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(size, dim) for size in fields])
        self.linear = nn.ModuleList([nn.Embedding(size, 1) for size in fields])
        self.mlp = nn.Sequential(
            *(nn.Linear(len(fields) * dim, 128), nn.ReLU(), nn.Dropout(0.2)),
            *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1)),
        )
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        e = torch.stack([embed(x[:, i]) for i, embed in enumerate(self.embeddings)], dim=1)
        first = sum(table(x[:, i]) for i, table in enumerate(self.linear))
        second = 0.5 * (e.sum(1).pow(2) - e.pow(2).sum(1)).sum(1, keepdim=True)
        return (self.bias + first + second + self.mlp(e.flatten(1))).squeeze(1)


class TwoTowers(nn.Module):
    """Users and items meet in a bilinear form; the score of every item for every user."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(300, 64), nn.EmbeddingBag(500, 64, mode="mean")
        self.user_mlp = nn.Sequential(nn.Linear(64, 128), nn.SELU(), nn.Linear(128, 64))
        self.item_mlp = nn.Sequential(nn.Linear(64, 128), nn.SELU(), nn.Linear(128, 64))
        self.meet = nn.Bilinear(64, 64, 64)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return self.meet(self.user_mlp(self.user(users)), self.item_mlp(self.item(items)))


SETS = (
    Architecture(
        "Siamese",
        Siamese,
        lambda: (torch.randn(16, 1, 16, 16), torch.randn(16, 1, 16, 16)),
        Facts(
            ("tower.fc.2",),
            reused=("tower.conv.0.weight", "tower.fc.2.weight"),
            unread=("tower.fc.2.bias",),  # it moves both, and no distance
        ),
        loss=contrastive,
    ),
    Architecture("PointNet", PointNet, lambda: torch.randn(16, 3, 64), Facts(("fc2",)), loss=likelihood),
    Architecture("DeepSets", DeepSets, lambda: torch.randn(32, 8, 64), Facts(("rho.2",)), slow=True),
    Architecture("graph convolution", GCN, ring, Facts(())),
    Architecture("MLP-Mixer", Mixer, lambda: torch.randn(4, 3, 32, 32), Facts(("head",), ("blocks.*",)), slow=True),
    Architecture("mixture of experts", MixtureOfExperts, lambda: torch.randn(64, 128), Facts(("out",))),
    Architecture(
        "factorisation machine",
        FactorisationMachine,
        lambda: torch.randint(0, 20, (64, 4)),
        Facts(("mlp.5",), draws=True),
        slow=True,
    ),
    Architecture(
        "two towers",
        TwoTowers,
        lambda: (torch.randint(300, (64,)), torch.randint(500, (64, 5))),
        Facts(("meet",)),
        slow=True,
    ),
)
