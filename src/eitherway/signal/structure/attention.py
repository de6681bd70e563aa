"""Attentions, and which rows of the weights before them are queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from eitherway.graph import Op, Ref
from eitherway.graph.graph import substitute
from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.names import MOVES, SPLITS, plain, pointwise
from eitherway.signal.structure.parts import Attention, Block, Producer

_PRODUCTS = {"matmul", "bmm", "baddbmm", "einsum", "mul"}
_FAR = 40
"""Operations between a softmax and the products before and after it."""


def attentions(flow: Flow) -> list[Attention]:
    """Fused kernels, and softmax(q k^T) v written out."""
    found = []
    for op in flow.attentions:
        query, key, value = op.inputs[:3]
        found.append(Attention(op.index, query, key, value, op.outputs[0], None))
    for op in flow.softmaxes:
        before, after = _scores(flow, op), _weighting(flow, op)
        if before is not None and after is not None:
            (query, key), (value, output) = before, after
            found.append(Attention(op.index, query, key, value, output, op.outputs[0]))
            for index in flow.stops.get(output, ()):
                flow.atoms[index].text = "attention"
    return sorted(found, key=lambda a: a.op)


def _scores(flow: Flow, softmax: Op) -> tuple[int, int] | None:
    """The two signals whose products are made probabilities, back through scaling, masks and biases."""
    graph, wanted, seen = flow.graph, [softmax.inputs[0]], set()
    while wanted and len(seen) < _FAR:
        value = wanted.pop(0)
        producer = graph.values[value].producer
        if producer is None or producer in seen or flow.known(value):
            continue
        seen.add(producer)
        op = graph.ops[producer]
        pair = _pair(flow, op)
        if pair is not None:
            return pair
        if plain(op) in MOVES or plain(op) in SPLITS or pointwise(op, plain(op)):
            wanted += op.inputs
    return None


def _weighting(flow: Flow, softmax: Op) -> tuple[int, int] | None:
    """What the probabilities weigh, and what comes out, forward through dropout and reshapes."""
    graph, wanted, seen = flow.graph, [softmax.outputs[0]], 0
    while wanted and seen < _FAR:
        value = wanted.pop(0)
        for user in graph.users[value]:
            seen += 1
            op = graph.ops[user]
            pair = _pair(flow, op)
            if pair is not None:
                return (pair[1] if pair[0] == value else pair[0]), op.outputs[0]
            if plain(op) in MOVES or plain(op) in SPLITS or (pointwise(op, plain(op)) and op.outputs):
                wanted += op.outputs
    return None


def _pair(flow: Flow, op: Op) -> tuple[int, int] | None:
    """The two signals of a product of matrices."""
    if plain(op) not in _PRODUCTS or plain(op) == "mul":
        return None
    signals = [i for i in op.inputs if not flow.known(i)]
    return (signals[-2], signals[-1]) if len(signals) >= 2 else None


def with_blocks(flow: Flow, producers: Sequence[Producer], found: Sequence[Attention]) -> list[Producer]:
    """The producers whose rows part ways, or reach an attention, with what their rows do."""
    marks: dict[int, set[str]] = {}
    for attention in found:
        for role in ("query", "key", "value"):
            for value in _back(flow, getattr(attention, role)):
                marks.setdefault(value, set()).add(role)
    changed = list(producers)
    for i, producer in enumerate(producers):
        if producer.kind in ("linear", "conv", "bilinear") and producer.out_axes:
            blocks = _blocks(flow, producer, marks)
            if blocks:
                changed[i] = replace(producer, blocks=blocks)
    return changed


def _back(flow: Flow, value: int) -> Iterator[int]:
    """Values behind one of an attention's operands, back to weighted sums and the residual stream."""
    graph, wanted, seen = flow.graph, [value], set()
    outputs = {i for op in flow.attentions for i in op.outputs[:1]} if len(flow.attentions) < 2 else set()
    while wanted:
        i = wanted.pop()
        if i in seen or flow.known(i):
            continue
        seen.add(i)
        yield i
        atoms = flow.stops.get(i)
        if atoms is not None:
            atom = flow.atoms[atoms[0]]
            if atom.base == atom.index and (atom.kind in ("producer", "embedding", "input") or i in outputs):
                continue
            producer = graph.values[i].producer
            op = graph.ops[producer] if producer is not None else None
            if op is None or _apart(flow, atom.kind, op):
                continue
        producer = graph.values[i].producer
        if producer is not None:
            wanted += graph.ops[producer].inputs


def _apart(flow: Flow, kind: str, op: Op) -> bool:
    """Whether what an operation reads is somebody else's affair: sums of branches, other attentions, pooling."""
    if kind == "sum":
        return not any(flow.known(i) for i in op.inputs) and not _of_one_producer(flow, op)
    return kind == "measured" and not (plain(op) in MOVES or plain(op) in SPLITS or pointwise(op, plain(op)))


def _of_one_producer(flow: Flow, op: Op) -> bool:
    """A rotation of queries adds two turned copies of them: one producer behind both."""
    made = set()
    for i in op.inputs:
        found = flow.signal(i)
        if found is not None:
            made.add(found.made)
    return len(made) == 1


