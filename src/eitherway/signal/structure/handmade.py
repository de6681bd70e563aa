"""What users write themselves: norms out of means and roots, element-wise functions as their own autograd Functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from eitherway.graph import Graph, Op
from eitherway.graph.chance import chance_kept
from eitherway.graph.graph import substitute
from eitherway.signal.structure.names import ADDS, MOVES, PRODUCTS, REDUCTIONS, SPLITS, argument, plain, pointwise

if TYPE_CHECKING:
    from eitherway.signal.structure.flow import Flow

_FAR = 24
"""Operations that are looked at on the way back from a factor to the reduction it is made of."""
_LARGEST = 1 << 18


def normalisation(op: Op, flow: Flow, signals: tuple[int, ...]) -> tuple[str, int, float | None] | None:
    """A signal divided by a root of its own mean of squares (or variance, or length).

    Returns:
        Kind, the value that is normalised, and the mean of squares of the answer (None: measure it); None for all else.
    """
    one, other = signals if len(signals) == 2 else (op.inputs[0], op.inputs[0])
    pairs = [(one, other)] if plain(op) not in ("mul", "multiply") else [(one, other), (other, one)]
    for data, factor in pairs:
        found = _behind_root(flow, data, factor)
        if found is not None:
            return found
    return None


def _behind_root(flow: Flow, data: int, factor: int) -> tuple[str, int, float | None] | None:
    graph = flow.graph
    origin, centred = _centred(flow, data)
    mine = _origins(flow, data) | _origins(flow, origin)
    rooted, scaled = False, False
    reductions: list[Op] = []
    wanted, seen = [factor], 0
    while wanted:
        value = wanted.pop()
        producer = graph.values[value].producer
        if producer is None or flow.known(value):
            continue
        seen += 1
        op = graph.ops[producer]
        name = plain(op)
        if seen > _FAR:
            return None
        if name in REDUCTIONS:
            if not _origins(flow, op.inputs[0]) <= mine:
                return None
            reductions.append(op)
            rooted |= name in ("std", "std_mean", "linalg_vector_norm", "norm", "linalg_norm")
            continue
        if not (pointwise(op, name) or name in MOVES):
            return None
        rooted |= name in ("sqrt", "rsqrt") or (name == "pow" and argument(op, 1, "exponent") in (0.5, -0.5))
        scaled |= name in PRODUCTS
        wanted += op.inputs[:1] if name in MOVES else [i for i in op.inputs if not flow.known(i)]
    if not rooted or len(reductions) != 1:
        return None
    reduction = reductions[0]
    name, source = plain(reduction), graph.values[reduction.inputs[0]]
    count = source.numel / max(1, graph.values[reduction.outputs[0]].numel)
    along = argument(reduction, 2 if "norm" in name else 1, "dim", None)
    if count <= 1:
        return None
    first = along in (0, [0]) or (isinstance(along, (list, tuple)) and 0 in along)
    if first:
        kind = "batch"
    elif name in ("sum", "linalg_vector_norm", "norm", "linalg_norm"):
        kind = "l2"
    else:
        kind = "layer" if centred or name in ("var", "std", "var_mean", "std_mean") else "rms"
    second = None if scaled else 1 / count if kind == "l2" else 1.0
    return kind, origin, second


def _centred(flow: Flow, value: int) -> tuple[int, bool]:
    """x of x - mean(x); else the value itself."""
    graph = flow.graph
    producer = graph.values[value].producer
    while producer is not None and plain(graph.ops[producer]) in MOVES:
        value = graph.ops[producer].inputs[0]
        producer = graph.values[value].producer
    op = graph.ops[producer] if producer is not None else None
    if op is None or plain(op) not in ADDS or len(op.inputs) != 2:
        return value, False
    one, other = op.inputs
    maker = graph.values[other].producer
    while maker is not None and plain(graph.ops[maker]) in MOVES | SPLITS:
        other = graph.ops[maker].inputs[0]
        maker = graph.values[other].producer
    mean = graph.ops[maker] if maker is not None else None
    if mean is not None and plain(mean) in ("mean", "var_mean", "std_mean"):
        if set(_atoms(flow, mean.inputs[0])) == set(_atoms(flow, one)):
            return one, True
    return value, False


def _atoms(flow: Flow, value: int) -> tuple[int, ...]:
    found = flow.signal(value)
    return found.atoms if found is not None else ()


def _origins(flow: Flow, value: int) -> set[int]:
    """The sources of a value; of x - mean(x), worked out anew each time it is needed, those of x."""
    found: set[int] = set()
    for index in _atoms(flow, value):
        atom = flow.atoms[index]
        origin, centred = _centred(flow, atom.value) if atom.kind == "sum" else (value, False)
        found.update(_atoms(flow, origin) if centred else (index,))
    return found


def elementwise(op: Op, graph: Graph, signals: tuple[int, ...]) -> bool:
    """Whether a hand-written Function, or an operation of somebody's own library, acts on each element by itself.

    Tried, not believed: on other numbers, shuffled numbers, and numbers half of which are others.
    """
    namespace = getattr(op.target, "namespace", "")
    if len(signals) != 1 or len(op.outputs) != 1 or (not op.custom and namespace == "aten"):
        return False
    given, made = graph.values[signals[0]], graph.values[op.outputs[0]]
    if given.shape != made.shape or op.random or op.mutates or not 1 < given.numel <= _LARGEST:
        return False
    if not given.dtype.is_floating_point or any(graph.values[i].tensor is None for i in op.inputs if i != signals[0]):
        return False
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(given.shape, generator=draw).to(given.device, given.dtype)
    two = torch.randn(given.shape, generator=draw).to(given.device, given.dtype)
    order = torch.randperm(given.numel, generator=draw).to(given.device)
    half = (torch.arange(given.numel) % 2 == 0).reshape(given.shape).to(given.device)

    def run(x: torch.Tensor) -> torch.Tensor:
        def content(i: int):
            return x if i == signals[0] else graph.values[i].tensor

        return op.target(*substitute(list(op.args), content), **substitute(op.kwargs, content))

    try:
        with torch.no_grad(), chance_kept():
            plainly, mixed = run(one.clone()), run(torch.where(half, one, two))
            shuffled = run(one.flatten()[order].reshape(given.shape))
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
        return False
    if plainly.shape != given.shape:
        return False
    kept = torch.equal(plainly[half], mixed[half])
    return kept and torch.equal(plainly.flatten()[order], shuffled.flatten())
