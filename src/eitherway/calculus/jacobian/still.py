"""What a function's modules must look like for a plan to hold, and how they are left as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from eitherway.graph.capture import modules_of
from eitherway.graph.contents import alone, contents_kept, moving_buffers

Key = tuple[tuple[bool, ...], tuple[int, ...]]


class Still:
    """The modules that a callable reaches: their modes, the identity of what they hold, and their buffers.

    Inside `with still:` modules in training mode move copies of their buffers (running statistics, counters);
    afterwards their own are back, untouched. One thread at a time, where there are any.
    """

    def __init__(self, f: Callable[..., Any]):
        self.modules: list[nn.Module] = modules_of(f)
        held = [d for part in self.modules for d in (part._parameters, part._buffers, part._modules)]
        self.slots = [(d, name) for d in held for name in d]
        self.kept: list[list[tuple[dict[str, Tensor | None], str, Tensor]]] = []

    def key(self) -> Key:
        """Modes, and which parameters, buffers and modules stand there now."""
        return tuple([part.training for part in self.modules]), tuple([id(d.get(name)) for d, name in self.slots])

    @property
    def moves(self) -> bool:
        """Whether a call may move buffers: running statistics, counters."""
        return any(part.training and any(b is not None for b in part._buffers.values()) for part in self.modules)

    def __enter__(self) -> Still:
        kept = []
        if self.moves:
            alone.acquire()
            for part in self.modules:
                if part.training:
                    for name, buffer in part._buffers.items():
                        if buffer is not None:
                            kept.append((part._buffers, name, buffer))
                            part._buffers[name] = buffer.detach().clone()
        self.kept.append(kept)
        return self

    def __exit__(self, *failure: object) -> None:
        kept = self.kept.pop()
        for buffers, name, buffer in kept:
            buffers[name] = buffer
        if kept:
            alone.release()

    @contextmanager
    def contents(self) -> Iterator[None]:
        """Inside, repetitions of a captured run may write into the buffers themselves; afterwards they hold what they
        held."""
        with alone if self.moves else nullcontext(), contents_kept(moving_buffers(self.modules)):
            yield
