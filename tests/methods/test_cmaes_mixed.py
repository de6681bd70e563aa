"""CMA-ES on whole numbers and choices: the formulas of CatCMA with Margin, and what it finds."""

import numpy as np
import pytest
from cmaes import CatCMAwM

from eitherway.base.keys import Key
from eitherway.methods import codec
from eitherway.methods.protocol import Told
from eitherway.methods.variables import _mixed
from eitherway.methods.variables._categories import categories, draw, follow
from eitherway.methods.variables._gaussian import rates
from eitherway.methods.variables._margin import centre, correct, margin
from eitherway.methods.variables.cmaes import CMAES
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice, Integer, Real


def told(values):
    values = np.asarray(values, float)
    return Told(values, np.zeros(len(values), int))


def search(space, cost, n, seed=0, method=None):
    """(state, question, values) after each of n turns with a cost of what the space decodes to."""
    method, key = method or CMAES(), Key(seed)
    state = method.init(space, key)
    for turn in range(n):
        question = method.ask(state, space, key.at(turn))
        values = np.array([cost(**row) for row in space.decode(question.points)])
        state = method.tell(state, space, question, told(values), key.at(turn))
        yield state, question, values


def evaluations_to(target, space, cost, n=400, seed=0):
    """Evaluations until the target is met, or all of n turns."""
    spent = 0
    for _, _, values in search(space, cost, n, seed):
        spent += len(values)
        if values.min() <= target:
            return spent
    return np.inf


MIXED = Space(
    x0=Real(),
    x1=Real(),
    z0=Integer(-4, 3),
    z1=Integer(0, 7),
    z2=Integer(1, 8),
    c0=Choice(["a", "b", "c"]),
    c1=Choice(["a", "b", "c", "d", "e"]),
)


def bowl(x0, x1, z0, z1, z2, c0, c1):
    return (x0 - 0.4) ** 2 + 9 * (x1 + x0) ** 2 + (z0 + 4) ** 2 + (z1 - 4) ** 2 + z2 + (c0 != "b") + (c1 != "e")


def test_told_the_same_points_it_follows_the_catcmawm_of_the_cmaes_package():
    method, key = CMAES(population=20), Key(5)  # large enough for a decomposition every turn, as theirs
    state = method.init(MIXED, key)
    P, r = state.run.population, rates(state.run.population, 5)
    middles = [((np.arange(8) + 0.5) / 8).tolist()] * 3
    theirs = CatCMAwM(
        x_space=[[-np.inf, np.inf]] * 2,
        z_space=middles,
        c_space=[3, 5],
        population_size=P,
        mean=state.normal.mean.copy(),
        sigma=0.2,
        cov=state.normal.covariance.copy(),
    )
    # what differs between the packages by intent is told in the test of the real columns
    theirs._cmu, theirs._weights, theirs._g = r.c_mu, r.positive + r.negative, -1
    theirs._mu_eff = r.worth
    for turn in range(40):
        theirs._delta = 1 / theirs._Delta  # ASNG, algorithm 1; theirs is a turn late
        question = method.ask(state, MIXED, key.at(turn))
        cells = MIXED.cells(question.points)
        values = np.array([bowl(**row) for row in MIXED.decode(question.points)])
        assert len(set(values.tolist())) == P
        solutions = []
        for x, whole, cell in zip(question.points, question.notes, cells):
            taken = np.zeros((2, 5), bool)
            taken[[0, 1], cell[5:]] = True
            solutions.append(
                CatCMAwM.Solution(x[:2].copy(), (cell[2:5] + 0.5) / 8, taken, np.concatenate([x[:2], whole]))
            )
        theirs.tell(list(zip(solutions, values.tolist())))
        state = method.tell(state, MIXED, question, told(values), key.at(turn))
        g, m = state.normal, state.discrete
        pairs = [
            (g.mean, theirs._mean),
            (g.sigma, theirs._sigma),
            (g.covariance, theirs._C),
            (m.margin.stretch, theirs._A[2:]),
            (m.margin.rate, theirs._pmut),
        ]
        if turn < 15:  # then beta passes 1, where ours stays
            pairs += [(m.categories.q, theirs._q), (m.categories.pace, theirs._Delta)]
        for ours, other in pairs:
            np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-7)


def test_without_discrete_columns_the_discrete_code_changes_no_bit():
    space = Space(Array((4,), -1, 1))
    method, key = CMAES(), Key(0)

    def run(with_margin):
        state = method.init(space, key)
        if with_margin:
            state.discrete = _mixed.mixed(space, state.normal.mean)
        for turn in range(40):
            question = method.ask(state, space, key.at(turn))
            values = ((question.points - 0.37) ** 2).sum(1)
            state = method.tell(state, space, question, told(values), key.at(turn))
        return codec.encode(state.normal)

    assert run(False) == run(True)


