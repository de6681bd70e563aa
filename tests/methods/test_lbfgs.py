"""L-BFGS: what is true of it alone."""

import math

import numpy as np
import pytest
from scipy import optimize

from eitherway.base.errors import MethodError
from eitherway.base.keys import Key
from eitherway.methods.variables._wolfe import ARMIJO, CURVATURE, advance, line
from eitherway.methods.variables.lbfgs import LBFGS, two_loops
from eitherway.run.search import Search
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice
from eitherway.testing import drive

torch = pytest.importorskip("torch")


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def solve(cost, space, evaluations, method=None):
    search = Search(space, method or LBFGS())
    while search.evaluations < evaluations and search.stopped is None:
        drive(search, cost, 1)
    return search


def test_rosenbrock_with_a_hundred_columns_takes_no_more_evaluations_than_scipys():
    start = np.tile([-1.2, 1.0], 50)
    theirs = optimize.minimize(
        rosenbrock,
        start,
        jac=optimize.rosen_der,
        method="L-BFGS-B",
        options={"maxcor": 10, "ftol": 1e-14, "gtol": 1e-8},
    )
    space = Space(Array((100,), start=0.0, spread=1.0)).with_starts([start])
    search = solve(rosenbrock, space, 2000, LBFGS(starts=1))
    assert search.best_value < 1e-10
    assert search.evaluations < 1.5 * theirs.nfev


def test_bounds_hold_and_the_minimum_on_them_is_scipys():
    rng = np.random.default_rng(0)
    for _ in range(5):
        M = rng.normal(size=(6, 6))
        H, b = M @ M.T + 0.1 * np.eye(6), 3 * rng.normal(size=6)
        theirs = optimize.minimize(
            lambda x, H=H, b=b: 0.5 * x @ H @ x - b @ x, np.zeros(6), method="L-BFGS-B", bounds=[(-1, 1)] * 6, tol=1e-14
        )
        Ht, bt = torch.tensor(H), torch.tensor(b)

        def cost(x, Ht=Ht, bt=bt):
            x = torch.as_tensor(x)
            return 0.5 * x @ Ht @ x - bt @ x

        search = solve(cost, Space(Array((6,), -1, 1)), 400)
        assert search.best_value == pytest.approx(theirs.fun, abs=1e-8)


def test_the_remembered_steps_are_the_inverse_of_a_quadratic():
    """With D steps along conjugate directions the two loops give Newton's step: exactly the inverse Hessian."""
    H = np.diag([1.0, 10.0, 100.0])
    steps = np.eye(3)
    g = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(two_loops(steps, steps @ H, g), np.linalg.solve(H, g))
    np.testing.assert_array_equal(two_loops(np.empty((0, 3)), np.empty((0, 3)), g), g)


@pytest.mark.parametrize("first", [1e-6, 0.1, 1.0, 1e4])
@pytest.mark.parametrize(
    "phi",
    [
        lambda a: (a - 2) ** 2,
        lambda a: -a / (a * a + 2),  # More & Thuente 1994, eq. 5.1
        lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4,  # eq. 5.2
        lambda a: -a if a < 0.3 else math.nan if a > 1 else a - 0.6 + (a - 0.3) ** 2,
    ],
    ids=["parabola", "More 5.1", "More 5.2", "kink and failures"],
)
def test_the_line_search_satisfies_the_strong_wolfe_conditions(phi, first):
    def slope(a, h=1e-7):
        return (phi(a + h) - phi(a - h)) / (2 * h)

    s = line(phi(0.0), (phi(1e-7) - phi(0.0)) / 1e-7, first)
    for _ in range(30):
        a = s.trial
        verdict = advance(s, phi(a), slope(a))
        if verdict != "on":
            break
    if verdict == "found":
        assert phi(a) <= s.value + ARMIJO * a * s.slope
        assert abs(slope(a)) <= CURVATURE * abs(s.slope) + 1e-9
    else:  # only the kink, where no point satisfies them
        assert s.low_value < s.value
        assert s.low == pytest.approx(0.3, abs=0.1)


def test_it_stops_where_part_of_the_gradient_is_cut():
    search = solve(
        lambda x: (x**2).sum() + 3 * math.sin(float(x.detach()[0]) if hasattr(x, "detach") else x[0]),
        Space(Array((3,), -5, 5)),
        100,
    )
    assert search.stopped.error
    assert "math.sin" in search.stopped.reason


def test_it_stops_where_there_is_no_gradient():
    search = solve(lambda x: 1.0, Space(Array((3,), -5, 5)), 100)
    assert search.stopped.error
    assert search.stopped.reason.startswith("LBFGS needs gradients, but the cost returned a float")


def test_starts_follow_one_another():
    search = solve(lambda x: ((x - 1) ** 2).sum() + 1, Space(Array((3,), -5, 5)), 400, LBFGS(starts=3))
    assert search.stopped.reason == "LBFGS has converged from all 3 starts"
    assert search.best_value == pytest.approx(1, abs=1e-12)


def test_it_stops_where_nothing_has_a_value():
    search = solve(lambda x: float("nan"), Space(Array((3,), -5, 5)), 100)
    assert search.stopped.reason.startswith("LBFGS found no value at 20 starts in a row")


def test_discrete_columns_are_refused_with_methods_that_serve_them():
    with pytest.raises(MethodError, match="LBFGS got 1 discrete columns of 1.*CMAES, DE and GA"):
        LBFGS().init(Space(Choice(["a", "b"])), Key(0))
