"""The chain way gives what reverse mode gives, on the networks that are timed and on networks made at random."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpora import generator, normal, seeded, settle
from tests.corpora.case import dense
from tests.corpora.networks import JACOBIANS
from torch import Tensor, nn

from eitherway.calculus.chain import prepare
from eitherway.graph import capture


def truth(f, x: Tensor, batched: bool) -> Tensor:
    if not batched:
        return dense(f, x)
    return torch.stack([dense(lambda row: f(row[None])[0], row) for row in x])


def worst(J: Tensor, true: Tensor) -> float:
    return float((J - true).abs().max() / true.abs().max().clamp_min(1e-300))


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("network", JACOBIANS, ids=lambda network: network.name)
def test_a_timed_network_has_the_jacobian_of_reverse_mode(network, batched):
    module, x = network.make(generator(network.name))
    module, x = module.double(), x[: 3 if batched else 1].double()
    if network.batch == 1:
        x = x[:1]
    if max(x[0].numel(), 1) > 1000:
        module, x = module.float(), x.float()
    chain = prepare(capture(module, x), batched=batched, memory=None)
    J = chain(x)
    columns = x.detach().requires_grad_()
    y = module(columns)
    g = torch.Generator().manual_seed(1)
    u = torch.randn(y.shape, generator=g, dtype=y.dtype)
    (back,) = torch.autograd.grad(y, columns, u)
    pulled = (u.reshape(*J.shape[:-1], 1) * J).sum(-2) if batched else u.flatten() @ J
    bar = 1e-12 if x.dtype == torch.float64 else 1e-5
    assert worst(pulled.flatten(), back.flatten()) < bar
    assert chain.optimal


class Residual(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Gated(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.one, self.other = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, x):
        return torch.sigmoid(self.one(x)) * self.other(x)


class Branches(nn.Module):
    """Three ways that meet twice; one layer is used in two of them."""

    def __init__(self, size: int):
        super().__init__()
        self.shared, self.last = nn.Linear(size, size), nn.Linear(2 * size, size)

    def forward(self, x):
        a = torch.tanh(self.shared(x))
        b = self.shared(torch.cos(x) * a)
        return self.last(torch.cat((a - 0.5 * b, b * x), -1)) / (1 + a * a)


class Attention(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.qkv, self.norm = nn.Linear(size, 3 * size), nn.LayerNorm(size)

    def forward(self, x):  # (B, n) as (B, 3 tokens, ...)
        tokens = torch.stack((x, x.roll(1, -1), x * x), -2)
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, -1)
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        return (weights @ v).mean(-2)


class Convolved(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 3, 3, padding=1), nn.GroupNorm(1, 3), nn.SiLU(), nn.MaxPool1d(2))

    def forward(self, x):
        return self.body(x.unsqueeze(-2)).flatten(-2)


class Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * x**2


LAYERS = {
    "tanh": lambda n: nn.Tanh(),
    "relu": lambda n: nn.ReLU(),
    "gelu": lambda n: nn.GELU(),
    "leaky": lambda n: nn.LeakyReLU(0.1),
    "scale": lambda n: Lambda(lambda x: -2 * x / 3 + 1),
    "power": lambda n: Lambda(lambda x: (x * x + 1) ** 0.75),
    "norm": lambda n: nn.LayerNorm(n),
    "rms": lambda n: nn.RMSNorm(n),
    "batch norm": lambda n: nn.BatchNorm1d(n),
    "softmax": lambda n: nn.Softmax(-1),
    "log softmax": lambda n: nn.LogSoftmax(-1),
    "residual": lambda n: Residual(nn.Sequential(nn.Linear(n, 3), nn.Tanh(), nn.Linear(3, n))),
    "gated": Gated,
    "branches": Branches,
    "attention": Attention,
    "custom": lambda n: Lambda(Cubed.apply),
    "opaque": lambda n: Lambda(lambda x: torch.logcumsumexp(torch.cumsum(x, -1), -1)),
    "normalised": lambda n: Lambda(lambda x: nn.functional.normalize(x, dim=-1)),
    "flip": lambda n: Lambda(lambda x: x.flip(-1)),
    "gather": lambda n: Lambda(lambda x: torch.cat((x[..., 1:], x[..., :1] * 2), -1)),
    "sorted": lambda n: Lambda(lambda x: x.sort(-1).values),
}


class Lambda(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def build(names, sizes) -> nn.Sequential:
    layers, size = [], sizes[0]
    for name, after in zip(names, sizes[1:]):
        layers += [LAYERS[name](size), nn.Linear(size, after)]
        size = after
    return nn.Sequential(*layers)


@given(
    st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4),
    st.lists(st.integers(2, 7), min_size=5, max_size=5),
    st.sampled_from([0, 1, 4]),
    st.integers(0, 2**20),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_random_network_has_the_jacobian_of_reverse_mode(names, sizes, batch, seed):
    g = torch.Generator().manual_seed(seed)
    net = settle(seeded(lambda: build(names, sizes), g), g).double()
    x = normal(g, max(batch, 1), sizes[0])
    chain = prepare(capture(net, x), batched=batch > 0, memory=None)
    true = truth(net, x, batch > 0)
    assert worst(chain(x), true) < 1e-12 or float((chain(x) - true).abs().max()) < 1e-13
    operator = chain.operator(x)
    assert torch.allclose(operator.dense(), true, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("batched", [True, False])
def test_each_layer_alone_has_the_jacobian_of_reverse_mode(name, batched):
    g = generator(name)
    net = settle(seeded(lambda: LAYERS[name](6), g), g).double()
    x = normal(g, 3, 6)
    chain = prepare(capture(net, x), batched=batched, memory=None)
    assert torch.allclose(chain(x), truth(net, x, batched), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("network", JACOBIANS, ids=lambda network: network.name)
def test_single_precision_is_right_to_its_rounding(network):
    module, x = network.make(generator(network.name))
    x = x[:2]
    short = prepare(capture(module, x), batched=True, memory=None)(x)
    module, x = module.double(), x.double()
    assert worst(short.double(), prepare(capture(module, x), batched=True, memory=None)(x)) < 1e-5


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.over = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = torch.zeros(len(x), 4, dtype=x.dtype)
        for t in range(x.shape[1]):
            h = torch.tanh(self.into(x[:, t]) + self.over(h))
        return h


def test_a_block_too_large_to_search_is_right_and_says_so():
    g = generator("recurrent")
    net, x = seeded(Recurrent, g).double(), normal(g, 2, 12, 3)
    chain = prepare(capture(net, x), batched=True, memory=None)
    assert not chain.optimal
    assert "heuristic" in chain.explain()
    assert torch.allclose(chain(x), truth(net, x, True), rtol=1e-12, atol=1e-14)


def test_tokens_stay_apart_until_something_mixes_them():
    """An MLP on each of T tokens is planned in blocks: the work grows with T, not with its square."""
    g = generator("tokens")
    net = seeded(lambda: nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8), nn.LayerNorm(8)), g).double()
    x = normal(g, 2, 16, 8)
    chain = prepare(capture(net, x), batched=True, memory=None)
    assert chain.plan is not None
    assert chain.plan.form.blocks == 16
    assert torch.allclose(chain(x), truth(net, x, True), rtol=1e-12, atol=1e-14)
