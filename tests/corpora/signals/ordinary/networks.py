"""Networks for sequences, sets, tables and pairs, as users write them."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def chain(*sizes: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between any two of them."""
    layers: list[nn.Module] = []
    for inner, outer in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inner, outer), act()]
    return nn.Sequential(*layers[:-1])


class Sounds(nn.Module):
    """Strided convolutions in time, without a norm."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 24, 32, 48, 48, 64)
        self.convs = nn.ModuleList([nn.Conv1d(a, b, 5, 2, 2) for a, b in zip(widths, widths[1:])])
        self.fc = nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.fc(x.mean(-1))


class AutoEncoder(nn.Module):
    """Eight dense layers with ELU, four on each side of the code."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = chain(90, 96, 64, 48, 16, act=nn.ELU)
        self.decoder = chain(16, 48, 64, 96, 90, act=nn.ELU)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class TextCNN(nn.Module):
    """Words, convolutions of three widths, the maximum over time."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(200, 40)
        self.convs = nn.ModuleList([nn.Conv1d(40, 24, width) for width in (3, 4, 5)])
        self.fc = nn.Linear(72, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens).transpose(1, 2)
        return self.fc(torch.cat([F.relu(conv(x)).amax(2) for conv in self.convs], 1))


class Forecaster(nn.Module):
    """Two layers of GRU over a day of weather; the next hour."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 40, num_layers=2, batch_first=True)
        self.out = nn.Linear(40, 1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x)
        return self.out(states[:, -1])


class Attention(nn.Module):
    """Self-attention with several heads, packed."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))


class Feed(nn.Module):
    """The feed-forward part; `act` tells whether its GELU was thought of."""

    def __init__(self, width: int, act: bool = True) -> None:
        super().__init__()
        self.act = act
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.act:
            x = F.gelu(x)
        return self.down(x)


class Block(nn.Module):
    """Norms come first."""

    def __init__(self, width: int, heads: int, causal: bool = False, act: bool = True) -> None:
        super().__init__()
        self.ln1, self.attn = nn.LayerNorm(width), Attention(width, heads, causal)
        self.ln2, self.feed = nn.LayerNorm(width), Feed(width, act)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.feed(self.ln2(x))


class Reader(nn.Module):
    """A pre-norm transformer that names a text's class."""

    def __init__(self, depth: int = 4, act: bool = True) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(120, 48), nn.Embedding(20, 48)
        self.blocks = nn.ModuleList([Block(48, 4, act=act) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class GPT(nn.Module):
    """A causal transformer whose head is its table of tokens, started with 0.02 as GPT-2 was."""

    def __init__(self, depth: int = 3, width: int = 60) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(90, width), nn.Embedding(24, width)
        self.h = nn.ModuleList([Block(width, 5, causal=True) for _ in range(depth)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, 90, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif weight.dim() == 2:
                last = name.endswith(("proj.weight", "down.weight"))
                nn.init.normal_(weight, 0.0, 0.02 / math.sqrt(2 * depth) if last else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class Translator(nn.Module):
    """An LSTM reads, an LSTM writes; `cut` detaches the state between them."""

    def __init__(self, cut: bool = False) -> None:
        super().__init__()
        self.cut = cut
        self.source, self.target = nn.Embedding(50, 32), nn.Embedding(40, 32)
        self.encoder = nn.LSTM(32, 48, batch_first=True)
        self.decoder = nn.LSTM(32, 48, batch_first=True)
        self.out = nn.Linear(48, 40)

    def forward(self, given: Tensor, before: Tensor) -> Tensor:
        _, (h, c) = self.encoder(self.source(given))
        if self.cut:
            h, c = h.detach(), c.detach()
        states, _ = self.decoder(self.target(before), (h, c))
        return self.out(states)


class Frozen(nn.Module):
    """torch's own encoder layers over measurements, a class from the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(10, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 5, enable_nested_tensor=False)
        self.out = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.encoder(self.into(x)).mean(1))


class Matcher(nn.Module):
    """Two descriptions, one network for both, and a judgement of the pair."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.tower = chain(*sizes)
        self.judge = nn.Linear(2 * sizes[-1], 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.tower(left), self.tower(right)
        return self.judge(torch.cat([(a - b).abs(), a * b], 1))


class CrossAttention(nn.Module):
    """Questions look at a set of facts; `scaled` tells whether by 1 / sqrt(width)."""

    def __init__(self, width: int, scaled: bool) -> None:
        super().__init__()
        self.scaled = scaled
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.softmax = nn.Softmax(-1)
        self.to_out = nn.Linear(width, width)
        for part in (self.to_q, self.to_k, self.to_v):
            nn.init.xavier_normal_(part.weight)

    def forward(self, x: Tensor, facts: Tensor) -> Tensor:
        scores = self.to_q(x) @ self.to_k(facts).transpose(-2, -1)
        if self.scaled:
            scores = scores / math.sqrt(x.shape[-1])
        return self.to_out(self.softmax(scores) @ self.to_v(facts))


class Answers(nn.Module):
    """Learned questions, two rounds of looking at the facts."""

    def __init__(self, scaled: bool, width: int = 192) -> None:
        super().__init__()
        self.questions = nn.Parameter(torch.randn(5, width))
        self.facts = nn.Linear(16, width)
        self.norm_facts = nn.LayerNorm(width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.rounds = nn.ModuleList([CrossAttention(width, scaled) for _ in range(2)])
        self.out = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        facts = self.norm_facts(self.facts(x))
        answers = self.questions.expand(x.shape[0], -1, -1)
        for norm, look in zip(self.norms, self.rounds):
            answers = answers + look(norm(answers), facts)
        return self.out(answers.mean(1))


class Sentences(nn.Module):
    """The mean of a sentence's words, padding left out; `least` is the smallest length that is divided by."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least
        self.words = nn.Embedding(80, 32, padding_idx=0)
        self.body = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        mask = (tokens != 0).float()
        total = (self.words(tokens) * mask[..., None]).sum(1)
        return self.body(total / mask.sum(1, keepdim=True).clamp(min=self.least))


class Reviews(nn.Module):
    """An LSTM in both directions, the last states of both, dropout, a class."""

    def __init__(self, drop: float = 0.2) -> None:
        super().__init__()
        self.embed = nn.Embedding(150, 32)
        self.lstm = nn.LSTM(32, 40, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(drop)
        self.fc1, self.fc2 = nn.Linear(80, 64), nn.Linear(64, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        _, (h, _) = self.lstm(self.embed(tokens))
        x = self.dropout(torch.cat([h[0], h[1]], 1))
        return self.fc2(F.relu(self.fc1(x)))
