"""Orders of multiplication against all there are, and each kind of local Jacobian against its own matrix."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpora import normal

from eitherway.calculus.chain import prepare
from eitherway.calculus.chain.algebra import Algebra, Tree, leaf
from eitherway.calculus.chain.blocks import Bench, eliminate, inside
from eitherway.calculus.chain.bracketing import LEANING, LONGEST, bracket, constant, one_way
from eitherway.calculus.chain.factors import diagonal, gather, identity, low_rank, matrix, operator, picked, scaled
from eitherway.calculus.chain.layout import Setting
from eitherway.calculus.chain.links import local_jacobians
from eitherway.calculus.chain.stacks import applied
from eitherway.graph import capture


def nothing(_):
    raise AssertionError("a plan is made without content")


def factor(kind: str, m: int, n: int, samples: int):
    if kind == "linear":
        return matrix("W", m, n, 1, nothing, "linear")
    if kind == "operator":
        return operator("K", m, n, "operator", nothing, nothing, nothing, varying=False, products=3.0 * (m + n))
    if kind == "own operator":
        made = operator("V", m, n, "operator", nothing, nothing, nothing, varying=samples > 1, products=2.0 * m)
        made.push_slower = 3.0
        return made
    if kind == "diagonal":
        return diagonal("d", n, nothing, varying=samples > 1)
    if kind == "shared diagonal":
        return diagonal("s", n, nothing, varying=False, structure="shared diagonal")
    if kind == "norm":
        return low_rank("r", n, 1, samples if samples > 1 else 0, 2, nothing)
    return scaled("c", n, nothing)


SQUARE = ("diagonal", "shared diagonal", "norm", "scaled")
KINDS = ("linear", "linear", "operator", "own operator", *SQUARE)


PLAIN = ("linear", "linear", "diagonal", "shared diagonal", "scaled")


def link(kind, m, n, samples):
    made = factor(kind, m, n, samples)
    return Tree(leaf(made), factor=made)


def chains(draw):
    samples = draw(st.sampled_from([1, 1, 16]))
    known = draw(st.sampled_from([KINDS, PLAIN]))
    kinds = draw(st.lists(st.sampled_from(known), min_size=1, max_size=6))
    size, links = draw(st.sampled_from([2, 16, 128, 1024])), []
    for kind in kinds:
        after = size if kind in SQUARE else draw(st.sampled_from([2, 16, 128, 1024]))
        links.append(link(kind, after, size, samples))
        size = after
    return links, Algebra(samples, samples > 1)


def all_ways(links, algebra):
    """Every bracketing, with what is left to do at the end."""

    def trees(i, j):
        if i == j:
            return [links[i]]
        return [algebra.multiply(a, c) for k in range(i, j) for a in trees(k + 1, j) for c in trees(i, k)]

    return min(tree.seconds + algebra.finish(tree.form)[0] for tree in trees(0, len(links) - 1))


@given(st.composite(chains)())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_bracketing_is_cheaper_than_the_planned_one(made):
    links, algebra = made
    tree, certain = bracket(links, algebra)
    spent = tree.seconds + algebra.finish(tree.form)[0]
    assert certain
    assert spent <= all_ways(links, algebra) * (1 + 1e-9)
    for back in (True, False):
        other = one_way(links, algebra, back)
        assert spent <= (other.seconds + algebra.finish(other.form)[0]) * (1 + 1e-9)


@given(st.composite(chains)())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_leaning_towards_products_of_weights_costs_a_single_call_next_to_nothing(made):
    links, algebra = made
    for one in links:
        assert one.factor is not None
        one.factor.constant = one.factor.structure.startswith(("linear", "shared"))
    tree, _ = bracket(links, algebra)
    assert tree.seconds + algebra.finish(tree.form)[0] <= all_ways(links, algebra) / LEANING * (1 + 1e-9)


def test_weights_in_a_row_are_multiplied_with_each_other_where_that_costs_no_more():
    weights = [link("linear", 128, 128, 1) for _ in range(6)]
    for one in weights:
        assert one.factor is not None
        one.factor.constant = True
    tree, _ = bracket([*weights[:3], link("diagonal", 128, 128, 1), *weights[3:]], Algebra(1, False))
    assert tree.left is not None
    assert tree.right is not None
    assert constant(tree.left) != constant(tree.right)  # the bend is with one of both


def test_a_chain_too_long_to_plan_exactly_says_so():
    links = [link("linear", 4, 4, 1) for _ in range(LONGEST + 12)]
    tree, certain = bracket(links, Algebra(1, False))
    assert not certain
    assert (tree.form.m, tree.form.n) == (4, 4)


def dags(draw):
    inner, samples = draw(st.integers(1, 5)), draw(st.sampled_from([1, 8]))
    sizes = [draw(st.sampled_from([2, 16, 128])) for _ in range(inner + 2)]
    kinds = ("linear", "linear", "operator")
    edges = {}
    for v in range(1, inner + 2):  # each vertex is entered, and each is left
        for u in draw(st.sets(st.integers(0, v - 1), min_size=1, max_size=2)):
            edges[u, v] = link(draw(st.sampled_from(kinds)), sizes[v], sizes[u], samples)
    for u in range(inner + 1):
        if all(pair[0] != u for pair in edges):
            edges[u, inner + 1] = link("linear", sizes[-1], sizes[u], samples)
    return edges, 0, inner + 1, Algebra(samples, samples > 1)


@given(st.composite(dags)())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_order_of_elimination_is_cheaper_than_the_planned_one(made):
    edges, entry, leave, algebra = made
    tree, seconds, certain = eliminate(edges, entry, leave, algebra)
    bench = Bench(algebra)
    least = float("inf")
    for order in itertools.permutations(inside(edges, entry, leave)):
        state, spent = edges, 0.0
        for vertex in order:
            more, state = bench.step(state, vertex)
            spent += more
        least = min(least, spent)
    assert certain
    assert seconds == pytest.approx(least, rel=1e-9)
    assert (tree.form.m, tree.form.n) == (edges[next(p for p in edges if p[1] == leave)].form.m, tree.form.n)


GRAPHS = {
    "linear": lambda x: torch.nn.functional.linear(x, torch.ones(4, 6, dtype=x.dtype).cumsum(0)),
    "blocks": lambda x: torch.nn.functional.linear(x.reshape(-1, 2, 3), torch.ones(2, 3, dtype=x.dtype).cumsum(1)),
    "diagonal": torch.tanh,
    "shared diagonal": lambda x: x * torch.arange(6, dtype=x.dtype),
    "softmax": lambda x: torch.softmax(x.reshape(-1, 2, 3), -1),
    "log softmax": lambda x: torch.log_softmax(x, -1),
    "layer norm": lambda x: torch.nn.functional.layer_norm(x.reshape(-1, 2, 3), (3,)),
    "rms norm": lambda x: torch.nn.functional.rms_norm(x, (6,)),
    "group norm": lambda x: torch.nn.functional.group_norm(x, 2),
    "conv": lambda x: torch.conv1d(x[:, None], torch.arange(6, dtype=x.dtype).reshape(2, 1, 3), stride=2, padding=1),
    "conv 2d": lambda x: torch.conv2d(x.reshape(-1, 1, 2, 3), torch.arange(8, dtype=x.dtype).reshape(2, 1, 2, 2)),
    "conv 2d, channels": lambda x: torch.conv2d(
        x.reshape(-1, 6, 1, 1).expand(-1, 6, 2, 2), torch.arange(48, dtype=x.dtype).reshape(2, 6, 2, 2), padding=1
    ),
    "transposed conv": lambda x: torch.conv_transpose1d(
        x.reshape(-1, 2, 3), torch.arange(12, dtype=x.dtype).reshape(2, 2, 3), stride=2, padding=1, output_padding=1
    ),
    "average pool": lambda x: torch.nn.functional.avg_pool1d(x[:, None], 2),
    "max pool": lambda x: torch.nn.functional.max_pool1d(x.reshape(-1, 2, 3), 2, 1),
    "gather": lambda x: x.flip(-1)[:, 1:4],
    "repeated": lambda x: x[:, [0, 0, 2, 5]],
    "padded": lambda x: torch.nn.functional.pad(x, (2, 1)),
    "sum": lambda x: x.reshape(-1, 2, 3).sum(1),
    "mean": lambda x: x.reshape(-1, 2, 3).mean(-1),
    "broadcast": lambda x: x.reshape(-1, 2, 3)[:, :, :1] * torch.arange(12, dtype=x.dtype).reshape(1, 2, 6),
    "matrix product": lambda x: x.reshape(-1, 2, 3) @ x.reshape(-1, 3, 2),
    "attention": lambda x: torch.nn.functional.scaled_dot_product_attention(*(x.reshape(-1, 1, 3, 2),) * 3),
    "opaque": lambda x: torch.cumsum(x, -1),
}


@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_what_a_local_jacobian_pulls_and_pushes_is_its_matrix(name, batch):
    """<u, J v> is the same from both sides, for stacks that samples share and for their own, whole or in blocks."""
    g = torch.Generator().manual_seed(3)
    x = normal(g, max(batch, 1), 6)
    graph = capture(GRAPHS[name], x)
    s = Setting(graph, batch)
    chain = prepare(graph, batched=batch > 0, memory=None)
    program = chain._program()
    edges = local_jacobians(graph, s)
    places = [program.content(edge.factor) for edge in edges]
    contents = program.compile(places)(x)
    for edge, place in zip(edges, places):
        f, content = edge.factor, contents[place]
        for stacked in {0, batch}:
            lead = (stacked,) if stacked else ()
            v, u = normal(g, *lead, 2, f.n), normal(g, *lead, 3, f.m)
            pushed = applied(f, content, v, False, batch > 0)
            pulled = applied(f, content, u, True, batch > 0)
            assert torch.allclose(u @ pushed.mT, pulled @ v.mT, rtol=1e-12, atol=1e-12)
        if f.blocks > 1 and f.pull is not None and f.push is not None:
            rows = f.blocks * max(batch, 1)
            v, u = normal(g, rows, 2, f.n // f.blocks), normal(g, rows, 3, f.m // f.blocks)
            assert torch.allclose(u @ f.push(content, v).mT, f.pull(content, u) @ v.mT, rtol=1e-12, atol=1e-12)
        if f.dense is not None:
            assert f.push is not None
            whole = f.dense(content)
            unit = torch.eye(f.n // f.blocks, dtype=x.dtype).expand(*whole.shape[:-2], -1, -1)
            assert torch.allclose(whole, f.push(content, unit).mT, rtol=1e-12, atol=1e-12)


def test_gathers_that_undo_each_other_are_nothing_at_all():
    index = torch.tensor([2, 0, 1])
    algebra = Algebra(1, False)
    there, back = gather("a", 3, index, 3), gather("b", 3, torch.argsort(index), 3)
    made = algebra.multiply(Tree(leaf(back), factor=back), Tree(leaf(there), factor=there))
    assert made.factor is not None
    assert made.factor.structure == "identity"
    assert made.form.kind == leaf(identity("", 3)).kind


def test_what_each_sample_picks_may_be_pulled_and_pushed():
    index = torch.tensor([[[0, 2]], [[1, 1]]])
    f = picked("max", 2, 3, 2, nothing, "maxima")
    v, u = torch.eye(3), torch.eye(2)
    assert f.push is not None
    assert f.pull is not None
    assert torch.equal(f.push(index, v).mT, f.pull(index, u))
    assert f.pull(index, u)[1].tolist() == [[0, 1, 0], [0, 1, 0]]
