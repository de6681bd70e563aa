"""What first-order methods share: rows that go downhill side by side, and the question whether autograd is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eitherway.base.errors import MethodError
from eitherway.methods.codec import state
from eitherway.methods.protocol import Question, Stop, Told
from eitherway.methods.variables._slopes import Doubt, doubt, missing, probe, sentence, weigh

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

_PATIENCE = 100  # turns without progress before autograd is checked again; doubled each time
_ATTEMPTS = 20  # turns in a row in which no row has a value, after which it stops


@state
class Descent:
    """P rows and what is known of their gradients.

    `phase` is what is asked: "value" of the rows, their "gradient", or the "check" of one gradient.
    """

    phase: str
    points: np.ndarray  # (P, D)
    gradients: np.ndarray  # (P, D) held until autograd has been confirmed
    fresh: np.ndarray  # (P,) rows that begin anew, without a past
    missing: np.ndarray  # (P,) rows without a gradient this time: those that failed, and begin anew elsewhere
    doubt: Doubt | None
    confirmed: bool
    began: float  # the first lowest value
    mark: float  # the lowest value when there was last progress: a thousandth of the whole fall
    since: int  # turns since then
    patience: int
    failures: int
    trouble: str


def begin(method: object, starts: int, space: Space, rng: np.random.Generator) -> Descent:
    """The rows: the starts given, then uniform points.

    Raises:
        MethodError: if a column is discrete.
    """
    name = type(method).__name__
    if len(space.discrete):
        raise MethodError(
            f"{name} got {len(space.discrete)} discrete columns of {space.columns}; it follows gradients, so all must "
            "be real. CMAES, DE and GA serve integers and choices"
        )
    points = np.concatenate([space.starts[:starts], space.clip(space.sample(starts, rng))])[:starts]
    return Descent(
        phase="value",
        points=points,
        gradients=np.zeros_like(points),
        fresh=np.ones(starts, bool),
        missing=np.zeros(starts, bool),
        doubt=None,
        confirmed=False,
        began=np.inf,
        mark=np.inf,
        since=0,
        patience=_PATIENCE,
        failures=0,
        trouble="",
    )


def question(d: Descent, space: Space) -> Question:
    """The rows, or the one point of a check."""
    if d.phase == "check":
        assert d.doubt is not None
        return Question(probe(d.doubt, space))
    return Question(d.points, wants="gradient" if d.phase == "gradient" else "value")


def hear(method: object, d: Descent, space: Space, asked: Question, told: Told, key: Key) -> bool:
    """Takes the answers, in place; whether `d.gradients` are there to be followed by all rows.

    Rows that failed begin anew elsewhere: their gradient is 0 for now, and they are `fresh` until they have one.
    """
    good = told.ok & np.isfinite(told.values)
    if d.phase == "check":
        assert d.doubt is not None
        trusted = weigh(d.doubt, asked.points[0], float(told.values[0]) if good[0] else np.nan)
        if told.moved:
            trusted = True if trusted is None else trusted  # the next difference could not be compared
        if trusted is None:
            return False
        if not trusted:
            d.trouble = sentence(d.doubt)
            return False
        d.doubt, d.phase, d.confirmed = None, "gradient", True
        return True
    if d.phase == "gradient":
        if told.no_gradient or told.gradients is None or not (d.confirmed or good.any()):
            d.trouble = missing(type(method).__name__, told.no_gradient)
            return False
        good &= np.isfinite(told.gradients).all(1)
    d.failures = 0 if good.any() else d.failures + 1
    lowest = float(np.min(told.values[good], initial=np.inf))
    if told.moved or not np.isfinite(d.began):
        d.began = d.mark = np.inf if told.moved else lowest
        d.since = 0
    elif lowest < d.mark - 1e-3 * (d.began - d.mark):
        d.mark, d.since = lowest, 0
    else:
        d.since += 1
    if not good.all():
        d.points[~good] = space.clip(space.sample(int((~good).sum()), key.numpy("again")))
        d.fresh |= ~good
    if d.phase == "value":
        d.phase = "gradient" if good.any() else "value"
        return False
    assert told.gradients is not None
    d.missing = ~good
    d.gradients = np.where(good[:, None], told.gradients, 0.0)
    stalled = d.since >= d.patience
    if good.any() and not told.moved and (stalled or not d.confirmed):
        row = int(np.where(good, told.values, np.inf).argmin())
        d.doubt = doubt(d.points[row], float(told.values[row]), d.gradients[row], space, key.numpy("check"))
        d.phase = "check"
        if stalled:
            d.since, d.patience = 0, 2 * d.patience
        return False
    return bool(good.any())


def stopped(method: object, d: Descent) -> Stop | None:
    """Where autograd cannot be trusted, is not there, or nothing has a value."""
    if d.trouble:
        return Stop(d.trouble, error=True)
    if d.failures >= _ATTEMPTS:
        name = type(method).__name__
        return Stop(f"{name} found no value in {_ATTEMPTS} turns in a row; give it a point that has one: start=")
    return None
