"""A captured run made right for other sizes: which dimensions of the inputs may change, and what follows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.graph.graph import Graph, Op, Ref

Place = tuple[int, int]
"""The number of an input and one of its axes."""
_LARGEST = 1 << 23
"""Elements of an input up to which four times a size is tried, too."""


@dataclass(frozen=True)
class Dimension:
    """A size of the inputs, and the places where it stands."""

    places: tuple[Place, ...]
    """Axes that change together, the first for all of them."""
    size: int
    """In the example."""
    step: int
    """Free sizes are size, size + step, size + 2 step...; 0 where the size is fixed."""
    low: int
    """The smallest size the run stays as it is for."""
    why: str = ""
    """Why it is fixed, or bounded."""

    @property
    def free(self) -> bool:
        return self.step > 0


@dataclass(frozen=True)
class Expression:
    """An integer of the run as (constant + sum of coefficient x product of sizes) / divisor, without remainder.

    >>> Expression(terms=((3, (0, 1)),), constant=4, divisor=2)([2, 5])
    17
    """

    terms: tuple[tuple[int, tuple[int, ...]], ...]
    """Coefficients and the dimensions whose sizes they multiply."""
    constant: int = 0
    divisor: int = 1

    def __call__(self, sizes: list[int]) -> int:
        total = self.constant + sum(c * math.prod(sizes[i] for i in over) for c, over in self.terms)
        return total // self.divisor


@dataclass
class Sizes:
    """What a graph is a function of besides its tensors: the sizes of its inputs."""

    dimensions: list[Dimension]
    expressions: dict[tuple[int, int], Expression]
    """(operation, leaf of its flattened arguments) -> the integer as it follows from the sizes."""
    generic: Graph
    """The same run with every free size moved away from the example's; the example's run where none is free."""
    moving: dict[int, frozenset[int]] = field(default_factory=dict)
    """The axes of each value that move with the free sizes; values without any are left out."""

    @property
    def free(self) -> list[Dimension]:
        return [dimension for dimension in self.dimensions if dimension.free]

    def depends(self, op: int) -> bool:
        """Whether an operation holds an integer that follows from the sizes."""
        return any(key[0] == op for key in self.expressions)


Moved = dict[tuple[int, int], int]


class _Differs(Exception):
    """Two runs are not the same but for integers; the text says where."""


def fixed_sizes(graph: Graph, why: str) -> Sizes:
    """The sizes of the example and no others."""
    places = [(i, a) for i, v in enumerate(graph.inputs) for a in range(len(graph.values[v].shape))]
    kept = [Dimension((p,), graph.values[graph.inputs[p[0]]].shape[p[1]], 0, 0, why) for p in places]
    return Sizes(kept, {}, graph)


def generalise(again: Callable[[list[Tensor]], Graph], graph: Graph) -> Sizes:
    """Captures a run again at other sizes, one dimension at a time, and finds what each of its integers follows.

    A dimension is free if the run is the same operation by operation at several other sizes (1, one less, one and two
    more, twice and four times as many), but for integers that are affine in the size. Sizes that only change
    together (two inputs of one batch) are one dimension. All else stays fixed, with the reason.

    Args:
        again: captures the same run on other tensors, given in the order of `graph.inputs`.
        graph: the run on the example.
    """
    example = [_tensor(graph, i) for i in graph.inputs]
    dimensions: list[Dimension] = []
    runs: list[dict[int, Moved]] = []
    shapes: list[dict[int, frozenset[int]]] = []
    known: set[Place] = set()
    for place in [(i, a) for i, t in enumerate(example) for a in range(t.dim())]:
        if place in known:
            continue
        found, moved, axes = _explore(again, graph, example, place, known)
        known |= set(found.places)
        dimensions.append(found)
        runs.append(moved)
        shapes.append(axes)
    while True:
        free = [i for i, dimension in enumerate(dimensions) if dimension.free]
        if not free:
            return Sizes(dimensions, {}, graph)
        try:
            sizes = _jointly(again, graph, example, dimensions, runs, free)
        except _Differs as differs:
            last = free[-1]
            dimensions[last] = _fixed(dimensions[last], f"together with other sizes {differs}")
            continue
        moving: dict[int, set[int]] = {}
        for i in free:
            for value, found in shapes[i].items():
                moving.setdefault(value, set()).update(found)
        sizes.moving = {value: frozenset(found) for value, found in moving.items()}
        return sizes


def resized(tensor: Tensor, axis: int, size: int) -> Tensor:
    """The tensor with its rows along an axis repeated, or cut off, to a number of them: values stay in their range."""
    return tensor.index_select(axis, torch.arange(size, device=tensor.device) % max(1, tensor.shape[axis]))


def _explore(
    again: Callable[[list[Tensor]], Graph], graph: Graph, example: list[Tensor], place: Place, known: set[Place]
) -> tuple[Dimension, dict[int, Moved], dict[int, frozenset[int]]]:
    """One dimension: alone, and with others of its size where alone fails."""
    size = example[place[0]].shape[place[1]]
    if size == 0:
        return Dimension((place,), size, 0, 0, "it is empty"), {}, {}
    reason = ""
    for places in _together(example, place, known):
        for step in dict.fromkeys((1, 2, 4, 8, 16, 32, size)):
            if step > 1 and size % step:
                continue
            try:
                return _probe(again, graph, example, places, size, step)
            except _Differs as differs:
                reason = reason or str(differs)
                if "model fail" not in str(differs):
                    break
    return Dimension((place,), size, 0, 0, reason), {}, {}


def _together(example: list[Tensor], place: Place, known: set[Place]) -> Iterator[tuple[Place, ...]]:
    """The place alone; the same axis of all inputs of that size; every axis of that size."""
    size = example[place[0]].shape[place[1]]
    alike = [
        (i, a) for i, t in enumerate(example) for a in range(t.dim()) if t.shape[a] == size and (i, a) not in known
    ]
    same = [p for p in alike if p[1] == place[1] and p != place]
    seen = []
    for others in ([], same, [p for p in alike if p != place]):
        places = (place, *others)
        if places not in seen:
            seen.append(places)
            yield places


def _probe(
    again: Callable[[list[Tensor]], Graph],
    graph: Graph,
    example: list[Tensor],
    places: tuple[Place, ...],
    size: int,
    step: int,
) -> tuple[Dimension, dict[int, Moved], dict[int, frozenset[int]]]:
    """Runs at other sizes; raises `_Differs` unless the integers are affine in the size."""
    largest = max(example[i].numel() for i, _ in places)
    wanted = [size + step, size + 2 * step, 2 * size]
    wanted += [4 * size] if 4 * largest <= _LARGEST else []
    runs: dict[int, Moved] = {}
    axes: dict[int, frozenset[int]] = {}
    for other in dict.fromkeys(wanted):
        if (other - size) % step:
            continue
        try:
            run = _at(again, example, dict.fromkeys(places, other))
        except _Fails as fails:
            if other > size + 2 * step:
                continue  # a table that ends somewhere: past it the original fails as well
            raise _Differs(f"another size makes the model fail: {fails}") from None
        runs[other] = _moved(graph, run, other)
        axes = _moving(graph, run)
    base = _moved(graph, graph, size)
    for key in {key for moved in runs.values() for key in moved}:
        here = base[key]
        slope = runs[size + step].get(key, here) - here
        for other, moved in runs.items():
            if moved.get(key, here) - here != slope * ((other - size) // step):
                text = f"an integer of {graph.ops[key[0]].label} is not affine in the size"
                raise _Differs(text)
    low, why = _lowest(again, graph, example, places, size, step, base, runs)
    return Dimension(places, size, step, low, why), runs, axes


def _lowest(again, graph, example, places, size, step, base, runs) -> tuple[int, str]:
    """The smallest size at which the run is still the same: 1, or else found by halving."""
    why = ""

    def same(other: int) -> bool:
        nonlocal why
        try:
            moved = _moved(graph, _at(again, example, dict.fromkeys(places, other)), other)
        except _Fails:
            return True  # there the original raises, too
        except _Differs as differs:
            why = f"at {other} {differs}"
            return False
        for key in {*moved, *(key for run in runs.values() for key in run)}:
            slope = runs[size + step].get(key, base[key]) - base[key]
            if moved.get(key, base[key]) - base[key] != slope * ((other - size) // step):
                why = f"at {other} an integer of {graph.ops[key[0]].label} is not affine in the size"
                return False
        return True

    good = (size - (size % step or step)) // step  # in steps below the size
    if good == 0 or same(size - good * step):
        return size - good * step, ""
    bad, good = good, 0
    while bad - good > 1:
        middle = (bad + good) // 2
        bad, good = (bad, middle) if same(size - middle * step) else (middle, good)
    return size - good * step, why


class _Fails(Exception):
    """The model raised at another size."""


def _at(again: Callable[[list[Tensor]], Graph], example: list[Tensor], changed: Mapping[Place, Any]) -> Graph:
    tensors = list(example)
    for (i, axis), size in changed.items():
        tensors[i] = resized(tensors[i], axis, size)
    try:
        return again(tensors)
    except Exception as error:
        raise _Fails((str(error).splitlines() or [type(error).__name__])[0][:120]) from None


def _tensor(graph: Graph, index: int) -> Tensor:
    tensor = graph.values[index].tensor
    assert tensor is not None
    return tensor


def _leaves(op: Op) -> tuple[list[Any], Any]:
    return pytree.tree_flatten((op.args, op.kwargs))


def _moved(graph: Graph, other: Graph, size: int) -> Moved:
    """The integers of another run that differ from this one's (of this run itself: all); raises `_Differs`."""
    if len(graph.ops) != len(other.ops):
        raise _Differs(f"another size changes what runs: {len(other.ops)} operations at {size}, not {len(graph.ops)}")
    moved: Moved = {}
    for one, two in zip(graph.ops, other.ops):
        mine, theirs = _leaves(one), _leaves(two)
        if not _same_target(one, two) or mine[1] != theirs[1] or one.outputs != two.outputs:
            raise _Differs(f"another size changes what runs: at {size} {two.label} instead of {one.label}")
        for position, (a, b) in enumerate(zip(mine[0], theirs[0])):
            if type(a) is int and type(b) is int:
                if a != b or graph is other:
                    moved[one.index, position] = b
            elif type(a) is not type(b) or not (a == b or (isinstance(a, float) and a != a and b != b)):
                raise _Differs(f"an argument of {one.label} follows it: {a!r} became {b!r} at {size}")
    _same_values(graph, other, size)
    return moved


