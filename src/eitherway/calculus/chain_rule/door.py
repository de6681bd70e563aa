"""The derivative of C(G(w)) with respect to w, explained: the links, their factors, and the products along them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.chain_rule.checks import against, best, check_link, relative
from eitherway.calculus.chain_rule.flow import Stretch, breaks, stretches
from eitherway.calculus.chain_rule.given import captured, inputs_of, notes_on, promoted, source_of, stage_name
from eitherway.calculus.chain_rule.links import (
    Link,
    edges,
    make_link,
    must_fit,
    pull_through,
    push_through,
    ratio,
    spine,
)
from eitherway.calculus.chain_rule.local import Together
from eitherway.calculus.chain_rule.names import input_names, value_names
from eitherway.calculus.chain_rule.program import Program
from eitherway.graph.capture import name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBES = 16
"""Random directions that stand for all of them where a product is too large to write out: norms to 10 % or so."""
SIDES = 64
"""Outputs, or inputs, up to which products are written out whole."""
ROOM = 2**22
"""Elements of the largest product that is written out."""


@dataclass(eq=False)
class ChainRule:
    """A derivative as a chain of links, each checked alone, with the products along them.

    Args:
        links: in the order of computation, one for each pair of neighbouring values that every path goes through;
            where there are branches between them, `link.parts` holds theirs.
        every: all links, branches one by one.
        value: C, what the function returned.
        source, output: what dC/dw calls w and C.
        notes: what else a reader should hear, sentences.
        altered: the link behind which the backward of the run itself is another than that of its links.
        stretches: where the product vanishes or explodes.
        autograd: largest relative disagreement of the whole product with torch.autograd.
        differences: the same with central differences along random directions.
        estimated: whether norms of the products forwards and backwards come from random directions.
        parameters: norms of the derivative by parameter, where they were asked for.
    """

    links: list[Link]
    every: list[Link]
    value: Tensor
    source: str
    output: str
    notes: list[str]
    autograd: float = math.nan
    differences: float = math.nan
    estimated: tuple[bool, bool] = (False, False)
    stretches: list[Stretch] = field(default_factory=list)
    parameters: dict[str, float] = field(default_factory=dict)
    altered: Link | None = None
    whole: Together | None = field(default=None, repr=False)
    given: torch.Size = field(default_factory=torch.Size, repr=False)

    @property
    def name(self) -> str:
        """dC/dw."""
        return ratio(self.output, self.source)

    @property
    def wrong(self) -> list[Link]:
        """Links whose backward contradicts the values they compute; `link.wrong` has the entry and both numbers."""
        return [link for link in self.every if link.wrong is not None]

    @property
    def dead(self) -> list[Link]:
        """Links that let nothing pass; `link.dead` says why."""
        return [link for link in self.every if link.dead]

    @property
    def broken(self) -> list[Link]:
        """Links at which NaN or infinity begins, the first first; `link.broken` says how."""
        return [link for link in self.every if link.broken]

    @property
    def right(self) -> bool:
        """Whether every check agrees: nothing wrong, nothing cut, nothing broken."""
        cut = any(link.structure == "cut" for link in self.dead)
        return not (self.wrong or self.broken or cut or self.altered)

    @property
    def shape(self) -> tuple[int, int]:
        return self.value.numel(), self.given.numel()

    @cached_property
    def derivative(self) -> Tensor:
        """The whole derivative, shaped as torch.func shapes it: what C has, then what w has.

        Raises:
            ModelError: if it does not fit; `push` and `pull` multiply with it unwritten.
        """
        must_fit(self.name, self.shape, "table")
        if self.whole is None:
            return self.value.new_zeros((*self.value.shape, *self.given))
        return self.whole.dense.reshape((*self.value.shape, *self.given))

    def push(self, v: Tensor) -> Tensor:
        """The derivative times a change v of w, shaped as w: factors multiplied forwards.

        Raises:
            ModelError: if v has another number of entries.
        """
        v = _shaped(v, self.given, self.source).to(self.value.dtype)
        return self.value.new_zeros(self.value.shape) if self.whole is None else self.whole.push(v)[0]

    def pull(self, u: Tensor) -> Tensor:
        """u times the derivative, u shaped as C: factors multiplied backwards.

        Raises:
            ModelError: if u has another number of entries.
        """
        u = _shaped(u, self.value.shape, self.output).to(self.value.dtype)
        return self.value.new_zeros(self.given) if self.whole is None else self.whole.pull(u)[0]

    def plot(self, axes: Axes | None = None, *, kind: Literal["norms", "factors"] = "norms") -> Axes:
        """A picture: `norms` of the products along the chain, or the `factors` as matrices side by side.

        Raises:
            ModelError: for factors that are too many or too large to be drawn.
        """
        from eitherway.calculus.chain_rule.pictures import draw

        return draw(self, axes, kind)

    def __str__(self) -> str:
        from eitherway.calculus.chain_rule.table import text

        return text(self)

    def _repr_html_(self) -> str:
        from eitherway.calculus.chain_rule.table import html

        return html(self)


def chain_rule(
    f: Callable[..., Any] | Sequence[Callable[..., Any]],
    x: Any,
    *,
    wrt: str = "input",
    dtype: torch.dtype | None = torch.float64,
    seed: int = 0,
) -> ChainRule:
    """The derivative of f at x, link by link: names, formulas, factors, products, and checks of each.

    f is run once as it is and followed operation by operation. Then all is computed again in float64 from copies;
    models stay as they were.

    Args:
        f: a function, a module, or a list of them, first applied first: [G, C] is C(G(w)).
        x: a tensor, array, list or number; a tuple of tensors for several inputs.
        wrt: what to differentiate by: "input", the name of one of several inputs, the name of a parameter such as
            "0.weight", or "parameters" for the norms of all.
        dtype: what to compute in; None for the function's own precision, with coarser checks.
        seed: of the random directions that links are checked along.

    Raises:
        ModelError: for what has no derivative or cannot be followed; the message says what and where.

    >>> table = chain_rule([lambda w: w**2, torch.sin], 1.0)
    >>> [link.name for link in table.links], round(float(table.derivative), 4)
    (['dz1/dw', 'dC/dz1'], 1.0806)
    """
    stages: list[Any] = list(f) if isinstance(f, list | tuple) else [f]
    if not stages or not all(callable(stage) for stage in stages):
        raise ModelError(f"chain_rule got {f!r:.60}; expected a function, a module, or a list of them such as [G, C]")
    if dtype is not None and not dtype.is_floating_point:
        raise ModelError(f"dtype is {dtype}; expected one of floating-point numbers, or None for the function's own")
    inputs = inputs_of(stages, x)
    graph = captured(stages, inputs, x if not isinstance(x, tuple) else x[0], wrt)
    program = promoted(graph, dtype)
    names = input_names(stages[0], len(inputs))
    source, title = source_of(graph, wrt, names)
    output = graph.outputs[-1]
    try:
        return _explained(program, stages, source, title, output, seed, wrt == "parameters")
    except NotImplementedError as error:
        raise ModelError(f"torch cannot differentiate a link of {name_of(stages[-1])}: {error}") from error
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        writer = next(op for op in graph.ops if op.mutates)
        raise ModelError(
            f"autograd cannot differentiate {name_of(stages[-1])}: {writer.label} wrote over a value that a backward "
            "still needs; write to a copy, or use the operation that does not write in place"
        ) from error


def _explained(
    program: Program, stages: list[Any], source: int, title: str, output: int, seed: int, parameters: bool
) -> ChainRule:
    graph = program.graph
    everything = {v.index for v in graph.parameters()} if parameters else set()
    pairs = edges(program, {source}, output)
    made = [b for _, _, b in pairs]
    nodes = sorted({source, *made}, key=lambda i: (-1, i) if i == source else (program.producer[i], i))
    handed = [(i, stage_name(s)) for i, s in zip(graph.outputs, stages)] if len(stages) > 1 else []
    names = value_names(program, nodes, handed, stages, title) if pairs else {source: title, output: "C"}
    for value in graph.parameters():
        names.setdefault(value.index, value.name)
    generator = torch.Generator().manual_seed(seed)
    links = [make_link(program, *pair, names) for pair in pairs]
    for link in links:
        check_link(program, link, generator)
    table = ChainRule(
        spine(links, nodes, names) if links else [],
        links,
        program.env[output].detach(),
        names[source],
        names.get(output, "C"),
        notes_on(graph, program, links, title),
        given=program.env[source].shape,
    )
    _products(table, program, source, output, generator)
    if links:
        _whole_checks(table, program, source, output, generator)
        table.stretches = stretches(table.links, _top(table), table.output)
    if everything:
        table.parameters = _parameters(program, everything, output, names, generator)
    return table


def _products(table: ChainRule, program: Program, source: int, output: int, generator: torch.Generator) -> None:
    """Norms of the running products, and the whole derivative as an operator."""
    links = table.every
    if not links:
        return
    table.whole = Together([(k.read, k.made, k.local) for k in links], source, output)
    p, q = table.shape
    widest = max(max(k.shape) for k in links)
    u, exact_back = _directions(program.env[output], p, widest, generator)
    v, exact_forth = _directions(program.env[source], q, widest, generator)
    table.estimated = (not exact_forth, not exact_back)
    back = pull_through(links, output, u)
    forth = push_through(links, source, v)
    sizes = {i: _norm(t, exact_back) for i, t in back.items()}
    ahead = {i: _norm(t, exact_forth) for i, t in forth.items()}
    for link in (*links, *table.links):
        link.backward, link.forward = sizes.get(link.read, 0.0), ahead.get(link.made, 0.0)
        if link.parts:
            known = [k.differences for k in link.parts if k.differences is not None]
            link.differences = max(known, default=None)
            link.autograd = max((k.autograd for k in link.parts if k.autograd is not None), default=None)
    breaks(links, {i: math.isfinite(s) for i, s in sizes.items()})


def _directions(like: Tensor, count: int, widest: int, generator: torch.Generator) -> tuple[Tensor, bool]:
    """(K, *shape) unit vectors, all of them, or a few random ones; and whether they are all."""
    if count <= SIDES and count * widest <= ROOM:
        return torch.eye(count, dtype=like.dtype, device=like.device).view(count, *like.shape), True
    drawn = torch.randn(PROBES, *like.shape, generator=generator, dtype=torch.float64)
    return drawn.to(like.device, like.dtype), False


def _norm(product: Tensor, exact: bool) -> float:
    """Frobenius; from K standard normal directions the root of the mean square of their lengths."""
    return float(product.norm()) / (1.0 if exact else math.sqrt(len(product)))


def _shaped(given: Any, shape: torch.Size, name: str) -> Tensor:
    """(1, *shape) of what somebody multiplies with."""
    given = torch.as_tensor(given)
    if given.numel() != shape.numel():
        raise ModelError(f"got {tuple(given.shape)} to multiply with; expected the shape of {name}, {tuple(shape)}")
    return given.reshape((1, *shape))


def _top(table: ChainRule) -> float:
    return math.sqrt(table.value.numel())


def _whole_checks(table: ChainRule, program: Program, source: int, output: int, generator: torch.Generator) -> None:
    """The product of all factors against autograd through the whole run, and against differences of the whole."""
    z, y = program.env[source], program.env[output]
    if not z.numel() or not y.numel():
        return
    f = program.whole(source, output)
    u = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.device, y.dtype)
    at = z.detach().requires_grad_()
    with torch.enable_grad():
        made = f(at.clone())
    ours = table.pull(u)
    found = torch.autograd.grad(made, at, u, allow_unused=True)[0] if made.grad_fn is not None else None
    theirs = torch.zeros_like(z) if found is None else found
    table.autograd = relative(ours, theirs)
    v = torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z.device, z.dtype).sign()
    v = v * z.abs().clamp_min(0.1 * (float(z.abs().mean()) or 1.0))
    pushed = table.push(v)
    table.differences = best([against(pushed, f, z, v, h, y) for h in (1e-4, 1e-5, 1e-6)])
    _hooks(table, program, source, output, u)


def _hooks(table: ChainRule, program: Program, source: int, output: int, u: Tensor) -> None:
    """The run as it was, hooks and all: where its backward is not the product of the links, a hook changes it."""
    values = program.graph.values
    start, end = values[source].tensor, values[output].tensor
    if start is None or end is None or end.grad_fn is None or not start.requires_grad:
        return
    nodes = list(dict.fromkeys([source, *(k.made for k in table.every)]))
    written = {i for op in program.graph.ops for i in (*op.mutates, *(op.outputs if op.mutates else ()))}
    live = [
        i for i in nodes if i not in written and (t := values[i].tensor) is not None and t.requires_grad
    ]  # what was written over is no longer what the link made
    tensors = [t for i in live if (t := values[i].tensor) is not None]
    try:
        found = torch.autograd.grad(end, tensors, u.to(end.dtype), allow_unused=True)
    except RuntimeError as error:
        writer = next((op for op in program.graph.ops if any(values[i].differentiable for i in op.mutates)), None)
        if writer is not None:
            why = str(error).partition(":")[0]
            table.notes.append(f"autograd refuses the run itself: {why}; {writer.label} wrote over what it needs")
        return
    ours = pull_through(table.every, output, u[None])
    for i, theirs in reversed(list(zip(live, found))):
        tensor = values[i].tensor
        coarse = tensor is not None and torch.finfo(tensor.dtype).eps > 1e-10
        if theirs is None or i not in ours or not bool(theirs.isfinite().all()):
            continue
        if float(ours[i].abs().max()) < 1e8 * torch.finfo(theirs.dtype).tiny:
            return  # below what the run's own precision can hold
        if relative(ours[i][0], theirs.to(u.dtype)) > (2e-2 if coarse else 1e-6):
            table.altered = next((k for k in table.every if k.made == i), table.every[0])
            return


def _parameters(
    program: Program, wanted: set[int], output: int, names: dict[int, str], generator: torch.Generator
) -> dict[str, float]:
    """|dC/dp| of every parameter the output follows, by name."""
    pairs = edges(program, wanted, output)
    for k, step in enumerate(program.steps):
        for i in step.makes:
            names.setdefault(i, f"v{k}")
    links = [make_link(program, *pair, names) for pair in pairs]
    y = program.env[output]
    u, exact = _directions(y, y.numel(), max((max(k.shape) for k in links), default=1), generator)
    found = pull_through(links, output, u)
    values = program.graph.values
    return {values[i].name: _norm(found[i], exact) if i in found else 0.0 for i in sorted(wanted)}
