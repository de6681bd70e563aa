"""A planner that is broken on purpose is caught on the first call: torch's reverse way answers, the operation is named.

Broken are local Jacobians of single operations, the order and the sums of products, patterns, colours, places, and the
graph that a plan was made for. Each mutation changes one thing in an engine and leaves everything else as it is.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.corpora import generator, normal, seeded, settle
from torch import Tensor, nn

from eitherway.calculus.chain import chain as chains
from eitherway.calculus.chain import links, prepare
from eitherway.calculus.chain.algebra import Algebra
from eitherway.calculus.chain.factors import Kind
from eitherway.calculus.jacobian import JacobianWarning, jacobian, prepare_jacobian
from eitherway.calculus.jacobian import plan as planning
from eitherway.calculus.sparse import compressed as compressing
from eitherway.calculus.sparse import plan as colouring
from eitherway.calculus.sparse.rules import table
from eitherway.graph import capture

# local Jacobians of a chain -------------------------------------------------------------------------------------------


def module(*layers: Callable[[], nn.Module]) -> Callable[[torch.Generator], nn.Module]:
    return lambda g: settle(seeded(lambda: nn.Sequential(*(layer() for layer in layers)), g), g).double()


def attention(x: Tensor) -> Tensor:
    return (x @ x.mT / 2).softmax(-1) @ x.sin()


def moves(x: Tensor) -> Tensor:
    return torch.cat([x.roll(1, -1) * 2, F.pad(x[..., 1:], (0, 2)).exp(), x.flip(-1).cumsum(-1)], -1).sum(-2)


NETWORKS: dict[str, tuple[Any, tuple[int, ...], tuple[str, ...]]] = {
    "dense": (
        module(
            *(lambda: nn.Linear(6, 6), nn.Tanh, lambda: nn.LayerNorm(6), lambda: nn.Linear(6, 6)),
            *(nn.GELU, lambda: nn.Linear(6, 4), lambda: nn.Softmax(-1)),
        ),
        (6,),
        ("linear", "tanh", "layer_norm", "gelu", "softmax"),
    ),
    "images": (
        module(
            *(lambda: nn.Conv2d(2, 3, 3, padding=1), lambda: nn.BatchNorm2d(3), nn.ReLU, lambda: nn.AvgPool2d(2)),
            *(lambda: nn.GroupNorm(3, 3), nn.SiLU, lambda: nn.MaxPool2d(2), nn.Flatten, lambda: nn.Linear(3, 2)),
        ),
        (1, 2, 5, 5),
        ("conv2d", "batch_norm", "relu", "avg_pool2d", "group_norm", "silu", "max_pool2d", "linear"),
    ),
    "attention": (lambda g: attention, (4, 3), ("matmul", "softmax", "sin", "div")),
    "moves": (lambda g: moves, (3, 5), ("roll", "exp", "cumsum", "cat", "mul", "sum")),
}


def each(content: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The first tensor, or number, of a factor's content changed."""
    if isinstance(content, tuple):
        return (each(content[0], change), *content[1:])
    if isinstance(content, Tensor):
        return change(content) if content.is_floating_point() else content
    return float(change(torch.tensor([float(content)], dtype=torch.float64))[0])


def first_entry(t: Tensor) -> Tensor:
    t = t.clone()
    t.view(-1)[0] += 1e-4 * (1 + t.view(-1)[0].abs())
    return t


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "a hundredth too large": lambda t: t * 1.01,
    "a millionth too large": lambda t: t * (1 + 1e-6),
    "the other sign": lambda t: -t,
    "nothing": lambda t: t * 0,
    "one entry off": first_entry,
    "NaN": lambda t: t * float("nan"),
}


def breaking(name: str, change: Callable[[Tensor], Tensor], touched: list[str]) -> Callable[..., Any]:
    """`links.local_jacobians` with the first factor of an operation of that name changed."""
    honest = links.local_jacobians

    def broken(*given: Any, **more: Any) -> Any:
        edges = honest(*given, **more)
        for edge in edges:
            factor = edge.factor
            if f"{name}," not in f"{factor.label},".replace(" and ", ", "):
                continue
            touched.append(factor.label)
            if factor.kind in (Kind.DIAGONAL, Kind.MATRIX):
                factor.make = lambda r, make=factor.make: each(make(r), change)
                return edges
            factor.dense = None
            for way in ("pull", "push", "pull_whole", "push_whole"):
                honest_way = getattr(factor, way)
                if honest_way is not None:
                    setattr(factor, way, lambda c, stack, w=honest_way: change(w(c, stack).contiguous()))
            return edges
        return edges

    return broken


def truth(f: Any, x: Tensor) -> Tensor:
    answer: Any = torch.autograd.functional.jacobian(f, x)
    return answer


