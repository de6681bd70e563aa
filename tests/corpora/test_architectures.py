"""The corpus of architectures is sound: each runs, repeats, learns, and is what its facts say."""

import pytest
import torch

from tests.corpora.architectures import ARCHITECTURES, Architecture, answers, call, cost, matches, norm_parameters

by_name = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda entry: entry.name)


def test_the_corpus_is_large_enough_and_its_names_are_its_own():
    assert len(ARCHITECTURES) >= 40 and sum(not entry.slow for entry in ARCHITECTURES) >= 15
    assert len({entry.name for entry in ARCHITECTURES}) == len(ARCHITECTURES)


@pytest.mark.slow
@by_name
def test_an_architecture_answers_alike_twice_and_otherwise_for_another_seed(architecture: Architecture):
    before = torch.get_rng_state()
    once, again, other = (answers(call(*architecture.make(seed))) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.isfinite(y).all() for y in once)
    assert all(torch.equal(y, z) for y, z in zip(once, again))
    assert not torch.equal(once[0], other[0])


@pytest.mark.slow
@by_name
def test_the_gradient_reaches_all_that_is_read(architecture: Architecture):
    module, example = architecture.make()
    cost(architecture, call(module, example)).backward()
    for name, parameter in module.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached != matches(name, architecture.facts.unread), name


@pytest.mark.slow
@by_name
def test_the_facts_name_what_is_there(architecture: Architecture):
    module, _ = architecture.make()
    facts, modules = architecture.facts, dict(module.named_modules())
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    for pattern in (*facts.branches, *facts.norms, *facts.reused, *facts.unread, *sum(facts.tied, ())):
        assert any(matches(name, (pattern,)) for name in names), pattern
    assert set(facts.heads) <= set(modules) and all("weight" in modules[h]._parameters for h in facts.heads)
    for one, *others in facts.tied:
        assert all(module.get_parameter(one) is module.get_parameter(other) for other in others)
    assert all(module.get_parameter(name).dim() == 1 for name in norm_parameters(architecture, module))


@pytest.mark.slow
@by_name
def test_only_what_draws_answers_otherwise_when_it_evaluates(architecture: Architecture):
    module, example = architecture.make()
    with torch.no_grad():
        first = answers(call(module, example))
        torch.manual_seed(1)
        args, kwargs = ((), example) if isinstance(example, dict) else (example, {})
        second = answers(module(*(args if isinstance(args, tuple) else (args,)), **kwargs))
    assert architecture.facts.draws != all(torch.equal(y, z) for y, z in zip(first, second))
