"""Runs a module or a function once and keeps what it did."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch.jit import ScriptFunction, ScriptModule
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.graph.chance import chance_kept
from eitherway.graph.contents import alone, contents_kept, moving_buffers
from eitherway.graph.graph import Graph, Note, Ref
from eitherway.graph.handwritten import handed_to
from eitherway.graph.kernels import open_attention, uncompiled
from eitherway.graph.record import TRANSFORM, Escapes, TrainingLevel
from eitherway.graph.tape import Tape

_ELSEWHERE = {"torch", "numpy", "scipy", "math", "builtins", "functools", "eitherway"}
UNSEEN = "which runs outside of Python, where nothing can be followed: give what was scripted or traced instead"
"""The end of a message about TorchScript."""


def capture(
    f: Callable[..., Any],
    *args: Any,
    kwargs: dict[str, Any] | None = None,
    keep: bool = False,
    track: bool = False,
) -> Graph:
    """Runs f once on real tensors and returns what it did, operation by operation, at training level.

    Nothing is left changed: inputs are copies, buffers and parameters that the run writes into are put back, modes and
    random generators stay as they were. Python runs as it is, so branches and loops are followed as this run took them;
    `Graph.notes` names what a repetition at other values could get wrong.

    Args:
        f: a module or a function of tensors.
        args: its positional arguments; tensors in them, however nested, are the inputs of the graph.
        kwargs: its keyword arguments, likewise.
        keep: keep every intermediate tensor in `Value.tensor`, still attached to autograd's graph; otherwise only the
            outputs stay, detached.
        track: inputs track gradients while f runs, for functions that look whether they do.

    Raises:
        ModelError: if f returns no tensor. Errors of f itself come through as they are.

    >>> graph = capture(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), torch.ones(4, 3))
    >>> [(op.name, op.module) for op in graph.ops]
    [('linear', '0'), ('relu', '1')]
    >>> graph.values[graph.ops[0].inputs[1]].name
    '0.weight'
    """
    with alone:  # hooks and modes of a recording are of the process
        graph = _recorded(f, f, args, kwargs or {}, keep, track)
        if TRANSFORM in graph.opaque:
            below = _below_transforms(f, args, kwargs or {})
            if below is not None:
                graph = _recorded(below, f, args, kwargs or {}, keep, track)
                graph.notes.append(Note("below", "transforms of torch.func inside are followed below their own level"))
        return graph


def _recorded(
    f: Callable[..., Any],
    namer: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    keep: bool,
    track: bool,
) -> Graph:
    """The run of f, in the names that `namer` knows its tensors by."""
    tape = Tape()
    level = TrainingLevel(tape)
    reached = list(_reached(namer))
    modules = _inside(thing for _, thing in reached if isinstance(thing, nn.Module))
    for prefix, thing in reached:
        if isinstance(thing, nn.Module):
            _name_contents(tape, level, prefix, thing)
    for name, thing in reached:
        if isinstance(thing, Tensor) and id(thing) not in tape.named:
            tape.name(thing, "constant", name)
        elif isinstance(thing, ScriptFunction):
            tape.note("opaque", f"{thing.name} is TorchScript, {UNSEEN}")
    names = _argument_names(args, kwargs)
    leaves, spec = pytree.tree_flatten((tuple(args), kwargs))
    copies, inputs, held = list(leaves), [], list(leaves)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            copies[i] = leaf.detach().clone()
            smooth = leaf.is_floating_point() or leaf.is_complex()
            if track and smooth:
                with torch.enable_grad():
                    copies[i] = copies[i].requires_grad_().clone()
            value = tape.value(copies[i], "input", names[i], depends=True, differentiable=smooth)
            inputs.append(value.index)
            held[i] = Ref(value.index)
    given, named = pytree.tree_unflatten(copies, spec)
    kept = [(copies[i], leaves[i]) for i in range(len(leaves)) if isinstance(leaves[i], Tensor)]
    with _recording(level, modules):
        answer = f(*given, **named)
    if any(isinstance(leaf, Tensor) and leaf.is_nested for leaf in pytree.tree_leaves(answer)):
        raise ModelError(
            f"{name_of(f)} returned a nested tensor, which has no one shape; return a dense one: "
            "torch.nested.to_padded_tensor(y, 0.0)"
        )
    if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(answer)):
        raise ModelError(
            f"{name_of(f)} returned {type(answer).__name__} {str(answer)[:40]!r}, not a tensor, so there is nothing to "
            "follow; return the tensor itself (without .item(), float() or .numpy())"
        )
    graph = tape.graph(inputs, pytree.tree_unflatten(held, spec), answer, keep=keep)
    for copy, original in kept:  # a run that wrote into its input is described by what it was given
        index = next(i for i in graph.inputs if graph.values[i].tensor is copy)
        if index in graph.written or any(note.kind == "input written" for note in graph.notes):
            graph.values[index].tensor = original.detach().clone()
    return graph


def _below_transforms(
    f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[..., Any] | None:
    """f as plain operations of aten, as torch's own tracer sees them once the transforms are through; None if not."""
    from torch.fx.experimental.proxy_tensor import make_fx

    with chance_kept():
        try:
            traced = make_fx(lambda *given: f(*given, **kwargs))(*args)
        except (RuntimeError, TypeError, NotImplementedError, AttributeError):
            return None
    return lambda *given, **_: traced(*given)


