"""The verbs, and the reasons they stop."""

import os
import signal
from typing import Annotated

import numpy as np
import pytest

import eitherway as ew
from tests.run import costs

BOX = [(-1, 1)] * 2


def test_minimize_finds_the_bottom_of_a_bowl():
    result = ew.minimize(costs.bowl, BOX, "randomsearch", budget=500, progress=None)
    assert result.success and result.value < 0.01 and result.evaluations == 500 == len(result.history)
    assert costs.bowl(result.best) == result.value


def test_maximize_is_minimize_the_other_way_up():
    low = ew.minimize(costs.bowl, BOX, "randomsearch", budget=100, progress=None)
    high = ew.maximize(lambda x: -costs.bowl(x), BOX, "randomsearch", budget=100, progress=None)
    assert high.value == -low.value and (high.best == low.best).all()
    assert (high.history["value"] == -low.history["value"]).all() and (np.diff(high.history["best"]) >= 0).all()


def test_the_space_may_stand_in_the_signature():
    def cost(x: Annotated[float, ew.Real(-1, 1)], n: Annotated[int, ew.Integer(1, 3)] = 2):
        return x * x + n

    result = ew.minimize(cost, method="randomsearch", budget=50, progress=None)
    assert set(result.best) == {"x", "n"} and result.best["n"] == 1


def test_a_starting_point_is_judged_first_at_the_numbers_given():
    seen = []
    start = {"x": 0.1 + 0.2, "n": 3, "c": "b"}
    space = ew.Space(x=ew.Real(0, 1), n=ew.Integer(1, 9), c=ew.Choice(["a", "b"]))
    ew.minimize(
        lambda **values: seen.append(values) or 1.0, space, "randomsearch", budget=3, start=start, progress=None
    )
    assert seen[0] == start and type(seen[0]["n"]) is int


def test_a_target_stops_the_run_at_once():
    result = ew.minimize(costs.bowl, BOX, "randomsearch", target=0.1, progress=None)
    assert result.value <= 0.1 < min(result.history["value"][:-1]) and result.reason == "the target 0.1 is met"


def test_the_budget_is_kept_within_a_question():
    calls = []
    result = ew.minimize(lambda x: calls.append(x) or costs.bowl(x), BOX, "randomsearch", budget=13, progress=None)
    assert len(calls) == 13 == result.evaluations and result.reason.startswith("the budget of 13 evaluations is spent")


def test_seconds_stop_the_run():
    result = ew.minimize(costs.slow_bowl, BOX, "randomsearch", seconds=0.1, progress=None)
    assert 1 <= result.evaluations < 100 and result.reason == "the 0.1 seconds are over"


def test_stalling_stops_the_run():
    result = ew.minimize(lambda x: 1.0, BOX, "randomsearch", stall=50, progress=None)
    assert "has not improved for" in result.reason and result.evaluations < 80


def test_a_callback_stops_the_run_by_returning_true():
    steps = []
    result = ew.minimize(
        costs.bowl, BOX, "randomsearch", callbacks=[lambda step: steps.append(step) or step.turn == 3], progress=None
    )
    assert len(steps) == 4 and result.reason == "a callback asked to stop"
    assert steps[-1].evaluations == 32 and steps[-1].value == result.value


def test_an_error_in_a_callback_comes_out():
    def broken(step):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        ew.minimize(costs.bowl, BOX, "randomsearch", callbacks=[broken], progress=None)


def test_iterate_hands_out_the_turns_and_break_stops():
    for step in ew.iterate(costs.bowl, BOX, "randomsearch", seed=3):
        if step.turn == 4:
            break
    assert step.evaluations == 40 and step.points.shape == (8, 2) and step.value <= step.values.min()


def test_between_two_steps_of_a_loop_of_yours_ctrl_c_is_yours():
    steps = ew.iterate(costs.bowl, BOX, "randomsearch")
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert next(steps).turn == 1
    steps.close()


def test_a_target_of_zero_is_told_without_a_sign():
    result = ew.maximize(lambda x: 1.0, BOX, "randomsearch", target=0, progress=None)
    assert result.reason == "the target 0 is met"


def test_a_seed_decides_everything():
    a, b, c = (ew.minimize(costs.bowl, BOX, "randomsearch", budget=60, seed=s, progress=None) for s in (1, 1, 2))
    assert a.history["value"].tobytes() == b.history["value"].tobytes() != c.history["value"].tobytes()


