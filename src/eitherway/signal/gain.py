"""What an activation does to a Gaussian signal: its gain, its backward factor, its stability, its share of mean."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError, nearest
from eitherway.signal.quadrature import REACH, Activation, Grid, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SAME = 1e-9  # two numbers of float64 that a formula makes equal, after some operations
_WIDE = 2.0  # standard deviations that an identity must hold over to be of use: at half the scale, four
_TORCH_LINEAR = ("linear", "identity", "conv1d", "conv2d", "conv3d", *(f"conv_transpose{d}d" for d in (1, 2, 3)))


@dataclass(frozen=True)
class Moments:
    """The numbers that decide how a signal passes an activation phi when its pre-activation is u = mean + scale z.

    z is a standard normal. Source: Poole et al. 2016 (arXiv:1606.05340) and Schoenholz et al. 2017 (arXiv:1611.01232)
    for the maps of variances, correlations and gradients.
    """

    name: str
    at_mean: float
    at_scale: float
    mean: float
    """E phi(u)."""
    second: float
    """E phi(u)^2."""
    fourth: float
    """E phi(u)^4."""
    slope: float
    """E phi'(u)^2."""
    mean_slope: float
    """E phi'(u)."""
    stability: float
    """Q', the slope of the variance map at its fixed point: above 1 a width's noise grows from layer to layer."""
    odd: float | None
    """c where phi(u) - phi(-u) = c u for |u| <= `odd_reach`; None where there is no such c but 0."""
    odd_reach: float
    """Up to which |u| that identity holds: inf for ReLU, GELU, SiLU, Hardswish, Softplus; 6 for ReLU6; 0 for none."""
    kinks: tuple[float, ...]
    """Where phi or its slope jumps."""
    piecewise_linear: bool
    points: Grid = field(repr=False, compare=False)
    """phi and its slope at the quadrature's points."""

    @property
    def variance(self) -> float:
        """Var phi(u)."""
        return max(self.second - self.mean**2, 0.0)

    @property
    def gain(self) -> float:
        """1 / sqrt(E phi^2): weights N(0, gain^2 / fan_in) after phi put out unit variance (He et al. 2015, eq. 10)."""
        return self.second**-0.5

    @property
    def chi(self) -> float:
        """Growth of the squared gradient a layer, backward, when the gain keeps the variance forward."""
        return self.at_scale**2 * self.slope / self.second

    @property
    def mean_share(self) -> float:
        """C0 = (E phi)^2 / E phi^2: the share of the signal that is the same for every input."""
        return self.mean**2 / self.second

    @property
    def noise(self) -> float:
        """Var(phi^2) / (E phi^2)^2: a layer of n units has this over n as relative variance of its mean square."""
        return self.fourth / self.second**2 - 1.0

    @property
    def smooth(self) -> bool:
        return not self.kinks

    @property
    def edge(self) -> tuple[float, float] | None:
        """(sigma_w, sigma_b^2) that keep variance and gradient both, at the edge of chaos; None where there is no such.

        sigma_w^2 = 1 / E phi'^2, sigma_b^2 = q - sigma_w^2 E phi^2 (Schoenholz et al. 2017, eqs. 3 and 5).
        """
        if not 0 < self.slope < math.inf:
            return None
        bias = self.at_scale**2 - self.second / self.slope
        if bias < -_SAME * self.at_scale**2:
            return None
        return self.slope**-0.5, max(bias, 0.0)

    def __str__(self) -> str:
        return "\n".join(f"{label:<{self._wide}}  {value}" for label, value in self._rows())

    @property
    def _wide(self) -> int:
        return max(len(label) for label, _ in self._rows())

    def plot(self, axes: Axes | None = None) -> Axes:
        """phi and its slope where the pre-activation falls, over its density."""
        from eitherway.signal.curve import plot_curve

        return plot_curve(self, axes)

    def _rows(self) -> list[tuple[str, str]]:
        edge = self.edge
        law = f"N({self.at_mean:g}, {self.at_scale**2:g})"
        rows = [
            ("activation", f"{self.name} of u ~ {law}"),
            ("gain", f"{self.gain:.6g} (weights of variance gain^2 / fan_in keep the mean square)"),
            ("chi", f"{self.chi:.4g} (squared gradient a layer, backward: {_growth(self.chi)})"),
            ("stability Q'", f"{self.stability:.4g} ({_stability(self.stability)})"),
            ("mean share C0", f"{self.mean_share:.4g} (of the mean square; the same for every input)"),
            ("edge of chaos", f"sigma_w {edge[0]:.4g}, sigma_b^2 {edge[1]:.4g}" if edge else "none at this scale"),
        ]
        if self.odd is not None:
            reach = "" if self.odd_reach == float("inf") else f" for |u| <= {self.odd_reach:.4g}"
            exact = ": an exact start exists" if self.odd_reach >= _WIDE * self.at_scale else ""
            rows.append(("mirror", f"phi(u) - phi(-u) = {self.odd:.4g} u{reach}{exact}"))
        if self.kinks:
            shown = ", ".join(f"{place:.4g}" for place in self.kinks[:6]) + (", ..." if len(self.kinks) > 6 else "")
            rows.append(("kinks", f"at u = {shown}" + ("; linear between them" if self.piecewise_linear else "")))
        return rows

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = (
            f"<tr><th {left}>{html.escape(label)}</th><td {left}>{html.escape(value)}</td></tr>"
            for label, value in self._rows()
        )
        return f"<table>{''.join(rows)}</table>"


