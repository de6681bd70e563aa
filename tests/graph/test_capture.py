"""A captured run tells everything that its readers need, and leaves nothing changed."""

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import eitherway as ew
from eitherway.graph import Replay, capture, lower


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


square = Square.apply


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 3))


def notes(f, *args: Tensor) -> set[str]:
    return {note.kind for note in capture(f, *args).notes}


def test_operations_stand_at_training_level_with_module_paths():
    graph = capture(mlp().eval(), torch.randn(5, 4))
    assert [(op.name, op.module, op.module_class) for op in graph.ops] == [
        ("linear", "0", "Linear"),
        ("batch_norm", "1", "BatchNorm1d"),
        ("relu_", "2", "ReLU"),
        ("linear", "3", "Linear"),
    ]


def test_parameters_and_buffers_keep_their_names_and_are_the_living_ones():
    net = mlp().eval()
    graph = capture(net, torch.randn(5, 4))
    named = {value.name: value for value in graph.values if value.kind in ("parameter", "buffer")}
    assert named["0.weight"].tensor is net[0].weight
    assert named["1.running_mean"].kind == "buffer"


def test_a_shared_parameter_has_all_its_names():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    graph = capture(net, torch.randn(2, 3))
    (shared,) = [value for value in graph.values if value.name == "0.weight"]
    assert shared.aliases == ("2.weight",)


def test_modules_in_a_closure_are_named_after_the_variable():
    net = mlp().eval()
    graph = capture(lambda x: net(x).sum(), torch.randn(5, 4))
    assert "net.0.weight" in {value.name for value in graph.parameters()}


class Holder:
    def __init__(self):
        self.net = nn.BatchNorm1d(4).train()

    def __call__(self, x):
        return self.net(x)

    def method(self, x):
        return self.net(x)


@pytest.mark.parametrize("way", ["object", "method", "list", "dict", "partial", "nested"])
def test_modules_are_found_in_objects_containers_and_other_functions(way):
    holder = Holder()
    held, named = [holder.net], {"net": holder.net}
    f = {
        "object": holder,
        "method": holder.method,
        "list": lambda x: held[0](x),
        "dict": lambda x: named["net"](x),
        "partial": functools.partial(lambda net, x: net(x), holder.net),
        "nested": lambda x: holder(x) * 2,
    }[way]
    before = holder.net.running_mean.clone()
    graph = capture(f, torch.randn(6, 4))
    assert torch.equal(holder.net.running_mean, before)
    assert any(value.name.endswith("weight") for value in graph.parameters())


def test_a_line_of_the_users_code_is_named():
    def f(x):
        return x.sin()

    line = f.__code__.co_firstlineno + 1
    assert capture(f, torch.ones(2)).ops[0].where == f"test_capture.py:{line}"


def test_a_replay_at_other_values_equals_the_function():
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    graph = capture(net.eval(), torch.randn(2, 3, 8))
    x = torch.randn(2, 3, 8)
    assert torch.equal(Replay(graph)(x)[graph.outputs[0]], net(x))


def test_a_replay_reads_todays_parameters():
    net = nn.Linear(3, 2)
    graph = capture(net, torch.ones(3))
    with torch.no_grad():
        net.weight.mul_(2)
    assert torch.equal(Replay(graph)(torch.ones(3))[graph.outputs[0]], net(torch.ones(3)))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True)])
def test_repeating_and_lowering_a_norm_in_training_leaves_its_statistics(norm):
    norm = norm.train()
    x = torch.randn(6, 4, 5)
    graph = capture(norm, x)
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    again, low = Replay(graph)(x)[graph.outputs[0]], lower(graph)
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())
    assert torch.allclose(again, norm(x)) and torch.allclose(low.values[low.outputs[0]].tensor, again)


def writes_through_views(x):
    y = torch.zeros(3, 3)
    y[:, 0] = x[:, 1]
    y[1] += x[0]
    y.transpose_(0, 1)
    return y * x


def test_writes_through_views_replay_right_and_are_noted():
    graph = capture(writes_through_views, torch.randn(3, 3))
    x = torch.randn(3, 3)
    assert not graph.pure and "inplace" in {note.kind for note in graph.notes}
    assert torch.equal(Replay(graph)(x)[graph.outputs[0]], writes_through_views(x))


