"""Causes that the first corpus of faults does not hold, each on a small network, and the same network without it."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import eitherway as ew


def alarms(model: nn.Module, example: Any, loss: Any = None) -> list[Any]:
    return [v for v in ew.diagnose(model, example, loss).verdicts if v.severity == "alarm"]


def kinds(model: nn.Module, example: Any, loss: Any = None) -> list[str]:
    return [v.kind for v in alarms(model, example, loss)]


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Modulated(nn.Module):
    """A residual branch scaled and shifted by a second input, through a layer of zeros; or with zeros in its middle."""

    def __init__(self, blocked: bool) -> None:
        super().__init__()
        self.up, self.told, self.down = nn.Linear(16, 32), nn.Linear(8, 64), nn.Linear(32, 16)
        self.first, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        nn.init.zeros_((self.up if blocked else self.told).weight)
        nn.init.zeros_((self.up if blocked else self.told).bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        x = self.first(x)
        scale, shift = self.told(c).chunk(2, -1)
        return self.head(x + self.down(F.gelu(self.up(x) * (1 + scale) + shift)))


def test_zeros_that_only_modulate_a_branch_are_meant_and_zeros_in_its_way_are_not():
    given = (torch.randn(16, 16), torch.randn(16, 8))
    assert kinds(Modulated(False), given) == []
    assert any("up" in v.layers for v in alarms(Modulated(True), given) if v.kind == "vanishing signal")


def test_batch_norm_between_layers_is_no_activation():
    def mlp(act: type[nn.Module]) -> nn.Module:
        return nn.Sequential(
            nn.Linear(12, 40), nn.BatchNorm1d(40), act(), nn.Linear(40, 40), nn.BatchNorm1d(40), nn.ReLU(),
            nn.Linear(40, 3),
        )  # fmt: skip

    found = alarms(mlp(nn.Identity), torch.randn(32, 12))
    assert [v.kind for v in found] == ["linear run"] and found[0].layers == ("0", "3")
    assert kinds(mlp(nn.ReLU), torch.randn(32, 12)) == []


class Deep(nn.Module):
    def __init__(self, carries: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(12))
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(12))
        self.end, self.head, self.carries = nn.LayerNorm(24), nn.Linear(24, 3), carries

    def forward(self, x: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers):
            y = x + torch.tanh(layer(norm(x)))
            x = x + y if self.carries else y
        return self.head(self.end(x))


def test_a_stream_added_to_itself_grows_by_a_factor_a_block_behind_norms_too():
    found = alarms(Deep(True), torch.randn(16, 24))
    assert "residual growth" in [v.kind for v in found]
    assert any("added to itself" in v.cause for v in found)
    assert kinds(Deep(False), torch.randn(16, 24)) == []


class Pooled(nn.Module):
    """A mean over places with learned weights, the score of each made by a layer."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.each, self.score, self.head = nn.Linear(8, 32), nn.Linear(32, 1), nn.Linear(32, 3)
        nn.init.normal_(self.score.weight, 0.0, gain / 32**0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.each(x))
        return self.head((self.score(y).softmax(1) * y).sum(1))


def test_scores_of_any_make_saturate_a_softmax_that_weighs():
    x = torch.randn(16, 20, 8)
    found = [v for v in alarms(Pooled(25.0), x) if v.kind == "attention saturated"]
    assert found and "score" in found[0].layers
    assert "attention saturated" not in kinds(Pooled(1.0), x)


class Recalled(nn.Module):
    """A first state from one input, then steps that read another."""

    def __init__(self, keeps: float) -> None:
        super().__init__()
        self.start, self.step, self.read = nn.Linear(6, 32), nn.Linear(32, 32, bias=False), nn.Linear(4, 32)
        self.head = nn.Linear(32, 3)
        nn.init.orthogonal_(self.step.weight, keeps)

    def forward(self, first: Tensor, steps: Tensor) -> Tensor:
        h = torch.tanh(self.start(first))
        for x in self.read(steps).unbind(1):
            h = torch.tanh(self.step(h) + x)
        return self.head(h)


def test_an_input_that_its_sibling_makes_forgotten_is_named():
    given = (torch.randn(16, 6), torch.randn(16, 6, 4))
    found = [v for v in alarms(Recalled(0.05), given) if "start" in v.layers]
    assert [v.kind for v in found] == ["vanishing gradient"]
    assert kinds(Recalled(1.0), given) == []


