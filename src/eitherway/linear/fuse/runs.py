"""Runs of affine operations as trees: layers in series, branches in parallel, and the cheapest way to write them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from eitherway.graph import Op
from eitherway.linear.fuse.branches import total
from eitherway.linear.fuse.merges import Diagonal, Form, is_identity, merge, multiplications
from eitherway.linear.fuse.moves import Move, cancels


@dataclass(frozen=True, eq=False)
class Composite:
    """Moves, one affine map, moves."""

    before: tuple[Move, ...] = ()
    core: Form | None = None
    after: tuple[Move, ...] = ()
    inside: int = 0
    """Elements that go into the core, in the example."""
    outside: int = 0
    """Elements that come out of it."""

    @property
    def work(self) -> int:
        return 0 if self.core is None else multiplications(self.core, self.inside, self.outside)

    @property
    def cost(self) -> float:
        """Multiplications; a pass that only adds counts half, and an operation a hair, which breaks ties."""
        moves = 1e-3 * (len(self.before) + len(self.after))
        if self.core is None or is_identity(self.core):
            return moves
        return moves + work_to_cost(self.work, self.outside if self.work == 0 else 0)


def work_to_cost(multiplications: int, additions: int = 0) -> float:
    return multiplications + 0.5 * additions + 1e-3


@dataclass(eq=False)
class Leaf:
    """One operation of one input."""

    source: int
    out: int
    ops: tuple[Op, ...]
    composite: Composite | None
    """None if it is affine but has no form of its own."""
    work: int
    cost: float
    weighted: bool
    original: bool = True
    """Whether the operation as it stands says it; not so once a scale from before has been taken in."""
    virtual: bool = False
    """The scale and shift at the end of a normalisation."""


@dataclass(eq=False)
class Parallel:
    """A sum of branches that read the same value."""

    source: int
    out: int
    join: Op
    branches: tuple[tuple[float, tuple[Element, ...]], ...]
    rank: int
    numel: int
    plans: list[Plan] = field(default_factory=list)
    composite: Composite | None = None
    why: str = ""


Element = Leaf | Parallel


class Stretch(Protocol):
    """Elements in a row: what goes into the first comes out of the last."""

    elements: tuple[Element, ...]

    @property
    def source(self) -> int:
        return self.elements[0].source

    @property
    def out(self) -> int:
        return self.elements[-1].out


@dataclass(eq=False)
class Piece(Stretch):
    """One stretch of a run as it will be written."""

    elements: tuple[Element, ...]
    composite: Composite | None = None
    """What stands for the stretch; None where its one element is kept as it is."""
    dense: bool = False
    """One matrix over flattened axes stands for the stretch; its entries are found when it is written."""
    work: int = 0

    @property
    def merged(self) -> bool:
        return self.composite is not None or self.dense

    @property
    def joins(self) -> bool:
        """Whether several operations became one, or vanished."""
        return self.merged and not (len(self.elements) == 1 and isinstance(self.elements[0], Leaf))


@dataclass(eq=False)
class Plan:
    """The cheapest way found to write a series."""

    pieces: list[Piece]
    cost: float
    work: int
    whole: Composite | None
    """All of it as one, whether or not that is cheaper."""
    apart: list[tuple[Element, Element, str]] = field(default_factory=list)
    """Neighbours that stay two, and why."""


class Planner:
    """Chooses how runs are written.

    Args:
        banned: stretches, by the operations in them, that must not be merged.
        dense: the multiplications of a stretch written as one matrix, or a sentence where that cannot be.
    """

    def __init__(self, banned: frozenset[tuple[int, ...]] = frozenset(), dense=None):
        self.banned = banned
        self.dense = dense

    def plan(self, series: Sequence[Element]) -> Plan:
        """Interval dynamic programming over where to cut the series. Cost of all cuts is O(L^2) merges."""
        n = len(series)
        for element in series:
            if isinstance(element, Parallel) and not element.plans:
                self._prepare(element)
        table: dict[tuple[int, int], Composite | None] = {}
        for j in range(n):
            table[j, j] = series[j].composite
            for i in range(j - 1, -1, -1):
                found: Composite | None = None
                for cut in dict.fromkeys((j - 1, i)):  # (all but the last) with the last, the first with the rest
                    left, right = table[i, cut], table[cut + 1, j]
                    if left is not None and right is not None:
                        both = compose(left, right)
                        if isinstance(both, Composite):
                            found = both
                            break
                table[i, j] = found
        best: list[tuple[float, int, list[Piece]]] = [(0.0, 0, [])]
        for j in range(1, n + 1):
            choices = []
            for i in reversed(range(j)):
                piece, cost = self._piece(series, i, j, table[i, j - 1])
                if piece is not None:
                    before = best[i]
                    choices.append((before[0] + cost, before[1] + piece.work, [*before[2], piece]))
            best.append(min(choices, key=lambda choice: choice[0]))
        cost, work, pieces = best[n]
        whole = table[0, n - 1] if n else Composite()
        return Plan(pieces, cost, work, whole, self._apart(series, pieces))

    def _apart(self, series: Sequence[Element], pieces: list[Piece]) -> list[tuple[Element, Element, str]]:
        """For each two neighbours that stay apart, but for what only moves elements between them, the reason."""
        found = []
        owner = {id(element): n for n, piece in enumerate(pieces) for element in piece.elements}
        telling = [i for i, element in enumerate(series) if not silent(element)]
        for i, j in itertools.pairwise(telling):
            one, two = series[i], series[j]
            if owner[id(one)] == owner[id(two)]:
                continue
            both: Composite | str | None = one.composite
            for element in series[i + 1 : j + 1]:
                if isinstance(both, Composite):
                    both = (
                        "no single layer stands for both"
                        if element.composite is None
                        else compose(both, element.composite)
                    )
            if isinstance(both, Composite):
                apart = own_cost(one)[1] + own_cost(two)[1]
                together = (*pieces[owner[id(one)]].elements, *pieces[owner[id(two)]].elements)
                if key(together) in self.banned:
                    both = "undone: merged, the error was above the bound"
                else:
                    both = f"one layer would need {both.work:,} multiplications, two need {apart:,}"
            found.append((one, two, both or "no single layer stands for both"))
        return found

    def _piece(self, series: Sequence[Element], i: int, j: int, form: Composite | None) -> tuple[Piece | None, float]:
        elements = tuple(series[i:j])
        if j - i == 1:
            kept, cost, work = Piece(elements), *own_cost(elements[0])
            kept.work = work
            lone = elements[0]
            if isinstance(lone, Leaf):
                gone = form is not None and form.core is not None and is_identity(form.core)
                if gone or not lone.original:
                    assert form is not None
                    return Piece(elements, form, work=form.work), form.cost
                return kept, cost
            if form is not None and form.cost < cost and key(elements) not in self.banned:
                return Piece(elements, form, work=form.work), form.cost
            return kept, cost
        if key(elements) in self.banned:
            return None, 0.0
        if form is not None:
            return Piece(elements, form, work=form.work), form.cost + 1e-4  # where nothing is gained, names are kept
        if self.dense is not None:
            work = self.dense(elements)
            if isinstance(work, int):
                return Piece(elements, None, True, work), work_to_cost(work)
        return None, 0.0

    def _prepare(self, parallel: Parallel) -> None:
        """The branches' own plans, and their sum as one map."""
        forms: list[Form] = []
        parallel.plans = [self.plan(series) for _, series in parallel.branches]
        inside = 0
        for (factor, series), plan in zip(parallel.branches, parallel.plans):
            whole = plan.whole if series else Composite(core=Diagonal())
            if whole is None:
                parallel.why = plan.apart[0][2] if plan.apart else "a branch has no single map"
                return
            if whole.before or whole.after or whole.core is None:
                parallel.why = "a branch moves elements about"
                return
            core = whole.core if factor == 1.0 else merge(whole.core, _times(factor, parallel.rank))
            if isinstance(core, str):
                parallel.why = core
                return
            inside = max(inside, whole.inside)
            forms.append(core)
        both = total(forms, parallel.rank)
        if isinstance(both, str):
            parallel.why = both
        else:
            parallel.composite = Composite((), both, (), inside or parallel.numel, parallel.numel)


