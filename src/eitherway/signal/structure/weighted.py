"""Reading one operation as a weighted sum: which operand is the weight, what its axes do, how many products it sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eitherway.graph import Graph, Op, Ref
from eitherway.signal.structure.fans import convolution_coverage, product, transposed_coverage
from eitherway.signal.structure.names import CELLS, CONVOLUTIONS, RECURRENT, TRANSPOSED, argument, plain
from eitherway.signal.structure.parts import Weighted

IsKnown = Callable[[int], bool]
"""Whether a value carries no signal."""


@dataclass(frozen=True)
class Reading:
    """A weighted sum. Axes are those of the weight operand as the operation gets it."""

    kind: Weighted
    data: tuple[int, ...]
    weight: int
    bias: tuple[int, ...]
    out: tuple[int, ...]
    inner: tuple[int, ...]
    fan_in: float
    fan_out: float
    groups: int = 1
    taps: int = 1
    coverage: float = 1.0
    channels: int = -1
    """The axis of its answer along which the rows of the weight lie."""
    gates: tuple[str, ...] = ()
    """What equal parts of the rows do, in order."""


GATES = {
    4: ("input gate", "forget gate", "cell gate", "output gate"),
    3: ("reset gate", "update gate", "new gate"),
    1: ("hidden",),
}


def read(op: Op, graph: Graph, known: IsKnown) -> list[Reading]:
    """The weighted sums of one operation: none, one, or all those of a recurrent kernel."""
    name = plain(op)
    if name in CONVOLUTIONS or name in TRANSPOSED or name in ("convolution", "_convolution"):
        found = _convolution(op, graph, name)
    elif name in RECURRENT:
        return _recurrent(op, graph, name)
    elif name in CELLS:
        return _cell(op, graph, name)
    else:
        reader = _READERS.get(name)
        found = reader(op, graph, known) if reader is not None else None
    return [found] if found is not None else []


def _ref(given: Any) -> int | None:
    return given.index if type(given) is Ref else None


def _all(*given: Any) -> tuple[int, ...]:
    return tuple(g.index for g in given if type(g) is Ref)


def _linear(op: Op, graph: Graph, known: IsKnown) -> Reading | None:
    data, weight = _ref(op.args[0]), _ref(op.args[1])
    if data is None or weight is None:
        return None
    shape = graph.values[weight].shape
    out = (0,) if len(shape) == 2 else ()
    return Reading(
        "linear", (data,), weight, _all(argument(op, 2, "bias")), out, (len(shape) - 1,), shape[-1], product(shape, out)
    )


def _convolution(op: Op, graph: Graph, name: str) -> Reading | None:
    data, weight = _ref(op.args[0]), _ref(op.args[1])
    if data is None or weight is None:
        return None
    shape, sizes, outs = (graph.values[i].shape for i in (weight, data, op.outputs[0]))
    spatial = len(shape) - 2
    bias, stride = argument(op, 2, "bias"), _each(argument(op, 3, "stride", 1), spatial)
    padding: Any = argument(op, 4, "padding", 0)
    if name in ("convolution", "_convolution"):
        transposed = bool(op.args[6])
        dilation, groups = _each(op.args[5], spatial), int(op.args[8])
    elif name in TRANSPOSED:
        transposed = True
        groups, dilation = int(argument(op, 6, "groups", 1)), _each(argument(op, 7, "dilation", 1), spatial)  # type: ignore[arg-type]
    else:
        transposed = False
        dilation, groups = _each(argument(op, 5, "dilation", 1), spatial), int(argument(op, 6, "groups", 1))  # type: ignore[arg-type]
    kernel = shape[2:]
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel)]
        before = [t // 2 for t in total]
    else:
        before = _each(padding, spatial)
    taps = math.prod(kernel)
    if transposed:
        coverage = transposed_coverage(sizes[-spatial:], outs[-spatial:], kernel, stride, before, dilation)
        fan_in = shape[0] / groups * taps / math.prod(stride)
        return Reading(
            "conv_transpose", (data,), weight, _all(bias), (1,), (0,), fan_in, shape[1] * taps, groups, taps, coverage,
            -1 - spatial,
        )  # fmt: skip
    inside = list(sizes[-spatial:])
    zeros, inside = _zeros_before(graph, data, spatial, inside)
    coverage = convolution_coverage(
        inside, outs[-spatial:], kernel, stride, [b + z for b, z in zip(before, zeros)], dilation
    )
    return Reading(
        "conv", (data,), weight, _all(bias), (0,), (1,), shape[1] * taps, shape[0] / groups * taps, groups, taps,
        coverage, -1 - spatial,
    )  # fmt: skip


def _zeros_before(graph: Graph, data: int, spatial: int, inside: list[int]) -> tuple[list[int], list[int]]:
    """Zeros put around by an operation of its own just before: how many in front, and the sizes without them."""
    producer = graph.values[data].producer
    none = [0] * spatial
    if producer is None:
        return none, inside
    op = graph.ops[producer]
    if plain(op) not in ("pad", "constant_pad_nd") or argument(op, 2, "mode", "constant") not in ("constant", 0, 0.0):
        return none, inside
    value = argument(op, 3, "value") if plain(op) == "pad" else argument(op, 2, "value", 0)
    amounts: Any = op.args[1]
    if value not in (None, 0, 0.0) or len(amounts) > 2 * spatial:
        return none, inside
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)][::-1]
    pairs = [(0, 0)] * (spatial - len(pairs)) + pairs
    if any(low < 0 or high < 0 for low, high in pairs):
        return none, inside
    return [low for low, _ in pairs], [n - low - high for n, (low, high) in zip(inside, pairs)]


def _each(given: Any, spatial: int) -> list[int]:
    """One number for each spatial axis."""
    numbers = list(given) if isinstance(given, (list, tuple)) else [given]
    return [int(n) for n in (numbers * spatial if len(numbers) == 1 else numbers)]


def _bilinear(op: Op, graph: Graph, known: IsKnown) -> Reading | None:
    first, second, weight = (_ref(a) for a in op.args[:3])
    if first is None or second is None or weight is None:
        return None
    shape = graph.values[weight].shape
    bias = _all(argument(op, 3, "bias"))
    return Reading("bilinear", (first, second), weight, bias, (0,), (1, 2), shape[1] * shape[2], shape[0])


def _embedding(op: Op, graph: Graph, known: IsKnown) -> Reading | None:
    weight, ids = _ref(op.args[0]), _ref(op.args[1])
    if weight is None or ids is None:
        return None
    shape, count = graph.values[weight].shape, 1.0
    if plain(op) == "embedding_bag":
        bags = graph.values[op.outputs[0]].shape[0]
        each = graph.values[ids].numel / max(1, bags)
        mode = argument(op, 4, "mode", 0)
        count = each if mode == 0 else 1 / max(1.0, each) if mode == 1 else 1.0
    return Reading("embedding", (ids,), weight, (), (1,), (0,), count, shape[-1])


def _lookup(op: Op, graph: Graph, known: IsKnown) -> Reading | None:
    """`table[ids]`, with ids that come from the run's input."""
    table, places = _ref(op.args[0]), _all(*(op.args[1] if len(op.args) > 1 else ()))
    if table is None or not known(table) or not places or all(known(i) for i in places):
        return None
    shape = graph.values[table].shape
    return Reading("embedding", places[:1], table, (), (len(shape) - 1,), (0,), 1, shape[-1])


