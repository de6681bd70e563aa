"""A fused model against the original: in float64, and in the type it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.graph import Graph, Ref
from eitherway.graph.chance import chance_seeded
from eitherway.linear.fuse.constants import Constants, run

_EXACT = 1e-9
"""Of the largest entry, in float64: some 1e6 roundings."""
_WORSE = 1.5
"""Times the original's own error."""
_ROUNDINGS = 12.0
"""Units of the last place of the largest entry that are nobody's fault."""


@dataclass(frozen=True)
class Errors:
    """Largest differences from the original in float64, as a part of its largest output."""

    exact: float
    """Of the fused model in float64: the algebra; nan where the original does not run in float64."""
    fused: float
    """Of the fused model as it runs."""
    eager: float
    """Of the original as it runs."""
    unit: float
    """The spacing of numbers near 1 in the type it runs in."""

    @property
    def fine(self) -> bool:
        exact = not self.exact > _EXACT
        return exact and self.fused <= max(_WORSE * self.eager, _ROUNDINGS * self.unit)

    @property
    def excess(self) -> float:
        """How far beyond the bounds, 1 being on them."""
        bound = max(_WORSE * self.eager, _ROUNDINGS * self.unit)
        exact = 0.0 if self.exact != self.exact else self.exact / _EXACT
        worst = max(exact, self.fused / bound)
        return worst if worst == worst else float("inf")


class Reference:
    """What the original answers on the example and on noise of the same shape, exactly and as it runs."""

    def __init__(self, graph: Graph, constants: Constants, seed: int = 0):
        self.graph, self.constants = graph, constants
        example = [graph.values[i].tensor for i in graph.inputs]
        given = [t.detach() for t in example if t is not None]
        self.points = [given]
        noise = _noise(given, seed)
        self.answers = [self._pair(given)]
        if noise is not None:
            try:
                pair = self._pair(noise)
            except Exception:
                return  # values that the model does not take
            if all(bool(torch.isfinite(t).all()) for t in pair[1] if t.is_floating_point()):
                self.points.append(noise)
                self.answers.append(pair)

    def _pair(self, inputs: list[Tensor]) -> tuple[list[Tensor] | None, list[Tensor]]:
        plain = self._run(inputs, False)
        try:
            exact = self._run([t.double() if t.is_floating_point() else t for t in inputs], True)
        except (RuntimeError, TypeError, ValueError):
            exact = None  # a hand-written function that knows one type only
        return exact, plain

    @torch.no_grad()
    def _run(self, inputs: list[Tensor], doubled: bool) -> list[Tensor]:
        env = dict(zip(self.graph.inputs, inputs))
        find = self.constants.exact if doubled else self.constants.plain

        def value(index: int) -> Tensor:
            if index not in env:
                found = self.graph.values[index]
                env[index] = find(index).detach().clone() if found.kind == "buffer" else find(index).detach()
            return env[index]

        with chance_seeded():
            for op in self.graph.ops:
                if op.outputs and not all(i in self.constants for i in op.outputs):
                    env.update(zip(op.outputs, run(op, value, doubled)))
        return [value(i) for i in self.graph.outputs]

    def compare(self, model: Callable[..., Any], doubled: Callable[..., Any] | None) -> Errors:
        """The errors of a fused model and of its twin in float64, the worst over the points."""
        exact = fused = eager = 0.0
        known = False
        unit = 0.0
        for inputs, (truth, plain) in zip(self.points, self.answers):
            mine = self._call(model, inputs)
            goal = plain if truth is None else truth
            unit = max(unit, *(torch.finfo(t.dtype).eps for t in plain if t.is_floating_point()), 0.0)
            fused = _worse(fused, _largest(mine, goal))
            eager = _worse(eager, _largest(plain, goal))
            if truth is not None and doubled is not None:
                known = True
                exact = _worse(exact, _largest(self._call(doubled, [_double(t) for t in inputs]), truth))
        return Errors(exact if known else float("nan"), fused, eager, unit)

    @torch.no_grad()
    def _call(self, model: Callable[..., Any], inputs: list[Tensor]) -> list[Tensor]:
        env = dict(zip(self.graph.inputs, inputs))
        args, kwargs = pytree.tree_map(
            lambda leaf: env[leaf.index].clone() if type(leaf) is Ref else leaf, self.graph.arguments
        )
        with chance_seeded():
            answer = model(*args, **kwargs)
        return [leaf for leaf in pytree.tree_leaves(answer) if isinstance(leaf, Tensor)]


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _worse(one: float, other: float) -> float:
    return other if other != other or other > one else one


def _largest(mine: list[Tensor], truth: list[Tensor]) -> float:
    """The largest difference over the largest entry; where both are nan or the same infinity there is none."""
    worst = 0.0
    if len(mine) != len(truth):
        return float("inf")
    for a, b in zip(mine, truth):
        if a.shape != b.shape:
            return float("inf")
        if not a.numel():
            continue
        if not b.is_floating_point():
            if not torch.equal(a, b):
                return float("inf")
            continue
        one, two = a.double(), b.double()
        same = (one == two) | (one.isnan() & two.isnan())
        difference = torch.where(same, 0.0, (one - two).abs())
        finite = two[two.isfinite()]
        scale = float(finite.abs().max()) if finite.numel() else 1.0
        worst = _worse(worst, float(difference.max()) / (scale or 1.0))
    return worst


def _noise(given: list[Tensor], seed: int) -> list[Tensor] | None:
    """Normal numbers for every floating-point input, of its own spread; None where there is none."""
    if not any(t.is_floating_point() for t in given):
        return None
    generator = torch.Generator().manual_seed(seed)
    made = []
    for t in given:
        if t.is_floating_point():
            spread = float(t.double().std()) if t.numel() > 1 else 1.0
            noise = torch.randn(t.shape, generator=generator, dtype=torch.float64) * (spread or 1.0)
            t = (noise + float(t.double().mean())).to(t.dtype).to(t.device)
        made.append(t)
    return made
