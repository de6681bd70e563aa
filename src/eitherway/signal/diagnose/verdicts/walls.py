"""Walls: operations that a gradient reaches and does not pass, for no number of the example."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from eitherway.graph import Op
from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.verdicts.parts import SHARES, Found, found, many, softmax_axis

_STEPS = ("round", "sign", "sgn", "floor", "ceil", "trunc", "heaviside", "fix", "frac")
_RELUS = ("relu", "relu6", "clamp", "clamp_min", "threshold", "hardtanh", "hardsigmoid", "hardshrink", "softshrink")
_PRODUCTS = ("matmul", "bmm", "mul", "linear", "addmm")


def walls(e: Evidence) -> Iterator[Found]:
    """Weights whose gradient is there and exactly zero, by the operation that stops it.

    Zeros that are meant so (heads, ends of residual branches, norms' scales) stop gradients, too: they are told as what
    they are, and no weight behind them is named here.
    """
    graph = e.graph
    values = {v.name: v.index for v in graph.values if v.kind == "parameter"}
    zero = [n for n, g in e.by_name.items() if g.ndim > 1 and n in values and not bool(g.any())]
    zero = [n for n in zero if e.run.parameters[n].ndim > 1]
    if not zero:
        return
    wanted = [v.index for v in graph.values if v.kind == "result" and v.index in e.run.tensors]
    slopes, _ = e.run.gradients(wanted)
    told: dict[tuple[str, str], tuple[Op, tuple[str, str, str], list[str]]] = {}
    for op in graph.ops:  # the first wall on its way is a weight's own
        if not zero or not e.own(op.index) or not _stops(op, slopes):
            continue
        made = _told(e, op)
        if made is None:
            continue
        stopped = [i for i in op.inputs if i in slopes and not bool(slopes[i].any())]
        behind = {i for o in graph.behind(stopped) for i in graph.ops[o].inputs}
        names = [n for n in zero if values[n] in behind]
        if names:
            told.setdefault((made[0], op.name), (op, made, []))[2].extend(names)
            zero = [n for n in zero if n not in names]
    for op, (kind, cause, remedy), names in told.values():
        layers = list(dict.fromkeys(n.rpartition(".")[0] or n for n in names))
        text = f"the gradient of {many(layers)} is exactly zero"
        yield found(
            "dead units" if kind == "dead units" else "no gradient", "alarm", layers, text, cause, remedy, at=op.index
        )


def _stops(op: Op, slopes: dict[int, Tensor]) -> bool:
    """Whether a gradient arrives at what an operation makes, and none of it at something that it reads."""
    arrives = any(bool(slopes[i].any()) for i in op.outputs if i in slopes)
    return arrives and any(i in slopes and not bool(slopes[i].any()) for i in op.inputs)


def _told(e: Evidence, op: Op) -> tuple[str, str, str] | None:
    """Kind, cause and remedy; None where the zero may be meant so."""
    name = op.name.lstrip("_").removesuffix("_")
    parts = (name, f"in {op.module}" if op.module else "", f"({op.where})" if op.where else "")
    where = " ".join(part for part in parts if part)
    given = [e.run.tensors[i].detach() for i in op.inputs if i in e.run.tensors]
    if name in _STEPS:
        mend = f"pass the gradient straight through: `x + (torch.{name}(x) - x).detach()`"
        return "no gradient", f"{op.name} in {op.where or op.module} is flat between its jumps", mend
    if name in _RELUS and given:
        low, high = float(given[0].min()), float(given[0].max())
        cause = f"{where} is flat at all {given[0].numel():,} numbers that it reads, from {low:.3g} to "
        mend = "take it out, where the answer may be any number; else smaller biases, or LeakyReLU or softplus"
        return "dead units", f"{cause}{high:.3g}", mend
    if name in SHARES and given:
        axis = softmax_axis(op)
        if axis is not None and given[0].shape[axis] == 1:
            cause = f"{where} goes over axis {axis} of {tuple(given[0].shape)}, which has one place: it is 1"
            return "no gradient", f"{cause} whatever it is given", "give softmax the axis that is to sum to one"
    if name == "mul" and _by_zero(e, op):
        return "no gradient", f"{where} multiplies by 0", "leave the product out, or multiply by what is not zero"
    silent = any(e.run.tensors[a.query].numel() and not bool(e.run.tensors[a.query].any()) for a in e.attentions)
    if name in _PRODUCTS and len(given) > 1 and not silent and not any(bool(x.any()) for x in given[:2]):
        cause = f"both sides of {where} are zero, and the gradient of each is a multiple of the other"
        return "no gradient", cause, "start one of them, better both, at random: `initialize_(model, example)`"
    return None


def _by_zero(e: Evidence, op: Op) -> bool:
    """Whether one side of a product is a zero that nobody learns and no input has a part in."""
    if any(isinstance(a, (int, float)) and a == 0 for a in op.args):
        return True
    values = e.graph.values
    fixed = [i for i in op.inputs if values[i].kind != "parameter" and not values[i].depends and i in e.run.tensors]
    return any(not e.run.tensors[i].requires_grad and not bool(e.run.tensors[i].any()) for i in fixed)
