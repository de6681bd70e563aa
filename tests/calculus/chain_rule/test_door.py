"""The chain rule made visible: the product of the links is the derivative, and each link can be trusted or is named."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from eitherway.base.errors import ModelError
from eitherway.calculus.chain_rule import chain_rule


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(*layers, seed=0, dtype=torch.float64):
    """Layers with weights that depend on the seed alone."""
    net = nn.Sequential(*layers).to(dtype).eval()
    for k, p in enumerate(net.parameters()):
        with torch.no_grad():
            p.copy_(draw(*p.shape, seed=seed + k) / math.sqrt(p.shape[-1]))
    return net


def same(table, f, x):
    return torch.allclose(table.derivative, torch.func.jacrev(f)(x), rtol=1e-10, atol=1e-12)


def test_a_chain_of_two_scalars_reads_as_in_a_textbook():
    def cost(w):
        G = w**2
        return torch.sin(G)

    table = chain_rule(cost, 1.5)
    assert [link.name for link in table.links] == ["dG/dw", "dC/dG"]
    assert "dC/dw = dC/dG · dG/dw" in str(table)
    assert "= -0.6282 · 3 = -1.88452" in str(table)
    assert float(table.derivative) == pytest.approx(3 * math.cos(2.25), rel=1e-15)


def test_no_two_values_have_one_name():
    def f(x):
        z1 = x.sin().exp()
        return z1.sum() + x.sum()

    table = chain_rule(f, draw(3))
    names = [link.name for link in table.every]
    assert len(set(names)) == len(names) and "dz1/dz1'" in names


def test_a_list_is_a_composition_first_applied_first():
    def G(w):
        return w**2

    def C(g):
        return g.sin().sum()

    table = chain_rule([G, C], [1.0, 2.0])
    assert [link.name for link in table.links] == ["dG/dw", "dz2/dG", "dC/dz2"]
    assert torch.allclose(table.derivative, 2 * torch.tensor([1.0, 2.0]).double() * torch.tensor([1.0, 4.0]).cos())


def test_modules_and_functions_mix_and_keep_their_names():
    net = network(nn.Linear(3, 4), nn.Tanh())
    x = draw(3)
    table = chain_rule([net, torch.exp, lambda y: y.sum()], x)
    assert [(k.operation, k.module) for k in table.links] == [("linear", "0"), ("tanh", "1"), ("exp", ""), ("sum", "")]
    assert same(table, lambda t: net(t).exp().sum(), x)


def test_the_derivative_of_a_vector_has_torch_funcs_shape():
    net = network(nn.Linear(3, 4), nn.Softmax(-1))
    x = draw(2, 3)
    table = chain_rule(net, x)
    assert table.derivative.shape == (2, 4, 2, 3)
    assert same(table, net, x)


def test_running_products_are_the_derivatives_they_are_named_after():
    net = network(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3), nn.Tanh())
    x = draw(5)
    table = chain_rule([net, lambda y: (y**2).sum()], x)
    J = torch.eye(5, dtype=torch.float64)
    for link in table.links:
        J = link.jacobian @ J
        assert link.forward == pytest.approx(float(J.norm()), rel=1e-12)
    u = torch.eye(1, dtype=torch.float64)
    for link in reversed(table.links):
        u = u @ link.jacobian
        assert link.backward == pytest.approx(float(u.norm()), rel=1e-12)
    assert torch.allclose(u, table.derivative[None])


def test_branches_are_summed_into_one_row_and_shown_beneath_it():
    def f(x):
        a = x.tanh()
        return (a * x + a).exp().sum()

    x = draw(4)
    table = chain_rule(f, x)
    block = table.links[0]
    assert block.operation == "branches" and [p.operation for p in block.parts] == ["tanh", "mul", "mul", "add", "add"]
    assert [k.operation for k in table.links[1:]] == ["exp", "sum"]
    assert torch.allclose(block.jacobian, torch.func.jacrev(lambda x: x.tanh() * x + x.tanh())(x))
    assert same(table, f, x)


def test_a_number_used_twice_in_one_operation_counts_twice():
    table = chain_rule(lambda x: x * x, [3.0])
    assert float(table.derivative) == 6 and len(table.every) == 1


def test_scalars_with_branches_print_the_sum_over_paths():
    def f(w):
        a = w**2
        b = w.sin()
        return a * b

    text = str(chain_rule(f, 2.0))
    assert "dC/dw = dC/da · da/dw + dC/db · db/dw" in text and "= 0.9093 · 4 + 4 · (-0.4161) = 1.9726" in text


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "2.weight", "2.bias"])
def test_the_derivative_with_respect_to_a_parameter_is_autograds(name):
    net, x = network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), draw(5, 3)
    table = chain_rule([net, lambda y: (y**3).sum()], x, wrt=name)
    net.zero_grad()
    (net(x) ** 3).sum().backward()
    grad = net.get_parameter(name).grad
    assert grad is not None and torch.allclose(table.derivative, grad)
    if name == "0.weight":
        assert table.links[0].structure == "outer product" and "(dC/dz1)^T x^T" in str(table)


def test_parameters_of_several_modules_are_named_by_their_place_in_the_list():
    G, C = network(nn.Linear(3, 4)), network(nn.Linear(4, 2), seed=9)
    table = chain_rule([G, torch.tanh, C], draw(3), wrt="parameters")
    assert set(table.parameters) == {"0.0.weight", "0.0.bias", "2.0.weight", "2.0.bias"}


def test_all_parameters_are_measured_at_once():
    net, x = network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), draw(5, 3)
    table = chain_rule([net, lambda y: (y**2).sum()], x, wrt="parameters")
    net.zero_grad()
    (net(x) ** 2).sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and table.parameters[name] == pytest.approx(float(p.grad.norm()))
        assert f"|dC/d({name})|" in str(table)


def test_a_weight_that_is_used_at_every_step_is_one_block():
    cell = nn.Linear(3, 3).double()
    with torch.no_grad():
        cell.weight.copy_(draw(3, 3))

    def unrolled(x):
        for _ in range(4):
            x = cell(x).tanh()
        return x.sum()

    x = draw(3)
    table = chain_rule(unrolled, x, wrt="cell.weight")
    assert [k.operation for k in table.links] == ["branches", "tanh", "sum"]
    expected = torch.autograd.grad(unrolled(x), cell.weight)[0]
    assert torch.allclose(table.derivative, expected)


def test_one_of_several_inputs_is_chosen_by_its_name():
    def f(a, b):
        return (a * b.exp()).sum()

    a, b = draw(3), draw(3, seed=1)
    assert torch.allclose(chain_rule(f, (a, b), wrt="b").derivative, a * b.exp())
    with pytest.raises(ModelError, match="say which to differentiate by: wrt= one of"):
        chain_rule(f, (a, b))


def test_lists_arrays_and_numbers_are_taken():
    for x in ([1.0, 2.0], np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])):
        assert chain_rule(torch.sin, x).derivative.shape == (2, 2)
    assert chain_rule(torch.sin, 0).derivative.shape == ()
    net = network(nn.Linear(2, 1), dtype=torch.float32)
    assert chain_rule(net, np.array([1.0, 2.0])).derivative.shape == (1, 2)


def test_a_model_is_left_as_it_was_though_all_is_computed_in_double():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Tanh())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    table = chain_rule([net, torch.sum], draw(4, 3).float())
    assert table.derivative.dtype == torch.float64 and table.autograd < 1e-12
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in net.parameters())
    assert net.training and torch.equal(state, torch.get_rng_state())


def test_its_own_precision_can_be_kept():
    table = chain_rule(torch.sin, torch.tensor([1.0]), dtype=None)
    assert table.derivative.dtype == torch.float32 and "own precision" in str(table)


def test_a_hundred_layers_are_explained_and_their_vanishing_is_said():
    layers = [layer for _ in range(100) for layer in (nn.Linear(16, 16), nn.Sigmoid())]
    table = chain_rule([network(*layers), torch.sum], draw(1, 16))
    assert len(table.links) == 201 and table.autograd < 1e-10 and not table.wrong
    (stretch,) = table.stretches
    assert stretch.vanishes and "a layer: |dC/dz| falls from" in stretch.text
    assert "more" in str(table) and len(str(table).splitlines()) < 40


def test_exploding_is_said_too():
    layers = [nn.Linear(8, 8, bias=False) for _ in range(12)]
    net = network(*layers)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6)
    (stretch,) = chain_rule([net, torch.sum], draw(8)).stretches
    assert not stretch.vanishes and "grows by" in stretch.text


def test_one_link_that_shrinks_the_product_alone_is_named_alone():
    (stretch,) = chain_rule(lambda x: (x.tanh() * 1e-6).sin().sum(), draw(4)).stretches
    assert "link 2" in stretch.text and "alone shrinks the product" in stretch.text


class Cube(torch.autograd.Function):
    """Cubes whose backward is wrong in entry 1."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, *grads):
        (x,) = ctx.saved_tensors
        slope = 3 * x**2
        factors = torch.ones_like(slope).reshape(-1)
        factors[1] = 1.5
        return grads[0] * slope * factors.view(slope.shape)


