"""The parts of differential evolution: its two controls of F and CR, partners, mutants, crossover, bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eitherway.space.space import Space

SETS = np.array([[1.0, 1.0, 0.8], [0.1, 0.9, 0.2]])
"""F and CR of composite DE (Wang, Cai & Zhang 2011): wide steps, of few or most columns, and fine ones of few."""


def remembered(memory: np.ndarray, P: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """F (P,) and CR (P,) about what worked: Cauchy about M_F, above 0 and cut at 1; normal about M_CR, within [0, 1].

    Source: SHADE (Tanabe & Fukunaga 2013), eqs. 1-2. An F that is not above 0 is drawn again there; here the Cauchy
    distribution above 0 is drawn from directly, which is the same.

    Args:
        memory: (2, H), M_F and M_CR.
        P: how many.
        generator: draws them.
    """
    u = generator.random((2, P))
    m_f, m_cr = memory[:, (u[0] * memory.shape[1]).astype(np.int64)]
    nothing = 0.5 - np.arctan(10 * m_f) / np.pi  # the share of the distribution below 0
    F = np.minimum(m_f + 0.1 * np.tan(np.pi * (nothing + (1 - nothing) * u[1] - 0.5)), 1.0)
    CR = np.minimum(np.maximum(m_cr + 0.1 * generator.standard_normal(P), 0.0), 1.0)
    return F, CR


def lehmer(weights: np.ndarray, worked: np.ndarray) -> np.ndarray:
    """(2,) weighted Lehmer means of the F and CR (2, n) that worked: the next cell of the memory.

    Source: L-SHADE (Tanabe & Fukunaga 2014), eqs. 7-9; weights (n,) are positive.
    """
    weighted = worked * weights
    return (weighted * worked).sum(1) / np.maximum(weighted.sum(1), 1e-12)  # 1e-12: every CR that worked was 0


def partners(P: int, others: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """r1 (P,) below P and r2 (P,) below P + others: of row i, neither is i, and they differ."""
    u = generator.random((2, P))
    i = np.arange(P)
    r1 = (u[0] * (P - 1)).astype(np.int64)
    r1 += r1 >= i
    r2 = (u[1] * (P + others - 2)).astype(np.int64)
    r2 += r2 >= np.minimum(i, r1)
    r2 += r2 >= np.maximum(i, r1)
    return r1, r2


def mutants(x: np.ndarray, best: np.ndarray, a: np.ndarray, b: np.ndarray, F: np.ndarray) -> np.ndarray:
    """(P, D) current-to-pbest/1: x + F (best - x) + F (a - b). Source: JADE (Zhang & Sanderson 2009), eq. 6."""
    return x + F[:, None] * (best - x + a - b)


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
    taken = np.where(u[0] < F[:, None], best[:, columns], x[:, columns])
    taken = np.where((cells_a != cells_b) & (u[1] < F[:, None]), a[:, columns], taken)
    mutant[:, columns] = np.where(u[2] < 1 / space.columns, u[3], taken)


def crossed(mutant: np.ndarray, x: np.ndarray, CR: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(P, D) binomial crossover: from the mutant with chance CR a column, one at least (Storn & Price 1997)."""
    P, D = x.shape
    u = generator.random((P, D + 1))
    take = u[:, :D] < CR[:, None]
    take[np.arange(P), (u[:, D] * D).astype(np.int64)] = True
    return np.where(take, mutant, x)


def inside(space: Space, points: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """(P, D) a coordinate beyond a bound goes half way from its parent to that bound. Source: JADE, section III."""
    points = np.where(points < space.lower, (parents + space.lower) / 2, points)
    return np.where(points > space.upper, (parents + space.upper) / 2, points)
