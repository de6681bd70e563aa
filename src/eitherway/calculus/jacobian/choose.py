"""Which way to a Jacobian: the ways that are open, what each is expected to take, and a race where it is close."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.chain import prepare as prepare_chain
from eitherway.calculus.cost import Cost
from eitherway.calculus.jacobian.memory import as_text
from eitherway.calculus.jacobian.ways import Forward, Function, Reverse, Way, largest, work
from eitherway.calculus.sparse import prepare as prepare_sparse
from eitherway.graph import Graph

Mode = Literal["auto", "chain", "sparse", "reverse", "forward"]
MODES: tuple[str, ...] = get_args(Mode)
CLOSE = 4.0
"""Ways predicted within this factor of the best are timed: predictions are off by up to 3 (measured on 11 networks)."""
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)
_LIVING = 5
"""Tensors of the widest size alive at once for each vector under vmap; 4.9 were measured (jvp of exp of squares)."""
_FOLLOWED = 10
"""Bytes held while sparsity is looked for, by the bytes that the run makes; 8 were measured (residuals of centres)."""
_AT_ONCE = 8e6
"""Bytes of a chunk beyond which a processor gains next to nothing; where memory is scarce no more are taken."""
_FEWEST = 4
"""Vectors of a chunk that are taken all the same, if they fit: one by one 1001 took 43 s, four by four 27 s."""
FEW = 16
"""Rows up to which `torch.autograd.grad` is expected to hold less and take no longer than torch.func: 10 of a
convolutional network took 2.8 MB against 11; 256 took seven times as long."""
SMALL = 64 * 64
"""Below so many entries a dense answer costs little more than a single product, so nothing is looked for in it."""

_DEAR = {"chain": 2e-3, "sparse": 2e-2}
"""Seconds that preparing our own ways takes at least. A single answer is torch's where torch is expected sooner."""


@dataclass
class Choice:
    """The way that was chosen, and the others with what spoke against them."""

    name: str
    way: Way
    why: str
    predicted: dict[str, Cost] = field(default_factory=dict)
    timed: dict[str, float] = field(default_factory=dict)
    """Seconds, the best of a few calls."""
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """`rows` outputs and `columns` inputs, of one sample where `batch` is not None."""

    rows: int
    columns: int
    batch: int | None


class Sparse:
    """The sparse way for whoever wants a dense answer."""

    name = "sparse"

    def __init__(self, compressed):
        self.compressed, self.cost = compressed, compressed.cost

    def __call__(self, x: Tensor) -> Tensor:
        return self.compressed.dense(x)


def choose(
    f: Function, graph: Graph | None, x: Tensor, sizes: Sizes, *, mode: Mode, memory: int | None, race: bool
) -> Choice:
    """Chooses the way for functions like this one at points like this.

    Args:
        f: of one tensor.
        graph: its run at x; None where it could not be captured.
        mode: "auto", or the one way that is wanted.
        memory: bytes that a call may take, or None.
        race: time the ways that come close, a few calls each.

    Raises:
        ModelError: if the one way that was asked for is closed, with its reason.
    """
    made: dict[str, Way] = {}
    refused: dict[str, str] = {}
    for name, make in _makers(f, graph, x, sizes, mode, memory).items():
        if mode == "auto" and not race and _DEAR.get(name, 0.0) > _best(made):
            continue
        try:
            made[name] = make()
        except ModelError as error:
            if mode == name:
                raise
            refused[name] = str(error)
        except _FAILURES as error:  # a way that cannot even be planned is not open; torch's own need no planning
            if mode == name:
                raise ModelError(f"the {name} way cannot be planned here: {type(error).__name__}: {error}") from error
            refused[name] = f"{type(error).__name__}: {error}"
    predicted = {name: way.cost for name, way in made.items()}
    if mode != "auto":
        return Choice(mode, made[mode], f"mode={mode!r} was asked for", predicted, {}, refused)
    fitting = {n: w for n, w in made.items() if memory is None or w.cost.peak <= memory} or made
    order = sorted(fitting, key=lambda name: fitting[name].cost.seconds)
    best = fitting[order[0]].cost.seconds
    close = [name for name in order if fitting[name].cost.seconds <= CLOSE * best]
    if not race or len(close) == 1:
        return Choice(order[0], fitting[order[0]], _why(order, predicted), predicted, {}, refused)
    timed = _race({name: fitting[name] for name in close}, x)
    if not timed:
        raise ModelError("no way to the Jacobian could be evaluated at this point: call f(x) to see what it does")
    winner = min(timed, key=timed.__getitem__)
    shown = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in sorted(timed.items(), key=lambda t: t[1]))
    return Choice(winner, fitting[winner], f"the fastest of those that came close: {shown}", predicted, timed, refused)


