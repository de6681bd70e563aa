"""What is true of particle swarms alone: the ball, the topology, one flight against the paper, restarts."""

import math

import numpy as np
import pytest
from scipy import stats
from tests.methods.judging import run, sphere, told

from eitherway.base.keys import Key
from eitherway.methods.variables.pso import PSO, in_ball, topologies, unit_ball
from eitherway.space.space import Space, as_space
from eitherway.space.variables import Choice, Integer, Real

BOX = as_space([(-5, 5)] * 4)


def test_points_in_the_ball_have_a_uniform_distance_from_its_centre():
    pull = np.tile([3.0, 0.0, 4.0], (20_000, 1))
    offset = in_ball(pull, unit_ball(pull.shape, (), np.random.default_rng(0))) - pull
    distance = np.sqrt((offset**2).sum(1)) / 5
    assert stats.kstest(distance, "uniform").pvalue > 0.01


def test_points_in_the_ball_do_not_notice_how_the_axes_are_turned():
    pull = np.tile([1.0, 2.0, -2.0], (20_000, 1))
    turn = stats.special_ortho_group(3, seed=1).rvs()
    plain = in_ball(pull, unit_ball(pull.shape, (), np.random.default_rng(2)))
    turned = in_ball(pull @ turn, unit_ball(pull.shape, (), np.random.default_rng(3))) @ turn.T
    for axis in (*np.eye(3), np.ones(3) / math.sqrt(3), np.array([1, -1, 0]) / math.sqrt(2)):
        assert stats.ks_2samp(plain @ axis, turned @ axis).pvalue > 0.01


def test_every_particle_hears_of_itself_and_tells_k_others_at_most():
    drawn = topologies(500, 20, 3, np.random.default_rng(0))
    assert drawn[:, range(20), range(20)].all()
    told = drawn.sum(2) - 1
    assert told.max() <= 3
    # of 3 draws from 20, those that are neither oneself nor drawn before: 19 (1 - (19/20)^3)
    assert told.mean() == pytest.approx(19 * (1 - (19 / 20) ** 3), abs=0.05)


def test_one_flight_is_that_of_the_paper():
    key, method = Key(0), PSO(swarm=12)
    state = method.init(BOX, key)
    for turn in range(6):
        question = method.ask(state, BOX, key.at(turn))
        values = np.array([sphere(x) for x in question.points])
        x, v = state.positions.copy(), state.velocities.copy()
        state = method.tell(state, BOX, question, told(values), key.at(turn))
        best, value, c, w = state.bests, state.standings[:, 1], 0.5 + math.log(2), 1 / (2 * math.log(2))
        for i in range(12):
            j = min(np.flatnonzero(state.hears[:, i]), key=lambda j: value[j])
            beyond = [x[i] + c * (best[k] - x[i]) for k in ((i,) if i == j else (i, j))]
            centre = np.mean([x[i], *beyond], axis=0)
            free = (state.positions[i] > 0) & (state.positions[i] < 1)
            assert state.positions[i][free] == pytest.approx((x[i] + state.velocities[i])[free], abs=1e-14)
            if free.all():
                place = x[i] + state.velocities[i] - w * v[i]
                assert np.linalg.norm(place - centre) <= np.linalg.norm(centre - x[i]) * (1 + 1e-9) + 1e-15


def test_a_particle_at_a_bound_turns_round_at_half_its_speed():
    space = as_space([(0, 1)])
    key, method = Key(0), PSO(swarm=4)
    state = method.init(space, key)
    state.velocities[:] = [[9.0], [-9.0], [9.0], [-9.0]]
    state = method.tell(state, space, method.ask(state, space, key), told(np.arange(4.0)), key)
    assert state.positions.ravel().tolist() == [1.0, 0.0, 1.0, 0.0]
    assert (np.sign(state.velocities.ravel()) == [-1, 1, -1, 1]).all()
    assert np.abs(state.velocities).ravel() == pytest.approx(0.5 * 9 * 0.7213, abs=0.6)


def test_who_hears_of_whom_is_drawn_anew_only_after_a_turn_without_improvement():
    key, method = Key(0), PSO(swarm=10)
    state, hears = method.init(BOX, key), []
    for turn, improves in enumerate([True, True, True, False, True]):
        question = method.ask(state, BOX, key.at(turn))
        values = np.arange(10) + (-100.0 * turn if improves else 0.0)
        state = method.tell(state, BOX, question, told(values), key.at(turn))
        hears.append(state.hears.copy())
    assert (hears[0] == hears[1]).all()
    assert (hears[1] == hears[2]).all()
    assert (hears[2] != hears[3]).any()
    assert (hears[3] == hears[4]).all()


def test_a_failure_is_never_remembered():
    state, _ = run(PSO(), BOX, lambda x: math.nan if x[0] > 0.4 else sphere(x), 30)
    assert (state.bests[np.isfinite(state.standings[:, 1]), 0] <= 0.4).all()
    assert np.isfinite(state.standings).any()


def test_it_finds_the_bottom_of_a_sphere():
    # the largest of 60 seeds was 2e-12
    _, best = run(PSO(), BOX, sphere, 250)
    assert best < 1e-8


def test_after_the_cost_has_moved_the_bests_are_asked_again_beside_the_swarm():
    key, method = Key(0), PSO()
    state, _ = run(method, BOX, sphere, 5)
    for turn in range(5, 9):  # and however often it moves, the swarm flies on
        question = method.ask(state, BOX, key.at(turn))
        values = np.array([sphere(x) for x in question.points]) + 100 * turn
        bests, positions = state.bests.copy(), state.positions.copy()
        P = len(positions)
        assert (question.points[-P:] == positions).all()
        if turn > 5:
            assert (question.points[:P] == bests).all()
        state = method.tell(state, BOX, question, told(values, moved=True), key.at(turn))
        if turn > 5:
            assert (state.standings[:, 1] == np.minimum(values[:P], values[P:])).all()
        assert (state.positions != positions).any()


def test_a_swarm_that_has_converged_starts_anew_and_larger():
    sizes: list[int] = []
    run(PSO(swarm=6), BOX, lambda x: 1.0, 6, each=lambda state, _: sizes.append(len(state.bests)))
    assert sizes == [6, 6, 9, 9, 14, 14]


def test_mixed_columns_are_searched_together():
    space = Space(n=Integer(0, 20), c=Choice(["a", "b", "c", "d"]), x=Real(-1, 1), y=Real(1e-4, 1, scale="log"))

    def cost(point):
        v = space.decode(point[None])[0]
        return (v["n"] - 13) ** 2 + 3.0 * (v["c"] != "c") + (v["x"] - 0.5) ** 2 + (np.log10(v["y"]) + 2) ** 2

    # the largest of 60 seeds was 6e-8
    _, best = run(PSO(), space, cost, 150)
    assert best < 1e-4


def test_one_option_is_as_near_as_another():
    space = Space(c=Choice(list(range(12))), x=Real(0, 1))
    bests: list[float] = []
    for wanted in (0, 5, 11):
        _, best = run(PSO(), space, lambda p, w=wanted: float(space.cells(p[None])[0, 0] != w) + abs(p[1] - 0.5), 60)
        bests.append(best)
    assert max(bests) < 0.01
