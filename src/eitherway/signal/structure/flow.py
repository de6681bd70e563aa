"""One pass along a run: for each value what it is made of, in terms of the sources that functions start from.

A source (`Atom`) is what a weighted sum, a norm, an add of different things, an input or something unknown puts out. A
value between is an element-wise function of sources. Which sources and producers lie anywhere behind a value is kept as
bits of one integer, so that questions of descent cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from torch import Tensor

from eitherway.graph import Graph, Op
from eitherway.signal.structure import handmade
from eitherway.signal.structure.atoms import Atom, Draft, NormDraft, Signal, Sum
from eitherway.signal.structure.constants import Known, chance, evaluate, wide_axes, writers
from eitherway.signal.structure.names import (
    ADDS,
    JOINS,
    MOVES,
    NORMS,
    PRODUCTS,
    SHAPE_ONLY,
    SPLITS,
    TURNS,
    argument,
    plain,
    pointwise,
)
from eitherway.signal.structure.parts import SourceKind
from eitherway.signal.structure.weighted import Reading, read
from eitherway.signal.structure.weightlike import tables, weightlike

_MANY = 6
"""Sources of one element-wise function; beyond it is measured."""
_LONG = 200
"""Operations of one element-wise function; beyond it is measured, so that walks stay short."""
_MASKED = {*PRODUCTS, "where", "masked_fill"}
"""Operations by which a mask that was drawn drops parts of a signal."""


@dataclass(eq=False)
class Flow:
    """What the pass finds."""

    graph: Graph
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
    _weightlike: set[int] = field(default_factory=set)
    _writers: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def along(cls, graph: Graph) -> Flow:
        flow = cls(graph)
        flow._weightlike, flow._writers = weightlike(graph), writers(graph)
        learned = tables(graph, flow._weightlike)
        for value in graph.values:
            if value.producer is None:
                if value.kind == "input":
                    flow._start(value.index, "input", value.name, -1)
                elif value.index in learned:
                    flow._start(value.index, "measured", "a table", -1)
                    flow.uses[value.index].append(("table", graph.users[value.index][0]))
                else:
                    own = (value.index,) if value.kind == "parameter" else ()
                    flow.states[value.index] = Known(own, root=value.index)
        for op in graph.ops:
            flow._step(op)
        return flow

    # what readers ask --------------------------------------------------------------------------------------------

    def known(self, value: int) -> bool:
        return type(self.states.get(value)) is Known

    def signal(self, value: int) -> Signal | None:
        found = self.states.get(value)
        return found if type(found) is Signal else None

    def single(self, value: int) -> Atom | None:
        """The one source of a value."""
        found = self.signal(value)
        return self.atoms[found.atoms[0]] if found is not None and len(found.atoms) == 1 else None

    def base(self, atom: Atom) -> Atom:
        return self.atoms[atom.base]

    def moves(self, op: Op) -> bool:
        """Whether an operation on a signal only moves elements; a product with what was drawn is a dropout by hand."""
        name = plain(op)
        if name in MOVES or name in SPLITS:
            return True
        if name not in _MASKED:
            return False
        states = (self.states.get(i) for i in op.inputs)
        return any(type(s) is Known and s.chance == "mask" for s in states)

    def content(self, value: int) -> Tensor | None:
        """A constant's content with today's parameters."""
        return evaluate(self.graph, value, written=self._writers)

    # sources -----------------------------------------------------------------------------------------------------

    def _start(self, value: int, kind: SourceKind, text: str, op: int, inputs: tuple[int, ...] = (), **more) -> Atom:
        """A new source; what lies behind it is what lies behind the inputs."""
        reach = made = 0
        for i in inputs:
            found = self._state(i)
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

    def _piece(self, value: int, base: Atom, op: int) -> None:
        """A part of a source: the same part, cut out twice, is one."""
        root, here = self.atoms[base.base], self.graph.values[value]
        key = (
            (root.index, here.room, here.offset, tuple(here.shape), here.stride) if here.room is not None else (value,)
        )
        if key not in self._pieces:
            self._pieces[key] = self._part(value, base, op).index
        atom = self.atoms[self._pieces[key]]
        self.stops[value] = (atom.index,)
        self.states[value] = Signal((atom.index,), atom.reach, atom.made)

    def _part(self, value: int, base: Atom, op: int) -> Atom:
        """A new source that is a part of another."""
        root, index = self.atoms[base.base], len(self.atoms)
        reach = base.reach | 1 << index
        atom = Atom(index, value, root.kind, root.text, op, reach, base.made, root.index, root.producer, root.norm)
        self.atoms.append(atom)
        return atom

    def _measured(self, op: Op, text: str = "", parts: tuple[int, ...] = ()) -> None:
        signals = tuple(i for i in op.inputs if type(self._state(i)) is Signal)
        for i in op.inputs:
            self._use(i, "scale" if plain(op) in PRODUCTS else "shift" if plain(op) in ADDS else "other", op)
        for out in op.outputs:
            self._start(
                out, "measured", text or plain(op), op.index, op.inputs,
                parts=parts or (signals if len(signals) == 1 else ()),
            )  # fmt: skip

    def _state(self, value: int) -> Known | Signal:
        """What a value is now: after a write through a view it may hold something else."""
        found = self.states.get(value)
        if found is None:
            found = self.states[value] = Known(root=value)
        if self._dirty:
            here = self.graph.values[value]
            dirt = self._dirty.get(here.room) if here.room is not None else None
            if dirt is not None and (here.producer if here.producer is not None else -1) < dirt[0]:
                behind = found if type(found) is Signal else Signal((), 0, 0)
                atom = self._start(value, "measured", "written into", dirt[0])
                atom.reach |= behind.reach | dirt[1]
                atom.made |= behind.made | dirt[2]
                found = self.states[value] = Signal((atom.index,), atom.reach, atom.made)
                self._dirty = {k: v for k, v in self._dirty.items() if k != here.room}
        return found

    def _use(self, value: int, role: str, op: Op) -> None:
        found = self.states.get(value)
        if type(found) is Known:
            for p in found.parameters:
                self.uses[p].append((role, op.index))

    # one operation -----------------------------------------------------------------------------------------------

    def _step(self, op: Op) -> None:
        if not op.outputs:
            return
        name = plain(op)
        if name in SHAPE_ONLY:
            for out in op.outputs:
                self.states[out] = Known(chance=chance(op), root=out)
            return
        states = [self._state(i) for i in op.inputs]
        signals = tuple(dict.fromkeys(i for i, s in zip(op.inputs, states) if type(s) is Signal))
        readings = []
        if signals or (
            op.outputs[0] not in self._weightlike and any(type(s) is Known and s.parameters for s in states)
        ):
            readings = [r for r in read(op, self.graph, self.known) if self._weighs(r, signals)]
        if readings:
            self._produce(op, readings)
        elif not signals:
            self._constant(op, name)
        elif name == "scaled_dot_product_attention":
            self.attentions.append(op)
            self._measured(op, "attention")
        elif name in NORMS:
            self._normalise(op, name)
        elif name in JOINS:
            self._join(op, name)
        elif name in SPLITS and type(states[0]) is Signal:
            self._split(op)
        elif name in MOVES and type(states[0]) is Signal and not self._rounds(op):
            self._move(op, name)
        elif name == "glu":
            self._glu(op)
        elif len(op.outputs) == 1 and (pointwise(op, name) or handmade.elementwise(op, self.graph, signals)):
            self._element(op, name, signals)
        else:
            if name in ("softmax", "_softmax"):
                self.softmaxes.append(op)
            self._measured(op, _described(op, name))
        if op.mutates and op.functional is None:
            self._written(op)

    def _weighs(self, reading: Reading, signals: tuple[int, ...]) -> bool:
        """Whether what stands at the weight's place is a weight: made of parameters, and of no signal."""
        found = self.states.get(reading.weight)
        return type(found) is Known and bool(found.parameters)

    def _constant(self, op: Op, name: str) -> None:
        behind = [s for s in (self.states[i] for i in op.inputs) if type(s) is Known]
        parameters = tuple(dict.fromkeys(p for s in behind for p in s.parameters))
        drawn = chance(op, behind)
        moved = (name in MOVES or name in SPLITS) and len(behind) == 1
        for out in op.outputs:
            self.states[out] = Known(parameters, drawn, behind[0].root if moved else out)

    def _produce(self, op: Op, readings: list[Reading]) -> None:
        recurrent = readings[0].kind == "recurrent"
        first = len(self.drafts)
        for r in readings:
            found = self.states[r.weight]
            assert type(found) is Known
            bias = self._behind(r.bias[0]) if r.bias else None
            self.drafts.append(Draft(op.index, r, op.outputs[0], None, bias, found.parameters))
            self._use(r.weight, "weight", op)
            for i in r.bias:
                self._use(i, "bias", op)
        producers = tuple(range(first, len(self.drafts)))
        inputs = tuple(i for r in readings for i in r.data)
        for i in inputs:
            if type(self._state(i)) is Known:
                self._table(i, op)
        if recurrent:
            for out in op.outputs:
                self._start(out, "measured", plain(op), op.index, (*inputs, *op.inputs), producers=producers)
            return
        kind: SourceKind = "embedding" if readings[0].kind == "embedding" else "producer"
        atom = self._start(op.outputs[0], kind, plain(op), op.index, inputs, producers=producers, producer=first)
        self.drafts[first].atom = atom.index
        for out in op.outputs[1:]:
            self._start(out, "measured", plain(op), op.index, inputs, producers=producers)

    def _table(self, value: int, op: Op) -> None:
        """A constant that is read as data: learned queries, a grid of coordinates."""
        self._use(value, "table", op)
        found = self.states[value]
        learned = type(found) is Known and bool(found.parameters)
        self._start(value, "measured", "a table" if learned else "a constant", -1)

    def _behind(self, value: int) -> int | None:
        """The one parameter behind a constant."""
        found = self.states.get(value)
        return found.parameters[0] if type(found) is Known and len(found.parameters) == 1 else None

    def _move(self, op: Op, name: str) -> None:
        found = self._state(op.inputs[0])
        assert type(found) is Signal
        tag = found.tag
        if name in TURNS and name not in ("unsqueeze", "contiguous"):
            tag = (*tag, name, str(op.args[1:]))
        for out in op.outputs:
            self.states[out] = Signal(found.atoms, found.reach, found.made, found.same, tag, found.length + 1)

    def _rounds(self, op: Op) -> bool:
        """Whether a cast takes away what stands behind the point."""
        values = self.graph.values
        return values[op.inputs[0]].dtype.is_floating_point and not all(
            values[i].dtype.is_floating_point for i in op.outputs
        )

    def _split(self, op: Op) -> None:
        found = self._state(op.inputs[0])
        assert type(found) is Signal
        whole = self.graph.values[op.inputs[0]].shape
        others = any(type(self._state(i)) is Signal for i in op.inputs[1:])
        if others:
            self._measured(op)
            return
        self.splits.add(op.index)
        for out in op.outputs:
            here = self.graph.values[out]
            if here.shape == whole and plain(op) not in ("index", "index_select"):
                self.states[out] = found
            elif found.same and len(found.atoms) == 1:
                self._piece(out, self.atoms[found.atoms[0]], op.index)
            else:
                tag = (*found.tag, "cut", here.room, here.offset, tuple(here.shape), here.stride)
                self.states[out] = Signal(found.atoms, found.reach, found.made, False, tag, found.length + 1)

    def _glu(self, op: Op) -> None:
        """a * sigmoid(b) of the halves of one value."""
        found = self._state(op.inputs[0])
        assert type(found) is Signal
        if not (found.same and len(found.atoms) == 1):
            self._measured(op)
            return
        base = self.atoms[found.atoms[0]]
        halves = [self._part(op.inputs[0], base, op.index) for _ in range(2)]
        self.splits.add(op.index)
        reach = halves[0].reach | halves[1].reach
        self.states[op.outputs[0]] = Signal((halves[0].index, halves[1].index), reach, base.made, False, ("glu",), 1)

    def _join(self, op: Op, name: str) -> None:
        for i in op.inputs:
            if self.known(i):
                self._use(i, "table", op)
        for out in op.outputs:
            self._start(out, "concat", name, op.index, op.inputs, parts=tuple(op.inputs))

    def _normalise(self, op: Op, name: str) -> None:
        data = op.inputs[0]
        places = {"layer_norm": (2, 3), "rms_norm": (2, None), "group_norm": (2, 3)}.get(name, (1, 2))
        if name.startswith("native_layer") or name == "_fused_rms_norm":
            places = (2, 3)
        given = []
        for place, role in zip(places, ("weight", "bias")):
            ref = argument(op, place, role) if place is not None else None
            index = getattr(ref, "index", None)
            given.append(index)
            if index is not None:
                self._use(index, f"norm {role}", op)
        kind, second = NORMS[name], 1.0
        if name in ("batch_norm", "instance_norm", "native_batch_norm") and not op.args[5]:
            kind, second = "running", None
        parameters = [self._behind(i) if i is not None else None for i in given]
        self._norm(op, kind, data, op.outputs[0], second, given, parameters)
        for out in op.outputs[1:]:
            self._start(out, "measured", name, op.index, op.inputs)

    def _norm(self, op: Op, kind: str, data: int, out: int, second, given, parameters) -> None:
        draft = NormDraft(op.index, kind, parameters[0], parameters[1], given[0], given[1], data, out, second)
        self.norms.append(draft)
        self._start(out, "norm", kind, op.index, op.inputs, norm=len(self.norms) - 1)

    # element by element --------------------------------------------------------------------------------------------

    def _element(self, op: Op, name: str, signals: tuple[int, ...]) -> None:
        out = op.outputs[0]
        others = tuple(i for i in op.inputs if i not in signals)
        if len(signals) == 1:
            self._alone(op, name, signals[0], others)
            return
        states = [s for s in (self._state(i) for i in signals) if type(s) is Signal]
        if name in PRODUCTS and len(signals) == 2:
            found = handmade.normalisation(op, self, signals)
            if found is not None:
                kind, data, second = found
                self._norm(op, kind, data, out, second, (None, None), (None, None))
                return
        for i in others:
            self._use(i, "scale" if name in PRODUCTS else "shift" if name in ADDS else "other", op)
        atoms = tuple(dict.fromkeys(a for s in states for a in s.atoms))
        shapes = {tuple(self.graph.values[i].shape) for i in signals}
        clash = len(atoms) < sum(len(s.atoms) for s in states) and (len({s.tag for s in states}) > 1 or len(shapes) > 1)
        agree = all(set(s.atoms) == set(states[0].atoms) for s in states) and not clash
        drawn = any(type(s) is Known and s.chance for s in (self.states[i] for i in others))
        if name in ADDS and not agree:
            self._add(op, signals)
        elif clash or drawn or len(atoms) > _MANY or max(s.length for s in states) > _LONG:
            self._measured(op)
        else:
            reach = made = 0
            for s in states:
                reach, made = reach | s.reach, made | s.made
            tag = states[0].tag if len({s.tag for s in states}) == 1 else ("mixed", out)
            self.states[out] = Signal(atoms, reach, made, False, tag, 1 + max(s.length for s in states))

    def _add(self, op: Op, parts: tuple[int, ...]) -> None:
        out = op.outputs[0]
        self._start(out, "sum", "a sum", op.index, op.inputs, parts=parts)
        if len(parts) == 2:
            self.sums.append(Sum(op.index, parts[0], parts[1], out))

    def _alone(self, op: Op, name: str, data: int, others: tuple[int, ...]) -> None:
        """An element-wise operation on one signal, perhaps with constants."""
        out, found = op.outputs[0], self._state(data)
        assert type(found) is Signal
        constants = [(i, s) for i, s in ((i, self.states[i]) for i in others) if type(s) is Known]
        drawn = {s.chance for _, s in constants} - {""}
        if drawn == {"mask"} and name in _MASKED:
            self.states[out] = Signal(found.atoms, found.reach, found.made, found.same, found.tag, found.length + 1)
            return
        if drawn or found.length > _LONG:
            self._measured(op)
            return
        if self.graph.values[out].numel != self.graph.values[data].numel and any(
            wide_axes(self.graph.values[i].shape) > 1 for i, _ in constants
        ):
            self._measured(op)
            return
        learned = [i for i, s in constants if s.parameters]
        if len(constants) == 1 and name in (*ADDS, *PRODUCTS):
            other = constants[0][0]
            if name in ADDS and wide_axes(self.graph.values[other].shape) > 1:
                self._use(other, "table", op)
                self._start(out, "sum", "a sum with a table", op.index, op.inputs, parts=(data, other))
                return
            if learned and self._taken_in(op, name, data, other):
                return
        for i in learned:
            role = "scale" if name in PRODUCTS else "shift" if name in ADDS else "slope" if name == "prelu" else "other"
            self._use(i, role, op)
        self.states[out] = Signal(found.atoms, found.reach, found.made, False, found.tag, found.length + 1)

    def _taken_in(self, op: Op, name: str, data: int, other: int) -> bool:
        """`+ b` after a weighted sum is its bias, `* w + b` after a norm are its scale and shift."""
        found, out = self._state(data), op.outputs[0]
        if type(found) is not Signal or not found.same or len(found.atoms) != 1 or name in ("rsub",):
            return False
        atom = self.atoms[found.atoms[0]]
        if atom.base != atom.index or not self._read_by_one(data, atom.value):
            return False
        parameter = self._behind(other)
        if parameter is None:
            return False
        if atom.norm is not None and self.norms[atom.norm].kind != "running":
            norm = self.norms[atom.norm]
            if name in ("mul", "multiply") and norm.scale is None and norm.shift is None:
                norm.scale, norm.weight = other, parameter
                self._use(other, "norm weight", op)
            elif name == "add" and norm.shift is None:
                norm.shift, norm.bias = other, parameter
                self._use(other, "norm bias", op)
            else:
                return False
            norm.output = out
        elif atom.producer is not None and name == "add" and atom.kind == "producer":
            draft = self.drafts[atom.producer]
            width = self.graph.values[other].numel
            rows = self.graph.values[draft.output].shape[draft.reading.channels]
            if draft.bias is not None or draft.reading.bias or width != rows:
                return False
            draft.bias, draft.output = parameter, out
            self._use(other, "bias", op)
        else:
            return False
        self.stops[out] = (atom.index,)
        atom.value = out
        self.states[out] = Signal((atom.index,), atom.reach, atom.made, True, found.tag)
        return True

    def _read_by_one(self, value: int, start: int) -> bool:
        """Whether from a source to a value of it, moves alone, each value has one reader."""
        graph = self.graph
        while True:
            if len(graph.users[value]) != 1 or value in graph.outputs:
                return False
            if value == start:
                return True
            producer = graph.values[value].producer
            if producer is None:
                return False
            value = graph.ops[producer].inputs[0]

    def _written(self, op: Op) -> None:
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


def _described(op: Op, name: str) -> str:
    """A reduction with its axes."""
    if name in ("mean", "sum", "var", "std", "amax", "max", "softmax") and len(op.args) > 1:
        return f"{name} over {op.args[1]}"
    return name
