"""What is true of differential evolution alone: its parts against their formulas, its memory, its restarts."""

import numpy as np
import pytest
from scipy import stats
from tests.methods.judging import run, sphere, told

from eitherway.base.keys import Key
from eitherway.methods.variables import _difference as parts
from eitherway.methods.variables.de import DE, DEState
from eitherway.space.space import Space, as_space
from eitherway.space.variables import Choice, Integer, Real

BOX = as_space([(-5, 5)] * 5)


def test_a_mutant_towards_oneself_is_the_textbook_rand_1_bin_step():
    rng = np.random.default_rng(0)
    P, D = 8, 4
    x = rng.random((P, D))
    base, a, b = (x[rng.permutation(P)] for _ in range(3))
    F, CR = np.full(P, 0.7), np.full(P, 0.4)
    cross = rng.random((P, D))
    child = parts.crossed(parts.mutants(base, base, a, b, F), x, CR, cross)
    for i in range(P):  # Storn & Price 1997, as it is written there
        for j in range(D):
            crosses = cross[i, j] < 0.4
            wanted = base[i, j] + 0.7 * (a[i, j] - b[i, j]) if crosses else x[i, j]
            assert child[i, j] == pytest.approx(wanted, abs=1e-15)


def test_partners_differ_from_the_row_and_from_each_other_and_are_drawn_evenly():
    r1, r2 = parts.partners(4000, 5, 3, np.random.default_rng(0))
    rows = np.arange(5)
    assert (r1 != rows).all()
    assert (r2 != rows).all()
    assert (r1 != r2).all()
    expected = np.array([500] * 4 + [667] * 3)  # a row of the population may be taken by r1, one of the archive not
    for i in range(5):  # four standard deviations
        assert (np.abs(np.delete(np.bincount(r1[:, i], minlength=5), i) - 1000) < 110).all()
        assert (np.abs(np.delete(np.bincount(r2[:, i], minlength=8), i) - expected) < 95).all()


def test_f_and_cr_lie_about_what_worked():
    turns = [parts.draws(Key(0).at(turn), 50, 25, 4, 8) for turn in range(400)]
    memory = np.repeat([[0.5], [0.4]], 8, axis=1)
    F, CR = np.concatenate([parts.remembered(memory, d.cells, d.about) for d in turns], axis=1)
    unlimited = F < 1
    assert stats.kstest(F[unlimited], _mirrored_cauchy(0.5)).pvalue > 0.01
    assert unlimited.mean() == pytest.approx(_mirrored_cauchy(0.5, share=True), abs=0.01)
    assert stats.kstest(CR, stats.norm(0.4, 0.1).cdf).pvalue > 0.01


def _mirrored_cauchy(m, share=False):
    """The distribution of |m + 0.1 Cauchy| below 1, or its share below 1."""
    cauchy = stats.cauchy(m, 0.1)
    below = cauchy.cdf(1) - cauchy.cdf(-1)
    return below if share else lambda x: (cauchy.cdf(x) - cauchy.cdf(-x)) / below


def test_one_column_at_least_always_crosses_each_equally_often():
    cross = np.concatenate([parts.draws(Key(0).at(turn), 10, 5, 5, 8).cross for turn in range(300)])
    assert ((cross < 0).sum(1) == 1).all()
    assert (np.abs((cross < 0).sum(0) - 600) < 90).all()  # four standard deviations


def test_draws_are_the_same_in_whatever_order_turns_are_asked():
    forwards = [parts.draws(Key(3).at(turn), 8, 4, 5, 8) for turn in range(40)]
    parts._block.cache_clear()
    for turn in reversed(range(40)):
        again = parts.draws(Key(3).at(turn), 8, 4, 5, 8)
        assert all((a == b).all() for a, b in zip(forwards[turn], again))
    assert (forwards[0].cross != forwards[1].cross).any()
    assert (forwards[15].cross != forwards[16].cross).any()


def test_the_memory_keeps_the_weighted_lehmer_mean():
    F = (0.25 * 0.25 + 0.75) / (0.25 * 0.5 + 0.75)  # eq. 7
    assert parts.lehmer([0.5, 1.5], [0.5, 1.0]) == pytest.approx(F)
    assert parts.lehmer([0.5, 1.5], [0.0, 0.8]) == pytest.approx(0.8)
    assert parts.lehmer([1.0], [0.0]) == 0


def test_a_turn_writes_the_memory_with_what_gained_weighted_by_the_gain():
    key, method = Key(0), DE(population=6, control="memory")
    state = method.init(BOX, key)
    state = method.tell(state, BOX, method.ask(state, BOX, key), told(np.arange(6.0)), key)
    question = method.ask(state, BOX, key.at(1))
    F, CR, slots = question.notes
    parents = state.points.copy()
    values = np.array([9.0, 0.0, 9.0, 0.0, 9.0, 9.0])  # rows 1 and 3 gain 1 and 3
    state = method.tell(state, BOX, question, told(values), key.at(1))
    w, f, cr = np.array([0.25, 0.75]), F[[1, 3]], np.clip(CR[[1, 3]], 0, 1)
    assert state.memory[:, 0] == pytest.approx([(w * f**2).sum() / (w * f).sum(), (w * cr**2).sum() / (w * cr).sum()])
    assert state.slot == 1
    assert (state.points[[1, 3]] == question.points[[1, 3]]).all()
    assert (state.pool[6 + slots[3]] == parents[3]).all()


