"""How much memory an answer may take: budgets as people write them, and what the machine has left."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from eitherway.base.errors import ModelError

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def as_bytes(memory: int | str | None) -> int | None:
    """A budget in bytes.

    Raises:
        ModelError: for what is no amount of memory.

    >>> as_bytes("200MB"), as_bytes("1.5 GiB"), as_bytes(None)
    (200000000, 1610612736, None)
    """
    if memory is None:
        return None
    amount: float | None = None
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kmgt]?i?b)\s*", memory.lower())
        amount = float(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None
    elif isinstance(memory, (int, float)) and not isinstance(memory, bool):
        amount = float(memory)
    if amount is None or not 0 < amount < float("inf"):
        raise ModelError(f"memory is {memory!r}; expected bytes, or text such as '200MB' or '2GiB'")
    return int(amount)


def as_text(amount: float) -> str:
    """Bytes as people say them.

    >>> as_text(74_000_000), as_text(38 * 2**30)
    ('74 MB', '40.8 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def available(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("MemAvailable")), None)
    return int(found.split()[1]) * 1024 if found else None


def must_fit(
    rows: int, columns: int, copies: int, dtype: torch.dtype, device: torch.device, budget: int | None, advice: str
) -> None:
    """Refuses a dense answer that cannot be held.

    Args:
        copies: samples of a batch, or 1.
        budget: bytes allowed; without one, what the device has free.
        advice: what to ask for instead.

    Raises:
        ModelError: how large it would be, and the advice.
    """
    size = rows * columns * copies * dtype.itemsize
    room = budget if budget is not None else available(device)
    if room is None or size <= room:
        return
    many = f"{copies} x " if copies > 1 else ""
    limit = f"the budget is {as_text(room)}" if budget is not None else f"{as_text(room)} are free on {device}"
    raise ModelError(
        f"the dense Jacobian, {many}{rows} x {columns} of {str(dtype).removeprefix('torch.')}, takes {as_text(size)} "
        f"and {limit}; {advice}"
    )
