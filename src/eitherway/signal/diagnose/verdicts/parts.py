"""What a verdict is, and the words that all of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from eitherway.graph import Op
from eitherway.signal.diagnose.slopes import at
from eitherway.signal.structure import Path

Kind = Literal[
    "exploding signal",
    "vanishing signal",
    "exploding gradient",
    "vanishing gradient",
    "unequal samples",
    "parallel samples",
    "dead units",
    "saturated units",
    "identical units",
    "low rank",
    "no gradient",
    "not finite",
    "linear run",
    "residual growth",
    "attention saturated",
    "attention uniform",
    "input scale",
    "update ratio",
    "normalisation",
    "double squashing",
    "dropout",
]
SHARES = ("softmax", "log_softmax", "softmin")
"""Operations whose answers sum to one, or are the logarithms of what does."""
THOUSAND = 1e3
"""The one measure of "too far": a layer whose gradient is a thousandth of another's needs a thousand steps to move as
far as the other does in one, at whatever rate the other can bear."""
ROOT = THOUSAND**0.5
"""The same for sizes: curvature goes with their squares, and the rate that a layer bears with its inverse."""

HALF = 0.5
"""Of the units that chance leaves alive, as many are asleep: the layer works at less than half its width. Of log
places, as much entropy: softmax sees fewer than the root of them."""
COMPOUND = 6.0
"""Growth in each half of a residual stream from which on it is a factor a block: steps of one size bring 2 in the
second half, and three times that is more than unequal steps explain."""


@dataclass(frozen=True)
class Verdict:
    """One thing that is wrong, or worth knowing, with its cause and its remedy."""

    kind: Kind
    severity: Literal["alarm", "note"]
    layers: tuple[str, ...]
    """Dotted names of modules or parameters, in order."""
    cause: str
    remedy: str
    text: str
    """The whole in one sentence: layers, cause; remedy."""
    consequences: tuple[str, ...] = ()
    """What follows from it and is not told by itself, as text."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Found:
    """A verdict on its way: where it begins and ends among the operations, so that consequences find their cause."""

    verdict: Verdict
    at: int
    upto: int
    short: str
    """What it is called when it is but a consequence."""


def found(
    kind: Kind,
    severity: Literal["alarm", "note"],
    layers: Sequence[str],
    what: str,
    cause: str,
    remedy: str,
    *,
    at: int = -1,
    upto: int | None = None,
    short: str = "",
) -> Found:
    """A verdict whose sentence is made of its parts.

    Args:
        what: the layers and what befalls them: "layers 37 to 100 explode, x1.14 a layer".
    """
    layers = tuple(dict.fromkeys(layers))
    text = f"{what}: {cause}; {remedy}"
    if not short:
        short = f"{kind} ({span(layers)})" if layers else kind
    return Found(Verdict(kind, severity, layers, cause, remedy, text), at, at if upto is None else upto, short)


def span(layers: Sequence[str]) -> str:
    """A run of layers in few words.

    >>> span(["0"]), span(["0", "2"]), span(["0", "2", "4"])
    ('0', '0 and 2', '0 to 4')
    """
    layers = list(dict.fromkeys(layers))
    if len(layers) < 3:
        return " and ".join(layers)
    return f"{layers[0]} to {layers[-1]}"


def listed(layers: Sequence[str], most: int = 4) -> str:
    """Layers that are no run, one by one as far as there is room.

    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c and 3 more'
    """
    layers = list(dict.fromkeys(layers))
    if len(layers) <= most:
        return ", ".join(layers)
    return f"{', '.join(layers[: most - 1])} and {len(layers) - most + 1} more"


def many(layers: Sequence[str], singular: str = "layer") -> str:
    """`layer 3`, `layers 3 to 30`."""
    return f"{singular}{'' if len(set(layers)) == 1 else 's'} {span(layers)}"


def times(factor: float) -> str:
    """A factor as a person reads it: x1.14, x0.03, x2e+05."""
    return f"x{factor:.3g}"


def ratio(a: float, b: float) -> float:
    """a / b, inf where b is zero and a is not; nan where neither is a number."""
    if b == 0:
        return math.inf if a > 0 else math.nan
    return a / b


def scheme_for(path: Path | None) -> str:
    """The call that mends a start after this function."""
    if path is None or path.kind != "activation":
        return "`initialize_(model, example)`"
    found = at(path, torch.tensor([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], dtype=torch.float64))
    if found is None:
        return "`initialize_(model, example)`"
    y = found[0]
    odd = (y.flip(0) - y)[:3] / torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    same = float((odd - odd.mean()).abs().max()) < 1e-6  # phi(u) - phi(-u) = c u: the mirrored start is exact
    linear = float((y - y[-1] / 2 * torch.tensor([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])).abs().max()) < 1e-6
    if same and not linear:
        return "`initialize_(model, example, scheme='mirror')`"
    return "`initialize_(model, example, scheme='shaped')`"


def softmax_axis(op: Op) -> int | None:
    """The axis that sums to one."""
    axis = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim")
    return axis if isinstance(axis, int) else None


def summed(op: Op) -> bool:
    """Whether a loss of torch's is a sum over samples (reduction 2)."""
    known = {"cross_entropy_loss": 3, "nll_loss": 3, "mse_loss": 2, "l1_loss": 2, "smooth_l1_loss": 2, "huber_loss": 2,
             "binary_cross_entropy": 3, "binary_cross_entropy_with_logits": 4, "kl_div": 2}  # fmt: skip
    at = known.get(op.name.lstrip("_"))
    return at is not None and (op.args[at] if len(op.args) > at else op.kwargs.get("reduction")) == 2