def test_a_batched_cost_sees_what_single_ones_see():
    single = ew.minimize(costs.bowl, BOX, "randomsearch", budget=61, progress=None)
    together = ew.minimize(ew.batched(lambda x: (x * x).sum(1)), BOX, "randomsearch", budget=61, progress=None)
    assert np.allclose(single.history["value"], together.history["value"]) and together.evaluations == 61


def test_a_batched_outcome_keeps_its_metrics():
    cost = ew.batched(lambda x: ew.Outcome((x * x).sum(1), {"right": -x[:, 0]}, {"size": abs(x[:, 0])}))
    result = ew.minimize(cost, BOX, "randomsearch", budget=61, progress=None)
    assert (result.history["size"] >= 0).all() and len(result.history["size"]) == 61 and result.best[0] >= 0


def test_a_feasible_point_beats_a_lower_infeasible_one():
    result = ew.minimize(costs.bowl, BOX, "randomsearch", budget=300, constraints=[lambda x: 0.5 - x[0]], progress=None)
    assert result.best[0] >= 0.5 and not result.notes
    best = result.history["best"]
    assert best[-1] == result.value and (np.diff(best[~np.isnan(best)]) <= 0).all()
    outcome = ew.minimize(
        lambda x: ew.Outcome(costs.bowl(x), {"right": 0.5 - x[0]}, {"size": abs(x[0])}),
        BOX,
        "randomsearch",
        budget=300,
        progress=None,
    )
    assert outcome.value == result.value and (outcome.history["size"] >= 0).all()


def test_a_cost_that_learns_starts_afresh_when_it_moves():
    result = ew.minimize(costs.Curriculum(), BOX, "randomsearch", budget=200, progress=None)
    assert result.value <= -16  # a horizon of 4 could never say so


def test_interrupting_returns_the_best_so_far():
    calls = [0]

    def cost(x):
        calls[0] += 1
        if calls[0] == 30:
            raise KeyboardInterrupt
        return costs.bowl(x)

    result = ew.minimize(cost, BOX, "randomsearch", progress=None)
    assert result.interrupted and not result.success and result.evaluations == 29 and result.best is not None
    assert "interrupted by Ctrl-C; the best so far is kept" in result.reason


def test_a_result_reads_as_scipys_does():
    result = ew.minimize(costs.bowl, BOX, "randomsearch", budget=20, progress=None)
    assert result.fun == result.value and result.nfev == 20 and result.nit == 2 and result.message == result.reason
    assert (result.x == result.best).all() and "best value" in str(result) and "<table>" in result._repr_html_()


def test_x_of_named_variables_is_one_array_whatever_they_are():
    space = ew.Space(a=ew.Real(0, 1), w=ew.Array((2,), -1, 1), n=ew.Integer(1, 3))
    result = ew.minimize(lambda a, w, n: a + costs.bowl(w) + n, space, "randomsearch", budget=9, progress=None)
    assert result.x.tolist() == [result.best["a"], *result.best["w"], result.best["n"]]
    space = ew.Space(a=ew.Real(0, 1), c=ew.Choice(["u", (1, 2)]))
    result = ew.minimize(lambda a, c: a, space, "randomsearch", budget=9, progress=None)
    assert result.x.shape == (2,) and result.x.tolist() == list(result.best.values())


def test_the_history_has_every_variable_as_a_column():
    space = ew.Space(x=ew.Real(0, 1), c=ew.Choice(["a", "b"]), d=ew.Real(0, 1).when(c="a"))
    history = ew.minimize(lambda **v: v["x"], space, "randomsearch", budget=20, progress=None).history
    assert list(history) == ["turn", "value", "status", "best", "x", "c", "d"]
    assert (history["x"] == history["value"]).all() and set(history["c"]) == {"a", "b"}
    assert all((d is None) == (c == "b") for c, d in zip(history["c"], history["d"], strict=True))
    with pytest.raises(KeyError, match="no column 'y'; it has turn, value"):
        history["y"]


def test_a_search_that_you_drive_equals_minimize():
    search = ew.Search(BOX, "randomsearch", seed=5)
    while search.evaluations < 64:
        for trial in search.ask(3):
            search.tell(trial, costs.bowl(trial.values))
    assert search.best_value == ew.minimize(costs.bowl, BOX, "randomsearch", seed=5, budget=64, progress=None).value


