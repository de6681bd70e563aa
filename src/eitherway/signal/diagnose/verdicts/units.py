"""Units that are of no use: dead, saturated, or copies of one another."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.layers import Row, producer_of, weight_rows
from eitherway.signal.diagnose.measure import by_sample
from eitherway.signal.diagnose.slopes import Slopes, unit_theory
from eitherway.signal.diagnose.verdicts.parts import HALF, Found, found, many

_MOST = 2**22
TENTH = 0.05
"""Share of numbers that must be awake. Half are for centred ones, and a start counts on it: at a twentieth a layer
passes a tenth of the squared gradient that its weights were made for."""
QUARTER = 0.25
"""Of a squashing function's numbers, as many fall where it is flat: under a Gaussian tanh has so many at 3.6 times
the scale of its exact start."""


def dead(e: Evidence) -> Iterator[Found]:
    """Layers most of whose units have no slope on nearly all samples and positions."""
    worst: list[tuple[Row | None, str, Slopes, float]] = []
    for value, slope in e.slopes.items():
        if slope.units < 8:
            continue
        chance = asleep_by_chance(e, value)
        error = 2 * math.sqrt(chance * (1 - chance) / slope.units)  # two deviations of a share of so many units
        share = (slope.quiet - chance - error) / max(1 - chance, 1e-9)
        if share > HALF or (slope.awake < TENTH and chance < HALF / 2 and slope.quiet + slope.saturated > 0):
            p = producer_of(e.structure, value)
            row = e.row_of.get(p.index) if p is not None else None
            worst.append((row, row.signal.name if row else e.graph.values[value].name, slope, share))
    if not worst:
        return
    row, name, slope, _ = worst[0]
    layers = [n for _, n, _, _ in worst]
    shift = slope.mean / slope.scale if slope.scale > 0 else -math.inf
    cause = f"{slope.text} sees numbers of mean {slope.mean:.3g} and deviation {slope.scale:.3g}"
    bias = _bias(e, row)
    if bias is not None and bias < -slope.scale:
        cause += f": the biases average {bias:.3g}"
        remedy = f"start the biases at 0: `initialize_(model, example, only='{name}', overwrite=True)`"
    elif shift < -1:
        remedy = "a smaller rate, if a step has driven them there; LeakyReLU or GELU let them come back"
    else:
        remedy = "LeakyReLU or GELU let them come back; then a smaller rate"
    yield found(
        "dead units",
        "alarm",
        layers,
        f"{many(layers)}: {slope.quiet:.0%} of {slope.units} units are asleep on all but one number in a hundred, and "
        f"{slope.awake:.1%} of all numbers have a slope",
        cause,
        remedy,
        at=_op(e, row),
        upto=_op(e, worst[-1][0]),
    )


def asleep_by_chance(e: Evidence, value: int) -> float:
    """Share of ReLU units that no sample wakes where all numbers are centred: 2^-B for unrelated samples.

    For samples of mean cosine c it is E_t Phi(-sqrt(c) t / sqrt(1 - c))^B: samples that are alike sleep together. What
    all units share is taken out first: it is no chance.
    """
    u = e.run.tensors[value].detach()
    rows = by_sample(u, e.run.batch)
    if rows is None:
        return 0.5
    centred = rows[:, :: -(-rows.numel() // _MOST)].double()
    centred = centred - centred.mean()
    unit = centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-300)
    n = len(unit)
    c = float(((unit.sum(0) @ unit.sum(0)) - n) / (n * (n - 1)))
    c = min(max(c, 0.0), 1 - 1e-9)
    t = torch.linspace(-8, 8, 801, dtype=torch.float64)
    density = torch.exp(-t * t / 2)
    inner = torch.special.ndtr(-math.sqrt(c / (1 - c)) * t) ** n
    return float((density * inner).sum() / density.sum())


def _bias(e: Evidence, row: Row | None) -> float | None:
    name = row.producer.bias if row is not None else None
    bias = e.run.parameters.get(name) if name else None
    return None if bias is None else float(bias.detach().double().mean())


def saturated(e: Evidence) -> Iterator[Found]:
    """Layers whose squashing function is flat where a quarter of its numbers fall."""
    ends = set(e.run.outputs)
    heads = set(e.structure.heads)
    worst: list[tuple[Row | None, str, Slopes]] = []
    for value, slope in e.slopes.items():
        p = producer_of(e.structure, value)
        if slope.saturated <= QUARTER or value in ends or (p is not None and p.index in heads):
            continue  # the answer itself may be certain
        row = e.row_of.get(p.index) if p is not None else None
        worst.append((row, row.signal.name if row else e.graph.values[value].name, slope))
    if not worst:
        return
    row, name, slope = worst[0]
    layers = [n for _, n, _ in worst]
    cause = f"{slope.text} sees numbers of deviation {slope.scale:.3g} around {slope.mean:.3g}"
    remedy = f"`initialize_(model, example, only='{name}', overwrite=True)`"
    if row is not None and row.before is not None:
        known = unit_theory(row.before)
        gain = row.signal.weight_gain * (math.sqrt(known.second) if known else 1.0)
        if gain > 1.5:
            cause += f": the weights are {gain:.3g} times as large as keeps its size"
    share = max(s.saturated for _, _, s in worst)
    yield found(
        "saturated units",
        "alarm",
        layers,
        f"{many(layers)}: {share:.0%} of the numbers fall where {slope.text} is flat (slope below a thousandth)",
        cause,
        remedy,
        at=_op(e, row),
        upto=_op(e, worst[-1][0]),
    )


def identical(e: Evidence) -> Iterator[Found]:
    """Units with the same weights: they compute the same, and where their gradients are the same they always will."""
    layers: list[str] = []
    first: Row | None = None
    same_gradients = False
    heads = set(e.structure.heads)
    for row in e.rows:
        weight = weight_rows(row.producer, e.run)
        if weight is None or row.producer.kind in ("embedding", "recurrent") or not row.signal.weight_rms > 0:
            continue
        if len(weight) < 2 or weight.numel() > 2**24 or row.producer.groups > 1 or weight.shape[1] < 2:
            continue
        bias = e.run.parameters.get(row.producer.bias or "")
        if bias is not None and bias.numel() == len(weight):
            weight = torch.cat([weight, bias.detach().to(weight.dtype)[:, None]], 1)
        if _copies(weight) <= len(weight) / 2:
            continue
        gradient = e.by_name.get(row.producer.name)
        alike = False
        if gradient is not None and not row.producer.part:
            rows = gradient.movedim(row.producer.out_axis, 0).reshape(len(weight), -1).double()
            alike = _copies(rows) > len(rows) / 2
        if row.producer.index in heads and not alike:
            continue  # the first step tells the answers apart
        layers.append(row.signal.name)
        first = first or row
        same_gradients = same_gradients or alike
    if first is None:
        return
    cause = "their weights are equal, so they compute the same"
    cause += ", and so are their gradients: training never tells them apart" if same_gradients else ""
    yield found(
        "identical units",
        "alarm",
        layers,
        f"the units of {many(layers)} are copies of one another",
        cause,
        "draw them at random: `initialize_(model, example, overwrite=True)`",
        at=first.signal.op,
        upto=first.signal.op,
    )


def copied(e: Evidence) -> Iterator[Found]:
    """Parallel layers with the same weights and the same gradients: experts, heads or towers that were copied."""
    alike: dict[tuple[object, ...], list[Row]] = {}
    seen: set[str] = set()
    for row in e.rows:
        weight, gradient = e.run.parameters.get(row.producer.name), e.by_name.get(row.producer.name)
        if weight is None or gradient is None or row.producer.name in seen or row.producer.part:
            continue
        seen.add(row.producer.name)
        if weight.ndim > 1 and weight.numel() > 1 and row.signal.weight_rms != 0 and bool(gradient.any()):
            key = (tuple(weight.shape), float(weight.detach().double().sum()), float(weight.detach().reshape(-1)[0]))
            alike.setdefault(key, []).append(row)
    told: list[list[Row]] = [same for rows in alike.values() if len(same := _twins(e, rows)) > 1]
    if not told:
        return
    rows = sorted((row for same in told for row in same), key=lambda r: r.signal.op)
    layers = [row.signal.name for row in rows]
    yield found(
        "identical units",
        "alarm",
        layers,
        f"{many(layers)} hold copies: {' = '.join(row.signal.name for row in told[0][:3])}",
        "their weights are equal, and so are their gradients: training never tells them apart",
        "draw each by itself: `initialize_(model, example, overwrite=True)`, or make modules anew and copy none",
        at=rows[0].signal.op,
        upto=rows[-1].signal.op,
    )


def _twins(e: Evidence, rows: list[Row]) -> list[Row]:
    """Those whose weight and gradient are the first one's: gradients to rounding."""
    name = rows[0].producer.name
    weight, gradient = e.run.parameters[name].detach(), e.by_name[name]
    room = 1e-4 * float(gradient.abs().max())
    return [
        row
        for row in rows
        if torch.equal(e.run.parameters[row.producer.name].detach(), weight)
        and bool(((e.by_name[row.producer.name] - gradient).abs() <= room).all())
    ]


def _copies(rows: Tensor) -> int:
    """How many rows another row equals, to rounding."""
    rows = rows[rows.abs().amax(1) > 0]  # zeros are another verdict's
    if len(rows) < 2:
        return 0
    scale = rows.abs().max()
    along = torch.linspace(1.0, 2.0, rows.shape[1], dtype=rows.dtype, device=rows.device).sin()
    marks = (rows @ along).sort().values / (scale * along.norm())
    close = (marks.diff() < 1e-6).double().mean() if len(marks) > 1 else 0.0
    if close < 0.25:  # equal rows have equal marks, and chance brings few so close
        return 0
    keys = torch.round(rows / scale * 1e6)
    _, inverse, counts = torch.unique(keys, dim=0, return_inverse=True, return_counts=True)
    return int((counts[inverse] > 1).sum())


def _op(e: Evidence, row: Row | None) -> int:
    return row.signal.op if row is not None else -1
