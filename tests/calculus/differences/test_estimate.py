"""A derivative from values alone: of whatever is given, with bars that can be believed and notes that say the rest."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.calculus.differences.estimate import estimate


def within(found, truth, bars=1.0):
    return bool((np.abs(np.asarray(found.value) - np.asarray(truth)) <= bars * np.asarray(found.error)).all())


@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=4), st.sampled_from(["central", "forward"]))
def test_a_gradient_is_as_long_as_the_vector(x, method):
    found = estimate(lambda x: np.sum(np.sin(x)), x, method)
    assert found.value.shape == found.error.shape == found.steps.shape == (len(x),)
    assert within(found, np.cos(x))


def test_a_vector_function_gives_the_jacobian_of_torch():
    weights = torch.arange(6.0, dtype=torch.float64).reshape(2, 3) / 5
    x = torch.tensor([[0.1, -0.2], [0.3, 0.4], [1e-3, 50.0]], dtype=torch.float64)

    def f(x):
        return torch.tanh(weights @ x)

    found = estimate(f, x)
    assert isinstance(found.value, torch.Tensor) and found.value.shape == (2, 2, 3, 2)
    assert within(found, torch.func.jacrev(f)(x))


def test_numbers_lists_arrays_tensors_and_modules_are_taken():
    assert within(estimate(math.sin, 1.0), math.cos(1))
    assert within(estimate(lambda x: x[0] * x[1], [2, 3]), [3, 2])
    assert within(estimate(lambda x: torch.sin(x).sum(), [1.0, 2.0]), np.cos([1, 2]))
    layer = nn.Linear(2, 3)
    assert within(estimate(layer, [1.0, 2.0]), layer.weight.detach())
    assert estimate(lambda x: x * 2.0, torch.tensor(1.0)).value.shape == ()


def test_a_module_stays_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.random.get_rng_state()
    estimate(model, torch.ones(3, 2), "forward")
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state()) and model.training


def test_batched_asks_all_neighbours_at_once_and_says_the_same():
    calls = []

    def one(x):
        return (x**3).sum()

    def many(x):
        calls.append(len(x))
        return (x**3).sum(axis=1)

    alone, together = estimate(one, [1.0, 2.0, 3.0]), estimate(many, [1.0, 2.0, 3.0], batched=True)
    assert np.allclose(alone.value, together.value, rtol=1e-9) and len(calls) < 10
    assert sum(calls) == together.evaluations


def test_every_evaluation_is_counted():
    calls = []
    for method in ("central", "forward", "spsa", "antithetic"):
        calls.clear()
        found = estimate(lambda x: calls.append(1) or float(x @ x), [1.0, 2.0], method)
        assert found.evaluations == len(calls)


def test_the_same_seed_gives_the_same_estimate():
    for method in ("central", "spsa", "antithetic"):
        one, two = (estimate(lambda x: float(np.sin(x).sum()), [1.0, 2.0], method, seed=3) for _ in range(2))
        assert np.array_equal(one.value, two.value) and np.array_equal(one.error, two.error)


def test_noise_is_measured_or_taken_and_widens_the_bar():
    rng = np.random.default_rng(0)

    def f(x):
        return float(np.sin(x).sum()) + 1e-4 * rng.standard_normal()

    measured, given, quiet = estimate(f, [1.0]), estimate(f, [1.0], noise=1e-4), estimate(np.sin, 1.0)
    assert 2e-5 < measured.noise < 5e-4 and given.evaluations < measured.evaluations
    assert measured.error > 1e5 * quiet.error and measured.steps > 10 * quiet.steps
    assert within(measured, math.cos(1)) and within(given, math.cos(1))


@pytest.mark.parametrize("method", ["spsa", "antithetic"])
def test_two_standard_errors_hold_the_truth_in_95_cases_of_100(method):
    truth = 2 * np.array([0.5, -1.0, 2.0])
    inside = []
    for seed in range(60):
        f = lambda x: (x**2).sum(axis=1)  # noqa: E731 - quadratic: smoothing moves the value, not the slope
        found = estimate(f, truth / 2, method, samples=200, batched=True, seed=seed)
        inside.append(np.abs(found.value - truth) <= 2 * found.error)
    assert np.mean(inside) >= 0.93  # two standard errors hold 95.4 % of normal ones


def test_antithetic_says_that_it_smooths_and_by_how_much_that_differs():
    x = np.array([1.0, 2.0])
    found = estimate(lambda x: (x**3).sum(axis=1), x, "antithetic", samples=20_000, spread=0.3, batched=True)
    smoothed = 3 * x**2 + 3 * (0.3 * x) ** 2  # E of the slope at x + sigma z
    assert np.all(np.abs(found.value - smoothed) <= 4 * found.error)
    assert np.all(np.abs(found.bias - 3 * (0.3 * x) ** 2) <= 4 * found.bias_error)
    assert "gradient of f smoothed" in str(found)


def test_a_longer_vector_costs_spsa_nothing_more():
    short, long = (estimate(lambda x: float(x.sum()), np.ones(n), "spsa", noise=0.0) for n in (2, 200))
    assert short.evaluations == long.evaluations == 201


def test_one_side_is_taken_where_the_other_has_no_value():
    found = estimate(lambda x: math.exp(x) + 0 * math.sqrt(x), 0.0)
    assert "slope was taken from above" in str(found) and within(found, 1.0)
    found = estimate(lambda x: math.log(x[0]) + x[1], [1e-6, 1.0], scale=[1.0, 1.0])
    assert within(found, [1e6, 1.0]) and "x[0]: 2 of its neighbours had no value" in str(found)


def test_a_failing_neighbour_is_named_with_its_error():
    def f(x):
        if x[1] > 2:
            raise RuntimeError("the solver diverged")
        return float(x @ x)

    found = estimate(f, [1.0, 2.0])
    assert "x[1]" in found.notes[0] and "the solver diverged" in found.notes[0] and within(found, [2.0, 4.0])
    assert found.error[1] > found.error[0]


def test_an_entry_without_any_neighbour_is_named_and_unknown():
    def f(x):
        if x[1] != 2:
            raise ValueError("only two")
        return float(x @ x)

    found = estimate(f, [1.0, 2.0])
    assert np.isnan(found.value[1]) and np.isinf(found.error[1]) and within(estimate(lambda x: x, 1.0), 1.0)
    assert any("x[1]: no neighbour has a value" in note for note in found.notes)


def test_a_kink_gives_both_slopes_and_a_bar_that_reaches_them():
    found = estimate(lambda x: abs(x[0]) + x[1], [0.0, 1.0])
    assert "kink in x[0]: slope -1 below, 1 above" in str(found)
    assert abs(found.value[0]) < 1e-6 and found.error[0] >= 1 and found.error[1] < 1e-6


@pytest.mark.parametrize("f", [np.cbrt, lambda x: math.sqrt(abs(x)), math.sqrt])
def test_an_infinite_slope_is_said_to_be_one(f):
    found = estimate(f, 0.0)
    assert np.isinf(found.error) and "grows without end" in str(found)


def test_the_text_has_as_many_digits_as_the_bar_allows():
    text = str(estimate(lambda x: x[0] ** 2 * x[1], [3.0, 2.0]))
    assert "d y / d x[0] = 12 +- " in text and "central differences" in text
    assert "more entries" in str(estimate(lambda x: float(x.sum()), np.ones(30)))
    assert "<table>" in estimate(math.sin, 1.0)._repr_html_()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "centrl"}, "is no way to estimate a derivative. Did you mean central"),
        ({"samples": 10}, "samples are the directions of 'spsa' and 'antithetic'"),
        ({"method": "spsa", "samples": 1}, "samples are the directions of 'spsa'"),
        ({"noise": -1.0}, "is no standard deviation of f"),
        ({"noise": "little"}, "is no standard deviation of f"),
        ({"method": "spsa", "samples": 2.5}, "samples are the directions of 'spsa'"),
        ({"method": "antithetic", "spread": float("inf")}, "is no width to smooth over"),
        ({"scale": [1.0, 2.0, 3.0]}, "must be a positive number, or one for each entry"),
        ({"scale": 0.0}, "must be a positive number, or one for each entry"),
        ({"method": "antithetic", "spread": 0.0}, "is no width to smooth over"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        estimate(lambda x: float(x @ x), [1.0, 2.0], **arguments)


@pytest.mark.parametrize(
    "f, x, message",
    [
        (lambda x: float("nan"), 1.0, "no finite value at x itself"),
        (lambda x: {"a": 1}, 1.0, "expected a number or an array of real numbers"),
        (lambda x: None, 1.0, "returned NoneType; expected a number or an array of real numbers"),
        (lambda x: x.to_sparse(), torch.ones(2), "returned a sparse tensor, and derivatives are of dense ones"),
        (
            lambda x: torch.nested.nested_tensor([x, x[:1]], layout=torch.jagged),
            torch.ones(2),
            "returned a nested tensor, and derivatives are of dense ones",
        ),
        (lambda x: float(x.sum()), np.ones(0), "there is no entry to differentiate by"),
        (lambda x: x, "one", "a point is a number, a list of numbers"),
        (None, 1.0, "estimate got None, a NoneType; expected a function or a module of tensors"),
        (lambda x: math.sin(x), torch.ones(2), "use torch.sin"),
    ],
)
def test_functions_and_points_that_cannot_be_used_are_refused(f, x, message):
    with pytest.raises(ModelError, match=message):
        estimate(f, x)


def test_a_batched_function_must_answer_for_each_point():
    with pytest.raises(ModelError, match="expected one value for each, or leave out batched=True"):
        estimate(lambda x: float(x.sum()), [1.0, 2.0], batched=True)
