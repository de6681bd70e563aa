"""Test functions with their known optima: each works on arrays and on tensors, and comes with its box.

`functions.get("rastrigin")` gives the cost, its space, its optimum and its source; the costs themselves are importable
by name. Nothing here knows how to search.
"""

from eitherway.functions.catalogue import TestFunction, get, names
from eitherway.functions.formulas import (
    ackley,
    branin,
    ellipsoid,
    goldstein_price,
    griewank,
    himmelblau,
    levy,
    michalewicz,
    rastrigin,
    rosenbrock,
    schwefel,
    sphere,
    step,
    styblinski_tang,
)
from eitherway.functions.tuning import noisy_sphere, tuning

__all__ = [
    "TestFunction",
    "get",
    "names",
    "sphere",
    "ellipsoid",
    "rosenbrock",
    "rastrigin",
    "ackley",
    "griewank",
    "schwefel",
    "levy",
    "step",
    "styblinski_tang",
    "michalewicz",
    "branin",
    "himmelblau",
    "goldstein_price",
    "tuning",
    "noisy_sphere",
]
