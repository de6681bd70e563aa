"""The faulty networks of sequences, sets, graphs and tables; what is wrong is an argument."""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Captioner(nn.Module):
    """A picture sets the first state of a tanh RNN that reads words; the word after the last is told."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32 * 16, 64), nn.Tanh()),
        )
        self.embed, self.rnn = nn.Embedding(30, 32), nn.RNN(32, 64, batch_first=True)
        self.head = nn.Linear(64, 30)

    def forward(self, picture: Tensor, words: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(words), self.encoder(picture)[None])[0][:, -1])


class Towers(nn.Module):
    """Cosines of users and things, ten times."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.users, self.things = nn.Embedding(60, 32), nn.Embedding(80, 32)
        for table in (self.users, self.things):
            nn.init.normal_(table.weight, 0.0, std)

    def forward(self, users: Tensor, things: Tensor) -> Tensor:
        return 10 * F.normalize(self.users(users), dim=-1) @ F.normalize(self.things(things), dim=-1).T


class VAE(nn.Module):
    """Gaussian codes (Kingma & Welling 2014, arXiv:1312.6114); gives what it makes, means and log variances."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 512), nn.ReLU())
        self.mean, self.logvar = nn.Linear(512, 8), nn.Linear(512, 8)
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.encoder(x)
        mean, logvar = self.mean(y), self.logvar(y)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        return self.decoder(z), mean, logvar


class Speakers(nn.Module):
    """Mean and deviation over time of what convolutions give (x-vectors, Snyder et al. 2018)."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            nn.Conv1d(20, 64, 5),
            nn.ReLU(),
            nn.Conv1d(64, 64, 3, dilation=2),
            nn.ReLU(),
            nn.Conv1d(64, 64, 1),
            nn.ReLU(),
        )
        self.segment, self.head, self.least = nn.Linear(128, 64), nn.Linear(64, 8), least

    def forward(self, x: Tensor) -> Tensor:  # (B, C, T)
        y = self.frames(x)
        y = torch.cat([y.mean(-1), (y.var(-1) + self.least).sqrt()], 1)
        return self.head(F.relu(self.segment(y)))


class Mixture(nn.Module):
    """Weights, means and scales of a mixture of normals over many columns (Bishop 1994)."""

    def __init__(self, parts: int = 4, columns: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(12, 64), nn.Tanh())
        self.weights, self.means, self.scales = (
            nn.Linear(64, parts),
            nn.Linear(64, parts * columns),
            nn.Linear(64, parts * columns),
        )
        self.parts = parts

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.hidden(x)
        means, scales = (f(y).unflatten(1, (self.parts, -1)) for f in (self.means, self.scales))
        return self.weights(y).log_softmax(-1), means, scales.exp()


class WideDeep(nn.Module):
    """A linear part and a deep one, added to one logit (Cheng et al. 2016, arXiv:1606.07792), then squashed."""

    def __init__(self, squash: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.wide, self.squash = nn.Linear(16, 1), squash
        self.deep = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(self.wide(x) + self.deep(x))


class Thresholded(nn.Module):
    """Sparse codes by steps of shrinkage that are learned (LISTA, Gregor & LeCun 2010), and what they stand for."""

    def __init__(self, threshold: float, codes: int = 96) -> None:
        super().__init__()
        self.encode, self.again = nn.Linear(48, codes, bias=False), nn.Linear(codes, codes, bias=False)
        self.threshold, self.decode = nn.Parameter(torch.full((codes,), threshold)), nn.Linear(codes, 48)

    def forward(self, x: Tensor) -> Tensor:
        y = z = self.encode(x)
        for _ in range(3):
            z = z.sign() * F.relu(z.abs() - self.threshold)
            z = y + self.again(z)
        return self.decode(z.sign() * F.relu(z.abs() - self.threshold))


class ActorCritic(nn.Module):
    """What an action is worth, the action chosen by the actor (DDPG, Lillicrap et al. 2016, arXiv:1509.02971)."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(
            nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3), nn.Tanh()
        )
        self.critic = nn.Sequential(nn.Linear(11, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(torch.cat([x, self.actor(x)], 1))


class SoftExperts(nn.Module):
    """A sum of experts weighed by a gate; the experts are copies of the first, or drawn each by itself."""

    def __init__(self, copies: bool) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(16, 4), nn.Linear(32, 5)

        def expert() -> nn.Module:
            return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32))

        first = expert()
        self.experts = nn.ModuleList(copy.deepcopy(first) if copies else expert() for _ in range(4))
        if copies:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def forward(self, x: Tensor) -> Tensor:
        shares = self.gate(x).softmax(-1)  # (B, 4)
        y = torch.stack([expert(x) for expert in self.experts], 1)
        return self.head((shares[..., None] * y).sum(1))


class Categories(nn.Module):
    """Columns of categories, each with a table of its own, then an MLP."""

    def __init__(self, columns: int = 6, values: int = 20) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(values, 8) for _ in range(columns))
        self.mlp = nn.Sequential(nn.Linear(8 * columns, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x: Tensor) -> Tensor:  # (B, columns), as floats: they come from one table of numbers
        codes = x.long()
        return self.mlp(torch.cat([table(codes[:, i]) for i, table in enumerate(self.tables)], 1))


class DeepGraph(nn.Module):
    """Graph convolutions in a row (Kipf & Welling 2017, arXiv:1609.02907)."""

    adjacency: Tensor

    def __init__(self, adjacency: Tensor, depth: int) -> None:
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.layers = nn.ModuleList(nn.Linear(16 if i == 0 else 32, 32) for i in range(depth))
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(self.adjacency @ x))
        return self.head(x)


class Encoded(nn.Module):
    """torch's encoder of two layers; the layer it was copied from is kept, or not."""

    def __init__(self, kept: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        if kept:
            self.layer = layer
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


class Hyper(nn.Module):
    """A first layer whose weights another network makes from what the task is (Ha et al. 2017, arXiv:1609.09106)."""

    def __init__(self, wrapped: bool) -> None:
        super().__init__()
        self.task = nn.Parameter(torch.randn(6))
        self.hyper = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 24 * 16))
        self.head, self.wrapped = nn.Linear(24, 4), wrapped

    def forward(self, x: Tensor) -> Tensor:
        weight = self.hyper(self.task).view(24, 16)
        return self.head(F.relu(F.linear(x, nn.Parameter(weight) if self.wrapped else weight)))


