"""Plain chains of width 512 as lists of matrices: the rivals' weights, drawn once a seed, and what is measured of them.

A chain is Linear, activation, Linear, ..., Linear. All rivals of one seed share their random matrices and differ in the
factor they put in front, so that a thousand layers stay affordable; an orthogonal matrix is the Q of the Gaussian one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from benchmarks.activations import Activation

WIDTH = 512
SAMPLES = 16
"""Unrelated inputs on which a chain is judged: 120 pairs."""
DATA = 64
"""Other inputs, which those who look at data are given."""


class Layer(NamedTuple):
    """y = factor * x W' + bias."""

    weight: Tensor
    factor: float
    bias: Tensor


@dataclass(frozen=True)
class Batches:
    """The inputs of one seed, each of rms 1, and the gradient that comes back from the loss.

    Args:
        data: (DATA, WIDTH), for those who look at data.
        judged: (SAMPLES, WIDTH).
        cotangent: (SAMPLES, WIDTH).
    """

    data: Tensor
    judged: Tensor
    cotangent: Tensor


def batches(seed: int) -> Batches:
    """Standard normals, each row divided by its rms."""
    generator = Generator().manual_seed(seed * 10 + 1)
    rows = [torch.randn(n, WIDTH, generator=generator) for n in (DATA, SAMPLES, SAMPLES)]
    return Batches(*(r / r.pow(2).mean(1, keepdim=True).sqrt() for r in rows))


class Draws:
    """The random matrices of one seed: (WIDTH, WIDTH) a layer, in three kinds.

    `gaussian` are standard normals, `orthogonal` their Q factors with a positive R, as `nn.init.orthogonal_` makes
    them, `uniform` and `biases` lie in [-1, 1].
    """

    def __init__(self, depth: int, seed: int) -> None:
        generator = Generator().manual_seed(seed * 10 + 2)
        self.gaussian = [torch.randn(WIDTH, WIDTH, generator=generator) for _ in range(depth)]
        self.orthogonal = []
        for matrix in self.gaussian:
            q, r = torch.linalg.qr(matrix)
            self.orthogonal.append(q * r.diagonal().sign())
        self.uniform = [torch.rand(WIDTH, WIDTH, generator=generator).mul_(2).sub_(1) for _ in range(depth)]
        self.biases = [torch.rand(WIDTH, generator=generator).mul_(2).sub_(1) for _ in range(depth)]


_NOTHING = torch.zeros(WIDTH)


def default(draws: Draws, activation: Activation, data: Tensor) -> list[Layer]:
    """torch's: weights and biases uniform within 1 / sqrt(fan_in)."""
    bound = WIDTH**-0.5
    return [Layer(w, bound, b * bound) for w, b in zip(draws.uniform, draws.biases, strict=True)]


def kaiming(draws: Draws, activation: Activation, data: Tensor) -> list[Layer]:
    """`kaiming_normal_` with torch's gain; the first layer with 1, for nothing stands before it."""
    return [Layer(w, (activation.gain if i else 1.0) * WIDTH**-0.5, _NOTHING) for i, w in enumerate(draws.gaussian)]


def orthogonal(draws: Draws, activation: Activation, data: Tensor) -> list[Layer]:
    """`orthogonal_` with the same gains."""
    return [Layer(w, activation.gain if i else 1.0, _NOTHING) for i, w in enumerate(draws.orthogonal)]


@torch.no_grad()
def lsuv(draws: Draws, activation: Activation, data: Tensor, tolerance: float = 0.1, attempts: int = 10) -> list[Layer]:
    """LSUV (Mishkin & Matas 2016, algorithm 1), going through the chain once with the batch it corrects for."""
    phi, layers, h = activation.make(), [], data
    for weight in draws.orthogonal:
        z, factor = h @ weight.T, 1.0
        for _ in range(attempts):
            variance = float((factor * z).var())
            if abs(variance - 1.0) < tolerance or not 0.0 < variance < float("inf"):
                break
            factor /= variance**0.5
        layers.append(Layer(weight, factor, _NOTHING))
        h = phi(factor * z)
    return layers


RIVALS: dict[str, Callable[[Draws, Activation, Tensor], list[Layer]]] = {
    "torch's default": default,
    "kaiming_normal_": kaiming,
    "orthogonal_": orthogonal,
    "LSUV": lsuv,
}


