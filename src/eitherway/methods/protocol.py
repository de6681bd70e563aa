"""The heart: what a method may ask, what it is told, and how it says that it has nothing more to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

OK, FAILED, LOST = 0, 1, 2
"""The status of a row: it has a value; the cost failed there; its worker was lost twice."""

S = TypeVar("S")


@dataclass(slots=True)
class Question:
    """P points to be judged together: they see the same seed, the same batch, the same frozen carry.

    Args:
        points: (P, D) search coordinates, clipped by `space.clip`; may alias the state until `tell`.
        wants: "value" is judged on plain values, "gradient" on tensors that track them.
        notes: what `ask` drew and `tell` needs again; never kept, since `ask` is pure and can be asked again.
    """

    points: np.ndarray
    wants: Literal["value", "gradient"] = "value"
    notes: Any = None


@dataclass(slots=True)
class Stop:
    """Why a method has nothing more to ask: a sentence; with `error` it is raised as a CostError."""

    reason: str
    error: bool = False


@dataclass(slots=True)
class Told:
    """The answers to one question, in row order.

    Args:
        values: (P,), NaN where the status is not OK; +inf is a value.
        status: (P,) of OK, FAILED, LOST.
        gradients: (P, D) in search coordinates where gradients were asked for, NaN where there are none.
        violations: (P, C) of constraints, feasible where <= 0; None where the cost has none.
        no_gradient: why a gradient that was asked for does not exist.
        moved: the cost changes after this turn, so values told from now on cannot be compared with these.
    """

    values: np.ndarray
    status: np.ndarray
    gradients: np.ndarray | None = None
    violations: np.ndarray | None = None
    no_gradient: str | None = None
    moved: bool = False

    @property
    def ok(self) -> np.ndarray:
        """(P,) whether the row has a value."""
        return self.status == OK

    def standings(self) -> np.ndarray:
        """(P, 2) total violation, then value: compare with `better`. A failed row is (inf, inf): never better than any.

        For methods that remember rows over several turns; `ranks` is for those that order one turn.
        """
        failed = self.status != OK
        standings = np.zeros((len(self.values), 2))
        standings[:, 1] = self.values
        if self.violations is not None:
            standings[:, 0] = np.maximum(self.violations, 0).sum(1)
        if failed.any():
            standings[failed] = np.inf
        return standings

    def ranks(self) -> np.ndarray:
        """(P,) 0 is best; equal rows share their mean rank.

        Infeasible rows follow feasible ones, by violation; failures tie, last.

        >>> Told(np.array([3.0, 1.0, 1.0, np.nan]), np.array([0, 0, 0, 1])).ranks()
        array([2. , 0.5, 0.5, 3. ])
        """
        P = len(self.values)
        if self.violations is None and not self.status.any():
            order = self.values.argsort(kind="stable")
            ordered = self.values[order]
            if (ordered[1:] > ordered[:-1]).all():
                ranks = np.empty(P)
                ranks[order] = np.arange(P)
                return ranks
        violation = np.zeros(P) if self.violations is None else np.maximum(self.violations, 0).sum(1)
        ok = self.ok
        # a failure has neither violation nor value; an infeasible row is compared by its violation alone
        violation = np.where(ok, violation, 0.0)
        keys = np.stack([~ok, violation, np.where(ok & (violation == 0), self.values, 0.0)])
        order = np.lexsort(keys[::-1])
        fresh = np.concatenate([[True], (keys[:, order[1:]] != keys[:, order[:-1]]).any(0)])
        group = np.cumsum(fresh) - 1
        mean = np.bincount(group, np.arange(P)) / np.bincount(group)
        ranks = np.empty(P)
        ranks[order] = mean[group]
        return ranks


def better(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(P,) whether the standing a (P, 2) beats b (P, 2): less violation first, then the lower value.

    >>> better(np.array([[0.0, 5.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    array([ True, False])
    """
    return (a[..., 0] < b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] < b[..., 1]))


class Method(Protocol[S]):
    """Settings and rules: a frozen dataclass without memory; what a run remembers is a state of `@state` classes.

    The eight laws (`eitherway.testing.check_method` checks them): `ask` changes nothing; a state saved, loaded and
    gone on with is a state never stopped, bit for bit; `tell` may write in the state, never in `told`; failures never
    become the best; lower is better; all rows of a question see the same seed; every trial point of a line search
    goes through ask and tell; a method that cannot serve a space says so in `init`, and names methods that can.
    """

    heeds_constraints: ClassVar[bool] = True
    """Whether it looks at `told.violations`: a run with constraints refuses a method that does not."""

    def init(self, space: Space, key: Key) -> S:
        """The state before the first question. Raises MethodError where the space cannot be served."""
        ...

    def ask(self, state: S, space: Space, key: Key) -> Question:
        """The next question: pure, so asked twice with one key it answers the same."""
        ...

    def tell(self, state: S, space: Space, question: Question, told: Told, key: Key) -> S:
        """The state after the answers. It may write in `state`; the question and the old state die here."""
        ...

    def recommend(self, state: S) -> np.ndarray | None:
        """(D,) a point that may be better than the best one seen, or None."""
        return None

    def stopped(self, state: S) -> Stop | None:
        """Why there is nothing more to ask, or None."""
        return None

    def findings(self, state: S, sign: float = 1.0) -> str | None:
        """What it has found out about the cost, a sentence for the user, values times `sign`; or None."""
        return None