def _matmul(op: Op, graph: Graph, known: IsKnown) -> Reading | None:
    one, two = _ref(op.args[0]), _ref(op.args[1])
    return None if one is None or two is None else _times(graph, one, two, known, ())


def _addmm(op: Op, graph: Graph, known: IsKnown) -> Reading | None:
    added, one, two = (_ref(a) for a in op.args[:3])
    if added is None or one is None or two is None:
        return None
    return _times(graph, one, two, known, (added,) if known(added) else ())


def _times(graph: Graph, one: int, two: int, known: IsKnown, bias: tuple[int, ...]) -> Reading | None:
    """A product of matrices, one of them the weight; of two without signal it is the second."""
    if known(one) == known(two) and not known(one):
        return None
    weight, data, second = (two, one, True) if known(two) else (one, two, False)
    shape = graph.values[weight].shape
    rank = len(shape)
    if rank == 0:
        return None
    if rank == 1:
        out, inner, batch = (), (0,), ()
    else:
        inner = (rank - 2,) if second else (rank - 1,)
        out = (rank - 1,) if second else (rank - 2,)
        batch = tuple(a for a in range(rank - 2) if shape[a] > 1)
    channels = -1 if second or len(graph.values[data].shape) == 1 else -2
    return Reading(
        "linear", (data,), weight, bias, (*batch, *out), inner, product(shape, inner), product(shape, out),
        product(shape, batch), 1, 1.0, channels,
    )  # fmt: skip


