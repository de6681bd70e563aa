"""One pass along a run, operation by operation."""

from __future__ import annotations

from eitherway.graph import Graph, Op
from eitherway.signal.structure import handmade
from eitherway.signal.structure.atoms import Draft, Signal
from eitherway.signal.structure.constants import Known, chance, writers
from eitherway.signal.structure.elements import element
from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.names import JOINS, MOVES, NORMS, SHAPE_ONLY, SPLITS, TURNS, argument, plain, pointwise
from eitherway.signal.structure.parts import SourceKind
from eitherway.signal.structure.weighted import Reading, read
from eitherway.signal.structure.weightlike import tables, weightlike


def along(graph: Graph) -> Flow:
    """What each value of a run is made of."""
    flow = Flow(graph, weights=weightlike(graph), writers=writers(graph))
    learned = tables(graph, flow.weights)
    for value in graph.values:
        if value.producer is not None:
            continue
        if value.kind == "input":
            flow.start(value.index, "input", value.name, -1)
        elif value.index in learned:
            flow.start(value.index, "measured", "a table", -1)
            flow.uses[value.index].append(("table", graph.users[value.index][0]))
        else:
            own = (value.index,) if value.kind == "parameter" else ()
            flow.states[value.index] = Known(own, root=value.index)
    for op in graph.ops:
        _step(flow, op)
    return flow


def _step(flow: Flow, op: Op) -> None:
    if not op.outputs:
        return
    name = plain(op)
    if name in SHAPE_ONLY:
        for out in op.outputs:
            flow.states[out] = Known(chance=chance(op), root=out)
        return
    states = [flow.state(i) for i in op.inputs]
    signals = tuple(dict.fromkeys(i for i, s in zip(op.inputs, states) if type(s) is Signal))
    readings = []
    if signals or (op.outputs[0] not in flow.weights and any(type(s) is Known and s.parameters for s in states)):
        readings = [r for r in read(op, flow.graph, flow.known) if _weighs(flow, r)]
    if readings:
        _produce(flow, op, readings)
    elif not signals:
        _constant(flow, op, name)
    elif name == "scaled_dot_product_attention":
        flow.attentions.append(op)
        for i in op.inputs:
            flow.use(i, "table", op)
        flow.measured(op, "attention")
    elif name in NORMS:
        _normalise(flow, op, name)
    elif name in JOINS:
        _join(flow, op, name)
    elif name in SPLITS and type(states[0]) is Signal:
        _split(flow, op)
    elif name in MOVES and type(states[0]) is Signal and not _rounds(flow, op):
        _move(flow, op, name)
    elif name == "glu":
        _glu(flow, op)
    elif len(op.outputs) == 1 and (pointwise(op, name) or handmade.elementwise(op, flow.graph, signals)):
        element(flow, op, name, signals)
    else:
        if name in ("softmax", "_softmax"):
            flow.softmaxes.append(op)
        flow.measured(op, _described(op, name))
    if op.mutates and op.functional is None:
        flow.write(op)


def _weighs(flow: Flow, reading: Reading) -> bool:
    """Whether what stands at the weight's place is a weight: made of parameters, and of no signal."""
    found = flow.states.get(reading.weight)
    return type(found) is Known and bool(found.parameters)


def _constant(flow: Flow, op: Op, name: str) -> None:
    behind = [s for s in (flow.states[i] for i in op.inputs) if type(s) is Known]
    parameters = tuple(dict.fromkeys(p for s in behind for p in s.parameters))
    drawn = chance(op, behind)
    moved = (name in MOVES or name in SPLITS) and len(behind) == 1
    for out in op.outputs:
        flow.states[out] = Known(parameters, drawn, behind[0].root if moved else out)


