"""Residual adds: one side of a sum was computed, through producers, from what the other side is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from eitherway.graph import Op
from eitherway.signal.structure.atoms import Atom, Sum
from eitherway.signal.structure.between import operations
from eitherway.signal.structure.constants import Known
from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.names import CELLS, PRODUCTS, PRODUCTS_OF_MATRICES, RECURRENT, plain
from eitherway.signal.structure.parts import Producer, Residual

_BRANCHES = 4
"""Branches that may read one point of a stream."""
_KERNELS = {*CELLS, *RECURRENT}


def bits(number: int) -> list[int]:
    """The places of the ones in a number, lowest first.

    >>> bits(0b1101)
    [0, 2, 3]
    """
    found = []
    while number:
        low = number & -number
        found.append(low.bit_length() - 1)
        number ^= low
    return found


def residuals(flow: Flow, producers: Sequence[Producer], names: Mapping[int, str]) -> list[Residual]:
    """All residual adds of the run, in order.

    Args:
        names: of the parameters' values.
    """
    found: list[Residual] = []
    stream_of: dict[int, int] = {}
    starts: dict[int, Atom] = {}
    for add in flow.sums:
        injected = _injected(flow, add, stream_of)
        if injected is not None:
            stream_of[add.output] = injected
            continue
        made = _read(flow, add, producers, names, starts)
        if made is None:
            continue
        start = _earlier(flow, made.stream, stream_of)
        before = flow.single(made.stream)
        if before is not None:
            starts[made.output] = flow.base(before)
        stream_of[made.output] = len(found) if start is None else start
        found.append(replace(made, stream_id=stream_of[made.output]))
    depth = Counter(r.stream_id for r in found)
    return [replace(r, depth=depth[r.stream_id]) for r in found]


def _injected(flow: Flow, add: Sum, stream_of: Mapping[int, int]) -> int | None:
    """The stream that goes on where an earlier value (the embedding, the input) is added to it once more."""
    for stream, other in ((add.one, add.other), (add.other, add.one)):
        atom, beside = flow.single(stream), flow.single(other)
        state = flow.signal(stream)
        if atom is None or beside is None or state is None or not state.same:
            continue
        if atom.value in stream_of and beside.index != atom.index and atom.reach >> beside.base & 1:
            return stream_of[atom.value]
    return None


def _read(
    flow: Flow, add: Sum, producers: Sequence[Producer], names: Mapping[int, str], starts: Mapping[int, Atom]
) -> Residual | None:
    for stream, branch in ((add.one, add.other), (add.other, add.one)):
        start = flow.single(stream)
        state = flow.signal(branch)
        if start is None or state is None or not _whole(flow, add, stream):
            continue
        base: Atom | None = flow.base(start)
        for _ in range(
            _BRANCHES
        ):  # of branches beside each other the second reads what the stream was before the first
            if base is None:
                break
            if state.reach >> base.index & 1 and state.made & ~base.made:
                found = _told(flow, add, stream, branch, base, (), producers, names)
                if found.last:
                    return found
            base = starts.get(base.value)
    for stream, branch in ((add.one, add.other), (add.other, add.one)):
        found = _projected(flow, stream, branch, producers) if _whole(flow, add, stream) else None
        if found is not None:
            start, projection = found
            return _told(flow, add, stream, branch, start, projection, producers, names)
    return None


def _whole(flow: Flow, add: Sum, side: int) -> bool:
    """Whether a side of an add is as large as the sum: what is spread over others modulates, it is no stream."""
    return flow.graph.values[side].numel == flow.graph.values[add.output].numel


def _projected(
    flow: Flow, stream: int, branch: int, producers: Sequence[Producer]
) -> tuple[Atom, tuple[int, ...]] | None:
    """The common source of a shortcut of one producer and of a branch of several, with something between them."""
    atom = _before_norms(flow, stream)
    if atom is None or atom.producer is None:
        return None
    projection = producers[atom.producer]
    start = _before_norms(flow, projection.source, pooling=True)
    state = flow.signal(branch)
    if start is None or state is None or atom.kind != "producer" or not state.reach >> start.index & 1:
        return None
    new = [p for p in bits(state.made & ~start.made & ~atom.made) if producers[p].op > start.op]
    inside = [p for p in new if _depends(flow, producers[p], start)]
    if len(inside) < 2:
        return None
    last = flow.single(producers[inside[-1]].source)
    plain_source = flow.signal(producers[inside[-1]].source)
    if last is not None and last.kind == "producer" and plain_source is not None and plain_source.same:
        return None  # two linear maps in a row beside a third: a low-rank correction, no branch
    return start, (projection.index,)


def _before_norms(flow: Flow, value: int, *, pooling: bool = False) -> Atom | None:
    """The one source of a value, looking through norms (and pooling)."""
    for _ in range(4):
        atom = flow.single(value)
        if atom is None:
            return None
        if atom.norm is not None and atom.base == atom.index:
            value = flow.norms[atom.norm].source
        elif pooling and atom.kind == "measured" and len(atom.parts) == 1 and atom.base == atom.index:
            value = atom.parts[0]
        else:
            return atom
    return None


def _depends(flow: Flow, producer: Producer, start: Atom) -> bool:
    return any(
        state is not None and state.reach >> start.index & 1 for state in (flow.signal(i) for i in producer.sources)
    )


def _told(
    flow: Flow,
    add: Sum,
    stream: int,
    branch: int,
    start: Atom,
    projection: tuple[int, ...],
    producers: Sequence[Producer],
    names: Mapping[int, str],
) -> Residual:
    state, beside = flow.signal(branch), flow.signal(stream)
    assert state is not None and beside is not None
    new = bits(state.made & ~start.made & ~beside.made)
    inside = tuple(p for p in new if _depends(flow, producers[p], start) or producers[p].op > start.op)
    last, ending = _ending(flow, branch, start)
    through = tuple(p for p in last if _depends(flow, producers[p], start))
    norm = None
    if ending is not None:
        weight = flow.norms[ending].weight
        norm = names.get(weight, "") if weight is not None else ""
    return Residual(
        add.op, stream, branch, inside, through or tuple(last), norm, _scale(flow, branch, names), 0, 0, projection,
        add.output,
    )  # fmt: skip


def _ending(flow: Flow, branch: int, start: Atom) -> tuple[list[int], int | None]:
    """The producers that end a branch, and the norm that ends it after them.

    Of the factors of a product one is followed: a gate beside the branch (squeeze-and-excitation, a modulation) is no
    end of it.
    """
    found: list[int] = []
    first = flow.single(branch)
    norm = first.norm if first is not None else None
    wanted, seen = [branch], set()
    while wanted:
        value = wanted.pop()
        if value in seen:
            continue
        seen.add(value)
        state = flow.signal(value)
        if state is None or not state.reach >> start.index & 1:
            continue
        atoms = flow.stops.get(value)
        if atoms is None:
            wanted += _followed(flow, value, start)
            continue
        atom = flow.base(flow.atoms[atoms[0]])
        if atom.index == start.index:
            continue
        if atom.producer is not None:
            found.append(atom.producer)
        elif atom.norm is not None:
            wanted.append(flow.norms[atom.norm].source)
        elif atom.op >= 0:
            inside = [i for i, d in enumerate(flow.drafts) if d.op == atom.op] if atom.text in _KERNELS else []
            found += inside
            wanted += () if inside else _carried(flow, flow.graph.ops[atom.op])
    return sorted(set(found)), norm


def _carried(flow: Flow, op: Op) -> tuple[int, ...]:
    """What an operation hands on: of an attention or a mixture what is weighed, not the weights."""
    if plain(op) == "scaled_dot_product_attention":
        return op.inputs[2:3]
    if plain(op) not in PRODUCTS_OF_MATRICES:
        return op.inputs
    atoms = {i: flow.single(i) for i in op.inputs}
    weighed = tuple(i for i, atom in atoms.items() if atom is None or not atom.text.startswith("softmax"))
    return weighed or op.inputs


def _followed(flow: Flow, value: int, start: Atom) -> tuple[int, ...]:
    """What an element-wise operation reads; of a product the factor that depends on the stream and bends least."""
    producer = flow.graph.values[value].producer
    if producer is None:
        return ()
    op = flow.graph.ops[producer]
    signals = [i for i in dict.fromkeys(op.inputs) if flow.signal(i) is not None]
    if plain(op) not in PRODUCTS or len(signals) < 2:
        return tuple(signals)

    def bends(i: int) -> tuple[bool, int]:
        state = flow.signal(i)
        assert state is not None
        acting = [o for o in operations(flow, i) if not flow.moves(flow.graph.ops[o])]
        others = [o for o in acting if plain(flow.graph.ops[o]) not in PRODUCTS]
        return not state.reach >> start.index & 1, len(others)

    return (min(signals, key=bends),)


def _scale(flow: Flow, branch: int, names: Mapping[int, str]) -> str | None:
    """The parameter that multiplies a branch at its end."""
    for index in reversed(operations(flow, branch)):
        op = flow.graph.ops[index]
        if plain(op) not in PRODUCTS:
            continue
        for i in op.inputs:
            state = flow.states.get(i)
            if type(state) is Known and state.parameters:
                return names.get(state.parameters[0])
    return None


def _earlier(flow: Flow, stream: int, stream_of: Mapping[int, int]) -> int | None:
    """The stream that a value goes on with: the last residual add behind norms and functions."""
    value = stream
    for _ in range(8):
        atom = flow.single(value)
        if atom is None:
            return None
        base = flow.base(atom)
        if base.value in stream_of:
            return stream_of[base.value]
        if base.norm is None:
            return None
        value = flow.norms[base.norm].source
    return None
