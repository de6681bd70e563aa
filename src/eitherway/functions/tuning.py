"""Costs that stand for what people tune: mixed hyper-parameters, and a measurement with noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eitherway.functions.formulas import library, sphere

_ACTIVATIONS = {"gelu": 0.0, "relu": 0.15, "tanh": 0.4, "sigmoid": 0.9}
"""What an activation adds to the cost at its own best learning rate."""

_RATES = {"gelu": -3.0, "relu": -2.5, "tanh": -2.0, "sigmoid": -1.5}
"""log10 of the best learning rate of four layers with each activation."""


def _log10(x: Any) -> Any:
    m, x = library(x)
    return m.log10(x)


def tuning(
    *, lr: Any, decay: Any, momentum: Any, dropout: Any, layers: int, width: int, activation: str, nesterov: bool
) -> Any:
    """What tuning a network feels like: eight mixed variables that lean on each other; the least value is 0.

    The best learning rate falls with depth and depends on the activation; momentum trades against it; dropout suits
    width; ripples along the learning rate make neighbouring optima. Made for this library.

    Args:
        lr: learning rate, 1e-5 to 1, log scale.
        decay: weight decay, 1e-6 to 1e-1, log scale.
        momentum: 0 to 0.99.
        dropout: 0 to 0.8.
        layers: 1 to 8.
        width: 8 to 1024, log scale.
        activation: "gelu", "relu", "tanh" or "sigmoid".
        nesterov: True or False.

    >>> rest = dict(decay=1e-4, momentum=0.9, dropout=0.2, layers=4, width=128, nesterov=True)
    >>> [round(float(tuning(lr=1e-3, activation=name, **rest)), 3) for name in ("gelu", "tanh")]
    [0.0, 0.9]
    """
    # momentum multiplies the steps by 1 / (1 - momentum): 0.9 is the reference
    m, effective = library(_log10(lr) - _RATES[activation] + 0.15 * (layers - 4) + 2.0 * (momentum - 0.9))
    rate = 0.5 * effective * effective + 0.05 * (1.0 - m.cos(2.0 * math.pi * effective))
    regular = 0.05 * (_log10(decay) + 4.0 + (dropout - 0.2)) ** 2
    octaves = math.log2(width / 128)
    size = 0.04 * (layers - 4) ** 2 + 0.03 * octaves * octaves + 0.8 * (dropout - 0.2 - 0.05 * octaves) ** 2
    inertia = 0.3 * (momentum - 0.9) ** 2 + (0.0 if nesterov else 0.05)
    return rate + regular + size + inertia + _ACTIVATIONS[activation]


def noisy_sphere(x: Any, seed: int) -> Any:
    """sum x_i^2 plus Gaussian noise of deviation 0.1, the same for all points that are given one seed.

    Args:
        x: (..., D), an array or a tensor.
        seed: a non-negative integer that fixes the noise.

    >>> float(noisy_sphere([1.0, 2.0], seed=1)) == float(noisy_sphere([1.0, 2.0], seed=1))
    True
    """
    return sphere(x) + 0.1 * float(np.random.default_rng(seed).standard_normal())


noisy_sphere._eitherway_seeded = True  # as ew.seeded, which lives on a higher floor, marks it
