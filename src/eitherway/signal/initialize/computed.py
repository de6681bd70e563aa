"""Weights that modules compute from parameters of another form: which contents of those give a wanted weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eitherway.signal.structure import Producer

_INVERTIBLE = {"_WeightNorm", "_SpectralNorm"}
"""Parametrisations of torch's whose originals may be any matrix: one is inverted, the other divides by a norm."""


def can_invert(model: nn.Module, producer: Producer, writable: frozenset[str]) -> bool:
    """Whether contents for the parameters behind a computed weight can be found, and written."""
    if not producer.parametrised or producer.part or not set(producer.parameters) <= writable:
        return False
    return _kind(dict(model.named_modules()), producer) != ""


def can_be_zero(model: nn.Module, producer: Producer) -> bool:
    """Whether a computed weight can be 0: one that is divided by its spectral norm cannot."""
    modules = dict(model.named_modules())
    kind = _kind(modules, producer)
    return kind == "old" or (kind == "new" and type(_law(modules, producer)).__name__ == "_WeightNorm")


def originals(model: nn.Module, producer: Producer, weight: Tensor, *, silent: bool = False) -> Mapping[str, Tensor]:
    """Contents, by name, from which the module computes a weight: the wanted one, or that over its spectral norm.

    Args:
        weight: wanted, in the shape of the computed one.
        silent: the weight shall be 0, and this is the direction that it can grow in: a direction has no length 0.
    """
    modules = dict(model.named_modules())
    path, _, leaf = producer.name.rpartition(".")
    dot = f"{path}." if path else ""
    if _kind(modules, producer) == "old":  # nn.utils.weight_norm: weight_g and weight_v
        length = next(p for name, p in modules[path].named_parameters(recurse=False) if name == f"{leaf}_g")
        axes = tuple(axis for axis, size in enumerate(length.shape) if size == 1) if length.dim() else None
        norm = torch.linalg.vector_norm(weight, dim=axes, keepdim=length.dim() > 0)
        return {f"{dot}{leaf}_g": norm.reshape(length.shape) * (not silent), f"{dot}{leaf}_v": weight}
    if _kind(modules, producer) == "old spectral":
        return {f"{dot}{leaf}_orig": weight}
    inverse: Callable[[Tensor], Any] = _law(modules, producer).right_inverse  # type: ignore[assignment]
    made = inverse(weight)
    if silent:
        made = made[0] * 0.0, made[1]
    base = f"{dot}parametrizations.{leaf}.original"
    return {base: made} if isinstance(made, Tensor) else {f"{base}{i}": part for i, part in enumerate(made)}


def _kind(modules: Mapping[str, nn.Module], producer: Producer) -> str:
    """new, old, old spectral, or "" for what cannot be inverted."""
    path, _, leaf = producer.name.rpartition(".")
    module = modules.get(path)
    if module is None or not leaf:
        return ""
    own = {name for name, _ in module.named_parameters(recurse=False)}
    if {f"{leaf}_g", f"{leaf}_v"} <= own:
        return "old"
    if f"{leaf}_orig" in own and f"{leaf}_u" in dict(module.named_buffers(recurse=False)):
        return "old spectral"
    if not parametrize.is_parametrized(module, leaf):
        return ""
    held = modules[f"{path}.parametrizations.{leaf}" if path else f"parametrizations.{leaf}"]
    alone = isinstance(held, parametrize.ParametrizationList) and len(held) == 1
    return "new" if alone and type(next(held.children())).__name__ in _INVERTIBLE else ""


def _law(modules: Mapping[str, nn.Module], producer: Producer) -> nn.Module:
    """The one parametrisation of a weight."""
    path, _, leaf = producer.name.rpartition(".")
    return next(modules[f"{path}.parametrizations.{leaf}" if path else f"parametrizations.{leaf}"].children())