def test_composed_parameters_do_not_notice_a_monotone_change_of_the_cost():
    asked: list[list[np.ndarray]] = [[], []]
    for asks, cost in zip(asked, (sphere, lambda x: np.exp(sphere(x)))):
        run(DE(control="sets"), BOX, cost, 30, each=lambda _, q, asks=asks: asks.append(q.points.copy()))
    assert all((a == b).all() for a, b in zip(*asked))


def test_it_finds_the_bottom_of_a_sphere():
    # the largest of 60 seeds was 1.9e-7
    _, best = run(DE(), BOX, sphere, 150)
    assert best < 1e-5


def test_after_the_cost_has_moved_the_population_is_asked_again_beside_its_children():
    key, method = Key(0), DE()
    state, _ = run(method, BOX, sphere, 5)
    for turn in range(5, 9):  # and however often it moves, the population goes on
        question = method.ask(state, BOX, key.at(turn))
        values = np.array([sphere(x) for x in question.points]) + 100 * turn
        population = state.points.copy()
        P = len(population)
        if turn > 5:
            assert (question.points[:P] == population).all()
        state = method.tell(state, BOX, question, told(values, moved=True), key.at(turn))
        if turn > 5:
            assert (state.standings[:, 1] == np.minimum(values[:P], values[P:])).all()
            assert ((state.points == question.points[P:]).all(1) == (values[P:] <= values[:P])).all()


def test_a_population_that_has_converged_starts_anew_and_larger():
    sizes: list[int] = []
    run(DE(population=6), BOX, lambda x: 1.0, 8, each=lambda state, _: sizes.append(len(state.points)))
    assert sizes == [6, 6, 9, 9, 14, 14, 21, 21]
    asked: list[np.ndarray] = []
    run(DE(population=6), BOX, lambda x: 1.0, 4, each=lambda _, q: asked.append(q.points.copy()))
    assert len(np.unique(np.concatenate([asked[0], asked[2]]), axis=0)) == 15


def test_a_population_that_gains_nothing_starts_anew():
    def never(x):  # every value is worse than the one before
        never.calls += 1
        return never.calls

    never.calls = 0
    sizes: list[int] = []
    run(DE(population=6, patience=3), BOX, never, 6, each=lambda state, _: sizes.append(len(state.points)))
    assert sizes == [6, 6, 6, 6, 9, 9]


def test_options_on_which_the_population_agrees_stay_but_for_the_odd_reset():
    space = Space(c=Choice(list(range(10))), **{f"x{i}": Real(0, 1) for i in range(19)})
    x = space.sample(400, np.random.default_rng(0))
    x[:, 0] = 0.55
    mutant = x.copy()
    F = np.ones(len(x))
    parts.unordered(space, mutant, x, x, x[::-1], np.roll(x, 1, 0), F, np.random.default_rng(1))
    changed = space.cells(mutant)[:, 0] != 5
    assert changed.mean() == pytest.approx(0.9 / 20, abs=0.03)


def test_an_option_comes_from_the_best_or_from_a_partner_whatever_its_number():
    space = Space(c=Choice(list(range(9))), d=Choice(list(range(9))))
    x, best, a, b = (np.full((500, 2), (cell + 0.5) / 9) for cell in (0, 8, 4, 5))
    mutant = x.copy()
    parts.unordered(space, mutant, x, best, a, b, np.full(500, 0.5), np.random.default_rng(0))
    shares = np.bincount(space.cells(mutant)[:, 0], minlength=9) / 500
    # half reset; of the rest half a's, a quarter each the best's and one's own
    assert shares[[0, 4, 8]] == pytest.approx([0.125 + 0.055, 0.25 + 0.055, 0.125 + 0.055], abs=0.08)


def test_mixed_columns_are_searched_together():
    space = Space(n=Integer(0, 20), c=Choice(["a", "b", "c", "d"]), x=Real(-1, 1), y=Real(1e-4, 1, scale="log"))

    def cost(point):
        v = space.decode(point[None])[0]
        return (v["n"] - 13) ** 2 + 3.0 * (v["c"] != "c") + (v["x"] - 0.5) ** 2 + (np.log10(v["y"]) + 2) ** 2

    # the largest of 60 seeds was 3e-12
    _, best = run(DE(), space, cost, 120)
    assert best < 1e-6


def test_a_constraint_is_met_and_the_best_point_lies_on_its_edge():
    key, method, best = Key(1), DE(), np.inf
    state: DEState = method.init(BOX, key)
    for turn in range(150):
        question = method.ask(state, BOX, key.at(turn))
        values = question.points.sum(1)
        violations = 2.0 - values[:, None]  # the sum may not fall below 2
        best = min(best, values[violations[:, 0] <= 0].min(initial=np.inf))
        state = method.tell(state, BOX, question, told(values, violations=violations), key.at(turn))
    assert 2 <= best < 2.001
