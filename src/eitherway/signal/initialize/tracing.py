"""The one run that is read: modes set for it and put back, random modules at rest, and who refused the example."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.graph import Graph, capture
from eitherway.graph.capture import name_of
from eitherway.graph.chance import chance_kept
from eitherway.signal.initialize.accept import shapes

_RANDOM = ("dropout", "droppath", "drop_path", "stochasticdepth", "rrelu", "zoneout", "gaussiannoise")


@dataclass
class Traced:
    """A run on the example, and how it was got."""

    graph: Graph
    modes: dict[nn.Module, bool]
    """The mode that each module ran in."""
    notes: list[str]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Inside, the model stands as it did in the run."""
        with undisturbed(), in_modes(self.modes):
            yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside: no autocast, no inference mode, autograd at work; afterwards the global generators are as they were."""
    with ExitStack() as stack:
        stack.enter_context(chance_kept())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def contents_as_they_were(model: nn.Module) -> Iterator[None]:
    """Afterwards parameters and buffers hold what they held, also where the run wrote through `detach()` or `.data`.

    Buffers that the run bound to a new tensor (`self.calls = self.calls + 1`) are the old ones again. One that became
    larger stays: a table grows together with plain attributes, which nobody can put back.
    """
    held = [t for t in (*model.parameters(), *model.buffers()) if not t.is_inference()]
    before = [(t, t.detach().clone()) for t in held]
    bound = [(part, name, t) for part in model.modules() for name, t in part._buffers.items() if t is not None]
    try:
        yield
    finally:
        for part, name, tensor in bound:
            now = part._buffers.get(name)
            if now is not None and now is not tensor and (now.shape, now.dtype) == (tensor.shape, tensor.dtype):
                part._buffers[name] = tensor
        for tensor, content in before:  # a version does not tell: not every kernel counts its writes
            if tensor.shape == content.shape and not torch.equal(tensor, content):
                tensor.data.copy_(content)


@contextmanager
def in_modes(modes: dict[nn.Module, bool]) -> Iterator[None]:
    """Inside, modules are in these modes, set without calling anybody's `train`; afterwards in their own."""
    before = {module: module.training for module in modes}
    for module, training in modes.items():
        module.training = training
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Runs the model once: norms on the statistics of the batch, dropout and other random modules at rest.

    Auxiliary heads that only run in training mode are reached, too: all else is in training mode where that works.

    Raises:
        ModelError: if the model refuses the example, naming the module that did, or cannot be followed.
    """
    modules = list(model.modules())
    training = {module: not _at_rest(module) for module in modules}
    norms = {module: isinstance(module, _NormBase) or "running_mean" in module._buffers for module in modules}
    failed: ModelError | None = None
    for modes, said in (
        (training, ""),
        (norms, "in training mode the model did not run, so it was read in eval mode, its norms on the batch"),
        (dict.fromkeys(modules, False), "norms were read with their running statistics: those of this batch refused"),
    ):
        try:
            graph, modes = _captured(model, args, kwargs, modes)
        except ModelError as error:
            failed = failed or error
            continue
        return Traced(graph, modes, _notes(graph, said))
    assert failed is not None
    raise failed


def _at_rest(module: nn.Module) -> bool:
    """Whether a module of torch's would draw random numbers in training mode."""
    name = type(module).__name__.lower()
    if any(word in name for word in _RANDOM):
        return True
    return isinstance(module, nn.MultiheadAttention | nn.RNNBase) and bool(module.dropout)


def _captured(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], modes: dict[nn.Module, bool]
) -> tuple[Graph, dict[nn.Module, bool]]:
    """A run in these modes; modules that then draw random numbers are put to rest, and it runs again."""
    graph = _run(model, args, kwargs, modes)
    by_name = dict(model.named_modules())
    loud = {by_name[op.module] for op in graph.ops if op.random and op.module in by_name}
    if any(modes[module] for module in loud):
        modes = {**modes, **dict.fromkeys(loud, False)}
        graph = _run(model, args, kwargs, modes)
    return graph, modes


