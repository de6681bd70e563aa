"""How a genetic algorithm varies its parents: crossover and mutation of reals, of whole numbers, of options."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eitherway.base.keys import Key
from eitherway.methods.variables._discrete import stepped

if TYPE_CHECKING:
    from eitherway.space.space import Space


class Chances(NamedTuple):
    """How eager a genetic algorithm is: the chance of a crossover, and how near children stay to their parents."""

    crossover: float
    crossover_eta: float
    mutation_eta: float


class Draws(NamedTuple):
    """The chance of one turn, for N pairs and their 2 N children."""

    first: np.ndarray  # (N,) ranks of the parents
    second: np.ndarray  # (N,)
    spread: np.ndarray  # (N, D) what half the parents' difference is multiplied by
    change: np.ndarray  # (2 N, D) whether the column mutates
    steps: np.ndarray  # (2 N, D) in (-1, 1), 0 where it does not


def draws(key: Key, P: int, D: int, options: np.ndarray, chances: Chances) -> Draws:
    """What chance decides this turn. Turns are drawn together: a small population's draws cost more than its steps."""
    together = max(1, min(64, 8192 // (P * (D + 8))))
    turn = key.turn % together
    return _block(key.seed, key.turn - turn, key.path, together, P, D, tuple(options.tolist()), chances)[turn]


@lru_cache(maxsize=8)
def _block(
    seed: int, turn: int, path: tuple[str, ...], T: int, P: int, D: int, options: tuple[int, ...], chances: Chances
) -> list[Draws]:
    """T turns of draws, a pure function of its arguments."""
    generator = Key(seed, turn, path).numpy(
        f"children of {P}"
    )  # the size is named: one begun anew within the block draws afresh
    N = (P + 1) // 2
    # parents by rank: the lower of two wins its tournament
    first, second = (generator.random((2, 2, T, N)) * P).astype(np.int64).min(0)
    spread, crossed = spreads((T, N, D), options, chances, generator)
    # a pair that is one, or does not cross, would have children like itself
    alike = np.concatenate([~crossed | (first == second)] * 2, axis=1)
    change = changes((T, 2 * N, D), alike, generator)
    steps = np.where(change, polynomial_steps(generator.random(change.shape), chances.mutation_eta), 0.0)
    return [Draws(*turn) for turn in zip(first, second, spread, change, steps)]


def spreads(
    shape: tuple[int, int, int], options: tuple[int, ...], chances: Chances, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(T, N, D) by what to multiply half the parents' difference, and (T, N) whether the pair crosses.

    A pair crosses with the chance, and then each of its columns but the options with 1/2. All other columns are
    exchanged with 1/2, which Deb's code leaves out: without it options would never find new company.
    """
    u = generator.random((3, *shape))
    crossed = generator.random(shape[:2]) < chances.crossover
    blends = (u[0] < 0.5) & crossed[..., None]
    blends[..., options] = False
    return np.where(blends, spread_factors(u[1], chances.crossover_eta), np.where(u[2] < 0.5, 1.0, -1.0)), crossed


def spread_factors(u: np.ndarray, eta: float) -> np.ndarray:
    """Numbers in [0, 1) -> beta >= 0 with density (eta + 1) / 2 beta^eta below 1, (eta + 1) / 2 beta^-(eta + 2) above.

    Source: simulated binary crossover (Deb & Agrawal 1995), eqs. 10-12: |difference of children| / |of parents|.
    """
    return np.where(u < 0.5, 2 * u, 1 / (2 * (1 - u))) ** (1 / (eta + 1))


def blended(a: np.ndarray, b: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(2 N, D) the two children of each pair a, b (N, D): about their mean, `spread` (N, D) times as far apart."""
    middle, half = (a + b) / 2, (a - b) * (spread / 2)
    return np.concatenate([middle + half, middle - half])


def rounded(space: Space, points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(P, D) -> every discrete column in the middle of a cell: of the two nearest ones, the nearer more often."""
    low, high = space.brackets(points)
    shaken = points + (generator.random(points.shape) - 0.5) * (high - low)
    return space.snap(np.minimum(np.maximum(shaken, space.lower), space.upper))


def changes(shape: tuple[int, int, int], at_least_one: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(T, P, D) which columns mutate: `heavy_tailed` many in the mean; one or more in rows of `at_least_one` (T, P)."""
    T, P, D = shape
    change = generator.random(shape) < (heavy_tailed(D, (T, P), generator) / D)[..., None]
    turns, rows = at_least_one.nonzero()
    change[turns, rows, generator.integers(D, size=len(rows))] = True
    return change


def polynomial_steps(u: np.ndarray, eta: float) -> np.ndarray:
    """Numbers in [0, 1) -> steps in (-1, 1) with density (eta + 1) / 2 (1 - |step|)^eta. Source: Deb & Goyal 1996."""
    tail = np.where(u < 0.5, 2 * u, 2 * (1 - u)) ** (1 / (eta + 1))
    return np.where(u < 0.5, tail - 1, 1 - tail)


def two_sided(p: float, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Whole steps, of both signs alike and of size k >= 1 with chance p (1 - p)^(k - 1). After Rudolph 1994."""
    size = generator.geometric(p, shape)
    return np.where(generator.random(shape) < 0.5, -size, size)


def heavy_tailed(n: int, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """How many of n columns to change: k from 1 to max(1, n / 2) with chance ~ k^-1.5.

    Source: fast genetic algorithm (Doerr, Le, Makhmara & Nguyen 2017, arXiv:1703.03334), beta = 1.5.
    """
    shares = np.arange(1, max(1, n // 2) + 1) ** -1.5
    return 1 + np.searchsorted(shares.cumsum() / shares.sum(), generator.random(shape), side="right")


def mutated_cells(
    space: Space, points: np.ndarray, change: np.ndarray, forced: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """(P, D) points -> the same with some discrete columns in another cell; options become any other.

    Args:
        space: where.
        points: (P, D).
        change: (P, D) which columns; others than discrete ones are left alone.
        forced: (P,) rows in which one discrete column more changes.
        generator: draws the steps, of geometric size.
    """
    P, D = points.shape
    change = change & (space.levels > 1)
    many = np.flatnonzero(space.levels > 1)
    if len(many):
        change[forced, many[generator.integers(len(many), size=P)][forced]] = True
    # 0.5: two cells in the mean; the tail reaches further, as the polynomial's does
    return stepped(space, points, two_sided(0.5, (P, D), generator) * change, generator)
