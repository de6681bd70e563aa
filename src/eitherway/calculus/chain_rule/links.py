"""The links of a chain: one factor for each value that an operation reads, and products along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.chain_rule import formulas_dense, formulas_moves  # noqa: F401 - they file their formulas
from eitherway.calculus.chain_rule.formulas import Answer, factor
from eitherway.calculus.chain_rule.local import Differentiated, Local, Nothing, Together, add
from eitherway.calculus.chain_rule.program import Program, Step

LONG = 44
"""Characters of a formula that names the links along all paths; a longer one is not read."""
DENSE = 2**26
"""Elements up to which a Jacobian is written out when asked for: 512 MB in float64."""


@dataclass
class Wrong:
    """One entry of a local Jacobian that differences contradict.

    Args:
        row, column: place in the p x q matrix.
        backward: what the operation's backward says.
        truth: what differences of its values say.
        rule: backward, or jvp where the forward rule is the wrong one.
    """

    row: int
    column: int
    backward: float
    truth: float
    rule: str = "backward"

    def __str__(self) -> str:
        says = f"{self.rule} says {self.backward:.6g}, differences say {self.truth:.6g}"
        return f"entry ({self.row}, {self.column}): {says}"


@dataclass(eq=False)
class Link:
    """One factor of the chain: the derivative of what an operation makes with respect to one thing that it reads.

    Args:
        name: `dz3/dz2`.
        operation: `tanh`.
        place: module path with class, and the user's line, as far as known.
        formula: the factor as textbooks write it.
        structure: diagonal, dense, gather, ...
        local: the factor itself.
        read, made: indices of the two values.
        parts: for a block of branches, its links; else empty.
        step: the operation that can be run again; None for a block.
    """

    name: str
    operation: str
    place: str
    formula: str
    structure: str
    local: Local
    read: int
    made: int
    parts: list[Link] = field(default_factory=list)
    step: Step | None = None
    module: str = ""
    forward: float = float("nan")
    """|dz/dx| of what the link makes: the product of all factors up to this one (Frobenius norm)."""
    backward: float = float("nan")
    """|dC/dz| of what it reads: the product of this factor and all after it."""
    autograd: float | None = None
    """Largest relative disagreement of the formula with autograd's backward; None where the factor is autograd's."""
    differences: float | None = None
    """Largest relative disagreement with central differences along random directions."""
    wrong: Wrong | None = None
    dead: str = ""
    """Why nothing passes, if nothing does."""
    broken: str = ""
    """NaN or infinity that begins here."""
    kink: bool = False
    """The operation has no derivative here: it differs from the left and from the right."""

    @property
    def shape(self) -> tuple[int, int]:
        """p x q."""
        return self.local.p, self.local.q

    @property
    def jacobian(self) -> Tensor:
        """The factor written out, (p, q); computed when asked for.

        Raises:
            ModelError: if it does not fit; `push` and `pull` multiply it unwritten.
        """
        must_fit(self.name, self.shape, "link")
        return self.local.dense

    def push(self, v: Tensor) -> Tensor:
        """J v for one v of the input's shape."""
        return self.local.push(v[None])[0]

    def pull(self, u: Tensor) -> Tensor:
        """J^T u for one u of the output's shape."""
        return self.local.pull(u[None])[0]

    @property
    def largest(self) -> float:
        """The largest singular value."""
        return self.local.spread[0]

    @property
    def smallest(self) -> float | None:
        """The smallest of the min(p, q) singular values; None where it was not computed."""
        return self.local.spread[1]

    @property
    def label(self) -> str:
        return ", ".join(part for part in (self.name, self.operation, self.place) if part)


def must_fit(name: str, shape: tuple[int, int], owner: str) -> None:
    """Refuses to write out a derivative of more than `DENSE` entries.

    Args:
        owner: what has `push` and `pull` for it.

    Raises:
        ModelError: saying how large it is, and what to do instead.
    """
    p, q = shape
    if p * q > DENSE:
        raise ModelError(
            f"{name} has {p} x {q} = {p * q:.3g} entries, too many to write out; {owner}.push(v) and "
            f"{owner}.pull(u) multiply with it as it is"
        )


def edges(program: Program, sources: set[int], output: int) -> list[tuple[Step, int, int]]:
    """(step, value read, value made) for everything through which the output follows the sources, in order.

    Cuts (detach, no_grad, casts to whole numbers) are among them; comparisons and indices are not.
    """
    steps = program.between(sources, output)
    live, found = set(sources), []
    for step in steps:
        made = [i for i in step.makes if _carries(program, step, i)]
        new = [(step, a, b) for a in step.reads if a in live for b in made]
        found += new
        live.update(b for _, _, b in new)
    needed, kept = {output}, []
    for step, a, b in reversed(found):
        if b in needed:
            kept.append((step, a, b))
            needed.add(a)
    return kept[::-1]


def _carries(program: Program, step: Step, made: int) -> bool:
    """Whether a value can be part of a chain: a number, or what a number was cast to."""
    if program.env[made].is_floating_point():
        return True
    kinds = [program.env[i].dtype for i in step.reads]
    whole = program.env[made].dtype != torch.bool and not program.env[made].is_complex()
    return whole and (step.whole_numbers or not any(kind.is_floating_point for kind in kinds))


