"""One forward and one backward: every value of the run, and the gradients that reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.graph import Graph, Replay, capture
from eitherway.graph.chance import chance_kept, chance_seeded
from eitherway.signal.diagnose.accept import shapes

LOSS = "(loss)"
"""The module path of what runs in the loss: no module of a user's can be called so by accident."""


@dataclass
class Run:
    """A model's run on an example.

    Tensors stay attached to autograd's graph as long as the run is held.
    """

    model: nn.Module
    graph: Graph
    """The model and, after it, the loss; names are the model's own."""
    outputs: tuple[int, ...]
    """Values that the model itself answered."""
    end: int
    """The value that the backward starts from where there is a loss; -1 without one."""
    start: str
    """Where the backward starts, in words."""
    tensors: dict[int, Tensor]
    """Each value's content when it was made, attached; what was overwritten in place is missing."""
    cotangents: tuple[Tensor, ...]
    """What the backward starts with: one for the loss, or one an output."""
    batch: int
    """Samples: the length of the first input's first axis; 1 without one."""
    parameters: dict[str, Tensor] = field(default_factory=dict)

    @property
    def ends(self) -> list[Tensor]:
        """The tensors that the backward starts from."""
        values = [self.end] if self.end >= 0 else list(self.outputs)
        return [self.tensors[i] for i in values if self.tensors[i].requires_grad]

    @property
    def differentiable(self) -> bool:
        """Whether a gradient can start anywhere at all."""
        return bool(self.ends)

    def gradients(self, wanted: Iterable[int]) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """Of values, and of all parameters, by one backward. What no gradient reaches is missing."""
        values = [i for i in dict.fromkeys(wanted) if i in self.tensors and self.tensors[i].requires_grad]
        names = [name for name, parameter in self.parameters.items() if parameter.requires_grad]
        leaves = [self.tensors[i] for i in values] + [self.parameters[name] for name in names]
        if not self.ends or not leaves:
            return {}, {}
        given = [
            cotangent
            for cotangent, i in zip(self.cotangents, [self.end] if self.end >= 0 else self.outputs)
            if self.tensors[i].requires_grad
        ]
        found = torch.autograd.grad(self.ends, leaves, given, retain_graph=True, allow_unused=True)
        by_value = {i: g.detach() for i, g in zip(values, found) if g is not None}
        by_name = {name: g.detach() for name, g in zip(names, found[len(values) :]) if g is not None}
        return by_value, by_name


class _Whole(nn.Module):
    """The model and then the loss, so that one recording sees both."""

    def __init__(self, model: nn.Module, loss: tuple[Callable[..., Any], tuple[Any, ...]] | None):
        super().__init__()
        self.model = model
        self.judge = None if loss is None else _Judge(*loss)
        self.seen: list[Tensor] = []
        self.answer: Any = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        answer = self.model(*args, **kwargs)
        self.answer, self.seen = answer, _tensors(answer)
        return tuple(self.seen) if self.judge is None else self.judge(answer)


class _Judge(nn.Module):
    def __init__(self, loss: Callable[..., Any], rest: tuple[Any, ...]):
        super().__init__()
        self.loss, self.rest = loss, rest

    def forward(self, answer: Any) -> Any:
        return self.loss(answer, *self.rest)


