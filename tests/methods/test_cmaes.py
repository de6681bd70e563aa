"""CMA-ES: the formulas of the paper, its invariances, its restarts, and what it does with failures and starts."""

import numpy as np
import pytest
from cmaes import CMA

from eitherway.base.keys import Key
from eitherway.methods import codec
from eitherway.methods.protocol import FAILED, OK, Told
from eitherway.methods.variables._gaussian import mirrored, rates, shares
from eitherway.methods.variables._restarts import first_run, next_run
from eitherway.methods.variables.cmaes import CMAES
from eitherway.space.space import Space
from eitherway.space.variables import Array, Real

OPEN = Space(Array((5,)))
BOX = Space(Array((5,), -5, 5))


def sphere(points):
    return ((points - 0.3) ** 2).sum(1)


def ellipsoid(points):
    return (points**2 * 10.0 ** np.linspace(0, 6, points.shape[1])).sum(1)


def told(values, status=None, **more):
    values = np.asarray(values, float)
    return Told(values, np.zeros(len(values), int) if status is None else np.asarray(status), **more)


def turns(method, space, cost, n, seed=0, state=None, first=0):
    """(state, question, values) after each of n turns with a cost of (P, D) search coordinates."""
    key = Key(seed)
    state = method.init(space, key) if state is None else state
    for turn in range(first, first + n):
        question = method.ask(state, space, key.at(turn))
        values = cost(question.points)
        state = method.tell(state, space, question, told(values), key.at(turn))
        yield state, question, values


def last(steps):
    *_, (state, *_) = steps
    return state


def test_told_the_same_points_it_follows_the_cmaes_package():
    method, D = CMAES(population=20), 5  # large enough for a decomposition every turn, as theirs
    state = method.init(OPEN, Key(3))
    P = state.run.population
    r = rates(P, D)
    theirs = CMA(mean=np.zeros(D), sigma=0.2, cov=25 * np.eye(D), population_size=P, seed=1)
    # they leave the 1/4 out of c_mu (eq. 58), which moves the negative weights too, and count turns from 1, not 0
    theirs._cmu, theirs._weights, theirs._g = r.c_mu, r.positive + r.negative, -1
    theirs._mu_eff = r.worth  # their points are not mirrored
    for state, question, values in turns(method, OPEN, ellipsoid, 60, seed=3):
        theirs.tell([(x.copy(), v) for x, v in zip(question.points, values)])
        g = state.normal
        for ours, other in (
            (g.mean, theirs._mean),
            (g.sigma, theirs._sigma),
            (g.covariance, theirs._C),
            (g.path_sigma, theirs._p_sigma),
            (g.path_c, theirs._pc),
        ):
            np.testing.assert_allclose(ours, other, rtol=1e-6, atol=1e-8 * np.abs(other).max())


