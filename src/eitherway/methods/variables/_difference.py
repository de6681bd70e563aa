"""The parts of differential evolution: its draws, partners, the controls of F and CR, crossover, options."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eitherway.base.keys import Key

if TYPE_CHECKING:
    from eitherway.space.space import Space

SETS = np.array([[1.0, 1.0, 0.8], [0.1, 0.9, 0.2]])
"""F and CR of composite DE (Wang, Cai & Zhang 2011): wide steps, of few or most columns, and fine ones of few."""


class Draws(NamedTuple):
    """The chance of one turn: each (P,), but `cross` (P, D)."""

    cells: np.ndarray  # of the memory
    sets: np.ndarray  # of SETS
    about: np.ndarray  # (2, P): Cauchy about M_F, normal about M_CR
    best: np.ndarray  # in [0, 1), which of the best
    r1: np.ndarray
    r2: np.ndarray
    cross: np.ndarray  # in [0, 1); -1 in the column that always crosses
    slots: np.ndarray  # where in the archive a replaced parent goes


def draws(key: Key, P: int, archived: int, D: int, memories: int) -> Draws:
    """What chance decides this turn. Turns are drawn together: a small population's draws cost more than its steps."""
    together = max(1, min(64, 8192 // (P * (D + 8))))
    turn = key.turn % together
    return _block(key.seed, key.turn - turn, key.path, together, P, archived, D, memories)[turn]


@lru_cache(maxsize=8)
def _block(
    seed: int, turn: int, path: tuple[str, ...], T: int, P: int, archived: int, D: int, memories: int
) -> list[Draws]:
    """T turns of draws, a pure function of its arguments."""
    generator = Key(seed, turn, path).numpy(
        f"steps of {P}"
    )  # the size is named: a population begun anew within the block draws afresh
    u = generator.random((4, T, P))
    about = np.stack([generator.standard_cauchy((T, P)), generator.standard_normal((T, P))], axis=1)
    r1, r2 = partners(T, P, archived, generator)
    cross = generator.random((T, P, D))
    np.put_along_axis(cross, (u[2, ..., None] * D).astype(np.int64), -1.0, axis=2)
    columns = (
        (u[0] * memories).astype(np.int64),
        (u[1] * 3).astype(np.int64),
        0.1 * about,
        generator.random((T, P)),
        r1,
        r2,
        cross,
        (u[3] * archived).astype(np.int64),
    )
    return [Draws(*turn) for turn in zip(*columns)]


def partners(T: int, P: int, archived: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """r1 (T, P) below P and r2 (T, P) below P + archived: of row i, neither is i, and they differ."""
    u = generator.random((2, T, P))
    i = np.arange(P)
    r1 = (u[0] * (P - 1)).astype(np.int64)
    r1 += r1 >= i
    r2 = (u[1] * (P + archived - 2)).astype(np.int64)
    r2 += r2 >= np.minimum(i, r1)
    r2 += r2 >= np.maximum(i, r1)
    return r1, r2


def remembered(memory: np.ndarray, cells: np.ndarray, about: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F (P,) and CR (P,) about what worked: Cauchy about M_F, in [0, 1]; normal about M_CR.

    Source: SHADE (Tanabe & Fukunaga 2013), eqs. 1-2. An F below 0 is mirrored, where SHADE draws again; CR is left
    as it is drawn, since below 0 and above 1 it crosses as 0 and 1 do.

    Args:
        memory: (2, H), M_F and M_CR.
        cells: (P,) below H.
        about: (2, P) draws about 0.
    """
    drawn = memory.take(cells, axis=1)
    drawn += about
    return np.minimum(np.abs(drawn[0]), 1.0), drawn[1]


def lehmer(gains: list[float], worked: list[float]) -> float:
    """The mean of what worked, weighted by the gains and by itself. Source: L-SHADE (Tanabe & Fukunaga 2014), eqs. 7-9.

    >>> lehmer([1.0, 3.0], [0.5, 1.0])
    0.9285714285714286
    """
    first = sum(w * x for w, x in zip(gains, worked))
    return sum(w * x * x for w, x in zip(gains, worked)) / first if first > 0 else 0.0


def mutants(x: np.ndarray, best: np.ndarray, a: np.ndarray, b: np.ndarray, F: np.ndarray) -> np.ndarray:
    """(P, D) current-to-pbest/1: x + F (best - x) + F (a - b). Source: JADE (Zhang & Sanderson 2009), eq. 6."""
    mutant = best - x
    mutant += a
    mutant -= b
    mutant *= F[:, None]
    mutant += x
    return mutant


def crossed(mutant: np.ndarray, x: np.ndarray, CR: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """(P, D) binomial crossover: from the mutant where the draw `cross` (P, D) is below CR (Storn & Price 1997)."""
    return np.where(cross < CR[:, None], mutant, x)


def inside(space: Space, points: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """(P, D) a coordinate beyond a bound goes half way from its parent to that bound. Source: JADE, section III."""
    clipped = space.clip(points)
    if clipped.tobytes() == points.tobytes():  # a quarter of the time that a comparison takes
        return points
    return np.where(clipped != points, (parents + clipped) / 2, points)


def unordered(
    space: Space,
    mutant: np.ndarray,
    x: np.ndarray,
    best: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    F: np.ndarray,
    generator: np.random.Generator,
) -> None:
    """Writes the choice columns of `mutant` (P, D): options have no differences, so each is taken from someone whole.

    What a difference would do: towards the best with chance F; then, where a and b disagree, to a's option with
    chance F. Agreement of the population thus means rest, as it does for numbers. Once in D columns any option at all.
    """
    columns = np.flatnonzero(space.kinds == "choice")
    u = generator.random((4, len(x), len(columns)))
    cells_a, cells_b = space.cells(a)[:, columns], space.cells(b)[:, columns]
    taken = np.where(u[0] < F[:, None], np.broadcast_to(best, x.shape)[:, columns], x[:, columns])
    taken = np.where((cells_a != cells_b) & (u[1] < F[:, None]), a[:, columns], taken)
    mutant[:, columns] = np.where(u[2] < 1 / space.columns, u[3], taken)
