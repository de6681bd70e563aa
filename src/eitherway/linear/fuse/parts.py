"""A model that must be kept as it is, with those of its modules fused that can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.graph.chance import chance_kept, chance_seeded

Calls = dict[str, tuple[tuple[Any, ...], dict[str, Any]]]


class Part(NamedTuple):
    """A module inside, fused."""

    model: nn.Module
    report: Any


class Instead(nn.Module):
    """A module with its fused form beside it: calls of sizes that the fused form was not made for run as written.

    What else is asked of the module, its weights and parts, is answered by the module itself.
    """

    def __init__(self, written: nn.Module, fused: nn.Module):
        super().__init__()
        self.written, self.fused = written, fused
        self.training = written.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("written"), name)

    def __getitem__(self, key: Any) -> Any:
        return self.written[key]  # type: ignore[index]

    def __bool__(self) -> bool:
        return bool(self.written)

    def __len__(self) -> int:
        return len(self.written)  # type: ignore[arg-type]

    def __iter__(self) -> Any:
        return iter(self.written)  # type: ignore[call-overload]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.fused(*args, **kwargs)
        except (ModelError, TypeError):  # other sizes, or other arguments, than those it was made with
            return self.written(*args, **kwargs)


def fuse_parts(model: nn.Module, calls: Calls, fuse: Callable[[nn.Module, Any, Any], Part]) -> dict[str, Any]:
    """Fuses the largest modules inside a model that can be, in place; returns the report of each by its path.

    Args:
        model: a copy that nobody else holds.
        calls: what each module inside is called with, by its path.
        fuse: a module and its arguments to its fused form.
    """
    done: dict[str, Any] = {}
    found: dict[int, nn.Module] = {}

    def visit(parent: nn.Module, prefix: str) -> None:
        for name, child in list(parent._modules.items()):
            if child is None:
                continue
            path = f"{prefix}{name}"
            if id(child) in found:
                parent._modules[name] = found[id(child)]
                continue
            fused = None
            if path in calls and any(True for _ in child.children()):
                try:
                    fused = fuse(child, *calls[path])
                except ModelError:
                    fused = None  # it returns no tensor
            if fused is None or fused.report.kept_whole or not fused.report.merges:
                visit(child, f"{path}.")
                continue
            done[path] = fused.report
            found[id(child)] = parent._modules[name] = Instead(child, fused.model)

    visit(model, "")
    return done


@torch.no_grad()
def calls_inside(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Calls:
    """What each module inside is called with on the example, the first time.

    Args:
        model: a copy that may be run and thrown away.
    """
    calls: Calls = {}
    paths: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(path)

    def before(module: nn.Module, given: Any, named: Any) -> None:
        for path in paths.get(id(module), ()):
            if path not in calls:
                calls[path] = pytree.tree_map(_copied, (given, named))

    hooks = [m.register_forward_pre_hook(before, with_kwargs=True) for m in model.modules() if m is not model]
    try:
        with chance_kept():
            model(*pytree.tree_map(_copied, args), **pytree.tree_map(_copied, kwargs))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def remembers(model: nn.Module, twin: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Why a model's answer depends on earlier calls by what it keeps outside of buffers; "" where it seems not to.

    Args:
        model: as it was.
        twin: a copy that has been run once, and is run twice more here.
    """
    for (path, module), (_, run) in zip(model.named_modules(), twin.named_modules()):
        for name, old in module.__dict__.items():
            new = run.__dict__.get(name)
            if name == "training" or (name.startswith("_") and isinstance(old, dict)):
                continue
            number = isinstance(old, (bool, int, float, str)) and new != old
            grown = isinstance(old, (list, dict)) and isinstance(new, (list, dict)) and len(old) != len(new)
            if number or grown:
                where = f"{path}.{name}" if path else name
                return f"it changes its attribute {where} as it runs, so its answer may depend on earlier calls"
    one, two = (_answer(twin, args, kwargs) for _ in range(2))
    if all(a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(one, two)):
        return ""
    return "two calls on one input answer differently, so its answer depends on earlier calls"


@torch.no_grad()
def _answer(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    with chance_seeded():
        answer = model(*pytree.tree_map(_copied, args), **pytree.tree_map(_copied, kwargs))
    return [leaf.clone() for leaf in pytree.tree_leaves(answer) if isinstance(leaf, Tensor)]


def _copied(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf
