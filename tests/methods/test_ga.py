"""What is true of the genetic algorithm alone: its operators against their formulas, its survivors, mixed columns."""

import numpy as np
import pytest
from scipy import stats
from tests.methods.judging import run, sphere, told

from eitherway.base.keys import Key
from eitherway.methods.variables import _variation as vary
from eitherway.methods.variables._population import copies
from eitherway.methods.variables.ga import GA
from eitherway.space.space import Space, as_space
from eitherway.space.variables import Choice, Integer, Real

BOX = as_space([(-5, 5)] * 5)
MIXED = Space(n=Integer(0, 20), c=Choice(["a", "b", "c", "d"]), x=Real(-1, 1), y=Real(1e-4, 1, scale="log"))
CHANCES = vary.Chances(0.9, 5.0, 20.0)


def _mixed(point):
    v = MIXED.decode(point[None])[0]
    return (v["n"] - 13) ** 2 + 3.0 * (v["c"] != "c") + (v["x"] - 0.5) ** 2 + (np.log10(v["y"]) + 2) ** 2


def test_children_spread_as_simulated_binary_crossover_says():
    eta = 5.0
    beta = vary.spread_factors(np.random.default_rng(0).random(20_000), eta)

    def distribution(b):  # the integral of Deb & Agrawal 1995, eqs. 10-11
        return np.where(b <= 1, b ** (eta + 1) / 2, 1 - np.maximum(b, 1e-9) ** -(eta + 1) / 2)

    assert stats.kstest(beta, distribution).pvalue > 0.01


def test_two_children_keep_the_mean_of_their_parents_column_by_column():
    rng = np.random.default_rng(0)
    a, b = rng.random((50, 4)), rng.random((50, 4))
    spread, _ = vary.spreads((1, 50, 4), (), CHANCES, rng)
    children = vary.blended(a, b, spread[0])
    assert (children[:50] + children[50:]) / 2 == pytest.approx((a + b) / 2)
    assert np.abs(children[:50] - children[50:]) == pytest.approx(np.abs(a - b) * np.abs(spread[0]))


def test_options_are_exchanged_but_never_blended():
    spread, crossed = vary.spreads((1, 2000, 2), (1,), CHANCES, np.random.default_rng(0))
    assert set(spread[..., 1].ravel()) == {-1.0, 1.0}
    assert abs(spread[..., 1].mean()) < 0.09  # four standard deviations
    assert len(np.unique(spread[..., 0])) > 500
    assert crossed.mean() == pytest.approx(0.9, abs=0.03)


def test_a_child_of_one_parent_alone_always_mutates():
    for turn in range(50):
        d = vary.draws(Key(0).at(turn), 10, 6, np.zeros(0, int), CHANCES)
        mutates = d.change.any(1).reshape(2, -1)
        assert mutates[:, (d.first == d.second)].all()
        assert (d.steps[~d.change] == 0).all()


def test_steps_of_a_mutation_are_polynomial():
    steps = vary.polynomial_steps(np.random.default_rng(0).random(20_000), 20.0)
    assert np.abs(steps).max() < 1
    # Deb & Goyal 1996: the share of steps that reach no further than d is 1 - (1 - d)^(eta + 1)
    assert stats.kstest(np.abs(steps), lambda d: 1 - (1 - d) ** 21).pvalue > 0.01
    assert abs((steps > 0).mean() - 0.5) < 0.015


def test_steps_of_whole_numbers_are_geometric_of_both_signs():
    steps = vary.two_sided(0.5, (20_000,), np.random.default_rng(0))
    counts = np.bincount(np.abs(steps), minlength=5)[:5] / 20_000
    assert counts == pytest.approx([0, 0.5, 0.25, 0.125, 0.0625], abs=0.015)
    assert abs((steps > 0).mean() - 0.5) < 0.015


def test_how_many_columns_mutate_has_a_heavy_tail():
    k = vary.heavy_tailed(20, (20_000,), np.random.default_rng(0))
    shares = np.arange(1, 11) ** -1.5
    assert np.bincount(k, minlength=11)[1:] / 20_000 == pytest.approx(shares / shares.sum(), abs=0.015)
    assert (vary.heavy_tailed(1, (10,), np.random.default_rng(0)) == 1).all()


