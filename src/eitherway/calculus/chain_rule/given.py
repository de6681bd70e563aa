"""What a chain is made from: the run of f at x, promoted, and the value that it is differentiated by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError, nearest
from eitherway.calculus.accept import as_inputs, as_output, as_point, call
from eitherway.calculus.chain_rule.links import Link
from eitherway.calculus.chain_rule.program import Program
from eitherway.graph import Graph, capture
from eitherway.graph.capture import name_of


def inputs_of(stages: list[Any], x: Any) -> tuple[Tensor, ...]:
    """Tensors; lists and arrays take the precision of the model."""
    inputs = as_inputs(x)
    own = next((p.dtype for s in stages if isinstance(s, nn.Module) for p in s.parameters()), None)
    given = x if isinstance(x, tuple) and len(x) == len(inputs) else (x,)
    return tuple(
        t if own is None or isinstance(g, Tensor) or not t.is_floating_point() else t.to(own)
        for t, g in zip(inputs, given)
    )


def captured(stages: list[Any], inputs: tuple[Tensor, ...], x: Any, wrt: str) -> Graph:
    """The run, with what each stage hands on; its last output is C.

    Parameters of a lone module keep their names; of several, the stage's place stands before them, as in Sequential.
    """
    if wrt == "input" and len(inputs) == 1 and not inputs[0].is_floating_point():
        as_point(x)
    modules = sum(isinstance(stage, nn.Module) for stage in stages)
    keys = [stage_name(s) or str(k) for k, s in enumerate(stages)]
    keys = ["" if modules == 1 and isinstance(s, nn.Module) else key for s, key in zip(stages, keys)]
    keys = [key if keys.count(key) == 1 else f"{key}{k}" for k, key in enumerate(keys)]
    graph = capture(functools.partial(_through, **dict(zip(keys, stages))), *inputs, keep=True)
    pairs = [(graph.values[i].tensor, given) for i, given in zip(graph.inputs, inputs)]
    changed = any(t is not None and not torch.equal(t, given) and not given.isnan().any() for t, given in pairs)
    if changed or any(note.kind == "input written" for note in graph.notes):
        writer = next((f" ({op.label})" for op in graph.ops if op.mutates), "")
        raise ModelError(f"{name_of(stages[0])} writes into its input{writer}; work on a copy: x = x.clone()")
    return graph


def _through(*inputs: Tensor, **stages: Callable[..., Any]) -> tuple[Tensor, ...]:
    """Each stage on what the one before gave; all that is handed on."""
    handed: list[Tensor] = []
    now: tuple[Any, ...] = tuple(t.requires_grad_() if t.is_floating_point() else t for t in inputs)
    before = ""
    for stage in stages.values():
        try:
            made = call(stage, *now)
        except ModelError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if not handed:
                raise
            raise ModelError(_unfit(stage, before, handed[-1], error)) from error
        made = as_output(made, stage)
        handed.append(made.clone() if any(made is given for given in now) else made)
        now, before = (handed[-1],), name_of(stage)
    return tuple(handed)


def _unfit(stage: Any, before: str, given: Tensor, error: Exception) -> str:
    wants = getattr(stage, "in_features", None)
    if wants is None and isinstance(stage, nn.Sequential) and len(stage):
        wants = getattr(stage[0], "in_features", None)
    takes = f"takes {wants} numbers" if wants is not None else "cannot take them"
    why = "" if wants is not None else f" ({str(error).splitlines()[0]})"
    count = given.shape[-1] if given.dim() and wants is not None else given.numel()
    return (
        f"the links do not fit: {before} gives {count} numbers of shape {tuple(given.shape)}, and {name_of(stage)} "
        f"{takes}{why}; a list is applied from the first on: [G, C] is C(G(w))"
    )


def stage_name(stage: Any) -> str:
    """The name of a function that somebody wrote in Python; "" for modules, lambdas and torch's own."""
    name = getattr(stage, "__name__", "")
    return name if name.isidentifier() and hasattr(stage, "__code__") else ""


def promoted(graph: Graph, dtype: torch.dtype | None) -> Program:
    try:
        return Program(graph, dtype)
    except ModelError:
        raise
    except RuntimeError:
        if dtype is None:
            raise
        return Program(graph, None)  # something in it insists on its own precision


def source_of(graph: Graph, wrt: str, names: list[str]) -> tuple[int, str]:
    """The value to differentiate by, and what it is called."""
    smooth = [(i, name) for i, name in zip(graph.inputs, names) if graph.values[i].differentiable]
    parameters = [
        v for v in graph.values if v.kind in ("parameter", "buffer", "constant") and v.dtype.is_floating_point
    ]
    if wrt == "parameters":
        if not any(v.kind == "parameter" for v in parameters):
            raise ModelError("wrt='parameters' was given, and the function reads none; wrt='input' is what it has")
        first = next(v for v in parameters if v.kind == "parameter")
        return smooth[0] if smooth else (first.index, first.name)
    if wrt == "input":
        if len(smooth) == 1:
            return smooth[0]
        known = ", ".join(repr(name) for _, name in smooth)
        if smooth:
            raise ModelError(
                f"the function has {len(smooth)} inputs; say which to differentiate by: wrt= one of {known}"
            )
        raise ModelError("no input of the function holds real numbers; differentiate by a parameter: wrt='parameters'")
    for i, name in smooth:
        if wrt in (name, graph.values[i].name):
            return i, name
    for value in parameters:
        if wrt in (value.name, *value.aliases):
            return value.index, value.name
    known = [name for _, name in smooth] + [v.name for v in parameters if v.kind == "parameter"]
    raise ModelError(f"wrt={wrt!r} is nothing that the function reads. {nearest(wrt, ['input', *known])}")


def notes_on(graph: Graph, program: Program, links: list[Link], title: str) -> list[str]:
    notes = []
    for i in graph.guards:
        op = graph.ops[i]
        if i not in graph.scalars:
            if all(graph.values[j].dtype.is_floating_point for j in op.inputs if graph.values[j].depends):
                continue
            notes.append(f"{op.label} made a shape that depends on values: elsewhere there may be other links")
        elif isinstance(graph.scalars[i], bool):
            notes.append(f"the branch taken here: a condition was {graph.scalars[i]} ({op.label}); elsewhere another")
        else:
            notes.append(
                f"{op.label} made the number {graph.scalars[i]:.6g} of a tensor: a constant for the derivative"
            )
    for op in graph.ops:
        if op.random and op.outputs and any(i in program.env for i in op.outputs):
            notes.append(f"{op.label} is random; its draw of this run is held")
    if program.dtype is None or program.dtype != torch.float64:
        notes.append("computed in the function's own precision, so small errors cannot be seen")
    if not links:
        notes.append(f"the output does not follow {title} through anything that could be differentiated")
    return list(dict.fromkeys(notes))
