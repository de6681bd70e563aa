"""What the calculus is judged on, written before the code it judges: functions, faults, nets to fuse, nets to time.

Everything is made from a generator of its own: the same seed gives the same weights and the same example, and torch's
global generator is left as it was found.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Made = TypeVar("Made")


def generator(name: str, seed: int = 0) -> torch.Generator:
    """The generator an entry of this name is made from: no entry moves when another joins."""
    mixed = seed + 1
    for letter in name.encode():
        mixed = (mixed * 1_000_003 + letter) % (2**31 - 1)
    return torch.Generator().manual_seed(mixed)


def seeded(build: Callable[[], Made], g: torch.Generator) -> Made:
    """`build()` as torch initialises it, drawn from `g`; the global generator is restored."""
    seed = int(torch.randint(2**31 - 1, (), generator=g))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


@torch.no_grad()
def settle(module: nn.Module, g: torch.Generator) -> nn.Module:
    """Moves norms off their start (mean 0, variance 1, weight 1, bias 0) and every zero bias off zero; gives eval mode.

    A norm at its start hides most faults: a forgotten mean, a swapped weight and bias, the wrong axis.
    """

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return (torch.rand(like.shape, generator=g, dtype=torch.float64) * (high - low) + low).to(like.dtype)

    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if name == "running_mean":
                buffer.copy_(uniform(buffer, -0.7, 0.7))
            elif name == "running_var":
                buffer.copy_(uniform(buffer, 0.4, 2.5))
        for name, weights in part.named_parameters(recurse=False):
            if name.endswith("bias") and bool((weights == 0).all()):
                weights.copy_(uniform(weights, -0.5, 0.5))
            elif name == "weight" and weights.dim() == 1 and bool((weights == 1).all()):
                weights.copy_(uniform(weights, 0.5, 1.7))
    return module.eval()


def normal(g: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers of this shape, drawn from `g`."""
    return torch.randn(shape, generator=g, dtype=dtype)