@pytest.mark.parametrize("size", [3, 3000])
def test_a_wrong_backward_is_located_to_its_row_and_entry(size):
    x = draw(size)
    table = chain_rule(lambda x: Cube.apply(x.sin()).exp().sum(), x)
    (link,) = table.wrong
    assert (link.operation, link.formula) == ("Cube", "vjp of Cube")
    assert link.wrong is not None and (link.wrong.row, link.wrong.column) == (1, 1)
    s = float(x[1].sin())
    assert link.wrong.truth == pytest.approx(3 * s**2, rel=1e-5)
    assert link.wrong.backward == pytest.approx(4.5 * s**2, rel=1e-9)
    assert "backward says" in str(table) and not table.right


class Turned(torch.autograd.Function):
    """A product with a matrix whose backward forgets to transpose it."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(w)
        return x @ w

    @staticmethod
    def backward(ctx, *grads):
        return grads[0] @ ctx.saved_tensors[0], None


def test_a_forgotten_transpose_is_found_inside_a_network():
    net, w = network(nn.Linear(4, 5), nn.Tanh()), draw(5, 5)
    table = chain_rule([net, lambda h: Turned.apply(h, w), torch.tanh, torch.sum], draw(2, 4))
    assert [k.operation for k in table.wrong] == ["Turned"]


class Lifted(torch.autograd.Function):
    """A small slope on a large value, one tenth too large."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2 + 1e6

    @staticmethod
    def backward(ctx, *grads):
        return 2.2 * ctx.saved_tensors[0] * grads[0]


