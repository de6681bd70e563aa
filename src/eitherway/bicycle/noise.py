"""The road's noise as a function of seed and step: nothing to draw in order, so a ride is the same alone and in any
batch.

The generator is a counter put through the finaliser of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable
pseudorandom number generators"): the seed is mixed to a key, key + (step + 1) * odd constant is mixed again, and the
upper 53 bits are the number. NumPy, torch and the compiled kernel compute the same integers, hence the same numbers
to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WEYL = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def keys(seeds: Any, *, xp: Any = np) -> Any:
    """(P,) 64-bit keys of (P,) integer seeds, as `uniform` wants them: uint64 in NumPy, int64 with the same bits in
    torch.
    """
    if xp is np:
        return _mix(np.asarray(seeds).astype(np.uint64) + np.uint64(WEYL), xp)  # seed 0 must not give key 0
    return _mix(xp.as_tensor(seeds, dtype=xp.int64) + _signed(WEYL), xp)


def uniform(key: Any, step: Any, *, xp: Any = np) -> Any:
    """Numbers in [-1, 1), float64, one for each key at one step; `step` is an integer or one integer a key.

    Args:
        key: (P,) from `keys`.
        step: which number of the stream; steps from -1 upwards, -1 is what a ride draws once before it starts.

    >>> bool(uniform(keys([7]), 3)[0] == uniform(keys([1, 7]), 3)[1])
    True
    """
    if xp is np:
        counter = (np.atleast_1d(np.asarray(step, dtype=np.int64)) + 1).astype(np.uint64)
        bits = _mix(key + counter * np.uint64(WEYL), xp) >> np.uint64(11)
        return bits.astype(np.float64) * 2.0**-52 - 1.0
    counter = xp.as_tensor(step, dtype=xp.int64) + 1
    return _shift(_mix(key + counter * _signed(WEYL), xp), 11).to(xp.float64) * 2.0**-52 - 1.0


def series(seeds: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """(P,) int64 seeds of the rides of learners who ride one after another: the learner's own seed first, then its
    series.
    """
    bits = keys(seeds) + np.asarray(episodes).astype(np.uint64) * np.uint64(WEYL)
    return np.where(np.asarray(episodes) == 0, seeds, keys(bits).view(np.int64))


def _mix(z: Any, xp: Any) -> Any:
    """SplitMix64's finaliser, a bijection of 64-bit integers; arithmetic modulo 2^64."""
    if xp is np:
        z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_2)
        return z ^ (z >> np.uint64(31))
    z = (z ^ _shift(z, 30)) * _signed(MIX_1)
    z = (z ^ _shift(z, 27)) * _signed(MIX_2)
    return z ^ _shift(z, 31)


def _shift(z: Any, bits: int) -> Any:
    """Logical shift to the right of signed integers: torch has no arithmetic on unsigned 64 bits."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(constant: int) -> int:
    """The signed integer with the same 64 bits."""
    return constant - (1 << 64) if constant >= 1 << 63 else constant