def _makers(
    f: Function, graph: Graph | None, x: Tensor, sizes: Sizes, mode: Mode, memory: int | None
) -> dict[str, Callable[[], Any]]:
    """The ways worth making, by name."""
    makers: dict[str, Callable[[], Any]] = {}

    def wanted(name: str) -> bool:
        return mode in (name, "auto")

    if wanted("reverse"):
        tapes = ("autograd", "func") if sizes.rows <= FEW else ("func", "autograd")
        for tape in tapes if mode == "auto" else ("func",):  # as fast for all that can be predicted: the first is taken
            name = "reverse" if tape == "func" else "reverse (autograd.grad)"
            makers[name] = lambda tape=tape: reverse(f, graph, x, sizes, memory, tape)
    if wanted("forward"):
        makers["forward"] = lambda: forward(f, graph, x, sizes, memory)
    if wanted("chain"):
        makers["chain"] = lambda: prepare_chain(_followed(graph), batched=sizes.batch is not None, memory=memory)
    if mode == "sparse" or (mode == "auto" and sizes.batch is None and sizes.rows * sizes.columns > SMALL):
        makers["sparse"] = lambda: _sparse(f, graph, x, sizes, mode, memory)
    return makers


def _best(made: dict[str, Way]) -> float:
    """Seconds that the best of some ways is expected to take."""
    return min((way.cost.seconds for way in made.values()), default=float("inf"))


def _followed(graph: Graph | None) -> Graph:
    if graph is None:
        raise ModelError("the run could not be followed operation by operation")
    if graph.opaque:
        raise ModelError(f"the run cannot be followed: {graph.opaque}")
    return graph


def _sparse(f: Function, graph: Graph | None, x: Tensor, sizes: Sizes, mode: Mode, memory: int | None) -> Sparse:
    if sizes.batch is not None:
        raise ModelError("a batch is taken sample by sample, where sparsity is not looked for; use batched=False")
    if mode == "auto" and memory is not None and _FOLLOWED * work(_followed(graph)).peak > memory:
        raise ModelError(f"following the run entry by entry may take more than {as_text(memory)}")
    compressed = prepare_sparse(f, _followed(graph), x, memory=memory)
    if mode == "auto" and not compressed.worthwhile:
        raise ModelError(f"{compressed.seeds} products would be needed for {sizes.rows} x {sizes.columns}")
    return Sparse(compressed)


def reverse(
    f: Function, graph: Graph | None, x: Tensor, sizes: Sizes, memory: int | None, tape: Literal["func", "autograd"]
) -> Reverse:
    """Torch's reverse way with a chunk for the budget and a prediction."""
    cost, chunk = _predict(graph, x, sizes, sizes.rows, memory, calls=6.0)
    return Reverse(f, sizes.rows, batched=sizes.batch is not None, chunk=chunk, tape=tape, cost=cost)


def forward(f: Function, graph: Graph | None, x: Tensor, sizes: Sizes, memory: int | None) -> Forward:
    """Torch's forward way with a chunk for the budget and a prediction."""
    cost, chunk = _predict(graph, x, sizes, sizes.columns, memory, calls=9.0)
    return Forward(f, sizes.columns, batched=sizes.batch is not None, chunk=chunk, cost=cost)


def _predict(
    graph: Graph | None, x: Tensor, sizes: Sizes, seeds: int, memory: int | None, calls: float
) -> tuple[Cost, int]:
    """What `seeds` products take, and how many at once fit.

    Args:
        calls: calls from Python that an operation and its transform take together.
    """
    once = work(graph) if graph is not None else Cost(0.0, 2.0 * x.numel(), 10.0, 4.0 * x.numel() * x.dtype.itemsize)
    answer = sizes.rows * sizes.columns * (sizes.batch or 1) * x.dtype.itemsize
    wide = largest(graph) if graph is not None else x.numel() * x.dtype.itemsize
    each = _LIVING * max(wide, x.numel() * x.dtype.itemsize)
    chunk = seeds
    if memory is not None:
        room = memory - answer - once.peak
        room = min(room, max(_AT_ONCE, _FEWEST * each)) if x.device.type == "cpu" else room
        chunk = max(1, min(seeds, int(room // max(each, 1))))
    rounds = -(-seeds // max(chunk, 1))
    cost = Cost(
        products=once.products * (1 + seeds),
        elements=once.elements * (1 + seeds) + 2 * answer / x.dtype.itemsize,
        calls=once.calls * (3 + calls * rounds) + 40,
        peak=answer + once.peak + each * chunk,
    )
    return cost, chunk


def _race(ways: dict[str, Way], x: Tensor) -> dict[str, float]:
    """Seconds of each way, the best of five after a first call; a way that fails is out.

    On one thread processor time is counted, which other programs disturb least.
    """
    alone = x.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    best: dict[str, float] = {}
    out: set[str] = set()
    for turn in range(6):
        for name, way in ways.items():
            if name in out or (turn > 2 and best[name] > 2 * min(best.values())):
                continue
            start = clock()
            try:
                way(x)
            except (RuntimeError, ModelError, NotImplementedError):
                out.add(name)
                best.pop(name, None)
                continue
            if x.device.type == "cuda":
                torch.cuda.synchronize(x.device)
            took = clock() - start
            best[name] = took if turn < 2 else min(best[name], took)
    return best


def _why(order: list[str], predicted: dict[str, Cost]) -> str:
    first = predicted[order[0]]
    if len(order) == 1:
        return "the only way that is open"
    second = predicted[order[1]]
    return (
        f"predicted {second.seconds / max(first.seconds, 1e-12):.1f} x faster than {order[1]}, "
        f"holding {as_text(first.peak)} against {as_text(second.peak)}"
    )
