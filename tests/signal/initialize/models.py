"""Small models that the tests of initialize share, each with an example."""

import torch
from torch import Tensor, nn

F = nn.functional


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for one, two in zip(widths, widths[1:]):
        layers += [nn.Linear(one, two), act()]
    return nn.Sequential(*layers[:-1])


class Branch(nn.Module):
    """x + f(x), f of two layers."""

    def __init__(self, width: int, norm: bool = False):
        super().__init__()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(F.gelu(self.one(self.norm(x))))


def residual(width: int, depth: int, norm: bool = False) -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, width), *(Branch(width, norm) for _ in range(depth)), nn.Linear(width, 8))


class Block(nn.Module):
    """A residual block of convolutions that ends in a batch norm."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Resnet(nn.Module):
    def __init__(self, blocks: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(16) for _ in range(blocks)))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Gpt(nn.Module):
    """Tokens and positions, blocks with packed attention by hand, a tied head."""

    def __init__(self, width: int = 32, depth: int = 2, words: int = 50, tied: bool = True):
        super().__init__()
        self.tokens, self.places = nn.Embedding(words, width), nn.Embedding(16, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "norm2": nn.LayerNorm(width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                }
            )
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            q, k, v = block["qkv"](block["norm1"](x)).chunk(3, -1)
            split = [t.unflatten(-1, (4, -1)).transpose(1, 2) for t in (q, k, v)]
            y = F.scaled_dot_product_attention(*split, is_causal=True)
            x = x + block["out"](y.transpose(1, 2).flatten(2))
            x = x + block["down"](F.gelu(block["up"](block["norm2"](x))))
        return self.head(self.norm(x))


class SwiGlu(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up = nn.Linear(64, 256, bias=False), nn.Linear(64, 256, bias=False)
        self.down = nn.Linear(256, 64, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Words(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, layers: int = 2):
        super().__init__()
        self.words = nn.Embedding(40, 24, padding_idx=0)
        self.cells = kind(24, 32, layers, batch_first=True)  # type: ignore[call-arg]
        self.head = nn.Linear(32, 40)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.cells(self.words(ids))[0])


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower, self.head = mlp(16, 64, 32), nn.Linear(64, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.cat([self.tower(a), self.tower(b)], -1))


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(32, 64 * 16)
        self.up1, self.norm = nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32)
        self.up2, self.last = nn.ConvTranspose2d(32, 16, 2, 2), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu(self.lin(z)).view(-1, 64, 4, 4)
        return torch.tanh(self.last(F.leaky_relu(self.up2(F.relu(self.norm(self.up1(x)))), 0.2)))


class Odds(nn.Module):
    """A slope, a learned scale, a temperature, a table, an unused layer, dropout."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 6, 16))
        self.one, self.act, self.drop = nn.Linear(16, 16), nn.PReLU(), nn.Dropout(0.5)
        self.scale = nn.Parameter(1e-4 * torch.ones(16))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.unused, self.head = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.table
        x = x + self.scale * self.drop(self.act(self.one(x)))
        return self.head(x) / self.temperature


def transformer(first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS = {
    "mlp": lambda: (mlp(16, 64, 64, 8), numbers(32, 16)),
    "deep": lambda: (mlp(*[32] * 14, act=nn.Tanh), numbers(32, 32)),
    "residual": lambda: (residual(64, 4), numbers(32, 16)),
    "residual with norms": lambda: (residual(64, 4, norm=True), numbers(32, 16)),
    "resnet": lambda: (Resnet(), numbers(16, 3, 8, 8)),
    "gpt": lambda: (Gpt(), tokens(50, 16, 12)),
    "untied gpt": lambda: (Gpt(tied=False), tokens(50, 16, 12)),
    "swiglu": lambda: (SwiGlu(), numbers(32, 64)),
    "lstm": lambda: (Words(), tokens(40, 16, 10)),
    "gru": lambda: (Words(nn.GRU), tokens(40, 16, 10)),
    "siamese": lambda: (Siamese(), (numbers(32, 16), numbers(32, 16, seed=1))),
    "generator": lambda: (Generator(), numbers(16, 32)),
    "odds": lambda: (Odds(), numbers(16, 6, 16)),
    "pre-norm transformer": lambda: (transformer(True), numbers(16, 6, 32)),
    "post-norm transformer": lambda: (transformer(False), numbers(16, 6, 32)),
}
