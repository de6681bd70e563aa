"""Gradients that grow or shrink on their way back, and parameters that have none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

import torch

from eitherway.graph import Op
from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.layers import Row, weight_rows
from eitherway.signal.diagnose.slopes import unit_theory
from eitherway.signal.diagnose.verdicts.causes import forward, why, widest
from eitherway.signal.diagnose.verdicts.parts import (
    ROOT,
    THOUSAND,
    Found,
    found,
    listed,
    many,
    ratio,
    scheme_for,
    times,
)


def changing(e: Evidence) -> Iterator[Found]:
    """A gradient that differs by more than a thousand along the trunk, or along a chain beside it."""
    on = [s for s in e.stations if s.kind not in ("input", "embedding") and s.value not in e.normed | e.read_by_norms]
    held = {s.value for s in e.stations}
    ways = [on, *(part for part in e.segments if not any(s.value in held for s in part))]
    for way in ways:
        way = [s for s in way if s.gradient > 0 and math.isfinite(s.gradient)]
        back = way[::-1]
        sizes = [s.gradient for s in back]
        for grows in (True, False):
            pair = widest(sizes, falls=not grows)
            if pair is None:
                continue
            i, j = pair
            change = ratio(sizes[j], sizes[i])
            far = change if grows else 1 / change
            # growth counts from ROOT on as a note: plain stacks with batch norm have 1.2 a layer (Yang et al. 2019)
            if far < (ROOT if grows else THOUSAND):
                continue
            rows = [s.row for s in back[i : j + 1] if s.row is not None][::-1]
            if not rows:
                continue
            layers = [r.signal.name for r in rows]
            steps = max(1, len(rows) - 1)
            each = change ** (1 / steps)
            kind = "exploding gradient" if grows else "vanishing gradient"
            verb = "grows" if grows else "vanishes"
            what = (
                f"the gradient {verb} through {many(layers)}, {times(each)} a layer towards the input, {times(change)} "
                "in all"
            )
            cause, remedy = _why(rows, each)
            yield found(
                kind,
                "alarm" if far >= THOUSAND else "note",
                layers,
                what,
                cause,
                remedy,
                at=rows[0].signal.op,
                upto=rows[-1].signal.op,
            )


def _why(rows: list[Row], each: float) -> tuple[str, str]:
    """What a factor a layer of the gradient comes from: weights, or the slope of the function between."""
    inner = [r for r in rows[1:] if r.before is not None and r.before_theory is not None] or list(rows)
    row = inner[len(inner) // 2]
    known = unit_theory(row.before) if row.before is not None else None
    if known is None or row.before is None:
        return why(rows, each)
    chi = known.slope / known.second  # of the squared gradient, with weights that keep the signal
    typical = [x for r in inner if (x := forward(r)) is not None and x > 0]
    weights = math.log(median(typical)) if typical else 0.0
    slope, log = 0.5 * math.log(chi) if chi > 0 else -math.inf, math.log(each) if each > 0 else -math.inf
    if row.before.kind == "activation" and slope * log > 0 and abs(slope) >= 0.25 * abs(log):
        says = f"{row.before.text} passes chi = {chi:.3g} of the squared gradient a layer"
        says += " where the weights keep the signal"
        if abs(weights) > abs(slope):
            says += (
                f", and they are {math.exp(abs(weights)):.3g} times too {'small' if weights < 0 else 'large'} for it"
            )
        return says, scheme_for(row.before)
    return why(rows, each)


def missing(e: Evidence) -> Iterator[Found]:
    """Parameters that no gradient reaches, by what keeps it from them."""
    if not e.run.differentiable or not any(p.requires_grad for p in e.run.parameters.values()):
        yield _nowhere(e)
        return
    graph = e.graph
    values = {v.name: v for v in graph.values if v.kind == "parameter"}
    frozen = [n for n, p in e.run.parameters.items() if not p.requires_grad]
    lost = [n for n, p in e.run.parameters.items() if p.requires_grad and n not in e.by_name]
    yield from _frozen(e, frozen)
    unused = [n for n in lost if n not in values and not any(n in v.aliases for v in values.values())]
    if unused:
        yield found(
            "no gradient",
            "alarm",
            owners(unused),
            f"{_belong(unused)} never used",
            "the run does not read them",
            "call what they belong to in forward, or remove it",
        )
    cut: dict[tuple[int, str], list[str]] = {}
    first: dict[tuple[int, str], int] = {}
    loose: list[str] = []
    for name in lost:
        if name in unused or name not in values:
            continue
        op = _where_cut(e, values[name].index)
        if op is None:
            loose.append(name)
        else:
            quiet = graph.ops[op].cut and graph.ops[op].name not in _CUTS  # one no_grad holds many operations
            place = (-1, graph.ops[op].module.partition(".")[0]) if quiet else (op, "")
            cut.setdefault(place, []).append(name)
            first.setdefault(place, op)
    for place, names in cut.items():
        yield _cut(e, first[place], names)
    if loose:
        yield found(
            "no gradient",
            "alarm",
            owners(loose),
            f"{_belong(loose)} without effect on what is differentiated",
            "what is made of them is never used again",
            "use it in forward, or remove it",
        )
    yield from _hidden(e)


def _hidden(e: Evidence) -> Iterator[Found]:
    """Parameters in the run that the model does not own: layers in a plain list."""
    places: dict[str, int] = {}
    for v in e.graph.values:
        if v.kind == "constant" and isinstance(v.tensor, torch.nn.Parameter) and v.tensor.requires_grad:
            op = next((o for o in e.graph.users[v.index] if e.own(o)), None)
            if op is not None:
                places.setdefault(e.graph.ops[op].where or e.graph.ops[op].name, op)
    if places:
        names = list(places)
        yield found(
            "no gradient",
            "alarm",
            names,
            f"parameters used in {listed(names)} are not the model's own",
            "no optimiser that is given model.parameters() ever sees them: their modules stand in a plain list or dict",
            "keep them in an nn.ModuleList or nn.ModuleDict",
            at=min(places.values()),
        )


_CUTS = {"detach": ".detach()", ".data": ".data", "detach_": ".detach_()"}


def _cut(e: Evidence, op: int, names: list[str]) -> Found:
    cutting = e.graph.ops[op]
    how = _CUTS.get(cutting.name)
    if how is None and cutting.cut:
        how = f"torch.no_grad() around {cutting.name}"
    flat = how is None
    how = how or f"{cutting.name}, whose answer has no slope,"
    where = cutting.where or cutting.module or "in forward"
    return found(
        "no gradient",
        "alarm",
        owners(names),
        f"no gradient reaches {many(owners(names))}",
        f"{how} in {where} cuts it off",
        "keep the gradient another way, straight through or by a soft version" if flat else f"take {how} out there",
        at=op,
    )


def _where_cut(e: Evidence, value: int) -> int | None:
    """The first operation that a parameter's effect passes and its gradient does not."""
    graph = e.graph
    moved = {value}
    for op in graph.ops:
        if not any(i in moved for i in op.inputs):
            continue
        tensors = [e.run.tensors.get(i) for i in op.outputs]
        if op.outputs and all(t is None or not t.requires_grad for t in tensors):
            return op.index
        moved.update(op.outputs)
    return None


