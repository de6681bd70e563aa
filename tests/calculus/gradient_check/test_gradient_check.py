"""The gradient held against differences: right ones pass, wrong entries are named, odd functions are explained."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eitherway.base.errors import CostError, ModelError
from eitherway.calculus.gradient_check.check import gradient_check


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def wrong_at(entries, factor=0.5):
    """The identity, with a backward that is wrong at some flat entries."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            g = g.clone()
            g.view(-1)[entries] *= factor
            return g

    return Wrong.apply


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


CORPUS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (5, 3)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), (6, 3)),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3), nn.Softmax(-1)), (2, 4)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten()), (1, 1, 6, 6)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), (1, 3, 4)),
    "dropout": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), (4, 3)),
}


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("precision", ["double", "given"])
def test_right_gradients_pass_in_either_precision(name, precision):
    make, shape = CORPUS[name]
    model, x = seeded(make), seeded(lambda: torch.randn(shape))
    found = gradient_check(model, x, precision=precision)
    assert found.ok, str(found)
    assert found.precision == ("float64" if precision == "double" else "float32")


@given(
    st.integers(0, 11),
    st.sampled_from([0.0, -1.0, 0.999, 1.001, 2.0]),
    st.lists(st.floats(0.1, 2), min_size=12, max_size=12),
)
@settings(max_examples=25)
def test_a_single_wrong_entry_is_found_and_no_other_is_blamed(where, factor, values):
    wrong = wrong_at([where], factor)
    found = gradient_check(lambda x: torch.sin(wrong(x)), double(values).reshape(3, 4))
    truth = np.cos(values[where])
    if abs(truth) > 1e-3:
        (blame,) = found.blames
        row, column = divmod(where, 4)
        assert blame.where == f"x[{row}, {column}]" and blame.output == f"y[{row}, {column}]"
        assert abs(blame.differences - truth) <= blame.error and np.isclose(blame.autograd, factor * truth)


class Cut(nn.Module):
    """A layer whose weight is cut off from the gradient in one entry, or in all."""

    def __init__(self, size, entry=None):
        super().__init__()
        self.first, self.last = nn.Linear(size, size), nn.Linear(size, 3)
        self.entry = entry

    def forward(self, x):
        mask = torch.ones_like(self.first.weight)
        if self.entry:
            mask = torch.zeros_like(mask)
            mask[self.entry] = 1
        weight = self.first.weight * (1 - mask) + self.first.weight.detach() * mask
        return self.last(torch.tanh(x @ weight.T + self.first.bias))


def test_blame_names_output_parameter_entry_both_values_and_the_relative_error():
    # torch's own says "The {}th input" and prints two matrices (pytorch#48764, #2710)
    found = gradient_check(seeded(lambda: Cut(4, (1, 0))), seeded(lambda: torch.randn(2, 4)))
    assert {blame.where for blame in found.blames} == {"first.weight[1, 0]"} and len(found.blames) == 6
    text = str(found.blames[0])
    assert text.startswith("output y[") and "with respect to first.weight[1, 0]: autograd says 0.00, diff" in text
    assert "+- " in text and "(relative error 1)" in text


def test_one_wrong_entry_among_a_hundred_thousand_is_found():
    model = seeded(lambda: Cut(300, (17, 33)))
    found = gradient_check(model, seeded(lambda: torch.randn(2, 300)))
    assert [blame.where for blame in found.blames] == ["first.weight[17, 33]"]
    assert found.evaluations < 1500 and "at least 1" in str(found)


def test_a_wholly_wrong_gradient_does_not_hide_in_a_mostly_zero_jacobian():
    # torch's fast mode passed this kind: one random product, judged with a tolerance on its size (pytorch PR#59615)
    wrong = wrong_at(list(range(1000)), -1.0)
    found = gradient_check(lambda x: 1e-6 * wrong(x) ** 2, seeded(lambda: torch.rand(1000)) + 1)
    assert not found.ok and len(found.blames) >= 8
    assert all(blame.output[1:] == blame.where[1:] for blame in found.blames)  # y[i] by x[i]


def test_outputs_of_very_different_size_do_not_disturb_each_other():
    # pytorch#56275: a random product over such outputs failed right gradients
    def f(x):
        return torch.stack([1e8 * x[0].sin(), 1e-8 * x[1] ** 2])

    assert gradient_check(f, [1.0, 2.0]).ok
    wrong = wrong_at([1])
    found = gradient_check(lambda x: f(wrong(x)), [1.0, 2.0])
    assert [blame.output for blame in found.blames] == ["y[1]"] and found.blames[0].where == "x[1]"