def _produce(flow: Flow, op: Op, readings: list[Reading]) -> None:
    recurrent = readings[0].kind == "recurrent"
    first = len(flow.drafts)
    for r in readings:
        found = flow.states[r.weight]
        assert type(found) is Known
        bias = flow.behind(r.bias[0]) if r.bias else None
        flow.drafts.append(Draft(op.index, r, op.outputs[0], None, bias, found.parameters))
        flow.use(r.weight, "weight", op)
        for i in r.bias:
            flow.use(i, "bias", op)
    producers = tuple(range(first, len(flow.drafts)))
    inputs = tuple(i for r in readings for i in r.data)
    for i in inputs:
        if type(flow.state(i)) is Known:
            _table(flow, i, op)
    if recurrent:
        for out in op.outputs:
            flow.start(out, "measured", plain(op), op.index, (*inputs, *op.inputs), producers=producers)
        return
    taken = {*inputs, readings[0].weight, *readings[0].bias}
    added = tuple(i for i in op.inputs if i not in taken and not flow.known(i))
    if added:  # addmm of a signal: a weighted sum and something else in one
        flow.start(op.outputs[0], "sum", "a sum", op.index, op.inputs, producers=producers, parts=added)
        return
    kind: SourceKind = "embedding" if readings[0].kind == "embedding" else "producer"
    atom = flow.start(op.outputs[0], kind, plain(op), op.index, inputs, producers=producers, producer=first)
    flow.drafts[first].atom = atom.index
    for out in op.outputs[1:]:
        flow.start(out, "measured", plain(op), op.index, inputs, producers=producers)


def _table(flow: Flow, value: int, op: Op) -> None:
    """A constant that is read as data: learned queries, a grid of coordinates."""
    flow.use(value, "table", op)
    found = flow.states[value]
    learned = type(found) is Known and bool(found.parameters)
    flow.start(value, "measured", "a table" if learned else "a constant", -1)


def _move(flow: Flow, op: Op, name: str) -> None:
    found = flow.state(op.inputs[0])
    assert type(found) is Signal
    tag = found.tag
    if name in TURNS and name not in ("unsqueeze", "contiguous"):
        tag = (*tag, name, str(op.args[1:]))
    for out in op.outputs:
        flow.states[out] = Signal(found.atoms, found.reach, found.made, found.same, tag, found.length + 1)


def _rounds(flow: Flow, op: Op) -> bool:
    """Whether a cast takes away what stands behind the point."""
    before, *after = (flow.graph.values[i].dtype for i in (op.inputs[0], *op.outputs))
    return before.is_floating_point and not all(d.is_floating_point or d.is_complex for d in after)


def _split(flow: Flow, op: Op) -> None:
    found = flow.state(op.inputs[0])
    assert type(found) is Signal
    whole = flow.graph.values[op.inputs[0]].shape
    others = any(type(flow.state(i)) is Signal for i in op.inputs[1:])
    if others:
        flow.measured(op)
        return
    flow.splits.add(op.index)
    for out in op.outputs:
        here = flow.graph.values[out]
        if here.shape == whole and plain(op) not in ("index", "index_select"):
            flow.states[out] = found
        elif found.same and len(found.atoms) == 1:
            flow.piece(out, flow.atoms[found.atoms[0]], op.index)
        else:
            tag = (*found.tag, "cut", here.room, here.offset, tuple(here.shape), here.stride)
            flow.states[out] = Signal(found.atoms, found.reach, found.made, False, tag, found.length + 1)


def _glu(flow: Flow, op: Op) -> None:
    """a * sigmoid(b) of the halves of one value."""
    found = flow.state(op.inputs[0])
    assert type(found) is Signal
    if not (found.same and len(found.atoms) == 1):
        flow.measured(op)
        return
    base = flow.atoms[found.atoms[0]]
    halves = [flow.part(op.inputs[0], base, op.index) for _ in range(2)]
    flow.splits.add(op.index)
    reach = halves[0].reach | halves[1].reach
    flow.states[op.outputs[0]] = Signal((halves[0].index, halves[1].index), reach, base.made, False, ("glu",), 1)


def _join(flow: Flow, op: Op, name: str) -> None:
    for i in op.inputs:
        if flow.known(i):
            flow.use(i, "table", op)
    for out in op.outputs:
        flow.start(out, "concat", name, op.index, op.inputs, parts=tuple(op.inputs))


def _normalise(flow: Flow, op: Op, name: str) -> None:
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
            flow.use(index, f"norm {role}", op)
    kind, second = NORMS[name], 1.0
    if name in ("batch_norm", "instance_norm", "native_batch_norm") and not argument(op, 5, "training", True):
        kind, second = "running", None
    flow.norm(op, kind, data, op.outputs[0], second, given)
    for out in op.outputs[1:]:
        flow.start(out, "measured", name, op.index, op.inputs)


def _described(op: Op, name: str) -> str:
    """A reduction with its axes."""
    if name in ("mean", "sum", "var", "std", "amax", "max", "softmax") and len(op.args) > 1:
        return f"{name} over {op.args[1]}"
    return name