def test_writes_that_nobody_else_sees_become_functional():
    def f(x):
        y = x.exp()
        y.mul_(2).add_(1)
        return y.relu_()

    graph = capture(f, torch.randn(4))
    x = torch.randn(4)
    kept = Replay(graph)(x, keep=True)
    assert graph.pure
    assert torch.equal(kept[graph.ops[0].outputs[0]], x.exp())


def test_a_write_that_a_view_sees_does_not_become_functional():
    def f(x):
        y = x.exp()
        view = y[0]
        y.mul_(2)
        return view + y

    graph = capture(f, torch.randn(2, 2))
    x = torch.randn(2, 2)
    assert not graph.pure
    assert torch.equal(Replay(graph)(x)[graph.outputs[0]], f(x))


def test_a_handwritten_function_is_one_operation_though_its_apply_was_bound_before():
    graph = capture(lambda x: square(x).sum(), torch.ones(3))
    assert [(op.name, op.custom) for op in graph.ops] == [("Square", True), ("sum", False)]
    assert torch.autograd.Function.apply.__func__.__code__.co_name == "apply"
    x = torch.ones(3, requires_grad=True)
    square(x).sum().backward()
    assert torch.equal(x.grad, 2 * torch.ones(3))


def test_inputs_parameters_buffers_and_generators_are_left_as_they_were():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    x, before = torch.randn(6, 4), torch.get_rng_state()
    kept = x.clone()
    graph = capture(net, x)
    assert torch.equal(x, kept) and torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert {"input written", "random"} <= {note.kind for note in graph.notes}


def test_a_parameter_that_the_run_writes_into_is_put_back():
    weight = torch.ones(3)

    def f(x):
        weight.mul_(2)
        return x * weight

    graph = capture(f, torch.ones(3))
    assert torch.equal(weight, torch.ones(3))
    assert "state written" in {note.kind for note in graph.notes}
    assert [value.name for value in graph.values if value.kind == "constant"] == ["weight"]


@pytest.mark.parametrize(
    "f, kind",
    [
        (lambda x: x.detach() * x, "cut"),
        (lambda x: x.data * x, "cut"),
        (lambda x: x * float(x.sum()), "escape"),
        (lambda x: x if x.sum() > 0 else -x, "escape"),
        (lambda x: x + torch.from_numpy(x.detach().numpy()), "opaque"),
        (lambda x: torch.tensor(x.tolist()) + x, "opaque"),
        (lambda x: torch.vmap(torch.sin)(x) + x, "below"),
        (lambda x: x + torch.randn(3), "random"),
        (lambda x: nn.functional.dropout(x, 0.5), "random"),
        (lambda x: x.mul_(2), "input written"),
        (lambda x: x[:1].zero_() + x, "input written"),
    ],
    ids=["detach", "data", "float", "if", "numpy", "list", "vmap", "noise", "dropout", "write", "view"],
)
def test_what_a_repetition_could_get_wrong_is_noted(f, kind):
    assert kind in notes(f, torch.ones(3))


def test_nothing_is_noted_of_a_plain_run():
    assert notes(lambda x: nn.functional.dropout((x**2).sum(), 0.5, training=False), torch.ones(3)) == set()


def test_what_no_grad_cuts_is_known_by_value():
    def f(x):
        with torch.no_grad():
            scale = x.norm()
        return x / scale

    graph = capture(f, torch.ones(3))
    norm, ratio = graph.ops
    assert norm.cut and not graph.values[norm.outputs[0]].differentiable
    assert graph.values[ratio.outputs[0]].differentiable


def test_a_branch_that_would_go_the_other_way_is_refused():
    graph = capture(lambda x: x if x.sum() > 0 else -x, torch.ones(3))
    replay = Replay(graph)
    assert torch.equal(replay(2 * torch.ones(3))[graph.outputs[0]], 2 * torch.ones(3))
    with pytest.raises(ew.ModelError, match="the run depends on a value: "):
        replay(-torch.ones(3))


