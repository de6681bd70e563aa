"""What lies between sources and a value: its operations, its text, and the function replayed on points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.graph import Op
from eitherway.graph.graph import mapped, substitute
from eitherway.signal.structure.constants import uniform
from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.names import argument, plain
from eitherway.signal.structure.parts import Path, PathKind
from eitherway.signal.structure.wording import worded


def path_to(flow: Flow, value: int) -> Path:
    """What a value is made of since its sources.

    Args:
        flow: of the captured run.
        value: any value of it.
    """
    found = flow.signal(value)
    if found is None:
        return Path(value, (), (), "measured", "a constant", _Replay(flow, value, (), ()))
    ops = operations(flow, value)
    atoms = [flow.atoms[a] for a in _in_order(flow, value, ops)]
    steps = [flow.graph.ops[i] for i in ops]
    if all(flow.moves(op) for op in steps):
        kind: PathKind = "measured" if len(atoms) == 1 and atoms[0].kind == "measured" else "same"
        text = atoms[0].text if kind == "measured" else "u"
    else:
        kind = "activation" if len(atoms) == 1 else "gate"
        text = worded(flow, value, steps, [a.index for a in atoms])
    sources = tuple(a.value for a in atoms)
    return Path(value, sources, ops, kind, text, _Replay(flow, value, ops, tuple(a.index for a in atoms)))


def operations(flow: Flow, value: int) -> tuple[int, ...]:
    """The operations between sources and a value, in order."""
    graph, ops, wanted = flow.graph, set(), [value]
    while wanted:
        i = wanted.pop()
        if i in flow.stops or flow.known(i):
            continue
        producer = graph.values[i].producer
        if producer is not None and producer not in ops:
            ops.add(producer)
            if plain(graph.ops[producer]) != "glu":
                wanted += graph.ops[producer].inputs
    return tuple(sorted(ops))


def _in_order(flow: Flow, value: int, ops: tuple[int, ...]) -> list[int]:
    """The atoms of a value in the order they are read."""
    found = flow.signal(value)
    assert found is not None
    if len(found.atoms) < 2:
        return list(found.atoms)
    order: dict[int, None] = {}
    for index in ops:
        op = flow.graph.ops[index]
        if plain(op) == "glu":
            state = flow.signal(op.outputs[0])
            order.update(dict.fromkeys(state.atoms if state is not None else ()))
        else:
            for i in op.inputs:
                order.update(dict.fromkeys(flow.stops.get(i, ()) if not flow.known(i) else ()))
    return [a for a in order if a in found.atoms] or list(found.atoms)


class _Replay:
    """The function between sources and a value, run on points."""

    def __init__(self, flow: Flow, value: int, ops: tuple[int, ...], atoms: tuple[int, ...]):
        self.flow, self.value, self.ops, self.atoms = flow, value, ops, atoms

    def __call__(self, *points: Tensor) -> Tensor:
        flow = self.flow
        if not self.atoms:
            raise ModelError("a constant of the run is no function of a signal: ask for its content instead")
        if len(points) != len(self.atoms):
            raise ModelError(
                f"got {len(points)} tensors of points for a function of {len(self.atoms)} sources; give one for each "
                "of Path.sources"
            )
        env: dict[int, Tensor] = {}
        at_atom = dict(zip(self.atoms, points))
        for atom, here in at_atom.items():
            env.setdefault(flow.atoms[atom].value, here)
        with torch.no_grad():
            for index in self.ops:
                self._run(flow.graph.ops[index], env, at_atom)
        # a value that a bias was folded into stands for its source
        return env[self.value] if self.value in env else at_atom[flow.stops[self.value][0]]

    def _run(self, op: Op, env: dict[int, Tensor], at_atom: dict[int, Tensor]) -> None:
        flow, name = self.flow, plain(op)
        if name == "glu":
            found = flow.signal(op.outputs[0])
            assert found is not None
            one, other = (at_atom[a] for a in found.atoms)
            env[op.outputs[0]] = one * torch.sigmoid(other)
            return
        if flow.moves(op):
            data = next((i for i in op.inputs if not flow.known(i)), op.inputs[0])
            for out in op.outputs:
                env[out] = self._look(data, env, at_atom)
            return
        like = next(self._look(i, env, at_atom) for i in op.inputs if not flow.known(i))

        def operand(i: int) -> Any:
            return self._constant(i, like, op) if flow.known(i) else self._look(i, env, at_atom)

        given = substitute(list(op.args), operand), substitute(op.kwargs, operand)
        env[op.outputs[0]] = _answer(op, name, *given)

    def _look(self, value: int, env: dict[int, Tensor], at_atom: dict[int, Tensor]) -> Tensor:
        if value not in env:  # a value from before its bias or norm weight was folded into the source
            atom = self.flow.stops[value][0]
            if atom not in at_atom:
                raise ModelError(
                    f"{self.flow.graph.values[value].name} was written into after it was read, so the function cannot "
                    "be replayed; measure the value instead"
                )
            env[value] = at_atom[atom]
        return env[value]

    def _constant(self, value: int, like: Tensor, op: Op) -> Tensor:
        """A constant as it stands beside points: one number, or one for each channel along the points' last axis."""
        content = self.flow.content(value)
        if content is None:
            raise ModelError(f"a constant of {op.label} cannot be computed again, so the function cannot be replayed")
        one = uniform(content)
        if one is not None:
            return content.flatten()[0].to(like.device, like.dtype if content.is_floating_point() else content.dtype)
        wide = [n for n in content.shape if n != 1]
        if len(wide) != 1:
            raise ModelError(
                f"{op.label} reads a constant of shape {list(content.shape)} that differs along more than its "
                "channels, so there is no one function to replay; measure the value instead"
            )
        if like.dim() < 2 or like.shape[-1] not in (1, wide[0]):
            raise ModelError(
                f"the {wide[0]} channels of {op.label} have functions of their own; give points of shape (N, 1) "
                f"instead of {list(like.shape)}, the answer is (N, {wide[0]})"
            )
        flat = content.reshape(-1).to(like.device)
        return flat.to(like.dtype) if flat.is_floating_point() else flat


def _answer(op: Op, name: str, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
    """An element-wise operation on points of any shape and type."""
    if name in ("prelu", "_prelu_kernel"):
        return torch.where(args[0] > 0, args[0], args[1] * args[0])  # torch wants channels on axis 1
    if name == "rrelu":  # its mean slope, as at the end of training
        slope = (float(argument(op, 1, "lower", 1 / 8)) + float(argument(op, 2, "upper", 1 / 3))) / 2  # type: ignore[arg-type]
        return torch.where(args[0] > 0, args[0], slope * args[0])
    kwargs = {k: v for k, v in kwargs.items() if k not in ("dtype", "out")}
    target = op.target
    if op.name != name:  # without the write
        packet = getattr(torch.ops.aten, name, None)
        target = getattr(packet, getattr(op.target, "_overloadname", ""), None) or op.functional
        if target is None:
            args = mapped(args, lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)
            target = op.target
    try:
        return target(*args, **kwargs)
    except (RuntimeError, TypeError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0][:120]
        raise ModelError(
            f"{op.label} cannot be run on points of its own: {first}; measure the value instead"
        ) from error