def _tensordot(op: Op, graph: Graph, known: IsKnown) -> Reading | None:
    one, two = _ref(op.args[0]), _ref(op.args[1])
    if one is None or two is None or (known(one) == known(two) and not known(one)):
        return None
    weight, data, over = (two, one, op.args[3]) if known(two) else (one, two, op.args[2])
    shape = graph.values[weight].shape
    inner = tuple(a % len(shape) for a in over)
    out = tuple(a for a in range(len(shape)) if a not in inner)
    return Reading("linear", (data,), weight, (), out, inner, product(shape, inner), product(shape, out))


def _einsum(op: Op, graph: Graph, known: IsKnown) -> Reading | None:
    equation, operands = op.args[0], op.args[1]
    if not isinstance(equation, str) or any(type(o) is not Ref for o in operands):
        return None
    equation = equation.replace(" ", "").replace("...", "")
    given, arrow, answer = equation.partition("->")
    letters = given.split(",")
    if not arrow:
        answer = "".join(sorted(c for c in set(given) - {","} if given.count(c) == 1))
    values = [o.index for o in operands]
    weights = [i for i, v in enumerate(values) if known(v)]
    if len(values) < 2 or not weights or len(letters) != len(values):
        return None
    if len(weights) == len(values):
        weights = weights[-1:]
    if len(weights) > 1:
        return None
    at = weights[0]
    mine, shape = letters[at], graph.values[values[at]].shape
    others = {c for i, text in enumerate(letters) if i != at for c in text}
    if len(mine) != len(shape):
        return None
    inner = tuple(a for a, c in enumerate(mine) if c not in answer)
    batch = tuple(a for a, c in enumerate(mine) if c in answer and c in others)
    out = tuple(a for a, c in enumerate(mine) if c in answer and c not in others)
    if not inner:
        return None  # scales each element, sums nothing
    channels = answer.index(mine[out[0]]) - len(answer) if out else -1
    data = tuple(v for i, v in enumerate(values) if i != at)
    kind = "bilinear" if len(data) == 2 else "linear"
    return Reading(
        kind, data, values[at], (), (*batch, *out) if out else batch, inner, product(shape, inner),
        product(shape, out), product(shape, batch), 1, 1.0, channels,
    )  # fmt: skip


def _recurrent(op: Op, graph: Graph, name: str) -> list[Reading]:
    packed = getattr(op.target, "_overloadname", "") == "data"
    data = _ref(op.args[0])
    state = op.args[2 if packed else 1]
    weights = [w.index for w in op.args[3 if packed else 2]]
    rest = op.args[4 if packed else 3 :]
    biases, layers, both = bool(rest[0]), int(rest[1]), 2 if rest[4] else 1
    if data is None:
        return []
    before = _all(*state)[0] if isinstance(state, (list, tuple)) else _all(state)[0]
    each = len(weights) // max(1, layers * both)
    gates, found = GATES[RECURRENT[name]], []
    for at in range(layers * both):
        mine = weights[at * each : (at + 1) * each]
        source = data if at < both else op.outputs[0]
        found += _gated(graph, mine, (source, before), biases, gates)
    return found


def _cell(op: Op, graph: Graph, name: str) -> list[Reading]:
    data, state = _ref(op.args[0]), op.args[1]
    before = _all(*state)[0] if isinstance(state, (list, tuple)) else _ref(state)
    weights = _all(*op.args[2:])
    if data is None or before is None:
        return []
    return _gated(graph, list(weights), (data, before), len(weights) > 2, GATES[CELLS[name]])


def _gated(
    graph: Graph, weights: Sequence[int], data: tuple[int, int], biases: bool, gates: tuple[str, ...]
) -> list[Reading]:
    """The two weights of a recurrent layer, with a third where what it remembers is projected."""
    found = []
    for i in range(2):
        shape = graph.values[weights[i]].shape
        bias = (weights[2 + i],) if biases else ()
        found.append(
            Reading(
                "recurrent", (data[i],), weights[i], bias, (0,), (1,), shape[1], shape[0] // len(gates), gates=gates
            )
        )
    for extra in weights[4 if biases else 2 :]:
        shape = graph.values[extra].shape
        found.append(Reading("recurrent", (data[1],), extra, (), (0,), (1,), shape[1], shape[0]))
    return found


_READERS: dict[str, Callable[[Op, Graph, IsKnown], Reading | None]] = {
    "linear": _linear,
    "bilinear": _bilinear,
    "embedding": _embedding,
    "embedding_bag": _embedding,
    "index": _lookup,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "mv": _matmul,
    "addmm": _addmm,
    "addmv": _addmm,
    "baddbmm": _addmm,
    "tensordot": _tensordot,
    "einsum": _einsum,
}
