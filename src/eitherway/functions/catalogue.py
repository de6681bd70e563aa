"""Test functions by name, each with its box, its known optimum and its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from eitherway.base.errors import EitherwayError, nearest
from eitherway.functions import formulas
from eitherway.functions.tuning import noisy_sphere, tuning
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice, Integer, Real

_SURJANOVIC = "Surjanovic & Bingham 2013, Virtual Library of Simulation Experiments"
_JAMIL = "Jamil & Yang 2013, arXiv:1308.4008"

_MICHALEWICZ = np.array(
    [
        [2.20290552017260935, 1.57079632679489662, 1.28499157055292436, 1.92305846986636284, 1.72046977256584128]
        + [1.57079632679489662, 1.45441397136237903, 1.75608652094502637, 1.65571741682102910, 1.57079632679489662],
        [-0.801303410098552533, -1.0, -0.959091269896005948, -0.93846241847208341, -0.988801080621504361]
        + [-1.0, -0.993227135355881605, -0.982872036272210599, -0.996394364925102958, -1.0],
    ]
)
"""Minimiser and value of each of its first ten terms, solved to 18 digits from the zero of the derivative."""


@dataclass(frozen=True)
class TestFunction:
    """A cost whose answer is known.

    Args:
        name: what users and the command line call it.
        function: the cost; a plain value or array gives a float, a tensor keeps its gradient.
        box: dimension -> what may vary.
        best: dimension -> a global minimiser, in the form in which the cost is called.
        least: dimension -> the value there (of the mean, where there is noise).
        source: where its formula is from.
        dimension: what `space()` takes without an argument.
        smallest, largest: the dimensions it is defined for; no upper limit where `largest` is None.

    >>> branin = get("branin")
    >>> branin.space()
    Space(Array((2,), [-5.0, 0.0], [10.0, 15.0]))
    >>> round(branin.value(), 6)
    0.397887
    """

    __test__: ClassVar[bool] = False  # its name begins with Test, but it is none of pytest's

    name: str
    function: Callable[..., Any] = field(repr=False)
    box: Callable[[int], Space] = field(repr=False)
    best: Callable[[int], Any] = field(repr=False)
    least: Callable[[int], float] = field(repr=False)
    source: str
    dimension: int = 10
    smallest: int = 1
    largest: int | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The cost itself."""
        return self.function(*arguments, **named)

    @property
    def _eitherway_seeded(self) -> bool:
        """Whether it takes `seed=`, as `ew.seeded` says it of a function."""
        return getattr(self.function, "_eitherway_seeded", False)

    def space(self, dimension: int | None = None) -> Space:
        """What may vary, in `dimension` coordinates (its default without an argument).

        Raises:
            EitherwayError: if it is not defined for that dimension.
        """
        return self.box(self._checked(dimension))

    def optimum(self, dimension: int | None = None) -> Any:
        """A global minimiser, as the cost is called: a (D,) array, or a dict of named values."""
        return self.best(self._checked(dimension))

    def value(self, dimension: int | None = None) -> float:
        """The least value."""
        return self.least(self._checked(dimension))

    def _checked(self, dimension: int | None) -> int:
        if dimension is None:
            return self.dimension
        if dimension < self.smallest or (self.largest is not None and dimension > self.largest):
            if self.smallest == self.largest:
                expected = f"exactly {self.smallest}"
            elif self.largest is None:
                expected = f"{self.smallest} or more"
            else:
                expected = f"{self.smallest} to {self.largest}"
            raise EitherwayError(f"{self.name} was asked for in {dimension} dimensions; it is defined for {expected}")
        return dimension


def _vector(
    function: Callable[[Any], Any],
    low: float | list[float],
    high: float | list[float],
    best: float | list[float] | Callable[[int], np.ndarray],
    least: float | Callable[[int], float],
    source: str,
    dimension: int = 10,
    smallest: int = 1,
    largest: int | None = None,
) -> TestFunction:
    """A function of one array: bounds and optimum the same for every coordinate, or listed."""

    def box(D: int) -> Space:
        return Space(Array((D,), low, high))

    def optimum(D: int) -> np.ndarray:
        return best(D) if callable(best) else np.broadcast_to(np.asarray(best, float), (D,)).copy()

    def value(D: int) -> float:
        return float(least(D)) if callable(least) else least

    return TestFunction(function.__name__, function, box, optimum, value, source, dimension, smallest, largest)


def _two(
    function: Callable[[Any], Any],
    low: float | list[float],
    high: float | list[float],
    best: list[float],
    least: float,
    source: str,
) -> TestFunction:
    return _vector(function, low, high, best, least, source, dimension=2, smallest=2, largest=2)


