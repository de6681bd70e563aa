"""Plain MLPs of 50 layers on scikit-learn's digits, 150 steps of Adam: what a start is worth, us and the rivals.

python -m benchmarks.digits_depth --publish
"""

from __future__ import annotations

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks import initialized
from benchmarks.digits import BATCH, DEPTH, OURS, RIVALS, STARTS, STEPS, WIDTH, Cell, train
from benchmarks.kept import Kept

SEEDS = 5
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Everybody gets all of them."""
GOALS = {"relu": 0.93, "gelu": 0.93, "tanh": 0.90}
"""Test accuracy that ours should have."""


def versions() -> Callable[[Cell], str]:
    """A cell counts for the code it was measured with, and for ours while a chain is started with the same bits."""
    measured = harness.fingerprint(*(f"benchmarks/{name}.py" for name in ("digits", "starting", "activations")))

    def version(cell: Cell) -> str:
        if cell.start not in OURS:
            return measured
        return f"{measured} {initialized.same_weights(cell.activation, DEPTH, OURS[cell.start])}"

    return version


def chosen(cells: dict[Cell, dict[str, Any]], activation: str, start: str) -> list[tuple[float, float]]:
    """(rate, test accuracy) of each seed, at the rate with its best validation accuracy; of equals the least rate."""
    found = []
    for seed in range(SEEDS):
        of = [(rate, cells.get(Cell(activation, start, seed, rate), {})) for rate in RATES]
        ran = [(rate, run) for rate, run in of if "test" in run]
        if ran:
            rate, run = max(ran, key=lambda pair: (pair[1]["validation"], -pair[0]))
            found.append((rate, run["test"]))
    return found


def tables(cells: dict[Cell, dict[str, Any]], activations: Sequence[str], starts: Sequence[str]) -> list[str]:
    """Test accuracies at the rate that each seed chose, and how validation accuracy depends on the rate."""
    ends, rates = [], []
    for activation in activations:
        for start in starts:
            picked = chosen(cells, activation, start)
            if not picked:
                continue
            tests = [test for _, test in picked]
            middle, goal = statistics.median(tests), GOALS[activation] if start in OURS else 0.0
            text = f"{middle:.3f}" if middle >= goal else f"**{middle:.3f}**"
            schemes = {
                run["scheme"] for cell, run in cells.items() if cell[:2] == (activation, start) and "scheme" in run
            }
            line = [activation, start, " / ".join(sorted(schemes)), text, f"{min(tests):.3f} to {max(tests):.3f}"]
            ends.append([*line, ", ".join(f"{rate:g}" for rate, _ in picked), len(picked)])
            by_rate = []
            for rate in RATES:
                seen = [cells.get(Cell(activation, start, seed, rate), {}).get("validation") for seed in range(SEEDS)]
                ran = [value for value in seen if value is not None]
                by_rate.append(f"{statistics.median(ran):.3f}" if ran else "")
            rates.append([activation, start, *by_rate])
    first = harness.table(
        ["activation", "start", "scheme", "test accuracy, median", "least to most", "rates chosen", "seeds"], ends
    )
    return [first, RATE_TEXT, harness.table(["activation", "start", *(f"{rate:g}" for rate in RATES)], rates)]


TEXT = (
    "{depth} linear layers of width {width} and one activation between them, {steps} steps of Adam with batches of "
    "{batch}, 1797 images of 8 x 8: 60 % to train, 20 % to choose the rate, 20 % to test, shuffled anew for each of "
    "{seeds} seeds; pixels standardised. Everybody tries the same rates ({rates}), and each seed takes the one with "
    "the best validation accuracy. Splits and batches of a seed are the same for all. So few steps measure the start, "
    "not what a network can learn in the end. **lr_scales**: the rate of each parameter times what the report suggests "
    "for it. Wanted of ours: {goals}; what misses it stands in bold."
)
RATE_TEXT = "## By rate\n\nValidation accuracy, the median of the seeds."


def order(activations: Sequence[str], starts: Sequence[str]) -> Iterator[Cell]:
    """All cells, in the order in which they are run."""
    for start in starts:
        for activation in activations:
            for seed in range(SEEDS):
                for rate in RATES:
                    yield Cell(activation, start, seed, rate)


def idle(cell: Cell, cells: dict[Cell, dict[str, Any]]) -> bool:
    """Would this only repeat what auto chose?"""
    auto = cells.get(Cell(cell.activation, "ours", cell.seed, cell.rate), {})
    if cell.start == "ours, lr_scales":
        return auto.get("lr_scale") == 1.0
    return cell.start in ("ours, shaped", "ours, mirror") and auto.get("scheme") == OURS[cell.start]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.digits_depth",
        description="50-layer MLPs on scikit-learn's digits, about 15 minutes. Goes on where it was ended.",
    )
    parser.add_argument("--starts", default="all", help="all, all ours, rivals, or names separated by semicolons")
    parser.add_argument("--activations", default=",".join(GOALS))
    parser.add_argument("--tables", action="store_true", help="run nothing: tables of what is kept")
    parser.add_argument("--stale", action="store_true", help="count what was kept of other versions of the code, too")
    parser.add_argument("--publish", action="store_true", help="write results/digits_depth.md and .json")
    options = parser.parse_args()
    sets = {"all": STARTS, "all ours": list(OURS), "rivals": RIVALS}
    starts = [start for part in options.starts.split(";") for start in sets.get(part, [part])]
    activations = options.activations.split(",")
    if strange := [s for s in starts if s not in STARTS] + [a for a in activations if a not in GOALS]:
        parser.error(f"there is no {strange[0]!r}; starts: {', '.join(STARTS)}; activations: {', '.join(GOALS)}")
    torch.set_num_threads(1)
    stamp = harness.stamp(["torch", "scikit-learn"], f"0 to {SEEDS - 1}, of splits, batches and weights alike")
    kept = Kept("digits_depth", Cell, versions(), stale=options.stale)
    if not options.tables:
        missing = [cell for cell in order(activations, starts) if cell not in kept.cells]
        print(f"{len(missing)} trainings to run", file=sys.stderr, flush=True)
        for cell in missing:
            if not idle(cell, kept.cells):
                clock = time.perf_counter()
                kept.add(cell, {**train(cell), "seconds": time.perf_counter() - clock})
    goals = ", ".join(f"{name} {goal:.2f}" for name, goal in GOALS.items())
    sizes = {"depth": DEPTH, "width": WIDTH, "steps": STEPS, "batch": BATCH, "seeds": SEEDS}
    text = TEXT.format(rates=", ".join(f"{rate:g}" for rate in RATES), goals=goals, **sizes)
    parts = [text, *kept.confession(), *tables(kept.cells, activations, starts)]
    if options.publish:
        raw = [{**cell._asdict(), **run} for cell, run in kept.cells.items()]
        harness.publish("digits_depth", "Fifty layers without a norm or a skip", parts, stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
