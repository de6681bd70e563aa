"""A captured run cut into what is affine and what is not: leaves, sums of branches, and the series they form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from eitherway.graph import Graph, Op
from eitherway.graph.sizes import Sizes
from eitherway.linear.fuse.affine_ops import Reading, read
from eitherway.linear.fuse.constants import Constants
from eitherway.linear.fuse.merges import Diagonal, Kernel, is_identity
from eitherway.linear.fuse.moves import Move
from eitherway.linear.fuse.norms import ending
from eitherway.linear.fuse.runs import (
    Composite,
    Element,
    Leaf,
    Parallel,
    Stretch,
    compose,
    key,
    operations,
    work_to_cost,
)


@dataclass(eq=False)
class Region(Stretch):
    """Operations in series, each affine, with nothing else reading what lies between them."""

    elements: tuple[Element, ...]

    @property
    def last(self) -> int:
        return max(key(self.elements))


@dataclass(eq=False)
class Regions:
    """The affine part of a run."""

    regions: list[Region]
    covered: set[int]
    """Operations inside regions."""
    kept: list[Op]
    """All operations that the answer needs and constants do not hold, in order."""
    split: dict[int, int]
    """Normalisations taken apart: operation -> the value before its scale and shift."""
    spread: dict[int, list[Leaf]]
    """Scales and shifts taken in by every reader: their operation -> the readers as they were."""
    refusals: list[tuple[Op, str]]
    written: dict[int, Leaf]
    """Each affine operation as the model has it."""
    users: dict[int, set[int]]
    """Who reads each value."""


@dataclass(eq=False)
class _Builder:
    graph: Graph
    sizes: Sizes
    constants: Constants
    banned: frozenset[tuple[int, ...]]
    elements: dict[int, Element] = field(default_factory=dict)
    users: dict[int, set[int]] = field(default_factory=dict)
    split: dict[int, int] = field(default_factory=dict)
    spread: dict[int, list[Leaf]] = field(default_factory=dict)
    refusals: list[tuple[Op, str]] = field(default_factory=list)
    joins: dict[int, Reading] = field(default_factory=dict)

    def numel(self, index: int) -> int:
        return self.graph.values[index].numel

    def leaf(self, op: Op, reading: Reading) -> Leaf:
        out = op.outputs[0]
        inside, outside = self.numel(reading.data), self.numel(out)
        if reading.kind == "move":
            return Leaf(reading.data, out, (op,), Composite((self.move(op, reading.data, out),)), 0, 1e-3, False)
        if reading.form is None:
            weights = [self.graph.values[i].shape for i in op.inputs if i in self.constants]
            work = outside * (math.prod(weights[0][1:]) if reading.weighted and weights else 0)
            return Leaf(reading.data, out, (op,), None, work, work_to_cost(work, inside), reading.weighted)
        composite = Composite((), reading.form, (), inside, outside)
        work, cost = composite.work, composite.cost
        if op.name.startswith("avg_pool") and isinstance(reading.form, Kernel):
            work, cost = outside, work_to_cost(outside, work)
        return Leaf(reading.data, out, (op,), composite, work, cost, reading.weighted)

    def move(self, op: Op, data: int, out: int) -> Move:
        generic, moving = self.sizes.generic, self.sizes.moving
        none: frozenset[int] = frozenset()
        return Move(
            generic.ops[op.index],
            generic.values[data].shape,
            generic.values[out].shape,
            (moving.get(data, none), moving.get(out, none)),
        )

    def read_all(self, kept: list[Op]) -> None:
        virtual = len(self.graph.values)
        for op in kept:
            for i in op.inputs:
                self.users.setdefault(i, set()).add(op.index)
        for op in kept:
            found = read(op, self.graph, self.constants)
            if isinstance(found, Reading) and found.kind != "move" and self.sizes.depends(op.index):
                self.refusals.append((op, "a number in it follows the sizes of the input"))
                continue
            if isinstance(found, str):
                self.refusals.append((op, found))
            elif found is not None and found.kind == "join":
                self.joins[op.index] = found
            elif found is not None:
                self.elements[op.outputs[0]] = self.leaf(op, found)
            else:
                diagonal = ending(op, self.graph, self.constants)
                if diagonal is not None:
                    out = op.outputs[0]
                    composite = Composite((), diagonal, (), self.numel(out), self.numel(out))
                    scale = Leaf(virtual, out, (op,), composite, composite.work, composite.cost, False, virtual=True)
                    self.elements[out] = scale
                    self.users[virtual] = {op.index}
                    self.split[op.index] = virtual
                    virtual += 1

    # scales that every reader takes in ------------------------------------------------------------------------------

    def spread_all(self) -> None:
        for out, element in list(self.elements.items()):
            if not isinstance(element, Leaf) or element.composite is None or key((element,)) in self.banned:
                continue
            core = element.composite.core
            if not isinstance(core, Diagonal) or is_identity(core) or not self._alone(element):
                continue
            if len(self.users.get(out, ())) < 2 or out in self.graph.outputs:
                continue
            taken = self._absorb(out, element.composite, element, ())
            if isinstance(taken, str):
                self.refusals.append((element.ops[0], f"its scale and shift stay: {taken}"))
                continue
            self.spread[element.ops[0].index] = [self.elements[new.out] for new in taken]  # type: ignore[misc]
            for new in taken:
                self.elements[new.out] = new
            readers = self.users.pop(out)
            self.users[element.source] = (self.users[element.source] - {element.ops[0].index}) | readers
            del self.elements[out]

    def _alone(self, leaf: Leaf) -> bool:
        """Whether nothing before it could take the scale and shift in."""
        before = self.elements.get(leaf.source)
        if before is None or not isinstance(before, Leaf) or before.composite is None:
            return before is None or not isinstance(before, Parallel)
        if self.users[leaf.source] != {leaf.ops[0].index}:
            return True
        assert leaf.composite is not None
        return isinstance(compose(before.composite, leaf.composite), str)

    def _absorb(self, value: int, scale: Composite, from_: Leaf, through: tuple[Move, ...]) -> list[Leaf] | str:
        """The readers of a value with the scale taken in, or the reader that cannot."""
        taken: list[Leaf] = []
        for user in sorted(self.users.get(value, ())):
            op = self.graph.ops[user]
            leaf = self.elements.get(op.outputs[0]) if len(op.outputs) == 1 else None
            if not isinstance(leaf, Leaf) or leaf.source != value or leaf.composite is None:
                return f"{op.label} reads them, too, and is not affine"
            source = from_.source if not through else leaf.source
            if leaf.composite.core is None:
                if leaf.out in self.graph.outputs:
                    return f"{op.label} is part of the answer"
                moves = leaf.composite.before
                core = scale.core
                for move in moves:
                    core = move.forward(core) if isinstance(core, Diagonal) else None
                if core is None:
                    return f"{op.label} stands before a reader"
                further = self._absorb(leaf.out, replace(scale, core=core), from_, (*through, *moves))
                if isinstance(further, str):
                    return further
                taken += [replace(leaf, source=source), *further]
                continue
            both = compose(scale, leaf.composite)
            if isinstance(both, str):
                return f"{op.label}: {both}"
            if both.cost > leaf.cost + 1e-3:
                return f"{op.label} would not become cheaper"
            new = replace(
                leaf, source=source, ops=(*from_.ops, *leaf.ops), composite=both, work=both.work, cost=both.cost,
                original=False,
            )  # fmt: skip
            taken.append(new)
        return taken

    # sums of branches ----------------------------------------------------------------------------------------------

    def back(self, value: int, tokens: set[int]) -> tuple[list[int], list[Element]]:
        """From a value back through elements that nobody else reads: the values met and the elements between."""
        values, found = [value], []
        while value in self.elements and value not in self.graph.outputs and self.users[value] <= tokens:
            element = self.elements[value]
            found.append(element)
            tokens = {op.index for op in operations(element)}
            value = element.source
            values.append(value)
        return values, found

    def join_all(self, kept: list[Op]) -> None:
        for op in kept:
            reading = self.joins.get(op.index)
            if reading is None:
                continue
            one, two = (self.back(v, {op.index}) for v in (reading.data, reading.second))
            common = next((v for v in one[0] if v in two[0]), None)
            if common is None:
                continue
            branches = tuple(
                (factor, tuple(found[: values.index(common)][::-1]))
                for factor, (values, found) in zip(reading.factors, (one, two))
            )
            out = op.outputs[0]
            rank = len(self.graph.values[out].shape)
            self.elements[out] = Parallel(common, out, op, branches, rank, self.numel(out))


def find_regions(graph: Graph, sizes: Sizes, constants: Constants, banned: frozenset[tuple[int, ...]]) -> Regions:
    """All maximal series of affine operations in a run.

    Args:
        banned: merges, by the operations in them, that must not happen.
    """
    needed = graph.behind(graph.outputs, [op.index for op in graph.ops if op.random])
    kept = [op for op in graph.ops if op.index in needed and not all(i in constants for i in op.outputs)]
    builder = _Builder(graph, sizes, constants, banned)
    builder.read_all(kept)
    written = {e.ops[0].index: e for e in builder.elements.values() if isinstance(e, Leaf)}
    builder.spread_all()
    builder.join_all(kept)
    covered: set[int] = set()
    regions: list[Region] = []
    for op in reversed(kept):
        if op.index in covered or op.index in builder.spread or len(op.outputs) != 1:
            continue
        element = builder.elements.get(op.outputs[0])
        if element is None:
            continue
        _, found = builder.back(element.source, {o.index for o in operations(element)})
        region = Region((*found[::-1], element))
        covered |= {i for i in key(region.elements) if i not in builder.spread}
        regions.append(region)
    return Regions(
        regions[::-1], covered, kept, builder.split, builder.spread, builder.refusals, written, builder.users
    )