def _blocks(flow: Flow, producer: Producer, marks: dict[int, set[str]]) -> tuple[Block, ...]:
    """The rows of a producer by what they reach; () where nothing parts them and no attention follows."""
    leaves, cut = _leaves(flow, producer.output)
    roles = [(leaf, _role(leaf, marks)) for leaf in leaves]
    whole = producer.blocks[0].rows
    if not cut:
        role = next((role for _, role in roles if role), "")
        return tuple(Block(role, block.rows) for block in producer.blocks) if role else ()
    if whole.step is not None or len(producer.blocks) != 1:
        return ()
    count = whole.stop - whole.start
    owner: list[str | None] = [None] * count
    part: list[int] = [-1] * count
    for number, (leaf, role) in enumerate(roles):
        rows = _rows(flow, producer, leaf, count)
        if rows is None:
            return ()
        if len(rows) == count and not role:
            continue  # read as a whole as well
        for row in rows:
            if owner[row] is not None and owner[row] != role:
                owner[row] = "" if owner[row] and role else owner[row] or role
            else:
                owner[row], part[row] = role, number
    found: list[Block] = []
    start = 0
    for row in range(1, count + 1):
        if row == count or owner[row] != owner[start] or (not owner[row] and part[row] != part[start]):
            found.append(Block(owner[start] or "", slice(whole.start + start, whole.start + row)))
            start = row
    if len(found) < 2 and not found[0].role:
        return ()
    return tuple(found)


def _leaves(flow: Flow, output: int) -> tuple[list[int], bool]:
    """The values that are moves of an output and read by something that is none; whether any move cuts."""
    graph, wanted, found, cut = flow.graph, [output], [], False
    while wanted:
        value = wanted.pop(0)
        moving = []
        for user in graph.users[value]:
            op = graph.ops[user]
            if _carried(flow, op, value):
                moving += op.outputs
                cut |= op.index in flow.splits
            elif value not in found:
                found.append(value)
        wanted += moving
    return found, cut


def _carried(flow: Flow, op: Op, value: int) -> bool:
    """Whether an operation only moves a value, or adds another of its shape to it, as recurrent cells do."""
    if (
        plain(op) == "add"
        and len(op.outputs) == 1
        and op.outputs[0] in flow.stops
        and not any(map(flow.known, op.inputs))
    ):
        both = [flow.signal(i) for i in op.inputs]
        atoms = [flow.atoms[s.atoms[0]].kind for s in both if s is not None and s.same]
        return atoms == ["producer", "producer"]
    return op.inputs[0] == value and flow.moves(op) and plain(op) not in ("index", "view_as_complex")


def _role(leaf: int, marks: dict[int, set[str]]) -> str:
    """What a value is to the attentions that it reaches; "" for none, or for several things at once."""
    mine = marks.get(leaf, set())
    return next(iter(mine)) if len(mine) == 1 else ""


def _rows(flow: Flow, producer: Producer, leaf: int, count: int) -> list[int] | None:
    """The rows of a producer, counted from its first, that a move of its output holds."""
    graph, ops, value = flow.graph, [], leaf
    while value != producer.output:
        maker = graph.values[value].producer
        if maker is None:
            return None
        op = graph.ops[maker]
        ops.append((op, value))
        value = next((i for i in op.inputs if _behind(flow, i, producer)), op.inputs[0])
    shape = graph.values[producer.output].shape
    axis = flow.drafts[producer.index].reading.channels % max(1, len(shape))
    if shape[axis] != count:
        return None
    places = torch.arange(count).reshape([-1 if a == axis else 1 for a in range(len(shape))]).expand(shape)
    try:
        for op, out in reversed(ops):
            places = _moved(flow, op, places, op.outputs.index(out))
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None
    for a in range(places.dim()):
        if places.stride(a) == 0:
            places = places.narrow(a, 0, min(1, places.shape[a]))
    return torch.unique(places).tolist()


def _behind(flow: Flow, value: int, producer: Producer) -> bool:
    state = flow.signal(value)
    return state is not None and bool(state.made >> producer.index & 1)


_STILL = {
    "contiguous",
    "clone",
    "to",
    "_to_copy",
    "type_as",
    "alias",
    "detach",
    "dropout",
    "feature_dropout",
    "lift_fresh",
}


def _moved(flow: Flow, op: Op, places: Tensor, which: int) -> Tensor:
    """Places after a move of the run."""
    name = plain(op)
    if name in _STILL or (name not in MOVES and name not in SPLITS):
        return places

    def operand(i: int) -> Tensor:
        if i == op.inputs[0]:
            return places
        content = flow.content(i)
        if content is None:
            raise RuntimeError("a place that is not known")
        return content

    args, kwargs = substitute(list(op.args), operand), substitute(op.kwargs, operand)
    if name in ("view", "_unsafe_view") and type(op.args[0]) is Ref:
        answer = places.reshape(args[1])
    else:
        answer = op.target(*args, **kwargs)
    return answer if isinstance(answer, Tensor) else answer[which]