def _tuning_box(_: int) -> Space:
    return Space(
        lr=Real(1e-5, 1.0, scale="log"),
        decay=Real(1e-6, 1e-1, scale="log"),
        momentum=Real(0.0, 0.99),
        dropout=Real(0.0, 0.8),
        layers=Integer(1, 8),
        width=Integer(8, 1024, scale="log"),
        activation=Choice(["gelu", "relu", "tanh", "sigmoid"]),
        nesterov=Choice([False, True]),
    )


def _tuning_best(_: int) -> dict[str, Any]:
    reals = {"lr": 1e-3, "decay": 1e-4, "momentum": 0.9, "dropout": 0.2}
    return {**reals, "layers": 4, "width": 128, "activation": "gelu", "nesterov": True}


_FUNCTIONS = {
    function.name: function
    for function in (
        _vector(formulas.sphere, -5.0, 5.0, 0.0, 0.0, "De Jong 1975, F1"),
        _vector(
            formulas.ellipsoid, -5.0, 5.0, 0.0, 0.0, "Hansen et al. 2009, BBOB f2, unrotated and without oscillation"
        ),
        _vector(
            formulas.rosenbrock, -5.0, 10.0, 1.0, 0.0, "Rosenbrock 1960, Computer Journal 3(3); sum form", smallest=2
        ),
        _vector(
            formulas.rastrigin, -5.12, 5.12, 0.0, 0.0, "Rastrigin 1974; Muehlenbein et al. 1991, Parallel Computing 17"
        ),
        _vector(formulas.ackley, -32.768, 32.768, 0.0, 0.0, "Ackley 1987; Baeck & Schwefel 1993, Evol. Comput. 1(1)"),
        _vector(formulas.griewank, -600.0, 600.0, 0.0, 0.0, "Griewank 1981, J. Optim. Theory Appl. 34"),
        _vector(formulas.schwefel, -500.0, 500.0, 420.96874635998203, 0.0, "Schwefel 1981, problem 2.26"),
        _vector(formulas.levy, -10.0, 10.0, 1.0, 0.0, f"Levy & Montalvo 1985; {_SURJANOVIC}"),
        _vector(formulas.step, -100.0, 100.0, 0.0, 0.0, "De Jong 1975, F3; Yao et al. 1999, f6"),
        _vector(
            formulas.styblinski_tang,
            *(-5.0, 5.0, -2.9035340277711771),
            lambda D: -39.166165703771415 * D,
            "Styblinski & Tang 1990, Neural Networks 3(4)",
        ),
        _vector(
            formulas.michalewicz,
            *(0.0, float(np.pi)),
            lambda D: _MICHALEWICZ[0, :D].copy(),
            lambda D: _MICHALEWICZ[1, :D].sum(),
            f"Michalewicz 1992; {_SURJANOVIC}; m = 10",
            largest=10,
        ),
        _two(
            formulas.branin,
            *([-5.0, 0.0], [10.0, 15.0], [float(np.pi), 2.275], 0.39788735772973816),
            f"Branin 1972; {_SURJANOVIC}",
        ),
        _two(formulas.himmelblau, -5.0, 5.0, [3.0, 2.0], 0.0, "Himmelblau 1972, Applied Nonlinear Programming"),
        _two(formulas.goldstein_price, -2.0, 2.0, [0.0, -1.0], 3.0, f"Goldstein & Price 1971; {_JAMIL}"),
        TestFunction(
            *("tuning", tuning, _tuning_box, _tuning_best, lambda D: 0.0),
            "made for this library: mixed, log-scaled, coupled",
            *(8, 8, 8),
        ),
        TestFunction(
            *("noisy_sphere", noisy_sphere, lambda D: Space(Array((D,), -5.0, 5.0)), np.zeros, lambda D: 0.0),
            "sphere with additive Gaussian noise of deviation 0.1",
        ),
    )
}


def names() -> list[str]:
    """The names `get` knows.

    >>> names()[:3]
    ['sphere', 'ellipsoid', 'rosenbrock']
    """
    return list(_FUNCTIONS)


def get(name: str) -> TestFunction:
    """The test function of that name.

    Raises:
        EitherwayError: with the nearest name, if there is none.

    >>> get("sphere").space(3)
    Space(Array((3,), -5.0, 5.0))
    """
    try:
        return _FUNCTIONS[name]
    except KeyError:
        raise EitherwayError(f"there is no test function {name!r}. {nearest(name, _FUNCTIONS)}") from None
