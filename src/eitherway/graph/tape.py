"""The bookkeeping of a recording: which tensor is which value, who wrote where, and what a replay could not repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from eitherway.graph.graph import Graph, Note, Op, Ref, Value, leaves, mapped, refs, tensors

FREELY_CAST = {"copy_", "fill_", "zero_", "masked_fill_", "index_put_", "detach_", "transpose_", "t_", "squeeze_"}
"""In-place operations whose result keeps the type of what they write into, with or without the write."""


class Tape:
    """Values and operations as they happen. Tensors are held to the end, so that no two share an identity."""

    def __init__(self, level: Literal["training", "aten"] = "training"):
        self.level: Literal["training", "aten"] = level
        self.values: list[Value] = []
        self.ops: list[Op] = []
        self.notes: list[Note] = []
        self.scalars: dict[int, Any] = {}
        self.written: dict[int, int] = {}
        self.known: dict[int, int] = {}
        self.held: list[Tensor] = []
        self.storages: dict[int, list[int]] = {}
        self.named: dict[int, tuple[Literal["parameter", "buffer", "constant"], list[str]]] = {}
        self.originals: list[tuple[Tensor, Tensor]] = []

    def name(self, tensor: Tensor, kind: Literal["parameter", "buffer", "constant"], name: str) -> None:
        """What an outside tensor is to be called if the run reads it."""
        self.held.append(tensor)
        self.named.setdefault(id(tensor), (kind, []))[1].append(name)

    def value(self, tensor: Tensor, kind: Any, name: str, **more: Any) -> Value:
        """A new value for a tensor, which from now on means this value."""
        made = Value(len(self.values), kind, name, tensor, tensor.shape, tensor.dtype, tensor.device, **more)
        self.values.append(made)
        self.held.append(tensor)
        self.known[id(tensor)] = made.index
        room = storage_of(tensor)
        if room is not None:
            made.room, made.stride, made.offset = room, tensor.stride(), int(tensor.storage_offset())
            self.storages.setdefault(room, []).append(made.index)
        return made

    def find(self, tensor: Tensor) -> Value:
        """The value a tensor means; what was never seen came from outside."""
        index = self.known.get(id(tensor))
        if index is not None:
            return self.values[index]
        if id(tensor) in self.named:
            kind, names = self.named[id(tensor)]
            return self.value(tensor, kind, names[0], aliases=tuple(names[1:]))
        room = storage_of(tensor)
        for i in reversed(self.storages.get(room, []) if room is not None else []):
            seen = self.values[i]
            if seen.tensor is not None and same_place(seen.tensor, tensor):
                self.known[id(tensor)] = i  # another handle of the same tensor, such as factories return
                self.held.append(tensor)
                return seen
        return self.value(tensor, "constant", f"constant_{sum(v.kind == 'constant' for v in self.values)}")

    def add(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        answer: Any,
        *,
        module: str,
        module_class: str,
        where: str,
        cut: bool = False,
        custom: bool = False,
        random: bool = False,
        name: str = "",
        parent: int | None = None,
    ) -> Op:
        """Records one operation that has been run."""

        def ref(leaf: Any) -> Any:
            return Ref(self.find(leaf).index) if isinstance(leaf, Tensor) else leaf

        held = mapped((tuple(args), dict(kwargs)), ref)
        inputs = tuple(refs(held))
        name = name or plain_name(target)
        index = len(self.ops)
        wrote = tuple(self.known[id(t)] for t in written_by(target, args, kwargs) if id(t) in self.known)
        cut = cut or name in ("detach", "detach_")
        depends = any(self.values[i].depends for i in inputs)
        flows = not cut and any(self.values[i].differentiable for i in inputs)

        def made(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            smooth = flows and (leaf.is_floating_point() or leaf.is_complex())
            value = self.value(leaf, "result", name, producer=index, depends=depends, differentiable=smooth)
            return Ref(value.index)

        structure = mapped(answer, made)
        outputs = tuple(refs(structure))
        op = Op(
            index, name, target, held[0], held[1], inputs, outputs, structure, module, module_class, where,
            custom=custom, cut=cut, random=random, mutates=wrote, parent=parent,
        )  # fmt: skip
        self.ops.append(op)
        if not outputs and isinstance(answer, (bool, int, float, complex)):
            self.scalars[index] = answer
        for old in wrote:
            if self.values[old].kind != "result":
                new = outputs[0] if outputs else old
                self.written[old] = new
        return op

    def identical(self, args: Any, kwargs: Any, answer: Any) -> bool:
        """Whether an operation handed its input back: nothing happened."""
        if not isinstance(answer, Tensor):
            return False
        return any(leaf is answer for leaf in leaves((args, kwargs)))

    def note(self, kind: Any, text: str, op: int | None = None) -> None:
        note = Note(kind, text, op)
        if note not in self.notes:
            self.notes.append(note)

    def graph(self, inputs: list[int], arguments: Any, answer: Any, *, keep: bool) -> Graph:
        """All of it as a graph; results lose their tensors unless `keep`."""

        def ref(leaf: Any) -> Any:
            return Ref(self.find(leaf).index) if isinstance(leaf, Tensor) else leaf

        structure = pytree.tree_map(ref, answer)
        outputs = refs(structure)
        last = self._last_reads(outputs)
        for op in self.ops:
            if op.mutates:
                op.functional = self._functional(op, last)
        self._notes_on_what_happened(outputs)
        if not keep:
            for value in self.values:
                if value.kind == "result" and value.tensor is not None:
                    value.tensor = value.tensor.detach() if value.index in outputs else None
        return Graph(
            self.values,
            self.ops,
            inputs,
            outputs,
            arguments,
            structure,
            self.notes,
            self.level,
            self.scalars,
            self.written,
        )

    def _last_reads(self, outputs: list[int]) -> dict[int, int]:
        last = {i: op.index for op in self.ops for i in op.inputs}
        return {**last, **{i: len(self.ops) for i in outputs}}

    def _functional(self, op: Op, last: dict[int, int]) -> Callable[..., Any] | None:
        """The same operation without the write, where nobody could tell the difference; None elsewhere."""
        packet = getattr(torch.ops.aten, op.name.removesuffix("_"), None)
        overload = getattr(packet, getattr(op.target, "_overloadname", ""), None)
        if overload is None or not op.name.endswith("_") or len(op.mutates) != 1 or len(op.outputs) != 1:
            return None
        old = self.values[op.mutates[0]]
        mixed = any(self.values[i].dtype != old.dtype for i in op.inputs)
        lifted = any(isinstance(a, float) for a in op.args) and not old.dtype.is_floating_point
        if (mixed or lifted) and op.name not in FREELY_CAST:
            return None
        if op.name == "copy_" and mixed:
            return None
        room = storage_of(old.tensor) if old.tensor is not None else None
        for i in self.storages.get(room, []) if room is not None else []:
            stale = i < op.outputs[0] and i != old.index and last.get(i, -1) > op.index
            if stale or (i != old.index and i < op.outputs[0] and self.values[i].kind not in ("result",)):
                return None  # somebody else would have seen the write
        return overload if last.get(old.index, -1) <= op.index else None

    def _room_of_input(self, value: Value) -> bool:
        """Whether a value is a view of an input's memory."""
        shared = self.storages.get(value.room, []) if value.room is not None else []
        return any(self.values[i].kind == "input" for i in shared)

    def _notes_on_what_happened(self, outputs: list[int]) -> None:
        for op in self.ops:
            reads = [self.values[i] for i in op.inputs]
            if op.cut and any(value.differentiable for value in reads):
                how = op.name if op.name in ("detach", "detach_", ".data") else f"{op.name} under no_grad"
                self.note("cut", f"{how} lets no gradient pass ({op.label})", op.index)
            if op.index in self.scalars and any(value.depends for value in reads):
                self.note(
                    "escape", f"a tensor became a Python number, {self.scalars[op.index]!r} ({op.label})", op.index
                )
            if op.random:
                self.note("random", f"{op.name} is random ({op.label})", op.index)
            if op.mutates and op.functional is None:
                self.note("inplace", f"{op.name} writes into memory that others see ({op.label})", op.index)
            for i in op.mutates:
                value = self.values[i]
                if value.kind == "result" and self._room_of_input(value):
                    self.note("input written", f"{op.name} writes into an input, through a view ({op.label})", op.index)
                if value.kind == "input":
                    self.note("input written", f"{op.name} writes into the input {value.name} ({op.label})", op.index)
                elif value.kind != "result":
                    self.note("state written", f"{op.name} writes into {value.name} ({op.label})", op.index)


def storage_of(tensor: Tensor) -> int | None:
    """What two tensors share exactly if one is a view of the other; None where there is no memory to share."""
    try:
        room = tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return None  # sparse, nested and functorch's own tensors
    return room._cdata if room.size() else None


def same_place(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one: the same elements of the same memory."""
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.storage_offset() == other.storage_offset()
    )


def plain_name(target: Callable[..., Any]) -> str:
    """`linear` of aten::linear.default; the class of a hand-written Function."""
    schema = getattr(target, "_schema", None)
    if schema is not None:
        return schema.name.rpartition("::")[2]
    owner = getattr(target, "__self__", None)
    return getattr(owner, "__name__", None) or getattr(target, "__name__", str(target))


def written_by(target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors an operation writes into, by its schema; batch norm in training does not confess."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return []
    found = []
    for i, argument in enumerate(schema.arguments):
        given = args[i] if i < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += tensors(given)
    return found
