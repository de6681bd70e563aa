"""Runs solvers on cells in separate processes, keeps what was run, and makes the tables of anytime scores."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.coco import GROUPS, Cell, Problem, cells, enter_folder_of_its_own
from benchmarks.rivals import Solver
from benchmarks.scores import TARGETS, Spent, anytime, ratio, solved

Runs = dict[Cell, dict[str, Any]]
"""Cell -> met (evaluations at which targets were met), seconds (CPU), restarts, errors (texts)."""


@dataclass(frozen=True)
class Suite:
    """What is run.

    Args:
        name: of the COCO suite.
        rivals: name in the table -> (solver, distribution).
        ours: name of our method -> solver.
        matched: our method -> the rivals of the same kind.
        dimensions: those of the published table.
        slow: rivals that run only when they are named.
    """

    name: str
    rivals: Mapping[str, tuple[Solver, str]]
    ours: Mapping[str, Solver]
    matched: Mapping[str, Sequence[str]]
    dimensions: Sequence[int]
    slow: Sequence[str] = ()

    def solver(self, name: str) -> Solver:
        """The solver of that name in the table."""
        return self.ours[name] if name in self.ours else self.rivals[name][0]

    def key(self, name: str) -> str:
        """What a kept run depends on: our code or the rival's version, and how it is called and scored."""
        module = "ours" if name in self.ours else "rivals_mixed" if "mixint" in self.name else "rivals"
        files = [f"benchmarks/{file}.py" for file in ("coco", "scores", module)]
        if name in self.ours:
            return harness.fingerprint(*files, *(f"src/eitherway/{f}" for f in ("base", "space", "methods", "run")))
        return harness.version(self.rivals[name][1]) + " " + harness.fingerprint(*files)


def run_cell(suite: Suite, name: str, cell: Cell, factor: int, shift: float) -> dict[str, Any]:
    """One solver on one cell until the budget of factor x D evaluations is spent."""
    problem, restarts, errors, fruitless = Problem(cell, factor * cell.dimension, shift), 0, [], 0
    solve = suite.solver(name)
    seconds = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rivals warn about ill conditions and their own deprecations
        while problem.ledger.left and fruitless < 3:
            before, seed = problem.ledger.evaluations, cell.seed(restarts)
            try:
                solve(problem, problem.start(np.random.default_rng(seed)), seed)
            except Spent:
                pass
            except Exception as error:  # a rival's own failure: noted, and it is started again; ours is a fault to mend
                if name in suite.ours:
                    raise
                errors.append(f"{type(error).__name__}: {error}"[:200])
            restarts += 1
            fruitless = fruitless + 1 if problem.ledger.evaluations == before else 0
    seconds = time.process_time() - seconds
    problem.close()
    return {"met": problem.ledger.met, "seconds": seconds, "restarts": restarts - 1, "errors": errors}


_SUITES: dict[str, Suite] = {}
"""What a forked process finds by name: rivals are closures, which cannot travel."""


def _run_by_name(cell: Cell, suite: str, name: str, factor: int, shift: float) -> dict[str, Any]:
    return run_cell(_SUITES[suite], name, cell, factor, shift)


def _run_kept(suite: Suite, name: str, wanted: list[Cell], options: argparse.Namespace, pool: Any) -> Runs:
    """What the cache has of `wanted`, and the rest run now and kept."""
    slug = ("ours-" if name in suite.ours else "") + re.sub(r"[^a-z0-9]+", "-", name.lower())  # CMAES is not cmaes
    path = harness.CACHE / suite.name / f"{slug}-{options.budget}D-{options.instances}-shift{options.shift}.json"
    kept: Runs = {}
    if path.exists() and not options.fresh:
        stored = json.loads(path.read_text())
        if stored["key"] == suite.key(name):
            kept = {Cell(**entry["cell"]): entry["run"] for entry in stored["runs"]}
    missing = [cell for cell in wanted if cell not in kept]
    if missing:
        work = partial(_run_by_name, suite=suite.name, name=name, factor=options.budget, shift=options.shift)
        kept |= dict(zip(missing, pool.map(work, missing, chunksize=8) if pool else map(work, missing)))
        path.parent.mkdir(parents=True, exist_ok=True)
        runs = [{"cell": asdict(cell), "run": run} for cell, run in kept.items()]
        path.write_text(json.dumps({"key": suite.key(name), "runs": runs}))
    runs = {cell: kept[cell] for cell in wanted}
    cpu, errors = sum(r["seconds"] for r in runs.values()), sum(len(r["errors"]) for r in runs.values())
    state = f"{len(missing)} of {len(wanted)} cells run now" if missing else "kept from an earlier run"
    score = np.mean([anytime(r["met"], c.dimension, options.budget * c.dimension) for c, r in runs.items()])
    print(f"{name:24} anytime {score:.4f}  {cpu:7.1f} CPU s  {errors} errors  {state}", flush=True)
    return runs


