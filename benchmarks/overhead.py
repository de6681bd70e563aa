"""What a method itself costs: CPU microseconds an evaluation where the cost takes next to nothing.

python -m benchmarks.overhead --publish
"""

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np

from benchmarks import ours

EVALUATIONS = {10: 3000, 100: 2000}
"""Columns -> evaluations a run."""


def cost(x: np.ndarray) -> float:
    """Two of the coordinates, in plain Python: about 0.3 microseconds, the same in every row of the table."""
    return float(x[0] * x[0] + x[-1])


def eitherway(name: str) -> Callable[[int, int, int], int]:
    """`ew.minimize` with that method: one lone array, no journal, no progress."""

    def run(D: int, evaluations: int, seed: int) -> int:
        import eitherway as ew

        spent = 0
        while spent < evaluations:  # a method that is done begins again, as in the other benchmarks
            left = evaluations - spent
            result = ew.minimize(cost, ew.Array((D,), -5, 5), ours.method(name), budget=left, seed=seed, progress=None)
            spent, seed = spent + result.evaluations, seed + 1
        return spent

    return run


def eitherway_named(D: int, evaluations: int, seed: int) -> int:
    """CMAES on named reals instead of one array: what a user of `ew.Space` pays for the names."""
    import eitherway as ew

    space = ew.Space(**{f"x{i}": ew.Real(-5, 5) for i in range(D)})

    def named(**x: float) -> float:
        return x["x0"] * x["x0"] + x["x1"]

    return ew.minimize(named, space, ours.method("CMAES"), budget=evaluations, seed=seed, progress=None).evaluations


def cmaes(D: int, evaluations: int, seed: int) -> int:
    """cmaes: ask and tell, a generation at a time."""
    from cmaes import CMA

    bounds = np.tile([-5.0, 5.0], (D, 1))
    optimizer = CMA(mean=np.zeros(D), sigma=2.0, bounds=bounds, seed=seed)
    spent = 0
    while spent < evaluations:
        answers = []
        for _ in range(optimizer.population_size):
            x = optimizer.ask()
            answers.append((x, cost(x)))
        optimizer.tell(answers)
        spent += len(answers)
    return spent


def pycma(D: int, evaluations: int, seed: int) -> int:
    """pycma: ask and tell, without its own logging."""
    import cma

    spent = 0
    while spent < evaluations:
        options = {"bounds": [-5, 5], "verbose": -9, "seed": seed + 1, "verb_log": 0}
        strategy = cma.CMAEvolutionStrategy([0.0] * D, 2.0, options)
        while spent < evaluations and not strategy.stop():
            points = strategy.ask()
            strategy.tell(points, [cost(x) for x in points])
            spent += len(points)
        seed += 1
    return spent


