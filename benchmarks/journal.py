"""What keeping a run costs: milliseconds added to an evaluation of a cost of five reals, beside Optuna's storages.

python -m benchmarks.journal --publish
"""

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 5
Run = Callable[[Path | None, int, float], list[float]]
"""(file or None for none, evaluations, seconds the cost takes) -> seconds from each call of the cost to the next."""


class Clock:
    """A cost that notes when it was called; a sum of squares, after a wait where one is asked for."""

    def __init__(self, wait: float):
        self.wait = wait
        self.times: list[float] = []

    def __call__(self, x: Any) -> float:
        self.times.append(time.perf_counter())
        if self.wait:
            time.sleep(self.wait)
        return float(sum(v * v for v in x))

    def between(self) -> list[float]:
        """Seconds from each call to the next, the wait taken off; the last is to the end of the run."""
        ends = [*self.times[1:], time.perf_counter()]
        return [end - start - self.wait for start, end in zip(self.times, ends)]


def eitherway(file: Path | None, evaluations: int, wait: float) -> list[float]:
    """`ew.minimize` with RandomSearch, kept in `file` or not at all."""
    import eitherway as ew

    cost = Clock(wait)
    space = ew.Array((COLUMNS,), -5, 5)
    journal = None if file is None else str(file.with_suffix(".db"))
    ew.minimize(cost, space, ew.methods.RandomSearch(), budget=evaluations, seed=0, journal=journal, progress=None)
    return cost.between()


def optuna(kind: str) -> Run:
    """Optuna with RandomSampler, its study in SQLite, in its journal file, or in memory."""

    def run(file: Path | None, evaluations: int, wait: float) -> list[float]:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        cost = Clock(wait)
        storage: Any = None
        if file is not None:
            name = str(file.with_suffix("." + kind))
            storage = f"sqlite:///{name}" if kind == "sqlite" else JournalStorage(JournalFileBackend(name))
        study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(
            lambda trial: cost([trial.suggest_float(f"x{i}", -5, 5) for i in range(COLUMNS)]), n_trials=evaluations
        )
        return cost.between()

    return run


ROWS: dict[str, Run] = {
    "**eitherway** journal=": eitherway,
    "optuna SQLite": optuna("sqlite"),
    "optuna JournalStorage": optuna("log"),
}


def measure(
    title: str, repeats: int, evaluations: int, wait: float, folder: Path
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Row -> milliseconds added to an evaluation, one number a repeat: the run's mean, and its median evaluation.

    Each repeat runs every row once with its file and once without, one after the other, so that all meet the same
    load; what the row takes without a file (in memory, for Optuna) is taken off.
    """
    means: dict[str, list[float]] = {name: [] for name in ROWS}
    medians: dict[str, list[float]] = {name: [] for name in ROWS}
    for run in ROWS.values():
        run(None, 5, 0.0)  # imports are not an evaluation's cost
    for repeat in range(repeats):
        for i, (name, run) in enumerate(ROWS.items()):
            kept = run(folder / f"{title}-{i}-{repeat}", evaluations, wait)
            free = run(None, evaluations, wait)
            assert len(kept) == len(free) == evaluations, "a file was used twice"
            means[name].append(1e3 * (float(np.mean(kept)) - float(np.mean(free))))
            medians[name].append(1e3 * (float(np.median(kept)) - float(np.median(free))))
    return means, medians


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", help="where the files are written; a folder on the disk to be measured")
    parser.add_argument("--publish", action="store_true", help="write results/journal.md and .json")
    options = parser.parse_args()
    stamp = harness.stamp(["optuna", "sqlalchemy"], "0")
    parts, raw = [], {}
    costs = {"A cost that takes nothing": (200, 0.0), "A cost of 60 ms": (20, 0.06)}
    with tempfile.TemporaryDirectory(prefix="eitherway-journal-", dir=options.folder) as folder:
        for title, (evaluations, wait) in costs.items():
            means, medians = measure(title, options.repeats, evaluations, wait, Path(folder))
            ours = float(np.median(means["**eitherway** journal="]))
            rows = []
            for name in ROWS:
                times = f"{np.median(means[name]) / ours:.0f}" if ours > 0 else "unmeasurably more"
                rows.append([name, harness.spread(means[name], 3), harness.spread(medians[name], 3), times])
            header = ["", "ms added, mean of a run", "ms added, median evaluation", "x eitherway (mean)"]
            parts += [f"**{title}, {evaluations} evaluations a run**", harness.table(header, rows)]
            raw[title] = {"means": means, "medians": medians}
    text = (
        f"Milliseconds a kept run adds to an evaluation of {COLUMNS} reals over the same run unkept (in memory, for "
        "Optuna): median of the repeats (quartiles). Random sampling on both sides; wall time, since a disk is waited "
        "for; the last commit and the closing of the file are included in the mean. Eitherway groups commits, at most "
        "every 50 ms, so a cost of 60 ms makes it commit every evaluation, as Optuna does several times a trial."
    )
    if options.publish:
        harness.publish("journal", "What keeping a run costs", [text, *parts], stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
