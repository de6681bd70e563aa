"""What a model of the fusing corpus is, and how its tables are written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tests.corpora import normal, seeded, settle

Must = Literal["exact", "refuse some"]


@dataclass(frozen=True)
class Model:
    """A module, in eval mode unless `why` says otherwise, and an example: a tensor, or a tuple of several.

    must: "exact": the fused module gives what the module gave, whatever was merged; "refuse some": so too, and a merge
        that looks possible would change the result, hence the report refuses it with a reason.
    layers: how many Linear and convolution layers are left when fusing is at its best, where that is beyond doubt.
    """

    name: str
    make: Callable[[torch.Generator], tuple[nn.Module, Any]]
    must: Must
    why: str
    layers: int | None = None


class Net(nn.Module):
    """A forward written as a function of the module and x, with layers and weights as attributes."""

    def __init__(self, f: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.f = f
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.f(self, x)


class NetOfTwo(Net):
    """The same for two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.f(self, x, y)


def model(
    name: str,
    build: Callable[[], nn.Module],
    *shapes: Any,
    must: Must = "exact",
    why: str = "",
    layers: int | None = None,
    dtype: torch.dtype = torch.float32,
    train: bool = False,
    of: Callable[[Tensor], Tensor] = lambda x: x,
) -> Model:
    """`build()` gives the module, its weights drawn by torch; `shapes` are those of its inputs, one or several."""

    def make(g: torch.Generator) -> tuple[nn.Module, Any]:
        module = settle(seeded(build, g), g).to(dtype).train(train)
        inputs = [of(normal(g, *shape, dtype=torch.float32)) for shape in shapes]
        inputs = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
        return module, inputs[0] if len(inputs) == 1 else tuple(inputs)

    return Model(name, make, must, why, layers)


def weights(*shape: int) -> nn.Parameter:
    """Weights of a layer written by hand."""
    return nn.Parameter(torch.randn(shape) / shape[-1] ** 0.5)


def channels(count: int) -> Tensor:
    """A constant a channel, (count, 1, 1), away from 0 and 1."""
    return torch.rand(count, 1, 1) + 1.5
