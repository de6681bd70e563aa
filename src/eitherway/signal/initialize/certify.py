"""The second run, on the new weights: each output's rms, a correction that must not make anything worse, gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

import torch
from torch import Tensor

from eitherway.base.keys import Key
from eitherway.graph import Op
from eitherway.signal.initialize.plan import Plan
from eitherway.signal.initialize.stage import Stage, multiplied
from eitherway.signal.initialize.start import mean_square
from eitherway.signal.initialize.walk import Walk

CLOSE = 0.01  # nearer to its target than this an output is left alone
CHANCE = 0.05  # at the end of a chain, whose start is exact: what a few samples differ by is chance
_SPREAD = 1.25  # with few outputs spreads as near as this are chance; what a data pass hides grows without limit
_COSINE = 0.03
_SANE = 1e2  # what is off by more was lost or exploded before; a factor would hide it


@dataclass
class Certificate:
    """What the example showed."""

    measured: dict[int, float] = field(default_factory=dict)
    """rms of outputs, by producer, as it is in the end."""
    gradients: dict[int, float] = field(default_factory=dict)
    factors: dict[int, float] = field(default_factory=dict)
    """By producer: what the data pass multiplied its weight by."""
    cosine: tuple[float, float] = (nan, nan)
    spread: tuple[float, float] = (nan, nan)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Geometry:
    """How different samples stand to each other at the outputs."""

    cosine: float
    spread: float


def certify(plan: Plan, stage: Stage, scalable: Mapping[int, float], samples: int) -> Certificate:
    """Measures every output; multiplies weights of `scalable` producers by target / measured, once, if that is safe.

    A data pass alone is a false certificate: each layer's rms can be right while one sample carries the whole batch, or
    all samples point one way. So it is kept only if neither the spread of the samples nor their mean cosine gets worse.

    Args:
        scalable: producers whose weights may be multiplied, with the relative error from which on they are.
        samples: size of the batch axis; 0 where the example has none.
    """
    found = Certificate()
    watched = _ends(plan, samples)
    before, geometry = _measure(plan, stage, watched, samples)
    found.measured = before
    if geometry is None:
        found.notes.append(
            "the example has fewer than two samples, so spread and cosine are not available: measured, not rescaled"
            if samples < 2
            else "no output has an axis of samples, so spread and cosine are not available: measured, not rescaled"
        )
    else:
        found.cosine, found.spread = (geometry.cosine, geometry.cosine), (geometry.spread, geometry.spread)
        if any(_off(before.get(i, nan), plan.rms.get(i, 0.0), least) for i, least in scalable.items()):
            _rescale(plan, stage, scalable, watched, samples, geometry, found)
    found.gradients = _gradients(plan, stage)
    broken = [i for i, rms in found.measured.items() if not math.isfinite(rms)]
    if broken:
        name = plan.structure.producers[broken[0]].name
        found.notes.append(f"the output of {name} is not finite on the example")
    return found


def _rescale(
    plan: Plan,
    stage: Stage,
    scalable: Mapping[int, float],
    watched: list[int],
    samples: int,
    geometry: _Geometry,
    found: Certificate,
) -> None:
    """Tries the factors in order of execution; keeps them if the samples stand to each other as well as before."""
    factors: dict[int, float] = {}
    scaled: dict[str, Tensor] = {}
    after, then = _measure(plan, stage, watched, samples, scalable=scalable, factors=factors, scaled=scaled)
    if not factors or then is None:
        return
    found.cosine, found.spread = (geometry.cosine, then.cosine), (geometry.spread, then.spread)
    worse = []
    if not then.spread <= _SPREAD * geometry.spread:
        worse.append(f"the samples' spread would grow from {geometry.spread:.3g} to {then.spread:.3g}")
    if not then.cosine <= geometry.cosine + _COSINE:
        worse.append(f"their mean cosine would grow from {geometry.cosine:.3g} to {then.cosine:.3g}")
    if worse:
        found.cosine, found.spread = (geometry.cosine, geometry.cosine), (geometry.spread, geometry.spread)
        found.notes.append(f"the data pass was undone: {' and '.join(worse)}")
        return
    stage.made.update(scaled)
    found.measured, found.factors = after, factors


def _measure(
    plan: Plan,
    stage: Stage,
    watched: list[int],
    samples: int,
    *,
    scalable: Mapping[int, float] | None = None,
    factors: dict[int, float] | None = None,
    scaled: dict[str, Tensor] | None = None,
) -> tuple[dict[int, float], _Geometry | None]:
    """rms of every output, and how the samples stand at the watched ones; scales on the way where that is asked for."""
    by_end: dict[int, list[int]] = {}
    graph = plan.structure.graph
    for producer in plan.structure.producers:
        made = graph.values[producer.output].producer
        by_end.setdefault(producer.op if made is None else made, []).append(producer.index)
    measured: dict[int, float] = {}
    allowed = scalable or {}

    def after(op: Op, walk: Walk) -> None:
        for index in by_end[op.index]:
            producer = plan.structure.producers[index]
            rms = math.sqrt(mean_square(walk.env[producer.output]))
            target = plan.rms.get(index, 0.0)
            if factors is not None and scaled is not None and index in allowed and _off(rms, target, allowed[index]):
                factors[index] = target / rms
                names = [name for name in (producer.name, producer.bias) if name in stage.made]
                made = {name: multiplied(stage.made[name], target / rms) for name in names if name is not None}
                scaled.update(made)
                _again(walk, graph.ops[producer.op], op, made)
                rms = math.sqrt(mean_square(walk.env[producer.output]))
            measured[index] = rms

    held = frozenset(watched) | frozenset(plan.structure.producers[i].source for i in allowed)
    with torch.no_grad():
        walk = Walk(graph, stage.made, held)
        walk.run(after=after, only=frozenset(by_end))
        ends = [walk.env[i] for i in watched]
    return measured, _geometry(ends, samples)


def _again(walk: Walk, first: Op, last: Op, made: Mapping[str, Tensor]) -> None:
    """Runs a weighted sum and its bias again with other contents, when the walk stands behind them."""
    for name, tensor in made.items():
        walk.replace(name, tensor, first.index)
    stale = set(first.outputs)
    walk.do(first)
    for op in walk.graph.ops[first.index + 1 : last.index + 1]:
        if stale.intersection(op.inputs):
            walk.do(op)
            stale.update(op.outputs)


def _off(rms: float, target: float, least: float) -> bool:
    if not (target > 0 and rms > 0 and math.isfinite(rms)) or not 1 / _SANE <= target / rms <= _SANE:
        return False
    return abs(target / rms - 1) > least


def _ends(plan: Plan, samples: int) -> list[int]:
    """Values at which samples are compared: what the last weights put out, or else the model itself.

    Where a head puts out few numbers, what it reads is compared instead. Of k unrelated numbers the rms has a standard
    deviation of 1 / sqrt(2 k), and the smallest of n samples falls below 1 by sqrt(ln n / k): with fewer than 4 ln n
    that is more than half, largest over smallest is chance, and any change of the weights throws it anew.
    """
    graph = plan.structure.graph

    def apart(i: int) -> bool:
        value = graph.values[i]
        rows = len(value.shape) > 1 and value.shape[0] == samples
        return samples > 1 and rows and value.dtype.is_floating_point and value.depends

    def telling(i: int) -> bool:
        return apart(i) and graph.values[i].numel >= 4 * math.log(samples) * samples

    heads = [plan.structure.producers[i] for i in plan.structure.heads if plan.rms.get(i, 0.0) > 0]
    ends = [head.source if telling(head.source) and not telling(head.output) else head.output for head in heads]
    for candidates in (ends, list(graph.outputs)):
        found = [i for i in candidates if apart(i)]
        if found:
            return list(dict.fromkeys(found))
    return []


def _geometry(ends: list[Tensor], samples: int) -> _Geometry | None:
    """Mean cosine of different samples, and largest over smallest rms; None where there are not two samples."""
    if samples < 2 or not ends:
        return None
    cosines, spreads = [], []
    for end in ends:
        rows = end.detach().double().reshape(samples, -1)
        norms = torch.linalg.vector_norm(rows, dim=1)
        if not bool(torch.isfinite(norms).all()) or not bool((norms > 0).any()):
            continue
        unit = rows / norms.clamp(min=1e-300)[:, None]
        total = float(unit.sum(0).square().sum())
        cosines.append((total - samples) / (samples * (samples - 1)))
        spreads.append(float(norms.max() / norms.min().clamp(min=1e-300)))
    return _Geometry(max(cosines), max(spreads)) if cosines else None


def _gradients(plan: Plan, stage: Stage) -> dict[int, float]:
    """rms of the gradient at every output, from a random cotangent of rms 1 at the model's outputs."""
    graph = plan.structure.graph
    outputs = {producer.index: producer.output for producer in plan.structure.producers}
    leaves = {
        name: stage.made.get(name, p.detach()).detach().requires_grad_()
        for name, p in stage.live.items()
        if p.is_floating_point()
    }
    with torch.enable_grad():
        walk = Walk(graph, leaves, frozenset(outputs.values()))
        for name, leaf in leaves.items():
            if name in walk.at:
                walk.env[walk.at[name]] = leaf if walk.pure else leaf.clone()
        try:
            walk.run()
            ends = [walk.env[i] for i in graph.outputs if _smooth(walk.env[i])]
            if not ends:
                return {}
            generator = Key(0).child("initialize").torch("cotangent")
            total: Any = sum(
                (end.double() * torch.randn(end.shape, generator=generator, dtype=torch.float64).to(end.device)).sum()
                for end in dict.fromkeys(ends)
            )
            seen = {i: walk.env[value] for i, value in outputs.items() if _smooth(walk.env[value])}
            slopes = torch.autograd.grad(total, list(seen.values()), allow_unused=True)
        except RuntimeError:  # an operation without a derivative, or one that writes where autograd forbids it
            return {}
    return {i: math.sqrt(mean_square(slope)) for i, slope in zip(seen, slopes) if slope is not None}


def _smooth(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.requires_grad
