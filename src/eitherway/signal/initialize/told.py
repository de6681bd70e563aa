"""From the plan and what was drawn to the rows of the report."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

from eitherway.signal.initialize.certify import Certificate
from eitherway.signal.initialize.chains import Chained
from eitherway.signal.initialize.plan import Plan, Use
from eitherway.signal.initialize.report import Entry, Layer
from eitherway.signal.initialize.stage import Stage
from eitherway.signal.initialize.torch_laws import TorchLaw

_EQUAL = 1e-12  # numbers that differ by less are one


def entries(
    plan: Plan, stage: Stage, chains: Mapping[int, Chained], laws: Mapping[str, TorchLaw], certificate: Certificate
) -> tuple[Entry, ...]:
    """One entry for each parameter, in the model's order."""
    uses: dict[str, list[Use]] = {}
    for use in plan.uses.values():
        uses.setdefault(use.producer.name, []).append(use)
    biases: dict[str, Chained] = {}
    for index, chain in chains.items():
        bias = plan.structure.producers[index].bias
        if bias is not None and chain.scheme != "mirror":
            biases[bias] = chain
    return tuple(
        _entry(name, plan, stage, uses.get(name, []), chains, biases, laws, certificate) for name in stage.live
    )


def _entry(
    name: str,
    plan: Plan,
    stage: Stage,
    uses: list[Use],
    chains: Mapping[int, Chained],
    biases: Mapping[str, Chained],
    laws: Mapping[str, TorchLaw],
    certificate: Certificate,
) -> Entry:
    shape = tuple(stage.live[name].shape)
    if name in plan.kept:
        return Entry(name, shape, "kept", "", nan, nan, nan, "", plan.kept[name])
    if name in laws:
        law = laws[name]
        if law.kind == "constant":
            return Entry(name, shape, "set", "", 0.0, nan, nan, "", law.text, law.size)
        return Entry(name, shape, "drawn", "torch", law.size, law.size * law.fan_in**0.5, law.fan_in, "", law.text)
    made = stage.made.get(name)
    std = float(made.detach().double().square().mean().sqrt()) if made is not None and made.numel() else 0.0
    if uses:
        return _drawn(name, shape, uses, plan, chains, certificate, std)
    if name in plan.behind:
        use = plan.uses[plan.behind[name]]
        if std == 0:
            return Entry(name, shape, "set", "", 0.0, nan, nan, "", use.why or "starts at 0", 0.0)
        does = "starts at 0" if use.law == "zero" else "is drawn"
        why = f"{use.producer.name}, computed from it, {does}: {use.why or f'rms 1 after {use.reads}'}"
        follows = plan.follows.get(use.producer.index, "")
        return Entry(name, shape, "drawn", use.scheme, std, nan, use.producer.reads, follows, why)
    if name in biases and made is not None and float(made.max() - made.min()) <= _EQUAL:
        value = float(made.flatten()[0])
        why = "operating point of what follows" if value else "biases start at 0"
        return Entry(name, shape, "set", "", 0.0, nan, nan, "", why, value)
    if name in biases:
        return Entry(
            name,
            shape,
            "drawn",
            biases[name].scheme,
            std,
            nan,
            nan,
            "",
            "operating point of what follows, mean taken off",
        )
    if name in plan.bias_stds:
        text = "edge of chaos: the variance that the weights leave open"
        return Entry(name, shape, "drawn", "edge", plan.bias_stds[name], nan, nan, "", text)
    if name in plan.constants:
        value, why = plan.constants[name]
        return Entry(name, shape, "set", "", 0.0, nan, nan, "", why, value)
    return Entry(name, shape, "kept", "", nan, nan, nan, "", "read by something unknown")


def _drawn(
    name: str,
    shape: tuple[int, ...],
    uses: list[Use],
    plan: Plan,
    chains: Mapping[int, Chained],
    certificate: Certificate,
    std: float,
) -> Entry:
    use = uses[0]
    index = use.producer.index
    follows = plan.follows.get(index, "")
    chain = chains.get(index)
    scheme = chain.scheme if chain is not None else use.scheme
    why = chain.why if chain is not None else use.why or f"rms 1 after {use.reads or 'what it reads'}"
    if len(uses) > 1 and len({tuple((p.start, p.stop) for p in u.producer.part) for u in uses}) < len(uses):
        if all(u.producer.kind != "embedding" for u in uses):
            why += f"; shared by {len(uses)} uses: one start that serves their geometric mean"
    elif len(uses) > 1:
        why += f"; in {len(uses)} parts, each by what it reads"
    if use.law == "zero" and chain is None:
        return Entry(name, shape, "set", "", 0.0, nan, use.producer.reads, follows, use.why or "starts at 0", 0.0)
    blocks = [block.role for block in use.producer.blocks if block.role]
    if len(blocks) > 1:
        why += f"; {', '.join(blocks)} each their own map"
    if len(uses) == 1 and chain is None and use.std is not None and not use.producer.part:
        std = use.std * certificate.factors.get(index, 1.0)
    gain = std * max(use.producer.reads, 1e-12) ** 0.5
    return Entry(name, shape, "drawn", scheme, std, gain, use.producer.reads, follows, why)


def layers(plan: Plan, certificate: Certificate) -> tuple[Layer, ...]:
    """One row for each use of a weight, in the order of the run."""
    return tuple(
        Layer(
            producer.name or f"{producer.kind} at {producer.where}",
            producer.kind,
            plan.rms.get(producer.index, nan),
            certificate.measured.get(producer.index, nan),
            certificate.gradients.get(producer.index, nan),
            certificate.factors.get(producer.index, 1.0),
        )
        for producer in plan.structure.producers
    )
