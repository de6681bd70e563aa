"""`diagnose`: one forward, one backward, and what is wrong with the signal on its way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.graph.capture import name_of
from eitherway.signal.diagnose.accept import accept_example, accept_loss, accept_model
from eitherway.signal.diagnose.attention import attentions, weighings
from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.layers import activations, rows, wanted
from eitherway.signal.diagnose.report import Diagnosis
from eitherway.signal.diagnose.run import LOSS, run, undisturbed
from eitherway.signal.diagnose.spectrum import spectrum
from eitherway.signal.diagnose.verdicts import judge
from eitherway.signal.diagnose.verdicts.finite import counts
from eitherway.signal.diagnose.ways import trunk
from eitherway.signal.structure import read_structure


def diagnose(
    model: nn.Module,
    example: torch.Tensor | tuple[Any, ...] | dict[str, Any] | Callable[[], Any],
    loss: Callable[..., Any] | tuple[Callable[..., Any], Any] | None = None,
    *,
    lr: float | None = None,
    seed: int = 0,
) -> Diagnosis:
    """What happens to the signal on its way through a model, forward and backward, and what is wrong with it.

    The model runs once on the example, in the mode it is in, and one backward follows; everything is measured on that
    run. Parameters, gradients, buffers, modes and random generators are left as they were. A batch of 16 samples or
    more tells most: how samples differ is half of what can go wrong.

    Args:
        model: any module; no annotations.
        example: a batch: a tensor, a tuple of positional arguments, a dict of keyword arguments, or a function that
            makes one. Real data tell more than noise.
        loss: a function of the output, or a pair (function, target) called as function(output, target). Without one
            the backward starts from the model's own answer where that is one number, else from a random cotangent.
        lr: the rate that a step would be taken at, for the update ratio.
        seed: of the random cotangent, and of whatever the model draws.

    Raises:
        ModelError: if the model refuses the example (which module, and the shapes), the example holds NaN, the loss is
            no loss of the output, or nothing in the model can be trained.

    >>> report = diagnose(nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4)), torch.randn(16, 20))
    >>> report.healthy, [layer.name for layer in report.layers]
    (True, ['0', '2'])
    """
    model = accept_model(model)
    args, kwargs = accept_example(example)
    given = accept_loss(loss)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ModelError(f"seed is {seed!r:.60}; chance is drawn from a whole number, such as seed=0")
    if lr is not None and not (isinstance(lr, (int, float)) and math.isfinite(lr) and lr > 0):
        raise ModelError(f"lr is {lr!r}; a rate is a finite number above 0")
    held = run(model, args, kwargs, given, seed)
    if held.graph.opaque:
        raise ModelError(
            f"{name_of(model)} cannot be followed: {held.graph.opaque}; keep the forward pass in operations of torch"
        )
    with undisturbed():
        structure = read_structure(held.graph, model)
        way = trunk(held.graph, held.outputs)
        by_value, by_name = held.gradients(wanted(structure, held, way))
        acted = activations(structure, held)
        evidence = Evidence(
            held,
            structure,
            tuple(
                row
                for row in rows(structure, held, by_value, by_name, acted, lr)
                if not held.graph.ops[row.producer.op].module.startswith(LOSS)
            ),
            attentions(structure, held),
            acted,
            by_value,
            by_name,
            way,
            lr,
            weighings=weighings(structure, held),
        )
        verdicts = judge(evidence)
        jacobian = spectrum(held, way, seed)
        bad, denormal = counts(evidence)
    return Diagnosis(
        layers=tuple(row.signal for row in evidence.rows),
        attention=evidence.attentions,
        jacobian=jacobian,
        verdicts=verdicts,
        start=held.start,
        mode=_mode(model),
        model=f"{name_of(model)} ({sum(p.numel() for p in held.parameters.values()):,} parameters)",
        batch=held.batch,
        residuals=_residuals(evidence),
        bad=bad,
        denormal=denormal,
        lr=lr,
        notes=tuple(evidence.notes),
    )


def _mode(model: nn.Module) -> str:
    """In words: which mode was measured."""
    modes = {module.training for module in model.modules()}
    if len(modes) > 1:
        count = sum(module.training for module in model.modules())
        return f"mixed modes ({count} modules training, {sum(1 for _ in model.modules()) - count} not)"
    return "training mode" if True in modes else "eval mode"


def _residuals(e: Evidence) -> tuple[tuple[str, float], ...]:
    """For each residual add: where, and rms of the branch / rms of the stream."""
    from eitherway.signal.diagnose.measure import rms

    found = []
    for r in e.structure.residuals:
        stream, branch = e.run.tensors.get(r.stream), e.run.tensors.get(r.branch)
        if stream is not None and branch is not None:
            size = rms(stream)
            name = e.names[r.last[-1]] if r.last else e.graph.ops[r.op].module
            found.append((name, rms(branch) / size if size > 0 else math.inf))
    return tuple(found)
