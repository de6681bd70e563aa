"""Adam: what is true of it alone, and how the first-order methods share their doubt of autograd."""

import math

import numpy as np
import pytest

from eitherway.base.errors import MethodError
from eitherway.base.keys import Key
from eitherway.methods.protocol import FAILED, OK, Told
from eitherway.methods.variables.adam import Adam
from eitherway.methods.variables.gradient_descent import GradientDescent
from eitherway.run.search import Search
from eitherway.space.space import Space
from eitherway.space.variables import Array, Integer, Real
from eitherway.testing import drive

torch = pytest.importorskip("torch")

OPEN = Space(Array((4,), start=0.0, spread=1.0))


def valley(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def path(method, space, cost, turns):
    """The rows of every question for gradients."""
    search, rows = Search(space, method), []
    for _ in range(turns):
        if search.open() is None:
            break
        if search.question.wants == "gradient":
            rows.append(search.question.points.copy())
        drive(search, cost, 1)
    return search, rows


@pytest.mark.parametrize("settings", [{}, {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3}])
def test_it_is_torchs_adam_step_for_step(settings):
    start = np.array([-1.2, 1.0, 0.5, 2.0])
    _, rows = path(Adam(**settings), OPEN.with_starts([start]), valley, 60)
    x = torch.tensor(start, requires_grad=True)
    ours = Adam(**settings)
    theirs = torch.optim.Adam([x], lr=ours.lr, betas=(ours.beta1, ours.beta2), eps=ours.eps)
    for points in rows:
        np.testing.assert_allclose(points[0], x.detach().numpy(), rtol=1e-10)
        theirs.zero_grad()
        valley(x).backward()
        theirs.step()
    assert len(rows) > 50


def test_rows_are_independent_starts():
    starts = [np.full(4, -1.0), np.full(4, 2.0)]
    _, both = path(Adam(starts=2), OPEN.with_starts(starts), valley, 40)
    _, second = path(Adam(), OPEN.with_starts(starts[1:]), valley, 40)
    np.testing.assert_allclose([rows[1] for rows in both[:30]], [rows[0] for rows in second[:30]], rtol=1e-12)


def test_bounds_hold_and_gradients_are_those_of_search_coordinates():
    space = Space(x=Real(1e-3, 1e3, scale="log"), y=Real(-1, 1))
    search, rows = path(
        Adam(lr=0.05), space, lambda x, y: torch.log(x * torch.ones((), dtype=torch.float64)) ** 2 + y, 10
    )
    assert search.state.method.descent.confirmed  # the difference agreed, so the chain rule was applied
    search, rows = path(Adam(lr=0.05), space, lambda x, y: (x - 20.0) ** 2 / 400 + y, 300)
    assert all((r >= 0).all() and (r <= 1).all() for r in rows)
    assert search.best["y"] == -1
    assert search.best["x"] == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("method", [Adam(), GradientDescent()])
@pytest.mark.parametrize(
    "cost",
    [
        lambda x: x.sum() + 5 * math.sin(float(x.detach()[0]) if hasattr(x, "detach") else x[0]),
        lambda x: ((x.detach() if hasattr(x, "detach") else x)[1:] ** 2).sum() + x[0] ** 2,
    ],
    ids=["math.sin and float", "detach"],
)
def test_a_gradient_that_is_cut_in_part_is_told(method, cost):
    search, rows = path(method, OPEN.with_starts([np.full(4, 1.0)]), cost, 20)
    assert len(rows) == 1, "a step was made along a wrong gradient"
    assert search.stopped.error
    for word in ("math.sin", "float(", ".detach()", ".item()", "int(", "CMAES"):
        assert word in search.stopped.reason


@pytest.mark.parametrize(
    "cost, said",
    [
        (lambda x: 3.0, "Adam needs gradients, but the cost returned a float that torch cannot follow"),
        (lambda x: float(np.sum(np.asarray(x))), "Adam needs gradients, but the cost cannot run on tensors"),
    ],
)
def test_where_there_is_no_gradient_it_says_so(cost, said):
    search, _ = path(Adam(), OPEN, cost, 20)
    assert search.stopped.error
    assert search.stopped.reason.startswith(said)
    assert "CMAES, DE or SQP(gradients='differences')" in search.stopped.reason


def test_a_cut_that_comes_later_is_seen_after_a_stall():
    """Right at first, cut for x < 0.5: the stall there is looked into."""

    def cost(x):
        if x[0] > 0.5:
            return (x**2).sum()
        return (x.detach() ** 2).sum() + 0 * x.sum() if hasattr(x, "detach") else (x**2).sum()

    search, rows = path(Adam(), OPEN.with_starts([np.full(4, 1.0)]), cost, 400)
    assert 100 < len(rows) < 250
    assert "is cut" in search.stopped.reason


def test_kinks_are_survived():
    search, _ = path(Adam(lr=0.01), OPEN, lambda x: abs(x).sum() + 1, 400)
    assert search.stopped is None
    assert search.best_value < 1.1


def test_a_row_that_fails_begins_anew_without_a_past():
    search = Search(OPEN, Adam(starts=2))
    for turn in range(12):
        q = search.open()
        values, status = (q.points**2).sum(1), np.zeros(len(q.points), np.uint8)
        if turn == 8:
            values[1], status[1] = np.nan, FAILED
        gradients = 2 * q.points if q.wants == "gradient" else None
        if turn == 8:
            gradients[1] = np.nan
        search.move(Told(values, status, gradients))
    t = search.state.method.t
    assert t[0] - t[1] > 4
    assert (search.state.method.m != 0).all()
    assert OK == 0


def test_it_stops_where_nothing_has_a_value():
    search, _ = path(Adam(), OPEN, lambda x: float("nan"), 60)
    assert search.stopped.reason == "Adam found no value in 20 turns in a row; give it a point that has one: start="


def test_discrete_columns_are_refused_with_methods_that_serve_them():
    with pytest.raises(MethodError, match="Adam got 1 discrete columns of 2.*CMAES, DE and GA"):
        Adam().init(Space(a=Real(0, 1), b=Integer(0, 5)), Key(0))