def test_a_trial_is_told_once():
    search = ew.Search(BOX, "randomsearch")
    (trial,) = search.ask()
    search.tell(trial, failed="the rig broke")
    with pytest.raises(ew.CostError, match="row 0 of turn 0 was told already; expected each trial once"):
        search.tell(trial, 1.0)
    search.ask(7)
    with pytest.raises(ew.CostError, match="7 values were told for 8 points"):
        from eitherway.methods.protocol import Told

        search.move(Told(np.zeros(7), np.zeros(7, int)))
    with pytest.raises(ew.CostError, match=r"there is no question to answer; call open\(\) or ask\(\) first"):
        ew.Search(BOX, "randomsearch").move()


def gradient_of(cost, x=0.5):
    from eitherway.run.problem import Problem

    problem = Problem(cost, ew.Space(ew.Array((2,), -1, 1)))
    point = problem.space.encode(np.full(2, x))
    return problem.judge(np.full(2, x), point, "gradient", None, None)


def test_gradients_arrive_in_search_coordinates():
    pytest.importorskip("torch")
    answer = gradient_of(lambda x: (x**2).sum())
    assert answer.value == 0.5 and answer.gradient.tolist() == [2.0, 2.0]  # the box is 2 wide: 2 x * 2


def test_a_cost_that_cannot_run_on_tensors_is_judged_on_plain_values_and_says_why():
    pytest.importorskip("torch")
    answer = gradient_of(lambda x: float(np.square(np.asarray(x)).sum()))
    assert (
        answer.status == 0
        and answer.value == 0.5
        and "the cost cannot run on tensors: RuntimeError" in answer.no_gradient
    )
    answer = gradient_of(lambda x: 0.25)
    assert answer.value == 0.25 and "returned a float that torch cannot follow back to its inputs" in answer.no_gradient


def test_without_torch_there_is_no_gradient_and_nothing_fails(monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    answer = gradient_of(costs.bowl)
    assert answer.value == 0.5 and "torch has not been imported" in answer.no_gradient


def test_gradients_of_a_batch_are_those_of_its_rows():
    torch = pytest.importorskip("torch")
    from eitherway.run.problem import Problem

    space = ew.Space(ew.Array((2,), -1, 1))
    problem = Problem(ew.batched(lambda x: (torch.as_tensor(x) ** 2).sum(1)), space)
    answers = problem.judge_together(np.array([[0.75, 0.5], [0.5, 1.0]]), "gradient", None)
    assert [a.gradient.tolist() for a in answers] == [[2.0, 0.0], [0.0, 4.0]] and answers[1].value == 1.0
    outcome = ew.batched(lambda x: ew.Outcome((torch.as_tensor(x) ** 2).sum(1), metrics={"size": x[:, 0]}))
    again = Problem(outcome, space).judge_together(np.array([[0.75, 0.5], [0.5, 1.0]]), "gradient", None)
    assert [a.gradient.tolist() for a in again] == [a.gradient.tolist() for a in answers]
    assert again[0].metrics == {"size": 0.5}


@pytest.mark.parametrize("constrained", [{"constraints": [lambda x: 0.5 - x[0]]}, {}])
def test_a_method_that_does_not_heed_constraints_is_refused(constrained):
    cost = costs.bowl if constrained else lambda x: ew.Outcome(costs.bowl(x), {"right": 0.5 - x[0]})
    with pytest.raises(ew.MethodError, match="does not heed constraints, and the cost has some; choose CMAES, DE"):
        ew.minimize(cost, BOX, "sqp", progress=None, **constrained)


def test_auto_leaves_constrained_costs_to_engines_that_heed_them():
    result = ew.minimize(costs.bowl, BOX, budget=400, constraints=[lambda x: 0.5 - x[0]], progress=None)
    assert result.best[0] >= 0.5 and result.value == pytest.approx(0.25, abs=0.01)
    slopes_only = ew.methods.Auto((ew.methods.SQP(), ew.methods.LBFGS()))
    with pytest.raises(ew.CostError, match="no engine is left that heeds constraints; CMAES, DE, GA and PSO do"):
        ew.minimize(costs.bowl, BOX, slopes_only, constraints=[lambda x: 0.5 - x[0]], progress=None)


def test_findings_are_told_in_the_users_sign():
    result = ew.maximize(lambda x: -costs.bowl(x) - 1, BOX, budget=100, progress=None)
    assert "best -1 in" in result.findings and f"found: {result.findings}" in str(result)
    assert ew.minimize(costs.bowl, BOX, "de", budget=20, progress=None).findings is None