def test_a_large_value_does_not_hide_a_wrong_slope():
    (link,) = chain_rule(lambda x: Lifted.apply(x), draw(4)).wrong
    assert link.wrong is not None and link.wrong.backward == pytest.approx(1.1 * link.wrong.truth, rel=1e-4)


def test_a_function_that_insists_on_its_precision_is_taken_in_it():
    class Single(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if x.dtype != torch.float32:
                raise RuntimeError("float32 only")
            return 2 * x

        @staticmethod
        def backward(ctx, *grads):
            return 2 * grads[0]

    table = chain_rule(lambda x: Single.apply(x).sum(), torch.ones(3))
    assert table.derivative.tolist() == [2, 2, 2] and "own precision" in str(table) and not table.wrong


STEPS = {
    "tanh": torch.tanh,
    "softmax": lambda z: z.softmax(-1),
    "square and add": lambda z: z * z + z,
    "roll": lambda z: z.roll(1) * 0.5,
    "outer": lambda z: torch.outer(z, z).sum(0).sin(),
    "norm": lambda z: z / (1 + z.norm()),
    "sort": lambda z: z.sort().values,
    "halves": lambda z: torch.cat([z[3:].exp(), z[:3]]),
    "product": lambda z: z @ draw(6, 6, seed=5) / 3,
}


@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), st.integers(0, 1000))
@settings(max_examples=25)
def test_any_chain_has_torchs_derivative_and_agreeing_products(names, seed):
    def f(x):
        for name in names:
            x = STEPS[name](x)
        return x

    x = draw(6, seed=seed)
    table = chain_rule(f, x)
    assert same(table, f, x) and table.autograd < 1e-9 and not table.wrong and not table.dead
    assert table.links[-1].forward == pytest.approx(table.links[0].backward) == float(table.derivative.norm())


def test_a_right_backward_by_hand_is_not_blamed():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, *grads):
            return 2 * ctx.saved_tensors[0] * grads[0]

    table = chain_rule(lambda x: Square.apply(x).sum(), draw(6))
    assert table.right and not table.wrong and "checked: 2 factors" in str(table)


def test_a_hook_that_changes_the_gradient_is_noticed():
    def f(x):
        y = x.sin()
        y.register_hook(lambda g: g * 2)
        return (y * y).sum()

    table = chain_rule(f, draw(3))
    assert table.altered is not None and table.altered.operation == "sin" and not table.right
    assert "altered: in the run itself autograd gives another dC/dz from dy/dx, sin" in str(table)


@pytest.mark.parametrize(
    "f, what",
    [
        (lambda x: (x * x.detach()).sum(), "detach lets no gradient pass"),
        (lambda x: (x.to(torch.int64) + x).sum(), "makes whole numbers"),
        (lambda x: (x.round() * x).sum(), "round is flat"),
        (lambda x: ((-x.abs() - 1).relu() + x).sum(), "at or below 0"),
        (lambda x: (x * x.data).sum(), "lets no gradient pass"),
    ],
)
def test_links_that_let_nothing_pass_are_named_with_the_line(f, what):
    table = chain_rule(f, draw(4))
    assert any(what in link.dead and "test_door.py:" in link.place for link in table.dead)