def _run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], modes: dict[nn.Module, bool]) -> Graph:
    path: list[tuple[nn.Module, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(undisturbed())
        stack.enter_context(in_modes(modes))
        stack.enter_context(contents_as_they_were(model))
        stack.callback(
            nn.modules.module.register_module_forward_pre_hook(lambda m, given: path.append((m, given))).remove
        )
        stack.callback(nn.modules.module.register_module_forward_hook(lambda *_: path.pop() and None).remove)
        try:
            graph = capture(model, *args, kwargs=kwargs)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(_refusal(model, path, args, kwargs, error)) from error
    if graph.opaque:
        raise ModelError(
            f"{name_of(model)} cannot be followed: {graph.opaque}; keep the forward pass in operations of torch"
        )
    return graph


def _refusal(
    model: nn.Module, path: list[tuple[nn.Module, Any]], args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> str:
    """Which module refused what, in a sentence."""
    module, given = path[-1] if path else (model, (args, kwargs))
    names = {part: name for name, part in model.named_modules()}
    plain = not list(module.children())
    what = repr(module) if plain and len(repr(module)) < 90 else name_of(module)
    place = f"{names.get(module)} ({what})" if names.get(module) else what
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    whole = shapes((args, kwargs))
    if isinstance(module, nn.Embedding) and isinstance(error, IndexError):
        indices = next((t for t in given if isinstance(t, Tensor)), None)
        if indices is not None:
            low, high = int(indices.min()), int(indices.max())
            return (
                f"{place} has rows 0 to {module.num_embeddings - 1} and was asked for rows {low} to {high} by the "
                f"example of shape {whole}: give indices in its range, torch.randint({module.num_embeddings}, "
                f"{tuple(indices.shape)})"
            )
    kinds = {str(t.dtype).removeprefix("torch.") for t in _tensors((given, args, kwargs))}
    held = {str(p.dtype).removeprefix("torch.") for p in model.parameters()}
    dtypes = f" (example {', '.join(sorted(kinds))}; parameters {', '.join(sorted(held))})" if "dtype" in text else ""
    labels = ", of a batch with labels the inputs alone" if module is model and isinstance(error, TypeError) else ""
    differs = _differs(model, given) or (_cast(held) if dtypes else _expects(module))
    return (
        f"{place} refused its input of shape {shapes(given)}: {type(error).__name__}: {text}{dtypes}. The example has "
        f"shape {whole}; give one that the model can be called with{labels}{differs}"
    )


def _differs(model: nn.Module, given: Any) -> str:
    """What to do about a list or a dict that arrived where a tensor was meant."""
    first = given[0] if isinstance(given, tuple) and given else None
    if isinstance(first, list):
        return ": a list was taken for one argument; positional arguments stand in a tuple, (x,)"
    if isinstance(first, Mapping):
        names = ", ".join(list(inspect.signature(model.forward).parameters)[:8])
        keys = ", ".join(repr(key) for key in list(first)[:4])
        return f": the keys of a dict are names of arguments, and forward has {names}, not {keys}"
    return ""


def _cast(held: set[str]) -> str:
    """What to do about numbers of another dtype than the parameters'."""
    names = {"float32": "float", "float64": "double", "float16": "half", "bfloat16": "bfloat16"}
    only = names.get(next(iter(held))) if len(held) == 1 else None
    return f": the shape may be right, the dtype is not: x.{only}()" if only else ": the dtype is not the parameters'"


def _expects(module: nn.Module) -> str:
    """What a layer of torch's wants to be given."""
    if isinstance(module, nn.Linear):
        return f", so that {module.in_features} features stand last here"
    if isinstance(module, nn.modules.conv._ConvNd):
        return f", so that (batch, {module.in_channels} channels, ...) arrives here"
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return f", so that {module.num_features} channels stand on axis 1 here"
    if isinstance(module, nn.RNNBase):
        return f", so that {module.input_size} features stand last here"
    return ""


def _tensors(tree: Any) -> list[Tensor]:
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, Tensor)]


def _notes(graph: Graph, said: str) -> list[str]:
    notes = [said] if said else []
    branches = list(dict.fromkeys(graph.ops[i].label for i in graph.guards))
    if branches:
        places = "; ".join(branches[:3]) + (f"; {len(branches) - 3} more" if len(branches) > 3 else "")
        notes.append(
            f"what runs depends on values ({places}): the way that the example took was read, and parameters off it "
            "keep what they hold"
        )
    if graph.random:
        place = next(op.label for op in graph.ops if op.random)
        notes.append(f"the run draws random numbers ({place}); it was read with one draw")
    return notes