def scores(runs: Runs, factor: int) -> np.ndarray:
    """(cells,) anytime scores, in the order of `runs`."""
    return np.array([anytime(run["met"], cell.dimension, factor * cell.dimension) for cell, run in runs.items()])


def _figures(runs: Runs, factor: int) -> dict[str, list[Any]]:
    """What is published of every run: function, dimension and instance, its two scores, restarts and CPU seconds."""
    return {
        "cells": [[cell.function, cell.dimension, cell.instance] for cell in runs],
        "anytime": [round(float(score), 5) for score in scores(runs, factor)],
        "end": [round(float(solved(run["met"])), 5) for run in runs.values()],
        "restarts": [run["restarts"] for run in runs.values()],
        "seconds": [round(run["seconds"], 4) for run in runs.values()],
    }


def _row(
    name: str, runs: Runs, score: np.ndarray, end: np.ndarray, factor: int, dimensions: Sequence[int]
) -> list[str]:
    D = np.array([cell.dimension for cell in runs])
    function = np.array([cell.function for cell in runs])
    parts = [score.mean(), end.mean(), *(score[d == D].mean() for d in dimensions)]
    parts += [score[np.isin(function, list(group))].mean() for group in GROUPS.values()]
    evaluations = factor * D.sum()
    micro = sum(run["seconds"] for run in runs.values()) / evaluations * 1e6
    return [name, *(f"{part:.3f}" for part in parts), f"{micro:.0f}"]


def _score_table(suite: Suite, results: Mapping[str, Runs], options: argparse.Namespace) -> str:
    header = ["solver", "anytime", "end", *(f"D={d}" for d in options.dims), *GROUPS, "us"]
    rows, anytimes, ends = [], {}, {}
    for name, runs in results.items():
        anytimes[name] = scores(runs, options.budget)
        ends[name] = np.array([solved(run["met"]) for run in runs.values()])
        shown = f"**{name}**" if name in suite.ours else name
        rows.append(
            (anytimes[name].mean(), _row(shown, runs, anytimes[name], ends[name], options.budget, options.dims))
        )
    rivals = [name for name in results if name in suite.rivals]
    if len(rivals) > 1:
        best = _best_by_problem(results, {n: anytimes[n] for n in rivals})
        virtual = _row(
            "*best rival of each (f, D)*", results[rivals[0]], *_picked(best, anytimes, ends), 1, options.dims
        )
        rows.append((float(virtual[1]), [*virtual[:-1], ""]))
    return harness.table(header, [row for _, row in sorted(rows, key=lambda pair: -pair[0])])


def _best_by_problem(results: Mapping[str, Runs], anytimes: Mapping[str, np.ndarray]) -> list[str]:
    """For each cell, the solver with the best mean over the instances of that function and dimension."""
    order = list(next(iter(results.values())))
    groups: dict[tuple[int, int], list[int]] = {}
    for row, cell in enumerate(order):
        groups.setdefault((cell.function, cell.dimension), []).append(row)
    best = {key: max(anytimes, key=lambda n: anytimes[n][rows].mean()) for key, rows in groups.items()}
    return [best[cell.function, cell.dimension] for cell in order]


