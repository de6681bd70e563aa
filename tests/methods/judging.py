"""Drives a method by its rules alone, without an engine: for the tests of one method."""

import numpy as np

from eitherway.base.keys import Key
from eitherway.methods.protocol import Told


def told(values, **more) -> Told:
    """Answers of a question; NaN is a failure."""
    values = np.asarray(values, float)
    return Told(values, np.isnan(values).astype(int), **more)


def run(method, space, cost, turns, seed=0, each=lambda state, question: None):
    """Judges `cost` of rows of search coordinates; gives the state and the best value."""
    key, best = Key(seed), np.inf
    state = method.init(space, key)
    for turn in range(turns):
        question = method.ask(state, space, key.at(turn))
        values = np.array([cost(x) for x in question.points])
        each(state, question)
        best = min(best, np.nanmin(values))
        state = method.tell(state, space, question, told(values), key.at(turn))
    return state, best


def sphere(x):
    """Least at 0.3 in every column."""
    return float(((x - 0.3) ** 2).sum())
