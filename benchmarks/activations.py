"""The 21 activations of the benchmarks on starting networks, what others call them, and chains made with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Activation:
    """What stands between two layers, and what others call it.

    Args:
        make: a fresh module.
        torch: its name and parameter for `torch.nn.init.calculate_gain`; None where torch has no gain for it, and
            people take ReLU's.
        dks: its name in DeepMind's package; None where that does not know it.
    """

    make: Callable[[], nn.Module]
    torch: tuple[str, float | None] | None = None
    dks: str | None = None

    @property
    def gain(self) -> float:
        """As `torch.nn.init.calculate_gain` says, or ReLU's."""
        of: Any = self.torch or ("relu", None)
        return nn.init.calculate_gain(*of)


class Sine(nn.Module):
    """The sine, which torch.nn does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(nn.ReLU, ("relu", None), "relu"),
    "leaky relu .01": Activation(nn.LeakyReLU, ("leaky_relu", 0.01), "leaky_relu"),
    "leaky relu .2": Activation(lambda: nn.LeakyReLU(0.2), ("leaky_relu", 0.2), "leaky_relu"),
    "relu6": Activation(nn.ReLU6),
    "elu": Activation(nn.ELU, None, "elu"),
    "celu .5": Activation(lambda: nn.CELU(0.5)),
    "selu": Activation(nn.SELU, ("selu", None), "selu"),
    "gelu": Activation(nn.GELU, None, "gelu_exact"),
    "silu": Activation(nn.SiLU, None, "swish"),
    "mish": Activation(nn.Mish),
    "hardswish": Activation(nn.Hardswish),
    "softplus": Activation(nn.Softplus, None, "softplus"),
    "logsigmoid": Activation(nn.LogSigmoid),
    "sigmoid": Activation(nn.Sigmoid, ("sigmoid", None), "sigmoid"),
    "hardsigmoid": Activation(nn.Hardsigmoid),
    "tanh": Activation(nn.Tanh, ("tanh", None), "tanh"),
    "hardtanh": Activation(nn.Hardtanh),
    "softsign": Activation(nn.Softsign, None, "softsign"),
    "tanhshrink": Activation(nn.Tanhshrink),
    "softshrink": Activation(nn.Softshrink),
    "sin": Activation(Sine),
}
"""The 21 element-wise activations: those of torch.nn without learned parameters, the sine, and two leaky slopes."""


def chain(layers: list[nn.Linear], activation: Activation) -> nn.Sequential:
    """Linear, activation, Linear, ..., Linear, of layers that are there already."""
    parts: list[nn.Module] = [layers[0]]
    for layer in layers[1:]:
        parts += [activation.make(), layer]
    return nn.Sequential(*parts)
