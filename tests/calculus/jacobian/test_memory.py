"""Budgets of memory: chunks that fit give the same numbers, and what does not fit is refused with its size."""

import gc
import weakref

import pytest
import torch
from tests.corpora import generator, normal, seeded
from torch import Tensor, nn
from torch.func import jacrev, vmap

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import jacobian, prepare_jacobian
from eitherway.calculus.jacobian import memory as memories
from eitherway.calculus.jacobian.memory import as_bytes, as_text, available


def network() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 20)), generator("memory")).double()


@pytest.mark.parametrize("mode", ("auto", "chain", "reverse", "forward"))
@pytest.mark.parametrize("budget", ("50kB", "100 kB", "1MiB", 10**8))
def test_a_budget_changes_no_number(mode, budget):
    net, x = network(), normal(generator("budget"), 30)
    plan = prepare_jacobian(net, x, mode=mode, memory=budget)
    assert torch.allclose(plan(x), jacrev(net)(x), rtol=1e-9, atol=1e-12)
    assert torch.allclose(plan(2 * x), jacrev(net)(2 * x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ("auto", "chain", "reverse", "forward"))
@pytest.mark.parametrize("budget", ("120kB", "1MB"))
def test_a_budget_changes_no_number_of_a_batch(mode, budget):
    net, x = network(), normal(generator("budget"), 16, 30)
    plan = prepare_jacobian(net, x, mode=mode, memory=budget, batched=True)
    assert torch.allclose(plan(x), vmap(jacrev(net))(x), rtol=1e-9, atol=1e-12)


def test_a_small_budget_makes_small_chunks_and_they_are_told():
    net, x = network(), normal(generator("chunks"), 30)
    wide, narrow = (prepare_jacobian(net, x, mode="reverse", memory=budget) for budget in ("10MB", "20kB"))
    assert narrow.way.chunk < wide.way.chunk == 20
    assert narrow.choice is not None and wide.choice is not None
    assert narrow.choice.predicted["reverse"].peak < wide.choice.predicted["reverse"].peak


def test_ways_that_do_not_fit_are_left_out():
    x = normal(generator("left out"), 400)
    plan = prepare_jacobian(lambda x: torch.sin(x) * x.roll(1), x, memory="3MB")
    assert plan.choice is not None and plan.choice.predicted[plan.mode].peak <= 3e6


@pytest.mark.parametrize(
    ("batched", "message"),
    [
        (False, "takes 164 MB and the budget is 1 MB; ask for form='operator'"),
        (True, "takes 2.56 MB and the budget is 1 MB; take fewer samples at a time"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_size(batched, message):
    with pytest.raises(ModelError, match=message):
        jacobian(torch.sin, torch.ones(64, 100), memory="1MB", batched=batched)


def test_the_size_of_a_batch_is_told_sample_by_sample():
    with pytest.raises(ModelError, match="the dense Jacobian, 64 x 100 x 100 of float32, takes 2.56 MB"):
        jacobian(torch.sin, torch.ones(64, 100), memory="1MB", batched=True)


def test_without_a_budget_what_the_machine_has_is_the_limit():
    with pytest.raises(ModelError, match="3000000 x 3000000 of float32, takes 36 TB"):
        jacobian(lambda x: x * 2, torch.ones(1).expand(3_000_000))


def test_the_operator_takes_what_no_matrix_could():
    x = torch.ones(300_000)
    with pytest.raises(ModelError, match="are free on cpu; ask for form='operator'"):
        jacobian(torch.sin, x)
    J = jacobian(torch.sin, x, form="operator")
    assert torch.allclose(J @ torch.ones(300_000), x.cos())


def test_the_sparse_form_of_what_is_too_large_dense_is_given():
    x = torch.ones(300_000)
    J = jacobian(torch.sin, x, form="sparse")
    assert J.shape == (300_000, 300_000) and J.coalesce().values().numel() == 300_000


@pytest.mark.parametrize(
    "memory", ("much", "12", "-3MB", "0MB", 0, -1, True, float("inf"), float("nan"), "5ib", "1.2.3GB", [1])
)
def test_what_is_no_amount_is_refused(memory):
    with pytest.raises(ModelError, match="expected bytes, or text such as '200MB' or '2GiB'"):
        jacobian(torch.sin, [1.0], memory=memory)


def test_amounts_are_read_and_written():
    assert [as_bytes(m) for m in (5, 5.9, "5 b", "2kb", "1.5MiB")] == [5, 5, 5, 2000, 3 * 2**19]
    assert [as_text(a) for a in (5, 4096, 7.5e6, 1e9, 3e12)] == ["5 B", "4.1 kB", "7.5 MB", "1 GB", "3 TB"]


def test_where_nobody_says_what_is_free_nothing_is_refused(monkeypatch):
    assert available(torch.device("cpu")) is None or available(torch.device("cpu")) > 0  # type: ignore[operator]
    monkeypatch.setattr(memories, "available", lambda device: None)
    memories.must_fit(10**9, 10**9, 1, torch.float64, torch.device("cpu"), None, "ask for less")


def test_the_parameters_of_a_module_keep_to_a_budget():
    net, x = network(), normal(generator("parameters"), 8, 30)
    with pytest.raises(ModelError, match="the dense Jacobian, 160 x.*name fewer parameters by wrt="):
        jacobian(net, x, wrt="parameters", memory="1MB")
    wide, narrow = (jacobian(net, x, wrt="parameters", memory=m) for m in (None, "4MB"))
    assert all(torch.allclose(wide[name], narrow[name], rtol=1e-10, atol=1e-13) for name in wide)
    wide, narrow = (jacobian(net, x, wrt="parameters", batched=True, memory=m) for m in (None, "4MB"))
    assert all(torch.allclose(wide[name], narrow[name], rtol=1e-10, atol=1e-13) for name in wide)


def test_sparsity_is_not_looked_for_where_that_would_take_more_than_the_budget():
    def f(x: Tensor) -> Tensor:
        return x.expand(50, 90).sin().exp().mean(0) * x.roll(1)

    x = normal(generator("no room"), 90)
    wide, narrow = (prepare_jacobian(f, x, memory=m) for m in ("10MB", "700kB"))
    assert wide.choice is not None and "sparse" in wide.choice.predicted
    assert narrow.choice is not None
    assert "following the run entry by entry may take more than 700 kB" in narrow.choice.refused["sparse"]
    assert torch.allclose(wide(x), narrow(x))


def test_with_a_budget_a_processor_takes_no_more_rows_at_once_than_it_gains_by():
    net = seeded(lambda: nn.Sequential(nn.Linear(30, 30_000), nn.Tanh(), nn.Linear(30_000, 20)), generator("rows"))
    x = normal(generator("rows"), 30).float()
    free, held = prepare_jacobian(net, x, mode="reverse"), prepare_jacobian(net, x, mode="reverse", memory="1GB")
    assert free.way.chunk == 20 and 1 <= held.way.chunk < 20
    assert held.choice is not None and held.choice.predicted["reverse"].peak < 20e6
    assert torch.allclose(free(x), held(x), atol=1e-6)


def mixed(x: Tensor) -> Tensor:
    return torch.cat([x * x, x[1:] - x[:-1]])


@pytest.mark.parametrize("form", ("dense", "operator", "sparse"))
@pytest.mark.parametrize("f", (network(), mixed), ids=("network", "function"))
def test_a_plan_leaves_no_tensor_to_the_collector(form, f, monkeypatch):
    # circles of objects would keep the whole run until Python happens to look for them
    seen: list[weakref.ref[Tensor]] = []
    clone = Tensor.clone

    def watched(tensor, **how):
        made = clone(tensor, **how)
        seen.append(weakref.ref(made))
        return made

    x = normal(generator("collector"), 30)
    prepare_jacobian(f, x, form=form)(x)
    gc.collect()
    monkeypatch.setattr(Tensor, "clone", watched)  # every point that f is run at is a clone
    gc.disable()
    try:
        prepare_jacobian(f, x, form=form)(x)
        assert seen and not any(made() is not None for made in seen)
    finally:
        gc.enable()