def _same_target(one: Op, two: Op) -> bool:
    return one.target is two.target or (
        one.custom and two.custom and getattr(one.target, "function", 1) is getattr(two.target, "function", 2)
    )


def _same_values(graph: Graph, other: Graph, size: int) -> None:
    if other.outputs != graph.outputs or graph.scalars != other.scalars:
        raise _Differs(f"another size changes what is returned at {size}")
    mine, theirs = pytree.tree_flatten(graph.answer), pytree.tree_flatten(other.answer)
    if mine[1] != theirs[1] or any(type(a) is not Ref and a != b for a, b in zip(mine[0], theirs[0])):
        raise _Differs(f"another size changes what is returned at {size}")
    for a, b in zip(graph.values, other.values):
        if a.kind != b.kind or a.dtype != b.dtype or len(a.shape) != len(b.shape):
            raise _Differs(f"{a.name} has another form at {size}: {list(b.shape)} instead of {list(a.shape)}")
        outside = a.kind in ("parameter", "buffer", "constant") and a.tensor is not b.tensor
        if outside and (a.tensor is None or b.tensor is None or not _equal(a.tensor, b.tensor)):
            raise _Differs(f"a constant made of it, {a.name}, has another content at {size}")


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool(torch.equal(one, two))


def _moving(graph: Graph, other: Graph) -> dict[int, frozenset[int]]:
    found = {}
    for a, b in zip(graph.values, other.values):
        axes = frozenset(i for i, (m, n) in enumerate(zip(a.shape, b.shape)) if m != n)
        if axes:
            found[a.index] = axes
    return found