def test_every_neighbouring_cell_stays_within_reach():
    rng = np.random.default_rng(0)
    n, alpha = 200, 0.1
    m = margin(n)
    K = rng.integers(3, 30, n)
    cell = rng.integers(0, K)
    low, high = cell / K, (cell + 1) / K
    mean, deviation = low + (high - low) * rng.random(n), 10.0 ** rng.uniform(-9, 0, n)
    mean = correct(m, mean, deviation, low, high, rng.random(n) < 0.5, alpha)
    draws = mean + deviation * m.stretch * rng.standard_normal((20_000, n))
    below, above = (draws < low).mean(0), (draws > high).mean(0)
    end = (cell == 0) | (cell == K - 1)
    # 0.008: four standard errors of a share of 0.05 to 0.1 of 20 000
    assert (np.where(cell == 0, above, below)[end] > alpha - 0.01).all()
    assert (np.minimum(below, above)[~end] > alpha / 2 - 0.008).all()
    assert ((mean > low - 1e-12) & (mean < high + 1e-12))[~end].all()


def test_without_a_successful_mutation_mutations_become_no_likelier():
    m = margin(1)
    m.rate[:] = 0.2
    edges = np.array([0.5]), np.array([0.625])
    correct(m, np.array([0.55]), np.array([0.5]), *edges, np.array([False]), 0.1)
    assert m.rate[0] <= 0.2 + 1e-9


def test_centring_moves_mutants_to_the_middle_and_takes_the_bias_back():
    v = np.array([[0.51], [0.52], [0.66], [0.9]])
    low = np.array([[0.5], [0.5], [0.625], [0.875]])
    chosen = np.array([[True], [True], [True], [False]])
    moved, success = centre(v, low, low + 0.125, np.array([0.5]), chosen)
    assert success[0]
    assert moved[2, 0] == pytest.approx(0.6875)
    assert moved[3, 0] == v[3, 0]
    assert (moved[:3] < low[:3] + 0.125).all()
    # the mutant's move is upwards; those that stayed lie below their middle, so they have nothing to take back
    np.testing.assert_array_equal(moved[:2], v[:2])
    v[2] = 0.74
    moved, _ = centre(v, low, low + 0.125, np.array([0.5]), chosen)
    assert moved[:3].sum() == pytest.approx(v[:3].sum())


def test_no_option_ever_vanishes_and_the_probabilities_sum_to_one():
    rng, levels, alpha = np.random.default_rng(0), np.array([2, 3, 7]), 0.1
    c = categories(levels)
    for _ in range(300):
        options = draw(c, levels, rng.random((10, 3)))
        assert (options < levels).all()
        weights = np.where(np.arange(10)[:, None] < 5, 0.2, 0.0) * np.ones(3)
        order = np.argsort(options.sum(1), kind="stable")
        follow(c, levels, options[order], weights, alpha)
        some = np.arange(7) < levels[:, None]
        np.testing.assert_allclose(c.q.sum(1), 1)
        assert (c.q[~some] == 0).all()
        assert (c.q >= np.where(some, alpha / (levels - 1)[:, None], 0) - 1e-12).all()
    assert (c.q[:, 0] > 0.8).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_mixed_bowl_is_solved_and_recommended(seed):
    steps = search(MIXED, bowl, 150, seed)
    state, _, _ = next(step for step in steps if step[2].min() < 1 + 1e-6)
    row = MIXED.decode(CMAES().recommend(state)[None])[0]
    assert {k: row[k] for k in ("z0", "z1", "z2", "c0", "c1")} == {"z0": -4, "z1": 4, "z2": 1, "c0": "b", "c1": "e"}


def test_log_integers_and_binary_ones_are_searched_in_their_cells():
    space = Space(n=Integer(1, 4096, scale="log"), m=Integer(1, 2, scale="log"), on=Choice([False, True]))

    def cost(n, m, on):
        return abs(np.log2(n / 100)) + (m == 1) + (not on)

    assert evaluations_to(0.0, space, cost) < 1500


def test_a_space_of_choices_alone_is_searched():
    space = Space(**{f"c{i}": Choice(range(4)) for i in range(8)})
    assert evaluations_to(0, space, lambda **c: sum(v != 2 for v in c.values())) < 1000


def test_a_column_of_a_single_value_is_left_alone():
    space = Space(x=Real(0, 1), one=Integer(3, 3), only=Choice(["a"]))
    assert evaluations_to(1e-9, space, lambda x, one, only: (x - 0.3) ** 2 * one) < 800
    assert evaluations_to(3, Space(one=Integer(3, 3)), lambda one: one, n=3) <= 4


def test_a_column_that_takes_no_part_does_not_drift():
    space = Space(x=Real(0, 1), y=Real(0, 1).when(act="b"), act=Choice(["a", "b"]))

    def cost(x, act, y=None):
        return (x - 0.5) ** 2 + (act == "b")

    *_, (state, _, _) = search(space, cost, 8)
    before = state.normal.mean[1]
    method, key = CMAES(), Key(0)
    for turn in range(8, 30):
        question = method.ask(state, space, key.at(turn))
        question.points[:, 2] = 0.25  # every row takes "a"
        values = ((question.points[:, 0] - 0.5) ** 2).copy()
        state = method.tell(state, space, question, told(values), key.at(turn))
    assert state.normal.mean[1] == before


def test_starts_of_a_mixed_space_are_asked_first():
    start = {"x0": 0.1, "x1": 0.2, "z0": -3, "z1": 5, "z2": 2, "c0": "c", "c1": "d"}
    space = MIXED.with_starts(start)
    _, question, _ = next(search(space, bowl, 1))
    assert space.decode(question.points)[0] == start
