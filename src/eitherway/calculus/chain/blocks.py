"""A piece of graph with one way in and one way out, as one link: eliminated vertex by vertex, or gone through whole."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from math import inf
from typing import Any

from torch import Tensor

from eitherway.calculus.chain.algebra import Algebra, Form, Tree
from eitherway.calculus.chain.factors import Factor, Kind
from eitherway.calculus.chain.program import applied

LARGEST = 14
"""Inner vertices of a block that is eliminated exactly: there are 2^14 sets of them."""
PATIENCE = 3000
"""Sets of eliminated vertices that the exact search looks at before it gives up."""

Edges = dict[tuple[int, int], Tree]
"""Local Jacobians by (source, target): numbers of vertices in topological order."""


def eliminate(edges: Edges, entry: int, leave: int, algebra: Algebra) -> tuple[Tree, bool]:
    """The Jacobian of a block in the cheapest order of elimination, and whether that is certain.

    Eliminating a vertex multiplies each local Jacobian that leaves it with each that enters it, and adds the product
    to what connects their ends. The exact search is Dijkstra's over sets of eliminated vertices: the structure of
    what is left depends on the set alone.

    Source: Griewank & Reese 1991 (vertex elimination); that the best order is NP-hard to find: Naumann 2008.
    """
    edges = contract(edges, entry, leave, algebra)
    inner = _inner(edges, entry, leave)
    found = heuristic(edges, inner, algebra)
    best, certain = found[(entry, leave)], not inner
    if inner and len(inner) <= LARGEST:
        bound = sum_seconds(found)
        exact, certain = _search(edges, inner, algebra, bound)
        if exact is not None:
            best = exact[(entry, leave)]
    return best, certain


def sum_seconds(edges: Edges) -> float:
    """What all that was done so far took, each product once."""
    seen: dict[int, float] = {}

    def walk(tree: Tree) -> None:
        if id(tree) in seen or tree.left is None or tree.right is None:
            return
        seen[id(tree)] = tree.seconds - tree.left.seconds - tree.right.seconds
        walk(tree.left)
        walk(tree.right)

    for tree in edges.values():
        walk(tree)
    return sum(seen.values())


def _inner(edges: Edges, entry: int, leave: int) -> list[int]:
    return sorted({v for pair in edges for v in pair} - {entry, leave})


def step(edges: Edges, vertex: int, algebra: Algebra) -> tuple[float, Edges]:
    """Without one vertex: the seconds that takes, and what is left."""
    before = [(u, tree) for (u, v), tree in edges.items() if v == vertex]
    after = [(w, tree) for (v, w), tree in edges.items() if v == vertex]
    left = {pair: tree for pair, tree in edges.items() if vertex not in pair}
    seconds = 0.0
    for u, entering in before:
        for w, leaving in after:
            made = algebra.multiply(leaving, entering)
            seconds += made.seconds - (0.0 if made is leaving else leaving.seconds)
            seconds -= 0.0 if made is entering else entering.seconds
            if made is entering or made is leaving:
                seconds -= made.seconds
            known = left.get((u, w))
            if known is not None:
                total = algebra.add(known, made)
                seconds += total.seconds - known.seconds - made.seconds
                made = total
            left[u, w] = made
    return max(seconds, 0.0), left


def price(edges: Edges, vertex: int, algebra: Algebra) -> float:
    """The seconds of `step`, without the trees."""
    before = [(u, tree.form) for (u, v), tree in edges.items() if v == vertex]
    after = [(w, tree.form) for (v, w), tree in edges.items() if v == vertex]
    seconds = 0.0
    for u, entering in before:
        for w, leaving in after:
            cost, form, _ = algebra.product(leaving, entering)
            seconds += cost
            known = edges.get((u, w))
            if known is not None:
                seconds += algebra.total(known.form, form)[0]
    return seconds


def contract(edges: Edges, entry: int, leave: int, algebra: Algebra) -> Edges:
    """Vertices with one way in and one way out between diagonals or identities are gone at once."""
    edges = dict(edges)
    while True:
        for vertex in _inner(edges, entry, leave):
            before = [tree.form for (_, v), tree in edges.items() if v == vertex]
            after = [tree.form for (v, _), tree in edges.items() if v == vertex]
            if len(before) != 1 or len(after) != 1:
                continue
            one, other = before[0], after[0]
            light = Kind.IDENTITY in (one.kind, other.kind) or (
                one.kind == other.kind == Kind.DIAGONAL and one.varying == other.varying
            )
            if light:
                edges = step(edges, vertex, algebra)[1]
                break
        else:
            return edges


def _search(edges: Edges, inner: Sequence[int], algebra: Algebra, bound: float) -> tuple[Edges | None, bool]:
    """Dijkstra's search over sets; None if nothing beats the bound."""
    full = (1 << len(inner)) - 1
    settled: set[int] = set()
    best = {0: 0.0}
    queue: list[tuple[float, int, int, int]] = [(0.0, 0, -1, -1)]  # seconds, set, the set before, the vertex taken
    states: dict[int, Edges] = {}
    looked = 0
    while queue:
        seconds, chosen, parent, vertex = heapq.heappop(queue)
        if chosen in settled:
            continue
        settled.add(chosen)
        looked += 1
        if looked > PATIENCE:
            return None, False
        state = edges if parent < 0 else step(states[parent], inner[vertex], algebra)[1]
        states[chosen] = state
        if chosen == full:
            return state, True
        for i in range(len(inner)):
            if chosen >> i & 1:
                continue
            then = chosen | 1 << i
            if then in settled:
                continue
            reached = seconds + price(state, inner[i], algebra)
            if reached < best.get(then, inf) and reached <= bound * (1 + 1e-12):
                best[then] = reached
                heapq.heappush(queue, (reached, then, chosen, i))
    return None, True


