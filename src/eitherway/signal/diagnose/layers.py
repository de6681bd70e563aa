"""The rows of a diagnosis: one for each use of a weight, with all that was measured there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from eitherway.graph import Graph
from eitherway.signal.diagnose.measure import NAN, Samples, norm, rms, samples
from eitherway.signal.diagnose.run import LOSS, Run
from eitherway.signal.diagnose.slopes import Slopes, Theory, slopes, theory
from eitherway.signal.structure import Path, Producer, Structure

_READS = (
    "mean", "sum", "amax", "cat", "stack", "matmul", "bmm", "einsum", "scaled_dot_product_attention", "softmax",
    "log_softmax", "layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm", "lstm", "gru", "max_pool1d",
    "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "adaptive_max_pool2d", "add", "add_", "max", "upsample_nearest2d", "upsample_bilinear2d",
)  # fmt: skip
"""Operations that end an element-wise function without being a producer."""


@dataclass(frozen=True)
class LayerSignal:
    """One use of a weight, as the example met it. What could not be measured is nan."""

    name: str
    """The module's dotted path, or the weight's where a module has several."""
    kind: str
    where: str
    shape: tuple[int, ...]
    """Of the output."""
    rms: float
    """Of the output, before any activation."""
    mean_share: float
    """(mean of the output)^2 / mean square."""
    spread: float
    """Largest rms of a sample / smallest."""
    cosine: float
    """Of the outputs of two samples, the mean over pairs."""
    rank: float
    """Directions that the samples' differences span: the participation ratio, at most samples - 1."""
    activation: str
    """The function that reads the output."""
    dead: float
    """Share of units with no slope on any sample and position."""
    quiet: float
    """Share of units with a slope on fewer than one number in a hundred, dead ones included."""
    saturated: float
    """Share of numbers that fall where a squashing function is flat (|slope| < 1e-3)."""
    gradient: float
    """Rms of the gradient with respect to the output."""
    gradient_norm: float
    """Its Euclidean length over the batch: what stays the same from layer to layer where weights keep the signal."""
    weight: str
    weight_rms: float
    weight_gain: float
    """Rms of the weight x sqrt(fan in): growth of a signal without mean."""
    weight_gradient: float
    """Rms; all uses of the weight together."""
    chi: float
    """Growth of the squared gradient through this layer and the function before it, as measured; chains only."""
    chi_predicted: float
    """fan_in x mean square of the weight x E phi'^2, for a Gaussian of the measured mean and scale."""
    stability: float
    """Q' of the function before it, at the measured scale: above 1 differences in size grow."""
    update_ratio: float
    """Rms of the gradient x lr / rms of the weight; nan without lr."""
    update_ratio_adam: float
    """lr / rms of the weight: the first step of Adam."""
    bad: int
    """NaN and inf in the output."""
    producer: int = -1
    op: int = -1


@dataclass(frozen=True)
class Row:
    """A layer with what the verdicts ask beyond its figures."""

    signal: LayerSignal
    producer: Producer
    samples: Samples
    before: Path | None
    """What its source is made of."""
    before_theory: Theory | None
    """That function under a Gaussian of the measured mean and scale."""
    slopes: Slopes | None
    """The function that reads it, at its numbers."""
    bias: float
    """Rms of its bias; 0 without one."""

    @property
    def width(self) -> int:
        """Units: channels of images, the last axis elsewhere."""
        axis = 1 if self.producer.kind in ("conv", "conv_transpose") and len(self.signal.shape) > 2 else -1
        return self.signal.shape[axis] if self.signal.shape else 1


def names_of(structure: Structure) -> dict[int, str]:
    """A name for each producer: the module's path, unless a module holds several weights."""
    found = {}
    for p in structure.producers:
        head, _, tail = p.name.rpartition(".")
        found[p.index] = head if tail == "weight" and head else (p.name or p.module or p.where or f"producer {p.index}")
    return found


def activations(structure: Structure, run: Run) -> dict[int, Slopes]:
    """Functions at the numbers that reach them, by the value that they read."""
    graph = structure.graph
    paths = {path.value: path for path in structure.paths.values()}
    own = {op.index for op in graph.ops if not op.module.startswith(LOSS)}
    others = {i for op in graph.ops if op.name in _READS and op.index in own for i in op.inputs} | set(run.outputs)
    for i in sorted(others - paths.keys()):
        if graph.values[i].depends and graph.values[i].dtype.is_floating_point:
            paths[i] = structure.path(i)
    found: dict[int, Slopes] = {}
    for path in paths.values():
        if path.kind != "activation" or path.sources[0] in found or path.sources[0] not in run.tensors:
            continue
        u = run.tensors[path.sources[0]]
        measured = slopes(path, u, unit_axis(structure, path.sources[0], u))
        if measured is not None:
            found[path.sources[0]] = measured
    return found


def unit_axis(structure: Structure, value: int, u: Tensor) -> int:
    """The axis of the units: channels of images, the last axis elsewhere."""
    p = producer_of(structure, value)
    if p is not None and p.kind in ("conv", "conv_transpose"):
        return 1 if u.ndim > 2 else 0
    norm = next((n for n in structure.norms if n.output == value), None)
    if norm is not None and norm.kind in ("batch", "group", "instance", "running") and u.ndim > 1:
        return 1
    return -1


