"""Which scheme an activation, a depth and a layer's means call for, and why, in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.moments import Moments, moments
from eitherway.signal.schemes.mirror import mirror
from eitherway.signal.schemes.shaped import shape
from eitherway.signal.schemes.window import window

SHORT = 10
"""Fewer activations in a row than this are kept by the gain alone."""


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
    ('mirror', 'shaped', 'gain')
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
    if bias:
        try:
            shape(phi, depth)
            return Choice("shaped", f"{name} has a point at which variance, gradient and distances are kept together")
        except ModelError:
            pass
    try:
        wide = window(phi, depth, bias=bias)
    except ModelError:
        return Choice(
            "gain", f"nothing keeps {name} through {depth} layers: its gain, and no promise; normalise between"
        )
    where = f"around {wide.beta:.3g}" if bias else "around 0, without biases"
    return Choice("window", f"{name} has no exact start here; {where} it is linear enough over {wide.alpha:.3g} sigma")


def _mirrored(phi: Callable[[Tensor], Any], found: Moments) -> str | None:
    """Why mirrored pairs are exact, or None where they are not, or would stay copies of one another."""
    if found.odd is None:
        return None
    made = mirror(phi)
    if not (made.exact and made.parts and made.alpha == 1.0):
        return None
    return f"{found.name}(u) - {found.name}(-u) = {found.odd:.4g} u: pairs of units start as an orthogonal map, exactly"
