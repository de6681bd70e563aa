"""How a signal travels through a network: what an activation does to it, which starts keep it, what is wrong with it.

Quadrature and moments of any activation, schemes of starting weights, the structure of a model read from one captured
run, `initialize_` and `diagnose`. Nothing here trains, and nothing here changes more of a model than its parameters.
"""

from eitherway.base.lazy import lazy

_WHERE = {
    "moments": "eitherway.signal.gain",
    "Moments": "eitherway.signal.gain",
    "calculate_gain": "eitherway.signal.gain",
    "carry": "eitherway.signal.depth",
    "demonstration": "eitherway.signal.depth",
}

__getattr__, __dir__ = lazy(__name__, _WHERE)
