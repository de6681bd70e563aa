"""Linear, affine or neither: proved where the operations tell, tested at five scales, and read off as a matrix."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import eitherway as ew
from eitherway.linear import AffineMap, rotation, translation
from eitherway.linear.affine import from_function, is_linear

W = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

LINEAR = {
    "flip": (lambda x: x.flip(0), 3),
    "centred": (lambda x: (x - x.mean()) / 2, 4),
    "fourier": (lambda x: torch.fft.rfft(x).real, 8),
    "padded": (lambda x: nn.functional.pad(x, (1, 1)), 3),
    "zero": (lambda x: x * 0, 3),
    "float32 matrix": (lambda x: W @ x, 2),
    "convolution": (nn.Conv2d(1, 2, 3, padding=1, bias=False), None),
    "average pooling": (nn.AvgPool2d(2), (1, 1, 4, 4)),
    "dropout in eval": (nn.Dropout(), 3),
    "masked": (lambda x: torch.where(torch.tensor([True, False, True]), x, 0.0), 3),
}
AFFINE = {
    "translation": (lambda x: x + 1, 2),
    "a layer": (nn.Linear(3, 2), None),
    "layers without activations": (nn.Sequential(*[nn.Linear(5, 5) for _ in range(5)]), None),
    "batch norm in eval": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), None),
    "padded with 2": (lambda x: nn.functional.pad(x, (1, 1), value=2.0), 3),
    "joined with 1": (lambda x: torch.cat([x, torch.ones(1, dtype=x.dtype)]), 2),
    "written by hand": (lambda x: (3 - x) / 4 + W.double()[0], 2),
}
NEITHER = {
    "relu": (torch.relu, 4),
    "leaky relu of 0.99": (nn.LeakyReLU(0.99), 3),
    "a little sine": (lambda x: x + 1e-6 * x.sin(), 3),
    "rounding": (lambda x: torch.round(x, decimals=6), 3),
    "clamp at 10": (lambda x: x.clamp(-10, 10), 3),
    "clamp at 1e5": (lambda x: x.clamp(-1e5, 1e5), 3),
    "square": (lambda x: x * x, 3),
    "its own factor": (lambda x: x @ x.T, (2, 2)),
    "branch": (lambda x: x if x.sum() > 0 else 2 * x, 3),
    "softmax": (lambda x: x.softmax(0), 3),
    "length": (lambda x: x.norm()[None], 3),
}


def cases(table):
    return pytest.mark.parametrize("f, size", list(table.values()), ids=list(table))


@cases(LINEAR)
def test_a_linear_function_is_proved_so(f, size):
    found = is_linear(f, size)
    assert found and found.linear and found.proved and str(found) == "linear (proved from its operations)"


@cases(AFFINE)
def test_an_affine_function_moves_zero_and_is_proved_so(f, size):
    found = is_linear(f, size)
    assert not found and found.affine and found.proved
    assert str(found).startswith("translation moves 0 to [") and "so it is affine, not linear" in str(found)


@cases(NEITHER)
def test_what_bends_is_neither(f, size):
    found = is_linear(f, size)
    assert not found.affine and not found.proved
    assert str(found).startswith("neither linear nor affine because of ")


def test_the_operation_that_bends_is_named_by_module():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    assert is_linear(net).breaks == ("1 (Tanh), tanh",)


def test_what_bends_only_far_away_is_called_tested_not_proved():
    found = is_linear(lambda x: x.clamp(-1e9, 1e9), 3)
    assert found.linear and not found.proved
    assert "tested, not proved" in str(found) and "clamp" in str(found)


def test_a_function_of_numpy_is_tested_though_not_followed():
    found = is_linear(lambda x: np.asarray(x) * 2, 3)
    assert found.linear and not found.proved and "could not be followed" in str(found)


def test_nan_is_neither():
    assert not is_linear(lambda x: x / 0, 2).affine


def test_maps_know_it_themselves():
    assert is_linear(rotation(0.3)) and not is_linear(translation([1.0, 0.0]))
    assert str(is_linear(translation([1.0, 0.0]))).startswith("translation moves 0 to [1, 0]")


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    is_linear(net, (4, 3))
    assert net.training and next(net.parameters()).dtype == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@given(
    matrix=st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=1, max_size=4),
    shift=st.floats(-9, 9),
)
@settings(max_examples=30, deadline=None)
def test_the_map_read_off_a_function_is_the_function(matrix, shift):
    A = torch.tensor(matrix, dtype=torch.float64)
    found = AffineMap.from_function(lambda x: A @ x + shift, 3)
    assert torch.allclose(found.linear.dense(), A, atol=1e-12)
    assert torch.allclose(found.shift, torch.full((len(A),), shift, dtype=torch.float64), atol=1e-12)


def test_layers_without_activations_are_one_matrix():
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)).double()
    found, x = from_function(net), torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found @ x, net(x), atol=1e-12)


def test_images_are_read_flattened():
    found = from_function(nn.AvgPool2d(2), (1, 1, 4, 4))
    assert tuple(found.shape) == (4, 16) and math.isclose(float(found.linear.dense().sum()), 4.0)


def test_a_function_that_bends_has_no_matrix():
    with pytest.raises(ew.ModelError, match="no matrix does what f does, since it is neither linear nor affine"):
        AffineMap.from_function(torch.relu, 3)


def test_a_random_function_is_no_one_map():
    with pytest.raises(ew.ModelError, match="f is random, so it is no one map: dropout is random"):
        is_linear(lambda x: nn.functional.dropout(x, 0.5), 3)


def test_a_size_that_f_does_not_take_is_refused_with_its_error():
    with pytest.raises(ew.ModelError, match="f does not take an input of that size .*; give one: is_linear"):
        is_linear(nn.Linear(3, 2), 5)
    with pytest.raises(ew.ModelError, match="no size was found that f takes"):
        is_linear(lambda x: x.view(7, 11))
    with pytest.raises(ew.ModelError, match="expected a length, a shape, or an example tensor"):
        is_linear(torch.relu, (3, -1))


def test_a_function_whose_shape_changes_is_no_one_map():
    with pytest.raises(ew.ModelError, match="and another shape elsewhere, so it is no one map"):
        is_linear(lambda x: x[x > 0], 3)


def test_a_function_that_casts_to_single_precision_is_judged_by_it():
    assert is_linear(lambda x: torch.eye(2) @ x.float(), 2).linear
    assert not is_linear(lambda x: x.float() + 1e-3 * x.float() ** 2, 2).affine


def test_a_write_that_others_see_is_named_as_the_reason_for_no_proof():
    found = is_linear(lambda x: torch.zeros(3, dtype=x.dtype).index_add_(0, torch.arange(3), x), 3)
    assert found.linear and not found.proved and "index_add_" in str(found)


def test_what_is_no_function_is_refused():
    with pytest.raises(ew.ModelError, match="expected a function, a module or a map"):
        is_linear(None)


def test_a_function_that_answers_no_tensor_is_refused():
    with pytest.raises(ew.ModelError, match="a map answers one tensor: return that"):
        is_linear(lambda x: "text", 3)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_answer_is_refused_and_a_sparse_one_is_read_as_what_it_is():
    with pytest.raises(ew.ModelError, match="f returned a nested tensor, whose rows are a map of no one size"):
        is_linear(lambda x: torch.nested.as_nested_tensor([x, x]), 3)
    assert is_linear(lambda x: x.to_sparse(), 3).linear
