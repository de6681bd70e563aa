"""`fuse_linear`: runs of linear layers become one, where that is exact and saves work."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from eitherway.base.errors import ModelError
from eitherway.graph import Graph, Ref, capture
from eitherway.graph.capture import owners
from eitherway.graph.light import lightly
from eitherway.graph.sizes import Sizes, fixed_sizes, generalise
from eitherway.linear.fuse.calls import argument_names
from eitherway.linear.fuse.constants import Constants
from eitherway.linear.fuse.dense import Flattening
from eitherway.linear.fuse.depth import Depth, depth_of
from eitherway.linear.fuse.emit import Writer
from eitherway.linear.fuse.parts import Part, calls_inside, fuse_parts, remembers
from eitherway.linear.fuse.regions import Regions, find_regions
from eitherway.linear.fuse.report import Report, describe
from eitherway.linear.fuse.runs import Plan, Planner, key, pieces_of
from eitherway.linear.fuse.verify import Errors, Reference

Example = Tensor | tuple[Any, ...] | dict[str, Any]


class Fused:
    """A fused model and what became of each layer.

    Attributes:
        model: an `nn.Module` in eval mode that answers as the original does in eval mode.
        report: what merged, what did not and why.
        original: the model that was given, as it was.
    """

    def __init__(self, model: nn.Module, report: Report, original: Any, example: Any, options: dict[str, Any]):
        self.model, self.report, self.original = model, report, original
        self._example, self._options = example, options
        self._seen = _state(original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

    @property
    def stale(self) -> bool:
        """Whether a parameter or buffer of the original has changed since the fusing."""
        now = _state(self.original)
        return now.keys() != self._seen.keys() or any(
            now[name][0] is not tensor or now[name][1] != version for name, (tensor, version) in self._seen.items()
        )

    def refresh(self) -> Fused:
        """Fuses again with today's weights. The same module is kept where only its numbers change."""
        new = fuse_linear(self.original, self._example, **self._options)
        same = getattr(new.model, "code", 0) == getattr(self.model, "code", 1)
        mine, theirs = self.model.state_dict(keep_vars=True), new.model.state_dict(keep_vars=True)
        same = same and all(name in mine and mine[name].shape == tensor.shape for name, tensor in theirs.items())
        if same:
            with torch.no_grad():
                for name, tensor in theirs.items():
                    if mine[name] is not tensor:
                        mine[name].copy_(tensor)
        else:
            self.model = new.model
        self.report, self._seen = new.report, new._seen
        return self

    def __repr__(self) -> str:
        return f"Fused({self.report.summary})"

    def __str__(self) -> str:
        return str(self.report)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


@dataclass
class _Attempt:
    """One way to write a run, with its errors."""

    model: nn.Module
    regions: Regions
    plans: list[Plan]
    errors: Errors
    writer: Writer


def fuse_linear(
    model: nn.Module | Callable[..., Any],
    example: Example,
    *,
    mode: Literal["eval", "given"] = "eval",
    sizes: Literal["free", "example"] = "free",
    copy: bool = False,
) -> Fused:
    """Squishes runs of layers with nothing non-linear between them into one layer each, where that saves work.

    Works on the run itself, not on module classes: functional code, shared weights and Python control flow are
    followed. Each merge is exact algebra in float64, rounded once, and the result is checked on the example; what
    cannot be merged exactly, or would cost more multiplications, stays, with the reason in the report.

    Args:
        model: left unchanged.
        example: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        mode: "eval" fuses the model as it is in eval mode; "given" in the modes its modules have now, so that active
            dropout and statistics of the batch stay where they are.
        sizes: "free" keeps every size of the inputs that the model itself leaves free (batch, time, image size);
            "example" fixes them all, which is quicker and lets more merge.
        copy: give the fused model parameters of its own. By default untouched ones are the original's, by the same
            name.

    Raises:
        ModelError: if the model cannot be called, the example holds no tensor, or no tensor comes back. Errors
            of the model itself come through as they are.

    >>> net = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(5)))
    >>> fused = fuse_linear(net, torch.ones(2, 8))
    >>> len(list(fused.model.parameters())), fused.report.effective_depth
    (2, 1)
    """
    args, kwargs = _arguments(model, example)
    made, report = _fused(model, args, kwargs, mode, sizes, copy)
    return Fused(made, report, model, example, {"mode": mode, "sizes": sizes, "copy": copy})