def _jointly(
    again: Callable[[list[Tensor]], Graph],
    graph: Graph,
    example: list[Tensor],
    dimensions: list[Dimension],
    runs: list[dict[int, Moved]],
    free: list[int],
) -> Sizes:
    """All free sizes moved at once: settles how an integer that follows several of them combines them."""
    sizes = [dimension.size for dimension in dimensions]
    jointly = list(sizes)
    changed: dict[Place, int] = {}
    for k, i in enumerate(free):
        step = dimensions[i].step
        jointly[i] += step * (1 + k % 2)  # different moves, so that equal sizes do not stay equal
        changed.update(dict.fromkeys(dimensions[i].places, jointly[i]))
    try:
        run = _at(again, example, changed)
    except _Fails as fails:
        raise _Differs(f"another size makes the model fail: {fails}") from None
    moved = _moved(graph, run, jointly[free[-1]])
    base = _moved(graph, graph, 0)
    expressions = {}
    keys = {*moved, *(key for i in free for at in runs[i].values() for key in at)}
    for key in sorted(keys):
        slopes = {}
        for i in free:
            dimension = dimensions[i]
            rise = runs[i][dimension.size + dimension.step].get(key, base[key]) - base[key]
            if rise:
                slopes[i] = (rise, dimension.step)
        fitting = [e for e in _candidates(base[key], slopes, sizes) if e(jointly) == moved.get(key, base[key])]
        if not fitting:
            raise _Differs(f"an integer of {graph.ops[key[0]].label} follows several sizes in no simple way")
        expressions[key] = fitting[0]
    return Sizes(dimensions, expressions, run)


def _candidates(value: int, slopes: dict[int, tuple[int, int]], sizes: list[int]) -> Iterator[Expression]:
    """Expressions with this value and these rises over these steps: k x product of sizes + b, and a plain sum."""
    divisor = math.lcm(*(step for _, step in slopes.values())) if slopes else 1
    if len(slopes) > 1:
        over = tuple(slopes)
        product = math.prod(sizes[i] for i in over)
        rise, step = slopes[over[0]]
        per, rest = rise * sizes[over[0]], step * product  # k = rise / (step x product of the other sizes)
        if all(r * sizes[i] * rest == per * (s * product) for i, (r, s) in slopes.items()):
            common = math.gcd(per, rest)
            k, d = per // common, rest // common
            yield Expression(((k, over),), value * d - k * product, d)
    terms = [(rise * divisor // step, (i,)) for i, (rise, step) in slopes.items()]
    constant = value * divisor - sum(c * sizes[i] for c, (i,) in terms)
    common = math.gcd(divisor, constant, *(c for c, _ in terms))
    yield Expression(tuple((c // common, over) for c, over in terms), constant // common, divisor // common)


def _fixed(dimension: Dimension, why: str) -> Dimension:
    return Dimension(dimension.places, dimension.size, 0, 0, why)
