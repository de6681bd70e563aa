"""Expectations of an activation over a Gaussian pre-activation: composite Gauss-Legendre that finds the kinks itself.

Gauss-Hermite nodes are wrong at kinks (1.7 % for hardtanh with 64 nodes). Panels of 20 Legendre nodes each settle or
are halved, all that have not settled in one call, until the integrals stand: right at kinks and jumps wherever they
lie.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.graph.chance import chance_kept

REACH = 12.0
"""The normal density beyond 12 standard deviations is below 1e-31."""
_NODES = 20
_PANELS = 96  # a quarter of a standard deviation each
_SETTLED = 1e-13  # of an integral, per panel: some hundred panels keep 1e-11
_NARROW = 1e-12  # a panel this wide holds at most 1e-12 of a bounded function's integral
_MOST_PANELS = 1 << 15
_PROBES = torch.tensor([-2.3, -1.1, -0.4, 0.2, 0.7, 1.9, 2.8], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Grid:
    """Points of a Gaussian pre-activation u = mean + scale z, with an activation's values there.

    All tensors are float64 and (N,), or (N, C) for `values` and `slopes` of an activation with C settings of its own
    (a PReLU with one slope a channel), whose expectation is the average over them.
    """

    z: Tensor
    """Standard normal coordinates, rising."""
    weights: Tensor
    """The density's share at each point; they sum to 1."""
    u: Tensor
    values: Tensor
    slopes: Tensor
    """phi'(u) as autograd has it, almost everywhere; central differences where autograd does not reach."""
    kinks: tuple[float, ...]
    """Values of u at which phi or its slope jumps, as far as they weigh anything."""

    def expect(self, values: Tensor) -> float:
        """E[values] for values given at the grid's points: (N,) or (N, C)."""
        columns = values.reshape(len(self.z), -1).mean(1)
        return float(self.weights @ columns)


def grid(phi: Callable[[Tensor], Any], *, mean: float = 0.0, scale: float = 1.0) -> Grid:
    """An activation on the points that its Gaussian expectations need.

    Args:
        phi: element-wise: a function or module of a tensor, or a plain function of a number. A module is copied, in
            float64 and eval mode.
        mean: of the pre-activation.
        scale: standard deviation of the pre-activation, above 0.

    Raises:
        ModelError: if `phi` is not element-wise, is random, gives NaN or inf, or has no second moment.

    >>> points = grid(torch.relu)
    >>> round(points.expect(points.values**2), 12)
    0.5
    """
    try:
        at, size = float(mean), float(scale)
    except (TypeError, ValueError):
        at, size = math.nan, math.nan
    if not (math.isfinite(at) and 0 < size < math.inf):
        raise ModelError(
            f"a pre-activation of mean {mean!r} and scale {scale!r} was asked for; both must be finite, and the scale "
            "above 0"
        )
    return _adaptive(Activation(phi), at, size)


