"""What a diagnosis found: a row for each layer, verdicts, and how they are shown."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eitherway.base.errors import ModelError, nearest
from eitherway.signal.diagnose.attention import AttentionSignal
from eitherway.signal.diagnose.layers import LayerSignal
from eitherway.signal.diagnose.spectrum import Spectrum
from eitherway.signal.diagnose.verdicts.parts import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 120
_NAME = 26
_ROWS = 24
"""Rows of the table; neighbours that are alike are folded until no more are left."""


@dataclass(frozen=True)
class Diagnosis:
    """The signal through a model, layer by layer, and what is wrong with it."""

    layers: tuple[LayerSignal, ...]
    attention: tuple[AttentionSignal, ...]
    jacobian: Spectrum
    verdicts: tuple[Verdict, ...]
    """Alarms first, roots before all else."""
    start: str
    """Where the backward starts."""
    mode: str
    """The mode that was measured: the one the model is in."""
    model: str
    batch: int
    residuals: tuple[tuple[str, float], ...]
    """For each residual add the layer that ends its branch, and rms of the branch / rms of the stream."""
    bad: int
    """NaN and inf in the outputs of layers."""
    denormal: int
    """Numbers so small that many processors become slow over them."""
    lr: float | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def healthy(self) -> bool:
        """Whether no verdict is an alarm."""
        return not self.alarms

    @property
    def alarms(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.severity == "alarm")

    def __getitem__(self, name: str) -> LayerSignal:
        """The first row of that name."""
        for layer in self.layers:
            if layer.name == name or layer.weight == name:
                return layer
        raise ModelError(f"there is no layer {name!r}. {nearest(name, dict.fromkeys(x.name for x in self.layers))}")

    def __repr__(self) -> str:
        return f"Diagnosis({self.summary})"

    @property
    def summary(self) -> str:
        """One line."""
        if self.healthy:
            return f"healthy: no alarm in {len(self.layers)} layer{'' if len(self.layers) == 1 else 's'}"
        kinds = ", ".join(dict.fromkeys(v.kind for v in self.alarms))
        return f"{len(self.alarms)} alarm{'' if len(self.alarms) == 1 else 's'}: {kinds}"

    def __str__(self) -> str:
        lines = [f"{self.model} in {self.mode}, {self.batch} sample{'' if self.batch == 1 else 's'}: {self.summary}"]
        for v in self.verdicts:
            mark = "! " if v.severity == "alarm" else "- "
            lines += textwrap.wrap(
                f"{v.kind}: {v.text}", WIDTH, initial_indent=mark, subsequent_indent="  ", break_long_words=False,
                break_on_hyphens=False,
            )  # fmt: skip
        lines += ["", *_table(self)]
        lines += ["", *textwrap.wrap(f"backward from {self.start}", WIDTH, subsequent_indent="  ")]
        for text in self._facts():
            lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
        return "\n".join(lines)

    def _facts(self) -> list[str]:
        found = [str(self.jacobian)]
        if self.residuals:
            sizes = sorted(size for _, size in self.residuals)
            found.append(
                f"residual branches: {len(sizes)}, branch / stream {sizes[0]:.2g} to {sizes[-1]:.2g} (median "
                f"{sizes[len(sizes) // 2]:.2g})"
            )
        for a in _folded_attention(self.attention):
            found.append(a)
        if self.bad:
            found.append(f"{self.bad:,} NaN or inf in the outputs of layers")
        if self.denormal:
            found.append(f"{self.denormal:,} denormal numbers: many processors are slow over them")
        return [*found, *(f"note: {text}" for text in self.notes)]

    def _repr_html_(self) -> str:
        esc = html.escape
        colour = {"alarm": "#d55e00", "note": "#8f99a3"}
        verdicts = "".join(
            f'<li><b style="color:{colour[v.severity]}">{esc(v.kind)}</b>: {esc(v.text)}</li>' for v in self.verdicts
        )
        heads, body = _cells(self)
        top = "".join(f'<th style="text-align:left">{esc(head)}</th>' for head in heads)
        rows = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in body)
        facts = "".join(f"<li>{esc(text)}</li>" for text in (f"backward from {self.start}", *self._facts()))
        return (
            f"<p><b>{esc(self.model)}</b> in {esc(self.mode)}, {self.batch} samples: {esc(self.summary)}</p>"
            f"<ul>{verdicts}</ul><table><tr>{top}</tr>{rows}</table><ul>{facts}</ul>"
        )

    def plot(self, axes: Axes | None = None) -> Axes:
        """Rms of signal and gradient layer by layer on a log axis, the layers of each alarm marked."""
        from eitherway.signal.diagnose.pictures import plot_signal

        return plot_signal(self, axes)


_COLUMNS: tuple[tuple[str, Callable[[LayerSignal], float]], ...] = (
    ("rms", lambda x: x.rms),
    ("mean", lambda x: x.mean_share),
    ("spread", lambda x: x.spread),
    ("cosine", lambda x: x.cosine),
    ("rank", lambda x: x.rank),
    ("dead", lambda x: x.dead),
    ("flat", lambda x: x.saturated),
    ("grad", lambda x: x.gradient),
    ("w grad", lambda x: x.weight_gradient),
    ("chi", lambda x: x.chi),
    ("theory", lambda x: x.chi_predicted),
    ("step", lambda x: x.update_ratio),
)
_SHARES = ("mean", "dead", "flat")


def _cells(found: Diagnosis) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table; columns that nothing fills are left out."""
    groups = fold_rows(found.layers)
    columns = [(h, get) for h, get in _COLUMNS if any(math.isfinite(get(x)) for x in found.layers)]
    heads = ["layer", "kind", *(head for head, _ in columns), "then"]
    body = []
    for group in groups:
        name = group[0].name if len(group) == 1 else f"{group[0].name} .. {group[-1].name}"
        cells = [_short(name, _NAME), _kind(group[0])]
        for head, get in columns:
            values = [v for x in group if not math.isnan(v := get(x))]
            cells.append(_range(values, head))
        body.append([*cells, _short(group[0].activation, 12)])
    return heads, body


