"""What quadrature knows of a signal before anything runs: the mean square that each weight will read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.graph import Graph, Op, Ref
from eitherway.graph.graph import leaves, mapped
from eitherway.signal.gain import Moments, moments
from eitherway.signal.structure import Path, Structure

_NODES = {2: 241, 3: 61}
"""Points per source where several are independent: midpoints on [-6.5, 6.5]."""
MOVES = {
    "flatten", "view", "reshape", "_unsafe_view", "ravel", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone",
    "dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "identity", "to", "_to_copy", "alias",
}  # fmt: skip
"""Operations that leave channels in their order."""
_PROBE = torch.linspace(-2, 2, 8, dtype=torch.float64)


@dataclass(frozen=True)
class Expected:
    """What a producer will read, as theory tells."""

    second: float
    """Mean square."""
    noise: float = 0.0
    """Relative variance of one unit's square: over n units, that of their mean square."""


class Theory:
    """Mean squares of paths, from what their sources are planned to be.

    Args:
        structure: of the model.
        rms: planned rms of each producer's output, filled in the order of the run.
        scales: planned value of norm weights, by name; those that keep what they hold are left out.
        norms: values that norms put out, with the norm's weight ("" for none).
    """

    def __init__(self, structure: Structure, rms: Mapping[int, float], scales: Mapping[str, float]):
        self.structure, self.rms, self.scales = structure, rms, scales
        self.norms = {norm.output: norm.weight or "" for norm in structure.norms}
        self.kept: dict[Any, Any] = {}
        self.shifted: Set[int] = frozenset()
        """Producers with a bias that is not 0, whose output has a mean."""

    def source(self, value: int) -> float | None:
        """Standard deviation of a source about Gaussian with mean 0; None where it must be measured."""
        source = self.structure.sources.get(value)
        if source is None:
            return None
        if source.kind == "producer" and source.producer is not None:
            return None if source.producer in self.shifted else self.rms.get(source.producer)
        if source.kind == "norm" and value in self.norms:
            weight = self.norms[value]
            return 1.0 if not weight else self.scales.get(weight)
        return None

    def expected(self, path: Path, source: Callable[[int], float | None] | None = None) -> Expected | None:
        """Mean square of a path's value; None where theory is silent and it must be measured.

        Args:
            path: of a weight.
            source: tells the rms of each source; what is planned, if not given.

        Raises:
            ModelError: if the path is an activation that is constant or grows without bound.
        """
        scales = [(source or self.source)(value) for value in path.sources]
        if path.kind == "measured" or not scales or any(s is None or not s > 0 for s in scales):
            return None
        sizes: list[float] = [float(s) for s in scales if s is not None]
        if path.kind == "same":
            return Expected(sizes[0] ** 2, 2.0) if len(sizes) == 1 else None
        if len(sizes) == 1:
            found = self.moments(path, sizes[0])
            return None if found is None else Expected(found.second, found.noise)
        key = (self.signature(path), tuple(round(s, 6) for s in sizes))
        if key not in self.kept:
            self.kept[key] = self._gate(path, sizes)
        return self.kept[key]

    def moments(self, path: Path, scale: float) -> Moments | None:
        """Moments of an activation between two weights; None where it cannot be taken for one function.

        Raises:
            ModelError: naming the line, if it is constant or grows without bound.
        """
        key = (self.signature(path), round(scale, 6))
        if key in self.kept:
            return self.kept[key]
        found = None
        if self._is_function(path):
            try:
                with torch.enable_grad():  # slopes are autograd's
                    found = moments(phi(path, self.structure.graph), scale=scale)
            except ModelError as error:
                if not self._reads_parameters(path) and _fatal(error):
                    op = self.structure.graph.ops[path.ops[-1]]
                    raise ModelError(f"at {op.label}: {error}") from error
        self.kept[key] = found
        return found

    def signature(self, path: Path) -> Any:
        """What tells one function from another: operations, constants, and which tensors from outside they read."""
        graph = self.structure.graph
        local = {value: f"source {k}" for k, value in enumerate(path.sources)}
        parts = []
        for k, index in enumerate(path.ops):
            op = graph.ops[index]
            if op.name.removesuffix("_") in MOVES and op.inputs and op.inputs[0] in local:
                local.update(dict.fromkeys(op.outputs, local[op.inputs[0]]))
                continue
            local.update({value: f"{k}.{j}" for j, value in enumerate(op.outputs)})
            own = id(op.target) if op.custom else ""
            held = repr(mapped((op.args, op.kwargs), lambda leaf: self._named(leaf, local)))
            parts.append((op.name.removesuffix("_"), own, held))
        return path.kind, len(path.sources), tuple(parts)

    def _named(self, leaf: Any, local: Mapping[int, str]) -> Any:
        return local.get(leaf.index, f"value {leaf.index}") if type(leaf) is Ref else leaf

    def _is_function(self, path: Path) -> bool:
        try:
            answer = path(_PROBE)
        except (ModelError, RuntimeError, IndexError, TypeError, ValueError):
            return False
        return isinstance(answer, Tensor) and answer.shape == _PROBE.shape

    def _reads_parameters(self, path: Path) -> bool:
        graph = self.structure.graph
        behind: list[Op] = [graph.ops[i] for i in path.ops]
        return any(graph.values[i].kind in ("parameter", "buffer") for op in behind for i in op.inputs)

    def _gate(self, path: Path, scales: list[float]) -> Expected | None:
        """Several independent Gaussian sources: a product grid, handed over as one long line of points."""
        if len(scales) not in _NODES or not self._takes_several(path, len(scales)):
            return None
        count = _NODES[len(scales)]
        z = (torch.arange(count, dtype=torch.float64) + 0.5) * (13 / count) - 6.5
        weight = torch.exp(-z * z / 2)
        grids = torch.meshgrid(*[z] * len(scales), indexing="ij")
        shares = torch.meshgrid(*[weight / weight.sum()] * len(scales), indexing="ij")
        share = math.prod(shares[1:], start=shares[0]).flatten()
        values = path(*[scale * grid.flatten() for scale, grid in zip(scales, grids)]).double()
        second = float(share @ values.square())
        if not math.isfinite(second) or second <= 0:
            return None
        return Expected(second, float(share @ values**4) / second**2 - 1)

    def _takes_several(self, path: Path, count: int) -> bool:
        try:
            answer = path(*[_PROBE] * count)
        except (ModelError, RuntimeError, IndexError, TypeError, ValueError):
            return False
        return isinstance(answer, Tensor) and answer.shape == _PROBE.shape


def phi(path: Path, graph: Graph) -> Any:
    """A path of one source as an activation to hand to quadrature and schemes.

    One operation with constants alone is the same function object every time, so that solutions are remembered.
    """
    if len(path.ops) == 1:
        op = graph.ops[path.ops[0]]
        first, rest = (op.args[0], op.args[1:]) if op.args else (None, ())
        plain = not op.custom and not op.random and not op.mutates and type(first) is Ref
        if plain and not any(type(leaf) is Ref for leaf in leaves((rest, op.kwargs))):
            try:
                return _operation(op.target, rest, tuple(sorted(op.kwargs.items())), path.text)
            except TypeError:  # a list among the arguments: no key to remember it by
                pass

    def function(u: Tensor) -> Tensor:
        return path(u)

    function.__name__ = path.text
    return function


@cache
def _operation(target: Any, rest: tuple[Any, ...], named: tuple[tuple[str, Any], ...], text: str) -> Any:
    def function(u: Tensor) -> Tensor:
        return target(u, *rest, **dict(named))

    function.__name__ = text
    return function


def _fatal(error: ModelError) -> bool:
    """Whether a message is about the function itself, and not about how it could be called."""
    text = str(error)
    return "is constant" in text or "grows without bound" in text or "has a pole" in text