class TwiceSkipped(nn.Module):
    """torch's pre-norm layers, which have their skips within, and another skip around each, or not."""

    def __init__(self, again: bool, depth: int = 16) -> None:
        super().__init__()
        self.embed, self.again = nn.Linear(12, 32), again
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True) for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = x + layer(x) if self.again else layer(x)
        return self.head(self.norm(x).mean(1))


class Pointer(nn.Module):
    """Additive attention, v . tanh(W q + U k), of a last state over what came in (Bahdanau et al. 2015)."""

    def __init__(self, std: float, width: int = 256) -> None:
        super().__init__()
        self.gru = nn.GRU(12, 32, batch_first=True)
        self.query, self.key = nn.Linear(32, width), nn.Linear(12, width)
        self.v = nn.Parameter(std * torch.randn(width))
        self.head = nn.Linear(12 + 32, 4)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, 12)
        last = self.gru(x)[0][:, -1]
        scores = torch.tanh(self.query(last)[:, None] + self.key(x)) @ self.v  # (B, T)
        return self.head(torch.cat([(scores.softmax(-1)[..., None] * x).sum(1), last], 1))


class Slots(nn.Module):
    """Slots that compete for what is in a set, twice (Locatello et al. 2020, arXiv:2006.15055)."""

    def __init__(self, std: float, slots: int = 4, width: int = 32) -> None:
        super().__init__()
        self.slots = nn.Parameter(std * torch.randn(slots, width))
        self.inputs, self.norm = nn.LayerNorm(12), nn.LayerNorm(width)
        self.key, self.value, self.query = nn.Linear(12, width), nn.Linear(12, width), nn.Linear(width, width)
        self.update, self.head = nn.GRUCell(width, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, 12)
        x = self.inputs(x)
        k, v = self.key(x), self.value(x)
        slots = self.slots.expand(len(x), -1, -1)
        for _ in range(2):
            q = self.query(self.norm(slots))
            weights = (k @ q.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)  # (B, N, slots)
            read = (weights / weights.sum(1, keepdim=True)).transpose(1, 2) @ v
            slots = self.update(read.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        return self.head(slots).amax(1)


class WordDropped(nn.Module):
    """Words dropped whole, then a GRU, whose mean over time is classified."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(50, 32), nn.Dropout1d(p)
        self.gru, self.head = nn.GRU(32, 48, batch_first=True), nn.Linear(48, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.gru(self.drop(self.embed(ids)))[0].mean(1))


class Bags(nn.Module):
    """Sets of unlike sizes: one network for each thing, their sum or their mean for all (arXiv:1703.06114)."""

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.all, self.mean = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)), mean

    def forward(self, x: Tensor, there: Tensor) -> Tensor:  # (B, N, 4), (B, N) of 0 and 1
        y = (self.each(x) * there[..., None]).sum(1)
        return self.all(y / there.sum(1, keepdim=True) if self.mean else y)


class GatedConvs(nn.Module):
    """Gated convolutions over words, conv(x) * sigmoid(gate(x)) (Dauphin et al. 2017, arXiv:1612.08083)."""

    def __init__(self, skip: bool, depth: int = 20) -> None:
        super().__init__()
        self.embed, self.head, self.skip = nn.Embedding(50, 32), nn.Linear(32, 50), skip
        self.convs = nn.ModuleList(nn.Conv1d(32, 64, 3, padding=1) for _ in range(depth))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids).transpose(1, 2)
        for conv in self.convs:
            y = F.glu(conv(x), 1)
            x = x + y if self.skip else y
        return self.head(x.transpose(1, 2))