def test_a_shape_that_depends_on_values_is_refused_when_it_changes():
    graph = capture(lambda x: x[x > 0] * 2, torch.tensor([1.0, -1.0, 2.0]))
    with pytest.raises(ew.ModelError, match="capture it again at these inputs"):
        Replay(graph)(torch.ones(3))


def test_an_opaque_run_cannot_be_repeated():
    graph = capture(lambda x: x + torch.from_numpy(x.detach().numpy()), torch.ones(3))
    with pytest.raises(ew.ModelError, match="the run cannot be repeated from its graph: Tensor.numpy"):
        Replay(graph)


def test_a_replay_needs_as_many_tensors_as_the_run_had():
    with pytest.raises(ew.ModelError, match="tensors for a run that was captured with 1"):
        Replay(capture(torch.sin, torch.ones(2)))(torch.ones(2), torch.ones(2))


def test_a_function_that_returns_no_tensor_has_nothing_to_follow():
    with pytest.raises(ew.ModelError, match="not a tensor, so there is nothing to follow"):
        capture(lambda x: x.sum().item(), torch.ones(2))


def test_several_inputs_keywords_and_nested_answers_are_followed():
    def f(pair, *, scale):
        return {"sum": pair[0] + pair[1] * scale, "both": [pair[0], 3]}

    graph = capture(f, (torch.ones(2), torch.zeros(2)), kwargs={"scale": torch.tensor(2.0)})
    assert [graph.values[i].name for i in graph.inputs] == ["x[0]", "x[1]", "scale"]
    assert graph.answer["both"][1] == 3 and len(graph.outputs) == 2


def test_an_error_of_the_function_comes_through_and_everything_is_put_back():
    def f(x):
        raise KeyError("mine")

    body = torch.autograd.Function.apply.__func__.__code__
    with pytest.raises(KeyError, match="mine"):
        capture(f, torch.ones(2))
    assert torch.autograd.Function.apply.__func__.__code__ is body
    assert not nn.modules.module._global_forward_pre_hooks


def test_kept_values_still_belong_to_autograd():
    net = mlp().eval()
    graph = capture(net, torch.randn(5, 4), keep=True)
    out = graph.values[graph.outputs[0]].tensor
    assert out is not None
    (grad,) = torch.autograd.grad(out.sum(), net[0].weight)
    assert grad.shape == (8, 4)


def test_checkpoints_are_looked_through():
    graph = capture(lambda x: checkpoint(lambda z: z.sin().cos(), x, use_reentrant=False), torch.ones(2))
    assert [op.name for op in graph.ops] == ["sin", "cos"]


def test_a_lowered_graph_knows_where_each_part_came_from_and_is_kept():
    graph = capture(nn.LSTM(4, 5), torch.randn(3, 2, 4))
    low = lower(graph)
    assert low.level == "aten" and lower(graph) is low
    lstm = next(op.index for op in graph.ops if op.name == "lstm")
    assert {"addmm", "sigmoid_", "tanh"} & {op.name for op in low.ops if op.parent == lstm}
    assert {value.name for value in low.parameters()} >= {"weight_ih_l0", "weight_hh_l0"}


def test_a_lowered_graph_computes_the_same():
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 3, 8)
    low = lower(capture(net, x))
    out = low.values[low.outputs[0]].tensor
    assert out is not None and torch.allclose(out, net(x), atol=1e-6)


def test_transforms_inside_are_followed_below_with_the_names_kept():
    net = nn.Linear(3, 1)

    def slope(x):
        return torch.vmap(torch.func.grad(lambda row: net(row).sin().sum()))(x)

    x = torch.randn(4, 3)
    graph = capture(slope, x)
    assert not graph.opaque and "net.weight" in {value.name for value in graph.values}
    other = torch.randn(4, 3)
    assert torch.allclose(Replay(graph)(other)[graph.outputs[0]], slope(other))


def test_a_graph_reads_as_text():
    text = str(capture(nn.Sequential(nn.Linear(3, 2)), torch.ones(3)))
    assert "= linear(%0 x, %1 0.weight, %2 0.bias)  # 0 (Linear), linear" in text
