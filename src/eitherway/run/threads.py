"""How many threads linear algebra runs on: it decides the order of sums, and so the last digits of a run."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

_ASK = (
    "scipy_openblas_get_num_threads64_",  # in NumPy's wheels
    "scipy_openblas_get_num_threads",
    "openblas_get_num_threads64_",
    "openblas_get_num_threads",
    "MKL_Get_Max_Threads",
    "bli_thread_get_num_threads",
)
_NAMES = ("openblas", "mkl_rt", "blis")


def threads() -> dict[str, int]:
    """Threads by library: "blas", NumPy's, where it can be asked; "torch" where the program has imported it."""
    found = {}
    ask = _blas()
    if ask is not None:
        found["blas"] = int(ask())
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        found["torch"] = int(torch.get_num_threads())
    return found


def changed(kept: dict[str, int], now: dict[str, int]) -> str | None:
    """A sentence where a run goes on with other numbers of threads than it was begun with.

    >>> changed({"blas": 8}, {"blas": 1, "torch": 2})
    'begun with blas on 8 threads, going on with 1: sums may end in other digits than in a run without a break'
    """
    others = [name for name in kept if name in now and kept[name] != now[name]]
    if not others:
        return None
    olds = ", ".join(f"{name} on {kept[name]}" for name in others)
    news = ", ".join(str(now[name]) for name in others)
    return (
        f"begun with {olds} threads, going on with {news}: sums may end in other digits than in a run without a break"
    )


@cache
def _blas() -> Any:
    """The function of the loaded library that says how many threads it uses; None where there is none to be found."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            loaded = dict.fromkeys(line.split(maxsplit=5)[-1].strip() for line in file if ".so" in line)
    except OSError:  # not Linux
        return None
    libraries = [path for path in loaded if any(name in path.rpartition("/")[2] for name in _NAMES)]
    for path in sorted(libraries, key=lambda path: "numpy" not in path):  # SciPy and torch may bring their own
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for name in _ASK:
            if hasattr(library, name):
                return getattr(library, name)
    return None
