"""`edge`: Gaussian weights and biases at the edge of chaos, which keep variance and gradient both.

sigma_w^2 = 1 / E phi'^2 keeps the gradient; biases of variance sigma_b^2 = q - sigma_w^2 E phi^2 make up what the
forward signal then lacks (Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232). The price:
the biases are the same for all samples, which grow alike with depth. Where structure may be chosen, `mirror` and
`shaped` do without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.gain import Moments, moments

_SCALES = np.logspace(0, np.log10(8), 19)  # tried in turn, both ways from 1


@dataclass(frozen=True)
class Edge:
    """Weights N(0, sigma_w^2 / fan_in) and biases N(0, sigma_b^2) that hold pre-activations at variance scale^2."""

    sigma_w: float
    sigma_b: float
    scale: float
    """Standard deviation of the pre-activations at the fixed point: 1 wherever that has a solution."""
    q_slope: float
    """Q': what a small error of the variance becomes in one layer."""


def edge(phi: Callable[[Tensor], Any]) -> Edge:
    """The edge of chaos of an activation: at pre-activations of variance 1, or the nearest that has a solution.

    Args:
        phi: element-wise, as for `moments`.

    Raises:
        ModelError: if no pre-activation between 1/8 and 8 standard deviations has one.

    >>> import torch
    >>> found = edge(torch.tanh)
    >>> round(found.sigma_w, 3), round(found.sigma_b**2, 3), found.scale
    (1.467, 0.151, 1.0)
    """
    for wide in _SCALES.tolist():
        for scale in (wide, 1 / wide):
            found = moments(phi, scale=scale)
            if found.edge is not None:
                return _at(found)
    raise ModelError(
        f"{moments(phi).name} has no edge of chaos between 1/8 and 8 standard deviations: weights that keep its "
        "gradient pass on more than they get; use scheme 'shaped' or 'mirror'"
    )


def _at(found: Moments) -> Edge:
    assert found.edge is not None
    sigma_w, variance = found.edge
    q_slope = sigma_w**2 * found.second * found.stability / found.at_scale**2
    return Edge(sigma_w, variance**0.5, found.at_scale, q_slope)
