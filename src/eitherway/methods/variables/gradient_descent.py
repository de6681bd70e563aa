"""Gradient descent, with momentum where asked."""

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
class GradientDescentState:
    """The rows, and how fast each moves."""

    descent: Descent
    velocity: np.ndarray  # (P, D)


@dataclass(frozen=True)
class GradientDescent(Method["GradientDescentState"]):
    """Gradient descent with heavy-ball momentum (Polyak 1964), as torch.optim.SGD has it. Each row is a start.

    The plainest of all: for costs that autograd can see and whose scale is known. Adam minds the scale less, LBFGS and
    SQP choose their own steps.

    Args:
        lr: a step is lr times the velocity, in search coordinates: bounded columns run from 0 to 1.
        momentum: share of the velocity that is kept; 0 follows the gradient alone.
        starts: rows that go downhill side by side.
    """

    lr: Annotated[float, Range(above=0)] = 1e-3
    momentum: Annotated[float, Range(least=0, below=1)] = 0.0
    starts: Annotated[int, Range(least=1)] = 1

    heeds_constraints: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> GradientDescentState:
        """The starts given, then uniform points; at rest."""
        descent = begin(self, self.starts, space, key.numpy("start"))
        return GradientDescentState(descent, np.zeros_like(descent.points))

    def ask(self, state: GradientDescentState, space: Space, key: Key) -> Question:
        """The rows, or the one point of a check of autograd."""
        return question(state.descent, space)

    def tell(
        self, state: GradientDescentState, space: Space, question: Question, told: Told, key: Key
    ) -> GradientDescentState:
        """A step downhill; rows that failed begin anew, at rest."""
        d = state.descent
        if hear(self, d, space, question, told, key):
            state.velocity[d.fresh] = 0.0
            state.velocity *= self.momentum
            state.velocity += d.gradients
            d.points = space.clip(d.points - self.lr * state.velocity)
            d.fresh[:] = d.missing
        return state

    def stopped(self, state: GradientDescentState) -> Stop | None:
        """Where gradients are missing or wrong."""
        return stopped(self, state.descent)
