"""`ew.diagnose` on the third corpus: faults of every course's exam, their twins, and ten healthy networks.

The corpus was committed before any detector was run on it (`tests/corpora/signals/ordinary/`).
"""

from typing import Any

import pytest

import eitherway as ew
from tests.corpora.signals.fault import Start
from tests.corpora.signals.ordinary.faults import FAULTS
from tests.corpora.signals.ordinary.healthy import HEALTHY

NAMED = 19
"""The least number of the twenty faults that are named; the issue asks for it."""
ALARMED = {
    "two faces before a batch norm": "its embedding and its head have a batch norm alone between them: one linear map,"
    " as is said; that faces are recognised so on purpose cannot be told from a forgotten activation"
}
"""Sound networks on which an alarm stands, and why."""
SOUND = [(fault.name, fault.twin) for fault in FAULTS] + [(net.name, net.build) for net in HEALTHY]


def alarms(start: Start) -> list[Any]:
    """The verdicts that are alarms."""
    said = ew.diagnose(start.model, start.example, start.loss).verdicts
    return [verdict for verdict in said if verdict.severity == "alarm"]


def test_nineteen_of_twenty_faults_are_named():
    missed = [fault.name for fault in FAULTS if not any(fault.names(verdict) for verdict in alarms(fault.build()))]
    assert len(FAULTS) - len(missed) >= NAMED, missed


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(
            build, id=name, marks=pytest.mark.xfail(strict=True, reason=ALARMED[name]) if name in ALARMED else ()
        )
        for name, build in SOUND
    ],
)
def test_what_is_sound_has_no_alarm(build: Any):
    assert [str(verdict) for verdict in alarms(build())] == []
