"""Layers with nothing non-linear between them."""

from __future__ import annotations

from collections.abc import Iterator

from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.verdicts.parts import Found, found, many


def linear_runs(e: Evidence) -> Iterator[Found]:
    """Layers that are one linear map, unless they are narrower inside than at both ends: that is meant.

    Batch norm is affine but for statistics that all samples share: it is nothing between layers.
    """
    follows = dict(_by_norms(e))
    for chain in e.structure.chains:
        for k, i in enumerate(chain.producers[1:]):
            if chain.paths[k].kind == "same":
                follows[i] = chain.producers[k]
    weights = [p.weight for p in e.structure.producers]
    others = {i for i, w in enumerate(weights) if len(e.graph.users[w]) > 1}  # a codebook is compared with, too
    leads = {before: i for i, before in follows.items() if not {i, before} & others}
    follows = {i: before for before, i in leads.items()}
    for first in sorted(leads.keys() - follows.keys()):
        run = [first]
        while run[-1] in leads:
            run.append(leads[run[-1]])
        yield from _told(e, run)


def _by_norms(e: Evidence) -> Iterator[tuple[int, int]]:
    """Producers that read another one through a batch norm alone, and that one: nobody else reads what is between."""
    users = e.graph.users
    norms = {n.output: n for n in e.structure.norms if n.kind in ("batch", "running")}
    made = {p.output: p.index for p in e.structure.producers if p.kind in ("linear", "conv", "conv_transpose")}
    for p in e.structure.producers:
        path = e.structure.paths.get(p.index)
        if p.output not in made or path is None or path.kind != "same" or path.sources[0] not in norms:
            continue
        norm = norms[path.sources[0]]
        to = e.structure.path(norm.source)
        before = made.get(to.sources[0]) if to.kind == "same" and len(to.sources) == 1 else None
        if before is None or e.structure.producers[before].name == p.name:
            continue
        between = [to.sources[0], norm.source, norm.output, path.value]
        between += [i for o in (*to.ops, *path.ops) for i in e.graph.ops[o].outputs]
        if all(len(users[i]) == 1 for i in between):
            yield p.index, before


def _told(e: Evidence, run: list[int]) -> Iterator[Found]:
    rows = [e.row_of[i] for i in run if i in e.row_of]
    if len(rows) < 2:
        return
    sizes = [rows[0].producer.fan_in, *(row.width for row in rows)]
    inner, ends = min(sizes[1:-1]), min(sizes[0], sizes[-1])
    layers = [row.signal.name for row in rows]
    split = any(row.producer.groups > 1 or row.producer.kind == "conv_transpose" for row in rows)
    shuffled = any(op.name == "pixel_shuffle" for op in e.graph.ops[rows[0].producer.op : rows[-1].producer.op])
    factored = inner < ends or split or shuffled  # a bottleneck, taps and channels one after the other, upsampling
    yield found(
        "linear run",
        "note" if factored else "alarm",
        layers,
        f"{many(layers)} {'are' if len(layers) > 1 else 'is'} one linear map",
        "nothing non-linear stands between them",
        "meant so for low-rank and separable layers" if factored else "put an activation between them, or keep one",
        at=rows[0].signal.op,
        upto=rows[-1].signal.op,
    )
