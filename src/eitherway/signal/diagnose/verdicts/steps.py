"""How far one step would move each weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.verdicts.parts import THOUSAND, Found, found, many

USUAL = 0.01
"""A rate in the middle of those in use, 1e-4 to 1 (plain gradient descent)."""
FINE = 100.0
"""Between USUAL and the ends of that range: what is too far by more is too far at every usual rate."""


def steps(e: Evidence) -> Iterator[Found]:
    """A step that would replace the weights, or that rounding would swallow, by the given rate or by all usual ones."""
    rows = [r for r in e.rows if r.signal.weight_rms > 0 and r.signal.weight_gradient > 0]
    rows = [r for r in rows if math.isfinite(r.signal.weight_gradient)]
    if not rows:
        return
    rate = USUAL if e.lr is None else e.lr
    slack = FINE if e.lr is None else 1.0
    moved = {r.producer.name: r.signal.weight_gradient * rate / r.signal.weight_rms for r in rows}
    typical = median(moved.values())
    real = e.run.end >= 0 or e.graph.values[e.run.outputs[0]].numel == 1
    layers = [r.signal.name for r in rows]
    given = f"at lr = {rate:g}" if e.lr is not None else f"at lr = {rate / slack:g}, the smallest usual rate,"
    if real and typical > slack:
        shown = typical / slack if e.lr is None else typical
        yield found(
            "update ratio",
            "alarm",
            layers,
            f"a step {given} would change the weights of {many(layers)} by {shown:.3g} times their own size",
            f"the loss is {_value(e)} and the gradients have a median rms of "
            f"{median(r.signal.weight_gradient for r in rows):.3g}",
            "divide the loss (a mean over samples, not a sum), take a smaller rate, or clip the gradient's norm",
        )
    elif real and (typical := max(moved.values())) < 1e-7 / slack:  # float32 keeps 2^-24 = 6e-8 of a number
        given = f"at lr = {rate:g}" if e.lr is not None else f"at lr = {rate * slack:g}, the largest usual rate,"
        yield found(
            "update ratio",
            "alarm",
            layers,
            f"a step {given} would change the weights of {many(layers)} by {typical * slack:.2g} of their own size at "
            "most, which float32 rounds away",
            f"the loss is {_value(e)} and the gradients have a median rms of "
            f"{median(r.signal.weight_gradient for r in rows):.2g}",
            "multiply the loss, or take a larger rate",
        )
    elif e.lr is not None and typical >= 1 / THOUSAND:
        return
    elif e.lr is not None and max(r.signal.update_ratio_adam for r in rows) > 1 and typical > 1e-2:
        yield found(
            "update ratio",
            "note",
            layers,
            f"the first step of Adam at lr = {rate:g} would change weights by as much as they are",
            "lr / rms(weight) > 1",
            "a smaller rate for Adam; for plain gradient descent it is fine",
        )


def _value(e: Evidence) -> str:
    end = e.run.end if e.run.end >= 0 else e.run.outputs[0]
    return f"{float(e.run.tensors[end].detach().reshape(-1)[0]):.3g}"