def producer_of(structure: Structure, value: int) -> Producer | None:
    """The producer whose output a value is: itself, normalised, or as the last of a residual branch."""
    for _ in range(4):
        source = structure.sources.get(value)
        if source is not None and source.producer is not None:
            return structure.producers[source.producer]
        residual = next((r for r in structure.residuals if r.output == value), None)
        if residual is not None and residual.last:
            return structure.producers[residual.last[-1]]
        if source is not None and source.parts:
            made = [s.producer for part in source.parts if (s := structure.sources.get(part)) is not None]
            last = next((p for p in reversed(made) if p is not None), None)
            return None if last is None else structure.producers[last]
        norm = next((n for n in structure.norms if n.output == value), None)
        if norm is None:
            return None
        path = structure.path(norm.source)
        if len(path.sources) != 1:
            return None
        value = path.sources[0]
    return None


def wanted(structure: Structure, run: Run, trunk: Iterable[int]) -> list[int]:
    """Values whose gradients are asked for."""
    found = [p.output for p in structure.producers] + [n.output for n in structure.norms]
    found += [r.output for r in structure.residuals] + list(trunk) + list(run.outputs)
    return found + [i for a in structure.attentions for i in (a.query, a.key, a.value)]


def rows(
    structure: Structure,
    run: Run,
    by_value: dict[int, Tensor],
    by_name: dict[str, Tensor],
    acted: dict[int, Slopes],
    lr: float | None,
) -> tuple[Row, ...]:
    """One row for each use of a weight, in the order they ran."""
    owner: dict[int, Slopes] = {}
    for value, measured in acted.items():
        p = producer_of(structure, value)
        if p is not None:
            owner.setdefault(p.index, measured)
    before = {
        follower: chain.producers[k] for chain in structure.chains for k, follower in enumerate(chain.producers[1:])
    }
    names = names_of(structure)
    stats: dict[int, Samples] = {}

    def stat(value: int) -> Samples:
        if value not in stats:
            stats[value] = samples(run.tensors[value], run.batch)
        return stats[value]

    lengths = {i: norm(g) for i, g in by_value.items()}
    found = []
    for p in structure.producers:
        if p.output not in run.tensors:
            continue
        seen = stat(p.output)
        path = structure.paths.get(p.index)
        known = None
        if path is not None and len(path.sources) == 1 and path.sources[0] in run.tensors:
            source = stat(path.sources[0])
            scale = max(source.rms**2 - source.mean**2, 0.0) ** 0.5
            known = theory(path, source.mean, scale)
        size, gain = _weight(p, run)
        slope = by_value.get(p.output)
        weight_gradient = _pooled([by_name[n] for n in p.parameters if n in by_name])
        chi = NAN
        previous = before.get(p.index)
        if previous is not None:
            above = lengths.get(structure.producers[previous].output)
            below = lengths.get(p.output)
            if above is not None and below:
                chi = (above / below) ** 2
        after = owner.get(p.index)
        found.append(
            Row(
                LayerSignal(
                    name=names[p.index],
                    kind=p.kind,
                    where=p.where,
                    shape=tuple(run.tensors[p.output].shape),
                    rms=seen.rms,
                    mean_share=seen.mean_share,
                    spread=seen.spread,
                    cosine=seen.cosine,
                    rank=seen.rank,
                    activation=after.text if after else "",
                    dead=after.dead if after else NAN,
                    quiet=after.quiet if after else NAN,
                    saturated=after.saturated if after else NAN,
                    gradient=rms(slope) if slope is not None else NAN,
                    gradient_norm=lengths.get(p.output, NAN),
                    weight=p.name,
                    weight_rms=size,
                    weight_gain=gain,
                    weight_gradient=weight_gradient,
                    chi=chi,
                    chi_predicted=gain**2 * known.slope if known is not None and previous is not None else NAN,
                    stability=known.stability if known is not None else NAN,
                    update_ratio=weight_gradient * lr / size if lr is not None and size > 0 else NAN,
                    update_ratio_adam=lr / size if lr is not None and size > 0 else NAN,
                    bad=seen.bad,
                    producer=p.index,
                    op=p.op,
                ),
                p,
                seen,
                path,
                known,
                after,
                rms(run.parameters[p.bias]) if p.bias in run.parameters else 0.0,
            )
        )
    return tuple(found)


def _weight(p: Producer, run: Run) -> tuple[float, float]:
    """Rms of a weight, and that times the root of its fan."""
    weight = run.tensors.get(p.weight)
    if weight is None:
        return NAN, NAN
    part = weight.detach()[p.part] if p.part else weight.detach()
    size = rms(part)
    return size, size * math.sqrt(p.fan_in) if p.kind != "embedding" else size


def _pooled(gradients: list[Tensor]) -> float:
    """Rms over several tensors."""
    count = sum(g.numel() for g in gradients)
    return math.sqrt(sum(rms(g) ** 2 * g.numel() for g in gradients) / count) if count else NAN


def place(graph: Graph, op: int) -> str:
    """Where a person finds an operation: its module, or its name and line."""
    found = graph.ops[op]
    parts = [found.module, found.name if not found.module else "", f"({found.where})" if found.where else ""]
    return " ".join(part for part in parts if part)


def weight_rows(p: Producer, run: Run) -> Tensor | None:
    """The weight with its out axis first, (out, everything else), in float32 at least."""
    weight = run.tensors.get(p.weight)
    if weight is None or weight.ndim < 2:
        return None
    part = weight.detach()[p.part] if p.part else weight.detach()
    return (
        part.movedim(p.out_axis, 0)
        .reshape(part.shape[p.out_axis], -1)
        .to(torch.promote_types(part.dtype, torch.float32))
    )
