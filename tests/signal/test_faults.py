"""The diagnosis names planted faults, and is silent on what is healthy (the corpus was written before the detector)."""

from functools import cache
from typing import Any

import pytest

import eitherway as ew
from eitherway.base.errors import ModelError
from tests.corpora.signals.fault import Fault, Healthy, Start
from tests.corpora.signals.faults import FAULTS
from tests.corpora.signals.healthy import HEALTHY

LEAST = 0.95
"""Of the faults that must be named."""
MISSED: dict[str, str] = {
    "a missing value in a table": "by contract: an example that holds NaN is refused, and the refusal says so"
}
"""Faults that are not named, and why; no more than `LEAST` leaves."""


def diagnosed(start: Start) -> Any:
    return ew.diagnose(start.model, start.example, start.loss)


@cache
def verdicts(entry: Fault | Healthy, healed: bool = False) -> tuple[Any, ...]:
    """All verdicts on an entry, asked for once."""
    start = entry.twin() if healed and isinstance(entry, Fault) else entry.build()
    report = diagnosed(start)
    assert report.healthy == all(verdict.severity != "alarm" for verdict in report.verdicts)
    return tuple(report.verdicts)


def alarms(entry: Fault | Healthy, healed: bool = False) -> list[str]:
    return [v.text for v in verdicts(entry, healed) if v.severity == "alarm"]


def named(fault: Fault) -> bool:
    """Whether an alarm names a fault; what is refused is not named."""
    try:
        return any(fault.names(verdict) for verdict in verdicts(fault))
    except ModelError:
        return False


def by_name(entries: Any) -> Any:
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.name)


FAULTS_OR_MISSED = [
    pytest.param(fault, marks=pytest.mark.xfail(reason=MISSED[fault.name], strict=True))
    if fault.name in MISSED
    else fault
    for fault in FAULTS
]


@pytest.mark.slow
@by_name(FAULTS_OR_MISSED)
def test_a_fault_is_named(entry: Fault):
    assert any(entry.names(verdict) for verdict in verdicts(entry)), alarms(entry)


@pytest.mark.slow
@by_name(FAULTS)
def test_a_mended_twin_raises_no_alarm(entry: Fault):
    assert alarms(entry, healed=True) == []


@pytest.mark.slow
@by_name(HEALTHY)
def test_a_healthy_network_raises_no_alarm(entry: Healthy):
    assert alarms(entry) == []


@pytest.mark.parametrize(
    "faults, networks",
    [(FAULTS[::10], HEALTHY[::10]), pytest.param(FAULTS, HEALTHY, marks=pytest.mark.slow)],
    ids=["one in ten", "all"],
)
def test_nearly_all_faults_are_named_and_nothing_else(faults: Any, networks: Any):
    missed = [fault.name for fault in faults if not named(fault)]
    false = [fault.name for fault in faults if alarms(fault, healed=True)] + [n.name for n in networks if alarms(n)]
    print("not named:", missed, "\nfalse alarms on:", false)
    assert len(missed) <= (1 - LEAST) * len(FAULTS)
    assert false == []