def test_no_grad_is_a_cut():
    def f(x):
        with torch.no_grad():
            y = x * 2
        return (x * y).sum()

    (link,) = chain_rule(f, draw(3)).dead
    assert "runs under no_grad" in link.dead and link.structure == "cut"


def test_an_output_that_does_not_follow_the_input_is_said():
    table = chain_rule(lambda x: torch.ones(2) * float(x.sum()), [1.0, 2.0])
    assert not table.links and float(table.derivative.abs().sum()) == 0
    assert "does not follow x through anything" in str(table) and "made the number" in str(table)


def test_infinity_is_traced_to_the_link_that_makes_it():
    (link,) = chain_rule(lambda x: (x.sqrt() * 2).sum(), [0.0, 1.0]).broken
    assert link.operation == "sqrt" and "has the derivative inf at entry 0" in link.broken
    (link,) = chain_rule(lambda x: (x.log() + x).sum(), [0.0, 1.0]).broken
    assert link.operation == "log" and "makes -inf at entry 0 from 0" in link.broken


def test_zero_times_infinity_is_traced_to_the_root_behind_the_mask():
    table = chain_rule(lambda x: torch.where(x > 0.5, x.sqrt(), x).sum(), [0.0, 1.0])
    assert [link.operation for link in table.broken] == ["sqrt"] and torch.isnan(table.derivative[0])


def test_writes_in_place_are_one_link():
    def f(x):
        y = torch.zeros(3, dtype=x.dtype)
        y[0] = x[0] ** 2
        y[1] = x[1] * x[0]
        return y.sum()

    x = draw(2)
    table = chain_rule(f, x)
    assert table.links[0].operation == "copy_ in place" and table.right
    assert torch.allclose(table.derivative, torch.stack([2 * x[0] + x[1], x[0]]))


def test_complex_numbers_on_the_way_are_one_link():
    table = chain_rule(lambda x: torch.fft.rfft(x).abs().sum(), draw(6))
    assert table.right and table.autograd < 1e-12


def test_the_branch_taken_is_stated():
    def f(x):
        return x.sum() if x.sum() > 0 else (x * 2).sum()

    assert "the branch taken here: a condition was True" in str(chain_rule(f, [1.0, 2.0]))


def test_draws_of_this_run_are_held():
    table = chain_rule(lambda x: (x * torch.rand_like(x)).sum(), draw(5))
    assert table.right and "its draw of this run is held" in str(table)


def test_sizes_that_do_not_fit_are_offered_as_operators():
    x = draw(20_000)
    table = chain_rule(torch.sin, x)
    with pytest.raises(ModelError, match="entries, too many to write out;") as whole:
        table.derivative
    with pytest.raises(ModelError, match="entries, too many to write out;") as one:
        table.links[0].jacobian
    assert "table.push(v) and table.pull(u)" in str(whole.value) and "link.push(v) and link.pull(u)" in str(one.value)
    assert torch.allclose(table.push(x), x.cos() * x) and torch.allclose(table.pull(x), x.cos() * x)
    assert torch.allclose(table.links[0].push(x), table.links[0].pull(x))
    assert table.links[0].forward == pytest.approx(float(x.cos().norm()), rel=0.3) and "~" in str(table)


def test_the_table_shows_in_notebooks():
    html = chain_rule(lambda x: Cube.apply(x).sum(), draw(3))._repr_html_()
    assert html.count("<tr") == 4 and "vjp of Cube" in html and "color:#d55e00" in html