def _picked(best: list[str], *tables: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [np.array([table[name][row] for row, name in enumerate(best)]) for table in tables]


def _ratio_table(suite: Suite, results: Mapping[str, Runs], options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Ours over rivals of the same kind, and over the best single rival, with intervals; and all pairs as numbers."""
    all_scores = {name: scores(runs, options.budget) for name, runs in results.items()}
    rivals = [name for name in results if name in suite.rivals]
    pairs: dict[str, Any] = {}
    rows = []
    if not rivals:
        return "", pairs
    single = max(rivals, key=lambda name: all_scores[name].mean())
    for ours in (name for name in results if name in suite.ours):
        pairs[ours] = {rival: ratio(all_scores[ours], all_scores[rival]) for rival in rivals}
        for rival in dict.fromkeys([*(r for r in suite.matched.get(ours, ()) if r in rivals), single]):
            middle, low, high = pairs[ours][rival]
            note = "the best single rival" if rival == single else ""
            rows.append([ours, rival, f"{middle:.3f}", f"{low:.3f} to {high:.3f}", note])
    if not rows:
        return "", pairs
    return harness.table(["ours", "rival", "ratio of anytime scores", "90 % interval", ""], rows), pairs


def arguments(suite: Suite) -> argparse.Namespace:
    """The command line that both suites share."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{suite.name.replace('-', '_')}")
    parser.add_argument("--instances", default="1-5", help="1-5 to tune on, 6-10 to report; FIRST-LAST")
    parser.add_argument("--dims", default=",".join(map(str, suite.dimensions)), help="comma-separated")
    parser.add_argument("--solvers", default="all", help="all, ours, rivals, or names separated by commas")
    parser.add_argument("--budget", type=int, default=200, help="evaluations, as a multiple of the dimension")
    parser.add_argument("--shift", type=float, default=0.5, help="largest shift of the optimum against the box")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="run again what is kept")
    parser.add_argument("--publish", action="store_true", help="write results/NAME.md and .json")
    options = parser.parse_args()
    options.dims = [int(D) for D in options.dims.split(",")]
    known = [*suite.ours, *suite.rivals]
    rivals = [name for name in suite.rivals if name not in suite.slow]
    sets = {"all": [*suite.ours, *rivals], "ours": list(suite.ours), "rivals": rivals}
    options.solvers = [n for part in options.solvers.split(",") for n in sets.get(part, [part])]
    for name in options.solvers:
        if name not in known:
            parser.error(f"there is no solver {name!r}; known: {', '.join(known)}")
    return options


def main(suite: Suite, title: str, text: str) -> None:
    """Parses the command line, runs, prints the tables, and publishes them if asked to."""
    options = arguments(suite)
    first, last = (int(i) for i in options.instances.split("-"))
    wanted = cells(suite.name, options.dims, list(range(first, last + 1)))
    packages = sorted({package for _, package in suite.rivals.values()} - {"numpy"} | {"coco-experiment"})
    seeds = "by function, instance, dimension and restart, the same for all solvers; one run a cell"
    stamp = harness.stamp(packages, seeds)
    folder = tempfile.mkdtemp(prefix="eitherway-bbob-")
    _SUITES[suite.name] = suite
    results: dict[str, Runs] = {}
    try:
        enter_folder_of_its_own(folder)
        if options.processes > 1:
            fork, enter = get_context("fork"), enter_folder_of_its_own
            with ProcessPoolExecutor(options.processes, fork, initializer=enter, initargs=(folder,)) as pool:
                for name in options.solvers:
                    results[name] = _run_kept(suite, name, wanted, options, pool)
        else:
            for name in options.solvers:
                results[name] = _run_kept(suite, name, wanted, options, None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratios, pairs = _ratio_table(suite, results, options)
    where = (
        f"{options.budget} D evaluations, instances {options.instances}, D = {', '.join(map(str, options.dims))}; "
        f"{len(TARGETS)} targets 10^2 to 10^-8; real coordinates shifted by up to {options.shift} (f5 excepted)."
    )
    parts = [text, where, _score_table(suite, results, options), ratios]
    if options.publish:
        raw = {name: _figures(runs, options.budget) for name, runs in results.items()}
        file = f"{suite.name.replace('-', '_')}_{options.budget}D_{options.instances.replace('-', '_')}"
        harness.publish(file, title, [part for part in parts if part], stamp, {"ratios": pairs, "runs": raw})
    else:
        print("\n\n".join(part for part in parts if part))
