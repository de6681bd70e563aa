"""The door of Jacobians: torch.func's numbers and shapes by every way, from whatever is given; nothing is changed."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.corpora import generator, normal, seeded, settle
from torch import Tensor, nn
from torch.func import jacrev, vmap

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import jacobian, prepare_jacobian

WAYS = ("auto", "chain", "sparse", "reverse", "forward")
W = normal(generator("weights of the door"), 3, 4)


def network(*layers: nn.Module | type[nn.Module]) -> nn.Module:
    """Tanh(Linear) between 4 and 3 unless layers are given; eval mode, float64."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 3))

    g = generator("network of the door")
    return settle(nn.Sequential(*layers) if layers else seeded(build, g), g).double()  # type: ignore[arg-type]


INSIDE = network()
FUNCTIONS = {
    "a scalar of a vector": (lambda x: (x**2).sum(), (4,)),
    "a scalar of a scalar": (torch.sin, ()),
    "a vector of a scalar": (lambda x: torch.stack([x, x**2, x.exp()]), ()),
    "a vector of a vector": (lambda x: torch.tanh(W @ x), (4,)),
    "a matrix of a matrix": (lambda x: x @ x.T, (3, 4)),
    "a scalar of a matrix": (lambda x: x.cos().prod(), (2, 3)),
    "a cube of a vector": (lambda x: x[:, None, None] * x[:, None] * x, (3,)),
    "neighbours": (lambda x: x[1:] * x[:-1], (9,)),
    "nothing depends": (lambda x: torch.ones(2, dtype=x.dtype), (3,)),
    "the input itself": (lambda x: x, (2, 2)),
    "a module": (network(), (4,)),
    "a module of a batch": (network(), (5, 4)),
    "a module inside a function": (lambda x: INSIDE(x).softmax(-1).log(), (4,)),
}
by_function = pytest.mark.parametrize("name", FUNCTIONS)


def at(name: str) -> tuple[object, Tensor]:
    f, shape = FUNCTIONS[name]
    return f, normal(generator(name), *shape)


def same(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


# what it equals -----------------------------------------------------------------------------------------------------


@by_function
@pytest.mark.parametrize("mode", WAYS)
def test_it_equals_jacrev_in_numbers_and_shape(name, mode):
    f, x = at(name)
    assert same(jacobian(f, x, mode=mode), jacrev(f)(x))


@by_function
def test_the_sparse_form_is_outputs_by_inputs_flattened(name):
    f, x = at(name)
    found = jacobian(f, x, form="sparse")
    expected = jacrev(f)(x)
    assert found.is_sparse and same(found.to_dense(), expected.reshape(-1, x.numel()))


def test_the_gradient_of_a_scalar_is_as_long_as_the_vector():
    assert jacobian(lambda x: (x**2).sum(), [1.0, 2.0, 3.0]).tolist() == [2, 4, 6]


@pytest.mark.parametrize("mode", ("auto", "chain", "reverse", "forward"))
@pytest.mark.parametrize("batch", (1, 6))
def test_batched_gives_each_sample_its_own(mode, batch):
    net, x = network(), normal(generator("batch"), batch, 4)
    assert same(jacobian(net, x, mode=mode, batched=True), vmap(jacrev(net))(x))


def test_batched_samples_may_have_any_shape():
    net = network(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2))
    x = normal(generator("images"), 3, 1, 5, 4)
    expected = torch.stack([jacrev(lambda one: net(one[None])[0])(image) for image in x])
    found = jacobian(net, x, batched=True)
    assert found.shape == (3, 2, 3, 2, 1, 5, 4) and same(found, expected)


def test_a_batch_of_scalars_gives_gradients():
    x = normal(generator("scalars"), 5, 3)
    assert same(jacobian(lambda x: (x**3).sum(1), x, batched=True), 3 * x**2)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_the_chain_rule_holds(p, q, seed):
    g = torch.Generator().manual_seed(seed)
    A, B, x = normal(g, p, 4), normal(g, 4, q), normal(g, q)
    inner, outer = (lambda x: torch.tanh(B @ x)), (lambda y: (A @ y).sin())
    whole = jacobian(lambda x: outer(inner(x)), x, mode="reverse")
    parts = jacobian(outer, inner(x), mode="reverse") @ jacobian(inner, x, mode="forward")
    assert torch.allclose(whole, parts, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 10_000))
def test_it_is_linear_in_the_function(seed):
    g = torch.Generator().manual_seed(seed)
    x, a = normal(g, 4), float(normal(g, 1))
    f, h = (lambda x: torch.tanh(W @ x)), (lambda x: (W @ x) ** 2)
    assert torch.allclose(
        jacobian(lambda x: f(x) + a * h(x), x, mode="chain"), jacobian(f, x) + a * jacobian(h, x), rtol=1e-10
    )


@pytest.mark.parametrize("mode", WAYS)
def test_single_precision_stays_single(mode):
    net, x = network().float(), normal(generator("single"), 4).float()
    found = jacobian(net, x, mode=mode)
    assert found.dtype == torch.float32 and torch.allclose(found, jacrev(net)(x), atol=1e-5)


# several arguments --------------------------------------------------------------------------------------------------


def product(a: Tensor, b: Tensor) -> Tensor:
    return a.sin() @ b


def test_one_argument_of_several_is_varied():
    a, b = normal(generator("a"), 2, 3), normal(generator("b"), 3)
    for i in (0, 1, -1):
        assert same(jacobian(product, (a, b), argnums=i), jacrev(product, argnums=i % 2)(a, b))


def test_a_tuple_of_arguments_gives_a_tuple_of_jacobians():
    a, b = normal(generator("a"), 2, 3), normal(generator("b"), 3)
    found, expected = jacobian(product, (a, b), argnums=(1, 0)), jacrev(product, argnums=(1, 0))(a, b)
    assert isinstance(found, tuple) and len(found) == 2
    assert all(same(one, other) for one, other in zip(found, expected))


def test_what_is_not_varied_may_be_anything():
    table, which = normal(generator("table"), 5, 3), torch.tensor([0, 3])
    found = jacobian(lambda table, which, power: table[which] ** power, (table, which, 2))
    assert same(found, jacrev(lambda table: table[which] ** 2)(table))


def test_lists_and_arrays_are_taken_among_several():
    found = jacobian(lambda a, b: a * b, ([1.0, 2.0], np.array([3.0, 4.0])), argnums=1)
    assert found.tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize("i", (2, -3, "x", True, 1.0))
def test_an_argument_that_is_not_there_is_refused(i):
    with pytest.raises(ModelError, match="and there are 2 arguments, counted from 0"):
        jacobian(product, (torch.ones(2, 3), torch.ones(3)), argnums=i)


def test_a_varied_argument_without_derivative_is_named():
    with pytest.raises(ModelError, match=r"x\[1\] holds int64"):
        jacobian(lambda a, i: a[i], (torch.ones(3), torch.tensor(1)), argnums=1)


# what is taken ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x",
    [
        [3.0, 2.0],
        (3.0, 2.0),
        [3, 2],
        np.array([3.0, 2.0]),
        np.array([3, 2], dtype=np.float32),
        torch.tensor([3.0, 2.0]),
    ],
    ids=["list", "tuple", "whole numbers", "array", "single array", "tensor"],
)
def test_lists_arrays_and_tensors_are_taken(x):
    found = jacobian(lambda x: torch.stack([x[0] * x[1], x[1] ** 2]), x)
    assert found.tolist() == [[2, 3], [0, 4]]


def test_a_plain_number_is_a_point():
    assert jacobian(lambda x: x**3, 2.0).item() == 12


def test_a_point_that_tracks_gradients_and_is_no_leaf_is_taken():
    x = normal(generator("tracked"), 4).requires_grad_() * 2
    assert same(jacobian(torch.sin, x), x.detach().cos().diag())


def test_it_works_where_gradients_are_off():
    x = normal(generator("off"), 4)
    with torch.no_grad():
        assert same(jacobian(torch.sin, x), x.cos().diag())
    with torch.inference_mode():
        assert torch.allclose(jacobian(torch.sin, x), x.cos().diag())


@pytest.mark.parametrize("mode", WAYS)
def test_nothing_in_or_nothing_out_gives_an_empty_jacobian(mode):
    assert jacobian(lambda x: x[:0], torch.ones(4), mode=mode).shape == (0, 4)
    assert jacobian(lambda x: torch.ones(3) * x.sum(), torch.ones(0), mode=mode).shape == (3, 0)


def test_a_batch_of_empty_outputs_is_empty():
    assert jacobian(lambda x: x[:, :0], torch.ones(3, 4), batched=True).shape == (3, 0, 4)


# what is refused ----------------------------------------------------------------------------------------------------


def test_math_on_a_tensor_is_told_of_torch():
    with pytest.raises(ModelError, match=r"calls math\.sin on a tensor.*use torch\.sin"):
        jacobian(lambda x: math.sin(x) * x, [1.0, 2.0])
    with pytest.raises(ModelError, match=r"it calls math\.sin: use torch\.sin"):
        jacobian(lambda x: math.sin(x), [1.0])


