"""What a pass along a run finds: for each value what it is made of, in terms of the sources that functions start from.

A source (`Atom`) is what a weighted sum, a norm, an add of different things, an input or something unknown puts out. A
value between is an element-wise function of sources. Which sources and producers lie anywhere behind a value is kept as
bits of one integer, so that questions of descent cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from eitherway.graph import Graph, Op
from eitherway.signal.structure.atoms import Atom, Draft, NormDraft, Signal, Sum
from eitherway.signal.structure.constants import Known, evaluate
from eitherway.signal.structure.names import ADDS, MOVES, PRODUCTS, SPLITS, plain
from eitherway.signal.structure.parts import SourceKind

MASKED = {*PRODUCTS, "where", "masked_fill"}
"""Operations by which a mask that was drawn drops parts of a signal."""


@dataclass(eq=False)
class Flow:
    """Sources, signals and constants, and all that was met on the way."""

    graph: Graph
    weights: set[int] = field(default_factory=set)
    """Constants from which weights are computed."""
    writers: dict[int, list[int]] = field(default_factory=dict)
    states: dict[int, Known | Signal] = field(default_factory=dict)
    atoms: list[Atom] = field(default_factory=list)
    stops: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Values at which a function starts, with their atoms (glu reads two halves of one value)."""
    drafts: list[Draft] = field(default_factory=list)
    norms: list[NormDraft] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    attentions: list[Op] = field(default_factory=list)
    softmaxes: list[Op] = field(default_factory=list)
    uses: dict[int, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    """For each parameter's value what it does and where: (role, operation)."""
    splits: set[int] = field(default_factory=set)
    """Operations that cut a signal."""
    _pieces: dict[tuple, int] = field(default_factory=dict)
    _dirty: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """For each room the last write into it, and bits of what was written."""
    _clean: dict[int, int] = field(default_factory=dict)
    """For each value of such a room the write that its state knows of."""

    def known(self, value: int) -> bool:
        """Whether it carries no signal."""
        return type(self.states.get(value)) is Known

    def signal(self, value: int) -> Signal | None:
        found = self.states.get(value)
        return found if type(found) is Signal else None

    def single(self, value: int) -> Atom | None:
        """The one source of a value."""
        found = self.signal(value)
        return self.atoms[found.atoms[0]] if found is not None and len(found.atoms) == 1 else None

    def base(self, atom: Atom) -> Atom:
        """The source that a source is a piece of, or itself."""
        return self.atoms[atom.base]

    def moves(self, op: Op) -> bool:
        """Whether an operation on a signal only moves elements; a product with what was drawn is a dropout by hand."""
        name = plain(op)
        if name in MOVES or name in SPLITS:
            return True
        if name not in MASKED:
            return False
        states = (self.states.get(i) for i in op.inputs)
        return any(type(s) is Known and s.chance == "mask" for s in states)

    def content(self, value: int) -> Tensor | None:
        """A constant's content with today's parameters."""
        return evaluate(self.graph, value, self.writers)

    def start(self, value: int, kind: SourceKind, text: str, op: int, inputs: tuple[int, ...] = (), **more) -> Atom:
        """A new source; what lies behind it is what lies behind the inputs."""
        reach = made = 0
        kept = self.graph.values[value].dtype.is_floating_point or self.graph.values[value].dtype.is_complex
        for i in inputs if kept else ():  # through integers (argmax) no gradient goes back
            found = self.state(i)
            if type(found) is Signal:
                reach |= found.reach
                made |= found.made
        index = len(self.atoms)
        producers = more.pop("producers", ())
        for p in producers:
            made |= 1 << p
        reach |= 1 << index
        atom = Atom(index, value, kind, text, op, reach, made, index, **more)
        self.atoms.append(atom)
        self.stops[value] = (index,)
        self.states[value] = Signal((index,), reach, made)
        return atom

    def piece(self, value: int, base: Atom, op: int) -> None:
        """A part of a source: the same part, cut out twice, is one."""
        root, here = self.atoms[base.base], self.graph.values[value]
        key = (
            (root.index, here.room, here.offset, tuple(here.shape), here.stride) if here.room is not None else (value,)
        )
        if key not in self._pieces:
            self._pieces[key] = self.part(value, base, op).index
        atom = self.atoms[self._pieces[key]]
        self.stops[value] = (atom.index,)
        self.states[value] = Signal((atom.index,), atom.reach, atom.made)

    def part(self, value: int, base: Atom, op: int) -> Atom:
        """A new source that is a part of another."""
        root, index = self.atoms[base.base], len(self.atoms)
        reach = base.reach | 1 << index
        atom = Atom(index, value, root.kind, root.text, op, reach, base.made, root.index, root.producer, root.norm)
        self.atoms.append(atom)
        return atom

    def measured(self, op: Op, text: str = "") -> None:
        """What an operation puts out is a source of its own, of which nothing is known."""
        signals = tuple(i for i in op.inputs if type(self.state(i)) is Signal)
        for i in op.inputs:
            self.use(i, "scale" if plain(op) in PRODUCTS else "shift" if plain(op) in ADDS else "other", op)
        for out in op.outputs:
            parts = signals if len(signals) == 1 else ()
            self.start(out, "measured", text or plain(op), op.index, op.inputs, parts=parts)

    def state(self, value: int) -> Known | Signal:
        """What a value is now: after a write through a view it may hold something else."""
        found = self.states.get(value)
        if found is None:
            found = self.states[value] = Known(root=value)
        if self._dirty:
            here = self.graph.values[value]
            dirt = self._dirty.get(here.room) if here.room is not None else None
            made = here.producer if here.producer is not None else -1
            if dirt is not None and max(made, self._clean.get(value, -1)) < dirt[0]:
                behind = found if type(found) is Signal else Signal((), 0, 0)
                atom = self.start(value, "measured", "written into", dirt[0])
                atom.reach |= behind.reach | dirt[1]
                atom.made |= behind.made | dirt[2]
                found = self.states[value] = Signal((atom.index,), atom.reach, atom.made)
                self._clean[value] = dirt[0]
        return found

    def use(self, value: int, role: str, op: Op) -> None:
        """Notes what the parameters behind a constant do there."""
        found = self.states.get(value)
        if type(found) is Known:
            for p in found.parameters:
                self.uses[p].append((role, op.index))

    def behind(self, value: int) -> int | None:
        """The one parameter behind a constant."""
        found = self.states.get(value)
        return found.parameters[0] if type(found) is Known and len(found.parameters) == 1 else None

    def norm(
        self, op: Op, kind: str, data: int, out: int, second: float | None, given: Sequence[int | None] = (None, None)
    ) -> None:
        """A normalisation; `given` are the values of its weight and bias."""
        parameters = [self.behind(i) if i is not None else None for i in given]
        draft = NormDraft(op.index, kind, parameters[0], parameters[1], given[0], given[1], data, out, second)
        self.norms.append(draft)
        self.start(out, "norm", kind, op.index, op.inputs, norm=len(self.norms) - 1)

    def write(self, op: Op) -> None:
        """A write that others see: what shares the memory holds something else from now on."""
        reach = made = 0
        flows = False
        for i in (*op.inputs, *op.outputs):
            found = self.states.get(i)
            if type(found) is Signal:
                flows, reach, made = True, reach | found.reach, made | found.made
        if not flows:
            return
        for i in op.mutates:
            room = self.graph.values[i].room
            if room is not None:
                old = self._dirty.get(room, (0, 0, 0))
                self._dirty[room] = (op.index, reach | old[1], made | old[2])
