"""The door: a captured run and its model, read as a structure."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from eitherway.base.errors import ModelError
from eitherway.graph import Graph
from eitherway.signal.structure.atoms import Atom, NormDraft
from eitherway.signal.structure.attention import attentions, with_blocks
from eitherway.signal.structure.between import path_to
from eitherway.signal.structure.chains import chains, heads, tied
from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.parts import Norm, Path, Source, Structure
from eitherway.signal.structure.producers import told
from eitherway.signal.structure.residuals import residuals
from eitherway.signal.structure.roles import parameter_names, roles
from eitherway.signal.structure.steps import along


def read_structure(graph: Graph, model: nn.Module) -> Structure:
    """What a model is made of, as its run shows it.

    Args:
        graph: of `capture(model, ...)`, with or without `keep`.
        model: the module that was run, for the names of its parameters.

    Raises:
        ModelError: if the graph does not tell the whole run.

    >>> import torch
    >>> from eitherway.graph import capture
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    >>> structure = read_structure(capture(net, torch.ones(5, 3)), net)
    >>> [(p.name, p.fan_in) for p in structure.producers], structure.paths[1].text
    ([('0.weight', 3.0), ('2.weight', 4.0)], 'gelu')
    """
    if graph.opaque:
        raise ModelError(f"the structure cannot be read: {graph.opaque}; give the model without that part")
    flow = along(graph)
    names, aliases = parameter_names(flow, model)
    producers = told(flow, names)
    found = attentions(flow)
    producers = with_blocks(flow, producers, found)
    adds = residuals(flow, producers, names)
    paths = {p.index: path_to(flow, p.source) for p in producers}
    several = tied(flow, producers)
    known: dict[int, Path] = {}

    def path(value: int) -> Path:
        if value not in known:
            known[value] = path_to(flow, value)
        return known[value]

    return Structure(
        graph,
        tuple(producers),
        tuple(_norm(n, names) for n in flow.norms),
        tuple(adds),
        tuple(found),
        tuple(chains(flow, producers, paths, several)),
        heads(flow, producers),
        several,
        roles(flow, model, producers, names, aliases),
        paths,
        _sources(flow),
        path,
    )


def _norm(draft: NormDraft, names: Mapping[int, str]) -> Norm:
    weight = names.get(draft.weight) if draft.weight is not None else None
    bias = names.get(draft.bias) if draft.bias is not None else None
    return Norm(draft.op, draft.kind, weight, bias, draft.source, draft.output)  # type: ignore[arg-type]


def _sources(flow: Flow) -> dict[int, Source]:
    """Every source, in the order of the run."""
    laws: dict[int, tuple[float | None, float | None]] = {}
    found: dict[int, Source] = {}
    for atom in flow.atoms:
        law = laws[atom.base] if atom.base != atom.index and atom.base in laws else _law(flow, atom, laws)
        laws[atom.index] = law
        if atom.value not in found or atom.base == atom.index:
            found[atom.value] = Source(atom.value, atom.kind, *law, atom.producer, atom.parts, atom.text)
    return found


def _law(flow: Flow, atom: Atom, laws: Mapping[int, tuple]) -> tuple[float | None, float | None]:
    """Mean and mean of squares, as theory tells them."""
    if atom.kind in ("producer", "embedding"):
        return 0.0, 1.0
    if atom.norm is not None:
        return _law_of_norm(flow, flow.norms[atom.norm])
    if atom.kind == "concat":
        return _law_of_concat(flow, atom, laws)
    return None, None


def _law_of_norm(flow: Flow, norm: NormDraft) -> tuple[float | None, float | None]:
    if norm.second is None:
        return None, None
    second, mean = norm.second, 0.0 if norm.kind in ("layer", "batch", "group", "instance") else None
    if norm.scale is not None:
        scale = flow.content(norm.scale)
        if scale is None:
            return None, None
        second *= float(scale.double().square().mean())
    if norm.shift is not None:
        shift = flow.content(norm.shift)
        if shift is None:
            return None, None
        second += float(shift.double().square().mean())
        mean = float(shift.double().mean()) if mean is not None else None
    return mean, second


def _law_of_concat(flow: Flow, atom: Atom, laws: Mapping[int, tuple]) -> tuple[float | None, float | None]:
    """The mean of the parts' laws, each by its size."""
    mean: float | None = 0.0
    second, count = 0.0, 0
    for part in atom.parts:
        state, size = flow.signal(part), flow.graph.values[part].numel
        if state is None or not state.same or len(state.atoms) != 1:
            return None, None
        one, two = laws.get(state.atoms[0], (None, None))
        if two is None:
            return None, None
        mean = mean + one * size if mean is not None and one is not None else None
        second, count = second + two * size, count + size
    return (mean / count if mean is not None else None), second / max(1, count)
