"""Models as users write them, no annotation: what is found in each, and that no parameter is left out."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eitherway.graph import capture
from eitherway.signal.structure import Structure, read_structure


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def ids(*shape):
    return torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(0))


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.w = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * self.w


def turned(x):
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


class LlamaBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.n1, self.n2, self.heads = RMSNorm(width), RMSNorm(width), heads
        self.qkv, self.o = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.w1, self.w3 = (nn.Linear(width, 4 * width, bias=False) for _ in range(2))
        self.w2 = nn.Linear(4 * width, width, bias=False)

    def forward(self, x, cos, sin):
        B, T, D = x.shape
        q, k, v = self.qkv(self.n1(x)).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = q * cos + turned(q) * sin, k * cos + turned(k) * sin
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(D // self.heads)
        scores = scores + torch.triu(torch.full((T, T), float("-inf")), 1)
        x = x + self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, D))
        y = self.n2(x)
        return x + self.w2(F.silu(self.w1(y)) * self.w3(y))


class Llama(nn.Module):
    def __init__(self, width=16, depth=2):
        super().__init__()
        self.e = nn.Embedding(20, width)
        self.b = nn.ModuleList(LlamaBlock(width, 2) for _ in range(depth))
        self.n, self.head = RMSNorm(width), nn.Linear(width, 20, bias=False)
        self.head.weight = self.e.weight

    def forward(self, i):
        angles = torch.arange(i.shape[1])[:, None] * torch.ones(8)
        x = self.e(i)
        for block in self.b:
            x = block(x, angles.cos(), angles.sin())
        return self.head(self.n(x))


class Basic(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.c1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.c2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.b1, self.b2, self.relu = nn.BatchNorm2d(outer), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)
        shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.down = shortcut if stride > 1 else None

    def forward(self, x):
        y = self.b2(self.c2(self.relu(self.b1(self.c1(x)))))
        y += x if self.down is None else self.down(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2))
        self.stages, self.fc = nn.Sequential(Basic(8, 8, 1), Basic(8, 16, 2), Basic(16, 16, 1)), nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.stages(self.stem(x)), 1), 1))


class ViT(nn.Module):
    def __init__(self, width=16, **how):
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.zeros(1, 17, width))
        layer = nn.TransformerEncoderLayer(width, 2, 32, batch_first=True, activation="gelu", **how)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.encoder(x))[:, 0])


class ConvNeXt(nn.Module):
    def __init__(self, width=8, depth=2, keep=0.9):
        super().__init__()
        self.keep = keep
        self.dw = nn.ModuleList(nn.Conv2d(width, width, 7, padding=3, groups=width) for _ in range(depth))
        self.n = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.p1 = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(depth))
        self.p2 = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(depth))
        self.gamma = nn.ParameterList(nn.Parameter(1e-6 * torch.ones(width)) for _ in range(depth))
        self.fc1, self.fc2 = nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1)

    def forward(self, x):
        for dw, n, p1, p2, gamma in zip(self.dw, self.n, self.p1, self.p2, self.gamma):
            y = gamma * p2(F.gelu(p1(n(dw(x).permute(0, 2, 3, 1)))))
            y = y.permute(0, 3, 1, 2)
            y = y * self.fc2(F.relu(self.fc1(y.mean((2, 3), keepdim=True)))).sigmoid()
            drop = torch.rand(x.shape[0], 1, 1, 1) + self.keep
            x = x + y.div(self.keep) * drop.floor_()
        return x


class UNet(nn.Module):
    def __init__(self, c=4):
        super().__init__()

        def double(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(2, o), nn.SiLU(), nn.Conv2d(o, o, 3))

        self.down, self.middle, self.up = double(3, c), double(c, 2 * c), nn.ConvTranspose2d(2 * c, c, 2, 2)
        self.last, self.out = double(2 * c, c), nn.Conv2d(c, 1, 1)

    def forward(self, x):
        a = self.down(x)
        up = self.up(self.middle(F.max_pool2d(a, 2)))
        return self.out(self.last(torch.cat([up, a[:, :, : up.shape[2], : up.shape[3]]], 1)))


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(8 + 4 * i), nn.ReLU(), nn.Conv2d(8 + 4 * i, 4, 3, padding=1)) for i in range(3)
        )
        self.fc = nn.Linear(20, 5)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.fc(x.mean((2, 3)))


class LSTMByHand(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.x, self.h, self.out = nn.Linear(4, 4 * width), nn.Linear(width, 4 * width, bias=False), nn.Linear(width, 3)
        self.width = width

    def forward(self, x):
        h = c = torch.zeros(x.shape[0], self.width)
        for t in range(x.shape[1]):
            i, f, g, o = (self.x(x[:, t]) + self.h(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


class Mixer(nn.Module):
    def __init__(self, tokens=5, width=8):
        super().__init__()
        self.n, self.m = nn.LayerNorm(width), nn.LayerNorm(width)
        self.a, self.b = nn.Linear(tokens, 16), nn.Linear(16, tokens)
        self.c, self.d = nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, x):
        x = x + self.b(F.gelu(self.a(self.n(x).transpose(1, 2)))).transpose(1, 2)
        return x + self.d(F.gelu(self.c(self.m(x))))


class ReZero(nn.Module):
    def __init__(self, width=8, depth=4):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.alpha = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(depth))
        self.act = nn.PReLU(width)

    def forward(self, x):
        for layer, alpha in zip(self.layers, self.alpha):
            x = x + alpha * self.act(layer(x))
        return x


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.t, self.unused = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.ones(2))

    def forward(self, a, b):
        return (F.normalize(self.e(a), dim=-1) * F.normalize(self.e(b), dim=-1)).sum(-1) * self.t.exp()


class Queries(nn.Module):
    """Shared encoder layers, and learned queries that read what they put out."""

    def __init__(self, width=8):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 2, 16, batch_first=True)
        self.q, self.dec = (
            nn.Parameter(torch.zeros(3, width)), nn.TransformerDecoderLayer(width, 2, 16, batch_first=True),
        )  # fmt: skip

    def forward(self, x):
        for _ in range(3):
            x = self.layer(x)
        return self.dec(self.q.expand(x.shape[0], -1, -1), x)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(10, 64)
        self.c = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(True), nn.ConvTranspose2d(8, 3, 4, 2, 1)
        )

    def forward(self, z):
        return torch.tanh(self.c(self.f(z).view(-1, 16, 2, 2)))


class Parallel(nn.Module):
    """Attention and feed-forward beside each other, as PaLM and GPT-J have them."""

    def __init__(self, width=8):
        super().__init__()
        self.n, self.a = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.f, self.g = nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, x):
        h = self.n(x)
        return x + self.a(h, h, h, need_weights=False)[0] + self.g(F.gelu(self.f(h)))


class Modulated(nn.Module):
    """A diffusion transformer's block: shift, scale and gate come from a condition."""

    def __init__(self, width=8):
        super().__init__()
        self.m, self.n = nn.Linear(width, 6 * width), nn.LayerNorm(width, elementwise_affine=False)
        self.q, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.f, self.g = nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, x, c):
        shift, scale, gate, down, by, out = self.m(F.silu(c))[:, None].chunk(6, -1)
        q, k, v = self.q(self.n(x) * (1 + scale) + shift).chunk(3, -1)
        x = x + gate * self.o(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])
        return x + out * self.g(F.gelu(self.f(self.n(x) * (1 + by) + down)))


