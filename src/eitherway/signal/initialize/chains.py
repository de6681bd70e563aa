"""Deep plain chains: which scheme each gets, whether its layers can hold it, and what its layers then hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.graph import Graph
from eitherway.signal.initialize.plan import Plan
from eitherway.signal.initialize.stage import Stage
from eitherway.signal.initialize.theory import MOVES, phi
from eitherway.signal.schemes import choose, draw
from eitherway.signal.schemes import mirror as mirrored
from eitherway.signal.schemes.shaped import Shape, affine, shape
from eitherway.signal.schemes.window import window
from eitherway.signal.structure import Chain, Path, Producer

CHAINED = ("mirror", "shaped", "window")

_MEAN = 0.5  # share of the mean in an activation's mean square from which on a few layers hide what samples differ by


@dataclass(frozen=True)
class Place:
    """One layer of a chain."""

    producer: Producer
    shape: tuple[int, ...]
    arguments: dict[str, Any]
    """stride, padding and groups of a convolution; empty for a linear layer."""
    flipped: bool = False
    """A matrix that is held as (in, out)."""


@dataclass
class Chained:
    """A chain with its scheme."""

    scheme: str
    why: str
    places: tuple[Place, ...]
    at: dict[int, int]
    """Place of each producer in the chain."""
    pairs: tuple[mirrored.Mirror | None, ...]
    """Between neighbours, for `mirror`; None where nothing stands between them."""
    shapes: tuple[Shape | None, ...]
    """Between neighbours, for `shaped` and `window`."""
    last: float
    """rms wanted at the end."""
    held: frozenset[str] = frozenset()
    """Biases that keep what they hold, so that none takes off a mean: the last one's, set on purpose."""

    @property
    def alpha(self) -> float:
        """The narrowest part of an activation that the chain works in."""
        return min((s.alpha for s in self.shapes if s is not None), default=1.0)

    def contents(self, index: int, second: float, stage: Stage) -> tuple[Tensor, Tensor | None, float]:
        """Weight, bias and planned rms of one layer.

        Args:
            index: of the producer.
            second: mean square of what the layer reads; it counts for the first one alone.
        """
        k = self.at[index]
        place = self.places[k]
        size = self.last if k == len(self.places) - 1 else 1.0
        if k == 0:
            size /= math.sqrt(second) if second > 0 and math.isfinite(second) else 1.0
        generator = stage.generator(place.producer.name)
        before, after = (k - 1 if k else None), (k if k < len(self.places) - 1 else None)
        if self.scheme == "mirror":
            return self._mirror(place, size, before, after, generator)
        return self._shaped(place, size, before, after, generator)

    def _mirror(
        self, place: Place, size: float, before: int | None, after: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None, float]:
        left = self.pairs[before] if before is not None else None
        right = self.pairs[after] if after is not None else None
        gain = size * (left.gain if left else 1.0) * (right.alpha if right else 1.0)
        common = {"rows": right is not None, "columns": left is not None, "generator": generator}
        if place.arguments:
            made = mirrored.kernel(place.shape, gain=gain, dtype=torch.float64, **common, **place.arguments)
        else:
            out, into = place.shape[::-1] if place.flipped else place.shape
            made = mirrored.weight(out, into, gain=gain, dtype=torch.float64, **common)
        planned = right.alpha if right else self.last if after is None else 1.0
        return (made.T if place.flipped else made), None, planned

    def _shaped(
        self, place: Place, size: float, before: int | None, after: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None, float]:
        left = self.shapes[before] if before is not None else None
        right = self.shapes[after] if after is not None else None
        bare = place.producer.bias is None or place.producer.bias in self.held
        if place.arguments:
            matrix = draw.orthogonal_kernel(
                place.shape, gain=size, generator=generator, dtype=torch.float64, **place.arguments
            )
            if left is not None and left.centring and (bare or place.arguments["transposed"]):
                matrix = _centred(matrix, place)
        else:
            out, into = place.shape[::-1] if place.flipped else place.shape
            centred = bare and left is not None and left.centring
            matrix = draw.orthogonal(out, into, gain=size, centred=centred, generator=generator, dtype=torch.float64)
        if place.arguments.get("transposed"):
            factor = (right.alpha if right else 1.0) * (left.gamma if left else 1.0)
            out = place.shape[1] * place.arguments["groups"]  # the matrix is centred: no mean is left to take off
            weight, bias = factor * matrix, torch.full((out,), right.beta if right else 0.0, dtype=torch.float64)
        else:
            weight, bias = affine(matrix, before=left, after=right)
        planned = math.hypot(right.alpha, right.beta) if right else self.last if after is None else 1.0
        return (weight.T if place.flipped else weight), None if bare else bias, planned