def test_single_precision_is_promoted_by_itself_and_no_false_alarm():
    # pytorch#8659, #5351, #8175: float32 inputs fail torch's check unless one thinks of double()
    found = gradient_check(lambda x: torch.exp(x).sum(), torch.tensor([1.0, 2.0, 10.0]))
    assert found.ok and found.precision == "float64"


def test_a_function_that_only_runs_in_float32_is_checked_there_and_said_to_be():
    layer = seeded(lambda: nn.Linear(3, 2))
    found = gradient_check(lambda x: layer(x), torch.ones(3))
    assert found.ok and found.precision == "float32" and "does not run in float64" in found.warnings[0]


def test_expanded_strided_and_empty_inputs_are_no_trouble():
    x = torch.ones(1).expand(3)
    assert gradient_check(lambda x: (x * torch.arange(3)).sum(), x).ok
    assert gradient_check(lambda x: x.sin(), torch.ones(3, 4).T).ok
    assert gradient_check(lambda x, nothing: x.sin().sum() + nothing.sum(), (torch.ones(2), torch.ones(0))).ok


def test_model_inputs_gradients_and_generator_stay_as_they_were():
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.3), nn.ReLU(inplace=True)))
    x = seeded(lambda: torch.randn(4, 2)).requires_grad_()
    before, numbers, state = {k: v.clone() for k, v in model.state_dict().items()}, x.clone(), torch.get_rng_state()
    gradient_check(model, x)
    assert all(torch.equal(before[k], v) and before[k].dtype == v.dtype for k, v in model.state_dict().items())
    assert torch.equal(x, numbers) and x.grad is None and torch.equal(state, torch.get_rng_state())
    assert model.training and all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_kink_is_no_error_and_any_slope_between_is_accepted():
    found = gradient_check(lambda x: x.abs() + torch.relu(x), [0.0, 1.0])
    assert found.ok and "kink at x[0]: slope -1 below, 2 above" in found.warnings[0]
    wrong = wrong_at([0], 0.0)
    assert not gradient_check(lambda x: x.abs() + 5 * wrong(x), [0.0, 1.0]).ok  # slopes 4 and 6, and autograd says 0


def test_kinks_all_over_do_not_hide_a_wrong_entry():
    f, wrong = lambda x: (torch.relu(x) + x * torch.arange(1000)).sum(), wrong_at([700])
    right, cut = gradient_check(f, torch.zeros(1000)), gradient_check(lambda x: f(wrong(x)), torch.zeros(1000))
    assert right.ok and "checked beside x" in right.warnings[0]
    assert [blame.where for blame in cut.blames] == ["x[700]"]


@pytest.mark.parametrize(
    "f",
    [lambda x: x.data * 2, lambda x: x.detach() * 2, lambda x: torch.tensor(x.tolist(), dtype=x.dtype) * 2],
    ids=["data", "detach", "tolist"],
)
def test_a_gradient_that_is_none_where_the_value_moves_is_a_cut(f):
    found = gradient_check(f, [1.0, 2.0])
    assert len(found.blames) == 2 and "autograd has no path to it (None)" in str(found.blames[0])


def test_a_gradient_that_is_zero_where_the_value_moves_is_a_cut():
    found = gradient_check(lambda x, y: (x.detach() * y).sum() + 0 * x.sum(), (double([1.0, 2.0]), double([3.0, 4.0])))
    assert {blame.leaf for blame in found.blames} == {"x"} and "zero everywhere, though the value moves" in str(found)


def test_a_value_that_goes_in_steps_has_the_zero_gradient_it_gets():
    found = gradient_check(lambda x: x.round() + 0.5, [1.2, 2.4])
    assert found.ok and "it goes in steps" in found.warnings[0]
    found = gradient_check(lambda x: x + (x.round() - x).detach(), [1.2, 2.4])
    assert not found.ok and "straight-through gradient" in str(found)
    assert "does not depend on y here" in str(gradient_check(lambda x, y: x * 2, (double([1.0]), double([1.0]))))


def test_a_random_function_is_named_as_such():
    found = gradient_check(nn.Dropout(0.5), torch.ones(8))
    assert found.ok and "f is random (dropout, noise)" in found.warnings[0]
    found = gradient_check(lambda x: x * random.random(), [1.0])
    assert not found.ok and "does not follow torch's generator" in found.problems[0]


def test_a_backward_that_differs_from_call_to_call_is_named():
    class Dice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g * (1 + random.random())

    assert "differs from call to call" in str(gradient_check(Dice.apply, [1.0, 2.0]))


