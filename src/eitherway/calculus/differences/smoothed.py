"""Slopes from random directions: SPSA and antithetic evolution strategies, with their standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eitherway.calculus.differences.noise import Evaluate


@dataclass
class Sampled:
    """What random directions say: (m, n) slopes, their standard errors, and for smoothed ones their bias.

    Args:
        value: (m, n) slopes.
        error: (m, n) standard errors over the samples.
        steps: (n,) how far each entry moved, typically.
        bias: (m, n) how far smoothing moves the slopes from those at x, or None.
        bias_error: (m, n) its standard error.
        lost: pairs of points without a value.
        evaluations: points paid for.
    """

    value: np.ndarray
    error: np.ndarray
    steps: np.ndarray
    bias: np.ndarray | None
    bias_error: np.ndarray | None
    lost: int
    evaluations: int


def spsa(evaluate: Evaluate, x: np.ndarray, steps: np.ndarray, samples: int, generator: np.random.Generator) -> Sampled:
    """Simultaneous perturbation: every entry moves at once, up or down by its step, at two points a sample.

    g_j = mean of (f(x + c d) - f(x - c d)) / (2 c_j d_j), d of random signs: unbiased up to O(c^2). The standard error
    of one entry grows with the slopes of all others, |g| / sqrt(samples).

    Args:
        evaluate: see `noise.Evaluate`.
        x: (n,) the point.
        steps: (n,) c, how far each entry moves.
        samples: pairs of points.
        generator: draws the signs.

    Source: Spall 1992, IEEE Trans. Automatic Control 37, 332-341.
    """
    signs = generator.choice([-1.0, 1.0], (samples, len(x)))
    rises, kept = _rises(evaluate, x, signs * steps)
    value, error = _moments(rises[kept], signs[kept] / steps)
    return Sampled(value, error, steps, None, None, samples - int(kept.sum()), 2 * samples)


def antithetic(
    evaluate: Evaluate, x: np.ndarray, spread: np.ndarray, samples: int, generator: np.random.Generator
) -> Sampled:
    """The gradient of E f(x + spread z), z normal: of f smoothed, from mirrored pairs.

    g_j = mean of (f(x + spread z) - f(x - spread z)) / (2 spread_j) z_j. It differs from the slope at x by about half
    the spread squared times the slope of the Laplacian; the difference is estimated from the same directions at half
    the spread, for twice the evaluations.

    Args:
        evaluate: see `noise.Evaluate`.
        x: (n,) the point.
        spread: (n,) standard deviation of each entry's moves.
        samples: mirrored pairs, at two spreads.
        generator: draws the directions.

    Source: Salimans et al. 2017, arXiv:1703.03864; Nesterov & Spokoiny 2017, Found. Comput. Math. 17, section 2.
    """
    z = generator.standard_normal((samples, len(x)))
    wide, kept_wide = _rises(evaluate, x, z * spread)
    narrow, kept_narrow = _rises(evaluate, x, z * spread / 2)
    value, error = _moments(wide[kept_wide], z[kept_wide] / spread)
    both = kept_wide & kept_narrow
    # g(spread) = g(0) + c spread^2, so the two differ by 3/4 of the bias
    bias, bias_error = _moments((wide - 2 * narrow)[both] * 4 / 3, z[both] / spread)
    lost = 2 * samples - int(kept_wide.sum()) - int(kept_narrow.sum())
    return Sampled(value, error, spread, bias, bias_error, lost, 4 * samples)


def _rises(evaluate: Evaluate, x: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half the rise of f along each move (S, m), and which moves have a value at both ends (S,)."""
    values = evaluate(np.concatenate([x + moves, x - moves]))
    rises = (values[: len(moves)] - values[len(moves) :]) / 2
    return rises, np.asarray(np.isfinite(rises).any(axis=1))


def _moments(rises: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error (m, n) of the products of rises (S, m) and weights (S, n), without forming them."""
    size = len(rises)
    if size < 2:
        shape = (rises.shape[1], weights.shape[1])
        return np.full(shape, np.nan), np.full(shape, np.inf)
    mean = rises.T @ weights / size
    variance = np.maximum((rises**2).T @ weights**2 / size - mean**2, 0) * size / (size - 1)
    return mean, np.sqrt(variance / size)
