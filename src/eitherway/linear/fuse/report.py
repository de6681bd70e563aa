"""What fusing found: layers before and after, each merge and each refusal with its reason."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from eitherway.graph import Graph, Op
from eitherway.graph.sizes import Sizes
from eitherway.linear.fuse.depth import Depth
from eitherway.linear.fuse.merges import Dense, Diagonal, Kernel, Transposed, is_identity
from eitherway.linear.fuse.runs import Element, Leaf, Parallel, Piece, operations, own_cost, pieces_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RANKED = 1024
"""The largest matrix whose singular values are looked at."""


@dataclass(frozen=True)
class Merge:
    """Several operations that became one, or vanished."""

    layers: tuple[str, ...]
    """What they were, in order, by module path or line."""
    into: str
    """What stands there now."""
    why: str
    before: int
    """Multiplications in one call on the example."""
    after: int


@dataclass(frozen=True)
class Refusal:
    """What did not merge."""

    layers: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Block:
    """An operation in the picture."""

    label: str
    kind: str
    """weights, affine or other."""
    group: int
    """The merge it belongs to; -1 for none."""


@dataclass
class Report:
    """What became of each layer of a model."""

    written_depth: int
    effective_depth: int
    layers_before: int
    """Calls of layers with weights."""
    layers_after: int
    multiplications_before: int
    """Of the affine operations, in one call on the example."""
    multiplications_after: int
    merges: tuple[Merge, ...]
    refusals: tuple[Refusal, ...]
    error_fp64: float
    """Largest difference from the original, both in float64, over the largest output; nan where unknown."""
    error: float
    """The same for the model as it runs, against the original in float64."""
    error_eager: float
    """The original's own error as it runs."""
    sizes: tuple[str, ...]
    """Which sizes of the inputs are free, and why others are not."""
    depth: Depth
    kept_whole: str = ""
    """Why the model was kept as it is; "" where it was not."""
    parts: dict[str, Report] = field(default_factory=dict)
    """Modules inside a model that was kept which were fused by themselves, by path."""
    before: list[Block] = field(default_factory=list, repr=False)
    after: list[Block] = field(default_factory=list, repr=False)
    model: nn.Module | None = field(default=None, repr=False)

    @property
    def summary(self) -> str:
        """One line."""
        if self.kept_whole:
            inside = f"; fused inside: {', '.join(self.parts)}" if self.parts else ""
            return f"kept as it is: {self.kept_whole}{inside}"
        ratio = self.multiplications_before / max(1, self.multiplications_after)
        return (
            f"{self.layers_before} layers -> {self.layers_after}, {self.multiplications_before:,} multiplications -> "
            f"{self.multiplications_after:,} ({ratio:.3g}x)"
        )

    @cached_property
    def low_rank(self) -> tuple[str, ...]:
        """Matrices that two thinner ones could stand for, to rounding: suggestions, never done by itself."""
        found = []
        for name, tensor in [] if self.model is None else self.model.named_parameters():
            if tensor.dim() != 2 or max(tensor.shape) > _RANKED or not tensor.is_floating_point():
                continue
            values = torch.linalg.svdvals(tensor.detach().float().cpu())
            floor = max(tensor.shape) * torch.finfo(torch.float32).eps * values[0]
            rank, (rows, columns) = int((values > floor).sum()), tensor.shape
            if 0 < rank * (rows + columns) < 0.9 * rows * columns:
                ratio = rows * columns / (rank * (rows + columns))
                found.append(
                    f"{name} ({rows} x {columns}) has numerical rank {rank}: two layers through {rank} would need "
                    f"{ratio:.2g}x fewer multiplications"
                )
        return tuple(found)

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        out = io.StringIO()
        console = Console(file=out, width=110, color_system=None, highlight=False, markup=False)
        console.print(f"{self.summary}\ndepth {self.written_depth} written, {self.effective_depth} effective")
        if not self.kept_whole:
            console.print(
                f"largest error: {self.error:.2g} (the original's own {self.error_eager:.2g}); "
                f"in float64 {self.error_fp64:.2g}"
            )
        if self.merges:
            table = Table(box=None, title_justify="left", pad_edge=False)
            for head in ("merged", "into", "multiplications", "why"):
                table.add_column(head, overflow="fold")
            for merge in self.merges:
                work = f"{merge.before:,} -> {merge.after:,}"
                table.add_row(" + ".join(merge.layers), merge.into, work, merge.why)
            console.print(table)
        for refusal in self.refusals:
            console.print(f"kept: {' | '.join(refusal.layers)}: {refusal.why}")
        for text in (*self.sizes, *self.low_rank):
            console.print(f"note: {text}")
        for path, report in self.parts.items():
            console.print(f"inside {path}: {report}")
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())

    def _repr_html_(self) -> str:
        rows = [
            ("layers", f"{self.layers_before} → {self.layers_after}"),
            ("depth", f"{self.written_depth} written, {self.effective_depth} effective"),
            ("multiplications", f"{self.multiplications_before:,} → {self.multiplications_after:,}"),
            ("largest error", f"{self.error:.2g}; the original's own {self.error_eager:.2g}"),
        ]
        rows += [("kept as it is", self.kept_whole)] if self.kept_whole else []
        rows += [(f"merged into {m.into}", f"{' + '.join(m.layers)}: {m.why}") for m in self.merges]
        rows += [("kept", f"{' | '.join(r.layers)}: {r.why}") for r in self.refusals]
        rows += [("note", text) for text in (*self.sizes, *self.low_rank)]
        rows += [(f"inside {path}", report.summary) for path, report in self.parts.items()]
        body = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows)
        return f"<table>{body}</table>"

    def plot(self, axes: Axes | None = None) -> Axes:
        """Operations before and after as blocks, what merged bracketed."""
        from eitherway.linear.fuse.picture import plot_blocks

        return plot_blocks(self, axes)


