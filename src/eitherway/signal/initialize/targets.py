"""How large each producer's output shall be: rms 1, but for residual branches and what is added up at the entrance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.initialize.hyper import matrix_targets
from eitherway.signal.structure import Residual, Structure

_NEAR, _FLAT = 1e-4, 1e-3  # how far from 0 slopes are taken, and which count as none
_SMALL = 0.5  # a learned scale of at most this keeps its branch small by itself


@dataclass
class Targets:
    """What is wanted of each output, and why where it is not rms 1."""

    rms: dict[int, float]
    """By producer; 0 for one that starts at 0."""
    why: dict[int, str] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    """Values of norm weights."""
    scale_why: dict[str, str] = field(default_factory=dict)
    streams: dict[int, int] = field(default_factory=dict)
    """By producer that ends a branch: the value at which its stream begins, which its size is relative to."""
    notes: list[str] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)

    def note(self, kind: str, text: str) -> None:
        """Notes the first of its kind: blocks are alike."""
        if kind not in self._told:
            self.notes.append(text)
        self._told.add(kind)


def targets(structure: Structure, rule: str, parameters: dict[str, Tensor], writable: frozenset[str]) -> Targets:
    """Plans the size of every output.

    Args:
        rule: "sqrt": each of a stream's L branches has variance 1/L, so that the stream's grows from 1 to 2; "zero":
            branches start at 0; "fixup": so, and other weights inside are scaled by L^(-1 / (2 m - 2)) (Zhang et al.
            2019, arXiv:1901.09321).
        parameters: as they are now: a learned scale that is small already does the work.
        writable: parameters that may be started.
    """
    found = Targets({producer.index: 1.0 for producer in structure.producers})
    for norm in structure.norms:
        if norm.weight:
            found.scales[norm.weight] = 1.0
    for index, (size, why) in matrix_targets(structure).items():
        found.rms[index], found.why[index] = size, why
    begin: dict[int, int] = {}
    for residual in structure.residuals:
        begin.setdefault(residual.stream_id, residual.stream)
        if residual.ends_in_norm is None:
            found.streams.update(dict.fromkeys(residual.last, begin[residual.stream_id]))
        _branch(residual, rule, structure, parameters, writable, found)
    _entrances(structure, found)
    return found


def _branch(
    residual: Residual,
    rule: str,
    structure: Structure,
    parameters: dict[str, Tensor],
    writable: frozenset[str],
    found: Targets,
) -> None:
    if residual.scale and residual.scale in parameters:
        size = float(parameters[residual.scale].detach().double().square().mean().sqrt())
        if size <= _SMALL:
            found.note(
                "learned scale",
                f"{residual.scale} and its like keep what they hold (rms {size:.3g}), and with it their branches are "
                "small: residual= changes nothing there",
            )
            return
    depth = max(residual.depth, 1)
    if rule != "sqrt" and _shut(structure, residual):
        last = structure.producers[residual.last[0]].name
        found.note(
            "shut",
            f"a branch like that which ends in {last} and {structure.path(residual.branch).text} would get no gradient "
            f"from 0 and stay there: 'sqrt' instead of {rule!r}",
        )
        rule = "sqrt"
    factor = depth**-0.5 if rule == "sqrt" else 0.0
    text = (
        f"ends one of {depth} residual branches: {'x 1/sqrt(' + str(depth) + ')' if rule == 'sqrt' else 'starts at 0'}"
    )
    if residual.ends_in_norm is not None:
        if residual.ends_in_norm in writable:
            found.scales[residual.ends_in_norm] = min(found.scales.get(residual.ends_in_norm, 1.0), factor)
            found.scale_why[residual.ends_in_norm] = f"the norm {text}"
        else:
            found.notes.append(
                f"a residual branch ({structure.graph.ops[residual.op].label}) ends in a norm whose scale cannot be "
                "set, so the branch stays as large as its stream"
            )
    else:
        for index in residual.last:
            found.rms[index] = min(found.rms[index], factor)
            found.why[index] = text
    inside = [i for i in residual.producers if i not in residual.last]
    if rule == "fixup" and inside:
        count = len(residual.producers)
        share = depth ** (-1 / (2 * count - 2))
        for index in inside:
            found.rms[index] = min(found.rms[index], share)
            found.why[index] = f"inside a residual branch of {count} weights: x {depth}^(-1/{2 * count - 2}) (fixup)"


def _shut(structure: Structure, residual: Residual) -> bool:
    """Whether no gradient passes what stands between a branch's end and the add, when that end puts out 0."""
    path = structure.path(residual.branch)
    if path.kind not in ("activation", "gate"):
        return False
    sources = [structure.sources.get(value) for value in path.sources]
    ends = [
        source is not None
        and (source.kind == "norm" if residual.ends_in_norm is not None else source.producer in residual.last)
        for source in sources
    ]
    for shape in ((4,), (4, 1)):  # one function, or one for each channel
        others = torch.linspace(-1.5, 1.5, 4, dtype=torch.float64).reshape(shape)
        rest = [torch.zeros_like(others) if end else others for end in ends]
        try:
            here = path(*rest)
            for k in (k for k, end in enumerate(ends) if end):
                left, right = (path(*rest[:k], rest[k] + side, *rest[k + 1 :]) - here for side in (-_NEAR, _NEAR))
                # autograd's slope at a kink is that of one side; where both have one sign, it is not 0
                if bool(((left * right < 0) & (left.abs().minimum(right.abs()) > _FLAT * _NEAR)).any()):
                    return False
        except (ModelError, RuntimeError):
            continue
        return any(ends)
    return False


