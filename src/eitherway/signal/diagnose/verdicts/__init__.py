"""Verdicts: one file for each family of causes, and the folding of consequences under their cause.

Each family reads the evidence and yields what it finds; none measures anything anew, none knows the others.
"""

from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.verdicts import (
    attend,
    branches,
    finite,
    gradient,
    lines,
    losses,
    norms,
    samples,
    scale,
    steps,
    streams,
    units,
    walls,
)
from eitherway.signal.diagnose.verdicts.fold import fold
from eitherway.signal.diagnose.verdicts.parts import Verdict

_FAMILIES = (
    finite.bad_numbers,
    scale.inputs,
    units.identical,
    units.copied,
    norms.normalisations,
    units.dead,
    streams.residual_sums,
    streams.compounding,
    scale.growing,
    scale.recurring,
    scale.outliers,
    scale.shrinking,
    units.saturated,
    samples.unequal,
    gradient.changing,
    branches.forgotten,
    samples.one_row,
    samples.parallel,
    attend.attention,
    attend.wrong_axis,
    samples.low_rank,
    gradient.missing,
    walls.walls,
    lines.linear_runs,
    losses.squashed_twice,
    losses.too_sure,
    losses.dropouts,
    steps.steps,
)


def judge(evidence: Evidence) -> tuple[Verdict, ...]:
    """All verdicts, roots first, alarms before notes."""
    return fold([f for family in _FAMILIES for f in family(evidence)])


__all__ = ["Verdict", "judge"]