def silent(element: Element) -> bool:
    """Whether it only moves elements, or does nothing."""
    if not isinstance(element, Leaf) or element.composite is None:
        return False
    return element.composite.core is None or is_identity(element.composite.core)


def own_cost(element: Element) -> tuple[float, int]:
    """Cost and multiplications of an element as it stands."""
    if isinstance(element, Leaf):
        return element.cost, element.work
    joins = len(element.branches) - 1
    scaled = sum(factor not in (1.0, -1.0) for factor, _ in element.branches)
    cost = sum(plan.cost for plan in element.plans) + work_to_cost(scaled * element.numel, joins * element.numel)
    return cost, sum(plan.work for plan in element.plans) + scaled * element.numel


def key(elements: Sequence[Element]) -> tuple[int, ...]:
    """The operations of a stretch: the name it is banned by."""
    return tuple(sorted(op.index for element in elements for op in operations(element)))


def operations(element: Element) -> list[Op]:
    if isinstance(element, Leaf):
        return list(element.ops)
    return [*(op for _, series in element.branches for e in series for op in operations(e)), element.join]


def leaves(elements: Sequence[Element]) -> list[Leaf]:
    found: list[Leaf] = []
    for element in elements:
        if isinstance(element, Leaf):
            found.append(element)
        else:
            for _, series in element.branches:
                found += leaves(series)
    return found


