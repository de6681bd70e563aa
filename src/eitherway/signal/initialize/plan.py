"""What becomes of each parameter and each use of a weight, decided before a number is drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.signal.gain import Moments
from eitherway.signal.initialize.biases import deliberate
from eitherway.signal.initialize.computed import can_be_zero, can_invert
from eitherway.signal.initialize.scale import set_scales
from eitherway.signal.initialize.targets import Targets, targets
from eitherway.signal.initialize.theory import Theory
from eitherway.signal.schemes import plain
from eitherway.signal.structure import Path, Producer, Structure

PLAIN = ("kaiming", "lecun", "xavier", "orthogonal", "edge")
"""Schemes with a formula for each weight by itself."""


@dataclass
class Use:
    """One use of a weight that is to be drawn."""

    producer: Producer
    scheme: str
    law: str
    """gaussian, uniform, orthogonal, zero."""
    target: float
    """rms wanted of the output; the planned one where a formula decides."""
    std: float | None = None
    """None until the walk knows what the weight reads."""
    gain: float = nan
    reads: str = ""
    why: str = ""
    rescale: bool = False
    """Whether the data pass may multiply it."""
    demands: list[float] = field(default_factory=list)
    """Standard deviations that each use of the same weight would have by itself."""


@dataclass
class Plan:
    """Everything decided."""

    structure: Structure
    targets: Targets
    theory: Theory
    rms: dict[int, float]
    """Planned rms of outputs, by producer; filled in the order of the run."""
    uses: dict[int, Use] = field(default_factory=dict)
    """By producer."""
    constants: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Value and reason of parameters that are set."""
    kept: dict[str, str] = field(default_factory=dict)
    follows: dict[int, str] = field(default_factory=dict)
    """What is done to each producer's output."""
    asked: Mapping[str, str] = field(default_factory=dict)
    """The scheme asked for, by parameter."""
    bias_stds: dict[str, float] = field(default_factory=dict)
    """Biases that are drawn: at the edge of chaos they carry a part of the variance."""
    behind: dict[str, int] = field(default_factory=dict)
    """Parameters from which a module computes a weight that is drawn: its producer."""
    next: dict[int, Path] = field(default_factory=dict)
    """By producer: the path from its output to another weight."""
    chosen: dict[str, float] = field(default_factory=dict)
    """rms of biases that are kept because somebody has set them on purpose."""
    narrow: Mapping[str, float] = field(default_factory=dict)
    """Weights whose output has another scale, because what reads it is far from its useful range at rms 1."""
    notes: list[str] = field(default_factory=list)

    def moments(self, path: Path | None) -> Moments | None:
        """Of the activation that a path is, at rms 1; None for what is no activation."""
        return self.theory.moments(path, 1.0) if path is not None and path.kind == "activation" else None


def make_plan(
    model: nn.Module,
    structure: Structure,
    asked: Mapping[str, str],
    residual: str,
    writable: frozenset[str],
    kept: Mapping[str, str],
    *,
    fresh: bool = True,
) -> Plan:
    """Decides for every parameter whether it is drawn, set or kept.

    Args:
        asked: scheme by parameter.
        writable: parameters that may be started.
        kept: why others may not.
        fresh: whether the model is known not to be trained.

    Raises:
        ModelError: if no weight is left to draw, or an activation has no moments.
    """
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    wanted = targets(structure, residual, parameters, writable)
    scales = {
        name: wanted.scales[name] if name in writable and asked[name] != "torch" else _size(parameters[name])
        for name in wanted.scales
        if name in parameters
    }
    rms: dict[int, float] = {}
    plan = Plan(structure, wanted, Theory(structure, rms, scales), rms, kept=dict(kept), asked=asked)
    plan.notes += wanted.notes
    plan.next = _next_paths(structure)
    auto = {p.index for p in structure.producers if all(asked.get(n) == "auto" for n in (p.name, *p.parameters)[-1:])}
    plan.narrow = set_scales(structure, plan.theory, wanted, auto)
    plan.follows = {producer.index: _follows(structure, producer, plan.next) for producer in structure.producers}
    weights = {producer.name for producer in structure.producers if producer.name in parameters}
    beside_frozen = any(why.startswith("frozen") for why in kept.values())
    for producer in structure.producers:
        if producer.bias in writable and producer.bias not in plan.kept and asked[producer.bias] != "torch":
            why = deliberate(structure, parameters[producer.bias], producer, fresh=fresh)
            if why:
                plan.kept[producer.bias] = why
                plan.chosen[producer.bias] = _size(parameters[producer.bias])
    plan.theory.shifted = {p.index for p in structure.producers if p.bias in plan.chosen}
    for name, parameter in parameters.items():
        if name not in plan.kept and beside_frozen and name in weights and not bool(parameter.detach().any()):
            plan.kept[name] = "0 throughout in a partly frozen model: an adapter starts silent on purpose"
        if name not in plan.kept:
            _decide(name, parameter, plan, weights)
    for producer in structure.producers:
        if producer.name in plan.kept:
            continue
        if producer.name in writable and producer.name in weights and not producer.parametrised:
            if asked[producer.name] != "torch":
                plan.uses[producer.index] = _use(producer, plan, asked[producer.name])
        elif can_invert(model, producer, writable) and asked[producer.parameters[0]] != "torch":
            if wanted.rms[producer.index] == 0 and not can_be_zero(model, producer):
                wanted.rms[producer.index] = 1.0
                wanted.why[producer.index] = "a weight that is divided by its norm cannot start at 0"
            plan.uses[producer.index] = _use(producer, plan, asked[producer.parameters[0]])
            for name in producer.parameters:
                plan.behind[name] = producer.index
                plan.kept.pop(name, None)
    drawn = {use.producer.name for use in plan.uses.values()}
    for name in weights:
        if name not in drawn and name not in plan.kept and asked[name] != "torch":
            plan.kept[name] = "no use of it as a weight was found"
    if not drawn and not any(asked[name] == "torch" for name in writable):
        reasons = Counter(plan.kept.values()).most_common(1)
        text = f": {reasons[0][0]}" if reasons else ""
        raise ModelError(f"no weight is left to draw{text}; give an example that reaches the weights, or a wider only=")
    return plan