def make_link(program: Program, step: Step, read: int, made: int, names: dict[int, str]) -> Link:
    """The link of one edge, with its formula, or else with autograd's factor."""
    op, env = step.op, program.env
    place = ", ".join(part for part in (f"{op.module} ({op.module_class})" if op.module else "", op.where) if part)
    name = ratio(names[made], names[read])
    smooth = env[read].is_floating_point() and env[made].is_floating_point()
    dead = ""
    if step.cut or not smooth:
        local = Nothing(
            env[made].shape, env[read].shape, env[read] if env[read].is_floating_point() else torch.ones(())
        )
        formula, structure = "0", "cut"
        alone = op.name.strip("._") in ("detach", "data")
        dead = f"{op.name} lets no gradient pass" if alone else "it runs under no_grad, so no gradient passes"
        if not step.cut:
            kind = str(env[made].dtype).removeprefix("torch.")
            dead = (
                f"{op.name} makes whole numbers ({kind}), which have no slope" if env[read].is_floating_point() else ""
            )
    else:
        found = None if len(step.ops) > 1 else _formula(program, step, read, made)
        if found is None:
            local = Differentiated(program.alone(step, read, made), env[read])
            formula, structure = f"vjp of {step.name}", "dense"
        else:
            local, formula, structure = found
    return Link(name, step.name, place, formula, structure, local, read, made, step=step, module=op.module, dead=dead)


def ratio(made: str, read: str) -> str:
    """The name of a derivative; dotted names in brackets.

    >>> ratio("z1", "0.weight")
    'dz1/d(0.weight)'
    """
    return "/".join(f"d({name})" if "." in name else f"d{name}" for name in (made, read))


def _formula(program: Program, step: Step, read: int, made: int) -> Answer | None:
    try:
        return factor(step.op, program.env, read, made, program.alone(step, read, made))
    except (RuntimeError, TypeError, IndexError, AttributeError, ValueError, KeyError):
        return None  # unusual arguments: autograd knows them


def spine(links: Sequence[Link], nodes: Sequence[int], names: dict[int, str]) -> list[Link]:
    """One row for each pair of neighbouring values that every path goes through; branches between them are summed.

    Args:
        links: all of them, in order.
        nodes: values in the order of computation, the source first, the output last.
    """
    place = {index: k for k, index in enumerate(nodes)}
    spanned = [0] * (len(nodes) + 1)
    for link in links:
        spanned[place[link.read] + 1] += 1
        spanned[place[link.made]] -= 1
    open_paths, cuts = 0, []
    for k, index in enumerate(nodes):
        open_paths += spanned[k]
        if open_paths == 0:
            cuts.append(index)
    rows, at = [], 0
    for start, end in zip(cuts, cuts[1:]):
        block = []
        while at < len(links) and place[links[at].made] <= place[end]:
            block.append(links[at])
            at += 1
        rows.append(block[0] if len(block) == 1 else _block(block, start, end, names))
    return rows


def _block(block: list[Link], start: int, end: int, names: dict[int, str]) -> Link:
    local = Together([(link.read, link.made, link.local) for link in block], start, end)
    paths = {start: 1}
    for link in block:
        paths[link.made] = paths.get(link.made, 0) + paths.get(link.read, 0)
    modules = list(dict.fromkeys(link.module for link in block if link.module))
    shared = modules[0] if len(modules) == 1 else _common(modules)
    where = block[-1].place.rpartition(", ")[2] if ":" in block[-1].place else ""
    few = paths[end] <= 4 and len(block) <= 12
    formula = path_formula(block, start, end) if few else ""
    formula = formula if few and len(formula) <= LONG else f"{paths[end]:.4g} paths, summed"
    return Link(
        ratio(names[end], names[start]),
        "branches" if paths[end] > 1 else "parts",
        ", ".join(part for part in (shared, where) if part),
        formula,
        "sum of branches",
        local,
        start,
        end,
        parts=block,
        module=shared,
    )


def _common(modules: list[str]) -> str:
    """The longest dotted path that all begin with."""
    parts = [m.split(".") for m in modules]
    same = []
    for level in zip(*parts):
        if len(set(level)) > 1:
            break
        same.append(level[0])
    return ".".join(same)


def paths_between(links: Sequence[Link], start: int, end: int) -> list[list[Link]]:
    """All paths, each as its links in the order of computation."""
    if start == end:
        return [[]]
    return [[*before, link] for link in links if link.made == end for before in paths_between(links, start, link.read)]


def path_formula(links: Sequence[Link], start: int, end: int) -> str:
    """dC/da da/dw + dC/db db/dw."""
    return " + ".join(" ".join(link.name for link in reversed(path)) for path in paths_between(links, start, end))


def push_through(links: Sequence[Link], start: int, v: Tensor) -> dict[int, Tensor]:
    """Products from the right end of the formula on: for each value its derivative times v, (K, *shape)."""
    found = {start: v}
    for link in links:
        if link.read in found:
            add(found, link.made, link.local.push(found[link.read]))
    return found


def pull_through(links: Sequence[Link], end: int, u: Tensor) -> dict[int, Tensor]:
    """Products from the left: for each value the output's derivative with respect to it, transposed, times u."""
    found = {end: u}
    for link in reversed(links):
        if link.made in found:
            add(found, link.read, link.local.pull(found[link.made]))
    return found