def compose(first: Composite, second: Composite) -> Composite | str:
    """One composite that does `second` after `first`, or why there is none."""
    found: Composite | str = first
    for move in second.before:
        found = _with_move(found, move)
    if second.core is not None:
        found = _with_core(found, second)
    if isinstance(found, str):
        return found
    for move in second.after:
        found = _with_move(found, move)
    return found


def _with_move(first: Composite, move: Move) -> Composite:
    if first.core is None:
        return replace(first, before=_less(first.before, move))
    return replace(first, after=_less(first.after, move))


def _less(moves: tuple[Move, ...], move: Move) -> tuple[Move, ...]:
    """The moves with one more, and without those that it undoes."""
    together = [*moves, move]
    for start in range(len(together) - 1):
        if cancels(together[start:]):
            return tuple(together[:start])
    return tuple(together)


def _with_core(first: Composite, second: Composite) -> Composite | str:
    form = second.core
    assert form is not None
    if first.core is None:
        return Composite(first.before, form, (), second.inside, second.outside)
    if not first.after:
        both = merge(first.core, form)
        return both if isinstance(both, str) else _joined(first, both, (), second)
    if isinstance(form, Diagonal):
        carried: Diagonal | None = form
        for move in reversed(first.after):
            carried = None if carried is None else move.backward(carried)
        if carried is not None:
            both = merge(first.core, carried)
            if not isinstance(both, str):
                return replace(first, core=both)
    if isinstance(first.core, Diagonal):
        carried = first.core
        for move in first.after:
            carried = None if carried is None else move.forward(carried)
        if carried is not None:
            both = merge(carried, form)
            if not isinstance(both, str):
                return Composite((*first.before, *first.after), both, (), second.inside, second.outside)
            return both
    return f"{first.after[-1].op.name} stands between them"


def _joined(first: Composite, core: Form, after: tuple[Move, ...], second: Composite) -> Composite:
    return Composite(first.before, core, after, first.inside or second.inside, second.outside)


def _times(factor: float, rank: int) -> Diagonal:
    return Diagonal(torch.full([1] * rank, factor, dtype=torch.float64))


def pieces_of(plan: Plan) -> Iterator[Piece]:
    """All pieces of a plan, those inside branches, too."""
    for piece in plan.pieces:
        yield piece
        if not piece.merged and isinstance(piece.elements[0], Parallel):
            for inner in piece.elements[0].plans:
                yield from pieces_of(inner)
