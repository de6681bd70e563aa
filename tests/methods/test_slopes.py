"""The check of autograd beside differences: it sees what is cut, and holds nothing against kinks and noise."""

import numpy as np
import pytest

from eitherway.methods.variables._slopes import doubt, missing, probe, sentence, weigh
from eitherway.space.space import Space
from eitherway.space.variables import Array


def verdict(cost, gradient, point, space=None, seed=0):
    """(whether it is trusted, evaluations it took, the doubt)."""
    space = space or Space(Array((len(point),)))
    d = doubt(point, cost(point), gradient, space, np.random.default_rng(seed))
    for i in range(1, 13):
        (row,) = probe(d, space)
        assert (row == space.clip(row)).all()
        trusted = weigh(d, row, cost(row))
        if trusted is not None:
            return trusted, i, d
    raise AssertionError("it never came to a verdict")


def bowl(x):
    return float(((x - 0.3) ** 2).sum()) + 7.0


def test_a_right_gradient_is_trusted_after_one_evaluation():
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=5)
        assert verdict(bowl, 2 * (x - 0.3), x, seed=seed)[:2] == (True, 1)


def test_a_gradient_without_one_of_its_parts_is_not_trusted():
    for seed in range(50):
        x = np.random.default_rng(seed).uniform(1.0, 3.0, size=5)
        g = 2 * (x - 0.3)
        g[seed % 5] = 0.0
        trusted, evaluations, d = verdict(bowl, g, x, seed=seed)
        assert not trusted
        assert evaluations == 8
        for word in ("math.sin", "float(", ".item()", "int(", ".detach()", "CMAES", "DE", "cut"):
            assert word in sentence(d)


def test_a_gradient_that_is_cut_altogether_is_not_trusted():
    assert not verdict(bowl, np.zeros(3), np.ones(3))[0]


def test_a_cut_is_seen_in_the_corner_of_a_box_and_in_single_precision():
    space = Space(Array((3,), 0, 1))
    assert not verdict(bowl, np.zeros(3), np.ones(3), space)[0]
    assert verdict(bowl, 2 * (np.ones(3) - 0.3), np.ones(3), space)[0]
    assert not verdict(lambda x: float(np.float32(bowl(x))), np.zeros(3), np.ones(3))[0]


def test_kinks_are_no_cuts():
    """At |x| = 0 autograd says 0, at relu(0) 0 or 1: both lie between the slopes of the two sides."""
    for x in (np.zeros(4), np.array([0.0, 1.0, -1.0, 1e-7]), np.array([3e-7, -2e-5, 4e-3, 1e-6])):
        assert verdict(lambda x: float(np.abs(x).sum()), np.sign(x), x)[0]
        assert verdict(lambda x: float(np.maximum(x, 0).sum()), (x > 0).astype(float), x)[0]


def test_noise_and_jumps_are_no_cuts():
    """Noise of any size: differences contradict each other, and nothing is held against autograd. 0 of 400 alarms."""
    for seed in range(400):
        rng = np.random.default_rng(seed)
        noise = 10.0 ** rng.uniform(-12, 1)
        x = rng.normal(size=4)
        assert verdict(lambda x: bowl(x) + noise * rng.normal(), 2 * (x - 0.3), x, seed=seed)[0]  # noqa: B023
    assert verdict(lambda x: float(np.floor(1e7 * x).sum()), np.zeros(2), np.full(2, 0.123))[0]


def test_neighbours_that_fail_are_no_cuts():
    assert verdict(lambda x: bowl(x) if (x == 1).all() else float("nan"), np.zeros(3), np.ones(3))[0]


@pytest.mark.slow
def test_relu_networks_give_hardly_a_false_alarm():
    torch = pytest.importorskip("torch")
    alarms = 0
    for seed in range(20_000):
        rng = np.random.default_rng(seed)
        dtype = torch.float32 if seed % 2 else torch.float64
        a, b, c = (torch.tensor(rng.normal(size=n), dtype=dtype) for n in ((16, 5), (16,), (16,)))
        if seed % 4 < 2:
            b = torch.zeros(16, dtype=dtype)  # with half of the points on the kinks
        x = rng.normal(size=5) * (0 if seed % 8 < 1 else 1)

        def cost(t, a=a, b=b, c=c):
            return (torch.relu(a @ t.to(a.dtype) + b) * c).sum() + (t.to(a.dtype) - 0.1).abs().sum()

        t = torch.tensor(x, requires_grad=True)
        (g,) = torch.autograd.grad(cost(t), t)
        alarms += not verdict(lambda x, cost=cost: float(cost(torch.tensor(x))), g.numpy(), x, seed=seed)[0]
    assert alarms <= 20


def test_a_method_without_gradients_says_how_to_mend():
    said = missing("Adam", "the cost returned a float that torch cannot follow back to its inputs")
    assert said.startswith("Adam needs gradients, but the cost returned a float")
    assert "torch" in said
    assert "CMAES" in said
    assert "fails on tensors" in missing("Adam", None)
