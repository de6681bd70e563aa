"""`scheme="torch"`: what the constructors of torch's modules draw, from generators of our own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from eitherway.signal.schemes import draw


@dataclass(frozen=True)
class TorchLaw:
    """How a module of torch's starts one of its parameters."""

    kind: Literal["uniform", "gaussian", "constant"]
    size: float
    """Standard deviation, or the constant."""
    fan_in: float
    text: str

    def draw(self, parameter: Tensor, generator: Generator) -> Tensor:
        """New content, in the parameter's dtype."""
        if self.kind == "constant":
            return torch.full_like(parameter, self.size)
        law = draw.uniform if self.kind == "uniform" else draw.gaussian
        made = law(parameter.shape, self.size, generator=generator, dtype=torch.float64)
        return made.to(parameter.dtype).to(parameter.device)


def torch_law(module: nn.Module, leaf: str, parameter: Tensor) -> TorchLaw | None:
    """The law of `reset_parameters` for one parameter of a module; None for modules that are not torch's.

    >>> torch_law(nn.Linear(3, 2), "weight", nn.Linear(3, 2).weight).text
    'U(-1/sqrt(3), 1/sqrt(3)), as torch.nn.Linear'
    """
    name = f"as torch.nn.{type(module).__name__}"
    if isinstance(module, nn.MultiheadAttention):
        if "bias" in leaf:
            return TorchLaw("constant", 0.0, math.nan, name) if leaf == "in_proj_bias" else _biased(module, leaf)
        bound = math.sqrt(6 / (parameter.shape[0] + parameter.shape[1]))
        return TorchLaw("uniform", bound / math.sqrt(3), parameter.shape[1], f"Xavier's uniform law, {name}")
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return _uniform(module.hidden_size, name)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return TorchLaw("gaussian", 1.0, 1.0, f"N(0, 1), {name}")
    if isinstance(module, nn.Bilinear):
        return _uniform(module.in1_features, name)
    if isinstance(module, NonDynamicallyQuantizableLinear) and leaf == "bias":
        return TorchLaw("constant", 0.0, math.nan, "as torch's attention")
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        weight = module.weight
        return _uniform(max(1, math.prod(weight.shape[1:])), name)
    normalises = nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | nn.modules.batchnorm._NormBase
    if isinstance(module, normalises) and leaf in ("weight", "bias"):
        return TorchLaw("constant", float(leaf == "weight"), math.nan, name)
    if isinstance(module, nn.PReLU):
        return TorchLaw("constant", 0.25, math.nan, name)
    return None


def _uniform(fan_in: int, name: str) -> TorchLaw:
    text = f"U(-1/sqrt({fan_in}), 1/sqrt({fan_in})), {name}"
    return TorchLaw("uniform", 1 / math.sqrt(3 * fan_in), fan_in, text)


def _biased(module: nn.MultiheadAttention, leaf: str) -> TorchLaw:
    """bias_k and bias_v, as Xavier's normal law draws (1, 1, E)."""
    width = module.embed_dim
    return TorchLaw("gaussian", math.sqrt(2 / (width + width)), width, "Xavier's normal law, as torch's attention")