def _nowhere(e: Evidence) -> Found:
    """The output itself has no gradient: why."""
    trainable = [n for n, p in e.run.parameters.items() if p.requires_grad]
    if not trainable:
        names = list(e.run.parameters)
        return found(
            "no gradient",
            "alarm",
            owners(names),
            f"all {len(names)} parameters are frozen",
            "requires_grad is False everywhere",
            "`model.requires_grad_(True)`",
        )
    op = next((op for op in reversed(e.graph.ops) if op.cut or _to_whole(e, op)), None)
    if op is None:
        return found(
            "no gradient",
            "alarm",
            owners(trainable),
            "the output does not depend on any parameter",
            "nothing that is trained enters it",
            "return what the layers make",
        )
    first = next((o for o in e.graph.ops if o.cut or _to_whole(e, o)), op)
    return _cut(e, first.index, trainable)


def _to_whole(e: Evidence, op: Op) -> bool:
    values = e.graph.values
    return (
        bool(op.outputs)
        and not values[op.outputs[0]].dtype.is_floating_point
        and any(values[i].dtype.is_floating_point and values[i].depends for i in op.inputs)
    )


def _frozen(e: Evidence, names: list[str]) -> Iterator[Found]:
    """Frozen weights: a mistake where learning ones stand before them and they are as they were drawn, else meant."""
    weights = [n for n in names if e.run.parameters[n].ndim > 1]
    if not weights:
        return
    held = [r for r in e.rows if r.producer.parameters and all(n in names for n in r.producer.parameters)]
    learning = {r.producer.op for r in e.rows if any(e.run.parameters[n].requires_grad for n in r.producer.parameters)}
    stuck = [
        r
        for r in held
        if learning & e.graph.behind(r.producer.sources) and looks_drawn(e, r) and not _adapted(e, r, learning)
    ]
    if stuck:
        layers = [r.signal.name for r in stuck]
        cause = "requires_grad is False, though their weights are as they were drawn: random numbers stay what they are"
        yield found(
            "no gradient",
            "alarm",
            layers,
            f"{many(layers)} {'is' if len(set(layers)) == 1 else 'are'} frozen",
            cause,
            "`.requires_grad_(True)` on them, or freeze trained layers only",
        )
    told = {n for r in stuck for n in r.producer.parameters}
    rest = [n for n in weights if n not in told]
    if rest:
        layers = owners(rest)
        drawn = any(looks_drawn(e, r) for r in held if r not in stuck)
        yield found(
            "no gradient",
            "note",
            layers,
            f"{many(layers)} {'is' if len(layers) == 1 else 'are'} frozen",
            "requires_grad is False; their weights look " + ("as they were drawn" if drawn else "trained"),
            "nothing, if that is meant",
        )