def moments(phi: Callable[[Tensor], Any], *, mean: float = 0.0, scale: float = 1.0) -> Moments:
    """Moments of any element-wise activation under a Gaussian pre-activation, by quadrature, right to 1e-9.

    Args:
        phi: element-wise: a function or module of a tensor, or a plain function of a number. A module is copied and
            taken in eval mode with its present parameters; one slope a channel (PReLU) is averaged over channels.
        mean: of the pre-activation.
        scale: standard deviation of the pre-activation.

    Raises:
        ModelError: if `phi` is constant, grows without bound, is random, gives NaN, or is not element-wise.

    >>> found = moments(torch.nn.functional.gelu)
    >>> round(found.gain, 4), round(found.chi, 3), round(found.stability, 3), round(found.mean_share, 3)
    (1.5335, 1.072, 1.144, 0.187)
    """
    points = grid(phi, mean=mean, scale=scale)
    y, dy, z = points.values, points.slopes, points.z.reshape(-1, *(1,) * (points.values.ndim - 1))
    first, second = points.expect(y), points.expect(y * y)
    activation = Activation(phi)
    spread = points.expect((y - first) ** 2)
    if spread <= 1e-24 * max(second, 1e-300):
        raise ModelError(
            f"the activation {activation.name} is constant ({first:.4g}) wherever a pre-activation of mean {mean:g} and"
            f" standard deviation {scale:g} falls: no signal passes it, and no gain can mend that"
        )
    odd, reach = _odd(activation)
    return Moments(
        name=activation.name,
        at_mean=float(mean),
        at_scale=float(scale),
        mean=first,
        second=second,
        fourth=points.expect(y**4),
        slope=_mean_square_slope(points),
        mean_slope=points.expect(dy),
        stability=points.expect(y * y * (z * z - 1)) / (2 * second),  # Stein: right where phi jumps, too
        odd=odd,
        odd_reach=reach,
        kinks=points.kinks,
        piecewise_linear=_piecewise_linear(points),
        points=points,
    )


def calculate_gain(phi: Callable[[Tensor], Any] | str, param: float | None = None) -> float:
    """The gain of any activation: 1 / sqrt(E phi(z)^2) for z ~ N(0, 1), exact to 1e-9.

    Like `torch.nn.init.calculate_gain`, which knows twelve names; the values are the integrals themselves, so that tanh
    has 1.5925 (torch: 5/3), sigmoid 1.8462 (1) and SELU 1 (3/4).

    Args:
        phi: an element-wise function or module, or a name from `torch`, `torch.nn.functional` or torch's own list.
        param: the negative slope of `"leaky_relu"`; other names take none.

    Raises:
        ModelError: if the name is unknown, or `phi` has no gain (see `moments`).

    >>> round(calculate_gain("relu") ** 2, 9), round(calculate_gain(torch.nn.functional.silu), 4)
    (2.0, 1.6765)
    """
    if isinstance(phi, str):
        phi = _named(phi, param)
    elif param is not None:
        raise ModelError(
            f"calculate_gain was given param={param!r} beside a function; a parameter goes with the name 'leaky_relu': "
            "put it into the function, such as torch.nn.LeakyReLU(0.2)"
        )
    return moments(phi).gain


