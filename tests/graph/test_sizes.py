"""A capture made right for other sizes: free and fixed dimensions, and the integers that follow them."""

import torch

from eitherway.graph import capture
from eitherway.graph.light import lightly
from eitherway.graph.sizes import Expression, fixed_sizes, generalise


def sizes(f, *xs):
    graph = capture(f, *xs)
    return graph, generalise(lightly(lambda tensors: capture(f, *tensors)), graph)


def test_integers_that_follow_one_size_or_several_are_found():
    def f(x):
        b, t, c = x.shape
        return x.reshape(b * t, c).view(b, t, c)[:, : t - 1].sum(2) * (2 * t + 3)

    _, found = sizes(f, torch.ones(3, 5, 2))
    assert all(dimension.free and dimension.low == 1 for dimension in found.dimensions)
    assert {e([4, 7, 6]) for e in found.expressions.values()} >= {28, 6, 4, 7, 17}


def test_a_size_that_python_branches_on_is_fixed_or_bounded():
    _, found = sizes(lambda x: x.sum(0) if x.shape[0] > 7 else x.sin(), torch.ones(6, 2))
    assert not found.dimensions[0].free and "changes what runs" in found.dimensions[0].why
    _, found = sizes(lambda x: x.cos() if x.shape[0] > 3 else x.sin(), torch.ones(6, 2))
    assert found.dimensions[0].low == 4


def test_sizes_that_only_change_together_are_one_dimension():
    _, found = sizes(lambda x, y: x @ y, torch.ones(2, 3), torch.ones(3, 4))
    assert [dimension.places for dimension in found.dimensions] == [((0, 0),), ((0, 1), (1, 0)), ((1, 1),)]


def test_sizes_in_steps_have_exact_integers():
    _, found = sizes(lambda x: x.view(x.shape[0] // 4, 4).sum(1), torch.ones(8))
    assert found.dimensions[0].step == 4
    assert [e([20]) for e in found.expressions.values()] == [5]


def test_a_constant_made_of_a_size_fixes_it():
    _, found = sizes(lambda x: x / len(x) ** 0.5, torch.ones(6, 2))
    assert not found.dimensions[0].free and found.dimensions[1].free


def test_fixed_sizes_are_the_examples():
    graph, _ = sizes(torch.sin, torch.ones(2, 3))
    found = fixed_sizes(graph, "asked for")
    assert [dimension.size for dimension in found.dimensions] == [2, 3] and not found.free
    assert Expression(((2, (0,)),), 1)([5]) == 11
