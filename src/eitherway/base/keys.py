"""Randomness as a function of seed, path, turn and purpose: nothing to save, nothing to restore."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import bit_generator

if TYPE_CHECKING:
    import torch


class _Words(bit_generator.ISeedSequence):
    """Seeds a bit generator with a digest as it stands: NumPy's own seed sequence costs ten times as much."""

    def __init__(self, digest: bytes):
        self.digest = digest

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return np.frombuffer(self.digest, dtype)[:n_words]


@dataclass(frozen=True, slots=True)
class Key:
    """Opens generators by name. The same name always gives the same numbers, so every use has a name of its own.

    Args:
        seed: any integer.
        turn: the clock of whoever draws; the engine advances it once a turn.
        path: who draws, from the outside inwards; `child` extends it.

    >>> Key(0).numpy("points").random() == Key(0).numpy("points").random()
    True
    >>> Key(0).numpy("points").random() == Key(0).at(1).numpy("points").random()
    False
    """

    seed: int
    turn: int = 0
    path: tuple[str, ...] = ()

    def at(self, turn: int) -> Key:
        """The same key at another turn."""
        return Key(self.seed, turn, self.path)

    def child(self, name: str) -> Key:
        """A key of its own for a part, so that the part draws as it would alone under the same path."""
        return Key(self.seed, self.turn, (*self.path, name))

    def integer(self, purpose: str) -> int:
        """A non-negative integer below 2^56, to seed what is not ours."""
        return int.from_bytes(self._digest(purpose)[:7], "little")

    def numpy(self, purpose: str) -> np.random.Generator:
        """A fresh NumPy generator (PCG64)."""
        words: Any = _Words(self._digest(purpose))
        return np.random.Generator(np.random.PCG64(words))

    def torch(self, purpose: str, device: str = "cpu") -> torch.Generator:
        """A fresh torch generator. The CPU one keeps 32 bits of a seed, so the seed is hashed, never added to."""
        import torch

        generator = torch.Generator(device)
        return generator.manual_seed(int.from_bytes(self._digest(purpose)[:4], "little"))

    def _digest(self, purpose: str) -> bytes:
        return blake2b(repr((int(self.seed), self.turn, self.path, purpose)).encode(), digest_size=32).digest()