class RealNVP(nn.Module):
    """Additive coupling: one half of the channels is shifted by a network of the other."""

    def __init__(self):
        super().__init__()
        self.t = nn.ModuleList(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4)) for _ in range(3))

    def forward(self, x):
        a, b = x.chunk(2, -1)
        for t in self.t:
            a, b = b + t(a), a
        return torch.cat([a, b], -1)


class Highway(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.t, self.h = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        t = torch.sigmoid(self.t(x))
        return t * torch.relu(self.h(x)) + (1 - t) * x


MODELS = {
    "Llama": (Llama, (ids(2, 6),)),
    "ResNet": (ResNet, (randn(2, 3, 16, 16),)),
    "ViT": (ViT, (randn(2, 3, 16, 16),)),
    "ViT, pre-norm": (lambda: ViT(norm_first=True), (randn(2, 3, 16, 16),)),
    "ConvNeXt": (ConvNeXt, (randn(2, 8, 6, 6),)),
    "U-Net": (UNet, (randn(1, 3, 24, 24),)),
    "DenseNet": (DenseNet, (randn(2, 8, 4, 4),)),
    "LSTM by hand": (LSTMByHand, (randn(2, 3, 4),)),
    "LSTM": (lambda: nn.LSTM(4, 6, 2), (randn(3, 2, 4),)),
    "Mixer": (Mixer, (randn(2, 5, 8),)),
    "ReZero": (ReZero, (randn(4, 8),)),
    "Siamese": (Siamese, (randn(3, 8), randn(3, 8))),
    "queries": (Queries, (randn(2, 4, 8),)),
    "GAN": (Generator, (randn(2, 10),)),
    "parallel": (Parallel, (randn(2, 3, 8),)),
    "modulated": (Modulated, (randn(2, 3, 8), randn(2, 8))),
    "coupling": (RealNVP, (randn(5, 8),)),
    "highway": (Highway, (randn(5, 8),)),
}


def structure_of(name) -> tuple[nn.Module, Structure]:
    build, inputs = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    return model, read_structure(capture(model, *inputs), model)


def names(structure, indices):
    return [structure.producers[i].name for i in indices]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_role_and_every_weight_a_producer(name):
    model, structure = structure_of(name)
    assert list(structure.roles) == [n for n, _ in model.named_parameters()]
    for parameter, role in structure.roles.items():
        assert role.kind != "other", f"{parameter}: {role}"
        assert (role.kind == "unreached") == (parameter == "unused")
    for module_name, module in model.named_modules():
        prefix = f"{module_name}." if module_name else ""
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
            own = f"{prefix}weight"
            assert structure.roles[own if own in structure.roles else "e.weight"].kind == "weight"
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)) and module.weight is not None:
            assert structure.roles[f"{prefix}weight"].kind == "norm weight"
            assert structure.roles[f"{prefix}bias"].kind == "norm bias"


