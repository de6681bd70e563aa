"""The first-call check: its probe is torch's, its tolerance that of rounding, its culprit the first."""

import warnings

import pytest
import torch
from tests.corpora import generator, normal, seeded
from tests.corpora.fault import custom
from torch import Tensor, nn
from torch.func import jacrev

from eitherway.calculus.jacobian import JacobianWarning, jacobian, prepare_jacobian
from eitherway.calculus.jacobian.check import agree, differences, first_wrong, function_of, probe, values_disagree
from eitherway.calculus.jacobian.choose import Sizes
from eitherway.calculus.jacobian.first_call import suspects, what_is_wrong
from eitherway.graph import Graph, capture

NET = seeded(lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)), generator("check")).double()
X = normal(generator("check"), 5)
SIZES = Sizes(4, 5, None)


def test_a_probe_is_the_products_of_the_jacobian():
    J, seen = jacrev(NET)(X), probe(NET, X)
    assert seen.along is not None
    assert torch.allclose(seen.along, J @ seen.u) and torch.allclose(seen.across, seen.w @ J)
    assert torch.allclose(seen.y, NET(X)) and seen.y.grad_fn is None
    assert abs(seen.slope - float((seen.w @ J @ seen.u).detach())) <= seen.doubt + 1e-6


def test_a_probe_is_the_same_every_time_and_leaves_chance_alone():
    before = torch.get_rng_state()
    one, two = probe(NET, X), probe(NET, X)
    assert torch.equal(one.u, two.u) and torch.equal(one.w, two.w) and one.slope == two.slope
    assert not torch.equal(probe(NET, X, seed=1).u, one.u)
    assert torch.equal(before, torch.get_rng_state())


def test_a_right_jacobian_passes_and_one_wrong_entry_does_not():
    J, seen = jacrev(NET)(X), probe(NET, X)
    assert what_is_wrong(J, seen, SIZES) == ""
    for i in range(4):
        for j in range(5):
            wrong = J.clone()
            wrong[i, j] += 1e-6
            assert "neither torch's vjp nor its jvp" in what_is_wrong(wrong, seen, SIZES)
            assert what_is_wrong(wrong.to_sparse(), seen, SIZES)


def test_a_batch_is_checked_sample_by_sample():
    x = normal(generator("batch"), 3, 5)
    seen = probe(NET, x)
    J = torch.stack([jacrev(NET)(row) for row in x])
    sizes = Sizes(4, 5, 3)
    assert what_is_wrong(J, seen, sizes) == ""
    J[1, 2, 3] *= 1.001
    assert what_is_wrong(J, seen, sizes)


@pytest.mark.parametrize("size", (4, 64, 1024))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_rounding_alone_is_no_disagreement(size, dtype):
    g = generator("rounding")
    for _ in range(20):
        A, v = normal(g, size, size).to(dtype), normal(g, size).to(dtype)
        truth = (A.double() @ v.double()).to(dtype)
        assert agree(A @ v, truth, size)
        assert not agree(A @ v * (1 + 1e4 * torch.finfo(dtype).eps * size**0.5), truth, size)


def test_nan_agrees_with_nothing():
    nan = torch.tensor([float("nan")])
    assert not agree(nan, torch.ones(1), 4) and not agree(torch.ones(1), nan, 4)
    assert values_disagree(float("nan"), probe(NET, X))


def test_differences_doubt_themselves_at_a_kink():
    x, u, w = torch.zeros(1).double(), torch.ones(1).double(), torch.ones(1).double()
    eps = torch.finfo(x.dtype).eps
    slope, doubt = differences(torch.sin, x, u, w, torch.sin(x), 1.0, eps)
    assert abs(slope - 1) < 1e-9 and doubt < 1e-4
    for at in (0.0, 1e-6, -2e-6):

        def f(x: Tensor, at: float = at) -> Tensor:
            return (x - at).relu()

        slope, doubt = differences(f, x, u, w, f(x), 0.0, eps)
        assert abs(slope - float(at < 0)) <= 3 * doubt


@pytest.mark.parametrize("f", (torch.relu, torch.abs, torch.round, torch.sign, torch.floor), ids=lambda f: f.__name__)
def test_kinks_and_steps_near_the_point_are_no_alarm(f):
    g = generator("kinks")
    for _ in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            jacobian(lambda x: f(5 * x), normal(g, 40), mode="reverse")


def test_a_kink_at_the_point_itself_is_no_alarm():
    for f in (torch.relu, torch.abs, lambda x: x.clamp(0, 1), lambda x: x.max(), lambda x: x.norm()):
        assert torch.isfinite(jacobian(f, torch.zeros(4), mode="reverse")).all()


