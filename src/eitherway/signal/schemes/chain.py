"""The weights of a plain chain, layer by layer, by any scheme: matrix, activation, matrix, ..., matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from eitherway.base.errors import ModelError, nearest
from eitherway.signal.gain import Moments, moments
from eitherway.signal.schemes import draw, plain
from eitherway.signal.schemes.choose import best
from eitherway.signal.schemes.edge import edge
from eitherway.signal.schemes.mirror import Mirror, mirror, weight
from eitherway.signal.schemes.shaped import Shape, affine, shape
from eitherway.signal.schemes.window import window

SCHEMES = (
    "none",
    "torch",
    "lecun",
    "xavier",
    "kaiming",
    "gain",
    "orthogonal",
    "edge",
    "shaped",
    "window",
    "mirror",
    "auto",
)


@dataclass(frozen=True)
class Layer:
    """One matrix of a chain, and in which units its output carries the signal."""

    weight: Tensor
    """(out, into)."""
    bias: Tensor | None
    """(out,)."""
    unit: float = 1.0
    """Standard deviation that the scheme wants its output to have."""
    centre: float = 0.0
    """Mean that the scheme wants its output to have."""


def chain(
    phi: Callable[[Tensor], Any] | None,
    scheme: str | float,
    widths: Sequence[int],
    *,
    generator: Generator,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Layer]:
    """The layers of a chain, drawn one at a time.

    Args:
        phi: the activation between two layers; None: there is none.
        scheme: one of `SCHEMES`: "none" draws from N(0, 1), "kaiming" takes the exact gain of phi, "gain" also corrects
            for the finite width, "auto" what `choose.best` says; or a number, the standard deviation of all weights.
        widths: of the input, of each layer's output: at least two numbers.
        generator: of all numbers.

    Raises:
        ModelError: if the scheme is unknown, or has no start for phi.

    >>> layers = list(chain(torch.relu, "mirror", [8, 6, 6, 8], generator=torch.Generator().manual_seed(0)))
    >>> [tuple(layer.weight.shape) for layer in layers]
    [(6, 8), (6, 6), (8, 6)]
    """
    if isinstance(scheme, bool) or not (isinstance(scheme, (int, float)) or scheme in SCHEMES):
        raise ModelError(f"no scheme is called {scheme!r}. {nearest(str(scheme), SCHEMES)} Or give a number")
    if not isinstance(scheme, str) and not 0 <= scheme < math.inf:
        raise ModelError(f"weights of standard deviation {scheme} were asked for; expected a finite number from 0 on")
    if len(widths) < 2 or min(widths) < 1:
        raise ModelError(
            f"a chain of widths {list(widths)} was asked for; expected the input's and one a layer, all > 0"
        )
    activations = len(widths) - 2
    if phi is None and scheme in ("auto", "edge", "gain", "kaiming", "mirror", "shaped", "window"):
        scheme = "orthogonal" if scheme in ("auto", "mirror", "shaped", "window") else "lecun"
    if scheme == "auto" and phi is not None:
        scheme = best(phi, max(activations, 1), width_even=min(widths[1:-1], default=2) > 1).name
    pairs = list(zip(widths, widths[1:]))
    if scheme == "mirror" and phi is not None:
        return _mirrored(mirror(phi), pairs, generator, dtype)
    if scheme in ("shaped", "window") and phi is not None:
        found = (shape if scheme == "shaped" else window)(phi, max(activations, 1))
        return _shaped(found, pairs, generator, dtype)
    return _plain(phi, scheme, pairs, generator, dtype)


def _mirrored(found: Mirror, pairs: list[tuple[int, int]], generator: Generator, dtype: torch.dtype) -> Iterator[Layer]:
    last = len(pairs) - 1
    for i, (into, out) in enumerate(pairs):
        unit = found.alpha if i < last else 1.0
        gain = unit * (found.gain if i else 1.0)
        yield Layer(
            weight(out, into, rows=i < last, columns=i > 0, gain=gain, generator=generator, dtype=dtype), None, unit
        )


def _shaped(found: Shape, pairs: list[tuple[int, int]], generator: Generator, dtype: torch.dtype) -> Iterator[Layer]:
    last = len(pairs) - 1
    for i, (into, out) in enumerate(pairs):
        matrix = draw.orthogonal(out, into, generator=generator, dtype=torch.float64)
        after = found if i < last else None
        matrix, bias = affine(matrix, before=found if i else None, after=after)
        unit, centre = (found.alpha, found.beta) if after else (1.0, 0.0)
        yield Layer(matrix.to(dtype), bias.to(dtype), unit, centre)


def _plain(
    phi: Callable[[Tensor], Any] | None,
    scheme: str | float,
    pairs: list[tuple[int, int]],
    generator: Generator,
    dtype: torch.dtype,
) -> Iterator[Layer]:
    found: Moments | None = moments(phi) if phi is not None and scheme in ("kaiming", "gain", "orthogonal") else None
    at = edge(phi) if phi is not None and scheme == "edge" else None
    for i, (into, out) in enumerate(pairs):
        before = found if i else None
        gain = before.gain if before else 1.0
        if scheme == "orthogonal":
            yield Layer(draw.orthogonal(out, into, gain=gain, generator=generator, dtype=dtype), None)
        elif scheme == "torch":
            bound = plain.torch_bound("linear", (out, into)) or 0.0
            matrix = draw.uniform((out, into), bound / 3**0.5, generator=generator, dtype=dtype)
            yield Layer(matrix, draw.uniform((out,), bound / 3**0.5, generator=generator, dtype=dtype))
        elif at is not None:
            sigma_w, sigma_b = (at.sigma_w, at.sigma_b) if i else (at.scale, 0.0)
            matrix = draw.gaussian((out, into), sigma_w / into**0.5, generator=generator, dtype=dtype)
            yield Layer(matrix, draw.gaussian((out,), sigma_b, generator=generator, dtype=dtype), at.scale)
        else:
            if scheme == "gain":
                gain *= plain.correction(before, into) if before else 1.0
                std = plain.std("kaiming", into, gain=gain)
            elif scheme == "xavier":
                std = plain.std("xavier", into, out)
            elif scheme == "kaiming":
                std = plain.std("kaiming", into, gain=gain)
            else:
                std = plain.std("lecun", into) if scheme == "lecun" else 1.0 if scheme == "none" else float(scheme)
            yield Layer(draw.gaussian((out, into), std, generator=generator, dtype=dtype), None)