def suo(draws: Draws, activation: Activation, data: Tensor) -> list[Layer]:
    """What `dks` asks for on square layers: orthogonal matrices, biases zero."""
    return [Layer(w, 1.0, _NOTHING) for w in draws.orthogonal]


@cache
def replaced(name: str, depth: int) -> Callable[[Tensor], Tensor]:
    """The activation that DeepMind's `dks` puts in place of the one of that name in a plain chain.

    Its torch backend does not know the name "swish" although its base does, so that one is handed torch's SiLU.

    Raises:
        ValueError: where `dks` finds no parameters.
    """
    from absl import logging
    from dks.base.activation_transform import get_transformed_activations
    from dks.pytorch.activation_transform import _get_pytorch_activation_function as of_torch

    logging.set_verbosity(logging.ERROR)  # it warns of ReLU each time
    with np.errstate(all="ignore"):
        found = get_transformed_activations(
            [name],
            method="DKS",
            max_slope_func=lambda slope: slope ** (depth - 1),  # a chain: the product over its activations
            activation_getter=lambda wanted: nn.functional.silu if wanted == "swish" else of_torch(wanted),
        )
    return found[name]


# --- measuring --------------------------------------------------------------------------------------------------------


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers below 1e-38 are zero inside: vanishing chains would be slow for nothing. Restored afterwards."""
    tiny = torch.full((1,), 1e-40)
    flushed = float(tiny + tiny) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


def through(layers: Sequence[Layer], phi: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B, WIDTH) -> (B, WIDTH): the chain's output."""
    for i, (weight, factor, bias) in enumerate(layers):
        x = torch.addmm(bias, phi(x) if i else x, weight.T, alpha=factor)
    return x


def rms(x: Tensor) -> float:
    """The root of the mean square over all entries, in fp64."""
    return float(x.double().pow(2).mean().sqrt())


def error(y: Tensor, x: Tensor) -> float:
    """|rms of y / rms of x - 1|; infinite where y is not finite."""
    return abs(rms(y) / rms(x) - 1.0) if bool(y.isfinite().all()) else float("inf")


def measure(layers: Sequence[Layer], phi: Callable[[Tensor], Tensor], given: Batches) -> dict[str, float]:
    """What one chain does to signal, gradient and geometry, in fp32 and on inputs that nobody has seen before.

    Returns:
        error: |rms of the output / rms of the input - 1|; own: the same on the data that was shown to the start;
        gradient: rms at the input / rms at the output; cosine: its mean over all pairs of outputs; spread: the largest
        rms of an output by the smallest. What overflowed is infinite; 0 / 0 is nan.
    """
    x = given.judged.clone().requires_grad_()
    y = through(layers, phi, x)
    back = torch.autograd.grad(y, x, given.cotangent)[0]
    y = y.detach().double()
    sizes = y.pow(2).mean(1).sqrt()
    unit = y / (sizes[:, None] * WIDTH**0.5)
    cosines = (unit @ unit.T).fill_diagonal_(0.0)
    with torch.no_grad():
        own = through(layers, phi, given.data)
    return {
        "error": error(y, given.judged),
        "own": error(own, given.data),
        "gradient": rms(back) / rms(given.cotangent) if bool(back.isfinite().all()) else float("inf"),
        "cosine": float(cosines.sum() / (SAMPLES * (SAMPLES - 1))),
        "spread": float(sizes.max() / sizes.min()) if float(sizes.min()) > 0.0 else float("inf"),
    }


def of_model(model: nn.Sequential) -> list[Layer]:
    """The layers of a Sequential that was started as a module."""
    return [
        Layer(part.weight.detach(), 1.0, _NOTHING if part.bias is None else part.bias.detach())
        for part in model
        if isinstance(part, nn.Linear)
    ]


def description(model: nn.Module) -> list[Any]:
    """What must not change: names, identities, texts and hooks of all modules, and names and shapes of parameters."""
    modules = [
        (name, id(m), type(m).__name__, str(m), len(m._forward_hooks), len(m._forward_pre_hooks))
        for name, m in model.named_modules()
        if name
    ]
    return [*modules, *((name, tuple(p.shape)) for name, p in model.named_parameters())]