def test_steep_large_and_tiny_functions_are_no_alarm():
    for f, x in (
        (lambda x: (1e3 * x).sin(), normal(generator("steep"), 6)),
        (lambda x: x.exp(), 20 * normal(generator("large"), 6)),
        (lambda x: 1e-12 * x**3, normal(generator("tiny"), 6)),
        (lambda x: 1e12 + x**2, normal(generator("offset"), 6)),
        (lambda x: x**2, 1e6 * normal(generator("far"), 6)),
        (lambda x: x.log(), 1e-6 * (1 + normal(generator("near zero"), 6) ** 2)),
    ):
        for mode in ("chain", "reverse"):
            assert torch.allclose(jacobian(f, x, mode=mode), torch.autograd.functional.jacobian(f, x), rtol=1e-9)


def test_single_precision_networks_are_no_alarm():
    for seed in range(8):
        g = generator("single", seed)
        net = seeded(
            lambda: nn.Sequential(nn.Linear(50, 80), nn.ReLU(), nn.Linear(80, 80), nn.GELU(), nn.Linear(80, 30)), g
        )
        x = normal(g, 50).float()
        for mode in ("auto", "chain", "reverse", "forward"):
            J = jacobian(net, x, mode=mode)
            assert torch.allclose(J, jacrev(net)(x), atol=1e-5)


# who it was ----------------------------------------------------------------------------------------------------------


def wrong_sine() -> object:
    return custom("WrongSine", torch.sin, lambda g, x, y: g * x.cos() * 1.1)


def test_of_torchs_two_modes_the_one_that_values_confirm_is_believed():
    index = torch.tensor([0, 0, 1])

    def f(x: Tensor) -> Tensor:  # torch 2.13 has a wrong forward rule for products
        return x.scatter_reduce(0, index, x[:3], "prod")

    expected = torch.autograd.functional.jacobian(f, X)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = jacobian(f, X, mode="forward")
    assert torch.allclose(found, expected)
    assert all("scatter_reduce" in str(one.message) for one in caught)


def test_the_first_wrong_operation_is_found_in_the_middle():
    apply = wrong_sine()

    def f(x: Tensor) -> Tensor:
        return apply((x * 2).exp()).tanh() + x.cos()  # type: ignore[operator]

    with pytest.warns(JacobianWarning, match=r"first at WrongSine, test_check\.py:\d+; ew\.gradient_check shows"):
        jacobian(f, X)


def test_halves_find_the_first_of_several():
    graph = capture(lambda x: x.exp().sin().cos().tanh().sigmoid(), X)
    names = [op.name for op in graph.ops]
    for i, name in enumerate(names):
        broken = set(names[i:])

        def wrong(part: Graph, broken: set[str] = broken) -> bool:
            producer = part.values[part.outputs[0]].producer
            return producer is not None and graph.ops[producer].name in broken

        found = first_wrong(graph, wrong)
        assert found is not None and found.name == name
    assert first_wrong(graph, lambda part: False) is None


def test_where_ways_meet_the_one_that_is_wrong_is_found():
    graph = capture(lambda x: torch.stack([x.sin().exp().tanh(), x.cos(), x * 2, x.sigmoid()]).sum(0), X)
    names = [op.name for op in graph.ops]
    for name in ("sin", "exp", "tanh", "cos", "mul", "sigmoid", "stack", "sum"):
        index = names.index(name)
        found = first_wrong(graph, lambda part, index=index: index in part.needed)
        assert found is not None and found.name == name


def test_a_graph_runs_as_a_function():
    graph = capture(NET, X)
    assert torch.allclose(function_of(graph)(2 * X), NET(2 * X))


def test_without_a_graph_the_doubt_has_no_place():
    apply = wrong_sine()
    seen = probe(apply, X)  # type: ignore[arg-type]
    assert suspects(apply, None, X, seen) == "; ew.gradient_check shows entry by entry where"  # type: ignore[arg-type]
    assert suspects(torch.sin, None, X, probe(torch.sin, X)) is None


def test_a_warning_points_at_the_line_that_asked():
    apply = wrong_sine()
    for ask in (
        lambda: jacobian(apply, X),
        lambda: jacobian(apply, X, form="sparse"),
        lambda: prepare_jacobian(apply, X),  # type: ignore[arg-type]
        lambda: prepare_jacobian(lambda x: x[:0] if len(x) > 5 else apply(x), torch.ones(6))(X),  # type: ignore[operator]
    ):
        with pytest.warns(JacobianWarning) as caught:
            ask()
        assert {one.filename for one in caught} == {__file__}


def test_a_plan_is_checked_again_where_it_is_planned_again():
    apply = wrong_sine()
    plan = prepare_jacobian(lambda x: x * 2 if x.sum() > 0 else apply(x), X.abs())  # type: ignore[operator]
    with pytest.warns(JacobianWarning, match="WrongSine"):
        plan(-X.abs())


def test_what_cannot_be_differentiated_names_what_wrote():
    from eitherway.base.errors import ModelError

    def overwritten(x: Tensor) -> Tensor:
        y = x.exp()
        z = y * 1
        y.mul_(2)
        return y + z

    with pytest.raises(
        ModelError, match=r"cannot be differentiated at this point \(.*mul_ writes.*modified by an inplace"
    ):
        jacobian(overwritten, X, mode="reverse")