def _fused(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], mode: str, sizes: str, copy: bool
) -> tuple[nn.Module, Report]:
    with _in_eval(model) if mode == "eval" else nullcontext():
        twin = _twin(model, mode)
        graph = capture(twin or model, *args, kwargs=kwargs)
        memory = _memory(graph)
        if not memory and twin is not None:
            memory = remembers(model, twin, args, kwargs)
        why = memory or _branches(graph)
        best, banned = None, []
        if not why:
            found = fixed_sizes(graph, 'sizes="example"') if sizes == "example" else _sizes(model, mode, graph)
            best, banned = _checked(graph, found, argument_names(model, args, kwargs), copy)
            if best is not None:
                constants = best.writer.constants
                depth = depth_of(graph, constants, find_regions(graph, found, constants, frozenset()))
                return best.model, describe(graph, depth, attempt=best, sizes=found, banned=banned)
    why = why or "written anew, it did not answer as the original"
    made, parts, probe = _twin(model, mode, own=copy), {}, _twin(model, mode)
    if made is not None and probe is not None and _branches(graph) and not memory:
        calls = calls_inside(probe, args, kwargs)
        parts = fuse_parts(made, calls, lambda part, a, k: Part(*_fused(part, a, k, "given", sizes, copy)))
    constants = Constants(graph, fixed_sizes(graph, why))
    return made or Unfused(model, mode), describe(graph, depth_of(graph, constants), whole=why, parts=parts)


def effective_depth(model: nn.Module | Callable[..., Any], example: Example) -> Depth:
    """How deep a model is: layers as written, and layers with each stretch without a non-linearity counted as one.

    Args:
        model: taken as it is in eval mode; left unchanged.
        example: a tensor, a tuple of positional arguments, or a dict of keyword arguments.

    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    >>> print(effective_depth(net, torch.ones(1, 4)))
    depth: 2 effective, 3 written
    - 0, 1: these 2 layers are one linear map; add a non-linearity between them, or keep them on purpose as a \
low-rank or overparameterised run
    """
    args, kwargs = _arguments(model, example)
    with _in_eval(model):
        return depth_of(capture(_twin(model, "eval") or model, *args, kwargs=kwargs))


def as_tensor(given: Any) -> Tensor:
    """Numbers and NumPy arrays as models take them: reals in torch's default dtype, whole numbers as they are."""
    tensor = torch.as_tensor(given)
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def _arguments(model: Any, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example as positional and keyword arguments."""
    if isinstance(model, type):
        raise ModelError(
            f"fuse_linear got the class {model.__name__}; make a module of it first: {model.__name__}(...)"
        )
    if not callable(model):
        raise ModelError(f"the model is {model!r:.60}, a {type(model).__name__}; expected an nn.Module or a function")
    if isinstance(example, list) and not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(example)):
        example = as_tensor(example)  # nested lists of numbers
    args, kwargs = ((), example) if isinstance(example, dict) else (example, {})
    args = args if isinstance(args, tuple) else (args,)
    args, kwargs = pytree.tree_map(
        lambda leaf: as_tensor(leaf) if type(leaf).__module__ == "numpy" else leaf, (args, kwargs)
    )
    leaves = pytree.tree_leaves((args, kwargs))
    if not any(isinstance(leaf, Tensor) for leaf in leaves):
        raise ModelError(
            f"got {type(example).__name__} as the example: expected a tensor, a tuple of positional arguments or a "
            "dict of keyword arguments with a tensor among them, such as torch.randn(8, 784)"
        )
    return args, kwargs


@contextmanager
def _in_eval(model: Any) -> Iterator[None]:
    """Modes as `eval` sets them, without calling anybody's `train`, and back."""
    modules = [module for _, owner in owners(model) for module in owner.modules()]
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes):
            module.training = mode


def _memory(graph: Graph) -> str:
    """Why no part of a model may be taken for a function of its input."""
    if graph.opaque:
        return graph.opaque
    written = [graph.values[i] for i in graph.written if graph.values[i].kind in ("parameter", "buffer", "constant")]
    if written:
        return f"it writes into {written[0].name or 'a tensor of its own'}, so its answer depends on earlier calls"
    return ""


