"""What an architecture of the corpus is, and how it is made from a generator."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from tests.corpora import generator, seeded

NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True)
class Facts:
    """What every reader of the code would agree on. Names are dotted; patterns are those of `fnmatch`."""

    heads: tuple[str, ...]  # modules whose output no other weight reads; none where that is no module's output
    branches: tuple[str, ...] = ()  # parameters (patterns) inside a branch that is added to its own input
    norms: tuple[str, ...] = ()  # scales and shifts (patterns) of norms that are not torch's modules
    tied: tuple[tuple[str, ...], ...] = ()  # names of one and the same parameter
    reused: tuple[str, ...] = ()  # weights that one forward uses several times
    unread: tuple[str, ...] = ()  # parameters (patterns) that the loss does not depend on
    draws: bool = False  # the forward draws random numbers in training mode


@dataclass(frozen=True)
class Architecture:
    """A module as users write it, in training mode, and an example of its input: a tensor, a tuple or keywords."""

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    facts: Facts
    loss: Callable[[Any], Tensor] | None = None  # of the module's output
    slow: bool = False  # left to the slow suite: another of its kind is in the fast one

    def make(self, seed: int = 0) -> tuple[nn.Module, Any]:
        """The module as torch starts it and its example; torch's global generator stays as it was."""
        g = generator(self.name, seed)
        return seeded(self.build, g), seeded(self.example, g)


def call(module: nn.Module, example: Any) -> Any:
    """The module's answer to an example; what it draws comes from a fixed seed."""
    args, kwargs = ((), example) if isinstance(example, dict) else (example, {})
    args = args if isinstance(args, tuple) else (args,)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module(*args, **kwargs)


def answers(output: Any) -> list[Tensor]:
    """The tensors in an answer, in order."""
    if isinstance(output, Tensor):
        return [output]
    return [t for part in (output.values() if isinstance(output, dict) else output) for t in answers(part)]


def cost(architecture: Architecture, output: Any) -> Tensor:
    """The architecture's own loss, or the product of what comes out with fixed random numbers."""
    if architecture.loss is not None:
        return architecture.loss(output)
    g = generator("cotangent")
    return torch.stack(
        [(y * torch.randn(y.shape, generator=g)).sum() / y.numel() ** 0.5 for y in answers(output)]
    ).sum()


def norm_parameters(architecture: Architecture, module: nn.Module) -> set[str]:
    """Dotted names of all scales and shifts of norms, torch's and hand-written."""
    found = {
        f"{name}.{own}" if name else own
        for name, part in module.named_modules()
        if isinstance(part, NORMS)
        for own, _ in part.named_parameters(recurse=False)
    }
    return found | {n for n, _ in module.named_parameters() if matches(n, architecture.facts.norms)}


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a dotted name fits one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
