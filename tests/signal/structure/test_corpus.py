"""Architectures that were written before the reader, with what every reader of their code would agree on."""

from fnmatch import fnmatch

import pytest
from tests.corpora.architectures import ARCHITECTURES

from eitherway.graph import capture
from eitherway.signal.structure import read_structure

each = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda entry: entry.name)


def read(architecture):
    model, example = architecture.make()
    args, kwargs = ((), example) if isinstance(example, dict) else (example, {})
    graph = capture(model, *(args if isinstance(args, tuple) else (args,)), kwargs=kwargs)
    return model, read_structure(graph, model)


def matching(names, patterns):
    return {name for name in names for pattern in patterns if fnmatch(name, pattern)}


@each
def test_what_is_read_agrees_with_what_people_read(architecture):
    facts, (model, structure) = architecture.facts, read(architecture)
    named = dict(model.named_parameters())
    assert list(structure.roles) == list(named)
    assert all(role.kind != "other" for role in structure.roles.values())
    inside = matching(named, facts.branches)
    wanted = {p.name for p in structure.producers if inside.intersection(p.parameters)}
    assert {structure.producers[i].name for r in structure.residuals for i in r.producers} == wanted
    for name in matching(named, facts.norms):
        assert structure.roles[name].kind in ("norm weight", "norm bias")
    assert set(facts.reused) <= set(structure.tied)
    for several in facts.tied:
        first = next(name for name in several if name in structure.roles)
        assert {first, *structure.roles[first].aliases} == set(several)
    assert {name for name, role in structure.roles.items() if not role.needed} <= matching(named, facts.unread)
    heads = {structure.producers[i].module for i in structure.heads}
    assert set(facts.heads) <= heads
