"""A piece of graph with one way in and one way out, as one link: eliminated vertex by vertex, or gone through whole."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from math import inf
from typing import Any

from torch import Tensor

from eitherway.calculus.chain.algebra import Algebra, Form, Tree
from eitherway.calculus.chain.factors import CALL, Factor, Kind
from eitherway.calculus.chain.stacks import through
from eitherway.calculus.cost import GEMM, TOUCH

LARGEST = 14
"""Inner vertices of a block that is eliminated exactly: there are 2^14 sets of them."""
PATIENCE = 300, 2_000_000
"""Sets of eliminated vertices that the exact search looks at before it gives up: so many, and so many more for each
second that the best order known takes: the search is not to cost more than it can save in some dozen evaluations."""

Edges = dict[tuple[int, int], Tree]
"""Local Jacobians by (source, target): numbers of vertices in topological order."""
Around = tuple[list[tuple[int, Tree]], list[tuple[int, Tree]]]
"""What enters a vertex and what leaves it."""


def eliminate(edges: Edges, entry: int, leave: int, algebra: Algebra) -> tuple[Tree, float, bool]:
    """The Jacobian of a block in the cheapest order of elimination, its seconds, and whether that is certain.

    Eliminating a vertex multiplies each local Jacobian that leaves it with each that enters it, and adds the product
    to what connects their ends. The exact search is Dijkstra's over sets of eliminated vertices: the structure of
    what is left depends on the set alone.

    Source: Griewank & Reese 1991 (vertex elimination); that the best order is NP-hard to find: Naumann 2008.
    """
    bench = Bench(algebra)
    edges = bench.contract(edges, entry, leave)
    inner = inside(edges, entry, leave)
    if not inner:
        tree = edges[entry, leave]
        return tree, tree.seconds, True
    seconds, found = heuristic(edges, inner, bench)
    if len(inner) > LARGEST:
        return found[entry, leave], seconds, False
    exact, spent, certain = _search(edges, inner, bench, seconds)
    if exact is None:
        return found[entry, leave], seconds, certain
    return exact[entry, leave], spent, certain


def inside(edges: Edges, entry: int, leave: int) -> list[int]:
    """The vertices that are to be eliminated, in topological order."""
    return sorted({v for pair in edges for v in pair} - {entry, leave})


class Bench:
    """Where products and sums are made, each once: orders of elimination share most of theirs."""

    def __init__(self, algebra: Algebra):
        self.algebra = algebra
        self.products: dict[tuple[int, int], tuple[float, Tree]] = {}
        self.sums: dict[tuple[int, int], tuple[float, Tree]] = {}
        self.alive: list[Tree] = []

    def product(self, a: Tree, c: Tree) -> tuple[float, Tree]:
        """Seconds of this product alone, and its tree."""
        found = self.products.get((id(a), id(c)))
        if found is None:
            made = self.algebra.multiply(a, c)
            free = made is a or made is c
            found = self.products[id(a), id(c)] = 0.0 if free else made.seconds - a.seconds - c.seconds, made
            self.alive += (a, c)
        return found

    def sum(self, a: Tree, c: Tree) -> tuple[float, Tree]:
        found = self.sums.get((id(a), id(c)))
        if found is None:
            made = self.algebra.add(a, c)
            found = self.sums[id(a), id(c)] = made.seconds - a.seconds - c.seconds, made
            self.alive += (a, c)
        return found

    def step(self, edges: Edges, vertex: int) -> tuple[float, Edges]:
        """Without one vertex: the seconds that takes, and what is left."""
        left = {pair: tree for pair, tree in edges.items() if vertex not in pair}
        return self.meet(edges, neighbours(edges)[vertex], left), left

    def meet(self, edges: Edges, around: Around, left: Edges | None) -> float:
        """Multiplies and adds what meets at a vertex; what comes out goes to `left`."""
        before, after = around
        seconds = 0.0
        for u, entering in before:
            for w, leaving in after:
                more, made = self.product(leaving, entering)
                known = edges.get((u, w))
                if known is not None:
                    then, made = self.sum(known, made)
                    more += then
                seconds += more
                if left is not None:
                    left[u, w] = made
        return seconds

    def contract(self, edges: Edges, entry: int, leave: int) -> Edges:
        """Without the vertices that cost nothing, or next to nothing, whatever happens around them."""
        changed = True
        while changed:
            changed, around = False, neighbours(edges)
            for vertex in inside(edges, entry, leave):
                if self._light(edges, around[vertex]):
                    edges = self.step(edges, vertex)[1]
                    changed, around = True, neighbours(edges)
        return edges

    def _light(self, edges: Edges, around: Around) -> bool:
        """One way in or one way out, and all that meets are gathers, identities, or diagonals alike; no new sums."""
        before, after = around
        if len(before) != 1 and len(after) != 1:
            return False
        for u, entering in before:
            for w, leaving in after:
                one, other = entering.form, leaving.form
                alike = one.kind == other.kind == Kind.DIAGONAL and one.varying == other.varying
                alike = alike and one.scalar == other.scalar and len(before) == len(after) == 1
                free = alike or Kind.IDENTITY in (one.kind, other.kind) or self.algebra.composes(other, one)
                if not free or (u, w) in edges:
                    return False
        return True


def neighbours(edges: Edges) -> dict[int, Around]:
    """What enters and what leaves each vertex."""
    found: dict[int, Around] = {}
    for (u, v), tree in edges.items():
        found.setdefault(v, ([], []))[0].append((u, tree))
        found.setdefault(u, ([], []))[1].append((v, tree))
    return found


def _search(edges: Edges, inner: Sequence[int], bench: Bench, bound: float) -> tuple[Edges | None, float, bool]:
    """Dijkstra's search over sets of eliminated vertices; None if nothing beats the bound."""
    full = (1 << len(inner)) - 1
    best = {0: 0.0}
    queue: list[tuple[float, int, int, int]] = [(0.0, 0, -1, -1)]  # seconds, set, the set before, the vertex taken
    states: dict[int, Edges] = {}
    patience = PATIENCE[0] + PATIENCE[1] * bound
    bound *= 1 - 1e-12
    while queue:
        seconds, chosen, parent, vertex = heapq.heappop(queue)
        if chosen in states:
            continue
        if len(states) >= patience:
            return None, inf, False
        state = states[chosen] = edges if parent < 0 else bench.step(states[parent], inner[vertex])[1]
        if chosen == full:
            return state, seconds, True
        around = neighbours(state)
        for i, candidate in enumerate(inner):
            then = chosen | 1 << i
            if then in states:
                continue
            reached = seconds + bench.meet(state, around[candidate], None)
            if reached < bound and reached < best.get(then, inf):
                best[then] = reached
                heapq.heappush(queue, (reached, then, chosen, i))
    return None, inf, True