def run(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    loss: tuple[Callable[..., Any], tuple[Any, ...]] | None,
    seed: int,
) -> Run:
    """The model's run on the example, in the mode it is in, ready for the backward.

    Raises:
        ModelError: if the model refuses the example, cannot be followed, or the loss is no loss.
    """
    whole = _Whole(model, loss)
    with undisturbed():
        graph = _captured(whole, model, args, kwargs, seed)
        _rename(graph)
        tensors = _contents(graph, args, kwargs, seed)
    outputs = tuple(_index(graph, tensor) for tensor in whole.seen)
    end, start, cotangents = _start(graph, outputs, whole, tensors, seed)
    inputs = [graph.values[i] for i in graph.inputs]
    batch = next((v.shape[0] for v in inputs if len(v.shape) > 0), 1)
    parameters: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    return Run(model, graph, outputs, end, start, tensors, cotangents, batch, parameters)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside: gradients on, neither autocast nor inference mode; afterwards the generators are as they were."""
    with ExitStack() as stack:
        stack.enter_context(chance_kept())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _captured(whole: _Whole, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> Graph:
    path: list[tuple[nn.Module, Any]] = []
    failed: list[tuple[nn.Module, Any]] = []

    def enter(module: nn.Module, given: Any) -> None:
        path.append((module, given))

    def leave(module: nn.Module, given: Any, answer: Any) -> None:
        path.pop()

    with ExitStack() as stack:
        stack.enter_context(chance_seeded(seed))
        entered = nn.modules.module.register_module_forward_pre_hook(enter)
        left = nn.modules.module.register_module_forward_hook(leave)
        stack.callback(entered.remove)
        stack.callback(left.remove)
        try:
            graph = capture(whole, *args, kwargs=kwargs, keep=True, track=True)
        except ModelError as error:
            if whole.judge is not None and whole.seen and "not a tensor" in str(error):
                raise ModelError(
                    "the loss answered a plain number, cut off from the model; return the tensor itself, without "
                    ".item() or float()"
                ) from error
            if whole.answer is not None and not whole.seen and whole.judge is None:
                raise ModelError(
                    f"{type(model).__name__} answered {type(whole.answer).__name__}, in which there is no tensor of "
                    "floating type; give loss=, a function of that answer"
                ) from error
            raise
        except Exception as error:
            failed = list(path)
            raise ModelError(_refusal(whole, model, failed, (args, kwargs), error)) from error
    if graph.opaque and not graph.ops:
        raise ModelError(f"{type(model).__name__} cannot be followed: {graph.opaque}")
    return graph


def _refusal(whole: _Whole, model: nn.Module, path: list[tuple[nn.Module, Any]], given: Any, error: Exception) -> str:
    """Which module refused what, in a sentence."""
    text = (str(error).strip().splitlines() or [""])[0][:200].rstrip(".")
    text = f"{type(error).__name__}: {text}"
    if whole.judge is not None and any(module is whole.judge for module, _ in path):
        return (
            f"the loss failed on the model's output ({shapes(whole.answer)}): {text}. It is called as loss(output); "
            "with a target give a pair (function, target)"
        )
    names = {id(part): name for name, part in model.named_modules()}
    inner = [(module, args) for module, args in path if id(module) in names]
    module, args = inner[-1] if inner else (model, given)
    name = names.get(id(module), "")
    kind = repr(module) if not list(module.children()) and len(repr(module)) < 90 else type(module).__name__
    place = f"{name} ({kind})" if name else kind
    return f"{place} refused {shapes(args)}: {text}. The example was {shapes(given)}"


def _rename(graph: Graph) -> None:
    """Names as the model itself has them: the whole stood around it."""
    for op in graph.ops:
        if op.module == "model" or op.module.startswith("model."):
            op.module = op.module[6:]
        elif op.module == "judge" or op.module.startswith("judge."):
            op.module = LOSS + op.module[5:]
    for value in graph.values:
        if value.kind in ("parameter", "buffer", "constant"):
            value.name = value.name.removeprefix("model.")
            value.aliases = tuple(name.removeprefix("model.") for name in value.aliases)


def _contents(graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> dict[int, Tensor]:
    """Each value as it was when it was made: a run that writes in place is repeated without the writes."""
    kept = {v.index: v.tensor for v in graph.values if v.tensor is not None}
    inplace = any(
        graph.values[i].kind == "result" or graph.values[i].kind == "input" for op in graph.ops for i in op.mutates
    )
    if not inplace:
        return kept
    if graph.pure and not graph.opaque:
        inputs = []
        for i in graph.inputs:
            tensor = graph.values[i].tensor
            assert tensor is not None
            leaf = tensor.detach().clone()
            inputs.append(leaf.requires_grad_() if leaf.is_floating_point() else leaf)
        try:
            with chance_seeded(seed):
                again = Replay(graph, everything=True)(*inputs, keep=True)
            return {**kept, **{i: t for i, t in again.items() if isinstance(t, Tensor)}}
        except (ModelError, RuntimeError):
            pass
    spoiled = {i for op in graph.ops for i in op.mutates if graph.values[i].kind == "result"}
    return {i: tensor for i, tensor in kept.items() if i not in spoiled}


def _index(graph: Graph, tensor: Tensor) -> int:
    return max((v.index for v in graph.values if v.tensor is tensor), default=graph.outputs[0])


def _start(
    graph: Graph, outputs: tuple[int, ...], whole: _Whole, tensors: dict[int, Tensor], seed: int
) -> tuple[int, str, tuple[Tensor, ...]]:
    """The value of the loss, the words for it, and what the backward starts with."""
    if whole.judge is not None:
        if len(graph.outputs) != 1 or graph.values[graph.outputs[0]].numel != 1:
            got = ", ".join(str(tuple(graph.values[i].shape)) for i in graph.outputs)
            raise ModelError(f"the loss answered a tensor of shape {got}; expected one number: add .mean()")
        end = graph.outputs[0]
        if not graph.values[end].depends:
            raise ModelError(
                "the loss does not depend on the model's output: whatever the model answers, it stays the same; "
                "use its argument"
            )
        if not graph.values[end].dtype.is_floating_point:
            raise ModelError(
                f"the loss answered {graph.values[end].dtype}; no gradient starts from whole numbers: return a float"
            )
        text = "the loss"
        value = tensors[end].detach()
        if torch.isfinite(value).all():
            text = f"the loss, {float(value):.4g}"
        return end, text, (torch.ones_like(value),)
    floats = [i for i in outputs if graph.values[i].dtype.is_floating_point]
    if not floats:
        got = ", ".join(str(graph.values[i].dtype).removeprefix("torch.") for i in outputs)
        raise ModelError(
            f"the model answered {got}, from which no gradient can start; return the scores before argmax or round"
        )
    if len(floats) == 1 and graph.values[floats[0]].numel == 1:
        return (
            floats[0],
            f"the model's own answer, {float(tensors[floats[0]].detach()):.4g}",
            (torch.ones_like(tensors[floats[0]]),),
        )
    generator = torch.Generator().manual_seed(seed)
    cotangents = []
    for i in outputs:
        shape, like = graph.values[i].shape, tensors[i]
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        noise /= noise.square().mean().sqrt().clamp(min=1e-300)
        cotangents.append(noise.to(like.device, like.dtype) if like.is_floating_point() else torch.zeros(shape))
    kind = "a random cotangent of unit rms on " + (
        f"the output {tuple(graph.values[outputs[0]].shape)}"
        if len(outputs) == 1
        else f"each of {len(outputs)} outputs"
    )
    return -1, f"{kind} (seed {seed}): no loss was given", tuple(cotangents)


def _tensors(answer: Any) -> list[Tensor]:
    """The tensors in what a model answered, in order; containers of any make are looked into."""
    if isinstance(answer, Tensor):
        return [answer]
    if isinstance(answer, dict):
        return [tensor for part in answer.values() for tensor in _tensors(part)]
    if isinstance(answer, (list, tuple)):
        return [tensor for part in answer for tensor in _tensors(part)]
    if hasattr(answer, "__dataclass_fields__"):
        return [tensor for name in answer.__dataclass_fields__ for tensor in _tensors(getattr(answer, name))]
    return []
