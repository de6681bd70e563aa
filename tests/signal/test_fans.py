"""What one layer puts out for standard normal inputs after `initialize_`: rms 1, whatever kind of layer it is.

Every figure is the root of the mean square over all entries and `SEEDS` draws. A case has at least 2000 weights, so the
mean square of one draw errs by sqrt(2 / 2000) = 3 %, its root by 1.6 %, that of three draws by 0.9 % at the most; the
inputs, at least 16,000 numbers, add 0.3 %. 5 % is five standard errors for the smallest case (of 800 single draws from
the right variance none erred by more than 4.2 %) and cannot hide a wrong count of inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eitherway.signal.initialize import initialize_
from tests.corpora import generator, seeded
from tests.corpora.architectures import call

SEEDS = range(3)


class Weighted(nn.Module):
    """x and a bare parameter of this shape, brought together by a function."""

    def __init__(self, f: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.f, self.w = f, nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x, self.w)


class Packed(nn.Module):
    """One Linear gives queries, keys and values of all heads."""

    def __init__(self, dim: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Attending(nn.Module):
    """nn.MultiheadAttention on three inputs, its answer alone."""

    def __init__(self, **widths: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(128, 4, batch_first=True, **widths)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.attention(query, key, value, need_weights=False)[0]


@dataclass(frozen=True)
class Case:
    """One layer, standard normal inputs, and what of it has rms 1: its answer, unless `parts` takes others."""

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    parts: Callable[[Any, Any], list[Tensor]] | None = None
    blind: bool = True  # can be known without running the layer on data


def layer(name: str, build: Callable[[], nn.Module], *shape: int) -> Case:
    return Case(name, build, lambda: torch.randn(shape))


def projections(model: Packed, x: Tensor) -> list[Tensor]:
    return list(model.qkv(x).chunk(3, dim=-1))


def packed_projections(model: Attending, example: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    weights = model.attention.in_proj_weight.chunk(3)
    return [F.linear(x, w) for x, w in zip(example, weights)]


def separate_projections(model: Attending, example: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    a = model.attention
    return [F.linear(x, w) for x, w in zip(example, (a.q_proj_weight, a.k_proj_weight, a.v_proj_weight))]


def self_attention() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(8, 16, 128)
    return x, x, x


def cross_attention() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(8, 16, 128), torch.randn(8, 20, 48), torch.randn(8, 20, 80)


CASES = (
    layer("Linear, wider", lambda: nn.Linear(128, 256), 128, 128),
    layer("Linear, narrower", lambda: nn.Linear(256, 64), 128, 256),
    layer("Linear, sequence", lambda: nn.Linear(128, 64), 8, 16, 128),
    layer("Conv1d", lambda: nn.Conv1d(64, 128, 5), 4, 64, 64),
    layer("Conv1d, stride, padding", lambda: nn.Conv1d(64, 96, 5, stride=2, padding=2), 8, 64, 32),
    layer("Conv1d, dilation 8, padding 8", lambda: nn.Conv1d(64, 64, 3, padding=8, dilation=8), 8, 64, 32),
    layer("Conv2d", lambda: nn.Conv2d(32, 64, 3), 4, 32, 14, 14),
    layer("Conv2d, padding", lambda: nn.Conv2d(64, 64, 3, padding=1), 8, 64, 8, 8),
    layer("Conv2d, 7x7, stride 2, padding 3", lambda: nn.Conv2d(16, 128, 7, 2, 3), 4, 16, 16, 16),
    layer("Conv2d, padding 'same', dilation", lambda: nn.Conv2d(32, 64, 3, padding="same", dilation=2), 8, 32, 8, 8),
    layer("Conv2d, reflected", lambda: nn.Conv2d(32, 64, 3, padding=1, padding_mode="reflect"), 8, 32, 12, 12),
    layer("Conv3d, padding", lambda: nn.Conv3d(16, 32, 3, padding=1), 4, 16, 6, 6, 6),
    layer("depthwise 3x3", lambda: nn.Conv2d(256, 256, 3, groups=256), 4, 256, 8, 8),
    layer("depthwise 7x7, padding", lambda: nn.Conv2d(128, 128, 7, padding=3, groups=128), 4, 128, 10, 10),
    layer("depthwise, multiplied", lambda: nn.Conv2d(128, 256, 3, groups=128), 4, 128, 8, 8),
    layer("Conv2d, 8 groups", lambda: nn.Conv2d(64, 128, 3, groups=8), 4, 64, 10, 10),
    layer("Conv1d, 4 groups, stride", lambda: nn.Conv1d(64, 64, 4, stride=2, groups=4), 8, 64, 34),
    layer("ConvTranspose1d, 4 groups", lambda: nn.ConvTranspose1d(64, 128, 4, 2, 1, groups=4), 8, 64, 32),
    layer("ConvTranspose2d, k2 s2", lambda: nn.ConvTranspose2d(64, 256, 2, stride=2), 4, 64, 8, 8),
    layer("ConvTranspose2d, k4 s2 p1", lambda: nn.ConvTranspose2d(64, 16, 4, 2, 1), 8, 64, 8, 8),
    layer("ConvTranspose2d, k3 s2 p1 o1", lambda: nn.ConvTranspose2d(32, 64, 3, 2, 1, 1), 8, 32, 8, 8),
    layer("ConvTranspose2d, on one place", lambda: nn.ConvTranspose2d(128, 64, 4), 128, 128, 1, 1),
    layer("ConvTranspose2d, depthwise", lambda: nn.ConvTranspose2d(256, 256, 4, 2, 1, groups=256), 4, 256, 8, 8),
    layer("ConvTranspose3d, k2 s2", lambda: nn.ConvTranspose3d(32, 16, 2, 2), 4, 32, 5, 5, 5),
    Case("Bilinear", lambda: nn.Bilinear(64, 64, 64), lambda: (torch.randn(256, 64), torch.randn(256, 64))),
    Case("Bilinear, uneven", lambda: nn.Bilinear(128, 8, 64), lambda: (torch.randn(512, 128), torch.randn(512, 8))),
    Case("F.linear", lambda: Weighted(F.linear, 64, 128), lambda: torch.randn(128, 128)),
    Case("F.conv2d", lambda: Weighted(F.conv2d, 64, 32, 3, 3), lambda: torch.randn(4, 32, 12, 12)),
    Case("x @ w", lambda: Weighted(lambda x, w: x @ w, 128, 64), lambda: torch.randn(128, 128)),
    Case("x @ w.T", lambda: Weighted(lambda x, w: x @ w.T, 64, 128), lambda: torch.randn(128, 128)),
    Case("w @ x", lambda: Weighted(lambda x, w: w @ x, 64, 128), lambda: torch.randn(128, 128)),
    Case("w.T @ x", lambda: Weighted(lambda x, w: w.T @ x, 128, 32), lambda: torch.randn(128, 128)),
    Case("a batch of w", lambda: Weighted(torch.matmul, 4, 128, 64), lambda: torch.randn(4, 64, 128)),
    Case(
        "einsum io",
        lambda: Weighted(lambda x, w: torch.einsum("bi,io->bo", x, w), 128, 32),
        lambda: torch.randn(128, 128),
    ),
    Case(
        "einsum oi",
        lambda: Weighted(lambda x, w: torch.einsum("bi,oi->bo", x, w), 32, 128),
        lambda: torch.randn(128, 128),
    ),
    Case(
        "einsum, heads",
        lambda: Weighted(lambda x, w: torch.einsum("btd,hde->bhte", x, w), 4, 128, 32),
        lambda: torch.randn(8, 16, 128),
    ),
    Case(
        "einsum, two axes in",
        lambda: Weighted(lambda x, w: torch.einsum("bthe,hed->btd", x, w), 4, 16, 128),
        lambda: torch.randn(8, 32, 4, 16),
    ),
    Case("Embedding", lambda: nn.Embedding(500, 64), lambda: torch.randint(500, (64, 16))),
    Case("EmbeddingBag, mean", lambda: nn.EmbeddingBag(500, 64, mode="mean"), lambda: torch.randint(500, (256, 4))),
    Case("EmbeddingBag, sum", lambda: nn.EmbeddingBag(500, 64, mode="sum"), lambda: torch.randint(500, (256, 4))),
    Case("packed by hand", Packed, lambda: torch.randn(8, 16, 128), projections),
    Case("nn.MultiheadAttention, packed", Attending, self_attention, packed_projections),
    Case(
        "nn.MultiheadAttention, kdim and vdim",
        lambda: Attending(kdim=48, vdim=80),
        cross_attention,
        separate_projections,
    ),
    Case("attention's answer, by hand", Packed, lambda: torch.randn(8, 16, 128), blind=False),
    Case("attention's answer, nn.MultiheadAttention", Attending, self_attention, blind=False),
)


def rms(tensors: list[Tensor]) -> float:
    return float(torch.stack([t.detach().double().square().mean() for t in tensors]).mean().sqrt())


def measured(case: Case, data: bool, seeds: range = SEEDS) -> list[float]:
    """The rms of each part over all seeds; the inputs it is measured on are not those it was started on."""
    parts: list[list[Tensor]] = []
    for seed in seeds:
        model = seeded(case.build, generator(case.name, seed))
        initialize_(model, seeded(case.example, generator("started on", seed)), data=data, seed=seed)
        example = seeded(case.example, generator("measured on", seed))
        parts.append([call(model, example)] if case.parts is None else case.parts(model, example))
    return [rms(list(of_one)) for of_one in zip(*parts)]


@pytest.mark.parametrize("case", [case for case in CASES if case.blind], ids=lambda case: case.name)
def test_a_layer_puts_out_rms_1_without_looking_at_data(case: Case):
    for value in measured(case, data=False):
        assert value == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_puts_out_rms_1_after_a_look_at_data(case: Case):
    for value in measured(case, data=True, seeds=SEEDS[:1]):
        assert value == pytest.approx(1.0, abs=0.05)


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer whose inputs are far more, or far fewer, than its units."""

    name: str
    build: Callable[[], nn.Module]
    gates: int
    size: int
    cell: bool = False

    def example(self) -> Tensor:
        return torch.randn(64, self.size) if self.cell else torch.randn(12, 32, self.size)


