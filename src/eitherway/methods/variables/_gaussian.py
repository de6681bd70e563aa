"""A normal distribution that learns from ranked steps: the core of CMA-ES, without bounds, restarts or whole numbers.

Formulas and equation numbers: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, log, sqrt

import numpy as np

from eitherway.base.keys import Key
from eitherway.methods.codec import state
from eitherway.methods.protocol import Told


@dataclass(frozen=True)
class Rates:
    """What the tutorial derives from the numbers of points and columns (table 1)."""

    positive: np.ndarray  # (P,) weights by rank: those of the better half, which sum to 1, then 0
    negative: np.ndarray  # (P,) 0, then those of the worse half
    total: float  # sum of both
    mu_eff: float
    worth: float  # how many independent points the better half of a mirrored population is worth
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    length: float  # expected length of a standard normal vector
    lazy: int  # turns between two decompositions


@lru_cache(maxsize=256)
def rates(P: int, D: int) -> Rates:
    """The default rates for P >= 2 points in D >= 1 columns."""
    raw = log((P + 1) / 2) - np.log(np.arange(1, P + 1))  # eq. 49
    mu = P // 2
    mu_eff = float(raw[:mu].sum() ** 2 / (raw[:mu] ** 2).sum())
    mu_eff_minus = float(raw[mu:].sum() ** 2 / (raw[mu:] ** 2).sum())
    c_1 = 2 / ((D + 1.3) ** 2 + mu_eff)  # eq. 57
    # eq. 58; 1e-8: keeps c_mu < 1 - c_1 for large populations
    c_mu = min(1 - c_1 - 1e-8, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((D + 2) ** 2 + mu_eff))
    # eq. 50 to 52: how much the negative weights may weigh together
    negative = min(1 + c_1 / c_mu, 1 + 2 * mu_eff_minus / (mu_eff + 2), (1 - c_1 - c_mu) / (D * c_mu))
    weights = np.where(raw >= 0, raw / raw[raw > 0].sum(), raw * (negative / -raw[raw < 0].sum()))  # eq. 53
    c_sigma = (mu_eff + 2) / (D + mu_eff + 5)  # eq. 55
    d_sigma = 1 + 2 * max(0.0, sqrt((mu_eff - 1) / (D + 1)) - 1) + c_sigma
    c_c = (4 + mu_eff / D) / (D + 4 + 2 * mu_eff / D)  # eq. 56
    length = sqrt(D) * (1 - 1 / (4 * D) + 1 / (21 * D * D))
    # Without selection two of the P // 2 mirrored pairs' halves may both attract and cancel: the mean step of a cost
    # that tells nothing is then shorter than sqrt(1 / mu_eff), by this; left alone, it would shrink sigma under noise.
    squares, pairs = 1 / mu_eff, P // 2
    worth = 1 / (squares - 2 * pairs * (1 - squares) / (P * (P - 1)))
    positive, negative = np.maximum(weights, 0.0), np.minimum(weights, 0.0)
    positive.setflags(write=False)
    negative.setflags(write=False)
    # Section B.2 decomposes ten times as often, which made no difference on COCO's bbob; half as often did at D = 2, 5.
    lazy = max(1, int(1 / (D * (c_1 + c_mu))))
    total = float(weights.sum())
    return Rates(positive, negative, total, mu_eff, worth, c_sigma, d_sigma, c_c, c_1, c_mu, length, lazy)


def shares(told: Told, r: Rates) -> tuple[np.ndarray, np.ndarray]:
    """(P,) positive and (P,) negative parts of what each row weighs, from its rank alone.

    Equal rows take their places in row order: drawn independently of it, they are told apart by chance, and the step
    size does not drift on a plateau. A failed row never attracts, it can only repel.
    """
    failures = bool(told.status.any())
    plain = told.violations is None and not failures  # then the values alone say it, without their ranks
    places = np.empty(len(told.values), np.intp)
    places[(told.values if plain else told.ranks()).argsort(kind="stable")] = np.arange(len(places))
    positive, negative = r.positive[places], r.negative[places]
    return (positive * told.ok if failures else positive), negative


def cloud(key: Key, P: int, D: int) -> np.ndarray:
    """(P, D) this turn's `mirrored` rows. Turns are drawn together: a small cloud costs more to draw than to use."""
    together = max(1, min(32, 4096 // max(1, P * D)))
    turn = key.turn % together
    return _clouds(key.seed, key.turn - turn, key.path, together, P, D)[turn]


@lru_cache(maxsize=8)
def _clouds(seed: int, turn: int, path: tuple[str, ...], T: int, P: int, D: int) -> np.ndarray:
    """(T, P, D), a pure function of its arguments; the size is named, so that a restart within the block draws anew."""
    return mirrored(Key(seed, turn, path).numpy(f"clouds of {P}"), T, P, D)


def mirrored(rng: np.random.Generator, T: int, P: int, D: int) -> np.ndarray:
    """(T, P, D) standard normal rows: of each P, the first half at right angles, the second half their opposites.

    Every row alone is standard normal; together they cover the directions more evenly than independent ones do.
    Source: Wang, Emmerich and Back, Mirrored Orthogonal Sampling for Covariance Matrix Adaptation Evolution
    Strategies, Evol. Comput. 27(4), 2019; without their pairwise selection.
    """
    if not P or not D:
        return np.empty((T, P, D))
    half = (P + 1) // 2
    rows = min(half, D)
    groups = -(-half // rows)
    z = rng.standard_normal((T * groups, rows, D))
    products = z @ z.transpose(0, 2, 1)
    squares = np.einsum("bii->bi", products)  # a view of the diagonals
    lengths = np.sqrt(squares)
    squares += 1e-14  # never singular, even for rows that happen to be parallel
    # Gram-Schmidt: the triangular factor takes from each row what the rows before it have
    right = np.linalg.solve(np.linalg.cholesky(products), z) * lengths[:, :, None]
    z = right.reshape(T, groups * rows, D)[:, :half]
    return np.concatenate([z, -z], axis=1)[:, :P]


@state
class Gaussian:
    """N(mean, sigma^2 covariance), the paths of its centre, and its latest decomposition."""

    mean: np.ndarray  # (D,)
    sigma: float
    covariance: np.ndarray  # (D, D)
    basis: np.ndarray  # (D, D) eigenvectors in columns
    scales: np.ndarray  # (D,) square roots of the eigenvalues
    path_sigma: np.ndarray  # (D,)
    path_c: np.ndarray  # (D,)
    turns: int  # updates so far

    def steps(self, z: np.ndarray) -> np.ndarray:
        """(P, D) standard normal -> (P, D) distributed as N(0, covariance)."""
        return (z * self.scales) @ self.basis.T

    def whitened(self, y: np.ndarray) -> np.ndarray:
        """(P, D) -> (P, D) the z of `steps`, turned: covariance^(-1/2) y, in the eigenvectors' coordinates."""
        return (y @ self.basis) / self.scales

    def shortened(self, y: np.ndarray) -> np.ndarray:
        """(K, D) steps that were not drawn here -> the same, none longer than a drawn one may well be.

        Source: Hansen, Injecting external solutions into CMA-ES, arXiv:1110.4181, eq. 4.
        """
        D = y.shape[1]
        length = np.sqrt((self.whitened(y) ** 2).sum(1, keepdims=True))
        return y * np.minimum(1.0, (sqrt(D) + 2 * D / (D + 2)) / np.maximum(length, 1e-8))


def gaussian(mean: np.ndarray, sigma: float, spreads: np.ndarray) -> Gaussian:
    """A fresh one with standard deviations sigma * spreads (D,)."""
    D = len(mean)
    return Gaussian(mean.copy(), sigma, np.diag(spreads**2), np.eye(D), spreads.copy(), np.zeros(D), np.zeros(D), 0)


def learn(g: Gaussian, y: np.ndarray, positive: np.ndarray, negative: np.ndarray, r: Rates) -> np.ndarray:
    """One update of everything but the mean, in place.

    Args:
        y: (P, D) steps from the mean in units of sigma, distributed as N(0, covariance).
        positive, negative: (P,) as `shares` gives them.

    Returns:
        (D,) the weighted mean step, by which the caller moves the mean.
    """
    D = y.shape[1]
    y_w, z = positive @ y, g.whitened(y)  # eq. 41
    g.turns += 1
    g.path_sigma *= 1 - r.c_sigma
    g.path_sigma += g.basis @ (positive @ z * sqrt(r.c_sigma * (2 - r.c_sigma) * r.worth))  # eq. 43
    length = sqrt(float(g.path_sigma @ g.path_sigma))
    short = length / sqrt(1 - (1 - r.c_sigma) ** (2 * g.turns)) < (1.4 + 2 / (D + 1)) * r.length
    g.path_c *= 1 - r.c_c
    if short:
        g.path_c += sqrt(r.c_c * (2 - r.c_c) * r.worth) * y_w  # eq. 45
    # eq. 46: a step that repels counts with the length it should have had; 1e-8: as if no step were shorter
    w = positive + negative * (D / (np.einsum("ij,ij->i", z, z) + 1e-8))
    decay = 1 - r.c_1 - r.c_mu * r.total
    g.covariance *= decay if short else decay + r.c_1 * r.c_c * (2 - r.c_c)
    g.covariance += (y.T * (r.c_mu * w)) @ y + (r.c_1 * g.path_c)[:, None] * g.path_c  # eq. 47
    g.sigma *= exp(min(1.0, r.c_sigma / r.d_sigma * (length / r.length - 1)))  # eq. 44; at most e-fold a turn
    if g.turns % r.lazy == 0:
        decompose(g)
    return y_w


def decompose(g: Gaussian) -> None:
    """Brings basis and scales up to date with the covariance, of which the lower triangle counts."""
    values, g.basis = np.linalg.eigh(g.covariance)
    g.scales = np.sqrt(np.maximum(values, 1e-20))