def _adapted(e: Evidence, row: Row, learning: set[int]) -> bool:
    """Whether something that learns reads what a frozen layer reads, and is added to what it makes: LoRA, adapters."""
    graph, value = e.graph, row.producer.output
    known = graph.behind(row.producer.sources)
    for _ in range(4):  # scaled, dropped out or moved before it is added
        users = [graph.ops[o] for o in graph.users[value]]
        for op in users:
            if op.name.removesuffix("_") in ("add", "sub"):
                return any(learning & (graph.behind([i]) - known) for i in op.inputs if i != value)
        if len(users) != 1 or not users[0].outputs:
            return False
        value = users[0].outputs[0]
    return False


def looks_drawn(e: Evidence, row: Row) -> bool:
    """Whether a weight looks like independent random numbers, uniform or normal, or like an orthogonal matrix.

    Uniform numbers end at sqrt(3) deviations, and the first steps of training pass that. Normal ones have a kurtosis of
    3 and, as an (m, n) matrix of deviation s, a largest singular value of s (sqrt m + sqrt n) (Marchenko and Pastur
    1967); training adds directions that stand out.
    """
    weight = weight_rows(row.producer, e.run)
    if weight is None or min(weight.shape) < 4 or weight.numel() > 2**22:
        return False
    scaled = (weight - weight.mean()) / weight.std()
    if float(scaled.abs().max()) < 1.02 * 3**0.5:
        return True
    values = torch.linalg.svdvals(weight)
    if float(values[0]) < 1.01 * float(values[-1]):
        return True
    normal = abs(float(scaled.pow(4).mean()) - 3) < 5 * (24 / weight.numel()) ** 0.5
    edge = float(weight.std()) * (weight.shape[0] ** 0.5 + weight.shape[1] ** 0.5)
    return normal and float(values[0]) < 1.06 * edge


def owners(names: list[str]) -> list[str]:
    """The modules that parameters belong to, each once."""
    return list(dict.fromkeys(n.rpartition(".")[0] or n for n in names))


def _belong(names: list[str]) -> str:
    modules = owners(names)
    return f"the {len(names)} parameters of {many(modules, 'module')} are" if len(names) > 1 else f"{names[0]} is"