def caught(f: Any, x: Tensor, **how: Any) -> str:
    """What the first call says of a broken planner; its answer must be right all the same."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", JacobianWarning)
        J = jacobian(f, x, **how)
    if how.get("form") == "sparse":
        J = J.to_dense()
    if how.get("form") == "operator":
        J = torch.stack([J @ column for column in torch.eye(x.numel(), dtype=x.dtype)], 1)
    expected = truth(f, x)
    assert torch.allclose(J.reshape(expected.shape), expected, rtol=1e-9, atol=1e-11), "a wrong answer was given"
    return " | ".join(str(one.message) for one in said)


RULES = [(network, name, change) for network, made in NETWORKS.items() for name in made[2] for change in CHANGES]
FAST = RULES[::5]


def rule_is_caught(monkeypatch: pytest.MonkeyPatch, network: str, name: str, change: str, form: str) -> None:
    make, shape, _ = NETWORKS[network]
    g = generator(network)
    f, x = make(g), normal(g, *shape)
    touched: list[str] = []
    monkeypatch.setattr(links, "local_jacobians", breaking(name, CHANGES[change], touched))
    said = caught(f, x, mode="chain", form=form)
    if not touched:
        pytest.skip(f"{name} has no factor of its own in this plan")
    if not said and torch.allclose(prepare(capture(f, x), batched=False)(x).reshape(-1), truth(f, x).reshape(-1)):
        pytest.skip("the mutation changes nothing: what it touches is passed on nowhere")
    assert "the chain" in said, "the mutation was not seen"
    assert name in said, said


@pytest.mark.parametrize(("network", "name", "change"), FAST)
def test_a_wrong_local_jacobian_is_caught_and_named(monkeypatch, network, name, change):
    rule_is_caught(monkeypatch, network, name, change, "dense")


@pytest.mark.slow
@pytest.mark.parametrize("form", ("dense", "operator"))
@pytest.mark.parametrize(("network", "name", "change"), RULES)
def test_every_wrong_local_jacobian_is_caught_and_named(monkeypatch, network, name, change, form):
    rule_is_caught(monkeypatch, network, name, change, form)


def test_the_planner_is_sound_before_it_is_broken():
    for network, (make, shape, _) in NETWORKS.items():
        g = generator(network)
        assert caught(make(g), normal(g, *shape), mode="chain") == ""


# the order and the sums of products -----------------------------------------------------------------------------------


def square(g: torch.Generator) -> nn.Module:
    """All links 6 x 6, so that nothing but the numbers can tell a wrong order."""
    return module(lambda: nn.Linear(6, 6), nn.Tanh, lambda: nn.Linear(6, 6), nn.Sigmoid, lambda: nn.Linear(6, 6))(g)


ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "back to front": lambda trees: trees[::-1],
    "two exchanged": lambda trees: [*trees[2:3], *trees[1:2], *trees[:1], *trees[3:]],
    "the last left out": lambda trees: trees[:-1] or trees,
    "the first left out": lambda trees: trees[1:] or trees,
    "one twice": lambda trees: trees[:1] + trees,
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_wrong_order_of_products_is_caught(monkeypatch, order):
    honest = chains.bracket
    monkeypatch.setattr(chains, "bracket", lambda trees, *more: honest(ORDERS[order](list(trees)), *more))
    g = generator("square")
    assert "the chain way" in caught(square(g), normal(g, 6), mode="chain")


def test_a_lost_branch_is_caught(monkeypatch):
    monkeypatch.setattr(Algebra, "add", lambda self, a, c: a)
    x = normal(generator("branch"), 6)
    assert "the chain way" in caught(lambda x: (x.sin() + x.tanh() * x.exp()).cumsum(0) * 2, x, mode="chain")


def test_edges_that_are_forgotten_are_caught(monkeypatch):
    honest = links.local_jacobians

    def forgetful(*given: Any, **more: Any) -> Any:
        edges = honest(*given, **more)
        return edges[:1] + edges[2:] if len(edges) > 3 else edges

    monkeypatch.setattr(links, "local_jacobians", forgetful)
    x = normal(generator("edges"), 6)
    assert "the chain way" in caught(lambda x: (x.sin() + x.tanh()) * x.exp(), x, mode="chain")


# patterns, colours and places -----------------------------------------------------------------------------------------


def band(x: Tensor) -> Tensor:
    return (x[2:] * x[1:-1].exp()).sin() - x[:-2] ** 2


def arrow(x: Tensor) -> Tensor:
    return torch.cat([x[:1] * x[1:], (x**2).sum()[None]])


def without(rows: Any, entries: Any) -> Any:
    """A pattern without some of its entries."""
    coo = rows.tocoo()
    keep = np.ones(coo.nnz, bool)
    keep[entries] = False
    return type(coo)((coo.data[keep], (coo.row[keep], coo.col[keep])), shape=coo.shape).tocsr()


def shifted(rows: Any) -> Any:
    coo = rows.tocoo()
    return type(coo)((coo.data, (coo.row, (coo.col + 1) % coo.shape[1])), shape=coo.shape).tocsr()


PATTERNS: dict[str, Callable[[Any], Any]] = {
    "the first entry dropped": lambda rows: without(rows, [0]),
    "the last entry dropped": lambda rows: without(rows, [-1]),
    "a row dropped": lambda rows: without(rows, slice(rows.indptr[3], rows.indptr[4])),
    "a column dropped": lambda rows: without(rows, np.flatnonzero(rows.tocoo().col == 5)),
    "every tenth entry dropped": lambda rows: without(rows, slice(None, None, 10)),
    "all columns shifted": shifted,
    "all rows upside down": lambda rows: rows[::-1].tocsr(),
    "nothing left": lambda rows: without(rows, slice(None)),
}
FUNCTIONS = {"band": (band, 40), "arrow": (arrow, 30)}


@pytest.mark.parametrize("form", ("dense", "sparse"))
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_wrong_pattern_is_caught(monkeypatch, pattern, function, form):
    honest = compressing.follow

    def broken(*given: Any, **more: Any) -> Any:
        found = honest(*given, **more)
        rows = PATTERNS[pattern](found.rows) if found.rows.shape[0] > 8 else found.rows
        rows.sort_indices()
        return replace(found, kinds=rows, which=np.arange(rows.shape[0]))

    monkeypatch.setattr(compressing, "follow", broken)
    f, q = FUNCTIONS[function]
    assert "the sparse way" in caught(f, normal(generator(function), q), mode="sparse", form=form)


def recoloured(change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Any]:
    honest = colouring.colour

    def broken(*given: Any, **more: Any) -> Any:
        found = honest(*given, **more)
        if found is None or found.count < 2:
            return found
        colours = change(found.colours.copy())
        return replace(found, colours=colours, count=int(colours.max()) + 1)

    return broken


def one_moved(colours: np.ndarray) -> np.ndarray:
    middle = len(colours) // 2
    colours[middle] = (colours[middle] + 1) % (colours.max() + 1)
    return colours


COLOURS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "all of one colour": lambda colours: colours * 0,
    "one colour too few": lambda colours: np.minimum(colours, colours.max() - 1),
    "one column of its neighbour's colour": one_moved,
    "shifted by one": lambda colours: np.roll(colours, 1)[np.arange(len(colours)) // 2],
    "overflown": lambda colours: colours % 2,
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("colours", COLOURS)
def test_wrong_colours_are_caught(monkeypatch, colours, function):
    monkeypatch.setattr(colouring, "colour", recoloured(COLOURS[colours]))
    f, q = FUNCTIONS[function]
    if function == "arrow":  # its dense lines are put apart, and what is left has one colour

        def f(x: Tensor) -> Tensor:
            return torch.cat([arrow(x), x[3:] * x[:-3]])

    assert "the sparse way" in caught(f, normal(generator(function), q), mode="sparse")


@pytest.mark.parametrize("change", ("rolled", "back to front", "all the first"))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_entries_taken_from_wrong_places_are_caught(monkeypatch, change, function):
    honest: Any = colouring.Part.__dict__["take"]
    changed = {
        "rolled": lambda take: np.roll(take, 1),
        "back to front": lambda take: take[::-1].copy(),
        "all the first": lambda take: take * 0,
    }
    monkeypatch.setattr(colouring.Part, "take", property(lambda part: changed[change](honest.func(part))))
    f, q = FUNCTIONS[function]
    assert "the sparse way" in caught(f, normal(generator(function), q), mode="sparse")


@pytest.mark.parametrize("name", ("mul", "exp", "sin", "sub"))
def test_an_operation_that_seems_to_depend_on_nothing_is_caught_and_named(monkeypatch, name):
    monkeypatch.setitem(table.RULES, name, lambda site: [None] * len(site.outputs))
    said = caught(band, normal(generator("band"), 40), mode="sparse")
    assert "the sparse way" in said and name in said, said


# plans for something else ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ("chain", "sparse"))
@pytest.mark.parametrize("batched", (False, True))
def test_a_plan_made_from_another_run_is_caught(monkeypatch, mode, batched):
    if batched and mode == "sparse":
        return
    g = generator("another")
    net, other, x = square(g), square(generator("yet another")), normal(g, 4, 6)
    graph = capture(other, x)
    graph.values[graph.outputs[0]].tensor = net(x).detach()  # the value is right: only the derivative can tell
    if mode == "sparse":
        x = normal(g, 40)
        net, graph = band, capture(lambda x: x[2:] * x[1:-1], x)
        graph.values[graph.outputs[0]].tensor = band(x)
    monkeypatch.setattr(planning, "followed", lambda f, again, x, remarks: graph)
    with pytest.warns(JacobianWarning, match=f"the {mode} way"):
        J = prepare_jacobian(net, x, mode=mode, batched=batched)(x)
    expected = truth(net, x)
    if batched:
        expected = torch.stack([expected[i, :, i] for i in range(len(x))])
    assert torch.allclose(J, expected, rtol=1e-9, atol=1e-11)


def test_another_value_at_the_same_point_is_refused(monkeypatch):
    from eitherway.base.errors import ModelError

    g = generator("another")
    net, other, x = square(g), square(generator("yet another")), normal(g, 6)
    graph = capture(other, x)
    monkeypatch.setattr(planning, "followed", lambda f, again, x, remarks: graph)
    with pytest.raises(ModelError, match="at one point returned two values"):
        prepare_jacobian(net, x)
