"""A sparse Jacobian, prepared once: its pattern, its colours, and the few products that tell all its entries."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.cost import Cost
from eitherway.calculus.sparse.follow import Followed, follow
from eitherway.calculus.sparse.passes import WAYS, Way, fastest
from eitherway.calculus.sparse.plan import Part, Plan, plan
from eitherway.calculus.sparse.work import Work, work
from eitherway.graph import Graph
from eitherway.graph.capture import modules_of
from eitherway.graph.contents import contents_kept, moving_buffers

UNASKED = 1 << 30
"""Bytes that products may take where nobody set a budget."""
SPARE = 3e-3
"""Seconds that trying torch's ways may take at least; else as long as finding the pattern took."""


def prepare(f: Callable[..., Any], graph: Graph, x: Tensor, *, memory: int | None = None) -> Compressed:
    """Finds the pattern of f's Jacobian and the products that tell it, and tries which of torch's ways is fastest.

    Args:
        f: a function of one tensor, or a module.
        graph: `eitherway.graph.capture(f, x)`.
        x: the point it was captured at; any shape, q entries.
        memory: bytes that the products may hold at once; a GiB if None.

    Raises:
        ModelError: if f has more than one input or output, or its sparsity cannot be followed; the message says where.

    >>> from eitherway.graph import capture
    >>> f = lambda x: x[1:] * x[:-1]
    >>> J = prepare(f, capture(f, torch.ones(4)), torch.ones(4))
    >>> J.shape, J.nnz, J.seeds
    ((3, 4), 6, 2)
    >>> J(torch.tensor([1.0, 2.0, 3.0, 4.0])).to_dense()
    tensor([[2., 1., 0., 0.],
            [0., 3., 2., 0.],
            [0., 0., 4., 3.]])
    """
    if len(graph.inputs) != 1:
        raise ModelError(
            f"a sparse Jacobian is of one tensor, and f was captured with {len(graph.inputs)}: "
            "fix the others, lambda x: f(x, other)"
        )
    made = [graph.values[i] for i in graph.outputs]
    if len(made) != 1 or not made[0].dtype.is_floating_point:
        kinds = ", ".join(str(value.dtype).removeprefix("torch.") for value in made)
        raise ModelError(
            f"a sparse Jacobian is of one tensor of real numbers, and f returned {len(made)} ({kinds}): "
            "pick one, f(x)[0], or torch.cat them"
        )
    start = time.perf_counter()
    return Compressed(f, graph, x, follow(graph), memory, start)


