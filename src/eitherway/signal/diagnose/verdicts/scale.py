"""Signals that grow or shrink on their way, and the sizes that they begin with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

import torch

from eitherway.signal.diagnose.evidence import Evidence, Station
from eitherway.signal.diagnose.layers import Row
from eitherway.signal.diagnose.measure import rms
from eitherway.signal.diagnose.verdicts.causes import forward, why, widest
from eitherway.signal.diagnose.verdicts.parts import ROOT, THOUSAND, Found, found, many, ratio, times
from eitherway.signal.diagnose.ways import trunk
from eitherway.signal.structure import Residual


def growing(e: Evidence) -> Iterator[Found]:
    """A signal that grows by more than ROOT between two norms."""
    told: set[str] = set()
    for segment in e.segments:
        pair = widest([s.rms for s in segment])
        if pair is None:
            continue
        i, j = pair
        if ratio(segment[j].rms, segment[i].rms) <= ROOT or _by_norms(e, segment[i : j + 1]):
            continue
        part = _step(segment, i, j, [s.rms for s in segment])
        rows = [s.row for s in part if s.row is not None]
        if not rows or _of_sums(segment[i : j + 1]) or all(_squashed(row) for row in rows):
            continue
        layers = [row.signal.name for row in rows]
        if set(layers) <= told:
            continue
        told.update(layers)
        factor = ratio(segment[j].rms, segment[i].rms)
        each = factor ** (1 / max(1, len(rows)))
        what = f"{many(layers)} {'explodes' if len(set(layers)) == 1 else 'explode'}"
        what += f", {times(factor)} in all" if len(rows) == 1 else f", {times(each)} a layer, {times(factor)} in all"
        cause, remedy = why(rows, each)
        yield found(
            "exploding signal", "alarm", layers, what, cause, remedy, at=rows[0].signal.op, upto=rows[-1].signal.op
        )


def _squashed(row: Row) -> bool:
    """Whether what grew is cut off at once by a function that is flat there: saturation then is the name of it."""
    return row.slopes is not None and row.slopes.saturated > 0.25


def outliers(e: Evidence) -> Iterator[Found]:
    """Single weights that are too large by more than ROOT, in themselves or beside all others."""
    rows = [r for r in e.rows if r.producer.kind != "embedding" and r.signal.weight_gain > 0]
    middle = median([r.signal.weight_gain for r in rows]) if rows else math.nan
    for row in rows:
        gain = row.signal.weight_gain
        # LeCun's weights have gain 1, He's 1.4, torch's 0.58: the largest in use are within 3
        beside = len(rows) > 3 and gain > ROOT * middle and gain > ROOT / 3
        if (gain > ROOT or beside) and not _squashed(row):
            name = row.signal.name
            wanted = 1 / math.sqrt(row.producer.fan_in)
            yield found(
                "exploding signal",
                "alarm",
                [name],
                f"layer {name} is too large",
                f"its weights have rms {row.signal.weight_rms:.3g}, where 1 / sqrt(fan in) is {wanted:.3g}: it "
                f"multiplies what it reads by {gain:.3g}" + (f", other layers by {middle:.3g}" if beside else ""),
                f"`initialize_(model, example, only='{name}', overwrite=True)`, or divide its weight by {gain:.3g}",
                at=row.signal.op,
            )


def shrinking(e: Evidence) -> Iterator[Found]:
    """A signal, or what differs in it between samples, that falls below a thousandth between two norms; zeros."""
    yield from _zeros(e)
    for segment in e.segments:
        sizes = [s.rms for s in segment]
        lost = [s.variation for s in segment]
        for values, differs in ((sizes, False), (lost, True)):
            pair = widest(values, falls=True)
            if pair is None:
                continue
            i, j = pair
            if values[j] == 0 or ratio(values[i], values[j]) < THOUSAND or _by_norms(e, segment[i : j + 1]):
                continue
            part = _step(segment, i, j, values)
            rows = [s.row for s in part if s.row is not None]
            if not rows:
                continue
            excess = [x for row in rows if (x := forward(row)) is not None]
            typical = math.exp(sum(map(math.log, excess)) / len(excess)) if excess and min(excess) > 0 else 1.0
            heavy = [r.before_theory.mean_share for r in rows if r.before_theory is not None]
            if differs and (typical > 1 / 1.15 or (heavy and median(heavy) > 0.5)):
                continue  # weights keep the size: what is lost is lost to the function between them
            layers = [row.signal.name for row in rows]
            factor = values[j] / values[i]
            each = factor ** (1 / max(1, len(rows)))
            noun = "what tells samples apart vanishes in" if differs else ""
            what = f"{noun} {many(layers)}" if differs else f"{many(layers)} let the signal vanish"
            what += f", {times(each)} a layer, {times(factor)} in all" if len(rows) > 1 else f", {times(factor)}"
            cause, remedy = why(rows, each)
            yield found(
                "vanishing signal",
                "alarm",
                layers,
                what.strip(),
                cause,
                remedy,
                at=rows[0].signal.op,
                upto=rows[-1].signal.op,
            )
            return


def _zeros(e: Evidence) -> Iterator[Found]:
    """Layers that start at zero: fine at the end of a residual branch, a wall on the only way through."""
    on = {s.value for s in e.stations}
    heads = set(e.structure.heads)
    inside = {i for r in e.structure.residuals for i in _only_ways(e, r)}
    meant: list[Row] = []
    scores = _scoring(e)
    for row in e.rows:
        p = row.producer
        if p.op in scores:
            continue  # values go around what only weighs them: attention has verdicts of its own
        if row.signal.weight_rms != 0 or p.index in e.closers or p.kind == "recurrent":
            continue
        name = row.signal.name
        if p.index in heads or (p.output not in on and p.index not in inside):
            meant.append(row)
            continue
        yield found(
            "vanishing signal",
            "alarm",
            [name],
            f"layer {name} lets nothing through",
            "its weights are all zero, and every way of what it reads leads through it",
            f"`initialize_(model, example, only='{name}', overwrite=True)`: zeros belong at the end of residual "
            "branches alone",
            at=row.signal.op,
        )

    if meant:
        names = [row.signal.name for row in meant]
        yield found(
            "vanishing signal",
            "note",
            names,
            f"{many(names)} {'starts' if len(set(names)) == 1 else 'start'} at zero",
            "at the first step the layers before have no gradient from here",
            "meant so for heads, adapters and ends of residual branches; otherwise `initialize_(model, example)`",
            at=meant[0].signal.op,
        )


def _only_ways(e: Evidence, residual: Residual) -> set[int]:
    """Producers that every way from the stream to its branch leads through: what only modulates is none of them."""
    within = [i for i in residual.producers if i not in residual.last]
    if not any(e.row_of[i].signal.weight_rms == 0 for i in within if i in e.row_of):
        return set()
    on = set(trunk(e.graph, [residual.branch], [residual.stream]))
    return {i for i in within if e.structure.producers[i].output in on}


def _scoring(e: Evidence) -> set[int]:
    """Operations that make queries or keys, and nothing else of an attention."""
    found: set[int] = set()
    for a in e.structure.attentions:
        found |= (e.graph.behind([a.query]) | e.graph.behind([a.key])) - e.graph.behind([a.value])
    return found


def inputs(e: Evidence) -> Iterator[Found]:
    """Inputs and embeddings whose size is far from 1, and no norm reads them."""
    for value in _entries(e):
        embedding = e.graph.values[value].kind == "result" and any(r.producer.output == value for r in e.rows)
        met = [value] if embedding else e.met(value)
        if not met:
            continue  # whatever its size, no weight reads it
        read = max(met, key=lambda i: rms(e.run.tensors[i]))
        tensor = e.run.tensors[read].detach()
        name, size = e.graph.values[value].name, rms(tensor)
        embedded = next((r.signal.name for r in e.rows if r.producer.output == value), "")
        layers = [embedded] if embedded else _readers(e, value)
        at = -1 if e.graph.values[value].producer is None else int(e.graph.values[value].producer or 0)
        label = f"the embedding {embedded}" if embedded else f"the input {name}"
        label += "" if read == value else ", as the first weights read it,"
        if size > ROOT and (embedded or value not in e.normed):
            low, high = float(tensor.min()), float(tensor.max())
            bytes_ = not embedded and low >= 0 and 128 < high <= 255 and high - low > 100
            cause = f"the convention of every start is rms 1; its numbers lie from {low:.3g} to {high:.3g}"
            if embedded:
                cause = "the layers that read it, and the branches added to it, are made for rms 1"
            remedy = (
                "divide by 255 and subtract the mean" if bytes_ else "subtract the mean and divide by the deviation"
            )
            remedy = f"divide its weight by {size:.3g}" if embedded else remedy
            yield found("input scale", "alarm", layers, f"{label} has rms {size:.3g}", cause, remedy, at=at)
        elif 0 < size < 1 / ROOT and not embedded and value not in e.normed:
            yield found(
                "input scale",
                "alarm",
                layers,
                f"{label} has rms {size:.2g}",
                "the first layer's gradient is as small: biases drown what it says",
                "divide it by its deviation",
                at=at,
            )
        elif not embedded and value not in e.normed and tensor.ndim == 2 and tensor.shape[1] > 1:
            columns = tensor.double().square().mean(0).sqrt()
            worst = int(columns.argmax())
            if float(columns[worst]) > ROOT:
                yield found(
                    "input scale",
                    "alarm",
                    layers,
                    f"feature {worst} of {label} has rms {float(columns[worst]):.3g}",
                    f"the median feature has {float(columns.median()):.3g}: the large ones decide alone",
                    "standardise each feature by itself",
                    at=at,
                )


def _entries(e: Evidence) -> list[int]:
    """Floating inputs, what whole numbers are made into before anything reads them, and embeddings."""
    found = [i for i in e.graph.inputs if e.graph.values[i].dtype.is_floating_point]
    for op in e.graph.ops:
        if op.name in ("to", "_to_copy", "float", "type_as") and op.outputs and op.inputs[:1]:
            source = e.graph.values[op.inputs[0]]
            if source.kind == "input" and source.dtype != torch.bool and not source.dtype.is_floating_point:
                found.append(op.outputs[0])
    found += [
        r.producer.output
        for r in e.rows
        if r.producer.kind == "embedding" and e.graph.values[r.producer.output].depends
    ]
    return [i for i in found if i in e.run.tensors and e.graph.values[i].dtype.is_floating_point]


def _readers(e: Evidence, value: int) -> list[str]:
    """The layers that read a value first."""
    names = [e.names[p.index] for p in e.structure.producers if value in (*p.sources, *_sources(e, p.index))]
    return names[:4]


def _sources(e: Evidence, producer: int) -> tuple[int, ...]:
    path = e.structure.paths.get(producer)
    return path.sources if path is not None else ()


def _step(segment: Sequence[Station], i: int, j: int, values: Sequence[float]) -> Sequence[Station]:
    """The one station that makes more than half of a change, or all of them."""
    total = abs(math.log(values[j] / values[i]))
    held = [k for k in range(i, j + 1) if values[k] > 0 and math.isfinite(values[k])]
    for a, b in zip(held, held[1:]):
        if abs(math.log(values[b] / values[a])) > total / 2 and j - i > 1 and segment[b].row is not None:
            return [segment[b]]
    return segment[i + 1 : j + 1]


def _of_sums(part: Sequence[Station]) -> bool:
    """Whether a stretch grows by residual sums: another verdict's affair."""
    sums = sum(s.kind == "sum" for s in part[1:])
    return sums > 1 and sums >= sum(s.row is not None for s in part[1:])


