"""A chain as text: the product in one line, a row a link, and what the checks found."""

from __future__ import annotations

import io
import math
from html import escape
from typing import TYPE_CHECKING

from eitherway.calculus.chain_rule.links import Link, paths_between, ratio

if TYPE_CHECKING:
    from eitherway.calculus.chain_rule.door import ChainRule

ROWS = 60
"""Rows up to which all are printed."""
ENDS = 8
"""Rows kept at both ends of a longer table, besides those that something is said of."""
FACTORS = 6
"""Factors up to which the product is written out above the table."""
_HEADS = ("", "factor", "from", "formula", "structure", "shape", "singular values")


def text(table: ChainRule) -> str:
    """The product, the table and the verdict, as plain text."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=False)
    for head in (*_HEADS, *_products(table), "checks"):
        right = head in ("", "shape", *_products(table))
        grid.add_column(head, justify="right" if right else "left", no_wrap=True)
    for row in _rows(table):
        grid.add_row(*(Text(cell) for cell in row))
    grid.add_section()
    grid.add_row(*(Text(cell) for cell in _last_row(table)))
    out = io.StringIO()
    Console(file=out, width=400, color_system=None, legacy_windows=False).print(grid)
    lines = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
    return "\n".join([*product_lines(table), "", *(lines if table.links else []), *verdict(table)]).strip()


def html(table: ChainRule) -> str:
    """The same for notebooks."""
    heads = "".join(f"<th>{escape(head)}</th>" for head in (*_HEADS, *_products(table), "checks"))
    body = ""
    for row in [*_rows(table), *([_last_row(table)] if table.links else [])]:
        bad = ' style="color:#d55e00"' if row[-1].startswith(("wrong", "dead", "cut", "NaN", "inf", "breaks")) else ""
        cells = "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row)
        body += f"<tr{bad}>{cells}</tr>"
    lines = "<br>".join(escape(line) for line in product_lines(table))
    said = "".join(f"<li>{escape(line)}</li>" for line in verdict(table))
    return f"<p><code>{lines}</code></p><table><thead><tr>{heads}</tr></thead>{body}</table><ul>{said}</ul>"


def product_lines(table: ChainRule) -> list[str]:
    """dC/dw = dC/dG dG/dw, with numbers below where all are scalars; only the name where there are many factors."""
    if not table.links:
        return [f"{table.name} = 0"]
    paths = _paths(table)
    if paths is None:
        layers = f"{len(table.links)} links" if len(table.links) < len(table.every) else f"{len(table.every)} factors"
        return [f"{table.name}, a product of {layers}, {table.shape[0]} x {table.shape[1]}"]
    names = " + ".join(" · ".join(link.name for link in reversed(path)) for path in paths)
    numbers, total = "", ""
    if all(link.shape == (1, 1) for link in table.every):
        values = [[f"{float(link.jacobian):.4g}" for link in reversed(path)] for path in paths]
        numbers = " + ".join(" · ".join(f"({v})" if v[0] == "-" and k else v for k, v in enumerate(p)) for p in values)
        total = f"{float(table.derivative.reshape(())):.6g}"
    shapes = " + ".join(" · ".join(f"[{k.shape[0]} x {k.shape[1]}]" for k in reversed(p)) for p in paths)
    pad = " " * len(table.name)
    lines = [f"{table.name} = {names}"] if names != table.name else []
    if numbers:
        lone = len(table.every) == 1
        lines.append(f"{pad if lines else table.name} = {total if lone else f'{numbers} = {total}'}")
    else:
        lines.append(f"{pad if lines else table.name} = {shapes}")
    return lines


def _paths(table: ChainRule) -> list[list[Link]] | None:
    """All paths from w to C, where they are few enough to be written out."""
    if len(table.every) > 3 * FACTORS:
        return None
    paths = paths_between(table.every, table.links[0].read, table.links[-1].made)
    few = len(paths) <= 3 and sum(map(len, paths)) <= 2 * FACTORS and max(map(len, paths)) <= FACTORS
    return paths if few else None


def _products(table: ChainRule) -> tuple[str, str]:
    return f"|{ratio('z', table.source)}|", f"|{ratio(table.output, 'z')}|"


def _rows(table: ChainRule) -> list[list[str]]:
    """Cells of each row, branches below their sum, the middle of long tables left out."""
    rows: list[tuple[list[str], bool]] = []
    for k, link in enumerate(table.links):
        marked = {end for s in table.stretches for end in (s.first, s.last - 1)}
        rows.append((_cells(f"{k + 1}", link, table), k in marked or _told(link)))
        rows += [(_cells("", part, table, inner=True), _told(part)) for part in link.parts]
    if len(rows) <= ROWS:
        return [cells for cells, _ in rows]
    shown: list[list[str]] = []
    left = 0
    for k, (cells, kept) in enumerate(rows):
        if kept or k < ENDS or k >= len(rows) - ENDS:
            if left:
                shown.append(["", f"... {left} more", *[""] * (len(cells) - 2)])
            shown.append(cells)
            left = 0
        else:
            left += 1
    return shown


def _told(link: Link) -> bool:
    return bool(link.wrong or link.dead or link.broken) and not link.parts


def _cells(number: str, link: Link, table: ChainRule, *, inner: bool = False) -> list[str]:
    place = ", ".join(part for part in (link.operation, link.place) if part)
    return [
        number,
        f"  {link.name}" if inner else link.name,
        place,
        link.formula,
        link.structure,
        f"{link.shape[0]} x {link.shape[1]}",
        _spread(link),
        *_sizes(table, link.forward, link.backward),
        _checks(link),
    ]


def _last_row(table: ChainRule) -> list[str]:
    """The whole derivative: for a weight that one row of inputs meets it is an outer product."""
    if not table.links:
        return [""] * (len(_HEADS) + 3)
    first, p = table.links[0], table.shape[0]
    outer = first.structure == "outer product" and p == 1
    delta = ratio(table.output, first.name.partition("/")[0][1:])
    formula = f"({delta})^T x^T" if outer else ""
    structure = "outer product" if outer else ""
    sizes = ["", _sizes(table, 0.0, first.backward)[1]]
    cells = ["", table.name, "", formula, structure, f"{p} x {table.shape[1]}", "", *sizes]
    return [*cells, f"{_error(table.autograd)} / {_error(table.differences)}"]


def _sizes(table: ChainRule, forward: float, backward: float) -> list[str]:
    return [f"{'~' if about else ''}{s:.3g}" for s, about in zip((forward, backward), table.estimated)]


def _spread(link: Link) -> str:
    largest, smallest = link.largest, link.smallest
    if smallest is None:
        return f"up to {largest:.3g}" if math.isfinite(largest) else f"{largest:.3g}"
    smallest = 0.0 if smallest < 1e-14 * largest else smallest
    return f"{largest:.3g}" if f"{largest:.3g}" == f"{smallest:.3g}" else f"{smallest:.3g} to {largest:.3g}"


def _checks(link: Link) -> str:
    if any(part.wrong for part in link.parts):
        return "wrong inside"
    if link.wrong:
        return f"wrong at ({link.wrong.row}, {link.wrong.column})"
    if link.broken:
        return f"breaks: {link.broken}"
    if link.structure == "cut":
        return "cut"
    if link.dead:
        return "dead"
    if link.kink:
        return "at a kink"
    if link.autograd is None and link.differences is None:
        return ""
    return f"{_error(link.autograd)} / {_error(link.differences)}"


def _error(error: float | None) -> str:
    """Relative errors in one digit; a dash where there is nothing to compare."""
    if error is None or math.isnan(error):
        return "-"
    return "0" if error == 0 else f"{error:.0e}"


def verdict(table: ChainRule) -> list[str]:
    """What the checks and the products come to, a sentence a line."""
    lines = []
    for link in table.wrong:
        lines.append(f"wrong: {link.label}: {link.wrong}")
    for link in table.broken:
        lines.append(f"broken: {link.label} {link.broken}")
    for link in table.dead:
        lines.append(f"{'cut' if link.structure == 'cut' else 'dead'}: {link.label}: {link.dead}")
    if any(link.structure == "cut" for link in table.dead) and table.differences > 1e-3:
        lines.append(
            f"so autograd's derivative is not that of the values: differences are off by {table.differences:.0%}"
        )
    if table.altered is not None:
        lines.append(
            f"altered: in the run itself autograd gives another {ratio(table.output, 'z')} from {table.altered.label} "
            "back: a hook, a backward that writes into its gradient, or a state changes it"
        )
    for stretch in table.stretches:
        lines.append(f"{'vanishing' if stretch.vanishes else 'exploding'}: {stretch.text}")
    if table.links and table.right:
        agree = f"autograd agrees to {_error(table.autograd)}, differences to {_error(table.differences)}"
        lines.append(f"checked: {len(table.every)} factor{'s' * (len(table.every) > 1)}; {agree} (relative)")
    return [*lines, *(f"note: {note}" for note in table.notes), *_parameter_lines(table)]


def _parameter_lines(table: ChainRule) -> list[str]:
    width = max(map(len, table.parameters), default=0)
    sizes = table.parameters.items()
    return [f"|{ratio(table.output, name)}|{' ' * (width - len(name))}  {size:.3g}" for name, size in sizes]
