"""What is taken as a point or a function, and the sentences for what is not."""

import math
from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.calculus.accept import as_inputs, as_output, as_point, call, torch_name

X = torch.tensor([0.5, 1.5])


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5))
def test_lists_arrays_and_tensors_give_the_same_point(values):
    listed, array, tensor = as_point(values), as_point(np.array(values)), as_point(torch.tensor(values))
    assert torch.equal(listed, tensor) and torch.equal(array.float(), tensor) and array.dtype == torch.float64


def test_whole_numbers_in_a_list_become_floats():
    assert as_point([1, 2]).dtype == torch.get_default_dtype() and as_point(3).shape == ()


def test_a_list_of_tensors_is_stacked():
    assert torch.equal(as_point([X, X]), torch.stack([X, X]))


def test_odd_arrays_are_taken():
    for array in (np.arange(3.0)[::-1], np.arange(3, dtype=">f8"), np.broadcast_to(1.5, (2,)), np.longdouble(2)):
        assert as_point(array).dtype == torch.float64


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.tensor([1, 2]), "derivatives need real numbers: give x as floats"),
        (np.array([1, 2]), "derivatives need real numbers: give x as floats"),
        (np.array([True]), "derivatives need real numbers"),
        (torch.tensor([1j]), "take the real and the imaginary part apart"),
        ([1j], "take the real and the imaginary part apart"),
        ("one", "a point is a number, a list of numbers, an array or a tensor"),
        (["one"], "a point is a number, a list of numbers, an array or a tensor"),
        (None, "a point is a number, a list of numbers"),
        ({"a": 1.0}, "a point is a number, a list of numbers"),
        ([[1.0, 2.0], [3.0]], "its rows must be equally long"),
        (torch.eye(2).to_sparse(), "tensor; derivatives are taken at dense ones"),
        (torch.ones(2, device="meta"), "an empty meta tensor"),
        (np.array(["a"]), "a point is made of real numbers"),
    ],
)
def test_what_is_no_point_is_refused_with_a_sentence(x, message):
    with pytest.raises(ModelError, match=message):
        as_point(x)


def test_a_tuple_of_arrays_is_several_inputs_and_of_numbers_one():
    assert len(as_inputs((X, [1.0], np.ones(2)))) == 3 and len(as_inputs((1.0, 2.0))) == 1
    assert as_inputs((X, torch.tensor([1, 2])))[1].dtype == torch.int64


def renamed(x):
    return exp(x) + 1


def test_math_on_a_tensor_is_answered_with_the_torch_function():
    with pytest.raises(ModelError, match=r"calls math.sin on a tensor; math works on one plain number .* torch.sin$"):
        call(lambda x: torch.cos(x) * math.sin(x), X)
    with pytest.raises(ModelError, match=r"renamed calls math.exp on a tensor; .* torch.exp"):
        call(renamed, X)
    with pytest.raises(ModelError, match=r"float\(\) on a tensor"):
        call(lambda x: float(x), X)
    with pytest.raises(ModelError, match=r"math.fabs on a tensor.*torch.abs"):
        call(lambda x: math.fabs(x), X)


def test_numpy_on_a_tensor_that_tracks_is_answered_with_the_torch_function():
    with pytest.raises(ModelError, match=r"calls np.sin on a tensor; NumPy knows no gradient .*torch.sin"):
        call(lambda x: np.sin(x), X.clone().requires_grad_())
    with pytest.raises(ModelError, match="NumPy knows no gradient and would cut it"):
        call(lambda x: x.numpy(), X.clone().requires_grad_())


def test_writing_into_a_leaf_is_answered_with_a_copy():
    with pytest.raises(ModelError, match="changes its input in place; work on a copy"):
        call(lambda x: x.add_(1), X.clone().requires_grad_())


def test_other_errors_come_through_as_they_are():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        call(nn.Linear(3, 2), X[None])
    with pytest.raises(ValueError, match="my own"):
        call(lambda x: int("my own"), X)


def test_math_on_plain_numbers_is_nobodys_error():
    with pytest.raises(TypeError):
        call(lambda x: math.sin("a"), 1.0)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    "f, message",
    [
        (lambda x: None, "is a `return` missing"),
        (lambda x: {"loss": x}, "returned a dict"),
        (lambda x: (x, x), "expected one tensor: pick one"),
        (lambda x: x.argmax(), "which have no derivative: return floating-point numbers"),
        (lambda x: "far", "expected a tensor of real numbers"),
        (
            lambda x: math.sin(x[0]),
            "the gradient ends inside it.*it calls math.sin: use torch.sin, or estimate the derivative",
        ),
        (lambda x: torch.nested.as_nested_tensor([x, x]), "returned a nested tensor, and derivatives are of dense"),
        (lambda x: x.to_sparse(), r"returned a sparse tensor, and derivatives are of dense ones: return y.to_dense"),
        (lambda x: x[0].item(), r"leave out float\(\), .item\(\)"),
    ],
)
def test_what_is_no_tensor_of_real_numbers_is_refused(f, message):
    with pytest.raises(ModelError, match=message):
        as_output(call(f, X), f)


def test_the_torch_name_exists_or_is_not_given():
    for name in dir(math):
        given = torch_name(f"math.{name}")
        assert given == "functions of torch" or hasattr(torch, given.split(".")[1].split("(")[0])


def test_a_function_of_math_given_as_it_is_gets_torchs_name():
    with pytest.raises(ModelError, match="math works on one plain number and cuts the gradient: use torch.sin"):
        call(math.sin, torch.ones(2))


def test_a_function_of_math_that_answers_a_number_is_named():
    with pytest.raises(ModelError, match="it calls math.sin: use torch.sin"):
        as_output(math.sin(1.0), math.sin)
