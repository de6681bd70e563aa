"""All that was measured, in the order that the verdicts ask for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from torch import Tensor

from eitherway.signal.diagnose.attention import AttentionSignal
from eitherway.signal.diagnose.layers import Row, names_of, place
from eitherway.signal.diagnose.measure import NAN, Samples, norm, samples
from eitherway.signal.diagnose.run import LOSS, Run
from eitherway.signal.diagnose.slopes import Slopes
from eitherway.signal.structure import Residual, Structure

Kind = Literal["input", "producer", "embedding", "norm", "sum", "output", "other"]
_POOLS = ("mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
          "adaptive_avg_pool3d")  # fmt: skip
TELLING = 16
"""Features from which on a sample's rms and cosine tell something: their chance is 1/sqrt(2 features), 18 %."""


@dataclass(frozen=True)
class Station:
    """A value on a way through the model, where the signal can be compared with what it was before."""

    value: int
    kind: Kind
    name: str
    samples: Samples
    gradient: float
    """Euclidean length of the gradient, with the share of averages over positions taken out; nan without one."""
    op: int
    """-1 for inputs."""
    row: Row | None

    @property
    def rms(self) -> float:
        return self.samples.rms

    @property
    def variation(self) -> float:
        """Rms of what differs between samples; the whole where samples cannot be told apart."""
        if self.samples.features < TELLING or math.isnan(self.samples.cosine):
            return self.samples.rms
        return self.samples.deviation * max(self.samples.difference, 0.0) ** 0.5


