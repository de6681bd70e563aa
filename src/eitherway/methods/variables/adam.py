"""Adam: steps of a size of their own in every column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Stop, Told
from eitherway.methods.variables._descent import Descent, begin, hear, question, stopped

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space


@state
class AdamState:
    """The rows, the running means of their gradients and squared gradients, and each row's steps."""

    descent: Descent
    m: np.ndarray  # (P, D)
    v: np.ndarray  # (P, D)
    t: np.ndarray  # (P,)


@dataclass(frozen=True)
class Adam(Method["AdamState"]):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1). Each row is an independent start.

    For costs that autograd can see, noisy ones too. A smooth one is solved to more digits by SQP or LBFGS.

    Args:
        lr: about the length of a step in each column, in search coordinates: bounded columns run from 0 to 1.
        beta1, beta2: shares of the means of gradients and squared gradients that are kept.
        eps: keeps the division finite.
        starts: rows that go downhill side by side.
    """

    lr: Annotated[float, Range(above=0)] = 1e-2
    beta1: Annotated[float, Range(least=0, below=1)] = 0.9
    beta2: Annotated[float, Range(least=0, below=1)] = 0.999
    eps: Annotated[float, Range(above=0)] = 1e-8
    starts: Annotated[int, Range(least=1)] = 1

    heeds_constraints: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> AdamState:
        """The starts given, then uniform points."""
        descent = begin(self, self.starts, space, key.numpy("start"))
        P = descent.points
        return AdamState(descent, np.zeros_like(P), np.zeros_like(P), np.zeros(len(P), np.int64))

    def ask(self, state: AdamState, space: Space, key: Key) -> Question:
        """The rows, or the one point of a check of autograd."""
        return question(state.descent, space)

    def tell(self, state: AdamState, space: Space, question: Question, told: Told, key: Key) -> AdamState:
        """A step downhill; rows that failed begin anew, without a past."""
        s, d = state, state.descent
        if hear(self, d, space, question, told, key):
            s.m[d.fresh], s.v[d.fresh], s.t[d.fresh] = 0.0, 0.0, 0
            s.t += 1
            g, t = d.gradients, s.t[:, None]
            s.m = self.beta1 * s.m + (1 - self.beta1) * g
            s.v = self.beta2 * s.v + (1 - self.beta2) * g * g
            m_hat, v_hat = s.m / (1 - self.beta1**t), s.v / (1 - self.beta2**t)
            d.points = space.clip(d.points - self.lr * m_hat / (np.sqrt(v_hat) + self.eps))
            d.fresh[:] = d.missing
        return s

    def stopped(self, state: AdamState) -> Stop | None:
        """Where gradients are missing or wrong."""
        return stopped(self, state.descent)
