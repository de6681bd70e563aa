"""Weights as users hold and use them: bare, transposed, viewed, sliced, packed, computed, shared."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from eitherway.graph import capture
from eitherway.signal.structure import read_structure


class Bare(nn.Module):
    """One weight (O, I) = (6, 4), used in some way."""

    def __init__(self, use, *shape):
        super().__init__()
        self.w = nn.Parameter(torch.randn(shape or (6, 4), generator=torch.Generator().manual_seed(0)))
        self.b = nn.Parameter(torch.zeros(6))
        self.use = use

    def forward(self, x):
        return self.use(x, self.w, self.b)


def read(use, *shape, x=None):
    model = Bare(use, *shape)
    structure = read_structure(capture(model, torch.ones(3, 4) if x is None else x), model)
    return structure, structure.producers[0]


USES = {
    "x @ w.T": lambda x, w, b: x @ w.T,
    "x @ w.t() + b": lambda x, w, b: x @ w.t() + b,
    "matmul of a contiguous transpose": lambda x, w, b: torch.matmul(x, w.transpose(0, 1).contiguous()),
    "addmm": lambda x, w, b: torch.addmm(b, x, w.t()),
    "einsum": lambda x, w, b: torch.einsum("bi,oi->bo", x, w),
    "einsum, implicit": lambda x, w, b: torch.einsum("bi,oi", x, w),
    "einsum with dots": lambda x, w, b: torch.einsum("...i,oi->...o", x, w),
    "tensordot": lambda x, w, b: torch.tensordot(x, w.t(), dims=1),
    "w on the left": lambda x, w, b: (w @ x.T).T,
    "F.linear": lambda x, w, b: F.linear(x, w, b),
    "linear of a double transpose": lambda x, w, b: F.linear(x, w.T.contiguous().T, b),
    "mv of each": lambda x, w, b: torch.mv(w, x[0]),
    "bmm": lambda x, w, b: torch.bmm(x[None], w.T[None]),
    "conv of the weight as a kernel": lambda x, w, b: F.conv1d(x[:, :, None], w[:, :, None]),
}


@pytest.mark.parametrize("name", USES)
def test_every_way_to_multiply_finds_the_same_weight(name):
    structure, found = read(USES[name])
    assert (found.name, found.out_axes, found.in_axes, found.part) == ("w", (0,), (1,), ())
    assert (found.fan_in, found.fan_out, found.groups) == (4, 6, 1)
    assert structure.roles["w"].kind == "weight"
    assert not found.parametrised and found.parameters == ("w",)


@pytest.mark.parametrize("name", ["x @ w.t() + b", "addmm", "F.linear"])
def test_what_is_added_to_each_channel_is_the_bias(name):
    structure, found = read(USES[name])
    assert found.bias == "b" and structure.roles["b"].kind == "bias"
    assert structure.graph.outputs == [found.output]


def test_a_weight_with_heads_has_a_batch_axis_and_groups():
    x = torch.ones(2, 5, 3, 4)
    _, found = read(lambda x, w, b: torch.einsum("bthd,hdk->bthk", x, w), 3, 4, 7, x=x)
    assert (found.out_axes, found.in_axes, found.groups, found.fan_in, found.fan_out) == ((0, 2), (1,), 3, 4, 7)


def test_a_product_into_heads_has_two_out_axes():
    _, found = read(lambda x, w, b: torch.einsum("bd,dhk->bhk", x, w), 4, 2, 3)
    assert (found.out_axes, found.in_axes, found.fan_in, found.fan_out) == ((1, 2), (0,), 4, 6)


def test_a_view_that_joins_axes_is_told_in_the_weights_own():
    _, found = read(lambda x, w, b: x @ w.view(4, 6), 4, 2, 3)
    assert (found.out_axes, found.in_axes, found.fan_in) == ((1, 2), (0,), 4)


PARTS = {
    "slice": lambda w: w[2:4],
    "chunk": lambda w: w.chunk(3)[1],
    "split": lambda w: w.split(2)[1],
    "view": lambda w: w.view(3, 2, 4)[1],
    "unbind": lambda w: w.unflatten(0, (3, 2)).unbind(0)[1],
    "a copy": lambda w: w.narrow(0, 2, 2).t().contiguous().t(),
}


@pytest.mark.parametrize("cut", PARTS)
def test_a_part_of_a_weight_is_told_with_its_rows(cut):
    _, found = read(lambda x, w, b: F.linear(x, PARTS[cut](w)))
    assert found.name == "w" and found.part == (slice(2, 4), slice(0, 4))
    assert [b.rows for b in found.blocks] == [slice(2, 4)] and found.fan_out == 2


def test_packed_projections_by_hand_are_no_shared_weight():
    def use(x, w, b):
        q, k, v = (F.linear(x, part) for part in w.chunk(3))
        return F.scaled_dot_product_attention(q[None], k[None], v[None])

    structure, _ = read(use)
    assert [[b.role for b in p.blocks] for p in structure.producers] == [["query"], ["key"], ["value"]]
    assert structure.tied == {}


class Attention(nn.Module):
    """Four ways to take one product apart, and two ways to attend."""

    def __init__(self, cut, attend):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.cut, self.attend = cut, attend

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = self.cut(self.qkv(x))
        y = self.attend(*(u.reshape(B, T, 2, 4).transpose(1, 2) if u.dim() == 3 else u for u in (q, k, v)))
        return self.out(y.transpose(1, 2).reshape(B, T, D))


def by_hand(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    mask = torch.triu(torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool), 1)
    return F.dropout(F.softmax(scores.masked_fill(mask, -1e9), dim=-1), 0.1) @ v


def by_einsum(q, k, v):
    return torch.einsum("bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q * 0.5, k).softmax(-1), v)


CUTS = {
    "chunk": lambda y: y.chunk(3, dim=-1),
    "split": lambda y: y.split(8, dim=2),
    "slices": lambda y: (y[..., :8], y[..., 8:16], y[..., 16:]),
    "view and unbind": lambda y: y.view(*y.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0),
    "unflatten and index": lambda y: tuple(y.unflatten(-1, (3, 8))[:, :, i] for i in range(3)),
}


@pytest.mark.parametrize(
    "attend", [F.scaled_dot_product_attention, by_hand, by_einsum], ids=["fused", "by hand", "einsum"]
)
@pytest.mark.parametrize("cut", CUTS)
def test_queries_keys_and_values_are_found_from_who_reaches_the_attention(cut, attend):
    model = Attention(CUTS[cut], attend)
    structure = read_structure(capture(model, torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))), model)
    assert [(b.role, b.rows) for b in structure.producers[0].blocks] == [
        ("query", slice(0, 8)),
        ("key", slice(8, 16)),
        ("value", slice(16, 24)),
    ]
    assert [b.role for b in structure.producers[1].blocks] == [""]
    assert len(structure.attentions) == 1 and structure.paths[1].text == "attention"


def test_heads_side_by_side_have_a_block_each():
    def cut(y):
        return y.view(*y.shape[:2], 2, 3, 4).permute(3, 0, 2, 1, 4).unbind(0)  # a head's query, key, value together

    model = Attention(cut, F.scaled_dot_product_attention)
    structure = read_structure(capture(model, torch.zeros(2, 5, 8)), model)
    roles = [(b.role, b.rows.start, b.rows.stop) for b in structure.producers[0].blocks]
    assert roles == [(r, 4 * i, 4 * i + 4) for i, r in enumerate(["query", "key", "value"] * 2)]


def test_multihead_attention_of_torch_has_its_three_blocks():
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    together = read_structure(capture(model, x, x, x), model)
    apart = read_structure(capture(model, x, x + 1, x + 2), model)
    wanted = [("query", slice(0, 8)), ("key", slice(8, 16)), ("value", slice(16, 24))]
    for structure in (together, apart):
        packed = [p for p in structure.producers if p.name == "in_proj_weight"]
        assert [(b.role, b.rows) for p in packed for b in p.blocks] == wanted
        assert structure.tied == {}


def test_rotated_queries_and_keys_are_still_those():
    def rotated(q, k, v):
        def turn(x):
            a, b = x.chunk(2, dim=-1)
            return x * 0.8 + torch.cat([-b, a], dim=-1) * 0.6

        return F.scaled_dot_product_attention(turn(q), turn(k), v)

    model = Attention(CUTS["chunk"], rotated)
    structure = read_structure(capture(model, torch.zeros(2, 5, 8)), model)
    assert [b.role for b in structure.producers[0].blocks] == ["query", "key", "value"]


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize(
    "wrap", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal, pruned]
)
def test_computed_weights_go_by_the_name_of_what_they_stand_for(wrap):
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), wrap(nn.Linear(5, 5)))
    structure = read_structure(capture(model, torch.ones(2, 5)), model)
    first, second = structure.producers
    assert second.name == "2.weight" and second.parametrised and not first.parametrised
    assert second.parameters and all(structure.roles[n].kind == "parametrised" for n in second.parameters)
    assert (second.out_axis, second.in_axis, second.fan_in) == (0, 1, 5)
    assert structure.chains == ()


def test_a_low_rank_correction_is_part_of_the_weight():
    class LoRA(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(6, 4))
            self.a, self.b = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(6, 2))

        def forward(self, x):
            return F.linear(x, self.w + 0.5 * self.b @ self.a)

    model = LoRA()
    structure = read_structure(capture(model, torch.ones(3, 4)), model)
    (found,) = structure.producers
    assert found.parametrised and set(found.parameters) == {"w", "a", "b"}


def test_one_weight_used_often_is_told_once_for_each_use():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            x = self.embed(ids)
            for _ in range(3):
                x = torch.tanh(self.mix(x))
            return self.head(x)

    model = Tied()
    structure = read_structure(capture(model, torch.arange(6).reshape(2, 3)), model)
    assert structure.tied == {"embed.weight": (0, 4), "mix.weight": (1, 2, 3)}
    assert structure.roles["embed.weight"].aliases == ("head.weight",)
    assert set(structure.roles) == {name for name, _ in model.named_parameters()}
    assert structure.chains == () and structure.heads == (4,)


def test_lookups_of_a_bare_table_by_the_input_are_embeddings():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(9, 4))

        def forward(self, ids):
            return self.table[ids] + F.embedding(ids, self.table)

    model = Table()
    structure = read_structure(capture(model, torch.arange(3)), model)
    assert [p.kind for p in structure.producers] == ["embedding", "embedding"]


def test_a_weight_made_by_another_network_is_measured():
    class Hyper(nn.Module):
        def __init__(self):
            super().__init__()
            self.make = nn.Linear(4, 12)

        def forward(self, x):
            return F.linear(x, self.make(x.mean(0)).view(3, 4))

    model = Hyper()
    structure = read_structure(capture(model, torch.ones(5, 4)), model)
    assert [p.name for p in structure.producers] == ["make.weight"]
    assert structure.path(structure.graph.outputs[0]).kind == "measured"


@pytest.mark.parametrize(
    "use",
    [
        lambda x, w, b: F.linear(x.bfloat16(), w.to(torch.bfloat16)).float(),
        lambda x, w, b: x.half() @ w.half().t(),
        lambda x, w, b: torch.autocast("cpu", torch.bfloat16)(F.linear)(x, w),
    ],
    ids=["cast", "cast and turned", "autocast"],
)
def test_a_weight_in_another_precision_is_the_same_weight(use):
    _, found = read(use)
    assert (found.name, found.out_axes, found.in_axes, found.part) == ("w", (0,), (1,), ())


def test_a_weight_with_dropout_is_computed():
    _, found = read(lambda x, w, b: F.linear(x, F.dropout(w, 0.5)))
    assert found.parametrised and found.parameters == ("w",) and (found.out_axis, found.in_axis) == (0, 1)


def test_a_signal_added_in_one_operation_is_a_sum_and_no_bias():
    structure, found = read(lambda x, w, b: torch.addmm(x @ w[:, :4].t(), x, w.t()))
    second = structure.producers[1]
    assert (found.bias, second.bias, second.name) == (None, None, "w")
    assert structure.sources[second.output].kind == "sum"


def test_learned_queries_of_an_attention_are_a_table():
    class Pool(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = nn.Parameter(torch.zeros(1, 1, 4)), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return F.scaled_dot_product_attention(self.q.expand(x.shape[0], -1, -1), self.k(x), self.v(x))

    model = Pool()
    structure = read_structure(capture(model, torch.zeros(2, 5, 4)), model)
    assert structure.roles["q"].kind == "table"
    assert [[b.role for b in p.blocks] for p in structure.producers] == [["key"], ["value"]]


def test_complex_rotations_keep_queries_and_keys():
    def rotated(q, k, v):
        def turn(x):
            y = torch.view_as_complex(x.reshape(*x.shape[:-1], 2, 2))
            return torch.view_as_real(y * torch.ones(5, 2, dtype=torch.complex64)).flatten(-2)

        return F.scaled_dot_product_attention(turn(q), turn(k), v)

    model = Attention(CUTS["chunk"], rotated)
    structure = read_structure(capture(model, torch.zeros(2, 5, 8)), model)
    assert [b.role for b in structure.producers[0].blocks] == ["query", "key", "value"]
