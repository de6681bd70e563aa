"""Fair timing: calls that take turns, CPU and wall time, and the peak memory of one call in a process of its own.

Timings are of one process and one thread, with garbage collection off while the clock runs. In each repeat every call
has one turn, and the order moves on by one, so that a busy moment or a warm cache favours nobody. A call shorter than
`SLICE` is repeated within its turn, so that the clock's own cost does not count.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, quartiles

SLICE = 2e-3
"""Seconds that one turn lasts at least: the clocks are read in about 1e-6."""


@dataclass
class Times:
    """What the turns of one call took, in seconds a call."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The least CPU time: what the call takes when nobody disturbs it."""
        return min(self.cpu)

    @property
    def median(self) -> float:
        """The median CPU time."""
        return statistics.median(self.cpu)

    def text(self) -> str:
        """Least, median and quartiles of the CPU time in milliseconds.

        >>> Times([0.001, 0.002, 0.004], [0.001, 0.002, 0.004]).text()
        '1 ms, median 2 (1.5 to 3)'
        """
        low, middle, high = (digits(t * 1e3) for t in quartiles(self.cpu))
        return f"{digits(self.best * 1e3)} ms, median {middle} ({low} to {high})"


def digits(value: float) -> str:
    """A positive number with three significant digits and without an exponent.

    >>> digits(0.012345), digits(1.5), digits(1234.5)
    ('0.0123', '1.5', '1234')
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    places = max(2 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection inside; what lay about is collected before."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _turn(call: Callable[[], object], times: int) -> tuple[float, float]:
    """(CPU, wall) seconds a call, over that many calls in a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu / times, wall / times


def turns(names: Sequence[str], repeats: int) -> Iterator[str]:
    """Each name once a repeat, the order moved on by one from repeat to repeat.

    >>> list(turns("abc", 2))
    ['a', 'b', 'c', 'b', 'c', 'a']
    """
    for repeat in range(repeats):
        for i in range(len(names)):
            yield names[(i + repeat) % len(names)]


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int = 15) -> dict[str, Times]:
    """Times of calls that may be repeated at will; each is called twice before the clock starts.

    Args:
        calls: name -> a call without arguments; what it returns is thrown away.
        repeats: turns each of them has.
    """
    times, taken = {}, {name: Times() for name in calls}
    for name, call in calls.items():
        call()
        times[name] = max(math.ceil(SLICE / max(_turn(call, 1)[1], 1e-9)), 1)
    with without_collection():
        for name in turns(list(calls), repeats):
            cpu, wall = _turn(calls[name], times[name])
            taken[name].cpu.append(cpu)
            taken[name].wall.append(wall)
    return taken


def first_calls(makers: Mapping[str, Callable[[], Callable[[], object]]], repeats: int = 15) -> dict[str, Times]:
    """Times of calls that differ the second time: each turn makes a fresh one, off the clock, and calls it once.

    The first turn of each is thrown away: it pays for imports and for the first use of kernels.
    """
    taken = {name: Times() for name in makers}
    for make in makers.values():
        make()()
    for name in turns(list(makers), repeats):
        call = makers[name]()
        with without_collection():
            cpu, wall = _turn(call, 1)
        taken[name].cpu.append(cpu)
        taken[name].wall.append(wall)
    return taken


# --- memory -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peak:
    """The most memory one call held above what was there before it, and its CPU seconds; `why` it has neither."""

    bytes: float
    seconds: float
    why: str = ""


def _resident(name: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process, in bytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024


def _high_water(call: Callable[[], object]) -> Peak:
    """Of a call in this process, by the resident set. What the call returns is alive at the end, so it counts."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that is kept would hide as much of the peak
    Path("/proc/self/clear_refs").write_text("5")  # 5: the high-water mark starts afresh
    before, clock = _resident("VmRSS"), time.process_time()
    kept = call()
    seconds, after = time.process_time() - clock, _resident("VmHWM")
    del kept
    return Peak(max(after - before, 0), seconds)


def peak(maker: str, *arguments: Any, limit: float = 4e9, seconds: float = 240.0) -> Peak:
    """The memory and time of one call, in a fresh process; on Linux.

    Args:
        maker: "module:function"; the function builds what the call needs, warms up what does not count (imports, first
            uses of kernels), and returns the call, which takes no arguments.
        arguments: of the function; anything JSON can hold.
        limit: bytes of data the process may have; a call that asks for more has failed.
        seconds: after which the process is ended.
    """
    command = [sys.executable, "-m", "benchmarks.timing", maker, json.dumps(arguments), f"--limit={limit:.0f}"]
    # Fixed thresholds: large blocks are given back when they are freed, and never come from what was freed before.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    try:
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return Peak(math.nan, math.nan, f"more than {seconds:.0f} s")
    if run.returncode:
        return Peak(math.nan, math.nan, (run.stderr.strip().splitlines() or [f"ended by signal {-run.returncode}"])[-1])
    most, taken = run.stdout.strip().splitlines()[-1].split()
    return Peak(float(most), float(taken))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timing", description="Peak bytes and CPU s of a call.")
    parser.add_argument("maker", help="module:function that returns the call")
    parser.add_argument("arguments", help="of the function, as a JSON list")
    parser.add_argument("--limit", type=int, help="bytes of data this process may have")
    options = parser.parse_args()
    module, _, function = options.maker.partition(":")
    call = getattr(importlib.import_module(module), function)(*json.loads(options.arguments))
    if options.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (options.limit, options.limit))
    measured = _high_water(call)
    print(measured.bytes, measured.seconds)


if __name__ == "__main__":
    main()
