"""New contents beside the old: nothing is written into the model before all of it is known."""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Generator, Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from eitherway.base.keys import Key

STARTED: MutableMapping[Tensor, int] = WeakIdKeyDictionary()
"""How often parameters had been written when they were last started here."""


class Stage:
    """What parameters will hold, by name.

    Args:
        model: whose parameters are to be started.
        seed: draws of a parameter depend on the seed, its name and the purpose alone, not on what else is drawn.
    """

    def __init__(self, model: nn.Module, seed: int):
        self.live: dict[str, nn.Parameter] = dict(model.named_parameters())
        self.made: dict[str, Tensor] = {}
        self.key = Key(seed).child("initialize")

    def generator(self, name: str, purpose: str = "draw") -> Generator:
        """A fresh generator for one purpose of one parameter."""
        return self.key.child(name).torch(purpose)

    def tensor(self, name: str) -> Tensor:
        """What the parameter will hold; before anything is put there a copy of what it holds."""
        if name not in self.made:
            self.made[name] = self.live[name].detach().clone()
        return self.made[name]

    def put(self, name: str, content: Tensor, part: tuple[slice, ...] = ()) -> None:
        """Puts content into a parameter's place, or a part of it, rounded once; what overflows is held at the limit."""
        held = self.tensor(name)
        limit = torch.finfo(held.dtype).max
        region = held[part] if part else held
        region.copy_(content.clamp(-limit, limit))

    def fill(self, name: str, value: float) -> None:
        self.made[name] = torch.full_like(self.live[name].detach(), value)

    def commit(self) -> None:
        """Writes all of it into the parameters: the same objects, the same memory."""
        with torch.no_grad():
            for name, content in self.made.items():
                self.live[name].copy_(content)
                STARTED[self.live[name]] = self.live[name]._version


def multiplied(tensor: Tensor, factor: float) -> Tensor:
    """A product rounded once, whatever the dtype."""
    return (tensor.double() * factor).to(tensor.dtype)
