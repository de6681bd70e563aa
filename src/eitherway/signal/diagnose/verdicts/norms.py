"""Normalisations that have too little to normalise, or that put out nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eitherway.graph import Op
from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.layers import place
from eitherway.signal.diagnose.measure import rms
from eitherway.signal.diagnose.verdicts.parts import THOUSAND, Found, found, many
from eitherway.signal.structure import Norm

_EPS = 1e-5


def normalisations(e: Evidence) -> Iterator[Found]:
    """Statistics of one sample or one number, channels that never change, scales that are zero."""
    alone: list[tuple[Norm, str, int]] = []
    signs: list[tuple[Norm, str]] = []
    still: list[tuple[Norm, str, float]] = []
    closed = {r.ends_in_norm for r in e.structure.residuals if r.ends_in_norm} | {
        r.scale for r in e.structure.residuals if r.scale
    }
    for n in e.structure.norms:
        op = e.graph.ops[n.op]
        u, y = e.run.tensors.get(n.source), e.run.tensors.get(n.output)
        if u is None or y is None or not e.own(n.op):
            continue
        name = _name(e, n)
        weight = e.run.parameters.get(n.weight or "")
        if weight is not None and not bool(weight.detach().any()) and n.weight not in closed:
            yield found(
                "normalisation",
                "alarm",
                [name],
                f"the norm {name} puts out nothing",
                "its weight is zero, and it does not end a residual branch",
                "start its weight at 1",
                at=n.op,
            )
        count = _count(n, op, u.shape)
        if count is not None and (count < 2 or (n.kind == "batch" and e.run.batch == 1 and u.shape[0] == 1)):
            alone.append((n, name, count))
            continue
        if count == 2:
            signs.append((n, name))
            continue
        share = _constant(n, op, u.detach())
        if share is not None and share > 0.5:
            still.append((n, name, share))
    if alone:
        names = [name for _, name, _ in alone]
        n, name, count = alone[0]
        batch = n.kind == "batch" and count > 1
        yield found(
            "normalisation",
            "alarm",
            names,
            f"{many(names, 'norm')} {'has' if len(names) == 1 else 'have'} "
            + ("a batch of one sample" if batch else "one number to take statistics of"),
            "in training mode its mean and variance are that sample's own: what the sample says as a whole is lost, "
            "and running statistics follow one sample"
            if batch
            else "a number minus itself is 0, whatever it is",
            "a batch of at least two, or a norm over channels (LayerNorm, GroupNorm)"
            if n.kind == "batch"
            else "normalise over more than one number, or not here",
            at=n.op,
            upto=10**9,
        )
    if signs:
        names = [name for _, name in signs]
        batch = signs[0][0].kind == "batch"
        yield found(
            "normalisation",
            "alarm",
            names,
            f"{many(names, 'norm')} {'takes' if len(names) == 1 else 'take'} statistics of two numbers",
            "whatever the two are, -1 and 1 come out: which is larger is all that is left, and no gradient passes",
            "a batch of eight or more, eval mode, or a norm over channels (LayerNorm, GroupNorm)"
            if batch
            else "normalise over more numbers, or not here",
            at=signs[0][0].op,
            upto=10**9,
        )
    if still:
        names = [name for _, name, _ in still]
        n, name, share = still[0]
        yield found(
            "normalisation",
            "alarm",
            names,
            f"{many(names, 'norm')}: {share:.0%} of what {'it normalises' if len(names) == 1 else 'they normalise'} is "
            "constant",
            "the variance is below eps, so what comes out is 0 or rounding error made large",
            "give it features that change: remove those that do not, or look at the layer before",
            at=n.op,
            upto=10**9,
        )


def _name(e: Evidence, n: Norm) -> str:
    return n.weight.rpartition(".")[0] or n.weight if n.weight else place(e.graph, n.op)


def _count(n: Norm, op: Op, shape) -> int | None:
    """Numbers that one statistic is taken of."""
    if n.kind == "batch":
        return math.prod(shape) // max(1, shape[1]) if len(shape) > 1 else None
    if n.kind == "instance":
        return math.prod(shape[2:])
    if n.kind == "group" and op.name == "group_norm" and isinstance(op.args[1], int):
        return math.prod(shape[1:]) // op.args[1]
    if n.kind in ("layer", "rms") and op.name in ("layer_norm", "rms_norm"):
        over = op.args[1]
        return math.prod(over) if isinstance(over, (list, tuple)) and n.kind == "layer" else None
    return None


def _constant(n: Norm, op: Op, u) -> float | None:
    """Share of the statistics whose variance is below eps by a thousand: less than a thousandth comes through."""
    if n.kind == "batch" and u.ndim > 1:
        parts = u.movedim(1, 0).reshape(u.shape[1], -1)
    elif n.kind == "instance" and u.ndim > 2:
        parts = u.flatten(0, 1).flatten(1)
    elif n.kind == "group" and op.name == "group_norm" and isinstance(op.args[1], int):
        parts = u.reshape(u.shape[0] * op.args[1], -1)
    elif n.kind == "layer":
        over = op.args[1] if op.name == "layer_norm" else [u.shape[-1]]
        parts = u.reshape(-1, math.prod(over)) if isinstance(over, (list, tuple)) else None
    else:
        return None
    if parts is None or parts.shape[1] < 2:
        return None
    eps = next((a for a in reversed((*op.args, *op.kwargs.values())) if isinstance(a, float) and 0 < a < 1e-2), _EPS)
    variance = parts.double().var(1, correction=0)
    floor = (1e-6 * rms(u)) ** 2  # a constant column has a variance of rounding size
    return float((variance <= max(eps / THOUSAND, floor)).double().mean())