class Told(nn.Module):
    """Reads a second input by cross attention, scaled by numbers of its own that begin small."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.key, self.head = nn.Linear(16, 16), nn.Linear(8, 16), nn.Linear(16, 3)
        self.scale, self.attend = nn.Parameter(1e-5 * torch.ones(16)), nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x, memory = self.first(x), self.key(memory)
        return self.head(x + self.scale * self.attend(x, memory, memory, need_weights=False)[0])


def test_a_branch_whose_learned_scale_begins_small_is_not_forgotten():
    assert kinds(Told(), (torch.randn(16, 5, 16), torch.randn(16, 6, 8))) == []


class Branches(nn.Module):
    def __init__(self, copies: bool) -> None:
        super().__init__()
        first = nn.Linear(10, 24)
        self.parts = nn.ModuleList(copy.deepcopy(first) if copies else nn.Linear(10, 24) for _ in range(3))
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        made = [torch.tanh(part(x)) for part in self.parts]
        return self.head(made[0] + made[1] + made[2])


def test_parallel_layers_with_equal_weights_and_gradients_are_copies():
    found = alarms(Branches(True), torch.randn(16, 10))
    assert [v.kind for v in found] == ["identical units"]
    assert found[0].layers == ("parts.0", "parts.1", "parts.2")
    assert kinds(Branches(False), torch.randn(16, 10)) == []


class Shrunk(nn.Module):
    def __init__(self, dead: float) -> None:
        super().__init__()
        self.code, self.out = nn.Linear(12, 40), nn.Linear(40, 12)
        self.dead = nn.Parameter(torch.full((40,), dead))

    def forward(self, x: Tensor) -> Tensor:
        y = self.code(x)
        return self.out(F.relu(y - self.dead) - F.relu(-y - self.dead))


def test_numbers_within_a_dead_zone_are_dead_before_samples_are_parallel():
    x = torch.randn(32, 12)
    found = alarms(Shrunk(9.0), x)
    assert found[0].kind == "dead units" and "code" in found[0].layers
    assert "dead units" not in kinds(Shrunk(0.1), x)


class Retrieved(nn.Module):
    """Attention written by hand in the model itself, with queries from a table that starts alike."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.table, self.ask = nn.Parameter(std * torch.randn(5, 16)), nn.Linear(16, 16)
        self.key, self.value, self.head = nn.Linear(9, 16), nn.Linear(9, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.key(x) @ self.ask(self.table).T / 4  # (B, N, 5): which of five takes a place
        return self.head((scores.softmax(-1).transpose(1, 2) @ self.value(x)).amax(1))


def test_attention_outside_a_module_is_named_by_the_layers_that_score():
    found = [v for v in alarms(Retrieved(0.0), torch.randn(16, 7, 9)) if v.kind == "attention uniform"]
    assert found and {"ask", "key"} & set(found[0].layers)
    assert kinds(Retrieved(1.0), torch.randn(16, 7, 9)) == []


@pytest.mark.parametrize("norm", [nn.InstanceNorm1d(8), nn.GroupNorm(8, 8)], ids=["instance", "group"])
def test_a_norm_over_what_does_not_vary_is_the_root(norm: nn.Module):
    model = nn.Sequential(nn.Conv1d(4, 8, 1), norm, nn.ReLU(), nn.Conv1d(8, 16, 1), nn.ReLU(), nn.Conv1d(16, 2, 1))
    even = torch.randn(16, 4, 1).expand(-1, -1, 20).contiguous()
    assert alarms(model, even)[0].kind == "normalisation"
    assert "normalisation" not in kinds(model, torch.randn(16, 4, 20))


class Tables(nn.Module):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.table, self.head, self.most = nn.Embedding(30, 12), nn.Linear(36, 4), most

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids.clamp(max=self.most)).flatten(1))


def test_a_table_asked_for_one_row_by_samples_that_differ_is_named():
    ids = torch.randint(1, 30, (16, 3))
    found = alarms(Tables(1), ids)
    assert found[0].kind == "parallel samples" and found[0].layers == ("table",)
    assert kinds(Tables(29), ids) == []


class Counted(nn.Module):
    """Places counted from what is there: the same for all samples, and made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.kind, self.read = nn.Embedding(20, 32), nn.Embedding(2, 32), nn.Linear(8, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        there = (x.abs().sum(-1) > 0).long()
        return self.head(torch.relu(self.read(x) + self.places(there.cumsum(1)) + self.kind(there)).mean(1))


def test_places_counted_from_a_mask_are_the_same_by_right():
    assert kinds(Counted(), torch.randn(16, 12, 8)) == []


class Coded(nn.Module):
    """Soft codes: the nearest rows of a table, which is compared with and read from."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead, self.codes, self.head = nn.Linear(8, 32), nn.Parameter(torch.randn(10, 32)), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        near = -torch.cdist(torch.tanh(self.ahead(x)), self.codes)
        return self.head(near.softmax(-1) @ self.codes)


def test_a_table_that_is_compared_with_is_no_linear_map():
    assert "linear run" not in kinds(Coded(), torch.randn(16, 8))


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.a, self.b, self.factor = nn.Linear(8, 16), nn.Linear(16, 3), factor

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.factor + 1)


def test_a_product_with_zero_is_a_wall():
    found = [v for v in alarms(Scaled(0), torch.randn(16, 8), lambda y: y.square().mean()) if v.kind == "no gradient"]
    assert found and found[0].layers == ("a",) and "by 0" in found[0].cause
    assert "no gradient" not in kinds(Scaled(1), torch.randn(16, 8))


def test_parameters_of_whole_numbers_are_left_out():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model.register_parameter("codes", nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False))
    assert ew.diagnose(model, torch.randn(16, 8)).healthy


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randint(-127, 127, (16, 8), dtype=torch.int8), requires_grad=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(x @ (self.codes.float() / 180).T))


def test_a_layer_of_whole_numbers_is_diagnosed():
    assert "not finite" not in kinds(Quantised(), torch.randn(16, 8))