def test_a_backward_that_ignores_what_it_is_handed_is_named():
    class Constant(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x**2).sum()

        @staticmethod
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0]  # right for a loss alone, wrong inside anything

    assert "is not linear" in gradient_check(Constant.apply, [1.0, 2.0]).problems[0]


def test_a_backward_of_the_wrong_shape_is_reported_and_not_raised():
    class Longer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return torch.cat([g, g])

    assert "backward failed: Function Longer" in gradient_check(Longer.apply, [1.0, 2.0]).problems[0]


def test_writing_into_the_input_is_noted():
    found = gradient_check(lambda x: x.mul_(2), [1.0, 2.0])
    assert found.ok and "f changes x in place" in found.warnings[0]


def test_values_and_gradients_that_are_nan_are_named():
    found = gradient_check(lambda x: torch.log(x), [-1.0, 2.0])
    assert not found.ok and "output y[0] is nan at x" in found.problems[0] and not found.blames
    found = gradient_check(lambda x: torch.sqrt(x) * 0 + x, [0.0, 2.0])
    assert not found.ok and "autograd is nan at x[0]" in found.problems[0]


def test_neighbours_without_a_value_are_said_not_hidden():
    def f(x):
        if not torch.equal(x[0], double(1.0)):
            raise ValueError("only one")
        return x * 2

    found = gradient_check(f, double([1.0, 2.0]))
    assert found.ok and "x[0]: differences cannot tell" in str(found)


def test_whole_number_inputs_are_skipped_and_said_to_be():
    found = gradient_check(lambda x, i: x[i] * 2, (torch.randn(3), torch.tensor([1, 2])))
    assert found.ok and "i holds int64 (2,): skipped" in found.warnings[0] and len(found.checked) == 1


def test_many_outputs_are_mixed_and_the_wrong_one_still_named():
    wrong = wrong_at([123])
    found = gradient_check(lambda x: wrong(torch.outer(x, torch.arange(1.0, 51.0))), double([1.0, 2.0, 3.0, 4.0]))
    (blame,) = found.blames
    assert (blame.output, blame.where) == ("y[2, 23]", "x[2]") and np.isclose(blame.differences, 24)


def test_a_gradient_written_by_hand_is_checked_for_numpy_and_for_torch():
    cosine = {"gradient": lambda x: torch.cos(x)}
    assert gradient_check(lambda x: np.sum(np.sin(x)), [1.0, 2.0], **cosine).ok
    assert gradient_check(lambda x: torch.sin(x).sum(), torch.tensor([1.0, 2.0]), **cosine).ok
    found = gradient_check(lambda x: np.sum(np.sin(x)), [1.0, 2.0], gradient=[0.54030230586814, 0.1])
    assert [b.where for b in found.blames] == ["x[1]"] and "the given gradient says 0.1" in str(found)
    model = seeded(lambda: nn.Linear(2, 1))
    found = gradient_check(model, torch.ones(2), gradient={"weight": torch.ones(1, 1, 2), "bias": torch.zeros(1)})
    assert [b.where for b in found.blames] == ["bias[0]"] and "no gradient was given by input" in str(found)


def test_a_given_gradient_of_the_wrong_shape_is_a_problem():
    found = gradient_check(lambda x: x * 2, [1.0, 2.0], gradient=[2.0, 2.0])
    assert found.problems == ("the given gradient by x has shape (2,), expected (2, 2): y.shape + x.shape",)


def test_tied_weights_are_checked_once_and_together():
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)))
    model[2].weight = model[0].weight
    found = gradient_check(model, torch.ones(1, 3))
    assert found.ok and [row.name for row in found.checked].count("0.weight") == 1
    assert "2.weight" not in [row.name for row in found.checked]


def test_the_check_is_the_same_every_time():
    model, x = seeded(lambda: Cut(20, (3, 4))), seeded(lambda: torch.randn(2, 20))
    one, two = gradient_check(model, x), gradient_check(model, x)
    assert str(one) == str(two) and np.array_equal(one.points, two.points)


def test_raise_if_wrong_raises_a_cost_error_with_the_worst_entries():
    gradient_check(torch.sin, [1.0]).raise_if_wrong()
    with pytest.raises(CostError, match=r"the gradient is wrong:\noutput y\[.*\] with respect to first.weight"):
        gradient_check(seeded(lambda: Cut(4, (1, 0))), torch.ones(2, 4)).raise_if_wrong()


