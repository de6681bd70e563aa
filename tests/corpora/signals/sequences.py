"""Faults in networks for sequences: attention, positions, masks, embeddings, recurrence."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.fault import Fault, Run, Start, draw, entropy, mse, scaled_, whole
from tests.corpora.signals.images import patchy


class Attention(nn.Module):
    """Self-attention written by hand, with everything in the open that people get wrong.

    scale: what the products of queries and keys are divided by.
    masked: None, or the first diagonal that may not be seen; 1 is right.
    over: the axis of (B, H, T, T) along which weights sum to one; -1 is right.
    """

    def __init__(self, width: int, heads: int, scale: float, masked: int | None = None, over: int = -1) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.heads, self.scale, self.masked, self.over = heads, scale, masked, over

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (p(x).view(B, T, self.heads, -1).transpose(1, 2) for p in (self.query, self.key, self.value))
        logits = q @ k.transpose(-2, -1) / self.scale  # (B, H, T, T)
        if self.masked is not None:
            hidden = torch.ones(T, T, dtype=torch.bool).triu(self.masked)
            logits = logits.masked_fill(hidden, float("-inf"))
        return self.out((logits.softmax(self.over) @ v).transpose(1, 2).reshape(B, T, C))


class Encoder(nn.Module):
    """A block of attention and a feed-forward part, normed before, each added to what comes in, or not."""

    def __init__(self, width: int, attention: nn.Module, skip: bool = True) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), attention
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.norm1(x))
        x = x + y if self.skip else y
        y = self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return x + y if self.skip else y


class GPT(nn.Module):
    """Tokens, positions, blocks, a norm, and a head whose weights may be the tokens'."""

    def __init__(self, vocabulary: int, width: int, blocks: list[nn.Module], tied: bool = False) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(32, width)
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


class Sentence(nn.Module):
    """Vectors of a sequence, encoded and pooled by learned attention: weights along `over` of (B, T, 1)."""

    def __init__(self, over: int) -> None:
        super().__init__()
        self.embed, self.score = nn.Linear(12, 32), nn.Linear(32, 1)
        self.head, self.over = nn.Linear(32, 4), over

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x))
        return self.head((self.score(x).softmax(self.over) * x).sum(1))


class Tagger(nn.Module):
    """Tokens through an LSTM; the last state is classified."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.lstm, self.head = nn.LSTM(width, 64, batch_first=True), nn.Linear(64, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0][:, -1])


class Recurrent(nn.Module):
    """A ReLU network over time; the last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(16, 64, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class ViT(nn.Module):
    """Patches, a class token and a table of positions, then torch's own pre-norm encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 48))
        self.positions = nn.Parameter(torch.zeros(1, 17, 48))
        layer = {"dim_feedforward": 96, "dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(48, 4, **layer) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Codes(nn.Module):
    """An encoder whose result is replaced by the nearest code, or by a mixture of all that are near."""

    def __init__(self, hard: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
        self.codebook = nn.Embedding(24, 16)
        self.decoder = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32))
        self.hard = hard

    def forward(self, x: Tensor) -> Tensor:
        near = self.encoder(x) @ self.codebook.weight.T / 4
        return self.decoder(self.codebook(near.argmax(-1)) if self.hard else near.softmax(-1) @ self.codebook.weight)


class PostNorm(nn.Module):
    """Two blocks normed after each sum (Vaswani et al. 2017, arXiv:1706.03762), mean pooled."""

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(10, 32)
        layer = {"dim_feedforward": 64, "dropout": 0.0, "batch_first": True}
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(32, 4, **layer) for _ in range(depth))
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def told(g: torch.Generator, model: nn.Module, vocabulary: int = 50, batch: int = 8, time: int = 16) -> Start:
    """A language model at random tokens, asked for the next ones."""
    return Start(model, whole(g, vocabulary, batch, time), entropy(whole(g, vocabulary, batch, time)))


def small_(model: nn.Module, g: torch.Generator) -> None:
    """GPT-2's start: N(0, 0.02^2) for matrices and tables, 0 for biases (Radford et al. 2019)."""
    for part in model.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, 0.0, 0.02, generator=g)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def unscaled_heads(g: torch.Generator, healed: bool) -> Start:
    blocks: list[nn.Module] = [Encoder(128, Attention(128, 1, math.sqrt(128) if healed else 1.0)) for _ in range(2)]
    model = GPT(50, 128, blocks)
    scaled_(model, g, 1.0)
    return told(g, model)