@pytest.mark.parametrize(
    ("f", "x", "message"),
    [
        (torch.sin, torch.arange(3), "holds int64"),
        (torch.sin, torch.ones(2, dtype=torch.complex64), "derivatives need real numbers"),
        (lambda x: (x, x), [1.0], "expected one tensor"),
        (lambda x: x > 0, [1.0], "values, which have no derivative"),
        (lambda x: x.tolist(), [1.0], "expected one tensor"),
        (lambda x: None, [1.0], "expected a tensor: is a `return` missing"),
        (lambda x: float(x.sum()), [1.0], "so the gradient ends inside it"),
    ],
    ids=["integers", "complex", "a tuple", "booleans", "a list", "None", "a float"],
)
def test_what_has_no_jacobian_gets_a_sentence(f, x, message):
    for form in ("dense", "sparse", "operator"):
        with pytest.raises(ModelError, match=message):
            jacobian(f, x, form=form)


@pytest.mark.parametrize("mode", ("chain", "reverse", "forward"))
def test_a_sparse_answer_is_made_by_the_sparse_way_alone(mode):
    with pytest.raises(ModelError, match="form='sparse' is made by the sparse way alone, and mode is"):
        jacobian(torch.sin, [1.0], form="sparse", mode=mode)


@pytest.mark.parametrize("door", (jacobian, prepare_jacobian))
def test_a_jacobian_of_a_jacobian_is_refused_and_a_hessian_given(door):
    def f(x: Tensor) -> Tensor:
        return (x**3).sum()

    def inner(x: Tensor) -> Tensor:
        J = door(f, x)
        return J if door is jacobian else J(x)

    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    with pytest.raises(ModelError, match="lets no gradient pass; take the inner one by torch.func"):
        jacobian(inner, x)
    assert torch.allclose(jacobian(torch.func.grad(f), x), torch.diag(6 * x))


@pytest.mark.parametrize("door", (jacobian, prepare_jacobian))
def test_what_cannot_be_called_is_refused(door):
    with pytest.raises(ModelError, match="jacobian got 3, a int; expected a function or a module of tensors"):
        door(3, [1.0])


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (torch.sqrt, torch.tensor([0.0, 1.0])),
        (torch.log, torch.tensor([-1.0, 1.0])),
        (lambda x: x**2, torch.tensor([float("inf"), 1.0])),
    ],
    ids=["an infinite slope", "a value that is not a number", "a point at infinity"],
)
def test_what_is_not_finite_is_answered_without_a_warning(f, x):
    for mode in ("auto", "reverse", "chain"):  # warnings are errors here
        assert jacobian(f, x, mode=mode)[1, 1] == jacrev(f)(x)[1, 1]


def test_rounding_to_bfloat16_inside_is_no_wrong_derivative():
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), generator("cast"))

    def f(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net(x).float()

    x = torch.ones(3)
    assert torch.allclose(jacobian(f, x), jacrev(f)(x), atol=1e-2)  # warnings are errors here


def test_unknown_modes_and_forms_name_the_known():
    with pytest.raises(ModelError, match="mode is 'revers'.*reverse"):
        jacobian(torch.sin, [1.0], mode="revers")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="form is 'csr'"):
        prepare_jacobian(torch.sin, [1.0], form="csr")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ("operator", "sparse"))
def test_batched_is_dense_alone(form):
    with pytest.raises(ModelError, match="is of the whole Jacobian, in which a batch is block diagonal"):
        jacobian(torch.sin, torch.ones(3, 2), form=form, batched=True)


@pytest.mark.parametrize(
    ("f", "x"), [(torch.sum, torch.ones(3)), (lambda x: x[:2], torch.ones(3, 2)), (torch.sin, torch.ones(()))]
)
def test_batched_wants_one_sample_a_row(f, x):
    with pytest.raises(ModelError, match="needs one sample a row: x has shape"):
        jacobian(f, x, batched=True)


def test_sparsity_of_single_samples_is_not_looked_for():
    with pytest.raises(ModelError, match="a batch is taken sample by sample"):
        jacobian(torch.sin, torch.ones(3, 2), mode="sparse", batched=True)


def test_coins_that_fall_alike_in_every_call_are_chance_all_the_same():
    for seed in range(40):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            with pytest.raises(ModelError, match="is random, so each call has another Jacobian"):
                jacobian(nn.Dropout(0.1), torch.ones(2))


