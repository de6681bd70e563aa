"""How deep a model is once everything affine between two non-linear operations counts as one layer."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from eitherway.graph import Graph
from eitherway.graph.sizes import fixed_sizes
from eitherway.linear.fuse.affine_ops import Reading, read
from eitherway.linear.fuse.constants import Constants
from eitherway.linear.fuse.regions import Regions, find_regions
from eitherway.linear.fuse.runs import Leaf, Parallel, leaves


@dataclass(frozen=True)
class Run:
    """Layers with nothing non-linear between them."""

    layers: tuple[str, ...]
    """Module paths, or the lines of functional code."""
    deep: int
    """Layers one after the other on the longest way through the run."""
    parameters: tuple[int, ...] = ()
    """Weights of each."""

    @property
    def advice(self) -> str:
        names = ", ".join(self.layers)
        if self.deep < 2:
            return f"{names} run beside each other and add up: one layer could hold their sum"
        return (
            f"{names}: these {self.deep} layers are one linear map; add a non-linearity between them, or keep them on "
            "purpose as a low-rank or overparameterised run"
        )


@dataclass(frozen=True)
class Depth:
    """Layers with weights on the longest way from input to output."""

    written: int
    effective: int
    """With each stretch between two non-linear operations counted as one."""
    runs: tuple[Run, ...]
    """Where several layers are one linear map."""

    def __str__(self) -> str:
        lines = [f"depth: {self.effective} effective, {self.written} written"]
        return "\n".join([*lines, *(f"- {run.advice}" for run in self.runs)])

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{escape(run.advice)}</li>" for run in self.runs)
        return f"<p>depth: <b>{self.effective}</b> effective, {self.written} written</p><ul>{rows}</ul>"


def depth_of(graph: Graph, constants: Constants | None = None, regions: Regions | None = None) -> Depth:
    """The depth of a run captured at training level, whether or not merging its layers would save work."""
    sizes = fixed_sizes(graph, "")
    constants = constants or Constants(graph, sizes)
    regions = regions or find_regions(graph, sizes, constants, frozenset())
    written: dict[int, int] = {}
    stage: dict[int, tuple[int, bool]] = {}  # layers so far, and whether the last of them is still open
    for op in graph.ops:
        if all(i in constants for i in op.outputs):
            continue
        given = [i for i in op.inputs if i not in constants]
        depth = max((written.get(i, 0) for i in given), default=0)
        layers, open_ = max((stage.get(i, (0, False)) for i in given), default=(0, False))
        found = read(op, graph, constants)
        if isinstance(found, Reading):
            if found.weighted:
                depth, layers, open_ = depth + 1, layers + (not open_), True
        elif op.name not in ("cat", "stack", "chunk", "split", "unbind", "hstack", "vstack", "split_with_sizes"):
            open_ = False
        for i in op.outputs:
            written[i], stage[i] = depth, (layers, open_)
    deepest = max((written.get(i, 0) for i in graph.outputs), default=0)
    effective = max((stage.get(i, (0, False))[0] for i in graph.outputs), default=0)
    return Depth(deepest, effective, tuple(run for region in regions.regions if (run := _run(graph, region.elements))))


def _run(graph: Graph, elements) -> Run | None:
    layers = [leaf for leaf in leaves(elements) if leaf.weighted]
    if len(layers) < 2:
        return None
    ops = [leaf.ops[-1] for leaf in layers]
    names = tuple(dict.fromkeys(op.module or op.where or op.name for op in ops))
    counts = tuple(
        max((graph.values[i].numel for i in op.inputs if graph.values[i].kind != "result"), default=0) for op in ops
    )
    return Run(names, _deep(elements), counts)


def _deep(elements) -> int:
    total = 0
    for element in elements:
        if isinstance(element, Leaf):
            total += element.weighted
        elif isinstance(element, Parallel):
            total += max(_deep(series) for _, series in element.branches)
    return total