def _branches(graph: Graph) -> str:
    """Why a run cannot be written anew as a whole."""
    if graph.guards:
        op = graph.ops[graph.guards[0]]
        return f"what runs depends on a value, not only on sizes ({op.label})"
    if not graph.pure:
        op = next(op for op in graph.ops if op.mutates and op.functional is None)
        return f"it writes into memory that others see ({op.label})"
    for op in graph.ops:
        tags = getattr(op.target, "tags", ())
        masks = [i for i in op.inputs if graph.values[i].dtype in (torch.bool, torch.uint8)]
        by_value = torch.Tag.dynamic_output_shape in tags and (op.name != "index" or masks)
        if by_value and any(graph.values[i].depends for i in op.inputs):
            return f"a shape depends on values, not only on sizes ({op.label})"
    return ""


def _sizes(model: Any, mode: str, graph: Graph) -> Sizes:
    whole = _twin(model, mode) is not None
    leaves, spec = pytree.tree_flatten(graph.arguments)

    def again(tensors: list[Tensor]) -> Graph:
        env = dict(zip(graph.inputs, tensors))
        filled = [env[leaf.index] if type(leaf) is Ref else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return capture(_twin(model, mode) or model, *args, kwargs=kwargs)

    # a model that cannot be copied might keep a tensor of the run, so no tensors without content for it
    return generalise(lightly(again) if whole else again, graph)


def _checked(
    graph: Graph, sizes: Sizes, signature: list[str], copy: bool
) -> tuple[_Attempt | None, list[tuple[int, ...]]]:
    """Plans, writes and checks; what makes the error too large is undone, worst first."""
    constants = Constants(graph, sizes)
    reference = Reference(graph, constants)
    flattening = Flattening(graph, sizes, constants)
    banned: list[tuple[int, ...]] = []

    def attempt(without: list[tuple[int, ...]]) -> _Attempt:
        regions = find_regions(graph, sizes, constants, frozenset(without))
        planner = Planner(frozenset(without), flattening)
        plans = [planner.plan(region.elements) for region in regions.regions]
        writers = [
            Writer(graph, sizes, constants, regions, plans, flattening, signature=signature, doubled=d, copy=copy)
            for d in (False, True)
        ]
        plain, doubled = (writer.write() for writer in writers)
        exact = doubled if reference.answers[0][0] is not None else None
        return _Attempt(plain, regions, plans, reference.compare(plain, exact), writers[0])

    best = attempt(banned)
    while not best.errors.fine:
        merges = [merge for merge in merged(best) if merge not in banned]
        if not merges:
            return None, banned
        alone = [(attempt([*banned, *(m for m in merges if m != merge)]).errors.excess, merge) for merge in merges]
        banned.append(max(alone)[1])
        best = attempt(banned)
    return best, banned


def merged(attempt: _Attempt) -> list[tuple[int, ...]]:
    """The merges of an attempt, by the names they can be banned by."""
    found = [key(piece.elements) for plan in attempt.plans for piece in pieces_of(plan) if piece.joins]
    return [*found, *((op,) for op in attempt.regions.spread)]


def _twin(model: Any, mode: str, *, own: bool = False) -> nn.Module | None:
    """The model once more on the same parameters and buffers, so that what a run leaves in attributes is not kept.

    None for functions, and for what cannot be copied, such as a lock or an open file.

    Args:
        own: with parameters and buffers of its own.
    """
    if not isinstance(model, nn.Module):
        return None
    shared = {} if own else {id(t): t for t in [*model.parameters(), *model.buffers()]}
    try:
        made = copy.deepcopy(model, shared)
    except Exception:
        return None
    for module in made.modules() if mode == "eval" else ():
        module.training = False
    return made


class Unfused(nn.Module):
    """A callable as a module; modules inside are put into eval mode for each call if `mode` says so."""

    def __init__(self, function: Callable[..., Any], mode: str):
        super().__init__()
        self.training = False
        self.__dict__["function"], self.mode = function, mode

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _in_eval(self.__dict__["function"]) if self.mode == "eval" else nullcontext():
            return self.__dict__["function"](*args, **kwargs)


def _state(model: Any) -> dict[str, tuple[Tensor, int]]:
    found = {}
    for prefix, owner in owners(model):
        for name, tensor in [*owner.named_parameters(), *owner.named_buffers()]:
            version = -1 if tensor.is_inference() else tensor._version
            found[f"{prefix}.{name}" if prefix else name] = (tensor, version)
    return found