def describe(
    graph: Graph,
    depth: Depth,
    *,
    attempt: Any = None,
    sizes: Sizes | None = None,
    banned: list[tuple[int, ...]] | None = None,
    whole: str = "",
    parts: dict[str, Report] | None = None,
) -> Report:
    """The report of an attempt, or of a model that was kept whole."""
    if attempt is None:
        nan = float("nan")
        return Report(depth.written, depth.effective, 0, 0, 0, 0, (), (), nan, nan, nan, (), depth, whole, parts or {})
    regions, written = attempt.regions, attempt.regions.written
    pieces = [piece for plan in attempt.plans for piece in pieces_of(plan)]
    layers_before = sum(leaf.weighted for leaf in written.values())
    after = 0
    for piece in pieces:
        if piece.merged:
            core = piece.composite.core if piece.composite else None
            after += piece.dense or isinstance(core, (Dense, Kernel, Transposed))
        elif isinstance(piece.elements[0], Leaf):
            after += piece.elements[0].weighted
    merges = [_merge(graph, piece) for piece in pieces if piece.joins]
    merges += [_gone(piece) for piece in pieces if piece.merged and not piece.joins and _vanished(piece)]
    for op, readers in regions.spread.items():
        names = tuple(place(reader.ops[-1]) for reader in readers)
        text = "the scale and shift are taken in by every reader"
        merges.append(Merge((place(graph.ops[op]), *names), " and ".join(names), text, written[op].work, 0))
    refusals = [Refusal((place(op),), why) for op, why in regions.refusals]
    for plan in attempt.plans:
        refusals += _refusals(plan)
    refusals += _shared(graph, regions)
    refusals += _barriers(graph, attempt)
    for ops in banned or ():
        names = tuple(dict.fromkeys(place(graph.ops[i]) for i in ops))
        refusals.append(Refusal(names, "undone: merged, the error was above the bound"))
    blocks = _blocks(graph, attempt, pieces)
    errors = attempt.errors
    return Report(
        depth.written,
        depth.effective,
        layers_before,
        after,
        sum(leaf.work for leaf in written.values()),
        sum(plan.work for plan in attempt.plans),
        tuple(merges),
        tuple(dict.fromkeys(refusals)),
        errors.exact,
        errors.fused,
        errors.eager,
        tuple(_size_lines(graph, sizes)) if sizes else (),
        depth,
        "",
        {},
        *blocks,
        attempt.model,
    )


def place(op: Op) -> str:
    """Where a person finds an operation: its module, or its name and line."""
    if op.module and op.module_class and op.name not in ("add", "mul", "add_", "mul_"):
        return op.module
    where = f" ({op.where})" if op.where else ""
    return f"{op.name}{where}"


def _names(elements: tuple[Element, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place(op) for element in elements for op in operations(element)))


def _vanished(piece: Piece) -> bool:
    return piece.composite is not None and piece.composite.core is not None and is_identity(piece.composite.core)


def _gone(piece: Piece) -> Merge:
    return Merge(_names(piece.elements), "nothing", "it does nothing in eval mode", piece.elements[0].work, 0)  # type: ignore[union-attr]


def _merge(graph: Graph, piece: Piece) -> Merge:
    before = sum(own_cost(element)[1] for element in piece.elements)
    branches = any(isinstance(element, Parallel) for element in piece.elements)
    if piece.dense:
        into, why = "one matrix", "affine as a whole, and one matrix is the cheapest way to write it"
    else:
        assert piece.composite is not None
        into, why = _title(piece.composite.core), "nothing non-linear between them"
    if branches:
        why += "; branches from one tensor add up"
    return Merge(_names(piece.elements), into, why, before, piece.work)


