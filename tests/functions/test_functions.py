"""Test functions: their optima are optima, arrays and tensors agree, and gradients are those of the formula."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eitherway import functions
from eitherway.base.errors import EitherwayError

VECTORS = [name for name in functions.names() if name not in ("tuning", "noisy_sphere")]


def dimensions(function):
    """A few dimensions the function is defined for."""
    largest = function.largest or 13
    return [D for D in (1, 2, 3, 5, 10, 13) if function.smallest <= D <= largest]


@pytest.mark.parametrize("name", VECTORS)
def test_the_optimum_has_the_value_it_claims(name):
    function = functions.get(name)
    for D in dimensions(function):
        assert function(function.optimum(D)) == pytest.approx(function.value(D), rel=1e-14, abs=1e-10 * D)


@pytest.mark.parametrize("name", VECTORS)
def test_nothing_in_the_box_is_better_than_the_optimum(name):
    function = functions.get(name)
    rng = np.random.default_rng(0)
    for D in dimensions(function):
        space = function.space(D)
        anywhere = space.decode_together(space.sample(20_000, rng))
        best = function.optimum(D)
        spread = 10.0 ** rng.uniform(-6, 0, (20_000, 1))
        bounds = space.decode_together(np.stack([np.zeros(D), np.ones(D)]))
        nearby = np.clip(best + spread * rng.standard_normal((20_000, D)), *bounds)
        slack = 1e-10 * D + 1e-14 * abs(function.value(D))
        assert min(function(anywhere).min(), function(nearby).min()) >= function.value(D) - slack


@pytest.mark.parametrize("name", VECTORS)
def test_a_batch_is_judged_as_its_rows_are(name):
    function = functions.get(name)
    space = function.space()
    points = space.decode_together(space.sample(7, np.random.default_rng(1)))
    assert function(points).shape == (7,)
    assert function(points) == pytest.approx([function(point) for point in points], rel=1e-13)


@pytest.mark.parametrize("name", VECTORS)
def test_a_tensor_gives_the_same_value_and_the_gradient_of_the_formula(name):
    function = functions.get(name)
    space = function.space()
    point = space.decode_together(space.sample(1, np.random.default_rng(2)))[0]
    tensor = torch.tensor(point, requires_grad=True)
    value = function(tensor)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(function(point), rel=1e-13)
    value.backward()
    h = 1e-6 * np.maximum(abs(point), 1.0)
    steps = np.diag(h)
    differences = (function(point + steps) - function(point - steps)) / (2 * h)
    assert tensor.grad is not None
    assert tensor.grad.numpy() == pytest.approx(differences, rel=1e-4, abs=1e-4 * max(1.0, abs(differences).max()))


def test_single_precision_tensors_stay_single():
    for name in VECTORS:
        function = functions.get(name)
        assert function(torch.ones(function.dimension, dtype=torch.float32)).dtype == torch.float32


def test_published_values_of_michalewicz_in_two_five_and_ten_dimensions():
    published = {2: -1.8013, 5: -4.687658, 10: -9.66015}  # Surjanovic & Bingham 2013
    for D, value in published.items():
        assert functions.get("michalewicz").value(D) == pytest.approx(value, abs=5e-5)


def test_published_values_away_from_the_optimum():
    assert functions.himmelblau([-0.270845, -0.923039]) == pytest.approx(181.617, abs=1e-3)  # its local maximum
    assert functions.goldstein_price([-0.6, -0.4]) == pytest.approx(30.0, abs=1e-9)  # a local minimum
    assert functions.branin([-np.pi, 12.275]) == pytest.approx(0.397887, abs=1e-6)
    assert functions.branin([9.42478, 2.475]) == pytest.approx(0.397887, abs=1e-6)
    for minimum in ([3.0, 2.0], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]):
        assert functions.himmelblau(minimum) == pytest.approx(0.0, abs=1e-9)


def test_tuning_has_one_best_point_and_no_better_one():
    function = functions.get("tuning")
    assert function(**function.optimum()) == pytest.approx(0.0, abs=1e-14)
    space = function.space()
    values = [function(**point) for point in space.decode(space.sample(3000, np.random.default_rng(0)))]
    assert min(values) > 0
    for name, other in {"layers": 5, "width": 129, "activation": "relu", "nesterov": False, "momentum": 0.91}.items():
        assert function(**{**function.optimum(), name: other}) > 1e-7


def test_tuning_carries_gradients_to_its_reals():
    point = functions.get("tuning").optimum()
    reals = {
        n: torch.tensor(point[n] * 0.8, requires_grad=True, dtype=torch.float64)
        for n in ("lr", "decay", "momentum", "dropout")
    }
    functions.tuning(**{**point, **reals}).backward()
    assert all(real.grad is not None and real.grad.abs() > 0 for real in reals.values())


def test_noise_is_a_function_of_the_seed_alone():
    x = np.array([1.0, 2.0])
    assert functions.noisy_sphere(x, seed=3) == functions.noisy_sphere(x, seed=3)
    assert functions.noisy_sphere(x, seed=3) != functions.noisy_sphere(x, seed=4)
    noise = [functions.noisy_sphere(x, seed=s) - 5.0 for s in range(4000)]
    assert np.mean(noise) == pytest.approx(0.0, abs=0.006)  # four standard errors
    assert np.std(noise) == pytest.approx(0.1, abs=0.005)


def test_the_noisy_one_is_marked_as_seeded_as_the_decorator_does_it():
    from eitherway.run.problem import seeded

    @seeded
    def marked(x, seed):
        return 0.0

    (mark,) = vars(marked)
    assert getattr(functions.noisy_sphere, mark)
    assert getattr(functions.get("noisy_sphere"), mark)
    assert not getattr(functions.get("sphere"), mark)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(EitherwayError, match=r"there is no test function 'rastrign'. Did you mean rastrigin"):
        functions.get("rastrign")


def test_a_dimension_without_a_definition_is_refused():
    with pytest.raises(EitherwayError, match="branin was asked for in 3 dimensions; it is defined for exactly 2"):
        functions.get("branin").space(3)
    with pytest.raises(EitherwayError, match="michalewicz was asked for in 11 dimensions; it is defined for 1 to 10"):
        functions.get("michalewicz").optimum(11)
    with pytest.raises(EitherwayError, match="rosenbrock was asked for in 1 dimensions; it is defined for 2 or more"):
        functions.get("rosenbrock").value(1)


def test_the_catalogue_does_not_import_torch():
    code = "import sys, eitherway.functions; sys.exit('torch' in sys.modules)"
    source = Path(functions.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(source)}).returncode == 0
