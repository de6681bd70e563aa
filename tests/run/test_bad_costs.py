"""What a cost may do wrong, and what is said of it. Nothing that was paid for is lost."""

import math
import sys

import numpy as np
import pytest

import eitherway as ew
from tests.run import costs

BOX = [(-1, 1)] * 2


def run(cost, space=BOX, method="randomsearch", budget=40, **options):
    return ew.minimize(cost, space, method, budget=budget, progress=None, **options)


def only_failures(result):
    return set(result.history.why.values())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "returned None, expected a number; does the cost end with `return`"),
        ("low", "returned 'low', expected a real number"),
        (1 + 2j, "expected a real number"),
        (np.complex128(1j), "expected a real number"),
        ([1.0, 2.0], "returned a list, expected one number"),
        (10**400, "returned a int, expected one number"),
        (np.zeros(3), "returned a ndarray of shape (3,), expected one number"),
        (-math.inf, "returned -inf, which nothing could ever beat"),
    ],
)
def test_a_cost_that_returns_no_number_is_stopped_after_five_points(value, message):
    with pytest.raises(ew.CostError, match="first 5 points") as caught:
        run(lambda x: value)
    assert message in str(caught.value)


@pytest.mark.parametrize("said", [{"metrics": {"size": None}}, {"constraints": [0.0]}])
def test_an_outcome_that_cannot_be_read_stops_the_run_with_one_message(said):
    with pytest.raises(ew.CostError, match="the first point .* raised (TypeError|AttributeError): "):
        run(lambda x: ew.Outcome(1.0, **said))


def test_nan_is_a_failure_that_is_counted_and_never_the_best():
    result = run(lambda x: math.nan if x[0] > 0 else costs.bowl(x))
    assert 0 < result.failures < 40 == result.evaluations
    assert only_failures(result) == {"returned NaN"} and result.value == np.nanmin(result.history["value"])


def test_a_cost_that_is_always_nan_ends_without_a_best_and_says_so():
    result = run(lambda x: math.nan, budget=100)
    assert result.best is None and not result.success and math.isnan(result.value)
    assert any("evaluations failed (returned NaN): nothing can be ranked" in note for note in result.notes)


def test_inf_is_a_value():
    result = run(lambda x: math.inf if x[0] > 0 else costs.bowl(x))
    assert result.failures == 0 and math.isfinite(result.value)


def test_when_everything_is_the_same_it_says_that_nothing_can_be_ranked():
    result = run(lambda x: 1.0, budget=100)
    assert any(
        "evaluations returned the same: nothing can be ranked. Try a larger spread" in note for note in result.notes
    )


@pytest.mark.parametrize("value", [np.array([2.5]), np.float32(2.5), np.array(2.5), 2.5])
def test_one_element_counts_as_a_number(value):
    result = run(lambda x: value)
    assert result.value == 2.5
    assert (np.shape(value) == (1,)) == any(
        "array of shape (1,); its one element was taken" in note for note in result.notes
    )


def test_a_tensor_with_grad_counts_as_a_number():
    torch = pytest.importorskip("torch")
    weight = torch.tensor(2.0, requires_grad=True)
    assert run(lambda x: weight * float(x[0] ** 2)).failures == 0


def test_a_typo_stops_the_run_at_the_first_point():
    calls = []

    def cost(x):
        calls.append(x)
        return undefined_name + 1  # noqa: F821

    with pytest.raises(
        ew.CostError,
        match=r"the first point .* raised NameError: name 'undefined_name' is not defined \(test_bad_costs.py:",
    ):
        run(cost)
    assert len(calls) == 1


def test_the_first_five_points_failing_alike_stop_the_run():
    def cost(x):
        raise RuntimeError("no licence")

    with pytest.raises(
        ew.CostError, match="the first 5 points, the last of them .* raised RuntimeError: no licence .*raise ew.Failed"
    ):
        run(cost)


def test_points_that_raise_failed_do_not_stop_the_run():
    def cost(x):
        raise ew.Failed("did not converge")

    result = run(cost)
    assert result.failures == 40 and only_failures(result) == {"did not converge"}


def test_an_exception_at_the_hundredth_call_is_a_failure():
    calls = [0]

    def cost(x):
        calls[0] += 1
        if calls[0] == 100:
            raise KeyError("gone")
        return costs.bowl(x)

    result = run(cost, budget=150)
    assert result.evaluations == 150 and result.failures == 1
    assert next(iter(result.history.why.values())).startswith("KeyError: 'gone' (test_bad_costs.py:")


def test_a_cost_that_calls_exit_does_not_end_the_program():
    with pytest.raises(ew.CostError, match="raised SystemExit: 3"):
        run(costs.exits)


def test_a_cost_that_draws_from_a_global_generator_is_told_so():
    assert any("draws from a global random generator" in note for note in run(costs.draws_globally).notes)
    assert not run(costs.bowl).notes


def test_a_cost_that_changes_the_global_generator_changes_no_point():
    def reseeds(x):
        np.random.seed(1)  # noqa: NPY002 - the misdeed under test
        return costs.bowl(x)

    assert run(reseeds).value == run(costs.bowl).value


def test_a_cost_that_forks_goes_on_once():
    assert run(costs.forks, budget=20).evaluations == 20


def test_a_cost_that_prints_is_left_to_print(capsys):
    run(lambda x: print("hello") or costs.bowl(x), budget=3)
    assert capsys.readouterr().out == "hello\n" * 3


