"""Runs of producers with nothing but element-wise functions between them, and the producers at the end of it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eitherway.signal.structure.flow import Flow
from eitherway.signal.structure.parts import Chain, Path, Producer

_LINKS = {"linear", "conv", "conv_transpose"}


def chains(
    flow: Flow, producers: Sequence[Producer], paths: Mapping[int, Path], tied: Mapping[str, tuple[int, ...]]
) -> list[Chain]:
    """All maximal chains of two producers at least."""
    shared = {p for several in tied.values() for p in several}
    able = [p.kind in _LINKS and p.index not in shared and not p.parametrised and not p.part for p in producers]
    after: dict[int, int] = {}
    for producer in producers:
        path = paths[producer.index]
        if not able[producer.index] or path.kind not in ("same", "activation") or len(path.sources) != 1:
            continue
        atom = flow.single(producer.source)
        before = atom.producer if atom is not None and atom.kind == "producer" else None
        if before is None or not able[before] or atom is None or atom.base != atom.index:
            continue
        if _alone(flow, producers[before], producer, path):
            after[before] = producer.index
    found, inside = [], set(after.values())
    for first in after:
        if first in inside:
            continue
        run = [first]
        while run[-1] in after:
            run.append(after[run[-1]])
        found.append(Chain(tuple(run), tuple(paths[i] for i in run[1:])))
    return found


def _alone(flow: Flow, first: Producer, second: Producer, path: Path) -> bool:
    """Whether nothing else reads what lies between two producers."""
    graph, inside = flow.graph, {*path.ops, second.op}
    between = [first.output, *(i for op in path.ops for i in graph.ops[op].outputs)]
    ends = set(graph.outputs)
    return all(i not in ends and all(user in inside for user in graph.users[i]) for i in between)


def heads(flow: Flow, producers: Sequence[Producer]) -> tuple[int, ...]:
    """Producers that the answer needs, and from which no other producer is reached."""
    reached = 0
    for producer in producers:
        for i in producer.sources:
            state = flow.signal(i)
            own = 0
            for p in range(producer.index - 3, producer.index + 4):
                if 0 <= p < len(producers) and producers[p].op == producer.op:
                    own |= 1 << p  # a recurrent kernel reads its own output
            reached |= state.made & ~own if state is not None else 0
    needed = flow.graph.needed
    return tuple(p.index for p in producers if p.op in needed and not reached >> p.index & 1)


def tied(flow: Flow, producers: Sequence[Producer]) -> dict[str, tuple[int, ...]]:
    """Weights of which the same elements are used more than once, or that go by several names."""
    uses: dict[str, list[int]] = {}
    for producer in producers:
        if producer.name:
            uses.setdefault(producer.name, []).append(producer.index)
    found = {}
    for name, indices in uses.items():
        aliases = flow.graph.values[producers[indices[0]].weight].aliases
        if aliases or any(_overlap(producers[i], producers[j]) for i, j in zip(indices, indices[1:])):
            found[name] = tuple(indices)
    return found


def _overlap(one: Producer, other: Producer) -> bool:
    """Whether two uses of one weight read common elements."""
    if not one.part or not other.part:
        return True
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one.part, other.part))
