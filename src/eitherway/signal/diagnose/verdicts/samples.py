"""What becomes of the differences between samples: one carries the batch, all look alike, few directions are left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

import torch

from eitherway.graph import Op
from eitherway.signal.diagnose.evidence import TELLING, Evidence, Station
from eitherway.signal.diagnose.layers import Row, weight_rows
from eitherway.signal.diagnose.measure import by_sample, rms
from eitherway.signal.diagnose.slopes import unit_theory
from eitherway.signal.diagnose.verdicts.parts import ROOT, Found, found, listed, many, scheme_for

ALIKE = 0.005
"""The share of the mean square that must tell two samples apart. A rate is bounded by what all samples share, and what
tells them apart is learned that much slower: two hundred times here. Plain ReLU layers of exact gain leave 9 pi^2 /
(2 L^2) after L of them (Hayou et al. 2019), which is reached at 94."""
LINED_UP = 0.02
"""The same where the functions alone line samples up, layer by layer: then every further layer does so, too. Plain ReLU
layers of exact gain reach it at 47; of 30 no reader has reported a gain (He et al. 2015, section 3.3)."""
SHARE = 0.05
"""Mean share of a function from which on it lines samples up: tanh and all odd ones have 0, GELU 0.19, ReLU 0.32."""


def unequal(e: Evidence) -> Iterator[Found]:
    """One sample carries the batch: sizes that were alike at the input differ by more than ROOT."""
    entry = e.entry
    if entry is None or not math.isfinite(entry.samples.spread):
        return
    base = max(1.0, entry.samples.spread)
    far = [s for s in _inside(e) if s.samples.spread > ROOT * base and s.row is not None]
    if not far:
        return
    layers = [s.name for s in far]
    rows = [s.row for s in far if s.row is not None]
    worst = max(s.samples.spread for s in far)
    row = rows[len(rows) // 2]
    known = unit_theory(row.before) if row.before is not None else None
    cause = "differences in size grow from layer to layer"
    if known is not None and known.stability > 1.02 and row.before is not None:
        cause = f"{row.before.text}'s variance map is unstable (Q' = {known.stability:.3g}): differences in size grow"
    yield found(
        "unequal samples",
        "alarm",
        layers,
        f"one sample carries the batch in {many(layers)}: the largest is {worst:.3g} times the smallest, at the input "
        f"{entry.samples.spread:.3g} times",
        cause,
        scheme_for(row.before),
        at=rows[0].signal.op,
        upto=rows[-1].signal.op,
    )


def parallel(e: Evidence) -> Iterator[Found]:
    """Inputs that differ cannot be told apart any more."""
    entry = e.entry
    if entry is None:
        return
    told = min(entry.samples.difference, 1 - entry.samples.cosine)  # a shift at the input is in the model's way, too
    if told < ALIKE and entry.kind == "input" and entry.value not in e.normed and e.run.batch > 3:
        e.notes.append(
            f"the samples of the example are alike (cosine {entry.samples.cosine:.4f}): spread, cosine and rank tell "
            "little; give a batch of real data, its mean subtracted"
        )
    if told < ALIKE:
        yield from _repeated(e)
        return
    drowned = _drowned(e)
    after = [s for s in _inside(e) if s.samples.difference < ALIKE * told and s.rms > 0] or _lined_up(e, told)
    if not after:
        return
    rows = [s.row for s in after if s.row is not None]
    first = after[0]
    if drowned is not None and drowned[0] <= first.op:
        op, name, times_ = drowned
        yield found(
            "parallel samples",
            "alarm",
            [name],
            f"{name} drowns what it is added to",
            f"it is {times_:.3g} times as large, and the same for every sample (cosine {first.samples.cosine:.4f} "
            "after it)",
            f"start it as small as the other side: divide it by {times_:.3g}",
            at=-1,  # it is so before anything runs, and gradients vanish before the sum, too
            upto=op,
        )
        return
    after = [s for s in _inside(e) if s.op >= first.op]
    rows = [s.row for s in after if s.row is not None]
    layers = [s.name for s in after]
    cause, remedy = _why_parallel(e, first)
    yield found(
        "parallel samples",
        "alarm",
        layers,
        f"inputs cannot be told apart any more in {many(layers)} (cosine {after[-1].samples.cosine:.4f}, at the input "
        f"{entry.samples.cosine:.2f})",
        cause,
        remedy,
        at=rows[0].signal.op if rows else first.op,
        upto=rows[-1].signal.op if rows else first.op,
    )


def one_row(e: Evidence) -> Iterator[Found]:
    """Tables that the whole batch asks for one row, though what they are asked with was made of samples that differ.

    One column may be constant in a batch; none of an input's tables tells samples apart only where a cast or a bound
    has made all its numbers one. Places counted from a mask are the same for all samples by right.
    """
    asked: dict[frozenset[int], list[tuple[Row, bool]]] = {}
    given = [i for i in e.graph.inputs if i in e.run.tensors]
    for row in e.rows:
        ids = e.run.tensors.get(row.producer.source)
        if row.producer.kind != "embedding" or ids is None or not e.graph.values[row.producer.source].depends:
            continue
        ops = [e.graph.ops[o] for o in e.graph.behind([row.producer.source])]
        read = frozenset(i for i in (row.producer.source, *(i for op in ops for i in op.inputs)) if i in given)
        numbers = by_sample(ids.detach(), e.run.batch)
        if read and numbers is not None:
            asked.setdefault(read, []).append((row, bool((numbers == numbers[0, 0]).all()) and not _masked(e, ops)))
    for read, rows in asked.items():
        sources = [by_sample(e.run.tensors[i].detach(), e.run.batch) for i in read]
        differ = any(x is not None and bool((x != x[:1]).any()) for x in sources)
        if e.run.batch < 4 or not differ or not all(same for _, same in rows):
            continue
        layers = [row.signal.name for row, _ in rows]
        yield found(
            "parallel samples",
            "alarm",
            layers,
            f"all {e.run.batch} samples ask {many(layers, 'table')} for one row",
            f"the samples of {listed([e.graph.values[i].name for i in sorted(read)])} differ, and the whole numbers "
            "made of them do not",
            "give the codes as they are: no scaling before the cast, no bound below their number",
            at=rows[0][0].signal.op,
            upto=10**9,
        )


def _masked(e: Evidence, ops: list[Op]) -> bool:
    return any(e.graph.values[i].dtype == torch.bool for op in ops for i in op.outputs)


def _repeated(e: Evidence) -> Iterator[Found]:
    """One sample in every place of the batch; the same number everywhere is a stand-in, and no data."""
    given = [e.run.tensors[i].detach() for i in e.graph.inputs if i in e.run.tensors]
    given = [x for x in given if x.ndim > 0 and x.shape[0] == e.run.batch]
    if e.run.batch < 4 or not given or any(bool((x != x[:1]).any()) for x in given):
        return
    if all(bool((x == x.reshape(-1)[0]).all()) for x in given):
        return
    names = [e.graph.values[i].name for i in e.graph.inputs if i in e.run.tensors]
    first = [row.signal.name for row in e.rows if e.graph.values[row.producer.output].depends][:1]
    yield found(
        "parallel samples",
        "alarm",
        [*first, *names],
        f"all {e.run.batch} samples of {listed(names)} are the same",
        "whatever the model computes, it cannot answer them differently",
        "look at how batches are made: one sample is repeated",
        upto=10**9,
    )


def _lined_up(e: Evidence, told: float) -> list[Station]:
    """Stations after which samples are alike for the mean of the functions between, and for nothing else.

    Weights keep the size there and biases are small beside what they are added to. The last quarter of the stations
    decides: the cosine of narrow layers goes up and down.
    """
    inside = [s for s in _inside(e) if s.rms > 0]
    rows = [s.row for s in inside if s.row is not None]
    shares = [r.before_theory.mean_share for r in rows if r.before_theory is not None and r.before is not None]
    if len(inside) < 8 or not shares or median(shares) < SHARE:
        return []
    if median(r.bias / r.signal.rms for r in rows if r.signal.rms > 0) > 0.1:
        return []
    if median(s.samples.difference for s in inside[-(len(inside) // 4) :]) >= LINED_UP * told:
        return []
    return [s for s in inside if s.samples.difference < LINED_UP * told]


def _why_parallel(e: Evidence, first: Station) -> tuple[str, str]:
    rows = [
        r for r in e.rows if r.before is not None and r.before.kind == "activation" and r.signal.op <= max(first.op, 0)
    ]
    rows = rows or [r for r in e.rows if r.before is not None and r.before.kind == "activation"]
    shares = [(r, r.before_theory.mean_share) for r in rows if r.before_theory is not None]
    if shares and median(s for _, s in shares) > SHARE:
        row, share = shares[len(shares) // 2]
        text = row.before.text if row.before is not None else "the activation"
        return f"{text} has a mean, {share:.0%} of its mean square, and every layer adds it to all samples", scheme_for(
            row.before
        )
    return "biases, or what else is the same for every sample, outgrow the signal", "`initialize_(model, example)`"


def _drowned(e: Evidence) -> tuple[int, str, float] | None:
    """A sum on the trunk of the signal and of something larger that is the same for every sample."""
    on = set(e.trunk)
    for op in e.graph.ops:
        if op.name not in ("add", "add_") or not op.outputs or op.outputs[0] not in on or not e.own(op.index):
            continue
        sides = [i for i in op.inputs if i in e.run.tensors]
        moving = [i for i in sides if e.graph.values[i].depends]
        fixed = [i for i in sides if not e.graph.values[i].depends and e.graph.values[i].dtype.is_floating_point]
        if len(moving) != 1 or len(fixed) != 1:
            continue
        signal, table = _differing(e, moving[0]), rms(e.run.tensors[fixed[0]])
        if signal > 0 and (table / signal) ** 2 > 1 / ALIKE / 4:
            return op.index, _name_of(e, fixed[0]), table / signal
    return None


def _differing(e: Evidence, value: int) -> float:
    """Rms of what differs between samples; of the whole where there is one sample."""
    tensor = e.run.tensors[value].detach()
    rows = by_sample(tensor, e.run.batch)
    return rms(tensor) if rows is None else rms(rows - rows.mean(0))


def _name_of(e: Evidence, value: int) -> str:
    """The parameter or layer that a value was made of."""
    for row in e.rows:
        if row.producer.output == value:
            return row.signal.name
    found = e.graph.values[value]
    if found.kind != "result":
        return found.name
    for op in sorted(e.graph.behind([value]), reverse=True):
        for i in e.graph.ops[op].inputs:
            if e.graph.values[i].kind == "parameter":
                return e.graph.values[i].name.removesuffix(".weight")
    return found.name


def low_rank(e: Evidence) -> Iterator[Found]:
    """A layer through which fewer directions pass than samples, units and everything before it allow."""
    thin = [(row, rank) for row in e.rows if row.producer.output in e.trunk_set and (rank := _thin(e, row))]
    for row, rank in thin[:1]:
        room = int(min(row.width, row.producer.fan_in))
        yield found(
            "low rank",
            "alarm",
            [r.signal.name for r, _ in thin],
            f"layer {row.signal.name} leaves {rank} of {room} directions",
            f"its weight has numerical rank {rank}",
            "start it with independent or orthogonal rows: `initialize_(model, example)`",
            at=row.signal.op,
            upto=thin[-1][0].signal.op,
        )
    yield from _squeezed(e)
    if thin or e.entry is None or math.isnan(e.entry.samples.rank):
        return
    room = before = e.entry.samples.rank
    for s in e.stations:
        rank = s.samples.rank
        if s.value == e.entry.value or math.isnan(rank):
            continue
        room = min(room, s.samples.features if s.row is None else s.row.width)
        if s.samples.features < TELLING or s.row is None or s.rms == 0:
            continue
        # what eight directions told apart lies on one line: seven eighths of what differs is gone
        if room >= 8 and rank < 1.5:
            sudden = before > 2 * rank
            cause = "the samples' differences lie on one line after it"
            remedy = "start it with independent or orthogonal rows: `initialize_(model, example)`"
            if not sudden:
                cause = "the samples' differences come to lie on one line, a little more with every layer"
                remedy = scheme_for(s.row.before)
            yield found(
                "low rank",
                "alarm" if sudden else "note",
                [s.name],
                f"layer {s.name} leaves {rank:.3g} of {room:.3g} directions",
                cause,
                remedy,
                at=s.row.signal.op,
                upto=s.row.signal.op,
            )
            return
        before = rank


def _squeezed(e: Evidence) -> Iterator[Found]:
    """One unit between wide layers, on the only way through, where more than one number is asked for."""
    on = [s.row for s in e.stations if s.row is not None]
    answers = max((e.graph.values[i].numel / max(e.run.batch, 1) for i in e.run.outputs), default=0)
    for row, after in zip(on, on[1:]):
        wide = min(row.producer.fan_in, after.width)
        if row.width == 1 and after.producer.fan_in == 1 and wide >= 8 and answers > 2:
            name = row.signal.name
            yield found(
                "low rank",
                "alarm",
                [name, after.signal.name],
                f"layer {name} has one unit, and every way leads through it",
                f"{row.producer.fan_in:.0f} numbers go in, {after.width} are made of the one that is left",
                "make it wider: at least as wide as the answer has numbers",
                at=row.signal.op,
                upto=after.signal.op,
            )


def _thin(e: Evidence, row: Row) -> int:
    """Numerical rank of a weight, 0 unless it is below both 8 and an eighth of what its shape allows.

    The image of eight random vectors shows it: its singular values fall by the rounding of float32.
    """
    weight = weight_rows(row.producer, e.run) if row.producer.kind in ("linear", "conv", "conv_transpose") else None
    if weight is None or min(weight.shape) < TELLING or row.producer.groups > 1 or weight.numel() > 2**24:
        return 0
    if not row.signal.weight_rms > 0:  # zeros, or not finite
        return 0
    vectors = torch.randn(weight.shape[1], 8, generator=torch.Generator().manual_seed(0), dtype=weight.dtype)
    values = torch.linalg.svdvals(weight @ vectors.to(weight.device))
    rank = int((values > 1e-5 * values[0]).sum())
    return rank if rank < 8 and rank <= min(weight.shape) / 8 else 0


def _inside(e: Evidence) -> list[Station]:
    """Stations with enough features to judge by, after the entry, the output left out."""
    ends = set(e.run.outputs)
    return [
        s
        for s in e.stations
        if s.samples.features >= TELLING
        and not math.isnan(s.samples.cosine)
        and s.value not in ends
        and s is not e.entry
        and s.kind != "input"
    ]
