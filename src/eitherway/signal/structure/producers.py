"""Producers as they are found made into producers as they are told: names, axes of the weight itself, its region."""

from __future__ import annotations

from collections.abc import Mapping

from eitherway.graph import Graph
from eitherway.signal.structure.atoms import Draft
from eitherway.signal.structure.constants import Known, View, view
from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.parts import Block, Producer


def told(flow: Flow, names: Mapping[int, str]) -> list[Producer]:
    """All producers, in the order they ran, each with one block for all its rows.

    Args:
        names: of the parameters' values.
    """
    return [_told(flow, i, draft, names) for i, draft in enumerate(flow.drafts)]


def _told(flow: Flow, index: int, draft: Draft, names: Mapping[int, str]) -> Producer:
    graph, reading = flow.graph, draft.reading
    op = graph.ops[draft.op]
    known = flow.states[reading.weight]
    assert type(known) is Known
    weight, found = known.root, view(graph, known.root, reading.weight)
    if found is None:  # repeated, or put together: what the operation reads is the weight
        weight, found = reading.weight, view(graph, reading.weight, reading.weight)
    assert found is not None
    direct = graph.values[weight].kind == "parameter"
    out, inner = _axes(found, reading.out), _axes(found, reading.inner)
    parameters = tuple(names[p] for p in draft.parameters if p in names)
    rank = len(graph.values[weight].shape)
    return Producer(
        index=index,
        op=draft.op,
        name=names.get(weight, "") if direct else _name_of_computed(parameters, op.module, graph, weight),
        weight=weight,
        bias=names.get(draft.bias) if draft.bias is not None else None,
        kind=reading.kind,
        source=reading.data[0],
        sources=reading.data,
        output=draft.output,
        out_axis=out[0] if out else 0,
        in_axis=inner[0] if inner else rank - 1,
        out_axes=out,
        in_axes=inner,
        groups=reading.groups,
        taps=reading.taps,
        fan_in=float(reading.fan_in),
        fan_out=float(reading.fan_out),
        coverage=float(reading.coverage),
        blocks=_blocks(graph, weight, out, found, reading.gates),
        part=found.part,
        parametrised=not direct,
        parameters=parameters,
        module=op.module,
        where=op.where,
    )


def _axes(found: View, wanted: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(a for i in wanted for a in found.axes[i]))


def _blocks(graph: Graph, weight: int, out: tuple[int, ...], found: View, gates: tuple[str, ...]) -> tuple[Block, ...]:
    """All rows of this use as one block, or a block for each gate."""
    shape = graph.values[weight].shape
    if not out:
        return (Block("", slice(0, 1)),)
    rows = found.part[out[0]] if found.part else slice(0, shape[out[0]])
    if len(gates) > 1 and rows.step is None:
        each = (rows.stop - rows.start) // len(gates)
        starts = [rows.start + i * each for i in range(len(gates))]
        return tuple(Block(gate, slice(s, s + each)) for gate, s in zip(gates, starts))
    return (Block(gates[0] if gates else "", rows),)


def _name_of_computed(parameters: tuple[str, ...], module: str, graph: Graph, weight: int) -> str:
    """What a weight that is computed goes by: `head.weight` for head.parametrizations.weight.original0 and 1."""
    for name in parameters:
        owner, found, rest = name.partition("parametrizations.")
        if found:
            return owner + rest.partition(".")[0]
    for name in parameters:
        for ending in ("_orig", "_g", "_v"):
            if name.endswith(ending) and (ending == "_orig" or len(parameters) > 1):
                return name.removesuffix(ending)
    if len(parameters) == 1:
        return parameters[0]
    if parameters and module:
        return f"{module}.weight"
    return parameters[0] if parameters else graph.values[weight].name