def _title(form: Any) -> str:
    match form:
        case Dense():
            return f"linear {form.weight.shape[1]} -> {form.weight.shape[0]}"
        case Kernel():
            k = "x".join(str(n) for n in form.weight.shape[2:])
            groups = f", {form.groups} groups" if form.groups > 1 else ""
            return f"convolution {form.weight.shape[1] * form.groups} -> {form.weight.shape[0]}, {k}{groups}"
        case Transposed():
            return f"transposed convolution {form.weight.shape[0]} -> {form.weight.shape[1] * form.groups}"
        case Diagonal() if not is_identity(form):
            return "one scale and shift"
    return "nothing"


def _refusals(plan: Any) -> list[Refusal]:
    found = []
    for one, two, why in plan.apart:
        found.append(Refusal((_names((one,))[-1], _names((two,))[0]), why))
    for piece in plan.pieces:
        if not piece.merged and isinstance(piece.elements[0], Parallel):
            parallel = piece.elements[0]
            for inner in parallel.plans:
                found += _refusals(inner)
            if parallel.why:
                found.append(Refusal(_names((parallel,)), parallel.why))
            elif parallel.composite is not None:
                text = f"one layer would need {parallel.composite.work:,} multiplications, the branches {piece.work:,}"
                found.append(Refusal(_names((parallel,)), text))
    return found


def _shared(graph: Graph, regions: Any) -> list[Refusal]:
    """Layers whose output several operations read, one of them affine."""
    found = []
    for leaf in regions.written.values():
        users = regions.users.get(leaf.out, set())
        affine = [u for u in users if u in regions.written and regions.written[u].weighted]
        if leaf.weighted and affine and (len(users) > 1 or leaf.out in graph.outputs):
            others = [place(graph.ops[u]) for u in sorted(users - {affine[0]})] or ["the answer itself"]
            text = f"its output is read by {', '.join(others)}, too"
            found.append(Refusal((place(leaf.ops[-1]), place(graph.ops[affine[0]])), text))
    return found


def _barriers(graph: Graph, attempt: Any) -> list[Refusal]:
    """Operations between affine ones that are not affine, each kind once."""
    regions = attempt.regions
    told = {op.index for op, _ in regions.refusals}
    made = {leaf.out for leaf in regions.written.values()} | {region.out for region in regions.regions}
    found: dict[str, list[str]] = {}
    for op in regions.kept:
        if op.index in regions.covered or op.index in told or op.index in regions.written:
            continue
        if not any(i in made for i in op.inputs):
            continue
        moving = [i for i in op.inputs if i not in attempt.writer.constants]
        name = op.name.removesuffix("_")
        if op.random:
            why = f"{name} is random"
        elif name in ("add", "sub") and len(moving) > 1:
            why = "what is added up comes from different places"
        elif len(set(moving)) > 1 or len(moving) > 1:
            why = f"{name} joins values that all follow the input"
        else:
            why = f"{name} is not linear"
        found.setdefault(why, []).append(place(op))
    return [Refusal(tuple(dict.fromkeys(places)), why) for why, places in found.items()]


def _size_lines(graph: Graph, sizes: Sizes) -> list[str]:
    lines = []
    for dimension in sizes.dimensions:
        number, axis = dimension.places[0]
        name = graph.values[graph.inputs[number]].name
        if not dimension.free:
            lines.append(f"axis {axis} of {name} is fixed at {dimension.size}: {dimension.why}")
        elif dimension.why or dimension.step > 1:
            steps = f" in steps of {dimension.step}" if dimension.step > 1 else ""
            lines.append(f"axis {axis} of {name} is free from {dimension.low} on{steps}. {dimension.why}".rstrip(". "))
    return lines


def _blocks(graph: Graph, attempt: Any, pieces: list[Piece]) -> tuple[list[Block], list[Block]]:
    groups = {
        op.index: n for n, piece in enumerate(pieces) if piece.merged for e in piece.elements for op in operations(e)
    }
    written = attempt.regions.written
    before, after, seen = [], [], set()
    for op in attempt.regions.kept:
        leaf = written.get(op.index)
        affine = leaf is not None or (op.name in ("add", "sub") and op.index in attempt.regions.covered)
        kind = "weights" if leaf is not None and leaf.weighted else "affine" if affine else "other"
        label = f"{op.module}  {op.name}" if op.module else op.name
        group = groups.get(op.index, -1)
        before.append(Block(label, kind, group))
        if group < 0:
            if op.index not in attempt.regions.spread or op.index in attempt.regions.split:
                after.append(Block(label, kind, -1))
        elif group not in seen:
            seen.add(group)
            piece = pieces[group]
            core = None if piece.composite is None else piece.composite.core
            title = "one matrix" if piece.dense else _title(core)
            if title != "nothing":
                kind = "affine" if isinstance(core, Diagonal) else "weights"
                after.append(Block(title, kind, group))
    return before, after
