"""Torch's global generators, left as they were: the processor's, and every GPU's that has been used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def chance_kept() -> Iterator[None]:
    """Inside, numbers may be drawn; afterwards no generator remembers it.

    >>> with chance_kept():
    ...     first = torch.rand(2)
    >>> bool((torch.rand(2) == first).all())
    True
    """
    used = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=used):
        yield


@contextmanager
def chance_seeded(seed: int = 0) -> Iterator[None]:
    """Inside, the processor's generator starts from a seed, so that equal runs draw alike; afterwards all are back.

    >>> with chance_seeded():
    ...     first = torch.rand(2)
    >>> with chance_seeded():
    ...     bool((torch.rand(2) == first).all())
    True
    """
    with chance_kept():
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        yield


def chance_now() -> Tensor:
    """The states of torch's global generators, on all devices that are in use."""
    others = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.cat([torch.get_rng_state(), *others]) if others else torch.get_rng_state()
