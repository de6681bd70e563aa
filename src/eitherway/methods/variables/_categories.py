"""A distribution over the options of each choice, moved along its natural gradient at a pace that fits the noise.

Sources: Hamano et al., CatCMA with Margin, arXiv:2504.07884, section 4; ASNG: Akimoto et al., Adaptive Stochastic
Natural Gradient Method for One-Shot Neural Architecture Search, ICML 2019, algorithm 1 and appendix B.
"""

from __future__ import annotations

from math import exp, sqrt

import numpy as np

from eitherway.methods.codec import state

_ALPHA = 1.5  # ASNG: the signal-to-noise ratio that is aimed at


@state
class Categories:
    """The probabilities of all options, and how far they may be moved in a turn."""

    q: np.ndarray  # (M, K) rows sum to 1; 0 beyond the options of a choice
    path: np.ndarray  # (sum of options - 1,) s: the direction of the latest moves
    pace: float  # Delta: moves are 1 / pace long
    gamma: float  # the length that `path` would have without a signal


def categories(levels: np.ndarray) -> Categories:
    """All options equally likely. levels: (M,), each at least 2."""
    K = int(levels.max(initial=0))
    q = (np.arange(K) < levels[:, None]) / levels[:, None]
    return Categories(q, np.zeros(int((levels - 1).sum())), 1.0, 0.0)


def draw(c: Categories, levels: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """(P, M) uniform in [0, 1) -> (P, M) options, from 0."""
    options = (c.q.cumsum(1) <= unit[:, :, None]).sum(2)
    return np.minimum(options, levels - 1)


def follow(c: Categories, levels: np.ndarray, options: np.ndarray, weights: np.ndarray, alpha: float) -> None:
    """Makes what attracts likelier, in place.

    Args:
        levels: (M,) options of each choice.
        options: (P, M) those taken, from 0.
        weights: (P, M) how much each row attracts; 0 where the choice took no part.
        alpha: the least probability of an option other than the favourite, times the others' number.
    """
    k = np.arange(c.q.shape[1])
    inner, last = k < levels[:, None] - 1, levels - 1
    taken = options[:, :, None] == k
    gradient = (weights[:, :, None] * (taken - c.q)).sum(0)
    # square root of the Fisher information times the gradient: ASNG, appendix B
    root = np.sqrt(np.where(inner, c.q, 1.0))
    q_last = c.q[np.arange(len(levels)), last]
    tail = np.where(inner, gradient, 0.0).sum(1) / (q_last + np.sqrt(q_last))
    direction = (gradient / root + root * tail[:, None])[inner]
    norm = sqrt(float(direction @ direction))
    if norm < 1e-12:  # nobody attracts, or all attract alike
        return
    step = 1 / c.pace
    c.q = c.q + step / (norm + 1e-8) * gradient
    beta = min(1.0, step / sqrt(len(direction)))  # 1: beyond, the average would swing and, from 2 on, be complex
    c.path = (1 - beta) * c.path + sqrt(beta * (2 - beta)) / norm * direction
    c.gamma = (1 - beta) ** 2 * c.gamma + beta * (2 - beta)
    # 1e-3: with a step of 1000 the margin decides alone
    c.pace = max(1e-3, c.pace * exp(beta * (c.gamma - float(c.path @ c.path) / _ALPHA)))
    _keep_all(c, levels, alpha)


def _keep_all(c: Categories, levels: np.ndarray, alpha: float) -> None:
    """No option may become less likely than alpha / (K - 1): the margin of categories."""
    some = np.arange(c.q.shape[1]) < levels[:, None]
    least = np.where(some, (alpha / (levels - 1))[:, None], 0.0)
    q = np.where(some, np.maximum(c.q, least), 0.0)
    total = q.sum(1, keepdims=True)
    q = q - (total - 1) * (q - least) / (total - least.sum(1, keepdims=True))
    c.q = q / q.sum(1, keepdims=True)
