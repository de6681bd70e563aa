"""Plain schemes, one standard deviation a layer: LeCun, Xavier, Kaiming, and what torch does by itself.

And what a finite width takes from all of them: the log of the variance is a random walk with a drift (`correction`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from eitherway.base.errors import ModelError, nearest
from eitherway.signal.gain import Moments

Rule = Literal["lecun", "xavier", "kaiming"]
Kind = Literal["linear", "conv", "conv_transpose", "bilinear", "embedding", "recurrent"]


def std(rule: Rule, fan_in: float, fan_out: float | None = None, *, gain: float = 1.0) -> float:
    """Standard deviation of a weight's elements by a rule.

    Args:
        rule: "lecun": 1 / sqrt(fan_in), whatever follows (LeCun et al. 1998). "kaiming": gain / sqrt(fan_in) (He et
            al. 2015, eq. 10). "xavier": gain sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).
        fan_in: inputs of an output.
        fan_out: outputs of an input; "xavier" needs it.
        gain: of the activation before the layer.

    Raises:
        ModelError: if the rule is unknown or a fan is missing or not positive.

    >>> std("lecun", 100), std("kaiming", 200, gain=2**0.5), std("xavier", 100, 300)
    (0.1, 0.1, 0.07071067811865475)
    """
    if rule not in get_args(Rule):
        raise ModelError(f"no plain rule is called {rule!r}. {nearest(rule, get_args(Rule))}")
    if not fan_in > 0 or (rule == "xavier" and not (fan_out or 0) > 0):
        raise ModelError(f"rule {rule!r} got fan_in={fan_in}, fan_out={fan_out}; it needs positive numbers")
    if rule == "xavier":
        return gain * math.sqrt(2 / (fan_in + (fan_out or 0)))
    return (gain if rule == "kaiming" else 1.0) / math.sqrt(fan_in)


def torch_bound(kind: Kind, shape: Sequence[int], *, hidden: int | None = None) -> float | None:
    """b of the U(-b, b) that torch draws weight and bias of a layer from; None for embeddings, which are N(0, 1).

    Args:
        kind: of the layer.
        shape: of its weight.
        hidden: size of a recurrent layer's state.

    >>> torch_bound("linear", (10, 64)), torch_bound("conv_transpose", (3, 4, 4, 4)), torch_bound("embedding", (9, 2))
    (0.125, 0.125, None)
    """
    if kind == "embedding":
        return None
    if kind == "recurrent":
        if not hidden:
            raise ModelError(f"a recurrent weight of shape {tuple(shape)} needs hidden=, the size of the layer's state")
        return hidden**-0.5
    return (shape[1] if kind == "bilinear" else math.prod(shape[1:])) ** -0.5


def noise(found: Moments, width: int, *, orthogonal: bool = False) -> float:
    """v: variance that one layer adds to the log of a sample's mean square, because it has only so many units.

    Gaussian weights make pre-activations independent normals given the layer before, so that the mean of phi^2 over n
    units has the relative variance (E phi^4 / (E phi^2)^2 - 1) / n. An orthogonal matrix also fixes sum z^2; what phi^2
    shares with z^2, of covariance 2 Q', then does not vary: minus (2 Q')^2 / 2. ReLU: 5 / n and 3 / n.

    >>> import torch
    >>> from eitherway.signal.gain import moments
    >>> relu = moments(torch.relu)
    >>> round(noise(relu, 500) * 500, 6), round(noise(relu, 500, orthogonal=True) * 500, 6)
    (5.0, 3.0)
    """
    if width < 1:
        raise ModelError(f"a layer of width {width} was asked for; expected at least one unit")
    fixed = 2 * found.stability**2 if orthogonal else 0.0
    return max(found.noise - fixed, 0.0) / width


def wander(found: Moments, width: int, depth: int, *, orthogonal: bool = False) -> float:
    """Standard deviation of the log of a sample's rms after `depth` layers, over starts: sqrt(v sum Q'^2k) / 2.

    Below Q' = 1 what a layer adds is forgotten; at 1 it is a random walk; above, a lottery.

    >>> import torch
    >>> from eitherway.signal.gain import moments
    >>> [round(wander(moments(phi), 512, 1000), 2) for phi in (torch.relu, torch.tanh)]
    [1.56, 0.02]
    """
    ratio = found.stability**2
    try:
        steps = depth if abs(ratio - 1) < 1e-9 else (ratio**depth - 1) / (ratio - 1)
    except OverflowError:
        return math.inf
    return math.sqrt(noise(found, width, orthogonal=orthogonal) * steps) / 2


def correction(found: Moments, width: int, *, orthogonal: bool = False) -> float:
    """e^(v/4): what the gain is multiplied with so that the typical signal, not its mean square over starts, is kept.

    Each layer adds a step of mean -v/2 and variance v to the log of the mean square; the mean over all starts is kept
    by rare large ones. With width 512 and a thousand ReLU layers the typical rms is 0.09 without, 1 with it.

    >>> import torch
    >>> from eitherway.signal.gain import moments
    >>> round(correction(moments(torch.relu), 512) ** 1000, 1)
    11.5
    """
    return math.exp(noise(found, width, orthogonal=orthogonal) / 4)