def scipy_de(D: int, evaluations: int, seed: int) -> int:
    """SciPy's differential_evolution without its polish."""
    from scipy.optimize import differential_evolution

    spent = 0

    def counted(x: np.ndarray) -> float:
        nonlocal spent
        spent += 1
        return cost(x)

    generations = max(evaluations // (15 * D) - 1, 1)
    differential_evolution(counted, [(-5, 5)] * D, rng=seed, maxiter=generations, polish=False, tol=0)
    return spent


def scipy_slsqp(D: int, evaluations: int, seed: int) -> int:
    """SciPy's SLSQP on finite differences, from one start after another."""
    from scipy.optimize import minimize

    spent, rng = 0, np.random.default_rng(seed)
    while spent < evaluations:
        spent += minimize(cost, rng.uniform(-5, 5, D), method="SLSQP", bounds=[(-5, 5)] * D, tol=1e-14).nfev
    return spent


def pymoo(name: str) -> Callable[[int, int, int], int]:
    """pymoo on an elementwise problem."""

    def run(D: int, evaluations: int, seed: int) -> int:
        from pymoo.core.problem import ElementwiseProblem
        from pymoo.optimize import minimize

        from benchmarks.rivals import _pymoo_algorithm

        class Plain(ElementwiseProblem):
            def __init__(self) -> None:
                super().__init__(n_var=D, n_obj=1, xl=-5.0, xu=5.0)

            def _evaluate(self, x, out, *args, **kwargs):
                out["F"] = cost(x)

        result = minimize(Plain(), _pymoo_algorithm(name), ("n_eval", evaluations), seed=seed, verbose=False)
        return result.algorithm.evaluator.n_eval

    return run


def pyswarms(D: int, evaluations: int, seed: int) -> int:
    """pyswarms, whose cost is handed the whole swarm."""
    from pyswarms.single import GlobalBestPSO

    np.random.seed(seed)  # noqa: NPY002 - the only way to seed it
    options = {"c1": 1.49618, "c2": 1.49618, "w": 0.7298}
    box = (np.full(D, -5.0), np.full(D, 5.0))
    swarm = GlobalBestPSO(n_particles=20, dimensions=D, options=options, bounds=box)
    swarm.optimize(lambda points: np.array([cost(x) for x in points]), iters=evaluations // 20, verbose=False)
    return evaluations // 20 * 20


ROWS: dict[str, Callable[[int, int, int], int]] = {
    "cmaes": cmaes,
    **{f"**{name}**": eitherway(name) for name in ours.METHODS},
    "**CMAES**, named reals": eitherway_named,
    "pycma": pycma,
    "pymoo DE": pymoo("DE"),
    "pymoo PSO": pymoo("PSO"),
    "pymoo GA": pymoo("GA"),
    "pyswarms": pyswarms,
    "scipy DE": scipy_de,
    "scipy SLSQP": scipy_slsqp,
}


def measure(repeats: int, only: str | None) -> dict[str, dict[int, list[float]]]:
    """Row -> columns -> CPU microseconds an evaluation, one number a repeat; the rows take turns."""
    rows = {name: run for name, run in ROWS.items() if not only or name == "cmaes" or only in name}
    taken: dict[str, dict[int, list[float]]] = {name: {D: [] for D in EVALUATIONS} for name in rows}
    for run in rows.values():
        run(5, 200, 0)  # imports and first-call work are not an evaluation's cost
    for repeat in range(repeats):
        for D, evaluations in EVALUATIONS.items():
            for name, run in rows.items():
                before = time.process_time()
                done = run(D, evaluations, repeat)
                taken[name][D].append((time.process_time() - before) / done * 1e6)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", help="rows whose name contains this, and cmaes")
    parser.add_argument("--publish", action="store_true", help="write results/overhead.md and .json")
    options = parser.parse_args()
    stamp = harness.stamp(["cmaes", "cma", "pymoo", "pyswarms", "scipy"], f"0 to {options.repeats - 1}, one a repeat")
    folder = tempfile.mkdtemp(prefix="eitherway-overhead-")
    os.chdir(folder)  # pyswarms writes a log where it stands
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            taken = measure(options.repeats, options.only)
    finally:
        shutil.rmtree(folder)
    rows = []
    for name, columns in taken.items():
        cells = []
        for D, times in columns.items():
            ratios = [t / base for t, base in zip(times, taken["cmaes"][D])]
            cells += [harness.spread(times), f"{harness.quartiles(ratios)[1]:.2f}"]
        rows.append([name, *cells])
    text = (
        "CPU microseconds an evaluation of a cost that takes about 0.3 itself: median of the repeats (quartiles), and "
        "the median of the ratios to cmaes in the same repeat. 3000 evaluations at 10 columns, 2000 at 100, the start "
        "of the call included. No journal, no progress, one process, one thread."
    )
    header = ["", *(part for D in EVALUATIONS for part in (f"D = {D}, us", "x cmaes"))]
    if options.publish:
        harness.publish("overhead", "Overhead of an evaluation", [text, harness.table(header, rows)], stamp, taken)
    else:
        print(harness.table(header, rows))


if __name__ == "__main__":
    main()
