"""How a genetic algorithm varies its parents: crossover and mutation of reals, of whole numbers, of options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eitherway.methods.variables._discrete import stepped

if TYPE_CHECKING:
    from eitherway.space.space import Space


def spread_factors(u: np.ndarray, eta: float) -> np.ndarray:
    """Numbers in [0, 1) -> beta >= 0 with density (eta + 1) / 2 beta^eta below 1, (eta + 1) / 2 beta^-(eta + 2) above.

    Source: simulated binary crossover (Deb & Agrawal 1995), eqs. 10-12: |difference of children| / |of parents|.
    """
    return np.where(u < 0.5, 2 * u, 1 / (2 * (1 - u))) ** (1 / (eta + 1))


def blended(
    a: np.ndarray, b: np.ndarray, blends: np.ndarray, chance: float, eta: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulated binary crossover of parents a and b (n, D): two children of each pair, with the parents' mean.

    A pair crosses with the chance, and then each of the columns that blend, `blends` (D,), with 1/2. All others are
    exchanged with 1/2, which Deb's code leaves out: without it options would never find new company.
    """
    u = generator.random((3, *a.shape))
    crosses = (u[0] < 0.5) & (generator.random(len(a)) < chance)[:, None] & blends
    half = (a - b) / 2 * np.where(crosses, spread_factors(u[1], eta), np.where(u[2] < 0.5, 1.0, -1.0))
    middle = (a + b) / 2
    return middle + half, middle - half


def rounded(space: Space, points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(P, D) -> every discrete column in the middle of a cell: of the two nearest ones, the nearer more often."""
    low, high = space.brackets(points)
    shaken = points + (generator.random(points.shape) - 0.5) * (high - low)
    return space.snap(np.minimum(np.maximum(shaken, space.lower), space.upper))


def polynomial_steps(u: np.ndarray, eta: float) -> np.ndarray:
    """Numbers in [0, 1) -> steps in (-1, 1) with density (eta + 1) / 2 (1 - |step|)^eta. Source: Deb & Goyal 1996."""
    tail = np.where(u < 0.5, 2 * u, 2 * (1 - u)) ** (1 / (eta + 1))
    return np.where(u < 0.5, tail - 1, 1 - tail)


def two_sided(p: float, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Whole steps, of both signs alike and of size k >= 1 with chance p (1 - p)^(k - 1). After Rudolph 1994."""
    size = generator.geometric(p, shape)
    return np.where(generator.random(shape) < 0.5, -size, size)


def heavy_tailed(n: int, rows: int, generator: np.random.Generator) -> np.ndarray:
    """(rows,) how many of n columns to change: k from 1 to max(1, n / 2) with chance ~ k^-1.5.

    Source: fast genetic algorithm (Doerr, Le, Makhmara & Nguyen 2017, arXiv:1703.03334), beta = 1.5.
    """
    shares = np.arange(1, max(1, n // 2) + 1) ** -1.5
    return 1 + np.searchsorted(shares.cumsum() / shares.sum(), generator.random(rows), side="right")


def mutated(
    space: Space, points: np.ndarray, scale: np.ndarray, eta: float, forced: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """(P, D) points -> the same with some columns changed; k columns in the mean, k drawn per row by `heavy_tailed`.

    Args:
        space: reals take polynomial steps, whole numbers steps of cells, options become others.
        points: (P, D).
        scale: (D,) the largest step of a real column.
        eta: the higher, the smaller the steps.
        forced: (P,) rows in which one column at least must change.
        generator: draws everything.
    """
    P, D = points.shape
    u = generator.random((2, P, D))
    change = u[0] < (heavy_tailed(D, P, generator) / D)[:, None]
    change[forced, generator.integers(D, size=P)[forced]] = True
    points = np.where(change & (space.levels == 0), points + polynomial_steps(u[1], eta) * scale, points)
    if len(space.discrete):
        # 0.5: two cells on the mean; the tail reaches further, as the polynomial's does
        cells = two_sided(0.5, (P, D), generator) * change * (space.levels > 0)
        points = stepped(space, points, cells, generator)
    return points