def test_a_seeded_cost_is_given_one_seed_a_turn():
    assert run(costs.noisy).value == run(costs.noisy).value != run(costs.noisy, seed=1).value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget=0 was given; expected a number of at least 1"),
        ({"budget": "many"}, "budget='many' was given"),
        ({"budget": 1e3}, "budget=1000.0 was given; expected a number of at least 1, and a whole one"),
        ({"seed": None}, "seed=None was given; expected a whole number, or an ew.Key"),
        ({"seed": 1.5}, "seed=1.5 was given; expected a whole number, or an ew.Key"),
        ({"target": "low"}, "target='low' was given; expected a number, or None for no target"),
        ({"callbacks": print}, "callbacks=builtins.print was given; expected a list of functions, each given a Step"),
        ({"callbacks": [3]}, "was given; expected a list of functions, each given a Step"),
        ({"constraints": print}, "constraints is builtins.print; expected a list of functions that are <= 0"),
        ({"seconds": -1}, "seconds=-1 was given; expected a number of at least 0"),
        ({"stall": 0}, "stall=0 was given; expected a number of at least 1"),
        ({"target": math.nan}, "target=nan was given"),
        ({"workers": 0}, "workers=0 was given; expected a whole number of at least 1"),
        ({"timeout": 0}, "timeout=0 was given; expected seconds above 0"),
        ({"timeout": "5"}, "timeout='5' was given; expected seconds above 0"),
        ({"constraints": [3]}, "constraints holds 3; expected functions that are <= 0 where feasible"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ew.CostError) as caught:
        run(costs.bowl, **options)
    assert message in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    result = run(costs.bowl, budget=np.int64(9), seed=np.int64(3), target=np.float32(-1))
    assert result.evaluations == 9 and result.value == run(costs.bowl, budget=9, seed=3).value


def test_what_cannot_be_marked_says_so():
    with pytest.raises(ew.CostError, match="cannot be marked; mark a function made with `def` that calls it"):
        ew.batched("".join)


def test_a_cost_that_is_the_first_to_import_torch_draws_from_nothing(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.delitem(sys.modules, "torch")

    def cost(x):
        sys.modules["torch"] = torch
        return costs.bowl(x)

    assert not run(cost).notes


def test_constraints_see_what_the_cost_was_given_though_it_writes_in_it():
    def cost(x):
        x += 100.0
        return float((x * x).sum()) if x.ndim == 1 else (x * x).sum(1)

    seen = []
    for judge in (cost, ew.batched(lambda x: cost(x))):
        run(judge, constraints=[lambda x: seen.append(np.abs(x).max()) or x[..., 0]])
    assert max(seen) <= 1


def test_what_is_no_cost_is_refused():
    with pytest.raises(
        ew.CostError, match="the cost is 3; expected a function, or an object with start, judge and absorb"
    ):
        run(3)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ew.MethodError, match="there is no method 'randomserch'. Did you mean randomsearch?"):
        run(costs.bowl, method="randomserch")


def test_a_class_in_place_of_a_method_is_refused():
    with pytest.raises(
        ew.MethodError, match=r"method=RandomSearch is a class; expected one of its own: RandomSearch\(\)"
    ):
        run(costs.bowl, method=ew.methods.RandomSearch)
    with pytest.raises(ew.MethodError, match="is not a method; expected a name such as 'cmaes'"):
        run(costs.bowl, method=3)


def test_a_batched_cost_of_the_wrong_shape_is_refused():
    with pytest.raises(ew.CostError, match=r"was given 8 points and returned shape \(8, 2\); expected \(8,\)"):
        run(ew.batched(lambda x: x))


def test_constraints_that_no_point_satisfies_are_reported():
    result = run(costs.bowl, constraints=[lambda x: 1.0 + x[0] ** 2])
    assert any("no feasible point was found; the best violates its constraints by 1" in note for note in result.notes)


def test_a_constraint_that_is_nan_is_a_failure():
    result = run(costs.bowl, constraints=[lambda x: math.nan if x[0] > 0 else -1.0])
    assert only_failures(result) == {"a constraint is NaN"}


def test_a_maximized_score_may_not_be_inf():
    result = ew.maximize(
        lambda x: math.inf if x[0] > 0 else -costs.bowl(x), BOX, "randomsearch", budget=40, progress=None
    )
    assert only_failures(result) == {
        "returned inf, which nothing could ever beat; return a finite number"
    } and math.isfinite(result.value)


def test_a_target_that_is_no_number_is_refused_by_maximize_as_well():
    with pytest.raises(ew.CostError, match="target='high' was given; expected a number, or None for no target"):
        ew.maximize(costs.bowl, BOX, target="high", progress=None)


def test_a_batched_cost_that_learns_gives_a_report_a_row():
    class Together(costs.Curriculum):
        def judge(self, x, carry, seed):
            rows = [super(Together, self).judge(row, carry, seed) for row in x]
            values, reports = zip(*rows, strict=True)
            return np.array(values), list(reports)[: len(rows) - self.short]

        short = 0

    alone, together = run(costs.Curriculum(), budget=160), run(ew.batched(Together()), budget=160)
    assert alone.history["value"].tobytes() == together.history["value"].tobytes() and together.value <= -16
    Together.short = 1
    with pytest.raises(ew.CostError, match="points and returned 7 reports; expected 8"):
        run(ew.batched(Together()))


def test_a_torch_cost_that_cannot_take_arrays_is_told_how_to():
    torch = pytest.importorskip("torch")
    with pytest.raises(
        ew.CostError, match=r"given plain numbers and NumPy arrays first; begin it with x = torch.as_tensor\(x\)"
    ):
        run(lambda x: torch.sin(x).sum())
    assert run(lambda x: torch.sin(torch.as_tensor(x)).sum(), method="adam").value < 0


def test_where_nothing_has_a_value_the_commonest_reason_is_shown():
    def cost(x):
        raise ew.Failed("no licence" if x[0] > -0.9 else "other")

    result = run(cost)
    assert f"why: {result.commonest_failures(1)[0]}" in str(result) and "no licence (" in str(result)