def zero_queries(g: torch.Generator, healed: bool) -> Start:
    blocks: list[nn.Module] = [Encoder(32, Attention(32, 4, math.sqrt(8))) for _ in range(2)]
    model = GPT(50, 32, blocks)
    for part in model.modules() if not healed else ():
        if isinstance(part, Attention):
            for projection in (part.query, part.key):
                nn.init.zeros_(projection.weight)
                nn.init.zeros_(projection.bias)
    return told(g, model)


def pooled(g: torch.Generator, healed: bool) -> Start:
    return Start(Sentence(over=1 if healed else -1), draw(g, 16, 8, 12), entropy(whole(g, 4, 16)))


def wrong_axis(g: torch.Generator, healed: bool) -> Start:
    blocks: list[nn.Module] = [Encoder(32, Attention(32, 1, math.sqrt(32), over=-1 if healed else 1)) for _ in range(2)]
    return told(g, GPT(50, 32, blocks))


def no_skips(g: torch.Generator, healed: bool) -> Start:
    blocks: list[nn.Module] = [Encoder(32, Attention(32, 4, math.sqrt(8)), skip=healed) for _ in range(12)]
    return told(g, GPT(50, 32, blocks))


def masked(g: torch.Generator, healed: bool) -> Start:
    blocks: list[nn.Module] = [Encoder(32, Attention(32, 4, math.sqrt(8), masked=int(healed))) for _ in range(2)]
    return told(g, GPT(50, 32, blocks))


def zero_norm(g: torch.Generator, healed: bool) -> Start:
    blocks: list[nn.Module] = [Encoder(32, Attention(32, 4, math.sqrt(8), masked=1)) for _ in range(2)]
    model = GPT(50, 32, blocks)
    if not healed:
        nn.init.zeros_(model.norm.weight)
    return told(g, model)


def zero_post_norm(g: torch.Generator, healed: bool) -> Start:
    model = PostNorm()
    layer: Any = model.blocks[1]
    if not healed:
        nn.init.zeros_(layer.norm1.weight)
        nn.init.zeros_(layer.norm2.weight)
    return Start(model, draw(g, 16, 9, 10), entropy(whole(g, 3, 16)))


def tied(g: torch.Generator, healed: bool) -> Start:
    blocks: list[nn.Module] = [Encoder(128, Attention(128, 4, math.sqrt(32), masked=1)) for _ in range(2)]
    model = GPT(50, 128, blocks, tied=True)
    if healed:
        small_(model, g)
    return told(g, model)


def loud(g: torch.Generator, healed: bool) -> Start:
    model = Tagger(50, 32)
    with torch.no_grad():
        model.embed.weight.mul_(1 if healed else 100)
    return Start(model, whole(g, 50, 16, 12), entropy(whole(g, 5, 16)))


def unrolled(g: torch.Generator, healed: bool) -> Start:
    model: Any = Recurrent()
    nn.init.orthogonal_(model.rnn.weight_hh_l0, 1.0 if healed else 3.0, generator=g)
    return Start(model, draw(g, 16, 60, 16), entropy(whole(g, 5, 16)))


def drowned(g: torch.Generator, healed: bool) -> Start:
    model = ViT()
    for table in (model.positions, model.token):
        nn.init.normal_(table, 0.0, 0.02 if healed else 100.0, generator=g)
    return Start(model, patchy(g, 16, 3, 16), entropy(whole(g, 10, 16)))


def coded(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 32, 8) @ draw(g, 8, 32) / 8**0.5
    model = Codes(hard=not healed)
    scaled_(model, g)
    return Start(model, x, mse(x))


def sharpness(run: Run, name: str) -> float:
    """Mean largest weight of an `Attention`, from what its projections gave."""
    part: Any = run.start.model.get_submodule(name)
    q, k = (run.out[f"{name}.{p}"] for p in ("query", "key"))
    B, T, _ = q.shape
    q, k = (t.view(B, T, part.heads, -1).transpose(1, 2) for t in (q, k))
    return float((q @ k.transpose(-2, -1) / part.scale).softmax(-1).amax(-1).mean())


