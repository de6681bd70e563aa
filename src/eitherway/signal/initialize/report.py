"""What a start did: every parameter with its law and the reason, every layer as predicted and as measured."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, Literal

from eitherway.base.errors import ModelError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FOLD = 3
"""Rows alike but for a number in their name that become one row."""
_ROWS = 60
"""Rows that a table shows; `entries` and `layers` hold all."""


@dataclass(frozen=True)
class Entry:
    """What became of one parameter."""

    name: str
    shape: tuple[int, ...]
    action: Literal["drawn", "set", "kept"]
    """Drawn from a law, set to a constant, or kept as it was."""
    scheme: str
    """The law: "gain", "kaiming", "mirror", ...; "" where nothing was drawn."""
    std: float
    """Standard deviation of the law, or of the entries where several parts have laws of their own; nan where kept."""
    gain: float
    """What multiplies 1 / sqrt(fan_in) to make `std`; nan where nothing was drawn."""
    fan_in: float
    """Products in one output, on average over positions; nan where nothing was drawn."""
    follows: str
    """What the weight reads: "relu", "silu(a) * b", "layer norm", "input"."""
    why: str
    value: float = nan
    """The constant it was set to; nan elsewhere."""


@dataclass(frozen=True)
class Layer:
    """One use of a weight, in the order of the run."""

    name: str
    kind: str
    predicted: float
    """rms of its output, over all entries, as planned."""
    measured: float = nan
    """The same on the example, after the start; nan without `data=True`."""
    gradient: float = nan
    """rms of the gradient at its output, from a random cotangent of rms 1 at the outputs."""
    scaled: float = 1.0
    """What the data pass multiplied the weight by."""


@dataclass(frozen=True)
class InitializeReport:
    """How a model was started. Prints as a table; `report["head.weight"]` is one parameter's entry.

    `lr_scale` is a number to multiply a customary learning rate with, the smallest of `lr_scales`, for optimisers with
    one rate for all: 1 where weights have their customary size. A shaped start works in a window of the activation of
    width alpha, in units of its usual input, and a step in the weights moves it 1 / alpha times as far, so that the
    rate must shrink with alpha. With parameter groups give each parameter its own of `lr_scales`.
    """

    entries: tuple[Entry, ...]
    """One for each of `model.named_parameters()`, in order."""
    layers: tuple[Layer, ...]
    scheme: str
    """What was asked for."""
    residual: str
    seed: int
    notes: tuple[str, ...] = ()
    lr_scales: dict[str, float] = field(default_factory=dict)
    cosine: tuple[float, float] = (nan, nan)
    """Mean cosine of the outputs of different samples, before and after the data pass; of what the head reads where it
    puts out too few numbers to tell."""
    spread: tuple[float, float] = (nan, nan)
    """Largest over smallest rms of one sample's outputs, or of what the head reads, before and after the data pass."""

    def __getitem__(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        known = [entry.name for entry in self.entries]
        advice = nearest(str(name), known[:12]) if len(known) <= 12 else _closest(str(name), known)
        raise ModelError(f"the report has no parameter {name!r:.60}. {advice}")

    @property
    def lr_scale(self) -> float:
        return min(self.lr_scales.values(), default=1.0)

    @property
    def summary(self) -> str:
        """One line."""
        n = Counter(entry.action for entry in self.entries)
        laws = Counter(entry.scheme for entry in self.entries if entry.action == "drawn")
        drawn = ", ".join(f"{count} {law}" for law, count in laws.most_common())
        text = f"{len(self.entries)} parameters: {n['drawn']} drawn{f' ({drawn})' if drawn else ''}, {n['set']} set, "
        text += f"{n['kept']} kept"
        measured = [layer for layer in self.layers if isfinite(layer.measured) and layer.predicted > 0]
        if measured:
            ratios = sorted(layer.measured / layer.predicted for layer in measured)
            text += f"; rms / planned from {ratios[0]:.3g} to {ratios[-1]:.3g} over {len(measured)} layers"
        return text

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        out = io.StringIO()
        console = Console(file=out, width=132, color_system=None, highlight=False, markup=False)
        console.print(f"initialize_: scheme {self.scheme}, residual {self.residual}, seed {self.seed}\n{self.summary}")
        for heads, rows in ((_ENTRY_HEADS, self._entry_rows()), (_LAYER_HEADS, self._layer_rows())):
            if rows:
                table = Table(box=None, title_justify="left", pad_edge=False)
                for head in heads:
                    table.add_column(head, overflow="fold", no_wrap=head not in ("follows", "why"))
                for row in rows[:_ROWS]:
                    table.add_row(*row)
                console.print(table)
            if len(rows) > _ROWS:
                console.print(f"and {len(rows) - _ROWS} more rows, in `entries` and `layers`")
        if self.lr_scale != 1.0:
            console.print(f"learning rate: x{self.lr_scale:.3g} of a customary one")
        for note in self.notes:
            console.print(f"note: {note}")
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())

    def __repr__(self) -> str:
        return f"InitializeReport({self.summary})"

    def _repr_html_(self) -> str:
        parts = [f"<p><b>initialize_</b>: {escape(self.summary)}</p>"]
        for heads, rows in ((_ENTRY_HEADS, self._entry_rows()), (_LAYER_HEADS, self._layer_rows())):
            top = "".join(f"<th style='text-align:left'>{escape(head)}</th>" for head in heads)
            body = "".join(
                "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in rows[:_ROWS]
            )
            parts.append(f"<table><tr>{top}</tr>{body}</table>" if rows else "")
        parts += [f"<p>{escape(note)}</p>" for note in self.notes]
        return "".join(parts)

    def plot(self, axes: Axes | None = None) -> Axes:
        """rms of every layer's output, as planned and as measured, and of its gradient."""
        from eitherway.signal.initialize.picture import plot_layers

        return plot_layers(self, axes)

    def _entry_rows(self) -> list[tuple[str, ...]]:
        def alike(entry: Entry) -> tuple[Any, ...]:
            return entry.shape, entry.action, entry.scheme, entry.follows, entry.why, _short(entry.value)

        rows = []
        for found in _folded(self.entries, alike):
            one = found[0]
            law = (
                one.scheme
                if one.action == "drawn"
                else ""
                if one.action == "kept"
                else f"= {_short(one.value) or 'by part'}"
            )
            shape = "x".join(map(str, one.shape)) or "one number"
            rows.append(
                (
                    _names([e.name for e in found]),
                    shape,
                    one.action,
                    law,
                    _range(e.std for e in found),
                    one.follows,
                    one.why,
                )
            )
        return rows

    def _layer_rows(self) -> list[tuple[str, ...]]:
        def alike(layer: Layer) -> tuple[Any, ...]:
            return layer.kind, _short(layer.predicted)

        return [
            (
                _names([e.name for e in found]),
                found[0].kind,
                _range(e.predicted for e in found),
                _range(e.measured for e in found),
                _range(e.gradient for e in found),
                _range(e.scaled for e in found),
            )
            for found in _folded(self.layers, alike)
        ]


