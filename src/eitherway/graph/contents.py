"""What tensors hold, left as it was: buffers that a call moves, and whatever else a run writes into."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

alone = threading.RLock()
"""Whoever exchanges what modules hold, or records a run, holds it meanwhile: threads may share a model."""


@contextmanager
def contents_kept(tensors: Iterable[Tensor]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Inside, tensors may be written into; afterwards they hold what they held.

    Args:
        tensors: those to keep; one that has another size afterwards stays as it is.

    Yields:
        Each tensor with a copy of what it holds; pairs added inside, before the first write, are put back, too.

    >>> mean = torch.zeros(2)
    >>> with contents_kept([mean]):
    ...     mean += 1
    >>> mean
    tensor([0., 0.])
    """
    before = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield before
    finally:
        with torch.no_grad():
            for tensor, content in reversed(before):  # of two that share memory the first added knows best
                if tensor.shape == content.shape:
                    tensor.data.copy_(content)  # unlike detach() it counts as no write: a backward may be pending


def moving_buffers(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Buffers that a call may move, running statistics and counters: those of modules in training mode."""
    return [b for module in modules if module.training for b in module._buffers.values() if b is not None]