RECURRENT = tuple(
    Recurrent(f"{kind.__name__}, {size} to {units}", lambda k=kind, s=size, u=units: k(s, u), gates, size, cell)
    for kind, gates, cell in (
        (nn.LSTM, 4, False),
        (nn.GRU, 3, False),
        (nn.RNN, 1, False),
        (nn.LSTMCell, 4, True),
        (nn.GRUCell, 3, True),
        (nn.RNNCell, 1, True),
    )
    for size, units in ((256, 64), (32, 128))
)


@pytest.mark.parametrize("case", RECURRENT, ids=lambda case: case.name)
def test_every_gate_of_a_recurrent_layer_reads_inputs_and_state_alike(case: Recurrent):
    """Inputs put 1 or, half of the variance being the state's, 1/sqrt(2) into each gate; the sum stays near 1."""
    model = seeded(case.build, generator(case.name))
    x = seeded(case.example, generator("started on"))
    initialize_(model, x)
    suffix = "" if case.cell else "_l0"
    inputs, states = (model.get_parameter(f"weight_{kind}{suffix}") for kind in ("ih", "hh"))
    x = seeded(case.example, generator("measured on"))
    from_inputs = F.linear(x, inputs).unflatten(-1, (case.gates, -1))  # (..., gates, units)
    each = from_inputs.detach().square().mean(dim=tuple(range(from_inputs.dim() - 2)) + (-1,)).sqrt()
    assert float(each.min()) > 0.65 and float(each.max()) < 1.08
    assert float(each.max() / each.min()) < 1.1
    # the state: orthogonal up to a factor, or of as large a variance
    of_states = states.detach().unflatten(0, (case.gates, -1)).square().sum(-1).mean(-1).sqrt()
    assert float(of_states.min()) > 0.5 and float(of_states.max()) < 1.5
    if not case.cell:
        h, _ = model(x)
        total = from_inputs[1:] + F.linear(h[:-1], states).unflatten(-1, (case.gates, -1))
        assert rms([total]) == pytest.approx(1.0, abs=0.3)