@pytest.mark.parametrize("name", MODELS)
def test_every_path_ends_in_sources_that_are_told(name):
    _, structure = structure_of(name)
    for value in structure.graph.values:
        path = structure.path(value.index)
        assert all(i in structure.sources for i in path.sources)
    for producer in structure.producers:
        assert structure.paths[producer.index].value == producer.source
        assert sum(b.rows.stop - b.rows.start for b in producer.blocks) <= max(
            structure.graph.values[producer.weight].shape
        )


BRANCHES = {
    "Llama": [["b.0.qkv.weight", "b.0.o.weight"], ["b.0.w1.weight", "b.0.w3.weight", "b.0.w2.weight"]]
    + [["b.1.qkv.weight", "b.1.o.weight"], ["b.1.w1.weight", "b.1.w3.weight", "b.1.w2.weight"]],
    "ResNet": [[f"stages.{i}.c1.weight", f"stages.{i}.c2.weight"] for i in range(3)],
    "U-Net": [],
    "DenseNet": [],
    "LSTM by hand": [],
    "Mixer": [["a.weight", "b.weight"], ["c.weight", "d.weight"]],
    "ReZero": [[f"layers.{i}.weight"] for i in range(4)],
    "Siamese": [],
    "GAN": [],
    "parallel": [["a.in_proj_weight", "a.out_proj.weight"], ["f.weight", "g.weight"]],
    "highway": [],
}


@pytest.mark.parametrize("name", BRANCHES)
def test_branches_hold_the_producers_between_a_stream_and_its_add(name):
    _, structure = structure_of(name)
    assert [names(structure, r.producers) for r in structure.residuals] == BRANCHES[name]
    for residual in structure.residuals:
        assert residual.last == residual.producers[-1:]


@pytest.mark.parametrize(
    ("name", "depths"),
    [("Llama", [4] * 4), ("ViT", [4] * 4), ("ViT, pre-norm", [4] * 4), ("ReZero", [4] * 4), ("parallel", [2, 2])]
    + [("ResNet", [1, 2, 2]), ("queries", [6] * 6 + [3] * 3)],
)
def test_depth_counts_the_adds_on_one_stream(name, depths):
    _, structure = structure_of(name)
    assert [r.depth for r in structure.residuals] == depths


def test_a_projected_shortcut_is_the_streams_side():
    _, structure = structure_of("ResNet")
    assert [names(structure, r.projection) for r in structure.residuals] == [[], ["stages.1.down.0.weight"], []]
    assert [r.ends_in_norm for r in structure.residuals] == [f"stages.{i}.b2.weight" for i in range(3)]


def test_learned_scales_of_branches_are_named():
    assert [r.scale for r in structure_of("ReZero")[1].residuals] == [f"alpha.{i}" for i in range(4)]
    _, structure = structure_of("ConvNeXt")
    assert [r.scale for r in structure.residuals] == ["gamma.0", "gamma.1"]
    assert [names(structure, r.last) for r in structure.residuals] == [["p2.0.weight"], ["p2.1.weight"]]
    assert structure.roles["gamma.0"].kind == "scale"