def test_the_report_is_a_table_a_page_and_a_picture():
    found = gradient_check(lambda x: x * x.detach(), [1.0, 2.0])
    assert "with respect to" in str(found) and "the gradient is wrong: 2 entries in float64" in str(found)
    assert "<table>" in found._repr_html_() and "x[1]" in found._repr_html_()
    axes = found.plot()
    assert axes.get_title(loc="left") == "2 entries are wrong" and axes.get_ylabel() == "autograd"
    axes.figure.canvas.draw()
    with pytest.raises(ModelError, match="expected matplotlib Axes to draw on"):
        found.plot("check.png")
    assert gradient_check(torch.sin, [1.0]).plot().get_title(loc="left") == "The gradient is right"


def test_one_is_not_many():
    one = gradient_check(lambda x: x * x.detach(), [1.0])
    assert one.plot().get_title(loc="left") == "1 entry is wrong"
    assert "the gradient is wrong: 1 entry in float64" in str(one)
    shapeless = gradient_check(lambda x: (x * x).sum(), [1.0, 2.0], gradient=[1.0, 2.0, 3.0])
    assert shapeless.plot().get_title(loc="left") == "The gradient is wrong"
    assert "is nan at x[0]: a 0 * inf" in str(gradient_check(lambda x: x * x, [0.0], gradient=[[float("nan")]]))
    assert ", and 1 more output is not finite" in str(gradient_check(torch.log, [-1.0, -2.0, 1.0]))


@pytest.mark.parametrize(
    "gradient, message",
    [
        ("a", "gradient= by x is 'a', a str: expected real numbers, an array or a list"),
        (object(), "a object: expected real numbers, an array or a list"),
        ([1, "b"], "expected real numbers, an array or a list"),
        ([[1], [2, 3]], "expected real numbers, an array or a list"),
        (True, "gradient= by x is True, a bool: expected real numbers"),
        (np.array([1j, 2]), "a ndarray: expected real numbers"),
        (torch.tensor([1j, 2]), "a Tensor: expected real numbers"),
        ({"x": "a"}, "gradient= by x is 'a', a str"),
        ({"y": [1.0, 2.0]}, r"gradient= names 'y', which f has not. Known: x\."),
        ({}, r"gradient= is \{\}: expected a gradient by at least one of x"),
        (lambda x: None, "gradient= returned None: expected a gradient by at least one of x"),
    ],
)
def test_a_gradient_that_is_none_is_refused_and_never_called_right(gradient, message):
    with pytest.raises(ModelError, match=message):
        gradient_check(lambda x: (x * x).sum(), [1.0, 2.0], gradient=gradient)


@pytest.mark.parametrize(
    "f, x, message",
    [
        (lambda x: {"loss": x.sum()}, [1.0], "returned a dict"),
        (lambda x: x.argmax(), [1.0], "which have no derivative"),
        (lambda x: math.sin(x), [1.0, 2.0], "use torch.sin"),
        (lambda x: x * 2, torch.tensor([1, 2]), "was given no real numbers to differentiate by"),
        (lambda x: x * 2, "one", "a point is a number"),
        (lambda x: x * 2, torch.ones(0), "no real numbers to differentiate by: every input is empty"),
        (None, [1.0], "gradient_check got None, a NoneType; expected a function or a module of tensors"),
    ],
)
def test_functions_and_points_that_cannot_be_checked_are_refused(f, x, message):
    with pytest.raises(ModelError, match=message):
        gradient_check(f, x)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"precision": "singel"}, "is no precision to check in"),
        ({"tolerance": -1.0}, "is no relative error: give a number >= 0"),
        ({"tolerance": "small"}, "is no relative error: give a number >= 0"),
        ({"exhaustive": 0}, "is no number of entries: give 1 or more"),
        ({"exhaustive": True}, "is no number of entries: give 1 or more"),
        ({"tolerance": True}, "is no relative error: give a number >= 0"),
        ({"seed": "a"}, "seed='a' seeds nothing: give a whole number below"),
        ({"seed": None}, "seed=None seeds nothing: give a whole number below"),
        ({"seed": 2**80}, "seeds nothing: give a whole number below"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        gradient_check(torch.sin, [1.0], **arguments)


def test_a_wholly_wrong_large_parameter_is_blamed_by_entry():
    wrong = wrong_at(list(range(2500)), 1.01)
    found = gradient_check(lambda w: torch.relu(wrong(w).reshape(50, 50)).sum(), seeded(lambda: torch.randn(2500)))
    assert not found.ok and not found.problems and len(found.blames) >= 4
    assert all(np.isclose(blame.autograd, 1.01) for blame in found.blames)
