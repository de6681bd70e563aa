"""Which scheme an activation, a depth and a layer's means call for, and why, in a sentence.

Shaped points and windows keep size, gradient and geometry alike; what parts them is training. On 50 layers of width 64
(scikit-learn's digits, 150 steps of Adam, test accuracy at the best of four rates from 5e-5 to 2e-3, mean of two seeds)
tanh learns 0.96 from its window and 0.94 from its point, sin 0.96 and 0.53, tanhshrink 0.95 and 0.2; ELU and Mish learn
0.96 and 0.95 from their windows and 0.97 from their points. The mean of the activation beside its signal orders all
five rightly: a rule seen after the fact, on one task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.gain import Moments, moments
from eitherway.signal.schemes.mirror import mirror
from eitherway.signal.schemes.shaped import Shape, shape
from eitherway.signal.schemes.window import window

SHORT = 10
"""Fewer activations in a row than this are kept by the gain alone."""
_BETTER = 1.1  # an exact point is worth a tenth more of a mean


class Choice(NamedTuple):
    """A scheme's name, and the reason in a sentence."""

    name: str
    """"orthogonal", "gain", "mirror", "shaped" or "window"."""
    reason: str


def best(phi: Callable[[Tensor], Any], depth: int, *, bias: bool = True, width_even: bool = True) -> Choice:
    """The scheme that starts a plain chain best, no norm and no skip in it.

    Args:
        phi: the activation between the layers, element-wise, as for `moments`.
        depth: how many activations follow one another.
        bias: whether the layers have biases.
        width_even: whether the units between the layers can be paired.

    >>> import torch
    >>> best(torch.nn.functional.gelu, 50).name, best(torch.tanh, 50).name, best(torch.tanh, 3).name
    ('mirror', 'window', 'gain')
    """
    found = moments(phi)
    name = found.name
    if found.piecewise_linear and not found.kinks:
        return Choice("orthogonal", f"{name} is linear: orthogonal weights keep everything")
    if depth < SHORT:
        return Choice("gain", f"{depth} activations in a row: the gain {found.gain:.4g} of {name} keeps the signal")
    reason = _mirrored(phi, found) if width_even else None
    if reason is not None:
        return Choice("mirror", reason)
    kept = _solved(shape, phi, depth, bias) if bias else None
    wide = _solved(window, phi, depth, bias)
    if kept is not None and (wide is None or _share(kept) < _share(wide) * _BETTER):
        return Choice("shaped", f"{name} has a point at which variance, gradient and distances are kept together")
    if wide is None:
        reason = f"nothing keeps {name} through {depth} layers: its gain, and no promise; normalise between them"
        return Choice("gain", reason)
    where = f"around {wide.beta:.3g}" if bias else "around 0, without biases,"
    fits = "is known for" if bias and width_even else "fits these layers and"
    none = "" if kept is not None else f"no exact start {fits} {name}; "
    less = ", and needs less of a mean taken off than its exact point" if kept is not None else ""
    return Choice("window", f"{none}{where} {name} is linear enough over {wide.alpha:.3g} standard deviations{less}")


def _solved(solve: Callable[..., Shape], phi: Callable[[Tensor], Any], depth: int, bias: bool) -> Shape | None:
    try:
        return solve(phi, depth, bias=bias)
    except ModelError:
        return None


def _share(found: Shape) -> float:
    """How large the mean of the activation is beside its signal: what biases have to take off exactly, and what every
    step of training moves. Of two starts that keep the signal, the one with the smaller share takes the larger rate."""
    return abs(found.mu) * found.gamma


def _mirrored(phi: Callable[[Tensor], Any], found: Moments) -> str | None:
    """Why mirrored pairs are exact, or None where they are not, or would stay copies of one another."""
    if found.odd is None:
        return None
    made = mirror(phi)
    if not (made.exact and made.parts and made.alpha == 1.0):
        return None
    return f"{found.name}(u) - {found.name}(-u) = {found.odd:.4g} u: pairs of units start as an orthogonal map, exactly"
