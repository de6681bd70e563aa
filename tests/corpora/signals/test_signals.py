"""The corpus is sound: each fault is there and its twin is without it, what is called healthy learns, all repeats."""

import re
from collections import Counter
from typing import Any

import pytest
import torch

from tests.corpora.signals.fault import KINDS, Fault, Healthy, Start, losses, measured
from tests.corpora.signals.faults import FAULTS
from tests.corpora.signals.healthy import HEALTHY

SOUND = [(fault.name, fault.twin) for fault in FAULTS] + [(net.name, net.build) for net in HEALTHY]


def by_name(entries: Any) -> Any:
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.name)


def sound(**more: Any) -> Any:
    return pytest.mark.parametrize("build", [b for _, b in SOUND], ids=[name for name, _ in SOUND], **more)


def test_the_corpora_are_large_enough_and_their_names_are_their_own():
    assert len(FAULTS) >= 26 and len(HEALTHY) >= 16
    assert len({entry.name for entry in (*FAULTS, *HEALTHY)}) == len(FAULTS) + len(HEALTHY)


def test_every_kind_of_verdict_is_expected_somewhere_and_no_other():
    expected = Counter(kind for fault in FAULTS for kind in fault.kinds)
    assert set(expected) == KINDS
    assert all(1 <= len(fault.kinds) <= 3 for fault in FAULTS)


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


@pytest.mark.parametrize("entry", (FAULTS[0], FAULTS[-1], HEALTHY[0], HEALTHY[-1]), ids=lambda entry: entry.name)
def test_building_repeats_and_leaves_the_global_generator_alone(entry: Fault | Healthy):
    before = torch.get_rng_state()
    first, second = entry.build(), entry.build()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second)))


def tensors(start: Start) -> list[torch.Tensor]:
    """What a start is made of."""
    given = start.example if isinstance(start.example, tuple) else (start.example,)
    return [*start.model.state_dict().values(), *given]
