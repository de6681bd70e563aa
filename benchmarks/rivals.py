"""The rivals on a box of reals, each as its authors' documentation calls it.

A solver is a function (problem, start, seed) that works until the problem's budget is spent or it thinks it is done;
whoever returns early is started again, with a new start and seed, on what is left. `start` is uniform in the box.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.coco import Problem

Solver = Callable[[Problem, np.ndarray, int], None]
_ENDLESS = 10**7


def _box(problem: Problem) -> list[tuple[float, float]]:
    return list(zip(problem.low.tolist(), problem.high.tolist()))


def pycma(problem: Problem, start: np.ndarray, seed: int) -> None:
    """CMA-ES of pycma with its BIPOP restarts; step size a fifth of the box."""
    import cma

    rng = np.random.default_rng(seed)
    first = [start]
    options = {"bounds": [problem.low.tolist(), problem.high.tolist()], "verbose": -9, "seed": seed % 2**31 + 1}
    options["maxfevals"] = problem.ledger.left
    sigma = 0.2 * float(problem.high[0] - problem.low[0])
    cma.fmin2(problem, lambda: first.pop() if first else problem.start(rng), sigma, options, restarts=9, bipop=True)


def cmaes(problem: Problem, start: np.ndarray, seed: int) -> None:
    """CMA-ES of cmaes with IPOP restarts as in its README; step size a fifth of the box."""
    from cmaes import CMA

    rng = np.random.default_rng(seed)
    bounds, sigma = np.stack([problem.low, problem.high], 1), 0.2 * float(problem.high[0] - problem.low[0])
    optimizer = CMA(mean=start, sigma=sigma, bounds=bounds, seed=seed)
    while problem.ledger.left:
        answers = [(x, problem(x)) for x in (optimizer.ask() for _ in range(optimizer.population_size))]
        optimizer.tell(answers)
        if optimizer.should_stop():
            population, mean = 2 * optimizer.population_size, problem.start(rng)
            optimizer = CMA(mean=mean, sigma=sigma, bounds=bounds, seed=seed, population_size=population)


def scipy_de(problem: Problem, start: np.ndarray, seed: int) -> None:
    """differential_evolution with its defaults (which polish)."""
    from scipy.optimize import differential_evolution

    differential_evolution(problem, _box(problem), rng=seed, maxiter=_ENDLESS)


def _multi_start(method: str, **options: float) -> Solver:
    def solve(problem: Problem, start: np.ndarray, seed: int) -> None:
        from scipy.optimize import minimize

        minimize(problem, start, method=method, bounds=_box(problem), options={"maxiter": _ENDLESS, **options})

    solve.__doc__ = f"SciPy's {method} on its own finite differences, from one uniform start after another."
    return solve


# the best of 1e-8, 1e-9, ..., 1e-14 on instances 1-5, and better than its default, 1e-6, on 1-2
slsqp = _multi_start("SLSQP", ftol=1e-9)
lbfgsb = _multi_start("L-BFGS-B", ftol=1e-14, gtol=1e-12, maxfun=_ENDLESS)


def dual_annealing(problem: Problem, start: np.ndarray, seed: int) -> None:
    """dual_annealing with its defaults (which polish by L-BFGS-B)."""
    from scipy.optimize import dual_annealing

    dual_annealing(problem, _box(problem), rng=seed, x0=start, maxfun=_ENDLESS, maxiter=_ENDLESS)


def _pymoo(name: str) -> Solver:
    def solve(problem: Problem, start: np.ndarray, seed: int) -> None:
        from pymoo.core.problem import ElementwiseProblem
        from pymoo.optimize import minimize

        class Boxed(ElementwiseProblem):
            def __init__(self) -> None:
                super().__init__(n_var=len(start), n_obj=1, xl=problem.low, xu=problem.high)

            def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
                out["F"] = problem(x)

        minimize(Boxed(), _pymoo_algorithm(name), ("n_eval", problem.ledger.left + 1), seed=seed, verbose=False)

    solve.__doc__ = f"pymoo's {name} with its defaults."
    return solve


def _pymoo_algorithm(name: str) -> Any:
    from pymoo.algorithms.soo.nonconvex.de import DE
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.algorithms.soo.nonconvex.pso import PSO

    return {"DE": DE, "GA": GA, "PSO": PSO}[name]()


def pyswarms(problem: Problem, start: np.ndarray, seed: int) -> None:
    """GlobalBestPSO, 12 particles (better than 20 on instances 1-5), constriction coefficients (Clerc & Kennedy 2002).

    It has no seed but the global one.
    """
    from pyswarms.single import GlobalBestPSO

    np.random.seed(seed)  # noqa: NPY002 - the only way to seed it
    options = {"c1": 1.49618, "c2": 1.49618, "w": 0.7298}
    swarm = GlobalBestPSO(n_particles=12, dimensions=len(start), options=options, bounds=(problem.low, problem.high))
    swarm.optimize(lambda points: np.array([problem(x) for x in points]), iters=_ENDLESS, verbose=False)


def _minion(algorithm: str) -> Solver:
    def solve(problem: Problem, start: np.ndarray, seed: int) -> None:
        from minionpy import Minimizer

        def judge(points: Any, _: Any = None) -> list[float]:
            # what its last generation asks beyond the budget is answered, but no longer counts
            return [problem(np.array(x)) if problem.ledger.left else float("inf") for x in points]

        left = problem.ledger.left
        Minimizer(judge, _box(problem), x0=[start.tolist()], algo=algorithm, maxevals=left, seed=seed).optimize()

    solve.__doc__ = f"Minion's {algorithm} with its defaults; it is told the budget."
    return solve


def random(problem: Problem, start: np.ndarray, seed: int) -> None:
    """Uniform points."""
    rng = np.random.default_rng(seed)
    while True:
        problem(problem.start(rng))


RIVALS: dict[str, tuple[Solver, str]] = {
    "pycma": (pycma, "cma"),
    "cmaes": (cmaes, "cmaes"),
    "scipy SLSQP": (slsqp, "scipy"),
    "scipy L-BFGS-B": (lbfgsb, "scipy"),
    "scipy dual annealing": (dual_annealing, "scipy"),
    "scipy DE": (scipy_de, "scipy"),
    "pymoo DE": (_pymoo("DE"), "pymoo"),
    "pymoo PSO": (_pymoo("PSO"), "pymoo"),
    "pymoo GA": (_pymoo("GA"), "pymoo"),
    "pyswarms": (pyswarms, "pyswarms"),
    "minion BIPOP-aCMAES": (_minion("BIPOP_aCMAES"), "minionpy"),
    "minion ARRDE": (_minion("ARRDE"), "minionpy"),
    "minion jSO": (_minion("jSO"), "minionpy"),
    "minion SPSO2011": (_minion("SPSO2011"), "minionpy"),
    "random": (random, "numpy"),
}
"""Name in the table -> solver and the distribution whose version it is."""
