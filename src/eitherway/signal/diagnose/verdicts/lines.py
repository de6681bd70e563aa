"""Layers with nothing non-linear between them."""

from __future__ import annotations

from collections.abc import Iterator

from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.verdicts.parts import Found, found, many


def linear_runs(e: Evidence) -> Iterator[Found]:
    """Layers that are one linear map, unless they are narrower inside than at both ends: that is meant."""
    for chain in e.structure.chains:
        run: list[int] = []
        for k, i in enumerate(chain.producers):
            if run and chain.paths[k - 1].kind == "same":
                run.append(i)
                continue
            yield from _told(e, run)
            run = [i]
        yield from _told(e, run)


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