def _decide(name: str, parameter: Tensor, plan: Plan, weights: set[str]) -> None:
    """Sets and keeps; weights are drawn elsewhere."""
    role = plan.structure.roles.get(name)
    if role is None:
        plan.kept[name] = "the run on the example never read it"
        return
    if role.kind == "unreached":
        plan.kept[name] = role.text or "the run on the example never read it"
        return
    if plan.asked[name] == "torch":
        return
    if role.kind == "bias":
        plan.constants[name] = (0.0, "biases start at 0")
    elif role.kind == "norm weight":
        value = plan.targets.scales.get(name, 1.0)
        plan.constants[name] = (value, plan.targets.scale_why.get(name, "norms start as they are"))
    elif role.kind == "norm bias":
        plan.constants[name] = (0.0, "norms start as they are")
    elif role.kind in ("weight", "parametrised") and name in weights:
        return
    elif role.kind == "weight":
        plan.kept[name] = role.text
    else:
        _extra(name, parameter, role.kind, role.text, plan)


_KEPT = {
    "slope": "a learned slope keeps its own start",
    "scale": "a learned scale keeps its own start",
    "shift": "a learned shift keeps its own start",
    "table": "a table (positions, tokens, queries) keeps its own start",
}
_DEFAULTS = {"slope": 0.25, "scale": 1.0, "shift": 0.0}


def _extra(name: str, parameter: Tensor, kind: str, text: str, plan: Plan) -> None:
    """What is no weight, bias or norm keeps what it holds, unless that is no start at all."""
    held = parameter.detach().double()
    usable = bool(torch.isfinite(held).all()) and float(held.abs().max() if held.numel() else 0.0) < 1e6
    if usable or kind not in _DEFAULTS:
        plan.kept[name] = _KEPT.get(kind) or text or kind
        if not usable:
            plan.notes.append(f"{name} was kept and holds NaN, inf or numbers beyond 1e6")
    else:
        plan.constants[name] = (_DEFAULTS[kind], f"it held no usable numbers: {kind}s start at {_DEFAULTS[kind]:g}")


def _size(parameter: Tensor) -> float:
    return float(parameter.detach().double().square().mean().sqrt()) if parameter.numel() else 1.0


def _use(producer: Producer, plan: Plan, asked: str) -> Use:
    """The law of one use, its standard deviation where a formula has it."""
    structure = plan.structure
    path = structure.paths.get(producer.index)
    target = plan.targets.rms[producer.index]
    why = plan.targets.why.get(producer.index, "")
    use = Use(producer, "gain", "gaussian", target, reads=reads(path, structure), why=why)
    if target == 0:
        use.law, use.std, use.scheme = "zero", 0.0, "zero"
        return use
    if producer.kind == "embedding":
        use.std = target / math.sqrt(max(producer.reads, 1e-12))  # a bag sums or averages several rows
        use.gain = target
        use.scheme = "embedding"
        use.why = use.why or "rows of rms 1"
        return use
    if producer.kind == "recurrent" and is_recurrent_kernel(producer):
        use.law, use.scheme = "orthogonal", "orthogonal"
        use.std, use.gain = producer.fan_in**-0.5, 1.0
        use.why = "from state to state: orthogonal for each gate, so that a state neither grows nor fades"
        return use
    if asked in PLAIN:
        _plain(use, asked, plan, path)
    else:
        use.rescale = producer.kind != "recurrent"
    return use


def is_recurrent_kernel(producer: Producer) -> bool:
    """Whether a weight of a recurrent cell reads the state, not the input."""
    return "hh" in producer.name.rpartition(".")[2]