def chained(plan: Plan, writable: frozenset[str]) -> tuple[dict[int, Chained], list[str]]:
    """The chains that get a scheme of their own, by producer, and what was said about those that do not."""
    found: dict[int, Chained] = {}
    notes: list[str] = []
    for chain in plan.structure.chains:
        producers = [plan.structure.producers[i] for i in chain.producers]
        asked = {plan.asked.get(producer.name, "auto") for producer in producers}
        wanted = asked.pop() if len(asked) == 1 else ""
        if wanted not in (*CHAINED, "auto"):
            continue
        depth = sum(path.kind == "activation" for path in chain.paths)
        if not depth or (wanted == "auto" and depth < choose.SHORT and not _collapses(plan, chain, depth)):
            continue
        made = _made(plan, chain, producers, depth, wanted, writable)
        if isinstance(made, str):
            start = "start of its own" if wanted == "auto" else f"{wanted} start"
            notes.append(f"{_span(producers)}, {depth} activations in a row: no {start}: {made}; the gain instead")
            continue
        if made is not None:
            for producer in producers:
                found[producer.index] = made
    return found, notes


def windows(chains: Mapping[int, Chained]) -> list[str]:
    """What is said of every window that is used: whether an exact start is known for what stands in the chain."""
    said = []
    for made in {id(made): made for made in chains.values() if made.scheme == "window"}.values():
        depth = sum(shape is not None for shape in made.shapes)
        said.append(
            f"{_span([place.producer for place in made.places])}, {depth} activations in a row, have a window start: "
            f"{made.why}"
        )
    return said


def _collapses(plan: Plan, chain: Chain, depth: int) -> bool:
    """Whether a short chain would make all samples parallel: sigmoid and softplus pass on mostly their mean."""
    known = [plan.theory.moments(path, 1.0) for path in chain.paths if path.kind == "activation"]
    return depth > 1 and any(found is not None and found.mean_share > _MEAN for found in known)


def outside(plan: Plan, chains: Mapping[int, Chained]) -> list[str]:
    """What to say of weights for which a chain's scheme was asked and which stand in no chain."""
    names: dict[str, list[str]] = {}
    told = {producer for chain in plan.structure.chains for producer in chain.producers}
    for index, use in plan.uses.items():
        asked = plan.asked.get(use.producer.name, "auto")
        if asked in CHAINED and index not in chains and index not in told and use.scheme == "gain":
            names.setdefault(asked, []).append(use.producer.name)
    return [
        f"{asked} is for chains of weights with only activations between; {_few(found)} got the gain instead"
        for asked, found in names.items()
    ]


def _made(
    plan: Plan, chain: Chain, producers: list[Producer], depth: int, wanted: str, writable: frozenset[str]
) -> Chained | str | None:
    """The chain with its scheme; a sentence where it cannot have one; None where the plain gain is best."""
    locked = [p.name for p in producers if p.name not in writable or p.index not in plan.uses]
    locked += [p.bias for p in producers if p.bias is not None and p.bias not in writable]
    locked += [p.bias for p in producers[:-1] if p.bias in plan.chosen]
    if locked:
        return f"{_few(locked)} keep what they hold"
    places = _places(plan.structure.graph, producers, chain.paths)
    if isinstance(places, str):
        return places
    functions = [path if path.kind == "activation" else None for path in chain.paths]
    if any(path.kind not in ("activation", "same") for path in chain.paths):
        return "between its weights stand more than activations"
    if any(f is not None and plan.theory.moments(f, 1.0) is None for f in functions):
        return "an activation differs from place to place"
    biased = all(producer.bias is not None for producer in producers)
    at = {producer.index: k for k, producer in enumerate(producers)}
    target = plan.targets.rms[producers[-1].index]
    base = Chained("", "", tuple(places), at, (), (), target if target > 0 else 1.0, frozenset(plan.chosen))
    if target <= 0:
        return "its end starts at 0"
    even = _can_pair(places, functions)
    names, reasons = [wanted], []
    if wanted == "auto":
        kinds = {plan.theory.signature(f): f for f in functions if f is not None}
        graph = plan.structure.graph
        choices = [
            choose.best(phi(f, graph), max(depth, choose.SHORT), bias=biased, width_even=even) for f in kinds.values()
        ]
        found = [choice.name for choice in choices]
        names = [found[0] if len(set(found)) == 1 else "shaped" if biased else "window"]
        reasons = list(dict.fromkeys(choice.reason for choice in choices))
        if "gain" in found or names[0] not in CHAINED:
            return None
    try:
        made = _with(names[0], base, plan, functions, depth, biased, even)
    except ModelError as error:
        return str(error)
    if isinstance(made, str):
        return made
    return replace(made, why="; ".join(reasons) or f"{names[0]} was asked for")


def _with(
    scheme: str, base: Chained, plan: Plan, functions: list[Path | None], depth: int, biased: bool, even: bool
) -> Chained | str:
    """The chain with a certain scheme.

    Raises:
        ModelError: if an activation has no such start.
    """
    known: dict[Any, Any] = {}

    def solved(f: Path | None, solve: Any) -> Any:
        if f is None:
            return None
        key = plan.theory.signature(f)
        if key not in known:
            known[key] = solve(phi(f, plan.structure.graph))
        return known[key]

    if scheme == "mirror":
        if not even:
            return "channels between its weights cannot be paired"
        return replace(base, scheme=scheme, pairs=tuple(solved(f, mirrored.mirror) for f in functions))
    mixed = len({plan.theory.signature(f) for f in functions if f is not None}) > 1

    def law(function: Any) -> Shape:
        if scheme == "window":
            return window(function, depth, bias=biased)
        try:
            return shape(function, depth, bias=biased)
        except ModelError:
            if not mixed:
                raise
            return window(function, depth, bias=biased)  # of several activations some have no exact point

    shapes = tuple(solved(f, law) for f in functions)
    return replace(base, scheme=scheme, shapes=shapes)


