"""The corpora are sound: what they call a truth is one, what they call a fault is one, and all of it repeats."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.corpora import generator, normal
from tests.corpora.case import DETACHED
from tests.corpora.fault import Fault, by_differences, naive
from tests.corpora.faults import FAULTS
from tests.corpora.functions import CASES, Case, dense, non_zeros
from tests.corpora.fusing import MODELS, Model
from tests.corpora.networks import FUSING, JACOBIANS, Network

LARGEST = 300  # inputs or outputs: a dense truth is cheap
DISAGREEING = ("random", "state")
WRONG = [fault for fault in FAULTS if fault.kind not in (*DISAGREEING, "unobtainable")]
BLUNT = (nn.ReLU, nn.ReLU6, nn.LogSoftmax, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)  # modules that are not affine


def by_name(entries: Any, **more: Any) -> Any:
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.name, **more)


def tensors(given: Any) -> list[Tensor]:
    """The tensors in an answer, in order."""
    if isinstance(given, Tensor):
        return [given]
    return [t for part in (given.values() if isinstance(given, dict) else given) for t in tensors(part)]


def called(entry: Model | Network, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs and the outputs of a module made from `seed`, its chance drawn from a fixed seed."""
    module, example = entry.make(generator(entry.name, seed))
    inputs = tensors(example)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return inputs, tensors(module(*[x.clone() for x in inputs]))


@pytest.mark.parametrize(
    "corpus, least",
    [(CASES, 100), (FAULTS, 30), (MODELS, 60), (JACOBIANS, 11), (FUSING, 10)],
    ids=["cases", "faults", "models", "jacobians", "fusing"],
)
def test_a_corpus_is_large_enough_and_its_names_are_its_own(corpus: Any, least: int):
    assert len(corpus) >= least
    assert len({entry.name for entry in corpus}) == len(corpus)


def test_the_two_tables_of_networks_are_the_published_ones():
    assert (len(JACOBIANS), len(FUSING)) == (11, 10)


@pytest.mark.slow
def test_making_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    for entry in (*CASES, *FAULTS, *MODELS, *JACOBIANS, *FUSING):
        entry.make(generator(entry.name))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@by_name(CASES)
def test_a_case_has_a_finite_dense_truth_that_repeats(entry: Case):
    f, x = entry.make(generator(entry.name))
    jacobian = dense(f, x)
    assert jacobian.shape == (f(x).numel(), x.numel())
    assert max(jacobian.shape) <= LARGEST
    assert torch.isfinite(jacobian).all()
    f, again = entry.make(generator(entry.name))
    assert torch.equal(x, again) and torch.equal(dense(f, again), jacobian)


@pytest.mark.slow
@by_name(CASES)
def test_a_case_leaves_its_input_alone_and_answers_alike(entry: Case):
    f, x = entry.make(generator(entry.name))
    before = x.clone()
    assert torch.equal(f(x), f(x))
    assert torch.equal(x, before)


@pytest.mark.slow
@by_name([case for case in CASES if case.note != DETACHED])
def test_the_dense_truth_is_the_differences(entry: Case):
    f, x = entry.make(generator(entry.name))
    jacobian, double = dense(f, x), x.dtype == torch.float64 and "float32" not in entry.note
    if jacobian.numel() == 0:
        return
    measured = by_differences(f, x, 1e-6 if double else 1e-2)
    assert torch.allclose(jacobian, measured, rtol=1e-5 if double else 1e-3, atol=1e-7 if double else 1e-2)


