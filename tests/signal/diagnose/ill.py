"""Networks that are ill, each in one way, for the tests of `diagnose`: kinds that are right, and who must be named."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tests.signal.diagnose.parts_ill import (
    Adapter,
    Branches,
    Cut,
    Deep,
    Heads,
    LogOf,
    Pooling,
    big_step,
    cnn_with_norms,
    freeze,
    ill,
    signs,
)
from tests.signal.diagnose.well import (
    CE,
    Language,
    ResidualMLP,
    chain,
    draw,
    he,
    ids,
    images,
    labels,
    language_loss,
    noise,
    small_cnn,
)
from torch import nn

FAULTS: dict[str, tuple[set[str], str, Callable[[], tuple[Any, ...]]]] = {
    # name: kinds that are right, a layer that must be named ("" any), model with example and loss
    "unscaled, deep": (
        {"exploding signal"},
        "0",
        lambda: (draw(chain(12, 128, nn.ReLU), lambda w, f: 1.0), noise(16, 128)),
    ),
    "unscaled, overflow": (
        {"exploding signal"},
        "0",
        lambda: (draw(chain(60, 128, nn.ReLU), lambda w, f: 1.0), noise(16, 128)),
    ),
    "unscaled, shallow": (
        {"exploding signal"},
        "0",
        lambda: (draw(chain(3, 128, nn.ReLU), lambda w, f: 1.0), noise(16, 128), (CE, labels(16))),
    ),
    "tiny weights": (
        {"vanishing signal"},
        "0",
        lambda: (draw(chain(12, 128, nn.ReLU), lambda w, f: 0.01), noise(16, 128)),
    ),
    "tiny weights, biases": (
        {"vanishing signal"},
        "2",
        lambda: (
            ill(chain(12, 128, nn.ReLU), lambda m: [p.mul_(0.1) for p in m.parameters() if p.ndim > 1]),
            noise(16, 128),
        ),
    ),
    "torch's start, fifty layers": (
        {"vanishing signal", "vanishing gradient"},
        "",
        lambda: (chain(50, 64, nn.ReLU), noise(32, 64)),
    ),
    "gelu, hundred layers": (
        {"exploding signal", "vanishing signal", "unequal samples"},
        "",
        lambda: (draw(chain(100, 128, nn.GELU), lambda w, f: 1.5335 / math.sqrt(f)), noise(16, 128)),
    ),
    "gelu, twenty layers": (
        {"unequal samples"},
        "38",
        lambda: (draw(chain(21, 64, nn.GELU), lambda w, f: 1.5335 / math.sqrt(f)), noise(16, 64)),
    ),
    "silu, hundred layers": (
        {"exploding signal", "vanishing signal", "unequal samples"},
        "",
        lambda: (draw(chain(100, 128, nn.SiLU), lambda w, f: 1.6765 / math.sqrt(f)), noise(16, 128)),
    ),
    "relu, hundred layers": ({"parallel samples"}, "", lambda: (he(chain(100, 256, nn.ReLU)), noise(16, 256))),
    "tanh, hundred layers": (
        {"exploding gradient"},
        "",
        lambda: (draw(chain(100, 256, nn.Tanh), lambda w, f: 1.5925 / math.sqrt(f)), noise(16, 256)),
    ),
    "sigmoid chain": ({"vanishing gradient"}, "", lambda: (chain(8, 64, nn.Sigmoid), noise(32, 64))),
    "sigmoid chain, xavier": (
        {"vanishing gradient"},
        "",
        lambda: (draw(chain(10, 64, nn.Sigmoid), lambda w, f: f**-0.5), noise(32, 64)),
    ),
    "softplus chain": (
        {"parallel samples", "vanishing gradient"},
        "",
        lambda: (draw(chain(30, 64, nn.Softplus), lambda w, f: 1.04 * f**-0.5), noise(32, 64)),
    ),
    "biases at -3": (
        {"dead units"},
        "0",
        lambda: (
            ill(he(chain(4, 64, nn.ReLU)), lambda m: [p.fill_(-3) for p in m.parameters() if p.ndim == 1]),
            noise(32, 64),
        ),
    ),
    "one layer's biases at -10": (
        {"dead units"},
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: m[2].bias.fill_(-10)), noise(32, 64)),
    ),
    "a step too large": (
        {"dead units", "exploding signal"},
        "",
        lambda: (big_step(he(chain(4, 64, nn.ReLU, inp=20)), 100.0), noise(32, 20)),
    ),
    "tanh, gain 5": (
        {"saturated units"},
        "0",
        lambda: (draw(chain(6, 64, nn.Tanh), lambda w, f: 5 * f**-0.5), noise(32, 64)),
    ),
    "sigmoid, large weights": (
        {"saturated units"},
        "0",
        lambda: (draw(chain(4, 64, nn.Sigmoid), lambda w, f: 3.0), noise(32, 64)),
    ),
    "inputs 0..255": (
        {"input scale"},
        "",
        lambda: (small_cnn(), (noise(8, 1, 28, 28).sigmoid() * 255).round(), (CE, labels(8))),
    ),
    "inputs 0..255 into tanh": (
        {"input scale"},
        "0",
        lambda: (chain(3, 64, nn.Tanh), (noise(16, 64).sigmoid() * 255).round(), (CE, labels(16))),
    ),
    "inputs of 1e-4": ({"input scale"}, "0", lambda: (chain(3, 64, nn.ReLU), 1e-4 * noise(32, 64))),
    "one column of thousands": (
        {"input scale"},
        "0",
        lambda: (chain(3, 64, nn.ReLU), noise(32, 64) * torch.ones(64).index_fill(0, torch.tensor([5]), 5e3)),
    ),
    "a forgotten activation": (
        {"linear run"},
        "2",
        lambda: (
            nn.Sequential(
                nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5)
            ),
            noise(32, 20),
        ),
    ),
    "no activation at all": (
        {"linear run"},
        "0",
        lambda: (nn.Sequential(nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 5)), noise(32, 20)),
    ),
    "detach": ({"no gradient"}, "front.0", lambda: (Cut("detach"), noise(32, 20))),
    "no_grad": ({"no gradient"}, "front.0", lambda: (Cut("no_grad"), noise(32, 20))),
    ".data": ({"no gradient"}, "front.0", lambda: (Cut("data"), noise(32, 20))),
    "round": ({"no gradient"}, "front.0", lambda: (Cut("round"), noise(32, 20))),
    "an unused branch": ({"no gradient"}, "two", lambda: (Branches("unused"), noise(32, 20))),
    "a dropped branch": ({"no gradient"}, "two", lambda: (Branches("dropped"), noise(32, 20))),
    "a detached branch": ({"no gradient"}, "two", lambda: (Branches("detached"), noise(32, 20))),
    "frozen in the middle": (
        {"no gradient"},
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: freeze(m[2])), noise(32, 64)),
    ),
    "a ReLU that answers": (
        {"dead units"},
        "0.4",
        lambda: (
            ill(nn.Sequential(chain(3, 64, nn.ReLU, 1), nn.ReLU()), lambda m: m[0][4].bias.fill_(-3)),
            noise(32, 64),
            (F.mse_loss, noise(32, 1, seed=2) - 2),
        ),
    ),
    "softmax over one place": ({"no gradient"}, "score", lambda: (Pooling(-1), noise(16, 8, 20), (CE, labels(16)))),
    "softmax over heads": ({"attention uniform"}, "", lambda: (Heads(1), noise(8, 16, 32))),
    "queries and keys of zero": (
        {"attention uniform"},
        "k",
        lambda: (ill(Heads(-1), lambda m: (m.q.weight.zero_(), m.k.weight.zero_())), noise(8, 16, 32)),
    ),
    "two zeros multiplied": (
        {"no gradient"},
        "down",
        lambda: (ill(Adapter(), lambda m: (m.up.weight.zero_(), m.down.weight.zero_())), noise(32, 20)),
    ),
    "one unit between wide layers": (
        {"low rank"},
        "2",
        lambda: (
            nn.Sequential(
                nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 1), nn.Tanh(), nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 5)
            ),
            noise(32, 20),
        ),
    ),
    "one sample in every place": (
        {"parallel samples"},
        "0",
        lambda: (chain(3, 64, nn.ReLU), noise(1, 64).repeat(16, 1), (CE, labels(16))),
    ),
    "sixty ReLU layers": ({"parallel samples"}, "", lambda: (he(chain(60, 256, nn.ReLU)), noise(16, 256))),
    "a norm of two samples": (
        {"normalisation"},
        "0",
        lambda: (nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3)), noise(2, 20)),
    ),
    "a head of N(0, 1)": (
        {"exploding signal"},
        "6",
        lambda: (
            ill(
                nn.Sequential(*chain(3, 64, nn.ReLU, 64), nn.LayerNorm(64), nn.Linear(64, 50)),
                lambda m: m[6].weight.normal_(),
            ),
            noise(32, 64),
            (CE, labels(32, 50)),
        ),
    ),
    "a sum of 65,536 squares": (
        {"update ratio"},
        "0",
        lambda: (
            chain(3, 64, nn.ReLU, 256, 256),
            noise(256, 256),
            lambda y: F.mse_loss(y, noise(256, 16, seed=3) @ noise(16, 256, seed=4) / 4, reduction="sum"),
        ),
    ),
    "all frozen": ({"no gradient"}, "0", lambda: (ill(chain(4, 64, nn.ReLU), freeze), noise(32, 64))),
    "constant weights": (
        {"identical units"},
        "0",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: [p.fill_(0.02) for p in m.parameters()]), noise(32, 64)),
    ),
    "one constant layer": (
        {"identical units"},
        "2",
        lambda: (ill(he(chain(4, 64, nn.ReLU)), lambda m: m[2].weight.fill_(0.1)), noise(32, 64)),
    ),
    "equal rows": (
        {"identical units"},
        "2",
        lambda: (
            ill(
                chain(4, 64, nn.Tanh), lambda m: (m[2].weight.copy_(m[2].weight[:1].expand(64, 64)), m[2].bias.zero_())
            ),
            noise(32, 64),
        ),
    ),
    "a zero layer inside": (
        {"vanishing signal"},
        "2",
        lambda: (
            ill(chain(4, 64, nn.ReLU), lambda m: (m[2].weight.zero_(), m[2].bias.zero_())),
            noise(32, 64),
            (CE, labels(32)),
        ),
    ),
    "a zero weight, a bias": (
        {"vanishing signal"},
        "2",
        lambda: (ill(chain(4, 64, nn.Tanh), lambda m: m[2].weight.zero_()), noise(32, 64)),
    ),
    "residual sums": ({"residual growth"}, "", lambda: (ResidualMLP(30), noise(32, 20))),
    "no 1/sqrt(d)": ({"attention saturated"}, "", lambda: (Deep(), noise(8, 32, 64))),
    "no 1/sqrt(d), language": (
        {"attention saturated"},
        "",
        lambda: (
            ill(
                Language(d=128, fused=False, scaled=False),
                lambda m: [b.qkv.weight.normal_(0, 128**-0.5) for b in m.blocks],
            ),
            ids(8, 32, below=100),
            language_loss,
        ),
    ),
    "a temperature of 1e-6": ({"attention uniform"}, "", lambda: (Deep(temperature=1e-6), noise(8, 32, 64))),
    "softmax before cross_entropy": (
        {"double squashing"},
        "",
        lambda: (nn.Sequential(*chain(3, 64, nn.ReLU), nn.Softmax(-1)), noise(32, 64), (CE, labels(32))),
    ),
    "sigmoid before bce with logits": (
        {"double squashing"},
        "",
        lambda: (chain(3, 64, nn.ReLU, 1), noise(32, 64), signs),
    ),
    "log of zero": ({"not finite"}, "", lambda: (LogOf("log"), noise(32, 20))),
    "slope of a root at zero": ({"not finite"}, "", lambda: (LogOf("sqrt"), noise(32, 20))),
    "exp": ({"not finite"}, "", lambda: (LogOf("exp"), noise(32, 20))),
    "division by zero": ({"not finite"}, "", lambda: (LogOf("divide"), noise(32, 20))),
    "nan in a weight": (
        {"not finite"},
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: m[2].weight[0, 0].fill_(math.nan)), noise(32, 64)),
    ),
    "a batch of one": ({"normalisation"}, "1", lambda: (cnn_with_norms(), images(1, 3, 16))),
    "constant features": (
        {"normalisation"},
        "0",
        lambda: (
            nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3)),
            torch.ones(16, 20) * torch.arange(20.0),
        ),
    ),
    "a dead norm": (
        {"normalisation"},
        "1",
        lambda: (ill(cnn_with_norms(), lambda m: m[1].weight.zero_()), images(8, 3, 16)),
    ),
    "dropout 0.95": (
        {"dropout"},
        "2",
        lambda: (
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.95), nn.Linear(64, 10)),
            noise(32, 64),
            (CE, labels(32)),
        ),
    ),
    "a layer 100 x": (
        {"exploding signal"},
        "2",
        lambda: (ill(chain(4, 64, nn.ReLU), lambda m: m[2].weight.mul_(100)), noise(32, 64), (CE, labels(32))),
    ),
    "a layer 100 x before a norm": (
        {"exploding signal", "update ratio"},
        "3",
        lambda: (ill(cnn_with_norms(), lambda m: m[3].weight.mul_(100)), images(8, 3, 16), (CE, labels(8))),
    ),
    "a loss of a million": (
        {"update ratio", "exploding gradient"},
        "",
        lambda: (chain(3, 64, nn.ReLU), noise(32, 64), lambda y: 1e6 * CE(y, labels(32))),
    ),
    "a loss of 1e-12": (
        {"update ratio", "vanishing gradient"},
        "",
        lambda: (chain(3, 64, nn.ReLU), noise(32, 64), lambda y: 1e-12 * CE(y, labels(32))),
    ),
    "embeddings x 100": (
        {"input scale"},
        "token",
        lambda: (Language(scale=100.0), ids(8, 32, below=100), language_loss),
    ),
    "drowning positions": (
        {"parallel samples"},
        "position",
        lambda: (Language(scale=0.02, table=1.0), ids(8, 32, below=100), language_loss),
    ),
    "a matrix of rank one": (
        {"low rank"},
        "2",
        lambda: (
            ill(chain(4, 64, nn.Tanh), lambda m: m[2].weight.copy_(noise(64, 1, seed=4) @ noise(1, 64, seed=5) / 8)),
            noise(32, 64),
        ),
    ),
}