def test_rounding_is_right_in_the_mean():
    space = Space(n=Integer(0, 9))
    points = np.full((20_000, 1), (4 + 0.5 + 0.3) / 10)  # three tenths of the way from 4 to 5
    cells = space.cells(vary.rounded(space, points, np.random.default_rng(0)))
    assert set(cells.ravel()) == {4, 5}
    assert cells.mean() == pytest.approx(4.3, abs=0.015)


def test_a_forced_mutation_changes_a_cell_and_no_real_column():
    points = MIXED.snap(MIXED.sample(300, np.random.default_rng(0)))
    change = np.zeros(points.shape, bool)
    changed = vary.mutated_cells(MIXED, points, change, np.ones(300, bool), np.random.default_rng(1))
    assert (MIXED.cells(changed) != MIXED.cells(points)).any(1).all()
    assert (changed[:, 2:] == points[:, 2:]).all()


def test_copies_are_found_by_what_is_called():
    space = Space(n=Integer(0, 1), x=Real(0, 1))
    points = np.array([[0.1, 0.5], [0.4, 0.5], [0.6, 0.5], [0.1, 0.25], [0.2, 0.5]])
    assert copies(space, points).tolist() == [False, True, False, False, True]


def test_the_best_of_parents_and_children_stay_and_no_two_are_the_same_call():
    key, method = Key(0), GA(population=8)
    state = method.init(MIXED, key)
    for turn in range(25):
        question = method.ask(state, MIXED, key.at(turn))
        values = np.array([_mixed(x) for x in question.points])
        everyone = np.concatenate([values, state.standings[:, 1]])
        population = len(state.points)
        state = method.tell(state, MIXED, question, told(values), key.at(turn))
        if len(state.points) != population:
            break  # it has begun anew
        assert state.standings[0, 1] == everyone.min()
        assert (np.diff(state.standings[:, 1]) >= 0).all()
        assert not copies(MIXED, state.points).any()


def test_only_ranks_matter():
    asked: list[list[np.ndarray]] = [[], []]
    for asks, cost in zip(asked, (sphere, lambda x: np.exp(sphere(x)))):
        run(GA(), BOX, cost, 30, each=lambda _, q, asks=asks: asks.append(q.points.copy()))
    assert all((a == b).all() for a, b in zip(*asked))


def test_it_comes_near_the_bottom_of_a_sphere():
    # the largest of 40 seeds was 1.5e-5
    _, best = run(GA(), BOX, sphere, 150)
    assert best < 1e-3


def test_mixed_columns_are_searched_together():
    # the largest of 40 seeds was 2e-5
    _, best = run(GA(), MIXED, _mixed, 150)
    assert best < 1e-2


def test_bits_are_found_one_by_one():
    space = Space(**{f"b{i}": Choice([0, 1]) for i in range(16)})
    _, best = run(GA(), space, lambda x: float((space.cells(x[None]) == 0).sum()), 80)
    assert best == 0


def test_an_open_column_is_searched_beyond_its_first_draws():
    space = Space(x=Real(), y=Real(0))
    _, best = run(GA(), space, lambda p: float((p[0] - 8) ** 2 + (p[1] - 5) ** 2), 200)
    assert best < 1e-2  # the largest of 40 seeds was 8e-6


def test_after_the_cost_has_moved_the_population_is_asked_again_beside_its_children():
    key, method = Key(0), GA()
    state, _ = run(method, BOX, sphere, 5)
    for turn in range(5, 9):  # and however often it moves, the population goes on
        question = method.ask(state, BOX, key.at(turn))
        values = np.array([sphere(x) for x in question.points]) + 100 * turn
        population = state.points.copy()
        P = len(population)
        if turn > 5:
            assert (question.points[P:] == population).all()
        state = method.tell(state, BOX, question, told(values, moved=True), key.at(turn))
        if turn > 5:
            assert (state.standings[:, 1] == np.sort(values)[:P]).all()


def test_a_population_that_has_converged_starts_anew_and_larger():
    sizes: list[int] = []
    run(GA(population=6), BOX, lambda x: 1.0, 6, each=lambda state, _: sizes.append(len(state.points)))
    assert sizes == [6, 6, 9, 9, 14, 14]