def test_a_random_function_has_no_jacobian():
    with pytest.raises(ModelError, match="is random, so each call has another Jacobian.*eval()"):
        jacobian(nn.Dropout(), torch.ones(4))
    own = torch.Generator().manual_seed(0)
    with pytest.raises(ModelError, match="returned two values, from randn.*it draws numbers of its own"):
        jacobian(lambda x: x * torch.randn(4, generator=own), torch.ones(4))


def test_a_function_that_remembers_has_no_jacobian():
    calls = []

    def counting(x: Tensor) -> Tensor:
        calls.append(1)
        return x * len(calls)

    with pytest.raises(ModelError, match="at one point returned two values.*counting|remembers earlier calls"):
        jacobian(counting, torch.ones(4))


def test_a_function_that_keeps_its_first_answer_has_no_jacobian():
    kept = []

    def caching(x: Tensor) -> Tensor:
        if not kept:
            kept.append(x.sin())
        return kept[0]

    message = "depends on x when it is called first and no more afterwards"
    for form in ("dense", "operator"):
        kept.clear()
        with pytest.raises(ModelError, match=message):
            jacobian(caching, torch.ones(3), form=form)
    kept.clear()
    with pytest.raises(ModelError, match=message):
        prepare_jacobian(caching, torch.ones(400))


def test_an_error_of_the_function_comes_through():
    with pytest.raises(KeyError, match="mine"):
        jacobian(lambda x: {}["mine"], [1.0])
    with pytest.raises(RuntimeError, match="must match"):
        jacobian(lambda x: x + torch.ones(5), torch.ones(3))


# what is left alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ("dense", "sparse", "operator"))
@pytest.mark.parametrize("training", (False, True))
def test_model_input_and_chance_are_left_as_they_were(form, training):
    net = network(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 2)).train(training)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    x = normal(generator("left alone"), 3, 4).requires_grad_()
    state, chance, point = (
        {k: v.clone() for k, v in net.state_dict().items()},
        torch.get_rng_state(),
        x.detach().clone(),
    )
    parameters, buffers = list(net.parameters()), list(net.buffers())
    jacobian(net, x, form=form)
    plan = prepare_jacobian(net, x, form=form)
    plan(x), plan(x + 1)
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert all(one is other for one, other in zip(parameters, net.parameters()))
    assert all(one is other for one, other in zip(buffers, net.buffers()))
    assert all(bool((p.grad == 1).all()) and p.requires_grad for p in net.parameters() if p.grad is not None)
    assert all(part.training == training for part in net.modules())
    assert torch.equal(chance, torch.get_rng_state())
    assert torch.equal(x, point) and x.grad is None and x.requires_grad


def test_chance_is_left_alone_by_what_is_refused():
    before = torch.get_rng_state()
    with pytest.raises(ModelError, match="is random"):
        jacobian(nn.Dropout(), torch.ones(4))
    assert torch.equal(before, torch.get_rng_state())


def test_the_answer_is_nobody_elses():
    plan = prepare_jacobian(lambda x: x.sin(), torch.ones(3))
    first = plan(torch.ones(3))
    kept = first.clone()
    plan(torch.zeros(3)).zero_()
    plan(torch.ones(3)).mul_(5)
    assert torch.equal(first, kept) and torch.equal(plan(torch.ones(3)), kept)
    assert not first.requires_grad


def test_a_written_input_is_said_and_the_callers_is_kept():
    from eitherway.calculus.jacobian import JacobianWarning

    x = normal(generator("written"), 4)
    before = x.clone()
    with pytest.warns(JacobianWarning, match="its Jacobian is taken at a copy. Begin with x = x.clone()"):
        found = jacobian(lambda x: F.relu(x, inplace=True) * 2, x)
    assert torch.equal(x, before) and same(found, (2 * (x > 0)).to(x).diag())


def test_numpys_float64_fits_modules_in_float32():
    line = nn.Linear(3, 2)
    x = np.array([1.0, 2.0, 3.0])
    assert torch.equal(jacobian(line, x), line.weight) and torch.equal(prepare_jacobian(line, x)(x), line.weight)
    assert torch.equal(jacobian(lambda x, y: line(x) * y, (x, np.ones(2))), line.weight)
    assert jacobian(torch.sin, x).dtype == torch.float64


def test_a_class_in_the_place_of_a_module_is_refused():
    with pytest.raises(ModelError, match="make a module of it first"):
        jacobian(nn.Linear, torch.ones(3))
