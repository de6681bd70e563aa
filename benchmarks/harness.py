"""What every benchmark shares: a stamp of what was measured where, spreads, tables, and files for the results."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CACHE = ROOT / "benchmarks" / ".cache"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def one_thread() -> None:
    """One thread a process, for ours and rivals alike. To be called before NumPy is imported."""
    for name in THREADS:
        os.environ.setdefault(name, "1")


def version(package: str) -> str:
    """The installed version of a distribution, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit that is measured; "+ changes" where tracked files of src differ from it."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        changed = subprocess.run(["git", "status", "--porcelain", "src"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown (git is not installed)"
    if head.returncode:
        return "unknown (not a git checkout)"
    return head.stdout.strip() + (" + changes" if changed.stdout.strip() else "")


def fingerprint(*places: str) -> str:
    """A hash of Python files, or of all those below a folder, named from the root: equal code gives equal results."""
    digest = hashlib.blake2b(digest_size=8)
    for place in places:
        for path in sorted((ROOT / place).rglob("*.py")) or [ROOT / place]:
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def processor() -> str:
    """The processor's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def stamp(packages: Sequence[str] = (), seeds: str = "") -> dict[str, Any]:
    """What was measured, where and under what load. No date: the commit has one."""
    return {
        "commit": commit(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "load when it started": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "threads a process": os.environ.get("OMP_NUM_THREADS", "not limited"),
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("numpy", *packages)),
        "seeds": seeds or "none",
    }


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """(lower quartile, median, upper quartile); of a single value, that value three times."""
    values = sorted(values)
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Median and quartiles as text.

    >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
    '3.0 (2.0 to 4.0)'
    """
    low, middle, high = quartiles(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table: the first column to the left, the rest to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def publish(name: str, title: str, parts: Sequence[str], stamp: dict[str, Any], raw: Any) -> None:
    """Writes results/NAME.md (title, parts, stamp) and results/NAME.json (stamp and raw numbers), and prints the page.

    Args:
        name: of the two files, without ending.
        title: one line.
        parts: paragraphs and tables, in order.
        stamp: as `stamp` gave it before the measurement began.
        raw: anything JSON can hold.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    stamped = "\n".join(f"- {key}: {value}" for key, value in stamp.items())
    page = "\n\n".join([f"# {title}", *parts, stamped]) + "\n"
    (RESULTS / f"{name}.md").write_text(page)
    (RESULTS / f"{name}.json").write_text(json.dumps({"stamp": stamp, "raw": raw}, indent=1) + "\n")
    print(page)
