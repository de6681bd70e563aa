"""A table of an activation's slopes over operating points: where roots and windows are looked for.

Lines of points alpha -> alpha z + beta: beta fixed, or beta = kink + t alpha, because what a kink does depends on its
distance in standard deviations. On them Q' and C' are known to about 1e-6, enough to find where to solve exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from eitherway.signal.gain import moments
from eitherway.signal.quadrature import Activation

_ALPHAS = torch.logspace(-4, 0.5, 55, dtype=torch.float64)
_BETAS = torch.arange(-60, 61, dtype=torch.float64) / 10
_TIMES = torch.linspace(-6.5, 6.5, 53, dtype=torch.float64)
_Z = torch.linspace(-7, 7, 225, dtype=torch.float64)  # the trapezoidal rule, spectrally exact for what is smooth
_WEIGHTS = torch.exp(-(_Z**2) / 2) / torch.exp(-(_Z**2) / 2).sum()
JUMP_REACH = 6.5
"""Standard deviations that an operating point keeps from a jump of phi: beyond lies 1e-10 of the signal."""
_MOST_KINKS = 8
_EDGES = torch.linspace(-10, 10, 41, dtype=torch.float64)  # beyond 10 sigma lies 1e-23
_NODES, _NODE_WEIGHTS = (torch.from_numpy(part / 2 + shift) for part, shift in zip(leggauss(16), (0.5, 0.0)))


@dataclass(frozen=True)
class Family:
    """Lines of operating points: (R,) lines x (A,) alphas."""

    alphas: Tensor
    lines: Tensor
    """beta of each line, or t where `kink` is a number: beta = kink + t alpha."""
    kink: float | None
    q_slope: Tensor
    """(R, A)."""
    c_slope: Tensor
    """(R, A); inf where a jump of phi lies within `JUMP_REACH`."""

    def beta(self, line: float, alpha: float) -> float:
        """Mean of the pre-activation on a line, at an alpha."""
        return line if self.kink is None else self.kink + line * alpha


@dataclass(frozen=True)
class Table:
    """All families of one activation."""

    families: tuple[Family, ...]
    jumps: tuple[float, ...]
    """Where phi itself jumps."""
    piecewise_linear: bool
    sample: Sampler


def table(phi: Callable[[Tensor], Any]) -> Table:
    """Q' and C' of an activation over operating points with alpha from 1e-4 to 3."""
    known = Activation(phi)
    found = moments(phi)
    kinks = [k for k in found.kinks if abs(k) <= 10][:_MOST_KINKS]
    jumps = tuple(k for k in kinks if _jumps(known, k))
    families = [_family(known, _BETAS, None, jumps), *(_family(known, _TIMES, kink, jumps) for kink in kinks)]
    return Table(tuple(families), jumps, found.piecewise_linear, Sampler(known, tuple(kinks)))


def slopes_at(
    weights: Tensor, z: Tensor, values: Tensor, slopes: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and variance of phi(alpha z + beta), Q'(1) and C'(1) of its normalised form.

    Q' = alpha E[(phi - mu) phi' z] / Var = E[(phi - mu)^2 (z^2 - 1)] / (2 Var) (Stein), C' = alpha^2 E phi'^2 / Var.
    The mean is taken off before anything is squared: at a small alpha all of phi is mean.

    Args:
        weights: (N,), summing to 1.
        z: (N,) or (N, 1).
        values: (..., N) or, with settings a channel, (N, C).
        slopes: as `values`.
        alpha: standard deviation of the pre-activation.
    """
    if z.ndim > 1:  # averaged over channels: the signal of a layer is that of all its units
        weights, z = weights[:, None].expand_as(values).flatten() / values.shape[1], z.expand_as(values).flatten()
        values, slopes = values.flatten(), slopes.flatten()
    mu = values @ weights
    centred = values - mu[..., None]
    squares = centred * centred
    variance = squares @ weights
    q_slope = (squares * (z * z - 1)) @ weights / (2 * variance)
    return mu, variance, q_slope, alpha**2 * ((slopes * slopes) @ weights) / variance


class Sampler:
    """An activation's slopes at single operating points, from panels cut at its kinks: a search asks hundreds of times.

    Exact to about 1e-11 where phi is smooth between its kinks; who needs certainty asks `quadrature.grid`.
    """

    def __init__(self, phi: Activation, kinks: tuple[float, ...]):
        self._phi = phi
        self._kinks = torch.tensor(kinks, dtype=torch.float64)

    def __call__(self, alpha: float, beta: float) -> tuple[float, float, float, float]:
        """Mean, variance, Q'(1) and C'(1)."""
        cuts = (self._kinks - beta) / alpha
        edges = torch.cat([_EDGES, cuts[cuts.abs() < float(_EDGES[-1])]]).sort().values
        width = edges.diff()[:, None]
        z = (edges[:-1, None] + width * _NODES).flatten()
        weights = (width * _NODE_WEIGHTS).flatten() * torch.exp(-z * z / 2)
        values, slopes = self._phi(beta + alpha * z)
        z = z if values.ndim == 1 else z[:, None]
        mu, variance, q_slope, c_slope = slopes_at(weights / weights.sum(), z, values, slopes, alpha)
        return float(mu), float(variance), float(q_slope), float(c_slope)


def _family(phi: Activation, lines: Tensor, kink: float | None, jumps: tuple[float, ...]) -> Family:
    q_slopes, c_slopes = [], []
    for alpha in _ALPHAS.tolist():
        betas = lines if kink is None else kink + lines * alpha
        values, slopes = phi((betas[:, None] + alpha * _Z).flatten())
        if values.ndim > 1:  # settings a channel: their average
            values, slopes = values.mean(1), slopes.square().mean(1).sqrt()
        shape = len(lines), len(_Z)
        _, variance, q_slope, c_slope = slopes_at(_WEIGHTS, _Z, values.reshape(shape), slopes.reshape(shape), alpha)
        dead = ~(variance > (1e-10 * alpha) ** 2)
        for jump in jumps:
            dead |= (betas - jump).abs() < JUMP_REACH * alpha
        q_slopes.append(torch.where(dead, torch.inf, q_slope))
        c_slopes.append(torch.where(dead, torch.inf, c_slope))
    return Family(_ALPHAS, lines, kink, torch.stack(q_slopes, 1), torch.stack(c_slopes, 1))


def _jumps(phi: Activation, place: float) -> bool:
    values, _ = phi(torch.tensor([place - 2e-9, place + 2e-9], dtype=torch.float64))
    return float((values[1] - values[0]).abs().max()) > 1e-6