class Compressed:
    """A Jacobian known by its pattern. Calling it gives a torch sparse tensor (p, q).

    p counts the entries of the flattened output, q those of the flattened input.
    """

    def __init__(
        self, f: Callable[..., Any], graph: Graph, x: Tensor, followed: Followed, memory: int | None, start: float
    ) -> None:
        self.f, self.graph, self.memory = f, graph, memory
        self.followed, self.shape = followed, followed.shape
        self.fallbacks = list(dict.fromkeys(followed.fallbacks))
        """Operations that nothing is known of: each output of theirs counts as depending on each input of theirs."""
        self._zeros = followed.zeros
        self._input, self._output = x.shape, graph.values[graph.outputs[0]]
        self._inputs_written = any(i in graph.written for i in graph.inputs)
        self._state = _written(f, graph)
        self._work: Work = work(graph)
        self.plan: Plan = plan(followed)
        self._seeds: dict[Any, Tensor] = {}
        self._ways: list[Way] = []
        self.seconds = 0.0
        """Wall time of one evaluation, as tried once."""
        if self.nnz and self.plan.worthwhile:
            self._settle(x.detach(), max(SPARE, time.perf_counter() - start))

    # what is known ---------------------------------------------------------------------------------------------------

    @property
    def nnz(self) -> int:
        """Entries that may be other than zero."""
        return self.followed.nnz

    @property
    def density(self) -> float:
        """Share of all entries that may be other than zero."""
        return self.nnz / max(self.shape[0] * self.shape[1], 1)

    @property
    def seeds(self) -> int:
        """Products with the Jacobian that one evaluation takes."""
        return self.plan.seeds if self.nnz else 0

    @property
    def bound(self) -> int:
        """The entries of the densest line: no colouring in this direction takes fewer seeds."""
        return self.plan.bound

    @property
    def direction(self) -> Literal["forward", "reverse", "both"]:
        """forward: columns are coloured; reverse: rows; both: a few dense lines apart."""
        return self.plan.direction

    @property
    def worthwhile(self) -> bool:
        """Whether the seeds are clearly fewer than the rows and the columns: at most three quarters."""
        return self.plan.worthwhile or not self.nnz

    @property
    def index_sets(self) -> Any:
        """(p, q) boolean CSR matrix of scipy."""
        return self.followed.rows

    @cached_property
    def indices(self) -> Tensor:
        """(2, nnz) rows and columns of the entries, row by row."""
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.index_sets.indptr))
        return torch.from_numpy(np.stack([rows, self.index_sets.indices.astype(np.int64)]))

    @property
    def pattern(self) -> Tensor:
        """(p, q) boolean sparse COO tensor, coalesced."""
        return self._sparse(torch.ones(self.nnz, dtype=torch.bool))

    @property
    def cost(self) -> Cost:
        """What one evaluation is expected to take; the trial's `seconds` know better."""
        return self._work.cost(self.seeds, self.nnz, self._chunk(), forward=self.direction == "forward")

    # evaluation ------------------------------------------------------------------------------------------------------

    def __call__(self, x: Tensor) -> Tensor:
        """(p, q) sparse COO tensor, coalesced.

        Raises:
            ModelError: if x has another shape than the point the pattern was found at, or zeros of a constant that
                made the pattern smaller are zeros no more.
        """
        return self._sparse(self.values(x))

    def dense(self, x: Tensor) -> Tensor:
        """(p, q) as an ordinary tensor."""
        values = self.values(x)
        made = values.new_zeros(self.shape)
        made.view(-1)[self._flat.to(values.device)] = values
        return made

    def values(self, x: Tensor) -> Tensor:
        """(nnz,) the entries in the order of `indices`, row by row."""
        if x.shape != self._input:
            raise ModelError(
                f"this Jacobian was prepared for an input of shape {tuple(self._input)}, and x has "
                f"{tuple(x.shape)}: prepare it again"
            )
        for relied in self._zeros:
            if not relied.holds():
                raise ModelError(
                    f"zeros of {relied.name} made this sparse pattern smaller, and they are zeros no more: prepare the "
                    "Jacobian again"
                )
        x = x.detach()
        if not self.nnz:
            return x.new_zeros(0)
        if not self._ways:
            self._settle(x, SPARE)
        with contents_kept(self._state):
            told = [self._told(part, way, x) for part, way in zip(self.plan.parts, self._ways)]
        if len(told) == 1:
            return told[0]
        values = told[0].new_zeros(self.nnz)
        for i in range(len(told)):
            values[self._places(i, "entries", x.device)] = told[i]
        return values

    def _told(self, part: Part, way: Way, x: Tensor) -> Tensor:
        """The entries that one part's products tell."""
        i = self.plan.parts.index(part)
        products = way(self._run, x, self._seeding(part, x), part.count, self._chunk())
        take = self._places(i, "take", x.device)
        return products.reshape(-1) if take is None else products.reshape(-1).index_select(0, take)

    def _run(self, x: Tensor) -> Tensor:
        return self.f(x.clone()) if self._inputs_written else self.f(x)

    def _places(self, i: int, name: str, device: torch.device) -> Any:
        """Indices of a part as a tensor; None for "take" where it takes all as they come."""
        key = (i, name, device)
        if key not in self._seeds:
            found = getattr(self.plan.parts[i], name)
            length = self.plan.parts[i].count * (self.shape[1] if self._reverse(i) else self.shape[0])
            plain = name == "take" and len(found) == length and bool((found == np.arange(length)).all())
            self._seeds[key] = None if plain else torch.from_numpy(found).to(device)  # type: ignore[assignment]
        return self._seeds[key]

    def _reverse(self, i: int) -> bool:
        return self.plan.parts[i].direction == "reverse"

    def _seeding(self, part: Part, x: Tensor) -> Callable[[int, int], Tensor]:
        """seeds(first, last) -> (last - first, n): ones where a line has that colour."""
        i = self.plan.parts.index(part)
        dtype = self._output.dtype if self._reverse(i) else x.dtype
        key = (i, "seeds", x.device, dtype)
        if key not in self._seeds:
            colours = torch.from_numpy(part.colours).to(x.device)
            if part.count * len(colours) * dtype.itemsize <= max(self._budget() // 8, 1 << 16):
                colours = (colours[None] == torch.arange(part.count, device=x.device)[:, None]).to(dtype)
            self._seeds[key] = colours
        held = self._seeds[key]
        if held.dim() == 2:
            return lambda first, last: held if last - first == part.count else held[first:last]
        return lambda first, last: (held[None] == torch.arange(first, last, device=x.device)[:, None]).to(dtype)

    def _budget(self) -> int:
        return UNASKED if self.memory is None else self.memory

    def _chunk(self) -> int:
        """Seeds that go at once within the memory budget."""
        return max(1, min(max(self.seeds, 1), int(self._budget() // max(self._work.bytes_a_seed, 1))))

    def _settle(self, x: Tensor, spare: float) -> None:
        """Tries torch's ways at x; where none of them can go forward, rows are coloured instead."""
        while True:
            found = []
            with contents_kept(self._state):
                for part in self.plan.parts:
                    seeds = self._seeding(part, x)
                    found.append(fastest(part.direction, self._run, x, seeds, part.count, self._chunk(), spare))
            if any(one is None and part.direction == "forward" for one, part in zip(found, self.plan.parts)):
                self._seeds.clear()
                self.plan = plan(self.followed, only="reverse")
                continue
            self._ways = [
                one[0] if one is not None else WAYS[part.direction][-1] for one, part in zip(found, self.plan.parts)
            ]
            self.seconds = sum(one[1] for one in found if one is not None)
            return

    def _sparse(self, values: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(
            self._on(values.device), values, self.shape, check_invariants=False, is_coalesced=True
        )

    def _on(self, device: torch.device) -> Tensor:
        key = ("indices", device)
        if key not in self._seeds:
            self._seeds[key] = self.indices.to(device)
        return self._seeds[key]

    @cached_property
    def _flat(self) -> Tensor:
        return self.indices[0] * self.shape[1] + self.indices[1]

    # text ------------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"Compressed({self.shape[0]} x {self.shape[1]}, {self.nnz} entries, {self.seeds} seeds {self.direction})"

    def explain(self) -> str:
        """How the Jacobian is found, in sentences."""
        p, q = self.shape
        lines = [f"{p} x {q}, {self.nnz} entries that may be other than zero ({100 * self.density:.3g} %)."]
        if not self.nnz:
            return lines[0]
        if not self.worthwhile:
            lines.append(f"No colouring takes at most 3/4 of the {min(p, q)} seeds of a dense one: take that.")
        for part in self.plan.parts:
            kind, line = ("columns", "J v") if part.direction == "forward" else ("rows", "w J")
            lines.append(f"{part.count} products {line}, each for all {kind} of one colour.")
        if len(self.plan.parts) == 1:
            lines.append(f"The densest line asks for {self.bound}.")
        if self._ways:
            names = " and ".join(way.__name__.replace("_", " ") for way in self._ways)
            lines.append(f"Fastest of torch's ways: {names}, {1e3 * self.seconds:.3g} ms.")
        if self._chunk() < self.seeds:
            lines.append(f"{self._chunk()} seeds at a time keep within {self._budget()} bytes.")
        if self.fallbacks:
            lines.append(f"Counted as dense blocks: {'; '.join(self.fallbacks)}.")
        if self._zeros:
            lines.append(f"Holds while the zeros of {', '.join(one.name for one in self._zeros)} stay zeros.")
        return "\n".join(lines)


def _written(f: Callable[..., Any], graph: Graph) -> list[Tensor]:
    """What a call changes besides its input: tensors the run wrote into, and buffers of modules that train."""
    found = [graph.values[i] for i in graph.written]
    tensors = [value.tensor for value in found if value.kind != "input" and value.tensor is not None]
    return list({id(tensor): tensor for tensor in (*tensors, *moving_buffers(modules_of(f)))}.values())