def _by_norms(e: Evidence, part: Sequence[Station]) -> bool:
    """Whether the stretch is a residual stream that only norms read, or ends before one: its size does not matter."""
    return any(s.value in e.read_by_norms for s in part) or part[-1].value in e.normed


def recurring(e: Evidence) -> Iterator[Found]:
    """The same weights applied again and again, each time to what grew the last time."""
    uses: dict[str, list[Row]] = {}
    for row in e.rows:
        uses.setdefault(row.producer.name, []).append(row)
    for rows in uses.values():
        sizes = [r.signal.rms for r in rows]
        pair = widest(sizes) if len(rows) > 3 else None
        if pair is None or any(r.producer.kind == "embedding" for r in rows):
            continue
        i, j = pair
        growth = ratio(sizes[j], sizes[i] or math.nan)
        later = [s for s in sizes[i + 1 : j + 1] if s > 0]
        if not growth > ROOT or j - i < 3 or not later or ratio(later[-1], later[0]) <= ROOT:
            continue
        name, each = rows[0].signal.name, growth ** (1 / (j - i))
        yield found(
            "exploding signal",
            "alarm",
            [name],
            f"layer {name} explodes over its {len(rows)} uses, {times(each)} a step, {times(growth)} in all",
            f"each use reads what the last one made; its weights multiply by {rows[0].signal.weight_gain:.3g}",
            "an orthogonal start for recurrent weights, a function that is bounded, or gates",
            at=rows[0].signal.op,
            upto=rows[-1].signal.op,
        )
