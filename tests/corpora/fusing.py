"""Models whose runs of linear layers are fused, and where that goes wrong: the corpus of bugs, known and expected.

`MODELS` is the whole corpus, also what stands in `handwritten`, `convolutional` and `branches`. Norms are away from
their start and biases away from zero, so that whatever is forgotten shows.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.branches import BRANCHES
from tests.corpora.convolutional import CONVOLUTIONS
from tests.corpora.fused import Model, Net, model
from tests.corpora.handwritten import HAND, LIVES, squares

__all__ = ["MODELS", "Model"]

S, L, BN = nn.Sequential, nn.Linear, nn.BatchNorm1d

# Runs of linear layers ----------------------------------------------------------------------------------------------


RUNS = (
    model("two Linears", lambda: S(L(6, 7), L(7, 5)), (4, 6), layers=1),
    model("six Linears", lambda: S(*squares(6, 9)), (4, 9), layers=1),
    model("forty Linears", lambda: S(*squares(40, 8)), (4, 8), layers=1),
    model("one Linear", lambda: S(L(5, 4)), (3, 5), layers=1),
    model("no layer at all", lambda: S(nn.Identity()), (3, 5), layers=0, why="x itself comes out"),
    model("two runs", lambda: S(*squares(3, 8), nn.Tanh(), *squares(2, 8)), (4, 8), layers=2),
    model("expand and contract", lambda: S(L(16, 256), L(256, 16)), (32, 16), layers=1),
    model("low rank, kept", lambda: S(L(256, 8), L(8, 256)), (32, 256), layers=2, why="merged it is 16 times as much"),
    model("rank one, kept", lambda: S(L(64, 1), L(1, 64)), (32, 64), layers=2),
    model("bottleneck in a longer run", lambda: S(L(64, 64), L(64, 4), L(4, 64), L(64, 64)), (16, 64), layers=2),
    model("1024-32-1024", lambda: S(L(1024, 32), L(32, 1024)), (64, 1024), layers=2),
    model("without biases", lambda: S(L(6, 7, bias=False), L(7, 5, bias=False)), (4, 6), layers=1),
    model("one bias of two", lambda: S(L(6, 7, bias=False), L(7, 5)), (4, 6), layers=1),
    model("tokens", lambda: S(L(6, 7), L(7, 5)), (2, 3, 6), layers=1, why="the input is (B, T, C)"),
    model("one sample without a batch", lambda: S(L(6, 7), L(7, 5)), (6,), layers=1),
    model(
        "dropout in eval mode",
        lambda: S(L(6, 6), nn.Dropout(0.5), L(6, 6), nn.AlphaDropout(0.1), L(6, 2)),
        (4, 6),
        layers=1,
    ),
    model(
        "dropout in training mode",
        lambda: S(L(6, 6), nn.Dropout(0.5), L(6, 2)),
        (4, 6),
        must="refuse some",
        train=True,
        why="in training mode: masks lie between; equal under one seed",
    ),
    model("ReLU in place", lambda: S(L(6, 6), L(6, 6), nn.ReLU(inplace=True), L(6, 3)), (4, 6), layers=2),
    model(
        "identities and nests", lambda: S(S(nn.Identity(), L(5, 6)), S(S(nn.Identity()), S(L(6, 4)))), (3, 5), layers=1
    ),
    model("ModuleList in a loop", lambda: Net(in_a_loop, steps=nn.ModuleList(squares(4, 6))), (3, 6), layers=1),
    model("same module twice", lambda: Net(lambda m, x: m.a(m.a(x)), a=L(6, 6)), (3, 6), why="W W, from one weight"),
    model(
        "same module on two ways",
        lambda: Net(lambda m, x: m.a(x).relu() + m.b(m.a(x * 2)), a=L(6, 6), b=L(6, 6)),
        (3, 6),
        why="merging b into a spoils the first use",
    ),
    model(
        "one weight of two layers", lambda: tied(L(6, 6), L(6, 6)), (3, 6), why="two modules, one Parameter, two biases"
    ),
    model(
        "weight tied to its transpose",
        lambda: Net(lambda m, x: F.linear(m.a(x).tanh(), m.a.weight.t()), a=L(8, 3)),
        (4, 8),
    ),
    model("softmax at the end", lambda: S(L(6, 7), L(7, 5), nn.LogSoftmax(-1)), (4, 6), layers=1),
    model("float64", lambda: S(L(6, 7), BN(7), L(7, 5)), (4, 6), layers=1, dtype=torch.float64),
    model(
        "bfloat16", lambda: S(L(6, 7), BN(7), L(7, 5)), (4, 6), dtype=torch.bfloat16, why="merge in float64, round once"
    ),
    model(
        "float16",
        lambda: S(L(6, 7), BN(7), nn.ReLU(), L(7, 5)),
        (4, 6),
        dtype=torch.float16,
        why="merge in float64, round once",
    ),
)


def in_a_loop(m: Any, x: Tensor) -> Tensor:
    for step in m.steps:
        x = step(x)
    return x


def tied(first: nn.Linear, second: nn.Linear) -> nn.Module:
    second.weight = first.weight
    return S(first, nn.ReLU(), second)


# Norms and their axes -----------------------------------------------------------------------------------------------


class Moments(nn.Module):
    """Takes off a mean and divides by a deviation, both buffers."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(shape) + 0.5)
        self.register_buffer("deviation", torch.rand(shape) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


def functional_norm(m: Any, x: Tensor) -> Tensor:
    return F.batch_norm(m.a(x), m.n.running_mean, m.n.running_var, m.n.weight, m.n.bias, training=False, eps=1e-3)


def functional_moments(m: Any, x: Tensor) -> Tensor:
    return m.b(F.batch_norm(m.a(x), None, None, training=True))


def tiny_variance() -> nn.Module:
    net: Any = S(L(6, 7), BN(7), L(7, 5))
    with torch.no_grad():
        net[0].weight.mul_(1e-4)
    return net


def gated(m: Any, x: Tensor) -> Tensor:
    y = m.n(x)
    return m.c(F.silu(m.a(y)) * m.b(y))


def queries(m: Any, x: Tensor) -> Tensor:
    y = m.n(x)
    return F.scaled_dot_product_attention(m.q(y), m.k(y), m.v(y))


NORMS = (
    model("Linear, BN", lambda: S(L(6, 7), BN(7)), (4, 6), layers=1),
    model("BN, Linear", lambda: S(BN(6), L(6, 5)), (4, 6), layers=1),
    model("BN, BN", lambda: S(BN(6), BN(6)), (4, 6)),
    model("Linear, BN, dropout, Linear, BN", lambda: S(L(6, 7), BN(7), nn.Dropout(), L(7, 5), BN(5)), (4, 6), layers=1),
    model(
        "Linear, BN on (N, C, L), L = C",
        lambda: S(L(7, 7), BN(7)),
        (4, 7, 7),
        must="refuse some",
        why="Linear mixes axis 2, BN scales axis 1 of the same length",
    ),
    model(
        "Linear, BN on (N, C, L), L != C",
        lambda: S(L(6, 5), BN(7)),
        (4, 7, 6),
        must="refuse some",
        why="Linear mixes axis 2, BN scales axis 1",
    ),
    model(
        "BN, Linear on (N, C, L), L = C",
        lambda: S(BN(6), L(6, 6)),
        (4, 6, 6),
        must="refuse some",
        why="BN scales axis 1, Linear mixes axis 2",
    ),
    model(
        "Linear, BN2d",
        lambda: S(L(5, 5), nn.BatchNorm2d(5)),
        (2, 5, 5, 5),
        must="refuse some",
        why="Linear mixes the width, BN scales channels",
    ),
    model(
        "BN in training mode",
        lambda: S(L(6, 7), BN(7), L(7, 5)),
        (4, 6),
        must="refuse some",
        train=True,
        why="in training mode: moments of the batch",
    ),
    model(
        "BN without statistics",
        lambda: S(L(6, 7), BN(7, track_running_stats=False), L(7, 5)),
        (4, 6),
        must="refuse some",
        why="moments of the batch, also in eval mode",
    ),
    model("BN without affine", lambda: S(L(6, 7), BN(7, affine=False), L(7, 5)), (4, 6), layers=1),
    model("BN with another eps", lambda: S(L(6, 7), BN(7, eps=0.3)), (4, 6), layers=1),
    model("BN after tiny weights", tiny_variance, (4, 6), layers=1, why="scales far from each other"),
    model(
        "one BN for two Linears",
        lambda: Net(lambda m, x: m.n(m.a(x)) - m.n(m.b(x)).tanh(), a=L(6, 5), b=L(6, 5), n=BN(5)),
        (4, 6),
        why="the norm has two uses",
    ),
    model(
        "one Linear with two BNs",
        lambda: Net(lambda m, x: m.n(m.a(x)).relu() + m.o(m.a(x * 2)), a=L(6, 5), n=BN(5), o=BN(5)),
        (4, 6),
        why="folding both into one weight is wrong",
    ),
    model(
        "functional batch_norm",
        lambda: Net(functional_norm, a=L(6, 5), n=BN(5)),
        (4, 6),
        layers=1,
        why="eps is an argument",
    ),
    model(
        "functional batch_norm of the batch",
        lambda: Net(functional_moments, a=L(6, 5), b=L(5, 4)),
        (4, 6),
        must="refuse some",
        why="training=True in eval mode",
    ),
    model(
        "LayerNorm, Linear",
        lambda: S(nn.LayerNorm(6), L(6, 5)),
        (4, 6),
        layers=1,
        why="the norm stays, its weight and bias go",
    ),
    model("Linear, LayerNorm", lambda: S(L(6, 6), nn.LayerNorm(6)), (4, 6)),
    model("LayerNorm, Linear, Linear", lambda: S(nn.LayerNorm(6), L(6, 6), L(6, 5)), (4, 6), layers=1),
    model(
        "LayerNorm before q, k and v",
        lambda: Net(queries, n=nn.LayerNorm(6), q=L(6, 4), k=L(6, 4), v=L(6, 4)),
        (2, 5, 6),
    ),
    model(
        "LayerNorm used once more",
        lambda: Net(lambda m, x: m.a(m.n(x)) + m.n(x).tanh(), n=nn.LayerNorm(6), a=L(6, 6)),
        (4, 6),
    ),
    model(
        "LayerNorm with an affine and a bare use",
        lambda: Net(lambda m, x: kept_as_well(m, m.n(x)), n=nn.LayerNorm(6), a=L(6, 6)),
        (4, 6),
        must="refuse some",
        why="tanh needs the weight that Linear would take",
    ),
    model("LayerNorm without affine", lambda: S(nn.LayerNorm(6, elementwise_affine=False), L(6, 5)), (4, 6), layers=1),
    model("LayerNorm without bias", lambda: S(nn.LayerNorm(6, bias=False), L(6, 5, bias=False)), (4, 6), layers=1),
    model(
        "LayerNorm over two axes",
        lambda: S(nn.LayerNorm([3, 6]), L(6, 5)),
        (4, 3, 6),
        must="refuse some",
        why="its weight differs between tokens",
    ),
    model("RMSNorm, Linear", lambda: S(nn.RMSNorm(6), L(6, 5)), (4, 6), layers=1),
    model("RMSNorm, gated MLP", lambda: Net(gated, n=nn.RMSNorm(6), a=L(6, 8), b=L(6, 8), c=L(8, 6)), (4, 6)),
    model("moments as buffers", lambda: S(Moments(6), L(6, 5)), (4, 6), layers=1),
)


def kept_as_well(m: Any, y: Tensor) -> Tensor:
    return m.a(y) + y.tanh()


MODELS: tuple[Model, ...] = (*RUNS, *NORMS, *HAND, *LIVES, *CONVOLUTIONS, *BRANCHES)