@contextmanager
def _recording(level: TrainingLevel, modules: list[nn.Module]) -> Iterator[None]:
    """Everything that must stand while the run is recorded, and be gone afterwards."""
    level.top = sys._getframe(2)

    with ExitStack() as stack:
        stack.enter_context(chance_kept())
        stack.enter_context(torch.enable_grad())
        stack.enter_context(uncompiled())
        entered = nn.modules.module.register_module_forward_pre_hook(level.enter)
        left = nn.modules.module.register_module_forward_hook(level.leave, always_call=True)
        stack.callback(entered.remove)
        stack.callback(left.remove)
        stack.enter_context(open_attention())
        stack.enter_context(handed_to(level.apply))
        level.tape.originals = stack.enter_context(contents_kept(moving_buffers(modules)))
        stack.enter_context(enable_python_dispatcher())
        stack.enter_context(level)
        stack.enter_context(Escapes(level))
        try:
            yield
        finally:
            level.top = None  # the frame holds the level: a circle that would keep the run until it is collected


def owners(f: Callable[..., Any]) -> list[tuple[str, nn.Module]]:
    """The modules a callable reaches by itself, with the names it knows them by: "" for a module that is the callable.

    >>> net = torch.nn.Linear(2, 2)
    >>> [name for name, _ in owners(lambda x: net(x).sum())]
    ['net']
    """
    return [(name, thing) for name, thing in _reached(f) if isinstance(thing, nn.Module)]


def modules_of(f: Callable[..., Any]) -> list[nn.Module]:
    """The modules a callable reaches and all inside them, each once.

    Raises:
        ModelError: if one of them is TorchScript, whose operations nobody sees.
    """
    return _inside(owner for _, owner in owners(f))


def _inside(owners: Iterable[nn.Module]) -> list[nn.Module]:
    modules = list(dict.fromkeys(part for owner in owners for part in owner.modules()))
    scripted = next((part for part in modules if isinstance(part, ScriptModule)), None)
    if scripted is not None:
        raise ModelError(f"{name_of(scripted)} is TorchScript, {UNSEEN}")
    return modules


def _reached(f: Any) -> Iterator[tuple[str, Any]]:
    """Modules, tensors and scripts that a callable can reach, each once, with the name it is known by."""
    seen: set[int] = set()

    def look(name: str, thing: Any, depth: int) -> Iterator[tuple[str, Any]]:
        if isinstance(thing, (nn.Module, Tensor, ScriptFunction)):
            if id(thing) not in seen:
                seen.add(id(thing))
                yield name, thing
        elif depth < 5 and id(thing) not in seen and (not depth or _holds(thing)):
            seen.add(id(thing))
            item = isinstance(thing, (list, tuple, dict))
            for inner, part in _contents(thing):
                yield from look(f"{name}[{inner}]" if item else inner, part, depth + 1)

    yield from look("", f, 0)


def _holds(thing: Any) -> bool:
    """Whether it is worth looking inside: containers and callables, but not a library's own."""
    if isinstance(thing, (list, tuple, dict, functools.partial)):
        return True
    return callable(thing) and (getattr(thing, "__module__", None) or "").partition(".")[0] not in _ELSEWHERE


def _contents(thing: Any) -> Iterator[tuple[str, Any]]:
    """What a callable or a container holds, by name: closure, globals that it names, defaults, attributes, items."""
    if isinstance(thing, dict):
        yield from ((repr(key), part) for key, part in thing.items())
    elif isinstance(thing, (list, tuple)):
        yield from ((str(i), part) for i, part in enumerate(thing[:100]))
    elif isinstance(thing, functools.partial):
        yield from (("", thing.func), *((f"argument {i}", part) for i, part in enumerate(thing.args)))
        yield from thing.keywords.items()
    elif isinstance(thing, type):
        return
    else:
        owner = getattr(thing, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            yield "" if isinstance(owner, nn.Module) else "self", owner
        inner = thing if hasattr(thing, "__closure__") else type(thing).__call__
        code = getattr(inner, "__code__", None)
        if code is not None:
            cells = getattr(inner, "__closure__", None) or ()
            yield from ((n, c.cell_contents) for n, c in zip(code.co_freevars, cells) if not _empty(c))
            outside = getattr(inner, "__globals__", {})
            yield from ((n, outside[n]) for n in code.co_names if n in outside)
        if not isinstance(thing, types.FunctionType):
            yield from getattr(thing, "__dict__", {}).items()


def _empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - asked for its error alone
    except ValueError:
        return True
    return False


def _name_contents(tape: Tape, level: TrainingLevel, prefix: str, module: nn.Module) -> None:
    dot = f"{prefix}." if prefix else ""
    for name, part in module.named_modules():
        level.names.setdefault(id(part), f"{dot}{name}" if name else prefix)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        tape.name(parameter, "parameter", f"{dot}{name}")
    for name, buffer in module.named_buffers(remove_duplicate=False):
        tape.name(buffer, "buffer", f"{dot}{name}")


def _argument_names(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """A name for each leaf of the arguments: x, or x[0] and x[1], and keywords by their own."""
    heads = [f"x[{i}]" if len(args) > 1 else "x" for i in range(len(args))]
    names = []
    for head, given in (*zip(heads, args), *kwargs.items()):
        names += [head + pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(given)[0]]
    return names


def name_of(f: Callable[..., Any]) -> str:
    """What a message calls f: a function's name, a module's class, also of one that was scripted."""
    if isinstance(f, nn.Module):
        return getattr(f, "original_name", type(f).__name__)
    return getattr(f, "__name__", type(f).__name__)
