"""Standard deviations and draws, in the order of the run: what a weight reads is known when it is drawn."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from eitherway.graph import Op
from eitherway.signal.initialize.chains import Chained
from eitherway.signal.initialize.computed import originals
from eitherway.signal.initialize.drawing import content
from eitherway.signal.initialize.loops import Place, loops, place_of
from eitherway.signal.initialize.plan import Plan, Use, is_recurrent_kernel
from eitherway.signal.initialize.stage import Stage
from eitherway.signal.initialize.targets import geometric
from eitherway.signal.initialize.theory import Expected
from eitherway.signal.initialize.walk import Walk
from eitherway.signal.structure import Producer

_TRUSTED = 1.25  # theory stands while the example differs by less: then the difference is chance or correlation
_UNSEEN = 0.15  # mean square of a recurrent state before it has run: tanh of a sigmoid times a cell of order 1
_ROUNDING = 1e-12  # a bias as small as this is meant to be 0
_LOST = 1e2  # an rms this many times what it should be tells of a signal that was lost or exploded before
_SAME = 1.02  # uses of a shared weight that ask for sizes as near as this need no second walk


class Starter:
    """Draws every weight when the walk reaches it.

    Args:
        model: for what modules know of their weights (padding rows).
        plan: of the model.
        stage: where contents go.
        chains: deep chains, whose weights are drawn by a scheme of their own.
    """

    def __init__(self, model: nn.Module, plan: Plan, stage: Stage, chains: dict[int, Chained]):
        self.model, self.plan, self.stage, self.chains = model, plan, stage, chains
        self.by_op: dict[int, list[Producer]] = {}
        for producer in plan.structure.producers:
            self.by_op.setdefault(producer.op, []).append(producer)
        self.shared: dict[Place, float] = {}
        self.demands: dict[Place, dict[int, float]] = {}
        self.drawn: set[Place] = set()
        self.seconds: dict[int, float] = {}
        """Mean square of what each producer read in the walk."""
        self.doubted: list[int] = []
        self.loops = loops(plan.structure, set(plan.uses))
        self.ruled: dict[int, str] = {}
        """Where theory was taken although the example says otherwise, and why: no data pass either."""
        self.linked = {index for chain in plan.structure.chains for index in chain.producers[1:]}
        """Weights inside chains."""

    def run(self) -> None:
        """Walks once; once more where a shared weight must serve several uses of different size."""
        self._walk()
        wanted = {place: list(found.values()) for place, found in self.demands.items() if len(found) > 1}
        uneven = {place: found for place, found in wanted.items() if max(found) > _SAME * min(found)}
        if uneven:
            self.shared = {place: geometric(found) for place, found in uneven.items()}
            self._walk()

    def _walk(self) -> None:
        self.drawn, self.demands, self.doubted, self.ruled = set(), {}, [], {}
        self.plan.rms.clear()
        sources = frozenset(i for producer in self.plan.structure.producers for i in producer.sources)
        with torch.no_grad():
            walk = Walk(self.plan.structure.graph, self.stage.made)
            walk.held = walk.held | _read_later(self.plan, sources) | set(self.plan.targets.streams.values())
            walk.run(self._before, only=frozenset(self.by_op))

    def _before(self, op: Op, walk: Walk) -> None:
        producers = self.by_op[op.index]
        for producer in producers:
            self._start(producer, walk, op)
        deep = [p for p in producers if p.kind == "recurrent" and p.source in op.outputs and p.index in self.plan.uses]
        if any(not is_recurrent_kernel(p) for p in deep):  # what deeper layers read is known once the kernel has run
            walk.do(op)
            for producer in deep:
                if not is_recurrent_kernel(producer):
                    self.drawn.discard(place_of(producer))
                    self._start(producer, walk, op)

    def _start(self, producer: Producer, walk: Walk, op: Op) -> None:
        second = self._measured(producer, walk)
        use = self.plan.uses.get(producer.index)
        if use is None:
            self._keep(producer, second, walk)
            return
        chained = self.chains.get(producer.index)
        if chained is not None:
            self.seconds[producer.index] = second
            self._put_chained(producer, chained, second, walk, op)
            return
        expected = self._expected(producer, second)
        self.seconds[producer.index] = expected.second
        if place_of(producer) in self.loops.places and use.scheme == "gain" and producer.kind == "linear":
            use.law = "orthogonal"  # the same weight again and again: singular values that differ are raised to powers
        if producer.index in self.plan.targets.streams:
            use.target = self._target(producer, walk)
        std = self._std(use, expected)
        place = place_of(producer)
        if not (producer.index in self.loops.behind and self.ruled.get(producer.index) == "silent"):
            self.demands.setdefault(place, {})[producer.index] = std
        std = self.shared.get(place, std)
        if place not in self.drawn:
            self.drawn.add(place)
            use.std = std
            self._put(use, std, walk, op)
        else:
            std = (
                next(u for u in self.plan.uses.values() if u.std is not None and place_of(u.producer) == place).std
                or std
            )
        reads = max(producer.reads, 1e-12)
        if producer.parametrised:
            self._keep(producer, expected.second, walk)
        else:
            self.plan.rms[producer.index] = self._planned(use, std, math.sqrt(reads * expected.second), place)
        if math.isnan(use.gain):
            use.gain = std * math.sqrt(reads)

    def _planned(self, use: Use, std: float, reading: float, place: Place) -> float:
        """rms that the output will have; nan inside a recurrent kernel, where nothing is seen."""
        producer = use.producer
        if producer.kind == "recurrent":
            return math.nan
        if producer.kind == "embedding":
            return std * math.sqrt(max(producer.reads, 1e-12))
        shift = self.plan.chosen.get(producer.bias or "", 0.0)
        if use.scheme == "gain" and place in self.loops.places:
            return math.hypot(use.target, shift)
        if use.scheme == "gain" and place not in self.shared and len(self.demands[place]) == 1:
            return math.hypot(use.target, shift)
        return math.hypot(std * reading, self.plan.bias_stds.get(producer.bias or "", 0.0), shift)

    def _target(self, producer: Producer, walk: Walk) -> float:
        """rms wanted; a branch's is relative to the stream that it joins, as large as that enters."""
        wanted = self.plan.targets.rms[producer.index]
        stream = self.plan.targets.streams.get(producer.index)
        if stream is None or stream not in walk.env:
            return wanted
        size = math.sqrt(mean_square(walk.env[stream]))
        return wanted * size if size > 0 and math.isfinite(size) else wanted

    def _keep(self, producer: Producer, second: float, walk: Walk) -> None:
        """A weight that is not ours: what it puts out follows from what it holds."""
        held = walk.env.get(producer.weight)
        size = math.sqrt(mean_square(held)) if isinstance(held, Tensor) and held.is_floating_point() else 1.0
        if producer.kind == "recurrent":
            self.plan.rms[producer.index] = math.nan
            return
        bias = self.stage.made.get(producer.bias or "", self.stage.live.get(producer.bias or ""))
        shift = mean_square(bias) if bias is not None else 0.0
        self.plan.rms[producer.index] = math.sqrt(size**2 * max(producer.reads, 1e-12) * second + shift)

    def _measured(self, producer: Producer, walk: Walk) -> float:
        """Mean square of what it reads on the example; of a product of inputs, their product."""
        if producer.kind == "embedding":
            return 1.0
        found = 1.0
        for value in producer.sources:
            tensor = walk.env.get(value)
            if tensor is None or not tensor.is_floating_point():
                found *= _UNSEEN if tensor is None else 1.0
            else:
                found *= mean_square(tensor)
        return found

    def _expected(self, producer: Producer, measured: float) -> Expected:
        """Theory where it speaks and the example does not contradict it; the example elsewhere."""
        path = self.plan.structure.paths.get(producer.index)
        if producer.index in self.loops.behind:
            return self._by_convention(producer, measured)
        theory = None
        if path is not None and len(producer.sources) == 1 and producer.kind != "recurrent":
            theory = self.plan.theory.expected(path)
        if theory is not None and measured > 0 and math.isfinite(measured):
            # five standard deviations of the squares of so many units: each unit's size is one draw
            chance = 1 + 5 * math.sqrt((theory.noise + 2) / max(producer.fan_in, 1.0))
            if max(theory.second / measured, measured / theory.second) <= max(_TRUSTED, chance):
                return theory
            lost = max(theory.second / measured, measured / theory.second) > _LOST**2
            if lost or producer.index in self.loops.after:
                self.ruled[producer.index] = "lost" if lost else "after"
                return theory
            self.doubted.append(producer.index)
            return Expected(measured)
        if theory is not None:
            return theory
        if producer.index in self.loops.after and not _LOST**-2 <= measured <= _LOST**2:
            self.ruled[producer.index] = "lost"
            return Expected(1.0)
        return Expected(measured)

    def _by_convention(self, producer: Producer, measured: float) -> Expected:
        """Behind an earlier use of the same weight: what its path makes of the rms that is wanted of its sources.

        One start cannot repair what it did itself in the turns before, so what is measured there is no guide; where
        theory is silent the first use alone decides.
        """
        path = self.plan.structure.paths.get(producer.index)
        theory = None
        if path is not None and len(producer.sources) == 1 and producer.kind != "recurrent":
            theory = self.plan.theory.expected(path, self._wanted)
        self.ruled[producer.index] = "silent" if theory is None else "behind"
        return theory or Expected(measured)

    def _wanted(self, value: int) -> float:
        source = self.plan.structure.sources.get(value)
        if source is not None and source.kind == "producer" and source.producer is not None:
            return self.plan.targets.rms[source.producer] or 1.0
        return self.plan.theory.source(value) or 1.0

    def _std(self, use: Use, expected: Expected) -> float:
        if use.std is not None and (use.law == "zero" or use.scheme != "gain" or use.producer.kind == "embedding"):
            return use.std
        producer = use.producer
        if not (expected.second > 0 and math.isfinite(expected.second)):
            use.why = "what it reads is 0 on the example: 1 / sqrt(fan_in)"
            return use.target / math.sqrt(max(producer.reads, 1e-12))
        return use.target * self._correction(use, expected) / math.sqrt(max(producer.reads, 1e-12) * expected.second)

    def _correction(self, use: Use, expected: Expected) -> float:
        """e^(v / 4) in chains: the log of the mean square loses half its variance, v = noise / n, in every layer."""
        if use.producer.index not in self.linked or use.producer.kind != "linear":
            return 1.0
        return math.exp(min(expected.noise / use.producer.fan_in, 1.0) / 4)

    def _put(self, use: Use, std: float, walk: Walk, op: Op) -> None:
        producer = use.producer
        if producer.parametrised:
            shaped = torch.empty(self.plan.structure.graph.values[producer.weight].shape, device="cpu")
            silent = use.law == "zero"
            law, size = ("gaussian", producer.fan_in**-0.5) if silent else (use.law, std)
            drawn = content(shaped, producer, law, size, self.stage.generator(producer.name))
            for name, made in originals(self.model, producer, drawn, silent=silent).items():
                self.stage.put(name, made)
                walk.replace(name, self.stage.made[name], op.index)
            return
        held = self.stage.tensor(producer.name)
        region = held[producer.part] if producer.part else held
        purpose = f"draw {place_of(producer)[1]}" if producer.part else "draw"
        drawn = content(region, producer, use.law, std, self.stage.generator(producer.name, purpose))
        if producer.kind == "embedding":
            row = self._padding(producer, op)
            if row is not None and -len(drawn) <= row < len(drawn):
                drawn[row] = 0.0
        self.stage.put(producer.name, drawn, producer.part)
        walk.replace(producer.name, self.stage.made[producer.name], op.index)

    def _padding(self, producer: Producer, op: Op) -> int | None:
        """The row that stands for nothing and stays 0."""
        module = dict(self.model.named_modules()).get(producer.name.rpartition(".")[0])
        row: Any = getattr(module, "padding_idx", None)
        if row is None and op.name == "embedding" and len(op.args) > 2:
            row = op.args[2]
        return row if isinstance(row, int) and (module is not None or row >= 0) else None

    def _put_chained(self, producer: Producer, chained: Chained, second: float, walk: Walk, op: Op) -> None:
        weight, bias, predicted = chained.contents(producer.index, second, self.stage)
        self.stage.put(producer.name, weight)
        walk.replace(producer.name, self.stage.made[producer.name], op.index)
        if producer.bias is not None and bias is not None:
            if float(bias.abs().max()) < _ROUNDING:
                bias = torch.zeros_like(bias)
            self.stage.put(producer.bias, bias)
            walk.replace(producer.bias, self.stage.made[producer.bias], op.index)
        use = self.plan.uses[producer.index]
        use.std = float(weight.double().square().mean().sqrt())
        use.gain = use.std * math.sqrt(producer.reads)
        self.plan.rms[producer.index] = math.hypot(predicted, self.plan.chosen.get(producer.bias or "", 0.0))


def mean_square(tensor: Tensor) -> float:
    """In float64, so that nothing overflows.

    >>> mean_square(torch.full((3,), 300.0, dtype=torch.float16))
    90000.0
    """
    return float(tensor.detach().double().square().mean()) if tensor.numel() else 0.0


def _read_later(plan: Plan, sources: frozenset[int]) -> frozenset[int]:
    """Sources that the walk might drop before their weight is reached."""
    users = plan.structure.graph.users
    return frozenset(
        producer.source
        for producer in plan.structure.producers
        if producer.source in sources and max(users[producer.source], default=-1) < producer.op
    )
