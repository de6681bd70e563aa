"""Linear layers written by hand, and modules with a life of their own: hooks, parametrisations, subclasses."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.corpora.fused import Net, NetOfTwo, model, weights
from tests.corpora.networks import LoRA

S, L, BN = nn.Sequential, nn.Linear, nn.BatchNorm1d


class Scaled(nn.Module):
    """x times a number that is no parameter."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


def squares(count: int, size: int) -> list[nn.Module]:
    return [L(size, size) for _ in range(count)]


# Written by hand ----------------------------------------------------------------------------------------------------


def flagged(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y) if x.shape[0] > 2 else m.c(y)


def judged(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y) if bool(y.sum() > 0) else m.c(y)


def heads(m: Any, x: Tensor) -> Tensor:
    y = m.a(x).view(*x.shape[:2], 2, 4).transpose(1, 2)  # (B, H, T, C)
    return m.b(y.transpose(1, 2).reshape(*x.shape[:2], 8))


def written_in_place(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y += 1.5
    y *= m.gamma
    y[:, 0] = 0.0
    return m.b(y)


def skips(m: Any, x: Tensor) -> Tensor:
    for step in m.steps:
        x = x + step(x)
    return x


HAND = (
    model("scale by a number", lambda: S(L(6, 5), Scaled(0.3), L(5, 4)), (4, 6), layers=1),
    model(
        "scale by a learned scalar",
        lambda: Net(lambda m, x: m.b(m.a(x) * m.s), a=L(6, 5), b=L(5, 4), s=weights(1)),
        (4, 6),
        layers=1,
    ),
    model(
        "gamma and beta",
        lambda: Net(lambda m, x: m.a(x) * m.gamma + m.beta, a=L(6, 5), gamma=weights(5), beta=weights(5)),
        (4, 6),
        layers=1,
    ),
    model(
        "gamma on the wrong axis",
        lambda: Net(lambda m, x: m.b(m.a(x) * m.gamma), a=L(6, 5), gamma=weights(5, 1), b=L(5, 4)),
        (2, 5, 6),
        must="refuse some",
        why="(5, 1) scales tokens, not features",
    ),
    model(
        "division by constants",
        lambda: Net(lambda m, x: m.a(x / 255.0) / m.d - 3, a=L(6, 5), d=weights(5)),
        (4, 6),
        layers=1,
    ),
    model(
        "a constant over x",
        lambda: Net(lambda m, x: m.b(2.0 / (m.a(x) + 9)), a=L(6, 5), b=L(5, 4)),
        (4, 6),
        must="refuse some",
        why="1 / x is not linear",
    ),
    model(
        "chained additions",
        lambda: Net(lambda m, x: 1 + (m.a(x) + 2 + m.t) - 0.5, a=L(6, 5), t=weights(5)),
        (4, 6),
        layers=1,
    ),
    model(
        "added with alpha",
        lambda: Net(lambda m, x: torch.add(m.a(x), m.b(x), alpha=-0.7), a=L(6, 5), b=L(6, 5)),
        (4, 6),
        layers=1,
    ),
    model(
        "negated, subtracted from", lambda: Net(lambda m, x: m.b(1 - (-m.a(x))), a=L(6, 5), b=L(5, 4)), (4, 6), layers=1
    ),
    model(
        "functional linear",
        lambda: Net(lambda m, x: F.linear(F.linear(x, m.w, m.t), m.v), w=weights(5, 6), t=weights(5), v=weights(4, 5)),
        (4, 6),
        layers=1,
    ),
    model(
        "keyword arguments",
        lambda: Net(
            lambda m, x: F.linear(bias=m.t, weight=m.w, input=m.a(input=x)), a=L(6, 6), w=weights(5, 6), t=weights(5)
        ),
        (4, 6),
        layers=1,
    ),
    model(
        "matrix products",
        lambda: Net(lambda m, x: (x @ m.w + m.t) @ m.v, w=weights(6, 5), t=weights(5), v=weights(5, 4)),
        (4, 6),
        layers=1,
    ),
    model(
        "addmm and einsum",
        lambda: Net(
            lambda m, x: torch.einsum("bi,oi->bo", torch.addmm(m.t, x, m.w), m.v),
            w=weights(6, 5),
            t=weights(5),
            v=weights(4, 5),
        ),
        (4, 6),
        layers=1,
    ),
    model(
        "product of two ways",
        lambda: Net(lambda m, x: m.c(m.a(x) * m.b(x)), a=L(6, 5), b=L(6, 5), c=L(5, 4)),
        (4, 6),
        must="refuse some",
        why="quadratic in x",
    ),
    model(
        "x on both sides",
        lambda: Net(lambda m, x: m.a(x) @ m.b(x).mT, a=L(6, 5), b=L(6, 5)),
        (2, 4, 6),
        must="refuse some",
        why="quadratic in x",
    ),
    model(
        "sum of three Linears",
        lambda: Net(lambda m, x: m.a(x) + m.b(x) + m.c(x), a=L(6, 5), b=L(6, 5), c=L(6, 5)),
        (4, 6),
        layers=1,
    ),
    model("skip around a Linear", lambda: Net(lambda m, x: x + m.a(x), a=L(6, 6)), (4, 6), layers=1),
    model("skips without activations", lambda: Net(skips, steps=nn.ModuleList(squares(4, 6))), (4, 6), layers=1),
    model("doubled by itself", lambda: Net(lambda m, x: m.b(m.a(x) + m.a(x)), a=L(6, 5), b=L(5, 4)), (4, 6), layers=1),
    model(
        "joined Linears",
        lambda: Net(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], -1)), a=L(6, 3), b=L(6, 4), c=L(7, 5)),
        (4, 6),
    ),
    model(
        "q, k and v in one",
        lambda: Net(
            lambda m, x: F.scaled_dot_product_attention(*m.a(m.n(x)).chunk(3, -1)), n=nn.LayerNorm(6), a=L(6, 12)
        ),
        (2, 5, 6),
    ),
    model(
        "heads split and joined", lambda: Net(heads, a=L(6, 8), b=L(8, 5)), (2, 3, 6), why="views between that cancel"
    ),
    model(
        "permuted between",
        lambda: Net(lambda m, x: m.b(m.a(x).mT), a=L(6, 5), b=L(4, 3)),
        (2, 4, 6),
        must="refuse some",
        why="two axes: neither Linear holds both",
    ),
    model(
        "flipped between",
        lambda: Net(lambda m, x: m.b(m.a(x).flip(-1)), a=L(6, 5), b=L(5, 3)),
        (4, 6),
        why="a permutation of features",
    ),
    model(
        "reshaped between",
        lambda: Net(lambda m, x: m.b(m.a(x).reshape(len(x) // 2, -1)), a=L(6, 5), b=L(10, 3)),
        (4, 6),
        why="pairs of samples are joined",
    ),
    model("mean over tokens between", lambda: Net(lambda m, x: m.b(m.a(x).mean(1)), a=L(6, 5), b=L(5, 3)), (2, 4, 6)),
    model("written in place", lambda: Net(written_in_place, a=L(6, 5), b=L(5, 4), gamma=weights(5)), (4, 6)),
    model("LoRA", lambda: LoRA(12, 12, 2), (4, 12), layers=1),
    model(
        "LoRA, dropout in eval mode",
        lambda: Net(lambda m, x: m.a(x) + 0.5 * m.u(m.d(m.p(x))), a=L(12, 12), d=L(12, 2), u=L(2, 12), p=nn.Dropout()),
        (4, 12),
        layers=1,
    ),
    model(
        "shape decides", lambda: Net(flagged, a=L(6, 5), b=L(5, 4), c=L(5, 4)), (4, 6), why="holds for batches above 2"
    ),
    model(
        "values decide",
        lambda: Net(judged, a=L(6, 5), b=L(5, 4), c=L(5, 4)),
        (4, 6),
        must="refuse some",
        why="which Linear follows depends on x",
    ),
    model(
        "embedding, Linear",
        lambda: S(nn.Embedding(9, 6), L(6, 5)),
        (4, 3),
        of=lambda x: (x.abs() * 3).long().clamp(max=8),
        why="the input is int64",
    ),
    model(
        "two inputs",
        lambda: NetOfTwo(lambda m, x, y: m.c(m.a(x) + m.b(y)), a=L(6, 5), b=L(3, 5), c=L(5, 4)),
        (4, 6),
        (4, 3),
    ),
    model(
        "an input not used",
        lambda: NetOfTwo(lambda m, x, y: m.b(m.a(x)), a=L(6, 5), b=L(5, 4)),
        (4, 6),
        (4, 3),
        layers=1,
    ),
    model("tuple of outputs", lambda: Net(lambda m, x: (m.b(m.a(x)), m.c(x)), a=L(6, 5), b=L(5, 4), c=L(6, 2)), (4, 6)),
    model(
        "dict of outputs",
        lambda: Net(lambda m, x: {"mean": m.b(m.a(x)), "scale": m.c(x).exp()}, a=L(6, 5), b=L(5, 4), c=L(6, 4)),
        (4, 6),
    ),
    model(
        "intermediate returned",
        lambda: Net(lambda m, x: returned_as_well(m, m.a(x)), a=L(6, 5), b=L(5, 4)),
        (4, 6),
        why="the first Linear must stay",
    ),
    model(
        "a layer never used", lambda: Net(lambda m, x: m.b(m.a(x)), a=L(6, 5), b=L(5, 4), c=L(5, 4)), (4, 6), layers=1
    ),
    model(
        "output without x", lambda: Net(lambda m, x: (m.b(m.a(x)), m.t * 2), a=L(6, 5), b=L(5, 4), t=weights(3)), (4, 6)
    ),
)


def returned_as_well(m: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    return m.b(y), y


# Modules with a life of their own -----------------------------------------------------------------------------------


def hooked(before: bool) -> nn.Module:
    net = S(L(6, 5), L(5, 4))
    if before:
        net[1].register_forward_pre_hook(lambda module, inputs: (inputs[0].abs(),))
    else:
        net[0].register_forward_hook(lambda module, inputs, output: output.clamp(min=0))
    return net


def watched() -> nn.Module:
    net = S(L(6, 5), L(5, 4))
    net[0].register_forward_hook(lambda module, inputs, output: None)
    return net


def lazy() -> nn.Module:
    net = S(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.LazyLinear(4))
    net(torch.zeros(2, 6))
    return net


def pruned() -> nn.Module:
    net = S(L(6, 7), L(7, 5))
    prune.l1_unstructured(net[0], "weight", amount=0.6)
    return net


def frozen() -> nn.Module:
    net: Any = S(L(6, 7), L(7, 5))
    weight = net[0].weight.detach().clone()
    del net[0].weight
    net[0].register_buffer("weight", weight)
    return net.requires_grad_(False)


def copied() -> nn.Module:
    step = S(L(6, 6), BN(6))
    return S(step, copy.deepcopy(step), step)


class Doubling(nn.Linear):
    """A Linear by its class, not by what it does."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).abs()


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True, norm_first=True)


LIVES = (
    model("weight_norm", lambda: S(parametrizations.weight_norm(L(6, 7)), L(7, 5)), (4, 6), layers=1),
    model("spectral_norm", lambda: S(parametrizations.spectral_norm(L(6, 7)), L(7, 5)), (4, 6), layers=1),
    model("orthogonal", lambda: S(parametrizations.orthogonal(L(6, 6)), L(6, 5)), (4, 6), layers=1),
    model("pruned", pruned, (4, 6), why="the weight is made by a pre-hook"),
    model("lazy modules, materialised", lazy, (4, 6), layers=1),
    model("forward hook that clamps", lambda: hooked(False), (4, 6), must="refuse some", why="a ReLU hides in a hook"),
    model(
        "forward pre-hook that takes abs", lambda: hooked(True), (4, 6), must="refuse some", why="abs hides in a hook"
    ),
    model("forward hook that looks", watched, (4, 6), why="it changes nothing, but wants to be called"),
    model("weights in a buffer", frozen, (4, 6), layers=1),
    model("a copy and the same block again", copied, (4, 6), layers=1, why="the first block is used twice"),
    model(
        "a Linear with an activation of its own",
        lambda: S(Doubling(6, 5), L(5, 4)),
        (4, 6),
        must="refuse some",
        why="forward is overridden",
    ),
    model(
        "Linears around a GRU",
        lambda: Net(
            lambda m, x: m.c(m.b(m.g(m.a(x))[0])), a=L(6, 5), g=nn.GRU(5, 4, batch_first=True), b=L(4, 3), c=L(3, 2)
        ),
        (2, 3, 6),
    ),
    model(
        "attention between",
        lambda: Net(
            lambda m, x: m.b(m.t(*[m.a(x)] * 3, need_weights=False)[0]),
            a=L(6, 8),
            t=nn.MultiheadAttention(8, 2, batch_first=True),
            b=L(8, 4),
        ),
        (2, 3, 6),
    ),
    model("TransformerEncoderLayer", encoder, (2, 3, 8)),
)
