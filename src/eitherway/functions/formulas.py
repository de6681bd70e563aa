"""Classic costs of a vector: each takes (..., D), as an array or a tensor, and answers (...).

NumPy or torch is chosen by the type of the argument, so that a gradient passes through whenever a tensor tracks it.
Global minimisers, search boxes and sources stand in the catalogue.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

Vector = Any
"""A NumPy array, whatever `np.asarray` takes, or a torch tensor: (..., D)."""


def library(x: Vector) -> tuple[Any, Vector]:
    """The module whose functions suit `x` (torch for a tensor, else NumPy) and `x` as its array of floats.

    >>> module, x = library([1, 2])
    >>> module.__name__, x.dtype
    ('numpy', dtype('float64'))
    """
    torch = sys.modules.get("torch")  # a tensor can only come from a torch that is already imported
    if torch is not None and isinstance(x, torch.Tensor):
        return torch, x
    return np, np.asarray(x, dtype=np.float64)


def _constants(x: Vector, numbers: np.ndarray) -> Vector:
    """`numbers` beside `x`: an array as it is, a tensor on the device and in the dtype of `x`."""
    if isinstance(x, np.ndarray):
        return numbers
    return sys.modules["torch"].as_tensor(numbers, dtype=x.dtype, device=x.device)


def sphere(x: Vector) -> Any:
    """sum x_i^2: convex, separable, equally steep everywhere.

    >>> float(sphere([3.0, 4.0]))
    25.0
    """
    _, x = library(x)
    return (x * x).sum(-1)


def ellipsoid(x: Vector) -> Any:
    """sum 10^(6 (i-1)/(D-1)) x_i^2: convex, separable, condition number 10^6 (1 in one dimension).

    >>> float(ellipsoid([1.0, 1.0]))
    1000001.0
    """
    _, x = library(x)
    D = x.shape[-1]
    return (_constants(x, 10.0 ** (6.0 * np.arange(D) / max(D - 1, 1))) * x * x).sum(-1)


def rosenbrock(x: Vector) -> Any:
    """sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, i < D: a bent valley, smooth, not separable.

    >>> float(rosenbrock([-1.0, 1.0]))
    4.0
    """
    _, x = library(x)
    here, following = x[..., :-1], x[..., 1:]
    return (100.0 * (following - here * here) ** 2 + (1.0 - here) ** 2).sum(-1)


def rastrigin(x: Vector) -> Any:
    """sum x_i^2 + 10 (1 - cos 2 pi x_i): a bowl under a regular lattice of minima.

    >>> float(rastrigin([1.0, 0.0]))
    1.0
    """
    m, x = library(x)
    return (x * x + 10.0 * (1.0 - m.cos(2.0 * math.pi * x))).sum(-1)


def ackley(x: Vector) -> Any:
    """20 (1 - exp(-0.2 rms(x))) + e - exp(mean cos 2 pi x_i): a flat, rippled plain around a narrow funnel.

    Not differentiable at its minimiser, where it is a cone.

    >>> round(float(ackley([1.0, 1.0])), 6)
    3.625385
    """
    m, x = library(x)
    ripple = m.cos(2.0 * math.pi * x).mean(-1)
    return 20.0 * (1.0 - m.exp(-0.2 * m.sqrt((x * x).mean(-1)))) + math.e - m.exp(ripple)


def griewank(x: Vector) -> Any:
    """1 + sum x_i^2 / 4000 - prod cos(x_i / sqrt i): a wide bowl with many shallow ripples.

    >>> float(griewank([0.0, 0.0, 0.0]))
    0.0
    """
    m, x = library(x)
    roots = _constants(x, np.sqrt(np.arange(1, x.shape[-1] + 1)))
    return 1.0 + (x * x).sum(-1) / 4000.0 - m.cos(x / roots).prod(-1)


def schwefel(x: Vector) -> Any:
    """418.98... D - sum x_i sin sqrt |x_i|: the second best minimum is far from the best one.

    Its gradient by autograd is NaN where a coordinate is exactly 0.

    >>> abs(float(schwefel([420.968746, 420.968746]))) < 1e-9
    True
    """
    m, x = library(x)
    return (418.98288727243371 - x * m.sin(m.sqrt(abs(x)))).sum(-1)  # the largest x sin sqrt x for 0 <= x <= 500


def levy(x: Vector) -> Any:
    """A rippled bowl around (1, ..., 1), with w_i = 1 + (x_i - 1) / 4.

    sin^2(pi w_1) + sum_{i<D} (w_i - 1)^2 (1 + 10 sin^2(pi w_i + 1)) + (w_D - 1)^2 (1 + sin^2(2 pi w_D)).

    >>> round(float(levy([1.0, 5.0])), 6)
    1.0
    """
    m, x = library(x)
    w = 1.0 + (x - 1.0) / 4.0
    first, inner, last = w[..., 0], w[..., :-1], w[..., -1]
    ripples = ((inner - 1.0) ** 2 * (1.0 + 10.0 * m.sin(math.pi * inner + 1.0) ** 2)).sum(-1)
    return m.sin(math.pi * first) ** 2 + ripples + (last - 1.0) ** 2 * (1.0 + m.sin(2.0 * math.pi * last) ** 2)


def step(x: Vector) -> Any:
    """sum floor(x_i + 1/2)^2: plateaus one unit wide; its gradient is zero wherever it exists.

    >>> float(step([0.4, 1.2, -2.0]))
    5.0
    """
    m, x = library(x)
    return (m.floor(x + 0.5) ** 2).sum(-1)


def styblinski_tang(x: Vector) -> Any:
    """sum (x_i^4 - 16 x_i^2 + 5 x_i) / 2: separable, 2^D minima, one of them best.

    >>> float(styblinski_tang([1.0, 1.0]))
    -10.0
    """
    _, x = library(x)
    return (x**4 - 16.0 * x * x + 5.0 * x).sum(-1) / 2.0


def michalewicz(x: Vector) -> Any:
    """-sum sin(x_i) sin(i x_i^2 / pi)^20: separable, flat almost everywhere, with narrow steep valleys.

    >>> round(float(michalewicz([2.2029055, 1.5707963])), 6)
    -1.801303
    """
    m, x = library(x)
    index = _constants(x, np.arange(1.0, x.shape[-1] + 1.0))
    return -(m.sin(x) * m.sin(index * x * x / math.pi) ** 20).sum(-1)


def branin(x: Vector) -> Any:
    """(x_2 - 5.1 x_1^2 / 4 pi^2 + 5 x_1 / pi - 6)^2 + 10 (1 - 1/8 pi) cos x_1 + 10: two variables, three equal minima.

    >>> round(float(branin([3.141592654, 2.275])), 6)
    0.397887
    """
    m, x = library(x)
    a, b = x[..., 0], x[..., 1]
    valley = b - 5.1 / (4.0 * math.pi**2) * a * a + 5.0 / math.pi * a - 6.0
    return valley * valley + 10.0 * (1.0 - 1.0 / (8.0 * math.pi)) * m.cos(a) + 10.0


def himmelblau(x: Vector) -> Any:
    """(x_1^2 + x_2 - 11)^2 + (x_1 + x_2^2 - 7)^2: two variables, four equal minima.

    >>> float(himmelblau([3.0, 2.0]))
    0.0
    """
    _, x = library(x)
    a, b = x[..., 0], x[..., 1]
    return (a * a + b - 11.0) ** 2 + (a + b * b - 7.0) ** 2


def goldstein_price(x: Vector) -> Any:
    """The product of two squared planes, each weighted by a quadratic: two variables, values from 3 to about 10^6.

    >>> float(goldstein_price([0.0, -1.0]))
    3.0
    """
    _, x = library(x)
    a, b = x[..., 0], x[..., 1]
    near = 1.0 + (a + b + 1.0) ** 2 * (19.0 - 14.0 * a + 3.0 * a * a - 14.0 * b + 6.0 * a * b + 3.0 * b * b)
    far = 30.0 + (2.0 * a - 3.0 * b) ** 2 * (18.0 - 32.0 * a + 12.0 * a * a + 48.0 * b - 36.0 * a * b + 27.0 * b * b)
    return near * far