# What torch.nn.init's functions give where they count wrongly, and what nn.Bilinear's own start gives.
KNOWN_MISSES = (
    ("depthwise, fan_out", lambda: nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), "fan_out", 0.12),
    ("8 groups, fan_out", lambda: nn.Conv2d(64, 64, 3, groups=8, bias=False), "fan_out", 0.354),
    ("k2 s2 transposed, fan_in", lambda: nn.ConvTranspose2d(64, 256, 2, stride=2, bias=False), "fan_in", 0.25),
    ("k4 s2 transposed, fan_out", lambda: nn.ConvTranspose2d(64, 16, 4, 2, 1, bias=False), "fan_out", 0.48),
)


@pytest.mark.parametrize("name, build, mode, about", KNOWN_MISSES, ids=[miss[0] for miss in KNOWN_MISSES])
def test_torch_counts_the_inputs_of_these_layers_wrongly(name: str, build: Any, mode: Any, about: float):
    g = generator(name)
    model = seeded(build, g)
    nn.init.kaiming_normal_(model.weight, mode=mode, nonlinearity="linear", generator=g)
    given = rms([model(torch.randn(8, 64, 12, 12, generator=g))])
    assert given == pytest.approx(about, rel=0.1) and abs(given - 1) > 0.05


def test_torch_starts_a_bilinear_layer_far_too_large_and_packed_projections_too_small():
    g = generator("torch")
    bilinear = seeded(lambda: nn.Bilinear(64, 64, 64), g)
    assert rms([bilinear(torch.randn(256, 64, generator=g), torch.randn(256, 64, generator=g))]) > 4
    attention = seeded(lambda: nn.MultiheadAttention(256, 4), g)
    given = F.linear(torch.randn(64, 256, generator=g), attention.in_proj_weight)
    assert rms([given]) == pytest.approx(0.5**0.5, rel=0.03)