def _plain(use: Use, scheme: str, plan: Plan, path: Path | None) -> None:
    """The formulas of the textbooks, with fans that count what an output really sums.

    The gain is that of the activation whose output the weight reads; a weight that reads no activation (the first one)
    has the gain of what follows, as He et al. 2015 (arXiv:1502.01852) simplify.
    """
    producer = use.producer
    known = plan.moments(path) or plan.moments(plan.next.get(producer.index))
    gain = 1.0
    use.scheme = scheme
    if scheme == "kaiming":
        gain = known.gain if known else 1.0
        text = "He et al. 2015: gain / sqrt(fan_in)"
    elif scheme == "lecun":
        text = "LeCun et al. 1998: 1 / sqrt(fan_in)"
    elif scheme == "xavier":
        text, use.law = "Glorot and Bengio 2010: sqrt(2 / (fan_in + fan_out))", "uniform"
    elif scheme == "orthogonal":
        gain = known.gain if known else 1.0
        text, use.law = "Saxe et al. 2014: orthogonal, times the gain", "orthogonal"
    else:
        pair = known.edge if known else None
        gain = pair[0] if pair else known.gain if known else 1.0
        text = "edge of chaos: 1 / sqrt(E phi'^2 fan_in)"
        if known and pair is None:
            text, use.scheme = f"{known.name} has no edge of chaos at rms 1: its gain instead", "gain"
        elif pair and producer.bias and producer.bias in plan.constants:
            plan.constants.pop(producer.bias)
            plan.bias_stds[producer.bias] = math.sqrt(pair[1])
            if plan.moments(path) is None:  # it reads no activation: all that its bias leaves of the variance
                use.target = math.sqrt(max(1 - pair[1], 0.0))
                use.why = "edge of chaos: the variance that the bias leaves"
                return
    share = use.target  # below 1 in residual branches
    use.gain = gain * share
    if scheme in ("kaiming", "lecun", "xavier"):
        use.std = share * plain.std(scheme, producer.fan_in, producer.fan_out, gain=gain)
    else:
        use.std = gain * share / math.sqrt(producer.fan_in)
    use.why = f"{text}; {use.why}" if use.why else text


def _next_paths(structure: Structure) -> dict[int, Path]:
    """For each producer the first path that starts at its output and ends at another weight."""
    found: dict[int, Path] = {}
    for index, path in structure.paths.items():
        for value in path.sources:
            source = structure.sources.get(value)
            if source is not None and source.producer is not None and source.producer != index:
                found.setdefault(source.producer, path)
    return found


_MOVES = {
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "squeeze", "unsqueeze",
    "slice", "select", "narrow", "chunk", "split", "unbind", "expand", "contiguous", "clone", "dropout", "to", "alias",
    "feature_dropout", "alpha_dropout", "split_with_sizes", "movedim", "mT", "numpy_T", "type_as", "repeat",
}  # fmt: skip
_ROLES = ("query", "key", "value")


def _follows(structure: Structure, producer: Producer, following: Mapping[int, Path]) -> str:
    """What is done to an output, for the report: moves are passed over."""
    blocks = [block.role for block in producer.blocks if block.role in _ROLES]
    if blocks:
        return f"attention ({', '.join(dict.fromkeys(blocks))})"
    if producer.kind == "recurrent":
        return "gates"
    path = following.get(producer.index)
    if path is not None and path.kind in ("activation", "gate"):
        return path.text
    graph = structure.graph
    norms = {norm.op: f"{norm.kind} norm" for norm in structure.norms}
    adds = {residual.op for residual in structure.residuals}
    weights = {other.op for other in structure.producers}
    names: list[str] = []
    seen, waiting = set(), [producer.output]
    while waiting and len(seen) < 40:
        value = waiting.pop(0)
        if value in graph.outputs:
            names.append("the output")
        for index in graph.users[value]:
            op = graph.ops[index]
            if index in seen:
                continue
            seen.add(index)
            if op.name.removesuffix("_") in _MOVES:
                waiting += op.outputs
            elif index in weights and index != producer.op:
                names.append("a weight")
            elif index in adds:
                names.append("the stream")
            else:
                names.append(norms.get(index, op.name.strip("_")))
    return ", ".join(list(dict.fromkeys(names))[:3])


_WORDS = {"producer": "a weight", "input": "the input", "sum": "a sum", "embedding": "an embedding", "concat": "a join"}


def reads(path: Path | None, structure: Structure) -> str:
    """What a weight reads, for the report."""
    if path is None:
        return ""
    if path.kind in ("activation", "gate"):
        return path.text
    source = structure.sources.get(path.sources[0]) if path.sources else None
    if source is None:
        return path.text
    if source.kind == "norm":
        return f"{source.text} norm" if source.text and "norm" not in source.text else source.text or "norm"
    return source.text if source.kind == "measured" and source.text else _WORDS.get(source.kind, source.kind)