def heuristic(edges: Edges, inner: Sequence[int], algebra: Algebra) -> Edges:
    """The best of three orders: forward, reverse, always the cheapest vertex next."""
    options = [_in_order(edges, inner, algebra), _in_order(edges, inner[::-1], algebra)]
    left, state, seconds = list(inner), edges, 0.0
    while left:
        vertex = min(left, key=lambda v: price(state, v, algebra))
        more, state = step(state, vertex, algebra)
        seconds += more
        left.remove(vertex)
    options.append((seconds, state))
    return min(options, key=lambda option: option[0])[1]


def _in_order(edges: Edges, order: Sequence[int], algebra: Algebra) -> tuple[float, Edges]:
    seconds = 0.0
    for vertex in order:
        more, edges = step(edges, vertex, algebra)
        seconds += more
    return seconds, edges


def as_link(edges: Edges, entry: int, leave: int, tree: Tree, m: int, n: int, label: str, algebra: Algebra) -> Tree:
    """A block as a link of a chain: an operator that rows and columns go through whole, or its matrix.

    Args:
        edges: of single factors.
        tree: its Jacobian by elimination.
    """
    if tree.form.kind in (Kind.IDENTITY, Kind.DIAGONAL):
        return tree
    order = sorted(edges, key=lambda pair: (pair[0], pair[1]))
    factors = [edges[pair].factor for pair in order]
    if any(factor is None for factor in factors):
        return tree
    parts = [factor for factor in factors if factor is not None]
    batched = algebra.batched

    def through(contents: Any, stack: Tensor, back: bool) -> Tensor:
        held: dict[int, Tensor] = {leave if back else entry: stack}
        places = sorted(range(len(order)), key=lambda k: order[k][1 if back else 0], reverse=back)
        for k in places:
            come, go = order[k][::-1] if back else order[k]
            if come in held:
                moved = applied(parts[k], contents[k], held[come], back, batched)
                held[go] = held[go] + moved if go in held else moved
        return held[entry if back else leave]

    def seconds(k: int, back: bool) -> tuple[float, float]:
        """(for each vector of each sample, for each call)."""
        way = parts[k].pull_seconds if back else parts[k].push_seconds
        if parts[k].kind == Kind.OPERATOR:
            return way(1) - way(0), way(0)
        if parts[k].kind == Kind.MATRIX:
            return 2e-11 * parts[k].m * parts[k].n / parts[k].blocks, 3e-6
        return 3.2e-10 * parts[k].m, 3e-6

    pulls, pushes = [seconds(k, True) for k in range(len(parts))], [seconds(k, False) for k in range(len(parts))]
    each, fixed = sum(p[0] for p in pulls), sum(p[1] for p in pulls)
    pushed = sum(p[0] for p in pushes)
    from eitherway.calculus.chain.factors import CALL
    from eitherway.calculus.cost import GEMM

    block = Factor(
        Kind.OPERATOR, m, n, label, f"block of {len(parts)}", lambda r: None,
        varying=any(part.varying for part in parts) and batched,
        pull=lambda contents, stack: through(contents, stack, True),
        push=lambda contents, stack: through(contents, stack, False),
        products=each / GEMM, calls=fixed / CALL, push_slower=pushed / each if each else 1.0,
    )  # fmt: skip
    block.parts = tuple(parts)
    form = Form(Kind.OPERATOR, m, n, 1, block.varying, factor=block, dense=(tree.seconds, tree.form), tree=tree)
    return Tree(form, factor=block)
