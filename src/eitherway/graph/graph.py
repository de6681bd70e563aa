"""What a captured run is made of: values, operations that make them, and notes on what a replay could not repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for the value of that index among the arguments of an operation and in the structure of the outputs."""

    index: int


@dataclass(eq=False, slots=True)
class Value:
    """A tensor of the run: an input, a parameter, a buffer, another tensor from outside, or a result.

    An in-place operation makes a new value: what a tensor held before and after are two values.
    """

    index: int
    kind: Literal["input", "parameter", "buffer", "constant", "result"]
    name: str
    """`x` for inputs, the dotted name for parameters and buffers, the operation's name for results."""
    tensor: Tensor | None
    """The live tensor for all that is not a result; a result's content where the capture kept it."""
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    producer: int | None = None
    """The operation that made it."""
    depends: bool = False
    """Whether an input of the run reaches it at all."""
    differentiable: bool = False
    """Whether a gradient reaches it from an input: not after detach, no_grad, rounding to integers."""
    aliases: tuple[str, ...] = ()
    """Further names of a shared parameter."""
    room: int | None = None
    """The memory it stood in: values of one room may share elements. None for sparse and empty tensors."""
    stride: tuple[int, ...] = ()
    offset: int = 0
    """Where in its room it stood when it was made: `transpose_` and its like move a tensor that stays itself."""

    @property
    def numel(self) -> int:
        return self.shape.numel()


@dataclass(eq=False, slots=True)
class Op:
    """One operation of the run at training level: what a user wrote, before autograd takes it apart."""

    index: int
    name: str
    """The operation's plain name: linear, conv2d, relu, add, or a hand-written Function's class name."""
    target: Callable[..., Any]
    """An `OpOverload` of aten, or the `apply` of a `torch.autograd.Function`."""
    args: tuple[Any, ...]
    """Arguments as they were given, with a `Ref` in place of each tensor."""
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    """All values among the arguments, in order."""
    outputs: tuple[int, ...]
    """Values made, flattened; empty when the answer is a Python number."""
    structure: Any
    """The answer with a `Ref` in place of each tensor."""
    module: str
    """Dotted path of the module it ran in; "" at the top."""
    module_class: str
    where: str
    """`file.py:12`, the user's line; "" inside a library's module."""
    custom: bool = False
    """A hand-written `torch.autograd.Function`."""
    cut: bool = False
    """Ran under no_grad, or detached: no gradient passes."""
    random: bool = False
    mutates: tuple[int, ...] = ()
    """Values whose tensors it wrote into."""
    functional: Callable[..., Any] | None = None
    """For in-place operations the same without the write, where that is exact."""
    parent: int | None = None
    """In a lowered graph: the operation at training level that it came from."""

    @property
    def label(self) -> str:
        """How a person would point at it: module path, name, line."""
        path = f"{self.module} ({self.module_class})" if self.module else ""
        return ", ".join(part for part in (path or self.name, self.name if path else "", self.where) if part)

    def file(self, answer: Any, env: dict[int, Any]) -> None:
        """Puts what the operation answered where its values are looked up."""
        if type(self.structure) is Ref:
            env[self.outputs[0]] = answer
        else:
            env.update(zip(self.outputs, tensors(answer)))


@dataclass(frozen=True)
class Note:
    """Something that a replay at other values could not repeat, or where a gradient is lost, with its place."""

    kind: Literal[
        "cut", "escape", "inplace", "input written", "state written", "random", "hook", "below", "opaque", "replaced"
    ]
    text: str
    op: int | None = None


