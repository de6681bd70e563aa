"""The second corpus is sound, and another than the first: each fault is there, its twin is without it, all repeats."""

import inspect
import re
from collections import Counter
from typing import Any

import pytest
import torch

from tests.corpora.signals.fault import KINDS, Fault, Healthy, called, losses, measured
from tests.corpora.signals.faults import FAULTS as SEEN
from tests.corpora.signals.healthy import HEALTHY as SEEN_HEALTHY
from tests.corpora.signals.test_signals import by_name, tensors
from tests.corpora.signals.unseen import faults, healthy, image_networks, looks, networks, sound_networks
from tests.corpora.signals.unseen.faults import FAULTS
from tests.corpora.signals.unseen.healthy import HEALTHY

SOUND = [(fault.name, fault.twin) for fault in FAULTS] + [(net.name, net.build) for net in HEALTHY]
ARCHITECTURES = 12
"""The least number of different networks among the faults."""


def sound(**more: Any) -> Any:
    return pytest.mark.parametrize("build", [b for _, b in SOUND], ids=[name for name, _ in SOUND], **more)


def test_the_corpus_is_large_enough_and_repeats_no_name_of_the_first():
    assert len(FAULTS) == 24 and len(HEALTHY) >= 14
    everything = (*FAULTS, *HEALTHY, *SEEN, *SEEN_HEALTHY)
    assert len({entry.name for entry in everything}) == len(everything)


def test_the_faults_are_of_all_kinds():
    expected = Counter(kind for fault in FAULTS for kind in fault.kinds)
    assert set(expected) == KINDS
    assert len({fault.kinds[0] for fault in FAULTS}) >= 14
    assert all(1 <= len(fault.kinds) <= 3 for fault in FAULTS)


def test_the_faults_are_in_networks_of_many_kinds():
    assert len({type(fault.build().model) for fault in FAULTS}) >= ARCHITECTURES


def test_the_corpus_asks_no_detector():
    for module in (faults, healthy, looks, networks, image_networks, sound_networks):
        assert "eitherway" not in inspect.getsource(module)


@by_name(FAULTS)
def test_a_pattern_finds_a_part_of_the_network(entry: Fault):
    model = entry.build().model
    names = [name for name, _ in (*model.named_modules(), *model.named_parameters())]
    assert all(any(re.search(pattern, name) for name in names) for pattern in entry.layers)


@by_name(FAULTS)
def test_a_fault_is_there_and_its_twin_is_without_it(entry: Fault):
    assert entry.seen(measured(entry.build()))
    assert not entry.seen(measured(entry.twin()))


@sound()
def test_what_is_sound_is_finite_and_of_a_sane_size(build: Any):
    run = measured(build())
    assert run.finite
    assert all(run.rms(name) < 30 for name in run.out)
    assert all(run.slope(name) < 10 for name in run.slopes)


@pytest.mark.slow
@sound()
def test_what_is_sound_learns_at_once(build: Any):
    first, last = losses(build(), 20, 1e-3)
    assert last < first - 0.02 * abs(first)


def test_what_is_called_right_99_times_of_100_is():
    start = next(net for net in HEALTHY if "99" in net.name).build()
    assert start.loss is not None
    said = called(start.model, start.example)
    wrong = torch.autograd.grad(start.loss(said), said)[0].argmin(1) != said.argmax(1)  # down at the label alone
    assert float(wrong.double().mean()) <= 0.01 and len(said.argmax(1).unique()) == 10


@pytest.mark.parametrize("entry", (*FAULTS[::8], *HEALTHY[::6]), ids=lambda entry: entry.name)
def test_building_repeats_and_leaves_the_global_generator_alone(entry: Fault | Healthy):
    before = torch.get_rng_state()
    first, second = entry.build(), entry.build()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second)))
