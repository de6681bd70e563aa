"""Models as users write them, no annotation: what is found in each, and that no parameter is left out."""

import pytest
import torch
from tests.signal.structure.models import MODELS, randn
from torch import nn

from eitherway.graph import capture
from eitherway.signal.structure import Structure, read_structure


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
