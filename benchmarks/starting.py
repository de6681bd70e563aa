"""How a network's weights are started by others: torch's ways as people call them, and LSUV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from benchmarks.activations import Activation

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""What a user's `isinstance` in `model.apply` usually names."""


# --- torch's own ways -------------------------------------------------------------------------------------------------


@torch.no_grad()
def default(model: nn.Module, generator: Generator) -> None:
    """What `reset_parameters` of Linear and of the convolutions draws: kaiming_uniform_(a=5**0.5), biases likewise."""
    for module in model.modules():
        if isinstance(module, WEIGHTED):
            weight: Any = module.weight
            nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
            if module.bias is not None:
                fan_in = weight[0].numel()
                nn.init.uniform_(module.bias, -(fan_in**-0.5), fan_in**-0.5, generator=generator)


def kaiming(model: nn.Module, generator: Generator, activation: Activation) -> None:
    """Normal weights of std gain / sqrt(fan_in), which is what `kaiming_normal_` draws, for every layer."""
    _each(model, activation, lambda w, gain: w.normal_(0.0, gain * w[0].numel() ** -0.5, generator=generator))


def orthogonal(model: nn.Module, generator: Generator, activation: Activation) -> None:
    """`orthogonal_` with the same gain, for every layer."""
    _each(model, activation, lambda w, gain: nn.init.orthogonal_(w, gain, generator=generator))


@torch.no_grad()
def _each(model: nn.Module, activation: Activation, draw: Callable[[Tensor, float], Any]) -> None:
    """Every layer with the activation's gain, the first with 1, for nothing stands before it; biases zero."""
    layers = [module for module in model.modules() if isinstance(module, WEIGHTED)]
    for i, layer in enumerate(layers):
        draw(layer.weight, activation.gain if i else 1.0)
        if layer.bias is not None:
            layer.bias.zero_()


# --- LSUV -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def lsuv_(model: nn.Module, batch: Tensor, generator: Generator, tolerance: float = 0.1, attempts: int = 10) -> None:
    """Layer-sequential unit variance (Mishkin & Matas 2016, arXiv:1511.06422, algorithm 1), in place.

    Orthonormal weights first, biases zero; then, layer by layer in the order of the forward pass, each weight is
    divided by the standard deviation of the layer's output on one batch until its variance is within `tolerance` of 1,
    at most `attempts` times. Each look is a forward pass of the whole model, as in the packages that offer it.
    """
    order: list[nn.Module] = []
    layers = [module for module in model.modules() if isinstance(module, WEIGHTED)]
    hooks = [layer.register_forward_hook(lambda layer, _, y: order.append(layer)) for layer in layers]
    model(batch)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        nn.init.orthogonal_(layer.weight, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    for layer in dict.fromkeys(order):
        weight: Any = layer.weight
        for _ in range(attempts):
            variance = _variance(model, layer, batch)
            if abs(variance - 1.0) < tolerance or not 0.0 < variance < float("inf"):
                break
            weight.div_(variance**0.5)


class _Seen(Exception):
    """The layer that was asked for has been reached."""


def _variance(model: nn.Module, layer: nn.Module, batch: Tensor) -> float:
    """Of the layer's output on the batch; the forward pass ends there."""
    seen: list[float] = []

    def look(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(float(output.var()))
        raise _Seen

    hook = layer.register_forward_hook(look)
    try:
        model(batch)
    except _Seen:
        pass
    finally:
        hook.remove()
    return seen[0]


Start = Callable[[nn.Module, Tensor, int], Any]
"""Starts a model, given a batch and a seed; returns a report or None."""


def starts(activation: Activation) -> Mapping[str, Start]:
    """The rivals for a model whose layers are all followed by the same activation."""

    def by(seed: int) -> Generator:
        return Generator().manual_seed(seed)

    return {
        "torch's default": lambda model, batch, seed: default(model, by(seed)),
        "kaiming_normal_": lambda model, batch, seed: kaiming(model, by(seed), activation),
        "orthogonal_": lambda model, batch, seed: orthogonal(model, by(seed), activation),
        "LSUV": lambda model, batch, seed: lsuv_(model, batch, by(seed)),
    }