def heuristic(edges: Edges, inner: Sequence[int], bench: Bench) -> tuple[float, Edges]:
    """The best of three orders, and its seconds: forward, reverse, always the cheapest vertex next."""
    options = [_in_order(edges, inner, bench), _in_order(edges, inner[::-1], bench)]
    left, state, seconds = list(inner), edges, 0.0
    while left:
        around = neighbours(state)
        vertex = min((bench.meet(state, around[v], None), v) for v in left)[1]
        more, state = bench.step(state, vertex)
        seconds += more
        left.remove(vertex)
    options.append((seconds, state))
    return min(options, key=lambda option: option[0])


def _in_order(edges: Edges, order: Sequence[int], bench: Bench) -> tuple[float, Edges]:
    seconds = 0.0
    for vertex in order:
        more, edges = bench.step(edges, vertex)
        seconds += more
    return seconds, edges


def _ranks(pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """For each vertex the longest way to it: one that was put between two parallel edges may have any number."""
    rank = {vertex: 0 for pair in pairs for vertex in pair}
    moved = True
    while moved:
        moved = False
        for come, to in pairs:
            if rank[to] <= rank[come]:
                rank[to], moved = rank[come] + 1, True
    return rank


def as_link(
    edges: Edges, entry: int, leave: int, tree: Tree, seconds: float, m: int, n: int, label: str, algebra: Algebra
) -> Tree:
    """A block as a link of a chain: an operator that rows and columns go through whole, or its matrix.

    Args:
        edges: of single factors.
        tree: its Jacobian by elimination, which takes so many seconds.
    """
    if tree.form.kind in (Kind.IDENTITY, Kind.DIAGONAL):
        return tree
    bench = Bench(algebra)
    edges = bench.contract(edges, entry, leave)
    if len(edges) == 1:
        return tree
    order = sorted(edges, key=lambda pair: (pair[0], pair[1]))
    parts = tuple(edges[pair] for pair in order)
    batched = algebra.batched
    rank = _ranks(order)
    forth_order = sorted(range(len(order)), key=lambda k: rank[order[k][0]])
    back_order = sorted(range(len(order)), key=lambda k: rank[order[k][1]], reverse=True)

    def go(contents: Any, stack: Tensor, back: bool) -> Tensor:
        held: dict[int, Tensor] = {leave if back else entry: stack}
        for k in back_order if back else forth_order:
            come, to = order[k][::-1] if back else order[k]
            if come in held:
                moved = through(parts[k], contents[k], held[come], back, batched)
                held[to] = held[to] + moved if to in held else moved
        return held[entry if back else leave]

    def spent(k: int, back: bool) -> tuple[float, float]:
        """(for each vector of each sample, for each call)."""
        form = parts[k].form
        add = 3 * TOUCH * (form.n if back else form.m)
        if form.kind == Kind.OPERATOR:
            assert form.factor is not None
            way = form.factor.pull_seconds if back else form.factor.push_seconds
            return way(1) - way(0) + add, way(0) + CALL
        if form.kind == Kind.MATRIX:
            return GEMM * form.m * form.n / form.blocks + add, 2 * CALL
        if form.kind == Kind.DIAGONAL:
            return 2 * TOUCH * form.m + add, 2 * CALL
        return add, CALL

    pulls, pushes = ([spent(k, back) for k in range(len(parts))] for back in (True, False))
    each, fixed, pushed = sum(p[0] for p in pulls), sum(p[1] for p in pulls), sum(p[0] for p in pushes)
    block = Factor(
        Kind.OPERATOR, m, n, label, f"block of {len(parts)}", lambda r: None,
        varying=any(part.form.varying for part in parts) and batched,
        pull=lambda contents, stack: go(contents, stack, True),
        push=lambda contents, stack: go(contents, stack, False),
        products=each / GEMM, calls=fixed / CALL, push_slower=pushed / each if each else 1.0,
    )  # fmt: skip
    block.parts, block.aliases = parts, True
    form = Form(Kind.OPERATOR, m, n, 1, block.varying, factor=block, dense=(seconds, tree.form), tree=tree)
    return Tree(form, factor=block)
