"""Whether a cost draws from the random generators that all of a program shares, and so cannot be repeated."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np


class GlobalRandomness:
    """Whether anybody drew from the generators that all of a program shares."""

    def __init__(self) -> None:
        self.before = self._now()

    @staticmethod
    def _now() -> tuple[Any, ...]:
        legacy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - looked at, never drawn from
        torch = sys.modules.get("torch")
        drawn = None if torch is None else torch.get_rng_state().numpy().tobytes()
        return random.getstate(), legacy["state"]["pos"], legacy["state"]["key"].tobytes(), drawn

    def changed(self) -> bool:
        *ours, torch = self._now()
        # a cost may be the first to import torch: then nothing is known of its generator before
        return ours != list(self.before[:-1]) or (self.before[-1] is not None and torch != self.before[-1])
