"""The two modes that record a run: at training level, above autograd, and at the level of aten, below it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.schema_check_mode import SchemaCheckMode
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from eitherway.graph.chance import chance_kept, chance_now
from eitherway.graph.graph import Graph, Op, Ref, leaves, substitute
from eitherway.graph.handwritten import Handwritten
from eitherway.graph.kernels import plain_kernels
from eitherway.graph.replay import Replay, at_rest
from eitherway.graph.tape import Tape, written_by

_LIBRARIES = (os.path.dirname(torch.__file__) + os.sep, os.path.dirname(os.path.dirname(__file__)) + os.sep)
_DATA = torch.Tensor.data
TRANSFORM = "a transform of torch.func runs inside"
_ESCAPES = {"numpy", "tolist", "__array__", "__dlpack__"}
_SEEDED = torch.Tag.nondeterministic_seeded


class TrainingLevel(SchemaCheckMode):
    """Records every operation as it was written, before autograd takes it apart.

    torch lets three kinds of modes stand above autograd; of these `SchemaCheckMode` leaves the tensors as they are,
    which is why it is the parent here. None of its own behaviour is used.
    """

    def __init__(self, tape: Tape):
        TorchDispatchMode.__init__(self, _dispatch_key=torch._C.DispatchKey.PreDispatch)
        self.tape = tape
        self.path: list[tuple[str, str]] = [("", "")]
        self.names: dict[int, str] = {}
        self.paused = 0
        self.top: FrameType | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled while a run is recorded, so the guard against it would only cost time

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        tape = self.tape
        given = leaves((args, kwargs))
        if any(map(_unseen, given)):
            tape.note("opaque", f"{next(filter(None, map(_unseen, given)))} ({self.place()})")
            return func(*args, **kwargs)
        for tensor in written_by(func, args, kwargs):
            self._remember(tensor)
        seeded = _SEEDED in func.tags
        before = chance_now() if seeded else None
        answer = func(*args, **kwargs)
        if isinstance(answer, Tensor) and answer.is_nested:
            tape.note("opaque", f"{_unseen(answer)} ({self.place()})")
            return answer
        random = before is not None and not torch.equal(before, chance_now())
        if not func._schema.is_mutable and tape.identical(args, kwargs, answer):
            return answer
        module, kind = self.path[-1]
        tape.add(
            func, args, kwargs, answer,
            module=module, module_class=kind, where=self.where(), cut=not torch.is_grad_enabled(), random=random,
        )  # fmt: skip
        return answer

    def _remember(self, tensor: Tensor) -> None:
        """Keeps what an outside tensor held before it is written into for the first time."""
        tape = self.tape
        value = tape.find(tensor)
        if value.kind in ("parameter", "buffer", "constant") and all(t is not tensor for t, _ in tape.originals):
            tape.originals.append((tensor, tensor.detach().clone()))

    def where(self) -> str:
        """The nearest line of the user's own code."""
        frame = sys._getframe(1)
        while frame is not None and frame is not self.top:
            name = frame.f_code.co_filename
            if not name.startswith(_LIBRARIES) and not name.startswith("<frozen"):
                return f"{os.path.basename(name)}:{frame.f_lineno}"
            frame = frame.f_back
        return ""

    def place(self) -> str:
        """The line, or else the module, or else what there is to say."""
        return self.where() or self.path[-1][0] or "in the function itself"

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Inside, what runs is not recorded."""
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1

    # what modules tell ---------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, args: Any) -> None:
        self.path.append((self.names.get(id(module), self.path[-1][0]), type(module).__name__))

    def leave(self, module: nn.Module, args: Any, answer: Any) -> None:
        if len(self.path) > 1:
            self.path.pop()

    # hand-written functions ----------------------------------------------------------------------------------------

    def apply(self, cls: Any, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One hand-written `autograd.Function` as one operation: what it does inside is its own affair."""
        if self.paused:
            return original(cls, *args, **kwargs)
        for leaf in leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.tape.find(leaf)
        with self.pause():
            before = chance_now()
            answer = original(cls, *args, **kwargs)
            random = not torch.equal(before, chance_now())
        module, kind = self.path[-1]
        self.tape.add(
            Handwritten(cls), args, kwargs, answer,
            module=module, module_class=kind, where=self.where(), cut=not torch.is_grad_enabled(), custom=True,
            random=random, name=cls.__name__,
        )  # fmt: skip
        return answer


