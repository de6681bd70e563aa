"""Element-wise operations: functions of one source, gates of several, adds of different things."""

from __future__ import annotations

from eitherway.graph import Op
from eitherway.signal.structure import handmade
from eitherway.signal.structure.atoms import Signal, Sum
from eitherway.signal.structure.constants import Known, wide_axes
from eitherway.signal.structure.flow import MASKED, Flow
from eitherway.signal.structure.names import ADDS, PRODUCTS

_MANY = 6
"""Sources of one element-wise function; beyond it is measured."""
_LONG = 200
"""Operations of one element-wise function; beyond it is measured, so that walks stay short."""


def element(flow: Flow, op: Op, name: str, signals: tuple[int, ...]) -> None:
    """An element-wise operation on one or several signals."""
    out = op.outputs[0]
    others = tuple(i for i in op.inputs if i not in signals)
    if len(signals) == 1:
        _alone(flow, op, name, signals[0], others)
        return
    states = [s for s in (flow.state(i) for i in signals) if type(s) is Signal]
    if name in PRODUCTS and len(signals) == 2:
        found = handmade.normalisation(op, flow, signals)
        if found is not None:
            kind, data, second = found
            flow.norm(op, kind, data, out, second)
            return
    for i in others:
        flow.use(i, "scale" if name in PRODUCTS else "shift" if name in ADDS else "other", op)
    atoms = tuple(dict.fromkeys(a for s in states for a in s.atoms))
    shapes = {tuple(flow.graph.values[i].shape) for i in signals}
    clash = len(atoms) < sum(len(s.atoms) for s in states) and (len({s.tag for s in states}) > 1 or len(shapes) > 1)
    agree = all(set(s.atoms) == set(states[0].atoms) for s in states) and not clash
    drawn = any(type(s) is Known and s.chance for s in (flow.states[i] for i in others))
    if name in ADDS and not agree:
        _add(flow, op, signals)
    elif clash or drawn or len(atoms) > _MANY or max(s.length for s in states) > _LONG:
        flow.measured(op)
    else:
        reach = made = 0
        for s in states:
            reach, made = reach | s.reach, made | s.made
        tag = states[0].tag if len({s.tag for s in states}) == 1 else ("mixed", out)
        flow.states[out] = Signal(atoms, reach, made, False, tag, 1 + max(s.length for s in states))


def _add(flow: Flow, op: Op, parts: tuple[int, ...]) -> None:
    """An add of different things is a source: residual streams, tokens and positions."""
    out = op.outputs[0]
    flow.start(out, "sum", "a sum", op.index, op.inputs, parts=parts)
    if len(parts) == 2:
        flow.sums.append(Sum(op.index, parts[0], parts[1], out))


def _alone(flow: Flow, op: Op, name: str, data: int, others: tuple[int, ...]) -> None:
    """An element-wise operation on one signal, perhaps with constants."""
    out, found = op.outputs[0], flow.state(data)
    assert type(found) is Signal
    constants = [(i, s) for i, s in ((i, flow.states[i]) for i in others) if type(s) is Known]
    drawn = {s.chance for _, s in constants} - {""}
    if drawn == {"mask"} and name in MASKED:
        flow.states[out] = Signal(found.atoms, found.reach, found.made, found.same, found.tag, found.length + 1)
        return
    if drawn or found.length > _LONG:
        flow.measured(op)
        return
    if flow.graph.values[out].numel != flow.graph.values[data].numel and any(
        wide_axes(flow.graph.values[i].shape) > 1 for i, _ in constants
    ):
        flow.measured(op)
        return
    learned = [i for i, s in constants if s.parameters]
    if len(constants) == 1 and name in (*ADDS, *PRODUCTS):
        other = constants[0][0]
        if name in ADDS and wide_axes(flow.graph.values[other].shape) > 1:
            flow.use(other, "table", op)
            flow.start(out, "sum", "a sum with a table", op.index, op.inputs, parts=(data, other))
            return
        if learned and _taken_in(flow, op, name, data, other):
            return
    for i in learned:
        role = "scale" if name in PRODUCTS else "shift" if name in ADDS else "slope" if name == "prelu" else "other"
        flow.use(i, role, op)
    flow.states[out] = Signal(found.atoms, found.reach, found.made, False, found.tag, found.length + 1)


def _taken_in(flow: Flow, op: Op, name: str, data: int, other: int) -> bool:
    """`+ b` after a weighted sum is its bias, `* w + b` after a norm are its scale and shift."""
    found, out = flow.state(data), op.outputs[0]
    if type(found) is not Signal or not found.same or len(found.atoms) != 1 or name in ("rsub",):
        return False
    atom = flow.atoms[found.atoms[0]]
    if atom.base != atom.index or not _read_by_one(flow, data, atom.value):
        return False
    parameter = flow.behind(other)
    if parameter is None:
        return False
    if atom.norm is not None and flow.norms[atom.norm].kind != "running":
        norm = flow.norms[atom.norm]
        if name in ("mul", "multiply") and norm.scale is None and norm.shift is None:
            norm.scale, norm.weight = other, parameter
            flow.use(other, "norm weight", op)
        elif name == "add" and norm.shift is None:
            norm.shift, norm.bias = other, parameter
            flow.use(other, "norm bias", op)
        else:
            return False
        norm.output = out
    elif atom.producer is not None and name == "add" and atom.kind == "producer":
        draft = flow.drafts[atom.producer]
        width = flow.graph.values[other].numel
        rows = flow.graph.values[draft.output].shape[draft.reading.channels]
        if draft.bias is not None or draft.reading.bias or width != rows:
            return False
        draft.bias, draft.output = parameter, out
        flow.use(other, "bias", op)
    else:
        return False
    flow.stops[out] = (atom.index,)
    atom.value = out
    flow.states[out] = Signal((atom.index,), atom.reach, atom.made, True, found.tag)
    return True


def _read_by_one(flow: Flow, value: int, start: int) -> bool:
    """Whether from a source to a value of it, moves alone, each value has one reader."""
    graph = flow.graph
    while True:
        if len(graph.users[value]) != 1 or value in graph.outputs:
            return False
        if value == start:
            return True
        producer = graph.values[value].producer
        if producer is None:
            return False
        value = graph.ops[producer].inputs[0]