@pytest.mark.slow
@by_name([case for case in CASES if case.tight])
def test_a_tight_pattern_holds_at_other_inputs(entry: Case):
    f, x = entry.make(generator(entry.name))
    moved = x + 0.1 * torch.rand(x.shape, generator=generator("moved"), dtype=torch.float64).to(x.dtype)
    assert torch.equal(non_zeros(dense(f, x)), non_zeros(dense(f, moved)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@by_name(WRONG)
def test_the_truth_about_a_fault_is_steady(entry: Fault):
    f, x = entry.make(generator(entry.name))
    truth, wider = by_differences(f, x), by_differences(f, x, 3e-5)
    assert torch.isfinite(truth).all()
    assert torch.allclose(truth, wider, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@by_name(WRONG)
def test_a_fault_gives_a_wrong_derivative(entry: Fault):
    f, x = entry.make(generator(entry.name))
    truth = by_differences(entry.make(generator(entry.name))[0], x)
    given = naive(entry, f, x)
    if entry.kind == "branch" and entry.example is not None and f(entry.example(x)).shape != f(x).shape:
        return  # a plan for so many outputs has no use for another number
    assert given.shape != truth.shape or not (given - truth).abs().max() < 1e-4 * truth.abs().max()  # also NaN


@pytest.mark.filterwarnings("ignore")
@by_name([fault for fault in FAULTS if fault.kind == "unobtainable"])
def test_an_unobtainable_derivative_raises(entry: Fault):
    f, x = entry.make(generator(entry.name))
    with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
        naive(entry, f, x)


@by_name([fault for fault in FAULTS if fault.kind in DISAGREEING])
def test_calls_that_should_agree_do_not(entry: Fault):
    f, x = entry.make(generator(entry.name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        answer = f(x.clone()).detach()
        first = answer.clone()
        second = f(x.clone()).detach().clone()
        late = f(x + 0.3).detach().clone()
        early = entry.make(generator(entry.name))[0](x + 0.3).detach()
    if entry.kind == "random":
        assert not torch.allclose(first, second)
    else:  # a later call differs from a first one, or reaches into an earlier answer
        assert not torch.allclose(late, early, rtol=1e-9, atol=1e-9) or not torch.equal(answer, first)


@pytest.mark.slow
@by_name(MODELS)
def test_a_model_runs_and_repeats(entry: Model):
    (_, outputs), (_, again), (_, others) = called(entry), called(entry), called(entry, seed=1)
    assert all(torch.isfinite(y).all() for y in outputs)
    assert all(torch.equal(y, z) for y, z in zip(outputs, again))
    assert not torch.equal(outputs[0], others[0])
    module, _ = entry.make(generator(entry.name))
    assert module.training == ("training mode" in entry.why)
    assert entry.why or entry.must == "exact"


@pytest.mark.slow
@by_name([model for model in MODELS if model.layers in (0, 1)])
def test_what_comes_out_as_one_layer_is_affine(entry: Model):
    module, example = entry.make(generator(entry.name))
    if any(isinstance(part, BLUNT) for part in module.modules()):
        return  # a norm or an activation stays beside the one layer
    module = module.double()
    x, *rest = (x.double() for x in tensors(example))
    y, z = (normal(generator(name), *x.shape) for name in ("y", "z"))
    with torch.no_grad():
        f = lambda t: tensors(module(t, *rest))[0]  # noqa: E731
        assert torch.allclose(f(x + 3 * z) - f(x), 3 * (f(y + z) - f(y)), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own fuser imports what torch deprecates
@pytest.mark.parametrize("name", ["shared conv, two BNs", "Linear, BN on (N, C, L), L = C"])
def test_the_known_fuser_is_wrong_on_the_known_bugs(name: str):
    from torch.fx.experimental.optimization import fuse

    module, x = next(model for model in MODELS if model.name == name).make(generator(name))
    with torch.no_grad():
        assert (fuse(module)(x) - module(x)).abs().max() > 0.1


@by_name(JACOBIANS)
def test_a_timed_network_has_the_size_and_batch_of_its_name(entry: Network):
    (x,), (y,) = called(entry)
    assert f"B{entry.batch}" in entry.name.split(", ") and x.shape == (entry.batch, *entry.size)
    assert len(y) == entry.batch and y.dtype == x.dtype == torch.float32


@by_name(FUSING)
def test_a_network_to_fuse_has_as_many_layers_as_the_table_says(entry: Network):
    module, _ = entry.make(generator(entry.name))
    (x,), (y,) = called(entry)
    assert not module.training and len(y) == len(x) == entry.batch
    layers = sum(isinstance(part, (nn.Linear, nn.Conv2d)) for part in module.modules())
    assert entry.layers is not None and layers == entry.layers[0] >= entry.layers[1]
