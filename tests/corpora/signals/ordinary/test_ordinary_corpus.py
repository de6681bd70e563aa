"""The third corpus is sound: twenty faults, each there and gone in its twin; ten networks that learn; all repeats."""

import inspect
import re
from typing import Any

import pytest
import torch

from tests.corpora.signals.fault import KINDS, Fault, Healthy, losses, measured
from tests.corpora.signals.faults import FAULTS as FIRST
from tests.corpora.signals.healthy import HEALTHY as FIRST_HEALTHY
from tests.corpora.signals.ordinary import faults, healthy, image_networks, networks
from tests.corpora.signals.ordinary.faults import FAULTS
from tests.corpora.signals.ordinary.healthy import HEALTHY
from tests.corpora.signals.test_signals import by_name, tensors
from tests.corpora.signals.unseen.faults import FAULTS as UNSEEN
from tests.corpora.signals.unseen.healthy import HEALTHY as UNSEEN_HEALTHY

SOUND = [(fault.name, fault.twin) for fault in FAULTS] + [(net.name, net.build) for net in HEALTHY]
ARCHITECTURES = 16
"""The least number of different networks among the faults."""


def sound(**more: Any) -> Any:
    return pytest.mark.parametrize("build", [b for _, b in SOUND], ids=[name for name, _ in SOUND], **more)


def test_the_corpus_has_twenty_faults_ten_networks_and_names_of_its_own():
    assert len(FAULTS) == 20 and len(HEALTHY) == 10
    everything = (*FAULTS, *HEALTHY, *FIRST, *FIRST_HEALTHY, *UNSEEN, *UNSEEN_HEALTHY)
    assert len({entry.name for entry in everything}) == len(everything)


def test_the_expected_kinds_are_few_and_of_the_vocabulary():
    assert all(1 <= len(fault.kinds) <= 3 and set(fault.kinds) <= KINDS for fault in FAULTS)


def test_the_faults_are_in_networks_of_many_kinds():
    assert len({type(fault.build().model) for fault in FAULTS}) >= ARCHITECTURES


def test_the_corpus_asks_no_detector():
    for module in (faults, healthy, image_networks, networks):
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


@pytest.mark.parametrize("entry", (*FAULTS[::6], *HEALTHY[::4]), ids=lambda entry: entry.name)
def test_building_repeats_and_leaves_the_global_generator_alone(entry: Fault | Healthy):
    before = torch.get_rng_state()
    first, second = entry.build(), entry.build()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second)))