def along_time(run: Run, name: str) -> float:
    """Mean cosine of the tokens of a sequence among each other."""
    rows = F.normalize(run.out[name].double(), dim=-1)
    T = rows.shape[1]
    return float(((rows @ rows.transpose(1, 2)).sum((1, 2)) - T).mean() / (T * (T - 1)))


def extremes(y: Tensor) -> float:
    """Share of what an LSTM gives that is next to zero or next to one."""
    return float(((y < 1e-3) | (y > 0.7)).double().mean())


SEQUENCES = (
    Fault(
        "attention without 1 / sqrt(d)",
        unscaled_heads,
        ("attention saturated",),
        (r"^blocks\.\d\.attention",),
        lambda run: sharpness(run, "blocks.0.attention") > 0.8,
        "one head of 128: logits of standard deviation 11, each token looks at one",
    ),
    Fault(
        "queries and keys of zero",
        zero_queries,
        ("attention uniform", "no gradient", "vanishing gradient"),
        (r"^blocks\.\d\.attention",),
        lambda run: run.silent(r"query|key"),
        "each one's gradient is a multiple of the other: both stay zero for ever",
    ),
    Fault(
        "attention pooling over an axis of one",
        pooled,
        ("no gradient", "vanishing gradient", "attention uniform"),
        (r"^score",),
        lambda run: run.silent(r"^score"),
        "softmax of (B, T, 1) along its last axis is 1: the scores decide nothing",
    ),
    Fault(
        "attention summing to one over the heads",
        wrong_axis,
        ("no gradient", "attention uniform", "vanishing gradient"),
        (r"^blocks\.\d\.attention",),
        lambda run: run.silent(r"query|key"),
        "softmax along the one head: every token takes the sum of all values",
    ),
    Fault(
        "a transformer without its skips",
        no_skips,
        ("low rank", "parallel samples", "attention uniform"),
        (r"^blocks", r"^norm", r"^head"),
        lambda run: along_time(run, "blocks.11") > 0.99,
        "attention alone makes all tokens the same (Dong et al. 2021, arXiv:2103.03404)",
    ),
    Fault(
        "a causal mask that hides the token itself",
        masked,
        ("not finite",),
        (r"^blocks\.0",),
        lambda run: not run.finite,
        "triu(0): the first row is all -inf, its softmax is NaN",
    ),
    Fault(
        "a last norm with weights of zero",
        zero_norm,
        ("normalisation", "vanishing signal"),
        (r"^norm", r"^head"),
        lambda run: run.rms("norm") == 0 and run.silent(r"^blocks"),
        "zero where it ends no residual branch: nothing passes",
    ),
    Fault(
        "a post-norm block with norms of zero",
        zero_post_norm,
        ("normalisation", "vanishing signal"),
        (r"^blocks\.1", r"^head"),
        lambda run: run.rms("blocks.1") == 0,
        "zero gamma is for norms that end a branch; here the norm ends the stream",
    ),
    Fault(
        "a tied head with torch's embedding",
        tied,
        ("exploding signal", "exploding gradient", "update ratio"),
        (r"^head", r"^tokens"),
        lambda run: run.loss > 5 * math.log(50),
        "N(0, 1) is a start for a table, not for a head of 128 inputs: logits of 11",
    ),
    Fault(
        "an embedding of scale 100 into an LSTM",
        loud,
        ("saturated units", "input scale", "exploding signal"),
        (r"^embed", r"^lstm"),
        lambda run: run.rms("embed") > 50 and extremes(run.out["lstm"].abs()) > 0.7,
        "all gates stand open or shut",
    ),
    Fault(
        "a recurrent matrix three times too large",
        unrolled,
        ("exploding signal", "exploding gradient"),
        (r"^rnn", r"^head"),
        lambda run: run.rms("rnn") > 1e3,
        "sixty steps, each twice as large as the last",
    ),
    Fault(
        "a table of positions that drowns the patches",
        drowned,
        ("parallel samples",),
        (r"^positions", r"^patches", r"^blocks", r"^norm", r"^head", r"^token"),
        lambda run: run.cosine("blocks.0") > 0.999,
        "tables of scale 100 beside patches of scale 1: all images look the same",
    ),
    Fault(
        "codes chosen by argmax",
        coded,
        ("no gradient",),
        (r"^encoder",),
        lambda run: run.silent(r"^encoder"),
        "an index has no gradient, and nothing carries it past",
    ),
)