@dataclass
class Evidence:
    """A run, measured."""

    run: Run
    structure: Structure
    rows: tuple[Row, ...]
    attentions: tuple[AttentionSignal, ...]
    slopes: dict[int, Slopes]
    by_value: dict[int, Tensor]
    by_name: dict[str, Tensor]
    trunk: tuple[int, ...]
    lr: float | None
    runs: tuple[tuple[tuple[str, ...], int], ...] = ()
    """Layers with nothing non-linear between them, and how deep each such run is."""
    weighings: tuple[AttentionSignal, ...] = ()
    """Softmaxes that weigh values by scores of another make than products."""
    notes: list[str] = field(default_factory=list)

    @property
    def graph(self):
        return self.run.graph

    @cached_property
    def trunk_set(self) -> frozenset[int]:
        return frozenset(self.trunk)

    @cached_property
    def row_of(self) -> dict[int, Row]:
        """By producer."""
        return {row.producer.index: row for row in self.rows}

    @cached_property
    def names(self) -> dict[int, str]:
        return names_of(self.structure)

    @cached_property
    def closers(self) -> frozenset[int]:
        """Producers that end a residual branch: they may start at zero."""
        return frozenset(i for residual in self.structure.residuals for i in residual.last)

    @cached_property
    def normed(self) -> frozenset[int]:
        """Values that a norm reads: their scale does not matter to what comes after."""
        found = set()
        for n in self.structure.norms:
            if n.kind != "running":
                found.add(n.source)
                path = self.structure.path(n.source)
                if path.kind == "same":
                    found.update(path.sources)
        return frozenset(found)

    @cached_property
    def streams(self) -> dict[int, list[Residual]]:
        """Residual adds by stream, in order."""
        found: dict[int, list[Residual]] = {}
        for residual in self.structure.residuals:
            found.setdefault(residual.stream_id, []).append(residual)
        return {i: sorted(adds, key=lambda r: r.op) for i, adds in found.items()}

    @cached_property
    def read_by_norms(self) -> frozenset[int]:
        """Residual streams that branches read through a norm: their size does not enter what comes after."""
        adds = [r for stream in self.streams.values() for r in stream if self.before_norm(r)]
        return frozenset(i for r in adds for i in (r.stream, r.output))

    def before_norm(self, residual: Residual) -> bool:
        """Whether what the branch reads is normalised first, so that the stream's size does not enter it."""
        sources = self.structure.sources
        for i in residual.producers[:1]:
            path = self.structure.paths.get(i)
            if path is not None and any(sources[s].kind == "norm" for s in path.sources if s in sources):
                return True
        return residual.ends_in_norm is not None

    @cached_property
    def stations(self) -> tuple[Station, ...]:
        """The trunk's, from the inputs to the output."""
        made: dict[int, tuple[Kind, str, Row | None]] = {}
        for i in self.graph.inputs:
            for met in self.met(i) or [i]:
                made[met] = ("input", self.graph.values[i].name, None)
        for n in self.structure.norms:
            made[n.output] = ("norm", n.weight.removesuffix(".weight") if n.weight else place(self.graph, n.op), None)
        for r in self.structure.residuals:
            made[r.output] = ("sum", place(self.graph, r.op), None)
        for row in self.rows:
            kind: Kind = "embedding" if row.producer.kind == "embedding" else "producer"
            made[row.producer.output] = (kind, row.signal.name, row)
        for i in self.run.outputs:
            made.setdefault(i, ("output", "the output", None))
        on = [i for i in self.trunk if i in made and i in self.run.tensors]
        on = [i for i in on if self.graph.values[i].dtype.is_floating_point]
        return tuple(self._station(i, *made[i]) for i in on)

    def _station(self, i: int, kind: Kind, name: str, row: Row | None) -> Station:
        found = row.samples if row else samples(self.run.tensors[i], self.run.batch)
        slope = self.by_value.get(i)
        length = norm(slope) if slope is not None else NAN
        producer = self.graph.values[i].producer
        return Station(i, kind, name, found, length * self._averaged(i), -1 if producer is None else producer, row)

    def _averaged(self, value: int) -> float:
        """sqrt of the places that averages on the trunk after a value share one gradient among."""
        return self._shares.get(value, 1.0)

    @cached_property
    def _shares(self) -> dict[int, float]:
        found, share = {}, 1.0
        made = {op.outputs[0]: op for op in self.graph.ops if op.outputs and op.name in _POOLS}
        for i in reversed(self.trunk):
            found[i] = share
            op = made.get(i)
            if op is not None and op.inputs and self.graph.values[i].numel:
                share *= max(1.0, self.graph.values[op.inputs[0]].numel / self.graph.values[i].numel) ** 0.5
        return found

    @cached_property
    def segments(self) -> tuple[tuple[Station, ...], ...]:
        """Stations between two norms of the trunk; then chains beside the trunk."""
        found: list[list[Station]] = [[]]
        for station in self.stations:
            if station.kind == "norm":
                found.append([])
            found[-1].append(station)
        on = {station.value for station in self.stations}
        for chain in self.structure.chains:
            rows = [self.row_of[i] for i in chain.producers if i in self.row_of]
            if rows and not any(row.producer.output in on for row in rows):
                found.append([self._station(row.producer.output, "producer", row.signal.name, row) for row in rows])
        return tuple(tuple(part) for part in found if len(part) > 1)

    @cached_property
    def entry(self) -> Station | None:
        """Where samples can first be told apart: the input, or the first embedding on the trunk."""
        return next(
            (s for s in self.stations if not math.isnan(s.samples.cosine) and s.samples.features >= TELLING), None
        )

    def met(self, value: int) -> list[int]:
        """What is made of a value where it first meets weights: pixels divided by 255; what norms read is left out."""
        graph, reached, found = self.graph, {value}, list[int]()
        norms = {n.output for n in self.structure.norms if n.kind != "running"}
        weights = {row.producer.op for row in self.rows}
        for op in graph.ops:
            moving = [i for i in op.inputs if graph.values[i].depends]
            if not reached & set(moving) or not self.own(op.index) or norms & set(op.outputs):
                continue
            if op.index in weights or any(graph.values[i].kind == "parameter" for i in op.inputs):
                found += [i for i in moving if i in reached and i in self.run.tensors]
            elif reached >= set(moving):  # nothing learnt has a part in it yet
                reached.update(i for i in op.outputs if graph.values[i].dtype.is_floating_point)
        return list(dict.fromkeys(found))

    def own(self, op: int) -> bool:
        """Whether an operation ran in the model, not in the loss."""
        return not self.graph.ops[op].module.startswith(LOSS)