def _table(found: Diagnosis) -> list[str]:
    heads, body = _cells(found)
    while True:
        widths = [max(len(row[k]) for row in (heads, *body)) for k in range(len(heads))]
        if sum(widths) + 2 * (len(widths) - 1) <= WIDTH or len(heads) < 5:
            break
        drop = next(
            (k for h in ("w grad", "then", "step", "mean", "rank", "kind") for k, x in enumerate(heads) if x == h), 3
        )
        heads, body = heads[:drop] + heads[drop + 1 :], [row[:drop] + row[drop + 1 :] for row in body]
    left = {k for k, head in enumerate(heads) if head in ("layer", "kind", "then")}
    return [
        "  ".join(
            cell.ljust(w) if k in left else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths))
        ).rstrip()
        for row in (heads, *body)
    ]


def fold_rows(layers: Sequence[LayerSignal]) -> list[list[LayerSignal]]:
    """Neighbours of one kind, shape and function as one row, alike in size first, until the table fits."""
    groups = [[x] for x in layers]
    for factor in (1.5, 3.0, 10.0, 100.0, math.inf):
        if len(groups) <= _ROWS:
            return groups
        merged = [groups[0]]
        for group in groups[1:]:
            if _alike(merged[-1][0], group[-1], factor):
                merged[-1] = merged[-1] + group
            else:
                merged.append(group)
        groups = merged
    while len(groups) > _ROWS:  # blocks that repeat: neighbours two by two
        groups = [[x for group in groups[k : k + 2] for x in group] for k in range(0, len(groups), 2)]
    return groups


def _alike(a: LayerSignal, b: LayerSignal, factor: float) -> bool:
    def near(x: float, y: float) -> bool:
        if math.isnan(x) or math.isnan(y) or math.isinf(factor):
            return True
        return x == y or (x > 0 and y > 0 and 1 / factor <= x / y <= factor)

    same = (a.kind, a.activation, a.shape[1:]) == (b.kind, b.activation, b.shape[1:])
    return same and near(a.rms, b.rms) and near(a.gradient, b.gradient)


def _range(values: Sequence[float], head: str) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    one = _figure(low, head)
    if len(values) == 1 or one == _figure(high, head):
        return one
    middle = sorted(values)[len(values) // 2]
    return f"{one}..{_figure(high, head)}" if len(one) < 5 else _figure(middle, head)


def _figure(value: float, head: str) -> str:
    if math.isinf(value):
        return "inf"
    if head in _SHARES:
        return f"{value:.0%}"
    if head == "cosine":
        return f"{value:.2f}" if abs(value) < 0.99 else f"{value:.4f}"
    if head == "rank":
        return f"{value:.1f}"
    text = f"{value:.2g}"
    return text.replace("e-0", "e-").replace("e+0", "e")


def _kind(layer: LayerSignal) -> str:
    return {"conv_transpose": "conv^T", "embedding": "embed", "recurrent": "rnn"}.get(layer.kind, layer.kind)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}..{text[len(text) - (most - most // 2 - 1) :]}"


def _folded_attention(rows: Sequence[AttentionSignal]) -> list[str]:
    if not rows:
        return []
    entropy = sorted(a.entropy for a in rows)
    scores = sorted(a.logit_std for a in rows)
    names = rows[0].name if len(rows) == 1 else f"{rows[0].name} .. {rows[-1].name}"

    def both(values: list[float]) -> str:
        return f"{values[0]:.2g}" if len(values) == 1 else f"{values[0]:.2g} to {values[-1]:.2g}"

    return [
        f"attention ({names}): entropy {both(entropy)} of its most, scores deviate by {both(scores)} (few places from "
        f"{min(a.condensed for a in rows):.2g} on)"
    ]