_ENTRY_HEADS = ("parameter", "shape", "action", "law", "std", "follows", "why")
_LAYER_HEADS = ("output of", "kind", "planned", "rms", "gradient", "scaled by")


def _folded(rows: Any, alike: Any) -> list[list[Any]]:
    """Rows in order; those that differ in a number of their name alone stand together, from three on."""
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault((re.sub(r"\d+", "#", row.name), alike(row)), []).append(row)
    return [
        part for group in groups.values() for part in ([group] if len(group) >= _FOLD else [[row] for row in group])
    ]


def _names(names: list[str]) -> str:
    """One name for several that differ in their numbers.

    >>> _names(["0.weight", "2.weight", "4.weight"])
    '{0..4}.weight (3)'
    """
    if len(names) == 1:
        return names[0]
    columns = zip(*(re.split(r"(\d+)", name) for name in names))
    parts = [c[0] if len(set(c)) == 1 else f"{{{min(map(int, c))}..{max(map(int, c))}}}" for c in columns]
    return f"{''.join(parts)} ({len(names)})"


def _range(values: Any) -> str:
    """What numbers have in common: one of them, or the ends; "" where there are none."""
    found = sorted(value for value in values if value == value)
    if not found:
        return ""
    low, high = _short(found[0]), _short(found[-1])
    return low if low == high else f"{low} .. {high}"


def _short(value: float) -> str:
    return "" if value != value else f"{value:.3g}"


def _closest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
    return f"Did you mean {', '.join(close)}? There are {len(known)}."
