"""How large what an activation reads shall be, where rms 1 lies far outside the range that it is made for.

sin(30 u), tanh(100 u), softshrink(u, 5): read at rms 1 they multiply the squared gradient by hundreds in every layer.
At a scale near 1/30, 1/100 and 5 they do what sin, tanh and softshrink do at 1 (Sitzmann et al. 2020, arXiv:2006.09661,
section 3.2, choose so for sin(30 u)).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Set
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.signal.initialize.targets import Targets
from eitherway.signal.initialize.theory import Theory, phi
from eitherway.signal.quadrature import Activation
from eitherway.signal.structure import Path, Structure

_ABSURD = 4.0  # chi at rms 1 from which on another scale is looked for; the 21 customary activations have at most 1.5
_WHOLE = 4.0  # growth of the squared gradient over all activations in a row: gradients double at most
_STEP = 2**0.25
_REACH = 14  # powers of 2, to both sides
_HALVINGS = 6
_Z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
_WEIGHTS = torch.exp(-_Z * _Z / 2) / torch.exp(-_Z * _Z / 2).sum()


def set_scales(structure: Structure, theory: Theory, wanted: Targets, free: Set[int]) -> dict[str, float]:
    """Changes the targets of producers whose output is read by such an activation, and by nothing else.

    Args:
        free: producers that may have another target.

    Returns:
        The scale by the name of the weight.
    """
    readers: dict[int, list[Path]] = {}
    for path in structure.paths.values():
        for value in path.sources:
            source = structure.sources.get(value)
            if source is not None and source.kind == "producer" and source.producer is not None:
                readers.setdefault(source.producer, []).append(path)
    branches = {index for residual in structure.residuals for index in residual.last}
    depth = Counter(theory.signature(path) for paths in readers.values() for path in paths[:1])
    found: dict[str, float] = {}
    for index, paths in readers.items():
        kinds = {theory.signature(path) for path in paths}
        alone = len(kinds) == 1 and all(path.kind == "activation" for path in paths)
        if index not in free or not alone or index in branches or wanted.rms.get(index) != 1.0:
            continue
        known = theory.moments(paths[0], 1.0)
        if known is None or known.chi <= _ABSURD:
            continue
        growth = _WHOLE ** (1 / max(1, depth[kinds.pop()]))
        key = ("scale", theory.signature(paths[0]), growth)
        if key not in theory.kept:
            theory.kept[key] = sane_scale(phi(paths[0], structure.graph), growth)
        scale = theory.kept[key]
        if scale is not None:
            producer = structure.producers[index]
            wanted.rms[index] = found[producer.name] = scale
            wanted.why[index] = (
                f"{paths[0].text} read at rms 1 multiplies the squared gradient by {known.chi:.3g} a layer: rms "
                f"{scale:.3g}, where that is at most {growth:.3g}"
            )
    return found


def sane_scale(function: Callable[[Tensor], Any], growth: float) -> float | None:
    """The scale nearest to 1, in log, at which neither gradients nor errors of the variance grow faster than that.

    Args:
        growth: chi and Q' at most.

    >>> round(30 * sane_scale(lambda u: torch.sin(30 * u), 1.3), 2)
    0.99
    """
    try:
        known = Activation(function)
        for k in range(1, int(_REACH / math.log2(_STEP))):
            for near, far in ((_STEP ** -(k - 1), _STEP**-k), (_STEP ** (k - 1), _STEP**k)):
                if _grows(known, far) <= growth:
                    for _ in range(_HALVINGS):
                        middle = math.sqrt(near * far)
                        near, far = (near, middle) if _grows(known, middle) <= growth else (middle, far)
                    return far
    except ModelError:
        return None
    return None


def _grows(function: Activation, scale: float) -> float:
    """The larger of chi and Q' at a scale, by the trapezoidal rule: enough to choose by."""
    values, slopes = function(scale * _Z)
    second, slope, bend = (_mean(part) for part in (values.square(), slopes.square(), values * slopes * _z(values)))
    if not second > 0 or not math.isfinite(slope):
        return math.inf
    return max(scale**2 * slope, scale * bend) / second


def _z(values: Tensor) -> Tensor:
    return _Z if values.ndim == 1 else _Z[:, None]


def _mean(values: Tensor) -> float:
    return float(_WEIGHTS @ (values if values.ndim == 1 else values.mean(1)))