def _named(name: str, param: float | None) -> Callable[[Tensor], Any]:
    """The function of a name: torch's linear ones are the identity."""
    if param is not None and name != "leaky_relu":
        raise ModelError(f"calculate_gain({name!r}) takes no param; got {param!r}. Only 'leaky_relu' has one")
    if name == "leaky_relu":
        if param is not None and (isinstance(param, bool) or not isinstance(param, (int, float))):
            raise ModelError(f"the negative slope of leaky_relu must be a number; got {param!r}")
        return nn.LeakyReLU(0.01 if param is None else float(param))
    if name in _TORCH_LINEAR:
        return nn.Identity()
    for home in (torch.nn.functional, torch):
        found = getattr(home, name, None)
        if callable(found) and not name.startswith("_") and not isinstance(found, type):
            return found
    known = (
        "relu",
        "leaky_relu",
        "gelu",
        "silu",
        "mish",
        "elu",
        "selu",
        "celu",
        "tanh",
        "sigmoid",
        "softplus",
        "linear",
    )
    raise ModelError(f"no activation is called {name!r}. {nearest(name, known)} Any function or module is taken, too")


def _mean_square_slope(points: Grid) -> float:
    """E phi'^2, and inf where it does not exist, as for the square root: near its pole no halving makes less of it."""
    squares = points.weights * points.slopes.reshape(len(points.z), -1).square().mean(1)
    gaps = points.z.diff()
    finest, fine = (float(squares[:-1][gaps < width].sum()) for width in (1e-12, 1e-7))
    total = float(squares.sum())
    return math.inf if finest > 1e-6 * total and finest > 0.1 * fine else total  # |u|^-p inside: p of 0.8 and more


def _odd(phi: Activation) -> tuple[float | None, float]:
    """c and its reach, where phi(u) - phi(-u) = c u."""
    u = torch.cat(
        [torch.logspace(-3, -1, 25, dtype=torch.float64), torch.linspace(0.1, REACH, 2400, dtype=torch.float64)[1:]]
    )
    difference = phi(u)[0] - phi(-u)[0]
    if difference.ndim > 1:
        return _odd_columns(u, difference)
    c = float(difference[0] / u[0])
    if abs(c) < 1e-6:
        return None, 0.0
    wrong = (difference - c * u).abs() > 1e-9 * (abs(c) * u).clamp(min=1.0)
    if not wrong.any():
        return c, float("inf")
    first = int(wrong.nonzero()[0])
    if u[first - 1] < 0.1 or first == 0:
        return None, 0.0
    low, high = float(u[first - 1]), float(u[first])
    for _ in range(50):
        middle = torch.tensor([(low + high) / 2], dtype=torch.float64)
        off = float((phi(middle)[0] - phi(-middle)[0] - c * middle).abs())
        low, high = (float(middle), high) if off <= 1e-9 * max(abs(c) * float(middle), 1.0) else (low, float(middle))
    return c, low


def _odd_columns(u: Tensor, difference: Tensor) -> tuple[float | None, float]:
    """With one setting a channel there is a common c only where all channels agree on it."""
    c = difference[0] / u[0]
    same = (c - c[0]).abs().max() <= _SAME and abs(float(c[0])) > 1e-6
    if same and float((difference - c * u[:, None]).abs().max()) <= 1e-8 * REACH:
        return float(c[0]), float("inf")
    return None, 0.0


def _piecewise_linear(points: Grid) -> bool:
    """Whether the slope is one number between neighbouring kinks."""
    slopes = points.slopes.reshape(len(points.z), -1)
    ends = [-float("inf"), *points.kinks, float("inf")]
    width = 1e-6 * max(float(points.u[-1] - points.u[0]) / (2 * REACH), 1e-300)
    for low, high in zip(ends, ends[1:]):
        inside = slopes[(points.u > low + width) & (points.u < high - width)]
        if len(inside) and float((inside.amax(0) - inside.amin(0)).max()) > 1e-7:
            return False
    return True


def _growth(chi: float) -> str:
    if abs(chi - 1) < 5e-4:
        return "kept"
    return (
        f"x{chi**50:.2g} over 100 layers in rms" if 1e-3 < chi**50 < 1e3 else f"x{chi**50:.0e} over 100 layers in rms"
    )


def _stability(slope: float) -> str:
    if slope > 1 + 1e-3:
        return "unstable: differences between samples grow"
    return "neutral: they stay" if slope > 1 - 1e-3 else "stable: they fade"
