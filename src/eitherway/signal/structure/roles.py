"""What each parameter of a model is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.parts import Producer, Role

_FIRST = ("weight", "bias", "norm weight", "norm bias", "slope", "scale", "table", "shift", "other")
"""What a parameter is called that does several things."""
_WORDS = {
    "bias": "is added to the channels of a weighted sum",
    "norm weight": "scales what a norm puts out",
    "norm bias": "shifts what a norm puts out",
    "slope": "is the slope of PReLU below zero",
    "scale": "multiplies the signal",
    "shift": "is added to the signal",
    "table": "is added, joined or read as data: positions, tokens, queries",
    "other": "is read by {op}",
}


def parameter_names(flow: Flow, model: nn.Module) -> tuple[dict[int, str], dict[str, tuple[str, ...]]]:
    """The model's own names of the parameters that the run reads, by value, and the further names of each."""
    first: dict[int, str] = {}
    aliases: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            aliases.setdefault(first[id(parameter)], []).append(name)
        else:
            first[id(parameter)] = name
    names = {v.index: first.get(id(v.tensor), v.name) for v in flow.graph.values if v.kind == "parameter"}
    return names, {name: tuple(others) for name, others in aliases.items()}


def roles(
    flow: Flow,
    model: nn.Module,
    producers: Sequence[Producer],
    names: Mapping[int, str],
    aliases: Mapping[str, tuple[str, ...]],
) -> dict[str, Role]:
    """A role for every name of `model.named_parameters()`."""
    users: dict[str, list[int]] = {}
    computed: dict[str, str] = {}
    direct: set[str] = set()
    for producer in producers:
        for name in producer.parameters:
            users.setdefault(name, []).append(producer.index)
            if producer.parametrised:
                computed[name] = producer.name
            else:
                direct.add(name)
    values: dict[str, list[int]] = {}
    for value, name in names.items():
        values.setdefault(name, []).append(value)
    found = {}
    for name, _ in model.named_parameters():
        others = aliases.get(name, ())
        if name not in values:
            found[name] = Role("unreached", "the run never reads it", aliases=others, needed=False)
            continue
        uses = [use for value in values[name] for use in flow.uses.get(value, ())]
        made = computed.get(name) if name not in direct else None
        role = _role(flow, uses, users.get(name, []), made, producers, others)
        needed = any(op in flow.graph.needed for value in values[name] for op in flow.graph.users[value])
        found[name] = role if needed else replace(role, text=f"{role.text}; the answer needs none of it", needed=False)
    return found


def _role(
    flow: Flow,
    uses: list[tuple[str, int]],
    users: list[int],
    computed: str | None,
    producers: Sequence[Producer],
    aliases: tuple[str, ...],
) -> Role:
    kinds = {kind for kind, _ in uses}
    ops = tuple(dict.fromkeys(op for _, op in uses))
    if not uses:
        return Role("other", "is read, but nothing of the signal is computed with it", (), tuple(users), aliases)
    kind = next(k for k in _FIRST if k in kinds)
    own = tuple(users)
    if computed is not None and kind == "weight":
        return Role("parametrised", f"the weight {computed} is computed from it", ops, own, aliases)
    if kind == "weight":
        first = producers[users[0]] if users else None
        what = first.kind if first is not None else "linear"
        several = f", used {len(users)} times" if len(users) > 1 else ""
        constant = first is not None and what == "embedding" and all(flow.known(producers[u].source) for u in users)
        return Role("weight", f"weight of {what}{several}" + (": positions" if constant else ""), ops, own, aliases)
    text = _WORDS[kind].format(op=flow.graph.ops[ops[0]].label)
    return Role(kind, text, ops, own, aliases)