def _places(graph: Graph, producers: list[Producer], paths: tuple[Path, ...]) -> list[Place] | str:
    """The layers as schemes take them; a sentence where one is of another make."""
    found = []
    for k, producer in enumerate(producers):
        value = graph.values[producer.weight]
        held = tuple(value.shape)
        if producer.part or producer.parametrised or value.kind != "parameter" or len(producer.blocks) > 1:
            return f"{producer.name} is used in part, or computed"
        if producer.kind == "linear" and len(held) == 2 and {producer.out_axis, producer.in_axis} == {0, 1}:
            found.append(Place(producer, held, {}, producer.out_axis == 1))
        elif producer.kind in ("conv", "conv_transpose"):
            arguments = _convolution(graph, producer)
            if arguments is None:
                return f"{producer.name} is a convolution of an unknown form"
            found.append(Place(producer, held, arguments))
        else:
            return f"{producer.name} is no plain matrix or convolution"
        if k:
            why = _between(graph, found[k - 1], found[k], paths[k - 1])
            if why:
                return why
    return found


def _convolution(graph: Graph, producer: Producer) -> dict[str, Any] | None:
    """Stride, padding (in taps) and groups as a convolution was called."""
    op = graph.ops[producer.op]
    schema = getattr(op.target, "_schema", None)
    if schema is None:
        return None
    named = {a.name: op.args[i] if i < len(op.args) else op.kwargs.get(a.name, a.default_value)
             for i, a in enumerate(schema.arguments)}  # fmt: skip
    spatial = len(graph.values[producer.weight].shape) - 2

    def each(name: str, default: int) -> list[int]:
        given = named.get(name, default)
        numbers = list(given) if isinstance(given, (list, tuple)) else [given]
        return [int(n) for n in (numbers * spatial if len(numbers) == 1 else numbers)]

    padding = None
    if not isinstance(named.get("padding"), str):
        padding = [pad // step for pad, step in zip(each("padding", 0), each("dilation", 1))]
    transposed = producer.kind == "conv_transpose"
    return {"stride": each("stride", 1), "padding": padding, "groups": producer.groups, "transposed": transposed}


def _between(graph: Graph, before: Place, after: Place, path: Path) -> str:
    """Why channels do not pass from one layer to the next in their order; "" where they do."""
    if path.kind == "same" and any(graph.ops[i].name.removesuffix("_") not in MOVES for i in path.ops):
        return f"between {before.producer.name} and {after.producer.name} values move"
    out, into = _channels(before)[0], _channels(after)[1]
    if out == into:
        return ""
    if not after.arguments and before.arguments and into % out == 0:
        return ""  # flattened images: each channel's pixels stand together
    return f"{before.producer.name} has {out} channels, {after.producer.name} reads {into}"


def _channels(place: Place) -> tuple[int, int]:
    """Channels out and in."""
    groups = place.arguments.get("groups", 1)
    first, second = place.shape[:2]
    if not place.arguments:
        return (second, first) if place.flipped else (first, second)
    return (second * groups, first) if place.arguments["transposed"] else (first, second * groups)


def _can_pair(places: list[Place], functions: list[Path | None]) -> bool:
    """Whether the channels on both sides of every activation come in twins."""
    for k, function in enumerate(functions):
        if function is None:
            continue
        before, after = places[k], places[k + 1]
        channels = _channels(before)[0]
        plain = not before.arguments and not after.arguments
        grouped = any(place.arguments.get("groups", 1) > 1 for place in (before, after))
        if channels < 2 or grouped or (channels % 2 and not plain):
            return False
    return True


def _centred(matrix: Tensor, place: Place) -> Tensor:
    """A kernel whose sums over what an output position reads are 0, so that the mean of its inputs is not passed on."""
    if not place.arguments["transposed"]:
        inside = matrix != 0
        axes = tuple(range(1, matrix.dim()))
        count = inside.sum(axes, keepdim=True).clamp(min=2)
        return (matrix - inside * matrix.sum(axes, keepdim=True) / count) * (count / (count - 1)).sqrt()
    maps = matrix.unflatten(0, (place.arguments["groups"], -1))  # (groups, in / groups, out / groups, *taps)
    count = max(2, maps.shape[1])
    return ((maps - maps.mean(1, keepdim=True)) * math.sqrt(count / (count - 1))).flatten(0, 1)


def _span(producers: list[Producer]) -> str:
    return f"{producers[0].name} to {producers[-1].name}"


def _few(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