class Escapes(TorchFunctionMode):
    """Notices what no dispatcher tells: `.data`, and content that leaves torch for NumPy or a list."""

    def __init__(self, level: TrainingLevel):
        self.level = level

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, level = getattr(func, "__name__", ""), self.level
        if level.paused or not args or not isinstance(args[0], Tensor):
            return func(*args, **(kwargs or {}))
        if name in _ESCAPES and level.tape.find(args[0]).depends:
            level.tape.note("opaque", f"Tensor.{name} takes values out of torch ({level.place()})")
        descriptor = getattr(func, "__self__", None)
        if name == "register_hook":
            level.tape.note("hook", f"a hook may change the gradient on its way ({level.place()})")
        if descriptor is _DATA and name == "__set__":
            level.tape.note("replaced", f"a tensor's .data is replaced ({level.place()})")
        answer = func(*args, **(kwargs or {}))
        if descriptor is _DATA and name == "__get__":
            module, kind = level.path[-1]
            level.tape.add(
                torch.ops.aten.detach.default, args[:1], {}, answer,
                module=module, module_class=kind, where=level.where(), cut=True, name=".data",
            )  # fmt: skip
        return answer


class AtenLevel(TorchDispatchMode):
    """Records what a captured run does below autograd, one operation of it after the other."""

    def __init__(self, tape: Tape):
        super().__init__()
        self.tape = tape
        self.op: Op | None = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, op = kwargs or {}, self.op
        assert op is not None
        answer = func(*args, **kwargs)
        if func._schema.is_mutable or not self.tape.identical(args, kwargs, answer):
            self.tape.add(
                func, args, kwargs, answer,
                module=op.module, module_class=op.module_class, where=op.where, cut=op.cut, random=op.random,
                parent=op.index,
            )  # fmt: skip
        return answer

    def whole(self, op: Op, args: Any, kwargs: Any) -> Any:
        """A hand-written Function stays one operation: its backward need not know what its forward is made of."""
        answer = op.target(*args, **kwargs)
        self.tape.add(
            op.target, args, kwargs, answer,
            module=op.module, module_class=op.module_class, where=op.where, cut=op.cut, random=op.random,
            custom=True, name=op.name, parent=op.index,
        )  # fmt: skip
        return answer

    @classmethod
    def run(cls, graph: Graph, replay: Replay) -> Graph:
        """The graph's operations taken apart, on the inputs it was captured with."""
        tape, env, inputs = Tape("aten"), {}, []
        # batch norm in training writes into its running statistics and does not say so
        quietly = {i for op in graph.ops if "batch_norm" in op.name or "instance_norm" in op.name for i in op.inputs}
        for value in graph.values:
            if value.kind != "result" and value.tensor is not None:
                tensor = value.tensor
                if value.index in graph.written or (value.index in quietly and value.kind == "buffer"):
                    tensor = tensor.detach().clone()
                env[value.index] = tensor
                if value.kind == "input":
                    made = tape.value(tensor, "input", value.name, depends=True, differentiable=value.differentiable)
                    inputs.append((graph.inputs.index(value.index), made.index))
                else:
                    tape.name(tensor, value.kind, value.name)
        mode = cls(tape)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(plain_kernels())
            stack.enter_context(chance_kept())
            for op in graph.ops:
                mode.op = op = at_rest(op)
                args, kwargs = substitute(list(op.args), env.__getitem__), substitute(op.kwargs, env.__getitem__)
                if op.custom:
                    answer = mode.whole(op, args, kwargs)
                else:
                    with mode:
                        answer = op.target(*args, **kwargs)
                op.file(answer, env)
        answer = pytree.tree_map(lambda leaf: env[leaf.index] if type(leaf) is Ref else leaf, graph.answer)
        return tape.graph([i for _, i in sorted(inputs)], graph.arguments, answer, keep=True)


def _unseen(leaf: Any) -> str:
    """Why an operation on it cannot be recorded; "" for all else."""
    if not isinstance(leaf, Tensor):
        return ""
    if is_functorch_wrapped_tensor(leaf):
        return TRANSFORM
    return "a nested tensor inside has no one shape" if leaf.is_nested else ""
