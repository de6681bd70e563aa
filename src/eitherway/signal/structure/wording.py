"""A function between sources in words: `gelu`, `u * sigmoid(u)`, `silu(a) * b`."""

from __future__ import annotations

from typing import Any

from eitherway.graph import Op, Ref
from eitherway.signal.structure.constants import uniform
from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.names import plain

_LONGEST = 80
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "multiply": "*", "divide": "/", "true_divide": "/"}
_CLASSES = {
    "Softsign", "Tanhshrink", "GELU", "SiLU", "Mish", "ReLU", "LogSigmoid", "Softmin", "Hardswish", "RReLU", "GLU",
}  # fmt: skip
"""Modules of torch that are several operations, or whose operation has another name."""


def worded(flow: Flow, value: int, steps: list[Op], atoms: list[int]) -> str:
    """The function that makes a value, in its sources: u where there is one, a, b, c... where there are several."""
    acting = [op for op in steps if not flow.moves(op)]
    homes = {(op.module, op.module_class) for op in acting}
    if len(homes) == 1:
        _, home = next(iter(homes))
        if home in _CLASSES and len(acting) > 1:
            return home.lower()
    if len(acting) == 1 and len(atoms) == 1 and plain(acting[0]) not in (*_SIGNS, "pow", "where"):
        constants = [a for a in acting[0].args if type(a) is not Ref and a not in (None, False)]
        if not constants or plain(acting[0]) in ("gelu", "softplus", "elu", "hardtanh", "rrelu"):
            return plain(acting[0])
    names = dict(zip(atoms, ("u",) if len(atoms) == 1 else "abcdefgh"))
    text = _Words(flow, names).expression(value, acting and steps)
    return text if len(text) <= _LONGEST else f"a function of {len(acting)} operations"


class _Words:
    def __init__(self, flow: Flow, names: dict[int, str]):
        self.flow, self.names = flow, names
        self.found: dict[int, tuple[str, bool]] = {}

    def expression(self, value: int, steps: list[Op]) -> str:
        for op in steps:
            for out in op.outputs:
                self.found[out] = self._of(op)
        return self._at(value)[0]

    def _at(self, value: int) -> tuple[str, bool]:
        """The words for a value, and whether they are a sum or product that needs brackets."""
        if value in self.found:
            return self.found[value]
        stop = self.flow.stops.get(value)
        if stop is not None and stop[0] in self.names:
            return self.names[stop[0]], False
        return self._constant(value), False

    def _constant(self, value: int) -> str:
        here = self.flow.graph.values[value]
        if here.kind in ("parameter", "buffer") and here.numel > 1:
            return here.name.rpartition(".")[2]
        content = self.flow.content(value)
        one = uniform(content) if content is not None else None
        return f"{one:g}" if one is not None else here.name.rpartition(".")[2] or "c"

    def _of(self, op: Op) -> tuple[str, bool]:
        name = plain(op)
        if name == "glu":
            found = self.flow.signal(op.outputs[0])
            a, b = (self.names.get(i, "u") for i in (found.atoms if found is not None else (0, 0)))
            return f"{a} * sigmoid({b})", True
        if self.flow.moves(op):
            data = next((i for i in op.inputs if not self.flow.known(i)), op.inputs[0])
            return self._at(data)
        given = [self._word(a) for a in op.args]
        if any(len(text) > _LONGEST for text, _ in given):
            return "." * (_LONGEST + 1), False
        if name in _SIGNS and len(given) == 2:
            one, other = (f"({text})" if wide else text for text, wide in given)
            return f"{one} {_SIGNS[name]} {other}", True
        if name == "pow" and len(given) == 2:
            one, other = (f"({text})" if wide else text for text, wide in given)
            return f"{one}**{other}", False
        if name == "neg":
            return f"-{given[0][0]}", True
        return f"{name}({', '.join(text for text, _ in given if text)})", False

    def _word(self, given: Any) -> tuple[str, bool]:
        if type(given) is Ref:
            return self._at(given.index)
        if given is None or isinstance(given, (bool, list, tuple)):
            return "", False
        return (f"{given:g}" if isinstance(given, (int, float)) else str(given)), False
