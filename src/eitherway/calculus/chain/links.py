"""A captured graph as a chain: its local Jacobians, cut where everything passes through one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eitherway.base.errors import ModelError
from eitherway.calculus.chain import bilinear, kernels, norms, opaque, rules
from eitherway.calculus.chain.algebra import Algebra, Tree, leaf
from eitherway.calculus.chain.blocks import Edges, as_link, eliminate
from eitherway.calculus.chain.factors import Factor, Kind
from eitherway.calculus.chain.layout import Setting
from eitherway.calculus.chain.rules import Edge, Rule
from eitherway.graph import Graph, Op

RULES: tuple[Rule, ...] = (
    rules.weights, rules.views, norms.batch_norm, norms.layer_norm, norms.softmax, kernels.convolution, norms.sums,
    kernels.average_pool, kernels.max_pool, norms.group_norm, rules.moves, bilinear.matmul, bilinear.attention,
    rules.elementwise,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain: an operation or a block of several, between two values that everything passes."""

    tree: Tree
    source: int
    target: int
    factors: tuple[Factor, ...]
    optimal: bool


def local_jacobians(graph: Graph, s: Setting) -> list[Edge]:
    """The edges of every operation that lies between the input and the output.

    Raises:
        ModelError: if an operation mixes samples, is random, or cannot be planned.
    """
    edges: list[Edge] = []
    opaque_ops: dict[int, Op] = {}
    useful = _useful(graph)
    for op in graph.ops:
        if op.index not in useful or op.cut:
            continue
        if op.random:
            raise ModelError(f"{op.label} is random, so a chain planned for one run would not hold for the next")
        found = None
        if not op.custom:
            for rule in RULES:
                found = rule(op, s)
                if found is not None:
                    break
        if found is None:
            found = opaque.edges(op, s)
            opaque_ops.update((edge.target, op) for edge in found)
        for edge in found:
            given, made = s.value(edge.source).dtype, s.value(edge.target).dtype
            if given != made:
                raise ModelError(f"{op.label} turns {given} into {made}, and a chain is multiplied in one dtype")
            if edge.factor.reads is None:
                edge.factor.reads = (edge.source, edge.target, *op.inputs)
            edge.factor.constant = not any(s.value(i).depends for i in edge.factor.reads)
        edges += found
    return _joined_opaque(edges, opaque_ops, graph, s)


def _useful(graph: Graph) -> set[int]:
    """Operations that a gradient passes from the input to the output."""
    found: set[int] = set()
    wanted = {graph.outputs[0]}
    for op in reversed(graph.ops):
        flows = [i for i in op.outputs if i in wanted and graph.values[i].differentiable]
        if flows:
            found.add(op.index)
            wanted.update(i for i in op.inputs if graph.values[i].differentiable)
    return found


def _joined_opaque(edges: list[Edge], ops: dict[int, Op], graph: Graph, s: Setting) -> list[Edge]:
    """Operations without a rule, one straight after the other, are one link: one call of autograd for all of them."""
    into: dict[int, list[Edge]] = {}
    out: dict[int, list[Edge]] = {}
    for edge in edges:
        into.setdefault(edge.target, []).append(edge)
        out.setdefault(edge.source, []).append(edge)
    runs: dict[int, list[Op]] = {}
    for edge in edges:
        if edge.target not in ops or len(into[edge.target]) != 1:
            continue
        before = runs.get(edge.source)
        single = len(out[edge.source]) == 1 and len(ops[edge.target].outputs) == 1
        runs[edge.target] = [*before, ops[edge.target]] if before and single else [ops[edge.target]]
    swallowed, made = set(), []
    for edge in edges:
        run = runs.get(edge.target)
        if run and len(run) > 1:
            follow = out.get(edge.target, [])
            longer = len(follow) == 1 and len(runs.get(follow[0].target, ())) > len(run)
            if not longer:
                source = next(e.source for e in edges if e.target in run[0].outputs and e.target in runs)
                factor = opaque.opaque(run, source, edge.target, s)
                made.append(Edge(source, edge.target, factor))
            swallowed.add(edge.target)
            swallowed.update(i for op in run for i in op.outputs)
    return [edge for edge in edges if edge.target not in swallowed] + made


def chain(graph: Graph, s: Setting, algebra: Algebra) -> list[Link] | None:
    """The links from the input to the output in order; None if no gradient passes at all."""
    source, target = graph.inputs[0], graph.outputs[0]
    edges = _between(local_jacobians(graph, s), source, target, s)
    if source == target:
        return []
    if not edges:
        return None
    order = sorted({source, target, *(e.source for e in edges), *(e.target for e in edges)}, key=s.order)
    order.remove(source)
    order.insert(0, source)
    at = {v: k for k, v in enumerate(order)}
    furthest = list(range(len(order)))
    for e in edges:
        furthest[at[e.source]] = max(furthest[at[e.source]], at[e.target])
    cuts, reach = [0], 0
    for k in range(len(order)):
        if k and reach <= k:
            cuts.append(k)
        reach = max(reach, furthest[k])
    grouped: list[list[Edge]] = [[] for _ in cuts[1:]]
    owner = [0] * len(order)
    for piece, (low, high) in enumerate(zip(cuts, cuts[1:])):
        for k in range(low, high):
            owner[k] = piece
    for e in edges:
        grouped[owner[at[e.source]]].append(e)
    return [_link(part, order[low], order[high], at, s, algebra) for part, low, high in zip(grouped, cuts, cuts[1:])]


def _between(edges: Sequence[Edge], source: int, target: int, s: Setting) -> list[Edge]:
    """The edges on some way from source to target."""
    ahead, back = {source}, {target}
    for e in sorted(edges, key=lambda e: s.order(e.target)):
        if e.source in ahead:
            ahead.add(e.target)
    for e in sorted(edges, key=lambda e: -s.order(e.target)):
        if e.target in back:
            back.add(e.source)
    return [e for e in edges if e.source in ahead and e.target in back]


def _link(part: list[Edge], low: int, high: int, at: dict[int, int], s: Setting, algebra: Algebra) -> Link:
    factors = tuple(e.factor for e in part)
    if len(part) == 1:
        return Link(Tree(leaf(factors[0]), factor=factors[0]), low, high, factors, True)
    edges: Edges = {}
    simple: Edges = {}
    inside = len(at)
    for e in part:
        tree = Tree(leaf(e.factor), factor=e.factor)
        pair = at[e.source], at[e.target]
        edges[pair] = algebra.add(edges[pair], tree) if pair in edges else tree
        if pair in simple:  # a second way between the same two: through a vertex of its own
            simple[pair[0], inside] = Tree(leaf(_same(s.size(e.source))), factor=_same(s.size(e.source)))
            simple[inside, pair[1]] = tree
            inside += 1
        else:
            simple[pair] = tree
    tree, seconds, certain = eliminate(edges, at[low], at[high], algebra)
    label = " and ".join(dict.fromkeys(f.label for f in (factors[0], factors[-1])))
    made = as_link(simple, at[low], at[high], tree, seconds, s.size(high), s.size(low), label, algebra)
    return Link(made, low, high, factors, certain)


def _same(n: int) -> Factor:
    return Factor(Kind.IDENTITY, n, n, "", "identity", lambda r: 1.0, scalar=True)
