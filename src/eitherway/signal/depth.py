"""A hundred matrices: what becomes of a vector that passes one layer after another, by every way of starting them."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.quadrature import Activation, name_of
from eitherway.signal.schemes.chain import Layer, chain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = float(torch.finfo(torch.float32).tiny)
_KEPT = (0.5, 2.0)  # rms at the end that counts as kept
_SHORT = {"none": "N(0, 1)", "lecun": "sqrt(1/n)", "kaiming": "Kaiming", "xavier": "Glorot", "torch": "torch's own"}


@dataclass(frozen=True)
class Carry:
    """What became of a batch of random vectors on its way through a chain of layers, in float32."""

    activation: str
    """Name of the function between the layers; "" where there is none."""
    scheme: str
    width: int
    depth: int
    samples: int
    rms: tuple[float, ...]
    """Of the input, and of each layer's output in the units its scheme wants it in: depth + 1 numbers; inf from the
    layer on that overflows."""
    overflow: int | None
    """The first layer, counted from 1, whose output holds an infinite number."""
    vanished: int | None
    """The first layer whose output is below float32's smallest normal number, 1.2e-38."""
    gradient: float
    """Rms of a gradient at the input over its rms at the output: the root mean square of the Jacobian's singular
    values, seen by carrying random directions. nan where the signal overflows."""
    cosine: float
    """Mean cosine between the outputs of unrelated inputs: 0 as it was at the input, 1 where all became alike."""
    spread: float
    """Largest over smallest rms of a sample at the end."""

    @property
    def label(self) -> str:
        scheme = _SHORT.get(self.scheme, self.scheme)
        return f"{self.activation}, {scheme}" if self.activation else scheme

    @property
    def verdict(self) -> str:
        """What happened, in a few words."""
        if self.overflow is not None:
            return f"overflows at layer {self.overflow}"
        if self.vanished is not None:
            return f"vanishes at layer {self.vanished}"
        last = self.rms[-1]
        step = (last / self.rms[1]) ** (1 / max(self.depth - 1, 1)) if self.rms[1] > 0 else 0.0
        if not _KEPT[0] <= last <= _KEPT[1]:
            return f"{'grows to' if last > 1 else 'shrinks to'} {last:.2g}, x{step:.3g} a layer"
        wrong = []
        if not 0.2 < self.gradient < 5:
            wrong.append(f"the gradient becomes x{self.gradient:.2g}")
        if self.cosine > 0.5:
            wrong.append("all inputs become alike")
        if self.spread > 10:
            wrong.append("few samples carry the rest")
        return "stays" if not wrong else "stays, but " + " and ".join(wrong)

    def __str__(self) -> str:
        head = f"{self.depth} layers of width {self.width}, {self.samples} samples: {self.label}"
        every = max(1, self.depth // 10)
        steps = "  ".join(f"{i}: {self.rms[i]:.3g}" for i in range(0, self.depth + 1, every))
        return (
            f"{head}\n{self.verdict}\nrms  {steps}\n"
            f"gradient x{self.gradient:.3g}, mean cosine {self.cosine:.3f}, largest over smallest sample "
            f"{self.spread:.3g}"
        )

    def _repr_html_(self) -> str:
        return _table([self])

    def plot(self, axes: Axes | None = None) -> Axes:
        """The rms layer by layer, on a logarithmic scale."""
        return _plot([self], axes)


@dataclass(frozen=True)
class Demonstration:
    """Several ways of starting the same layers, side by side."""

    cases: tuple[Carry, ...]

    def __str__(self) -> str:
        first = self.cases[0]
        wide = max(len(case.label) for case in self.cases)
        lines = [
            f"{first.depth} layers of width {first.width}, {first.samples} samples of rms 1; rms of the last layer"
        ]
        for case in self.cases:
            lines.append(f"{case.label:<{wide}}  {case.rms[-1]:>9.3g}  gradient x{case.gradient:<8.2g} {case.verdict}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _table(self.cases)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Every case's rms layer by layer, on a logarithmic scale, named at its end."""
        return _plot(self.cases, axes)


def carry(
    phi: Callable[[Tensor], Any] | None = None,
    scheme: str | float = "none",
    *,
    width: int = 512,
    depth: int = 100,
    samples: int = 64,
    seed: int = 0,
) -> Carry:
    """Send random vectors of rms 1 through `depth` matrices with an activation between them, and say what arrives.

    Args:
        phi: the activation; None: matrices alone.
        scheme: how the matrices are drawn: a standard deviation, or one of `schemes.chain.SCHEMES`.
        width: of every layer.
        depth: how many matrices.
        samples: how many vectors; two at least, for the cosine.
        seed: of everything drawn.

    Raises:
        ModelError: if a size, the seed or the scheme makes no sense, the scheme has no start for `phi`, or `phi` is not
            one function for all units.

    >>> carry().verdict
    'overflows at layer 28'
    """
    sizes = (width, depth, samples)
    if not all(map(_whole, sizes)) or min(width, depth) < 1 or samples < 2:
        raise ModelError(
            f"carry got width={width!r}, depth={depth!r}, samples={samples!r}; expected positive whole sizes and "
            "at least two samples"
        )
    if not _whole(seed) or not -(2**63) <= seed < 2**63:  # what torch's generators take
        raise ModelError(f"carry got seed={seed!r}; expected a whole number of at most 63 bits")
    known = None if phi is None else Activation(phi)
    if known is not None and known.columns > 1:
        raise ModelError(
            f"{known.name} has {known.columns} settings, one a channel; carry needs one function for all units: give "
            "one setting, such as torch.nn.PReLU()"
        )
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(samples, width, generator=generator)
    h /= h.square().mean().sqrt()
    direction = torch.randn(samples, width, generator=generator)
    direction /= direction.square().mean().sqrt()
    rms, overflow, vanished = [1.0], None, None
    grown = 0.0  # log of what the direction was multiplied with: its own numbers stay near 1
    layers = chain(phi, scheme, [width] * (depth + 1), generator=generator)
    for i, layer in enumerate(layers, 1):
        u, direction = _pass(layer, h), direction @ layer.weight.T
        size = float(direction.double().square().mean().sqrt())
        if math.isfinite(size) and size > 0:
            direction, grown = direction / size, grown + math.log(size)
        else:
            grown = math.inf if size else -math.inf
        if not torch.isfinite(u).all():
            overflow = i
            break
        rms.append(_rms(u, layer))
        if rms[-1] < _SMALLEST:
            vanished = vanished or i
        h = u
        if known is not None and i < depth:
            values, slopes = known(u.double().flatten())
            h, slopes = values.reshape(u.shape).float(), slopes.reshape(u.shape).float()
            direction = direction * slopes
    rms += [math.inf] * (depth + 1 - len(rms))
    cosine, spread = (math.nan, math.nan) if overflow or not rms[-1] > 0 else _geometry(h)
    gradient = math.exp(grown) if grown < 700 else math.inf
    return Carry(
        activation="" if phi is None else name_of(phi),
        scheme=scheme if isinstance(scheme, str) else f"{scheme:g}",
        width=width,
        depth=depth,
        samples=samples,
        rms=tuple(rms),
        overflow=overflow,
        vanished=vanished,
        gradient=gradient if overflow is None else math.nan,
        cosine=cosine,
        spread=spread,
    )


def demonstration(width: int = 512, depth: int = 100, seed: int = 0, *, samples: int = 64) -> Demonstration:
    """A hundred matrices by the old rules and by ours, side by side; `.plot()` draws them in one picture.

    >>> shown = demonstration(width=64, depth=100, samples=8)
    >>> [case.verdict for case in shown.cases[:2]]
    ['overflows at layer 43', 'vanishes at layer 35']
    """
    F = torch.nn.functional
    cases: Sequence[tuple[Callable[[Tensor], Any] | None, str | float]] = (
        (None, "none"),
        (None, 0.01),
        (torch.tanh, "lecun"),
        (torch.relu, "kaiming"),
        (torch.relu, "xavier"),
        (torch.relu, "torch"),
        (F.gelu, "kaiming"),
        (F.silu, "kaiming"),
        (torch.tanh, "kaiming"),
        (torch.relu, "gain"),
        (torch.relu, "orthogonal"),
        (torch.tanh, "edge"),
        (torch.relu, "mirror"),
        (F.gelu, "mirror"),
        (torch.tanh, "shaped"),
        (F.hardtanh, "window"),
    )
    return Demonstration(
        tuple(carry(phi, how, width=width, depth=depth, samples=samples, seed=seed) for phi, how in cases)
    )


def _whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _pass(layer: Layer, h: Tensor) -> Tensor:
    u = h @ layer.weight.T
    return u if layer.bias is None else u + layer.bias


def _rms(u: Tensor, layer: Layer) -> float:
    return float(((u.double() - layer.centre) / layer.unit).square().mean().sqrt())


def _geometry(h: Tensor) -> tuple[float, float]:
    """Mean cosine between different samples, and the largest over the smallest of their norms."""
    rows = h.double()
    norms = rows.norm(dim=1).clamp(min=1e-300)
    unit = rows / norms[:, None]
    n = len(rows)
    cosine = (float(unit.sum(0).square().sum()) - n) / (n * (n - 1))
    return cosine, float(norms.max() / norms.min())


def _table(cases: Sequence[Carry]) -> str:
    left = "style='text-align:left'"
    head = "".join(
        f"<th {left}>{name}</th>"
        for name in ("activation, start", "rms at the end", "gradient", "mean cosine", "largest / smallest sample", "")
    )
    rows = "".join(
        f"<tr><td {left}>{html.escape(case.label)}</td><td>{case.rms[-1]:.3g}</td><td>x{case.gradient:.3g}</td>"
        f"<td>{case.cosine:.3f}</td><td>{case.spread:.3g}</td><td {left}>{html.escape(case.verdict)}</td></tr>"
        for case in cases
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _plot(cases: Sequence[Carry], axes: Axes | None) -> Axes:
    from eitherway.signal.depth_plot import plot_cases

    return plot_cases(cases, axes)
