"""What a function's modules must look like for a plan to hold, and how they are left as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from eitherway.graph.capture import owners

Key = tuple[tuple[bool, ...], tuple[int, ...]]


class Still:
    """The modules that a callable reaches: their modes, the identity of their parameters, and their buffers.

    Inside `with still:` modules in training mode move copies of their buffers (running statistics, counters);
    afterwards their own are back, untouched.
    """

    def __init__(self, f: Callable[..., Any]):
        self.modules: list[nn.Module] = list(dict.fromkeys(part for _, owner in owners(f) for part in owner.modules()))
        self.slots = [(part._parameters, name) for part in self.modules for name in part._parameters]
        self.kept: list[list[tuple[dict[str, Tensor | None], str, Tensor]]] = []

    def key(self) -> Key:
        """Modes and parameters as they are now."""
        return tuple([part.training for part in self.modules]), tuple([id(slot[name]) for slot, name in self.slots])

    def __enter__(self) -> Still:
        kept = []
        for part in self.modules:
            if part.training:
                for name, buffer in part._buffers.items():
                    if buffer is not None:
                        kept.append((part._buffers, name, buffer))
                        part._buffers[name] = buffer.detach().clone()
        self.kept.append(kept)
        return self

    def __exit__(self, *failure: object) -> None:
        for buffers, name, buffer in self.kept.pop():
            buffers[name] = buffer