def test_the_rates_are_those_of_pycma():
    cma = pytest.importorskip("cma")
    for D in (2, 10, 40):
        es = cma.CMAEvolutionStrategy(np.zeros(D), 0.3, {"verbose": -9})
        r = rates(es.popsize, D)
        theirs = es.sp.weights
        np.testing.assert_allclose(r.positive[: es.popsize // 2], theirs.positive_weights, rtol=1e-12)
        assert r.mu_eff == pytest.approx(theirs.mueff)
        assert (r.c_c, r.c_mu) == pytest.approx((es.sp.cc, es.sp.cmu))


@pytest.mark.parametrize("transform", [np.exp, np.sqrt, np.cbrt])
def test_only_the_order_of_the_values_counts(transform):
    def plain(points):
        return sphere(points)

    for (a, _, _), (b, _, _) in zip(
        turns(CMAES(), BOX, plain, 40), turns(CMAES(), BOX, lambda x: transform(plain(x)), 40)
    ):
        assert codec.encode(a.normal) == codec.encode(b.normal)


def test_a_rotated_space_is_searched_as_well_as_a_straight_one():
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]

    def reached(cost):
        return np.median(
            [min(cost(q.points).min() for _, q, _ in turns(CMAES(), OPEN, cost, 150, seed=s)) for s in range(15)]
        )

    straight, turned = reached(ellipsoid), reached(lambda x: ellipsoid(x @ rotation))
    # medians of log10 over 15 runs of about 1200 evaluations differ by less than 3 in 199 of 200 draws
    assert abs(np.log10(straight) - np.log10(turned)) < 3


def test_a_shift_of_an_open_space_shifts_every_mean_and_changes_nothing_else():
    space, offset = Space(Array((3,), start=[10.0, -4.0, 0.5], spread=2.0)), np.array([10.0, -4.0, 0.5])
    plain = Space(Array((3,)))

    def shifted(points):
        return (((np.array(space.decode(points)) - offset) / 2 - 0.7) ** 2).sum(1)

    for (a, _, _), (b, _, _) in zip(
        turns(CMAES(), space, shifted, 30), turns(CMAES(), plain, lambda x: ((x - 0.7) ** 2).sum(1), 30)
    ):
        np.testing.assert_allclose(a.normal.mean, b.normal.mean, atol=1e-9)


def test_it_finds_the_optimum_of_an_ill_conditioned_ellipsoid():
    reached = min(values.min() for _, _, values in turns(CMAES(), OPEN, ellipsoid, 400))
    assert reached < 1e-8


@pytest.mark.parametrize("optimum", [0.0, 1.0, 0.001])
def test_an_optimum_on_or_near_the_bounds_is_found(optimum):
    def cost(points):
        return ((points - optimum) ** 2).sum(1)

    reached = min(values.min() for _, _, values in turns(CMAES(), BOX, cost, 300))
    assert reached < 1e-8


def test_equal_rows_take_their_places_in_row_order():
    r = rates(8, 5)
    positive, negative = shares(told([3, 1, 1, 1, 5, 5, 7, 9]), r)
    np.testing.assert_array_equal(positive + negative, (r.positive + r.negative)[[3, 0, 1, 2, 4, 5, 6, 7]])


@pytest.mark.parametrize("P, D", [(8, 5), (9, 5), (7, 2), (40, 3), (4, 1), (6, 20), (1, 3)])
def test_mirrored_points_are_opposite_and_at_right_angles(P, D):
    (z,), half = mirrored(np.random.default_rng(0), 1, P, D), (P + 1) // 2
    np.testing.assert_array_equal(z[half:], -z[: P - half])
    block = z[: min(half, D)]
    np.testing.assert_allclose(block @ block.T, np.diag((block**2).sum(1)), atol=1e-12)


def test_each_mirrored_point_alone_is_standard_normal():
    rng = np.random.default_rng(0)
    z = mirrored(rng, 20_000, 8, 3)
    for row in (0, 3, 5):
        # five standard errors of 20 000 draws: of a mean 0.035, of a covariance 0.05, of a fourth moment 0.35
        np.testing.assert_allclose(z[:, row].mean(0), 0, atol=0.035)
        np.testing.assert_allclose(np.cov(z[:, row].T), np.eye(3), atol=0.05)
        assert (z[:, row] ** 4).mean() == pytest.approx(3, abs=0.35)


@pytest.mark.parametrize("P", [4, 7, 8, 20])
def test_a_mean_step_that_tells_nothing_is_as_long_as_the_paths_take_it_for(P):
    rng, r = np.random.default_rng(1), rates(P, 5)
    squares = [((rng.permutation(r.positive) @ z) ** 2).sum() for z in mirrored(rng, 6000, P, 5)]
    # the standard error of the mean is about 1.5 %
    assert np.mean(squares) * r.worth / 5 == pytest.approx(1, abs=0.06)


def test_where_nothing_can_be_told_apart_the_step_size_drifts_no_more_than_by_chance():
    # a plateau: log sigma wanders with mean 0; its standard deviation over 100 seeds of 40 turns is about 0.7
    ends = [
        np.log(last(turns(CMAES(), OPEN, lambda x: np.zeros(len(x)), 9, seed=s)).normal.sigma / 0.2) for s in range(60)
    ]
    assert abs(np.mean(ends)) < 0.3


def test_a_failed_row_repels_but_never_attracts():
    status = [OK, FAILED, FAILED, FAILED, FAILED, FAILED, FAILED, FAILED]
    positive, negative = shares(told([1.0] + [np.nan] * 7, status), rates(8, 5))
    assert positive[0] > 0
    assert (positive[1:] == 0).all()
    assert (negative[-4:] < 0).all()


def test_it_searches_beside_a_region_where_every_point_fails():
    key, method = Key(1), CMAES()
    state, best = method.init(BOX, key), np.inf
    for turn in range(150):
        question = method.ask(state, BOX, key.at(turn))
        failed = question.points[:, 0] < 0.3  # the optimum lies on the edge of it
        values = np.where(failed, np.nan, sphere(question.points))
        state = method.tell(state, BOX, question, told(values, failed.astype(int)), key.at(turn))
        best = min(best, np.nanmin(np.append(values, best)))
    assert best < 1e-8


def test_where_every_point_fails_it_begins_elsewhere():
    key, method = Key(1), CMAES()
    state = method.init(BOX, key)
    for turn in range(4):
        question = method.ask(state, BOX, key.at(turn))
        state = method.tell(
            state, BOX, question, told(np.full(len(question.points), np.nan), [1] * len(question.points)), key.at(turn)
        )
    assert state.run.endings == ["failures"]


def test_infeasible_rows_rank_by_violation_and_the_feasible_optimum_is_found():
    key, method = Key(0), CMAES()
    state, best = method.init(BOX, key), np.inf
    for turn in range(200):
        question = method.ask(state, BOX, key.at(turn))
        x = question.points
        violations = (2.5 - x.sum(1))[:, None]  # feasible where the sum is at least 2.5
        values = sphere(x)
        best = min(best, values[violations[:, 0] <= 0].min(initial=np.inf))
        state = method.tell(state, BOX, question, told(values, violations=violations), key.at(turn))
    assert best == pytest.approx(1 / 5, rel=1e-3)


def test_starts_are_asked_first_and_the_first_one_is_the_centre():
    space = Space(a=Real(0, 10), b=Real(0, 10)).with_starts([{"a": 2.0, "b": 3.0}, {"a": 9.0, "b": 9.0}])
    method, key = CMAES(), Key(0)
    state = method.init(space, key)
    np.testing.assert_array_equal(state.normal.mean, space.starts[0])
    question = method.ask(state, space, key)
    np.testing.assert_array_equal(question.points[:2], space.starts)
    assert len(question.points) == state.run.population
    state = method.tell(state, space, question, told(sphere(question.points)), key)
    assert not (method.ask(state, space, key.at(1)).points[:2] == space.starts).all()


def test_more_starts_than_a_population_are_all_asked_in_the_first_turn():
    starts = [{"a": float(i), "b": 1.0} for i in range(11)]
    space = Space(a=Real(0, 10), b=Real(0, 10)).with_starts(starts)
    steps = turns(CMAES(), space, sphere, 3)
    assert [len(question.points) for _, question, _ in steps] == [11, 6, 6]


def test_a_far_start_moves_the_cloud_no_further_than_a_drawn_point_could():
    space = Space(Array((2,), -1, 1)).with_starts([[0.0, 0.0], [1.0, 1.0]])
    method, key = CMAES(sigma=0.01), Key(0)
    question = method.ask(method.init(space, key), space, key)
    state = method.tell(method.init(space, key), space, question, told(-question.points.sum(1)), key)
    assert np.abs(state.normal.mean - 0.5).max() < 0.05


def test_a_converged_run_says_why_and_the_next_one_is_larger():
    state = last(turns(CMAES(), BOX, sphere, 300))
    assert state.run.endings[0] in ("tolfun", "tolx")
    assert state.run.kind != "first"


def test_a_rugged_plateau_is_left_because_it_is_flat():
    state = last(turns(CMAES(), BOX, lambda x: np.floor(x[:, 0] * 1e-3), 60))
    assert state.run.endings[0] == "tolfun"


def test_values_of_different_carries_are_not_compared():
    state = last(turns(CMAES(), BOX, sphere, 20))
    assert len(state.run.history) == 20
    question = CMAES().ask(state, BOX, Key(0).at(20))
    state = CMAES().tell(state, BOX, question, told(sphere(question.points), moved=True), Key(0).at(20))
    assert len(state.run.history) == 0


def test_small_and_large_runs_share_the_evaluations():
    run, rng = first_run(10), np.random.default_rng(0)
    for _ in range(40):
        run.taken = 3000 if run.limit < 0 else min(3000, run.limit)
        run, factor = next_run(run, "tolfun", 10, True, rng.random(2))
        assert factor == 1 or (run.kind == "small" and 0.01 <= factor <= 1)
        assert run.population <= 10 * 2 ** max(run.doublings - 1, 0) or run.kind == "large"
    assert 0.4 < run.spent_small / (run.spent_small + run.spent_large) < 0.6


def test_doubling_doubles_and_never_stops_for_good():
    assert next_run(first_run(10), "tolx", 10, False, np.zeros(2))[0].population == 20
    method = CMAES(restarts="never")
    state = last(turns(method, BOX, sphere, 300))
    assert "converged" in method.stopped(state).reason
    assert "restarts='bipop' would go on" in method.stopped(state).reason
    assert CMAES().stopped(last(turns(CMAES(), BOX, sphere, 300))) is None


def test_a_state_goes_through_the_codec():
    state = last(turns(CMAES(), BOX, sphere, 30))
    again = codec.decode(codec.encode(state))
    rest = zip(
        turns(CMAES(), BOX, sphere, 90, state=again, first=30), turns(CMAES(), BOX, sphere, 90, state=state, first=30)
    )
    for (a, _, _), (b, _, _) in rest:
        assert codec.encode(a) == codec.encode(b)


def test_infinite_values_are_values():
    def cost(points):
        return np.where(points[:, 0] > 0.6, np.inf, sphere(points))

    assert sphere(CMAES().recommend(last(turns(CMAES(), BOX, cost, 60)))[None])[0] < 1e-6


def test_after_a_restart_the_centre_of_the_better_run_is_recommended():
    states = [state for state, _, _ in turns(CMAES(), BOX, lambda x: np.floor(1e9 * sphere(x)), 200)]
    assert states[-1].run.endings
    assert sphere(CMAES().recommend(states[-1])[None])[0] < 1e-7
    method, key = CMAES(), Key(0)
    question = method.ask(states[-1], BOX, key.at(200))
    state = method.tell(states[-1], BOX, question, told(sphere(question.points), moved=True), key.at(200))
    assert state.settled is None
    np.testing.assert_array_equal(method.recommend(state), state.normal.mean)
    assert method.recommend(method.init(BOX, key)) is None