def test_couplings_end_in_their_own_network():
    _, structure = structure_of("coupling")
    assert [names(structure, r.last) for r in structure.residuals] == [[f"t.{i}.2.weight"] for i in range(3)]


def test_a_modulation_is_in_the_branch_and_ends_none():
    _, structure = structure_of("modulated")
    assert [names(structure, r.last) for r in structure.residuals] == [["o.weight"], ["g.weight"]]


@pytest.mark.parametrize("name", ["Llama", "ViT", "queries", "parallel", "modulated"])
def test_attentions_have_queries_keys_and_values(name):
    _, structure = structure_of(name)
    rows = [b.role for p in structure.producers for b in p.blocks if b.role]
    assert rows == ["query", "key", "value"] * len(structure.attentions) and rows


def test_roles_of_what_is_no_weight():
    roles = structure_of("ViT")[1].roles
    assert (roles["cls"].kind, roles["pos"].kind) == ("table", "table")
    roles = structure_of("Siamese")[1].roles
    assert (roles["t"].kind, roles["unused"].needed, roles["e.0.weight"].needed) == ("scale", False, True)
    assert structure_of("queries")[1].roles["q"].kind == "table"
    assert structure_of("ReZero")[1].roles["act.weight"].kind == "slope"


def test_shared_weights_are_tied():
    assert set(structure_of("Siamese")[1].tied) == {"e.0.weight", "e.2.weight"}
    assert structure_of("Llama")[1].tied == {"e.weight": (0, 11)}
    assert structure_of("LSTM by hand")[1].tied == {"x.weight": (0, 2, 4), "h.weight": (1, 3, 5)}


@pytest.mark.parametrize(
    ("name", "heads"),
    [("Llama", ["e.weight"]), ("ResNet", ["fc.weight"]), ("U-Net", ["out.weight"]), ("LSTM by hand", ["out.weight"])],
)
def test_heads_are_what_nothing_weighted_follows(name, heads):
    _, structure = structure_of(name)
    assert names(structure, structure.heads) == heads


def test_gates_of_a_cell_by_hand_are_blocks():
    _, structure = structure_of("LSTM by hand")
    assert [b.rows for b in structure.producers[0].blocks] == [slice(6 * i, 6 * i + 6) for i in range(4)]


def test_the_same_run_reads_the_same_with_all_values_kept():
    model, structure = structure_of("Llama")
    again = read_structure(capture(model, MODELS["Llama"][1][0], keep=True), model)
    assert again.producers == structure.producers and again.residuals == structure.residuals
    assert again.roles == structure.roles and again.chains == structure.chains


def test_reading_and_replaying_change_nothing():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), nn.BatchNorm1d(6), nn.PReLU(6), nn.Linear(6, 2)
        )
    graph = capture(model, randn(5, 4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chance = torch.get_rng_state()
    structure = read_structure(graph, model)
    for value in graph.values:
        path = structure.path(value.index)
        if path.ops:
            path(torch.linspace(-1, 1, 5)[:, None])
    assert torch.equal(chance, torch.get_rng_state()) and model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_branch_ends_in_what_is_weighed_and_not_in_the_weights():
    class Bare(nn.Module):
        """Attention without an output layer, then a mixture of experts with a softmax router."""

        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.route = (nn.Linear(8, 8) for _ in range(4))
            self.expert = nn.Parameter(torch.zeros(8, 8, 8))

        def forward(self, x):
            x = x + (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x)
            y = torch.einsum("btd,edf->betf", x, self.expert)
            return x + torch.einsum("betf,bte->btf", y, self.route(x).softmax(-1))

    with torch.random.fork_rng(devices=[]):
        model = Bare()
    structure = read_structure(capture(model, randn(2, 3, 8)), model)
    assert [names(structure, r.last) for r in structure.residuals] == [["v.weight"], ["expert"]]


def test_words_chosen_by_argmax_end_no_head():
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.cell, self.out = nn.Embedding(9, 8), nn.GRUCell(8, 8), nn.Linear(8, 9)

        def forward(self, word):
            h, answers = torch.zeros(word.shape[0], 8), []
            for _ in range(2):
                h = self.cell(self.e(word), h)
                answers.append(self.out(h))
                word = answers[-1].argmax(-1)
            return torch.stack(answers, 1)

    with torch.random.fork_rng(devices=[]):
        model = Greedy()
    structure = read_structure(capture(model, torch.arange(3)), model)
    assert names(structure, structure.heads) == ["out.weight", "out.weight"]
