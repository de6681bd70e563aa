"""What a gradient check found: which entries are wrong, by how much, and what else to know."""

from __future__ import annotations

import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from eitherway.base.errors import CostError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table


@dataclass(frozen=True)
class Blame:
    """One wrong entry of a gradient.

    Args:
        output: the output, such as `y[3]`.
        leaf: the input or parameter, such as `2.weight`.
        where: the entry of it, such as `2.weight[1, 0]`.
        autograd: what the gradient says.
        differences: what the values say.
        error: the bar of that.
        hint: what usually does this, or nothing.
        source: who said it: `autograd`, or `the given gradient`.
    """

    output: str
    leaf: str
    where: str
    autograd: float
    differences: float
    error: float
    hint: str = ""
    source: str = "autograd"

    @property
    def relative(self) -> float:
        """The gap, relative to the larger of the two."""
        size = max(abs(self.autograd), abs(self.differences))
        return abs(self.autograd - self.differences) / size if size else 0.0

    def __str__(self) -> str:
        from eitherway.calculus.differences.estimate import with_bar

        said = f"{self.autograd:.6g}" if self.autograd else "0.00"
        return (
            f"output {self.output} with respect to {self.where}: {self.source} says {said}, "
            f"differences say {with_bar(self.differences, self.error)} (relative error {self.relative:.2g})"
            + (f"; {self.hint}" if self.hint else "")
        )


@dataclass(frozen=True)
class Checked:
    """One input or parameter: how it was looked at, and what came of it.

    Args:
        name: of the input or parameter.
        shape: its shape.
        how: `each entry`, or so many random directions.
        worst: the largest relative error met.
        wrong: entries found wrong; at least so many where directions were used.
    """

    name: str
    shape: tuple[int, ...]
    how: str
    worst: float
    wrong: int


@dataclass(frozen=True)
class GradientCheck:
    """The gradient held against differences.

    Args:
        ok: whether nothing is wrong.
        blames: wrong entries, the worst first.
        problems: what is wrong beyond single entries; sentences.
        warnings: what is not wrong but worth knowing: kinks, steps, randomness, skipped inputs; sentences.
        checked: a row for each input and parameter.
        points: (N, 4) what was compared: gradient, differences, bar, and 1 where blamed.
        precision: the dtype of the check.
        evaluations: calls of f.
    """

    ok: bool
    blames: tuple[Blame, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    checked: tuple[Checked, ...]
    points: np.ndarray
    precision: str
    evaluations: int

    def raise_if_wrong(self) -> None:
        """Nothing, if the gradient is right.

        Raises:
            CostError: the worst entries and problems, otherwise.
        """
        if self.ok:
            return
        lines = [*self.problems, *map(str, self.blames[:5])]
        more = f"\n... and {len(self.blames) - 5} more" if len(self.blames) > 5 else ""
        raise CostError("the gradient is wrong:\n" + "\n".join(lines) + more)

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=110, color_system=None).print(self._table())
        return "\n".join([self._verdict(), out.getvalue().rstrip(), *self._sentences()])

    def __rich__(self) -> Table:
        return self._table()

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in _cells(row)) + "</tr>" for row in self.checked)
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in self._sentences())
        return f"<p>{escape(self._verdict())}</p><table><tr>{head}</tr>{rows}</table><ul>{sentences}</ul>"

    def plot(self, axes: Axes | None = None) -> Axes:
        """The gradient against differences, entry by entry, with bars; blamed entries are marked."""
        from matplotlib.ticker import SymmetricalLogLocator

        from eitherway.base.style import BAD, BEST, FAINT, figure, must_be_axes, style

        if axes is not None:
            must_be_axes(axes)
        with style():
            axes = figure(4.6, 4.4).add_subplot() if axes is None else axes
            rows = self.points[np.isfinite(self.points[:, :3]).all(axis=1)]
            right, wrong = rows[rows[:, 3] == 0], rows[rows[:, 3] == 1]
            size = np.abs(rows[:, :2])
            least = max(1e-12, 1e-9 * size.max(initial=0.0), np.quantile(size[size > 0], 0.02) if size.any() else 1.0)
            axes.set_xscale("symlog", linthresh=least)
            axes.set_yscale("symlog", linthresh=least)
            ends = [-size.max(initial=least), size.max(initial=least)]
            axes.plot(ends, ends, color=FAINT, linewidth=0.8)
            axes.errorbar(right[:, 1], right[:, 0], xerr=right[:, 2], fmt="o", color=BEST, markersize=3, linewidth=0.6)
            axes.errorbar(wrong[:, 1], wrong[:, 0], xerr=wrong[:, 2], fmt="x", color=BAD, markersize=7, linewidth=0.6)
            for blame in self.blames[:3]:
                axes.annotate(
                    blame.where, (blame.differences, blame.autograd), (6, -9), textcoords="offset points", fontsize=8,
                    color=BAD,
                )  # fmt: skip
            for axis in (axes.xaxis, axes.yaxis):
                ticks = SymmetricalLogLocator(base=10, linthresh=least, subs=[1.0])
                ticks.set_params(numticks=5)
                axis.set_major_locator(ticks)
            axes.set(xlabel="differences", ylabel=self.blames[0].source if self.blames else "autograd")
            axes.set_title(self._headline())
        return axes

    def _headline(self) -> str:
        """The title of the picture."""
        if self.ok or not self.blames:
            return "The gradient is right" if self.ok else "The gradient is wrong"
        return "1 entry is wrong" if len(self.blames) == 1 else f"{len(self.blames)} entries are wrong"

    def _verdict(self) -> str:
        entries = sum(int(np.prod(row.shape)) for row in self.checked)
        verdict = "the gradient is right" if self.ok else "the gradient is wrong"
        noun = "entry" if entries == 1 else "entries"
        return f"{verdict}: {entries} {noun} in {self.precision}, {self.evaluations} evaluations"

    def _sentences(self) -> list[str]:
        shown = [f"wrong: {text}" for text in (*self.problems, *self.blames[:10])]
        shown += [f"... and {len(self.blames) - 10} more wrong entries"] if len(self.blames) > 10 else []
        return [*shown, *(f"note: {text}" for text in self.warnings)]

    def _table(self) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in _COLUMNS:
            table.add_column(name, justify="right" if name in _COLUMNS[3:] else "left")
        for row in self.checked:
            table.add_row(*_cells(row))
        return table


_COLUMNS = ("with respect to", "shape", "looked at", "largest relative error", "wrong")


def _cells(row: Checked) -> tuple[str, ...]:
    atleast = "at least " if row.wrong and row.how != "each entry" else ""
    return row.name, str(row.shape), row.how, f"{row.worst:.1e}", f"{atleast}{row.wrong}"