def _entrances(structure: Structure, found: Targets) -> None:
    """Embeddings that are added up share the variance; one that is tied to a linear head has the head's size."""
    kinds = {producer.index: producer.kind for producer in structure.producers}
    heads: set[int] = set()
    for indices in structure.tied.values():
        embedded = [i for i in indices if kinds.get(i) == "embedding"]
        if embedded and any(kinds.get(i) == "linear" for i in indices):
            for i in embedded:
                width = structure.producers[i].fan_out
                found.rms[i] = _width(structure, i) ** -0.5 if width else 1.0
                found.why[i] = (
                    "tied to the head, which reads a signal of rms 1: 1/sqrt(width), so that logits have rms 1"
                )
                heads.add(i)
    for source in structure.sources.values():
        parts = _leaves(structure, source.value, 0) if source.kind == "sum" else []
        embedded = [p for p in parts if p[0] == "embedding"]
        tables = [p for p in parts if p[0] == "table"]
        count = len(embedded) + len(tables)
        if embedded and count > 1 and count == len(parts):
            tied = next((found.rms[i] for _, i in embedded if i in heads), None)
            for _, i in embedded:
                if i in heads or i is None:
                    continue
                if tied is not None:
                    found.rms[i], found.why[i] = tied, "added to a tied embedding: as large as that"
                else:
                    found.rms[i] = min(found.rms[i], len(embedded) ** -0.5)
                    found.why[i] = f"one of {len(embedded)} embeddings that are added up: x 1/sqrt({len(embedded)})"


def _width(structure: Structure, index: int) -> int:
    """Numbers in one row of an embedding."""
    producer = structure.producers[index]
    return max(1, int(structure.graph.values[producer.output].shape[-1]))


def _leaves(structure: Structure, value: int, depth: int) -> list[tuple[str, int]]:
    """What a sum is made of: ("embedding", producer), ("table", value) or ("other", value)."""
    source = structure.sources.get(value)
    if source is not None and source.kind == "sum" and depth < 8:
        return [leaf for part in source.parts for leaf in _leaves(structure, part, depth + 1)]
    for producer in structure.producers:
        if producer.output == value:
            return [("embedding" if producer.kind == "embedding" else "other", producer.index)]
    path = structure.path(value) if source is None else None
    if path is not None and path.kind == "same" and len(path.sources) == 1 and path.sources[0] != value:
        return _leaves(structure, path.sources[0], depth + 1)
    if not structure.graph.values[value].depends:
        return [("table", value)]
    return [("other", value)]


def geometric(values: list[float]) -> float:
    """Geometric mean of positive numbers; 0 if one is 0.

    >>> geometric([1.0, 4.0])
    2.0
    """
    return math.exp(sum(map(math.log, values)) / len(values)) if all(v > 0 for v in values) else 0.0
