"""The rivals on boxes whose first coordinates are whole numbers, each as its authors' documentation calls it."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.coco import Problem
from benchmarks.rivals import _ENDLESS, Solver, random


def pycma(problem: Problem, start: np.ndarray, seed: int) -> None:
    """pycma with integer_variables and BIPOP restarts; a fifth of each range as its deviation."""
    import cma

    rng = np.random.default_rng(seed)
    first = [start]
    wide = problem.high - problem.low
    options: dict[str, Any] = {"bounds": [problem.low.tolist(), problem.high.tolist()], "verbose": -9}
    options |= {"integer_variables": list(range(problem.integers)), "CMA_stds": (0.2 * wide).tolist()}
    options |= {"seed": seed % 2**31 + 1, "maxfevals": problem.ledger.left}
    cma.fmin2(problem, lambda: first.pop() if first else problem.start(rng), 1.0, options, restarts=9, bipop=True)


def cmaes_margin(problem: Problem, start: np.ndarray, seed: int) -> None:
    """CMAwM of cmaes in a box scaled to one, with IPOP restarts."""
    from cmaes import CMAwM

    rng = np.random.default_rng(seed)
    wide = problem.high - problem.low
    bounds = np.stack([problem.low / wide, problem.high / wide], 1)
    steps = np.zeros(len(wide))
    steps[: problem.integers] = 1.0 / wide[: problem.integers]
    population = None
    while problem.ledger.left:
        optimizer = CMAwM(
            mean=start / wide, sigma=0.2, bounds=bounds, steps=steps, seed=seed, population_size=population
        )
        while problem.ledger.left and not optimizer.should_stop():
            answers = []
            for _ in range(optimizer.population_size):
                judged, told = optimizer.ask()
                answers.append((told, problem(judged * wide)))
            optimizer.tell(answers)
        population, start, seed = 2 * optimizer.population_size, problem.start(rng), seed + 1


def catcmawm(problem: Problem, start: np.ndarray, seed: int) -> None:
    """CatCMAwM of cmaes with its own first deviations, binaries as categories (as its documentation advises).

    It begins at the uniform start, not at its default, the middle of the box; restarts double the population.
    """
    from cmaes import CatCMAwM

    rng = np.random.default_rng(seed)
    sizes = (problem.high - problem.low + 1)[: problem.integers].astype(int)
    binary = np.flatnonzero(sizes == 2)
    whole = np.flatnonzero(sizes > 2)
    z_space = [list(range(int(problem.low[i]), int(problem.high[i]) + 1)) for i in whole]
    x_space = [[problem.low[i], problem.high[i]] for i in range(problem.integers, len(start))]
    order = np.concatenate([np.arange(problem.integers, len(start)), whole])  # its own: reals first
    share = np.where(order < problem.integers, 0.1, 1 / 12)
    cov = np.diag((share * (problem.high - problem.low)[order]) ** 2)
    population = None
    while problem.ledger.left:
        settings = {"population_size": population, "mean": start[order], "sigma": 1.0, "cov": cov, "seed": seed}
        optimizer = CatCMAwM(x_space, z_space, [2] * len(binary), **settings)
        while problem.ledger.left and not optimizer.should_stop():
            answers = []
            for _ in range(optimizer.population_size):
                solution = optimizer.ask()
                x = np.empty(len(start))
                x[binary] = problem.low[binary] + solution.c.argmax(1)
                x[whole], x[problem.integers :] = solution.z, solution.x
                answers.append((solution, problem(x)))
            optimizer.tell(answers)
        population, start, seed = 2 * optimizer.population_size, problem.start(rng), seed + 1


def scipy_de(problem: Problem, start: np.ndarray, seed: int) -> None:
    """differential_evolution with integrality and otherwise its defaults."""
    from scipy.optimize import differential_evolution

    whole = np.arange(len(start)) < problem.integers
    box = list(zip(problem.low.tolist(), problem.high.tolist()))
    differential_evolution(problem, box, integrality=whole, rng=seed, maxiter=_ENDLESS)


def pymoo_mixed(problem: Problem, start: np.ndarray, seed: int) -> None:
    """MixedVariableGA with its defaults."""
    from pymoo.core.mixed import MixedVariableGA
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.core.variable import Integer, Real
    from pymoo.optimize import minimize

    names = [f"x{i:03}" for i in range(len(start))]
    kinds = [Integer if i < problem.integers else Real for i in range(len(start))]
    limits = zip(problem.low.tolist(), problem.high.tolist())

    class Boxed(ElementwiseProblem):
        def __init__(self) -> None:
            variables = {n: kind(bounds=limit) for n, kind, limit in zip(names, kinds, limits)}
            super().__init__(vars=variables, n_obj=1)

        def _evaluate(self, x: dict[str, float], out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = problem(np.array([x[name] for name in names], float))

    minimize(Boxed(), MixedVariableGA(), ("n_eval", problem.ledger.left + 1), seed=seed, verbose=False)


def optuna(problem: Problem, start: np.ndarray, seed: int) -> None:
    """Optuna's default sampler (TPE), in memory."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: Any) -> float:
        x = [trial.suggest_int(f"z{i}", problem.low[i], problem.high[i]) for i in range(problem.integers)]
        reals = range(problem.integers, len(start))
        return problem(np.array([*x, *(trial.suggest_float(f"x{i}", problem.low[i], problem.high[i]) for i in reals)]))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=problem.ledger.left)


RIVALS: dict[str, tuple[Solver, str]] = {
    "cmaes CatCMAwM": (catcmawm, "cmaes"),
    "cmaes CMAwM": (cmaes_margin, "cmaes"),
    "pycma integer": (pycma, "cma"),
    "pymoo MixedVariableGA": (pymoo_mixed, "pymoo"),
    "scipy DE integrality": (scipy_de, "scipy"),
    "random": (random, "numpy"),
}
"""Name in the table -> solver and the distribution whose version it is."""

SLOW_RIVALS: dict[str, tuple[Solver, str]] = {"optuna TPE": (optuna, "optuna")}
"""Milliseconds an evaluation."""