@dataclass(eq=False)
class Graph:
    """A run, operation by operation, in the order it happened."""

    values: list[Value]
    ops: list[Op]
    inputs: list[int]
    """Input values, in the order of the flattened arguments."""
    outputs: list[int]
    """Output values, flattened; only tensors."""
    arguments: Any
    """(args, kwargs) with a `Ref` in place of each tensor."""
    answer: Any
    """What the run returned, with a `Ref` in place of each tensor."""
    notes: list[Note] = field(default_factory=list)
    level: Literal["training", "aten"] = "training"
    scalars: dict[int, Any] = field(default_factory=dict)
    """Operations that answered a Python number (`item`, `bool`), with the number of this run."""
    written: dict[int, int] = field(default_factory=dict)
    """Values of outside tensors that were written into, and the value that stands there at the end."""

    def __repr__(self) -> str:
        return f"Graph({len(self.ops)} operations, {len(self.inputs)} inputs, {len(self.outputs)} outputs)"

    def __str__(self) -> str:
        lines = []
        for op in self.ops:
            made = ", ".join(f"%{i}{list(self.values[i].shape)}" for i in op.outputs) or repr(
                self.scalars.get(op.index)
            )
            read = ", ".join(f"%{i} {self.values[i].name}".rstrip() for i in op.inputs)
            lines.append(f"{made} = {op.name}({read})  # {op.label}")
        return "\n".join(lines)

    @property
    def opaque(self) -> str:
        """Why the graph does not tell the whole run; "" when it does."""
        return next((note.text for note in self.notes if note.kind in ("opaque", "replaced")), "")

    @property
    def replaced(self) -> str:
        """Where a tensor was given other content by its `.data`, under torch's own eyes; "" where none was."""
        return next((note.text for note in self.notes if note.kind == "replaced"), "")

    @property
    def pure(self) -> bool:
        """Whether each operation can run without writing into anything: no write through a view."""
        return all(not op.mutates or op.functional is not None for op in self.ops)

    @property
    def random(self) -> bool:
        return any(op.random for op in self.ops)

    @cached_property
    def guards(self) -> tuple[int, ...]:
        """Operations whose Python answer, or whose answer's shape, depends on an input's values.

        Elsewhere the run may take another way.
        """
        dynamic = torch.Tag.dynamic_output_shape
        return tuple(
            op.index
            for op in self.ops
            if (op.index in self.scalars or dynamic in getattr(op.target, "tags", ()))
            and any(self.values[i].depends for i in op.inputs)
        )

    @cached_property
    def users(self) -> list[list[int]]:
        """For each value the operations that read it."""
        found: list[list[int]] = [[] for _ in self.values]
        for op in self.ops:
            for i in dict.fromkeys(op.inputs):
                found[i].append(op.index)
        return found

    @cached_property
    def needed(self) -> frozenset[int]:
        """The operations that the outputs depend on."""
        return self.behind(self.outputs)

    def behind(self, values: Iterable[int], known: Iterable[int] = ()) -> frozenset[int]:
        """The operations that values depend on, and those of `known` with all that they read."""
        found = set(known)
        wanted = [*values, *(i for op in found for i in self.ops[op].inputs)]
        while wanted:
            producer = self.values[wanted.pop()].producer
            if producer is not None and producer not in found:
                found.add(producer)
                wanted += self.ops[producer].inputs
        return frozenset(found)

    def parameters(self) -> Iterator[Value]:
        return (value for value in self.values if value.kind == "parameter")


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The arguments of an operation with each leaf changed.

    Operations take tensors, numbers and lists of them, no more: a walk of our own costs a fifth of pytree's.

    >>> mapped((1, [2, 3], {"dim": 4}), lambda leaf: leaf + 1)
    (2, [3, 4], {'dim': 5})
    """
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind([mapped(leaf, change) for leaf in tree])
    if kind is dict:
        return {key: mapped(leaf, change) for key, leaf in tree.items()}
    if isinstance(tree, (tuple, list)):  # named tuples: (values, indices)
        return tuple(mapped(leaf, change) for leaf in tree)
    return change(tree)


def leaves(tree: Any) -> list[Any]:
    """The leaves of an operation's arguments or answer, in order."""
    found: list[Any] = []
    mapped(tree, found.append)
    return found


def tensors(tree: Any) -> list[Tensor]:
    """The tensors among an operation's arguments or in its answer, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor)]


def substitute(tree: Any, value: Callable[[int], Any]) -> Any:
    """The arguments with each `Ref` replaced."""
    return mapped(tree, lambda leaf: value(leaf.index) if type(leaf) is Ref else leaf)


def refs(tree: Any) -> list[int]:
    """The values among an operation's arguments, in order."""
    return [leaf.index for leaf in leaves(tree) if type(leaf) is Ref]
