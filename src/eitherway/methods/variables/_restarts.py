"""When a run of CMA-ES is over, and what kind of run comes next: the ledger of BIPOP.

Sources: Hansen, Benchmarking a BI-population CMA-ES on the BBOB-2009 function testbed (GECCO workshop 2009), section 2;
the tests that end a run: Hansen, arXiv:1604.00772, section B.3.
"""

from __future__ import annotations

import numpy as np

from eitherway.methods.codec import state
from eitherway.methods.protocol import Told
from eitherway.methods.variables._gaussian import Gaussian

REASONS = {
    "tolfun": "the best values of many turns are equal to the last digits",
    "tolx": "the steps have become too small to matter",
    "condition": "the distribution has become a needle: one direction is 1e7 times longer than another",
    "stagnation": "neither the best nor the median value of a turn has improved for a long time",
    "diverged": "the steps have grown beyond every bound",
    "limit": "its share of the evaluations is spent",
    "failures": "every point of many turns failed",
}
"""Why a run ended, by name."""

MOST_DOUBLINGS = 9  # Hansen 2009: nine large runs at most; a population of 512 x the default


@state
class Run:
    """One run between two restarts, and the ledger of those before it."""

    population: int
    kind: str  # "first", "large" (population doubled) or "small" (population and step size drawn)
    limit: int  # evaluations it may take; -1: as many as it likes
    taken: int  # evaluations so far
    failures: int  # turns in a row in which every point failed
    history: np.ndarray  # (turns kept, 2) best and median value of the latest turns
    feasible: bool  # whether the latest turn had a feasible row: else its values are violations
    breadth: float  # range of the values of the first turn that had any: below 0 until then
    doublings: int
    spent_large: int  # by finished large runs
    spent_small: int  # by finished small runs; the first one counts here
    endings: list[str]  # why each run before this one ended, by the names of REASONS

    def remember(self, told: Told) -> np.ndarray:
        """Notes the best and the median of a turn; gives its values (those that count), sorted."""
        values, self.feasible = _comparable(told)
        values = np.sort(values)
        if self.breadth < 0:
            self.breadth = _range(values)
        self.history = np.concatenate([self.history, values[[[0, len(values) // 2]]]])
        return values

    @property
    def median(self) -> float:
        """The median value of the latest turn; infinite before the first, and where nothing was feasible."""
        return float(self.history[-1, 1]) if self.feasible and len(self.history) else np.inf

    def forget(self) -> None:
        """Drops what compares values of different turns."""
        self.history = np.empty((0, 2))
        self.breadth = -1.0

    def over(self, g: Gaussian, values: np.ndarray) -> str | None:
        """Why this run is over, by a name of REASONS, or None.

        Args:
            g: the distribution after the latest turn.
            values: those of the latest turn that must be equal before they count as flat.
        """
        D, P, T = len(g.mean), self.population, len(self.history)
        scales = g.scales.tolist() or [1.0]
        widest = g.sigma * max(scales)
        if 0 <= self.limit <= self.taken:
            return "limit"
        if not widest < 1e20:
            return "diverged"
        if max(scales) > 1e7 * min(scales):
            return "condition"
        if widest < 1e-11 and g.sigma * float(np.abs(g.path_c).max()) < 1e-11:
            return "tolx"
        if T >= 10 + 30 * D // P and self._flat(values, 10 + 30 * D // P):
            return "tolfun"
        if self._tired(120 + 30 * D // P):
            return "stagnation"
        return None

    def _flat(self, values: np.ndarray, turns: int) -> bool:
        """Whether the best values of so many turns are equal, and these, sorted ones too."""
        last = abs(float(self.history[-1, 0]))
        # as pycma, but a cost whose values are tiny is given as many digits, and a huge one no more than it has
        least = max(1e-11 * min(1.0, self.breadth), 1e-15 * last if last < np.inf else 0.0)
        return values.item(-1) <= values.item(0) + least and _range(self.history[-turns:, 0]) <= least

    def _tired(self, turns: int) -> bool:
        """Whether the latest 30 % of so many turns are no better than the first 30 %; looked at now and then."""
        T, third = len(self.history), 3 * turns // 10
        if T < turns + 10:
            return False
        self.history = self.history[10:].copy()
        old, new = (np.sort(lines, 0)[third // 2] for lines in (self.history[:third], self.history[-third:]))
        return bool((new >= old).all())


def _comparable(told: Told) -> tuple[np.ndarray, bool]:
    """Values of the feasible rows, True; where there are none, the violations of those that did not fail, False."""
    if told.violations is None:
        return (told.values[told.ok] if told.status.any() else told.values), True
    standings = told.standings()[told.ok]
    feasible = standings[:, 0] == 0
    return (standings[feasible, 1], True) if feasible.any() else (standings[:, 0], False)


def _range(values: np.ndarray) -> float:
    """Largest minus least; equal infinities are equal."""
    low, high = float(values.min()), float(values.max())
    return 0.0 if low == high else high - low


def first_run(population: int) -> Run:
    """The run a search begins with."""
    return Run(population, "first", -1, 0, 0, np.empty((0, 2)), False, -1.0, 0, 0, 0, [])


def next_run(run: Run, ended: str, default: int, bipop: bool, draws: np.ndarray) -> tuple[Run, float]:
    """The run after one that ended.

    Args:
        run: the one that ended.
        ended: why, by a name of REASONS.
        default: population of the first run.
        bipop: whether small runs take turns with the large ones.
        draws: (2,) uniform in [0, 1).

    Returns:
        The run, and the factor on the initial step size.
    """
    large = run.spent_large + (run.taken if run.kind == "large" else 0)
    small = run.spent_small + (run.taken if run.kind != "large" else 0)
    endings = [*run.endings, ended]
    made = first_run(default)
    if bipop and small < large:
        made.population = int(default * (2.0**run.doublings / 2) ** (draws[0] ** 2))
        made.population = max(made.population, default)
        made.kind, made.limit, factor = "small", large // 2, float(10 ** (-2 * draws[1]))
        made.doublings = run.doublings
    else:
        made.doublings = min(run.doublings + 1, MOST_DOUBLINGS)
        made.population, made.kind, factor = default * 2**made.doublings, "large", 1.0
    made.spent_large, made.spent_small, made.endings = large, small, endings
    return made, factor
