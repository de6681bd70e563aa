"""Points without a memory of their values: the baseline that every other method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from eitherway.methods.allowed import Range, check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Told
from eitherway.methods.variables._quasi import Quasi, fill, quasi

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space


@state
class RandomSearchState:
    """How many points were asked for, and the sequence they come from."""

    asked: int
    sequence: Quasi | None


@dataclass(frozen=True)
class RandomSearch(Method["RandomSearchState"]):
    """Random search (Bergstra & Bengio 2012): starts first, then points spread over the whole space.

    Args:
        rows: points a question; more rows keep more workers busy, and change no point that is asked.
        points: "quasi" fills the space evenly (a scrambled Sobol' sequence), "uniform" draws every point alone.
    """

    rows: Annotated[int, Range(least=1)] = 8
    points: Literal["quasi", "uniform"] = "quasi"

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> RandomSearchState:
        sequence = quasi(space.columns, key.numpy("sequence")) if self.points == "quasi" else None
        return RandomSearchState(0, sequence)

    def ask(self, state: RandomSearchState, space: Space, key: Key) -> Question:
        starts = space.starts[state.asked : state.asked + self.rows]
        n = self.rows - len(starts)
        if n == 0:
            return Question(starts.copy())
        generator = key.numpy("points")
        if state.sequence is None:
            points = space.sample(n, generator)
        else:
            first = state.asked + len(starts) - len(space.starts)
            points = space.spread_out(fill(state.sequence, first, n, space.columns, generator))
        return Question(space.clip(np.concatenate([starts, points])))

    def tell(
        self, state: RandomSearchState, space: Space, question: Question, told: Told, key: Key
    ) -> RandomSearchState:
        return RandomSearchState(state.asked + len(told.values), state.sequence)
