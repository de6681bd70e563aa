"""How far one step would move each weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.measure import norm
from eitherway.signal.diagnose.verdicts.parts import Found, found, many, summed

LEAST, MOST = 1e-3, 1.0
"""The rates in use for plain gradient descent: what is too far at one end of them is so at all."""
USUAL = 1e-2
"""The rate to begin with, at which a sum over samples must not overshoot. Healthy sums bear 0.2 and more."""


def steps(e: Evidence) -> Iterator[Found]:
    """A step that would replace the weights, or that rounding would swallow, by the given rate or by all usual ones."""
    rows = [r for r in e.rows if r.signal.weight_rms > 0 and r.signal.weight_gradient > 0]
    rows = [r for r in rows if math.isfinite(r.signal.weight_gradient)]
    if not rows:
        return
    moved = {r.producer.name: r.signal.weight_gradient / r.signal.weight_rms for r in rows}
    low, high = (LEAST, MOST) if e.lr is None else (e.lr, e.lr)
    far, little = median(moved.values()) * low, max(moved.values()) * high
    real = e.run.end >= 0 or e.graph.values[e.run.outputs[0]].numel == 1
    layers = [r.signal.name for r in rows]
    size = median(r.signal.weight_gradient for r in rows)
    cause = f"the loss is {_value(e)} and the gradients have a median rms of {size:.3g}"
    if real and far > 1:
        given = f"at lr = {low:g}" + (", the smallest usual rate," if e.lr is None else "")
        yield found(
            "update ratio",
            "alarm",
            layers,
            f"a step {given} would change the weights of {many(layers)} by {far:.3g} times their own size",
            cause,
            "divide the loss (a mean over samples, not a sum), take a smaller rate, or clip the gradient's norm",
        )
    elif real and little < 2**-24:  # what float32 keeps of a number
        given = f"at lr = {high:g}" + (", the largest usual rate," if e.lr is None else "")
        yield found(
            "update ratio",
            "alarm",
            layers,
            f"a step {given} would change the weights of {many(layers)} by {little:.2g} of their own size at most, "
            "which float32 rounds away",
            cause,
            "multiply the loss, or take a larger rate",
        )
    elif (total := _total(e)) is not None:
        at, count, rate = total
        yield found(
            "update ratio",
            "alarm",
            layers,
            f"a step at lr = {high if e.lr is not None else USUAL:g} would take more than the whole loss from "
            f"{many(layers)}: beyond {rate:.2g} it overshoots",
            f"the loss, {_value(e)}, is a sum over {count:,} numbers, and rates are made for means",
            "take the mean, or a rate that many times smaller",
            at=at,
        )
    elif e.lr is not None and max(r.signal.update_ratio_adam for r in rows) > 1 and far > 1e-2:
        yield found(
            "update ratio",
            "note",
            layers,
            f"the first step of Adam at lr = {e.lr:g} would change weights by as much as they are",
            "lr / rms(weight) > 1",
            "a smaller rate for Adam; for plain gradient descent it is fine",
        )


def _total(e: Evidence) -> tuple[int, int, float] | None:
    """The operation that sums a loss up, over how many numbers, and loss / |gradient|^2 where a usual rate passes it.

    That rate takes a linear loss to 0 (Polyak 1987, section 5.3).
    """
    op = e.graph.ops[e.graph.values[e.run.end].producer or 0] if e.run.end >= 0 else None
    if op is None or not op.inputs or not (summed(op) or (op.name == "sum" and len(op.args) < 2)):
        return None
    value = float(e.run.tensors[e.run.end].detach())
    square = sum(norm(g) ** 2 for g in e.by_name.values())
    rate = value / square if square > 0 else math.inf
    if not 0 < rate < (USUAL if e.lr is None else e.lr):
        return None
    return op.index, e.graph.values[op.inputs[0]].numel, rate


def _value(e: Evidence) -> str:
    end = e.run.end if e.run.end >= 0 else e.run.outputs[0]
    return f"{float(e.run.tensors[end].detach().reshape(-1)[0]):.3g}"