class Activation:
    """A callable as an element-wise function on float64 points, with its slope.

    Args:
        phi: as in `grid`.
    """

    def __init__(self, phi: Callable[[Tensor], Any]):
        if not callable(phi):
            raise ModelError(f"an activation must be a function or module of a tensor, such as torch.tanh; got {phi!r}")
        self.name = name_of(phi)
        self.columns = 1
        self._call: Callable[[Tensor], Any] = phi
        with chance_kept(), _tracking():  # what is random is called, too, before it is refused
            if isinstance(phi, nn.Module):
                module = copy.deepcopy(phi).eval().double()
                slopes = {p.numel() for p in module.parameters() if p.numel() > 1}
                if len(slopes) == 1:  # one setting a channel: the second axis is the channels'
                    self.columns = slopes.pop()
                self._call = module
            self._way = self._find_way()
            self._check()

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """phi(u) and phi'(u) for u (N,): each (N,) or (N, C)."""
        given = self._columns(u)
        with _tracking():
            values, slopes = self._evaluate(given)
        wrong = ~torch.isfinite(values)
        if wrong.any():
            raise ModelError(
                f"the activation {self.name} gives {float(values[wrong][0])} at {float(given[wrong][0]):.4g}; "
                "a gain needs finite values everywhere: clamp its argument"
            )
        return values, torch.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0)

    def _columns(self, u: Tensor) -> Tensor:
        return u[:, None].repeat(1, self.columns) if self.columns > 1 else u

    def _find_way(self) -> Callable[[Tensor], Any]:
        """How phi can be called: on tensors that track, on arrays, on plain tensors, on float32, number by number."""
        u = self._columns(_PROBES)
        ways = (
            self._call,
            lambda u: self._call(u.detach().numpy()),
            lambda u: self._call(u.detach()),
            lambda u: self._call(u.detach().float()),
            lambda u: _by_number(self._call, u.detach()),
        )
        first: Exception | None = None
        for way in ways:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    answer = way(u.clone().requires_grad_() * 1.0)
            except Exception as error:  # whatever a user's function raises on what it does not take
                first = first or error
                continue
            if isinstance(answer, (Tensor, np.ndarray)) or way is self._call:
                return way
        raise ModelError(
            f"the activation {self.name} cannot be called on a tensor of {u.numel()} numbers: "
            f"{type(first).__name__}: {first}. Give an element-wise function, such as torch.tanh"
        ) from first

    def _values(self, u: Tensor) -> Tensor:
        """phi(u) as a float64 tensor of u's shape, whatever phi takes and gives."""
        answer = self._way(u * 1.0)
        if isinstance(answer, np.ndarray):
            answer = torch.from_numpy(answer)
        if not isinstance(answer, Tensor) or answer.shape != u.shape:
            got = f"a tensor of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
            raise ModelError(
                f"the activation {self.name} was given {tuple(u.shape)} numbers and answered {got}; an element-wise "
                "function answers one number for each"
            )
        if answer.is_complex():
            raise ModelError(f"the activation {self.name} answers complex numbers; expected real ones")
        return answer.double()

    def _evaluate(self, u: Tensor) -> tuple[Tensor, Tensor]:
        leaf = u.clone().requires_grad_()
        values = self._values(leaf)
        if values.requires_grad:
            (slopes,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
            return values.detach(), torch.zeros_like(u) if slopes is None else slopes
        step = 1e-6 * (1.0 + u.abs())
        return values, (self._values(u + step) - self._values(u - step)) / (2 * step)

    def _check(self) -> None:
        """Whether each number is answered for itself, and the same twice."""
        u = self._columns(_PROBES)
        together, again, apart = (self._values(part).detach() for part in (u, u, u[1::2]))
        if not torch.equal(torch.nan_to_num(together), torch.nan_to_num(again)):
            raise ModelError(
                f"the activation {self.name} is random: two calls on the same numbers differ; give its module, which "
                "is taken in eval mode, or a function with the chance taken out"
            )
        if not torch.allclose(together[1::2], apart, rtol=1e-6, atol=1e-9, equal_nan=True):
            raise ModelError(
                f"{self.name} is not element-wise: what it answers for a number depends on the numbers beside it "
                "(softmax and normalisation do so); moments are of element-wise functions"
            )


@contextmanager
def _tracking() -> Iterator[None]:
    """Slopes are wanted wherever the caller stands, under no_grad and in inference mode, too."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def name_of(phi: Callable[..., Any]) -> str:
    """How an activation is called: its class with settings, or its function's name.

    >>> name_of(nn.LeakyReLU(0.2)), name_of(torch.tanh)
    ('LeakyReLU(negative_slope=0.2)', 'tanh')
    """
    if isinstance(phi, nn.Module):
        return repr(phi) if not list(phi.children()) else type(phi).__name__
    return str(getattr(phi, "__name__", None) or type(phi).__name__)


def _by_number(phi: Callable[[Any], Any], u: Tensor) -> Tensor:
    """phi of a plain function of a number, at each number of u."""
    return torch.tensor([float(phi(x)) for x in u.flatten().tolist()], dtype=torch.float64).reshape(u.shape)


@cache
def _rule() -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def _panels(left: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Points (P, 20) of panels, and the normal density's weights there."""
    nodes, weights = _rule()
    z = left[:, None] + width[:, None] * nodes
    return z, width[:, None] * weights * torch.exp(-z * z / 2) / (2 * torch.pi) ** 0.5


def _integrals(z: Tensor, w: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """What is watched, panel by panel (P, 6): all that moments are made of."""
    y, dy, w, z = y.reshape(*z.shape, -1), dy.reshape(*z.shape, -1), w[..., None], z[..., None]
    square = y * y
    return torch.stack(
        [(w * t).sum(1).mean(-1) for t in (y, square, square * square, dy * dy, z * y, z * z * square)], 1
    )


def _adaptive(phi: Activation, mean: float, scale: float) -> Grid:
    left = torch.linspace(-REACH, REACH, _PANELS + 1, dtype=torch.float64)[:-1]
    width = torch.full_like(left, 2 * REACH / _PANELS)

    def look(left: Tensor, width: Tensor) -> tuple[Tensor, ...]:
        z, w = _panels(left, width)
        y, dy = phi((mean + scale * z).flatten())
        y, dy = y.reshape(*z.shape, *y.shape[1:]), dy.reshape(*z.shape, *dy.shape[1:])
        return left, width, z, w, y, dy, _integrals(z, w, y, dy)

    kept: list[tuple[Tensor, ...]] = []
    kinks: list[float] = []
    now = look(left, width)
    total = now[-1].abs().sum(0)
    while len(now[0]):
        left, width = now[0], now[1] / 2
        halves = look(torch.stack([left, left + width], 1).flatten(), width.repeat_interleave(2))
        error = (halves[-1].reshape(-1, 2, halves[-1].shape[1]).sum(1) - now[-1]).abs()
        settled = (error <= _SETTLED * total).all(1)
        narrow = ~settled & (width < _NARROW)
        kinks += (mean + scale * left[narrow]).tolist()
        done = (settled | narrow).repeat_interleave(2)
        kept.append(tuple(part[done] for part in halves))
        now = tuple(part[~done] for part in halves)
        _refuse_poles(phi, halves[-1][narrow.repeat_interleave(2)], total)
        total = torch.maximum(total, sum((part[-1].abs().sum(0) for part in kept), torch.zeros_like(total)))
        if sum(len(part[0]) for part in kept) + len(now[0]) > _MOST_PANELS:
            kept.append(now)  # a function with thousands of jumps: what remains is bounded by the panels' width
            break
    order = torch.argsort(torch.cat([part[0] for part in kept]))
    z, w, y, dy = (torch.cat([part[i] for part in kept])[order].flatten(0, 1) for i in (2, 3, 4, 5))
    _refuse_growth(phi, z, w, y, dy)
    ends = mean + scale * torch.cat([part[0] for part in kept]).unique()
    return Grid(z, w / w.sum(), mean + scale * z, y, dy, _gather([*kinks, *_jumps(phi, ends, scale)], scale))


def _jumps(phi: Activation, ends: Tensor, scale: float) -> list[float]:
    """Ends of panels at which phi or its slope jumps: kinks that lie there need no halving to be integrated rightly."""

    def change(step: float) -> tuple[Tensor, Tensor]:
        (left, left_slope), (right, right_slope) = phi(ends - step), phi(ends + step)
        return (right - left).abs() / (1.0 + left.abs()), (right_slope - left_slope).abs() / (1.0 + left_slope.abs())

    near, far = change(1e-9 * scale), change(1e-8 * scale)
    sharp = [(a > 1e-6) & (b < 3 * a) for a, b in zip(near, far)]  # what is only steep changes tenfold over ten steps
    return ends[(sharp[0] | sharp[1]).reshape(len(ends), -1).any(1)].tolist()


def _gather(places: list[float], scale: float) -> tuple[float, ...]:
    """One number for each place that several narrow panels point at."""
    found: list[float] = []
    for place in sorted(places):
        if not found or place - found[-1] > 1e-6 * scale:
            found.append(place)
    return tuple(round(place, 7) + 0.0 for place in found)


def _refuse_poles(phi: Activation, narrow: Tensor, total: Tensor) -> None:
    if len(narrow) and float((narrow[:, 1] / total[1].clamp(min=1e-300)).max()) > 1e-7:
        raise ModelError(
            f"the activation {phi.name} has a pole: its mean square over a Gaussian does not exist; clamp its argument"
        )


def _refuse_growth(phi: Activation, z: Tensor, w: Tensor, y: Tensor, dy: Tensor) -> None:
    """The last standard deviation must not matter: there the density is gone, and only growth could bring it back."""
    far = z.abs() > REACH - 1
    for values in (y, dy):
        mass = w * values.reshape(len(z), -1).square().mean(1)
        if not torch.isfinite(mass).all() or float(mass[far].sum()) > max(1e-9 * float(mass.sum()), 1e-20):
            raise ModelError(
                f"the activation {phi.name} grows without bound: its mean square over a Gaussian pre-activation does "
                "not settle within 12 standard deviations; use one that grows no faster than a power, or clamp its "
                "argument"
            )
