"""Which way is taken: what was asked for, what wins, what fits; and torch's own ways are right in chunks."""

import pytest
import torch
from tests.corpora import generator, normal, seeded
from torch import Tensor, nn
from torch.func import jacrev, vmap

from eitherway.base.errors import ModelError
from eitherway.calculus.cost import Cost
from eitherway.calculus.jacobian import JacobianWarning, jacobian, prepare_jacobian
from eitherway.calculus.jacobian import choose as choosing
from eitherway.calculus.jacobian import run as running
from eitherway.calculus.jacobian.ways import Forward, Reverse, largest, work
from eitherway.graph import capture

NONE = Cost()


def deep() -> nn.Module:
    g = generator("deep")
    return seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Softmax(-1)), g).double()


@pytest.mark.parametrize("chunk", (1, 2, 3, 100))
@pytest.mark.parametrize("tape", ("func", "autograd"))
@pytest.mark.parametrize("batched", (False, True))
def test_reverse_in_chunks_is_jacrev(chunk, tape, batched):
    f, x = deep(), normal(generator("chunks"), 3, 6)
    if batched:
        expected, rows = vmap(jacrev(f))(x), 4
    else:
        expected, rows = jacrev(f)(x).reshape(12, 18), 12
    way = Reverse(f, rows, batched=batched, chunk=chunk, tape=tape, cost=NONE)
    assert torch.allclose(way(x), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("chunk", (1, 4, 100))
@pytest.mark.parametrize("batched", (False, True))
def test_forward_in_chunks_is_jacrev(chunk, batched):
    f, x = deep(), normal(generator("chunks"), 3, 6)
    expected = vmap(jacrev(f))(x) if batched else jacrev(f)(x).reshape(12, 18)
    way = Forward(f, 6 if batched else 18, batched=batched, chunk=chunk, cost=NONE)
    assert torch.allclose(way(x), expected, rtol=1e-10, atol=1e-13)


class Cubed(torch.autograd.Function):
    """Right, but without a rule for vmap and without a forward rule."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * grads[0]


@pytest.mark.parametrize("mode", ("auto", "reverse"))
def test_what_cannot_be_vectorised_goes_row_by_row(mode):
    x = normal(generator("cubed"), 4)
    plan = prepare_jacobian(lambda x: Cubed.apply(x.sin()), x, mode=mode)
    expected = (3 * x.sin() ** 2 * x.cos()).diag()
    assert torch.allclose(plan(x), expected) and torch.allclose(plan(x), expected)


def test_a_missing_forward_rule_is_said_and_reverse_answers():
    x = normal(generator("no rule"), 3, 2)
    with pytest.warns(JacobianWarning, match="the forward way fails at this point.*forward AD"):
        found = jacobian(lambda x: torch.cdist(x, x + 1), x, mode="forward")
    assert torch.allclose(found, torch.autograd.functional.jacobian(lambda x: torch.cdist(x, x + 1), x))


@pytest.mark.parametrize("mode", ("chain", "sparse", "reverse", "forward"))
def test_the_way_that_was_asked_for_is_taken(mode):
    x = normal(generator("asked"), 80)
    plan = prepare_jacobian(lambda x: x.roll(1) * x, x, mode=mode)
    assert plan.mode == mode and f"mode={mode!r} was asked for" in plan.why
    assert torch.allclose(plan(x), jacrev(lambda x: x.roll(1) * x)(x))


def watched(x: Tensor) -> Tensor:
    """Right, but values leave torch on the way: nobody can say that they do not come back."""
    x.detach().tolist()
    return x.sin() * x.roll(1, 0)


@pytest.mark.parametrize("mode", ("chain", "sparse"))
def test_a_closed_way_says_why_where_it_was_asked_for(mode):
    x = normal(generator("closed"), 3, 2)
    with pytest.raises(ModelError, match="the run cannot be followed: Tensor.tolist takes values out of torch"):
        jacobian(watched, x, mode=mode)
    assert torch.allclose(jacobian(watched, x), jacrev(lambda x: x.sin() * x.roll(1, 0))(x))


def test_the_sparse_form_of_what_cannot_be_followed_is_refused():
    with pytest.raises(ModelError, match="follows f operation by operation, and cannot here"):
        jacobian(watched, torch.ones(3, 2), form="sparse")


def test_what_cannot_be_captured_is_taken_by_torch(monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("cannot be recorded")

    f, x = deep(), normal(generator("uncaptured"), 3, 6)
    monkeypatch.setattr(running, "capture", failing)
    plan = prepare_jacobian(f, x, batched=True)
    assert torch.allclose(plan(x), vmap(jacrev(f))(x))
    assert plan.remarks == ["the run could not be captured (cannot be recorded), so torch's own ways are used"]
    with pytest.raises(ModelError, match="the run could not be followed operation by operation"):
        jacobian(f, x, mode="chain")
    assert jacobian(f, x, form="operator").dense().shape == (12, 18)


def test_what_does_not_fit_into_memory_is_said(monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(running, "capture", failing)
    with pytest.raises(ModelError, match=r"Sequential does not fit into memory at \(6,\)"):
        prepare_jacobian(deep(), torch.ones(6))


def test_a_bottleneck_is_bracketed_and_a_band_is_coloured():
    g = generator("bottleneck")
    narrow = seeded(lambda: nn.Sequential(nn.Linear(120, 4), nn.Tanh(), nn.Linear(4, 120)), g).double()
    plan = prepare_jacobian(narrow, normal(g, 120))
    assert plan.choice is not None and plan.choice.predicted["chain"].seconds < plan.choice.predicted["reverse"].seconds
    x = normal(g, 500)
    banded = prepare_jacobian(lambda x: (x[2:] * x[1:-1].exp()).sin() * x[:-2], x)
    assert banded.choice is not None
    predicted = banded.choice.predicted
    assert predicted["sparse"].products <= predicted["reverse"].products
    assert predicted["sparse"].seconds < predicted["reverse"].seconds


def test_what_is_not_sparse_is_not_taken_so():
    g = generator("full")
    net = seeded(lambda: nn.Linear(80, 80), g).double()
    plan = prepare_jacobian(lambda x: net(x).tanh(), normal(g, 80))
    assert plan.choice is not None
    assert "products would be needed for 80 x 80" in plan.choice.refused["sparse"]
    assert "sparse: not open" in plan.explain()


def test_small_answers_are_not_searched_for_zeros():
    plan = prepare_jacobian(torch.sin, torch.ones(10))
    assert plan.choice is not None and "sparse" not in plan.choice.predicted


def test_ways_that_come_close_are_raced_and_the_winner_is_named(monkeypatch):
    monkeypatch.setattr(choosing, "CLOSE", 1e9)
    g = generator("race")
    net = seeded(lambda: nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 8)), g)
    plan = prepare_jacobian(net, normal(g, 64, 64).float(), batched=True)
    assert plan.choice is not None and len(plan.choice.timed) >= 2
    fastest = min(plan.choice.timed, key=plan.choice.timed.__getitem__)
    assert fastest in plan.why and "ms" in plan.why


def test_no_way_at_all_is_said(monkeypatch):
    def broken(*_):
        raise RuntimeError("no")

    for way in (Reverse, Forward):
        monkeypatch.setattr(way, "__call__", broken)

    def closed(*_, **__):
        raise ModelError("closed")

    monkeypatch.setattr(choosing, "prepare_chain", closed)
    with pytest.raises(ModelError, match="no way to the Jacobian could be evaluated at this point"):
        prepare_jacobian(deep(), normal(generator("none"), 3, 6), batched=True)


def test_the_work_of_a_run_counts_products_elements_and_bytes():
    net = nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU())
    graph = capture(net, torch.ones(4, 6))
    once = work(graph)
    assert once.products == 4 * 6 * 5 and once.calls == 2
    assert once.peak == 2 * 4 * 5 * 4 and largest(graph) == 4 * 6 * 4


@pytest.mark.parametrize(
    ("layer", "shape", "products"),
    [
        (nn.Conv2d(2, 3, 3, bias=False), (1, 2, 5, 5), 3 * 9 * 2 * 9),
        (nn.ConvTranspose1d(2, 3, 2, stride=2, bias=False), (1, 2, 4), 2 * 4 * 3 * 2),
    ],
)
def test_the_work_of_convolutions_is_counted(layer, shape, products):
    assert work(capture(layer, torch.ones(shape))).products == products


def test_costs_add_up_one_after_the_other():
    one, two = Cost(1, 2, 3, 40), Cost(10, 20, 30, 4)
    assert one + two == Cost(11, 22, 33, 40) and (one + two).seconds == pytest.approx(one.seconds + two.seconds)
