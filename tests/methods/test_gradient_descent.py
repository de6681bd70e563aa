"""Gradient descent: what is true of it alone."""

import numpy as np
import pytest

from eitherway.base.errors import MethodError
from eitherway.base.keys import Key
from eitherway.methods.variables.gradient_descent import GradientDescent
from eitherway.run.search import Search
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice
from eitherway.testing import drive

torch = pytest.importorskip("torch")


def bowl(x):
    return (x**2).sum() + x[0] * x[1]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_torchs_sgd_step_for_step(momentum):
    start = np.array([-1.2, 1.0, 0.5])
    space = Space(Array((3,), start=0.0, spread=1.0)).with_starts([start])
    search, steps = Search(space, GradientDescent(lr=0.02, momentum=momentum)), 0
    x = torch.tensor(start, requires_grad=True)
    theirs = torch.optim.SGD([x], lr=0.02, momentum=momentum)
    for _ in range(60):
        question = search.open()
        if question.wants == "gradient":
            np.testing.assert_allclose(question.points[0], x.detach().numpy(), rtol=1e-10)
            theirs.zero_grad()
            bowl(x).backward()
            theirs.step()
            steps += 1
        drive(search, bowl, 1)
    assert steps > 50


def test_the_bounds_stop_it():
    search = drive(Search(Space(Array((3,), -1, 1)), GradientDescent(lr=0.05)), lambda x: x.sum(), 60)
    np.testing.assert_array_equal(search.best, [-1, -1, -1])


def test_discrete_columns_are_refused_with_methods_that_serve_them():
    with pytest.raises(MethodError, match="GradientDescent got 1 discrete columns of 1.*CMAES, DE and GA"):
        GradientDescent().init(Space(Choice(["a", "b"])), Key(0))