@pytest.mark.parametrize(
    "f, x, said",
    [
        (torch.sin, torch.tensor([1, 2]), "holds int64"),
        ([], 1.0, "expected a function, a module, or a list"),
        ([torch.sin, 3], 1.0, "expected a function, a module, or a list"),
        ([nn.Linear(2, 4), nn.Linear(3, 1)], [1.0, 2.0], "Linear gives 4 numbers .* takes 3 numbers"),
        ([nn.Linear(2, 4), lambda y: y @ torch.ones(3)], [1.0, 2.0], "the links do not fit: Linear gives 4"),
        (lambda x: (x, x), 1.0, "expected one tensor: pick one"),
        (lambda x: x > 0, 1.0, "bool"),
        (lambda x: math.sin(x), [1.0, 2.0], "use torch.sin"),
        (lambda x: F.dropout(x), [1.0, 2.0], "so there is no one derivative"),
        (lambda x: x.mul_(2), [1.0, 2.0], "x = x.clone()"),
        (lambda x: torch.from_numpy(x.detach().numpy() * 2) * x, [1.0, 2.0], "cannot all be seen"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_a_sentence(f, x, said):
    with pytest.raises(ModelError, match=said):
        chain_rule(f, x)


def test_a_wrong_name_to_differentiate_by_is_answered_with_the_nearest():
    net = network(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="is nothing that the function reads. Did you mean 0.weight"):
        chain_rule(net, draw(2), wrt="0.weigth")
    with pytest.raises(ModelError, match="wrt='parameters' was given, and the function reads none"):
        chain_rule(torch.sin, 1.0, wrt="parameters")


def test_whole_numbers_are_nothing_to_compute_in():
    with pytest.raises(ModelError, match="; expected one of floating-point numbers, or None for the function's own"):
        chain_rule(torch.sin, 1.0, dtype=torch.int32)


def test_a_change_of_another_size_is_refused():
    table = chain_rule(torch.sin, draw(2))
    for product in (table.push, table.pull):
        with pytest.raises(ModelError, match=r"got \(5,\) to multiply with; expected the shape of"):
            product(torch.ones(5))


def test_an_overwritten_value_that_a_backward_needs_is_named():
    def overwritten(x):
        y = x.exp()
        y.data.add_(1)
        return y

    with pytest.raises(ModelError, match="add_, .* wrote over a value that a backward still needs"):
        chain_rule(overwritten, [1.0, 2.0])


def test_an_operation_without_a_derivative_is_named():
    with pytest.raises(ModelError, match="torch cannot differentiate a link of <lambda>"):
        chain_rule(lambda x: x.unique(), [1.0, 2.0])


def test_writing_into_the_input_behind_autograds_back_is_refused():
    def f(x):
        with torch.no_grad():
            x.mul_(2)
        return x.sum()

    with pytest.raises(ModelError, match="writes into its input.*; work on a copy"):
        chain_rule(f, [1.0, 2.0])


def test_tokens_are_differentiated_by_the_parameters_alone():
    table = nn.Embedding(4, 3)
    with pytest.raises(ModelError, match="holds int64"):
        chain_rule(table, torch.tensor([1, 2]))
    with pytest.raises(ModelError, match="no input of the function holds real numbers"):
        chain_rule(lambda a, b: table(a + b), (torch.tensor([1]), torch.tensor([2])))
    made = chain_rule([table, torch.sum], torch.tensor([1, 1]), wrt="weight")
    assert made.derivative.tolist() == [[0] * 3, [2] * 3, [0] * 3, [0] * 3]


def test_pictures_are_axes_and_mark_what_is_wrong():
    layers = [layer for _ in range(20) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    axes = chain_rule([network(*layers), lambda y: Cube.apply(y), torch.sum], draw(8)).plot()
    texts = [text.get_text() for text in axes.texts]
    assert "wrong" in texts and any(text.startswith("vanishes") for text in texts) and axes.get_yscale() == "log"
    net = network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    axes = chain_rule(net, draw(3)).plot(kind="factors")
    assert len(axes.images) == 4 and "dy/dz2" in [text.get_text() for text in axes.texts]


def test_slanted_names_hang_on_the_middle_of_their_links():
    axes = chain_rule(network(*(layer for _ in range(12) for layer in (nn.Linear(4, 4), nn.Tanh()))), draw(4)).plot()
    axes.figure.canvas.draw()
    labels = axes.get_xticklabels()
    assert len(labels) == 24
    for k, label in enumerate(labels):
        box = label.get_window_extent()
        hung = box.x1 - 0.5 * math.sin(math.radians(60)) * label.get_fontsize() * axes.figure.dpi / 72
        assert label.get_position()[0] == k + 0.5
        assert abs(hung - axes.transData.transform((k + 0.5, 1))[0]) < 3  # pixels


def test_pictures_that_cannot_be_drawn_are_refused():
    table = chain_rule(torch.sin, draw(300))
    with pytest.raises(ModelError, match="cannot be told apart side by side"):
        table.plot(kind="factors")
    with pytest.raises(ModelError, match="a chain is drawn as kind='norms' or kind='factors'"):
        table.plot(kind="matrices")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match="expected matplotlib Axes to draw on"):
        table.plot("chain.png")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match="has no links to draw"):
        chain_rule(lambda x: torch.ones(2) * float(x), 1.0).plot()
