"""A plan as a flat list of closures on registers: nothing is looked up, chosen or looped over samples when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.chain.algebra import Form, Tree
from eitherway.calculus.chain.factors import CALL, Factor, Kind, Registers
from eitherway.calculus.chain.kept import Kept, Steps, comparable, run
from eitherway.calculus.chain.stacks import pull_blocks
from eitherway.calculus.cost import TOUCH

Call = Callable[[Registers], Any]


@dataclass(eq=False, slots=True)
class Step:
    """A call whose answer goes to a register."""

    call: Call
    inplace: Call | None
    """The same in place of the first register it reads."""
    register: int
    reads: tuple[int, ...]
    always: bool
    """It is called for what it refuses, though nobody reads its answer."""


class Program:
    """Steps that fill registers, the first of them the values of a graph.

    Args:
        registers: what stands in them before a run: tensors from outside; None elsewhere.
        source: the register of the input.
        samples: 0 without a batch axis.
    """

    def __init__(self, registers: Registers, source: int, samples: int):
        self.registers = registers
        self.source = source
        self.samples, self.batched = samples, samples > 0
        self.outside = {i for i, content in enumerate(registers) if content is not None}
        self.steps: dict[int, Step] = {}
        self.fresh: set[int] = set()
        self.leaves: dict[int, int] = {}
        self.trees: dict[int, int] = {}
        self.products: dict[int, Tree] = {}

    def add(
        self,
        call: Call,
        reads: Sequence[int],
        *,
        fresh: bool = False,
        register: int | None = None,
        inplace: Call | None = None,
        always: bool = False,
    ) -> int:
        """A step whose answer goes to a new register.

        Args:
            reads: registers it reads: they are emptied after the last step that does.
            fresh: the answer's memory is nobody else's.
            inplace: the same, written into its first register, for when nobody else needs that.
            always: it is called even if nobody reads its answer.
        """
        if register is None:
            register = len(self.registers)
            self.registers.append(None)
        if fresh:
            self.fresh.add(register)
        self.steps[register] = Step(call, inplace, register, tuple(reads), always)
        return register

    # compiling -----------------------------------------------------------------------------------------------------

    def compile(self, wanted: Sequence[int], kept: Kept | None = None) -> Callable[[Tensor], Registers]:
        """A function of the input that runs the steps `wanted` needs, and returns the registers; these ones are full.

        Args:
            kept: of `keeping`.
        """
        steps = self._schedule(self._with_refusals(wanted), kept.roots if kept is not None else ())
        template, source = self.registers, self.source

        def evaluate(x: Tensor) -> Registers:
            r = template.copy()
            r[source] = x
            if kept is not None:
                kept.fill(r)
            run(steps, r)
            return r

        return evaluate

    def _with_refusals(self, wanted: Sequence[int]) -> list[int]:
        return [*wanted, *(step.register for step in self.steps.values() if step.always)]

    def _behind(self, wanted: Iterable[int], given: Iterable[int] = ()) -> set[int]:
        """All registers that these are made of, themselves included; not what `given` ones are made of."""
        found, given, todo = set(), set(given), list(wanted)
        while todo:
            i = todo.pop()
            if i not in found:
                found.add(i)
                if i in self.steps and i not in given:
                    todo += self.steps[i].reads
        return found

    def _schedule(self, wanted: Iterable[int], given: Iterable[int] = ()) -> Steps:
        """The steps that make some registers of given ones, each with the registers that are done with after it."""
        wanted, given = set(wanted), set(given)
        needed = self._behind(wanted, given) - given
        steps = [step for step in self.steps.values() if step.register in needed]
        last = {i: at for at, step in enumerate(steps) for i in (*step.reads, step.register)}
        stays = self.outside | given | wanted | {self.source}
        made = []
        for at, step in enumerate(steps):
            dead = tuple(i for i in dict.fromkeys((*step.reads, step.register)) if last[i] == at and i not in stays)
            first, call = next(iter(step.reads), -1), step.call
            if step.inplace is not None and first in self.fresh and first in dead and step.reads.count(first) == 1:
                call = step.inplace
            made.append((call, step.register, dead))
        return made

    def keeping(self, wanted: Sequence[int], room: float) -> Kept | None:
        """Products of weights alone that take longer than it takes to see that the weights are what they were.

        Args:
            wanted: registers of a program to come.
            room: bytes that may be kept from call to call.
        """
        free = set(self.outside)
        for step in self.steps.values():
            if not step.always and free.issuperset(step.reads):
                free.add(step.register)
        roots: list[int] = []
        weights: set[int] = set()
        size, todo, seen = 0.0, self._with_refusals(wanted), set()
        while todo:
            i = todo.pop()
            if i in seen or i not in self.steps:
                continue
            seen.add(i)
            if i in free and i in self.products:
                tree, read = self.products[i], self._behind([i]) & self.outside
                more = [self.registers[j] for j in read - weights]
                itemsize = max((t.dtype.itemsize for t in more), default=0)
                needed = sum(t.nbytes for t in more) + itemsize * tree.form.entries(max(self.samples, 1))
                looking = sum(CALL + 2 * TOUCH * self.registers[j].numel() for j in read)
                if tree.seconds > looking and size + needed <= room and all(map(comparable, more)):
                    roots.append(i)
                    weights |= read
                    size += needed
                    continue
            todo += self.steps[i].reads
        return Kept(self._schedule(roots), roots, sorted(weights), size) if roots else None

    # local Jacobians and their products ----------------------------------------------------------------------------

    def content(self, factor: Factor) -> int:
        """The register of a factor's content."""
        found = self.leaves.get(id(factor))
        if found is None:
            if factor.parts:
                places = tuple(self.tree(part) for part in factor.parts)
                found = self.add(lambda r: tuple(r[i] for i in places), places)
            else:
                found = self.add(factor.make, factor.reads or ())
            self.leaves[id(factor)] = found
        return found

    def tree(self, tree: Tree) -> int:
        """The register of a product."""
        found = self.trees.get(id(tree))
        if found is not None:
            return found
        if tree.factor is not None:
            made = self.content(tree.factor)
        else:
            assert tree.left is not None and tree.right is not None
            left, right = self.tree(tree.left), self.tree(tree.right)
            made = self._node(tree.how, tree.left.form, left, tree.right.form, right)
            self.products[made] = tree
        self.trees[id(tree)] = made
        return made

    def _node(self, how: str, a: Form, left: int, c: Form, right: int) -> int:
        while ":" in how:
            step, _, how = how.partition(":")
            if step == "dense left":
                a, left = self.dense(a, left)
            elif step == "dense right":
                c, right = self.dense(c, right)
            elif step == "expand left":
                a, left = self.expand(a, left)
            else:
                c, right = self.expand(c, right)
        return self._way(how, a, left, c, right)

    def _way(self, how: str, a: Form, i: int, c: Form, j: int) -> int:
        """One product or sum of the registers i and j."""
        if how in ("diagonals", "add diagonals"):
            if how == "diagonals":
                return self.add(lambda r: r[i] * r[j], (i, j))
            return self.add(lambda r: r[i] + r[j], (i, j))
        if how == "join":
            return self.add(lambda r: torch.matmul(r[i], r[j]), (i, j), fresh=True)
        if how == "scale columns":
            return self._scale(a, i, c, j, rows=False)
        if how == "scale rows":
            return self._scale(c, j, a, i, rows=True)
        if how in ("pull", "pull whole"):
            assert c.factor is not None
            f, whole = c.factor, how == "pull whole"
            if whole or f.pull is None:
                return self.add(lambda r: f.whole(r[j], r[i], True), (i, j), fresh=not f.aliases)
            pull = f.pull
            return self.add(lambda r: pull(r[j], r[i]), (i, j), fresh=not f.aliases)
        if how in ("push", "push whole"):
            assert a.factor is not None
            f, whole = a.factor, how == "push whole"
            if whole or f.push is None:
                return self.add(lambda r: f.whole(r[i], r[j].mT, False).mT, (j, i), fresh=not f.aliases)
            push = f.push
            return self.add(lambda r: push(r[i], r[j].mT).mT, (j, i), fresh=not f.aliases)
        if how == "pull blocks":
            blocks = c.blocks
            return self.add(lambda r: pull_blocks(r[i], r[j], blocks, self.batched), (i, j), fresh=True)
        if how == "push blocks":
            blocks = a.blocks
            return self.add(lambda r: pull_blocks(r[j].mT, r[i].mT, blocks, self.batched).mT, (j, i), fresh=True)
        if how == "add":
            return self.add(lambda r: r[i] + r[j], (i, j), fresh=True)
        whole, d = ((a, i), (c, j)) if how == "add to left" else ((c, j), (a, i))
        return self._add_diagonal(*whole, *d)

    def _scale(self, whole: Form, i: int, d: Form, j: int, *, rows: bool) -> int:
        row = self._folded(d, j, whole.blocks)
        if d.scalar:
            return self.add(lambda r: r[i] * r[row], (i, row), fresh=True, inplace=lambda r: r[i].mul_(r[row]))
        grows = not whole.varying and (d.varying or whole.blocks > 1)
        k = self.add(lambda r: r[row][:, None] if r[row].dim() == 1 else r[row].mT, (row,)) if rows else row
        inplace = None if grows else lambda r: r[i].mul_(r[k])
        return self.add(lambda r: r[i] * r[k], (i, k), fresh=True, inplace=inplace)

    def _folded(self, d: Form, j: int, blocks: int) -> int:
        """A diagonal, whole, as one of blocks: (b * blocks, 1, n / blocks)."""
        if blocks == 1 or d.scalar or d.kind == Kind.IDENTITY:
            return j
        size, source, repeat = d.n // blocks, self.source, self.batched and not d.varying

        def fold(r: Registers) -> Tensor:
            cut = r[j].reshape(-1, 1, size)
            return cut.repeat(len(r[source]), 1, 1) if repeat else cut

        return self.add(fold, (j, source))

    def _add_diagonal(self, whole: Form, i: int, d: Form, j: int) -> int:
        k = self._folded(d, j, whole.blocks)
        scalar = d.scalar or d.kind == Kind.IDENTITY
        grows = not whole.varying and not scalar and (d.varying or whole.blocks > 1)

        def added(r: Registers, out: Tensor) -> Tensor:
            content = r[k]
            if isinstance(content, Tensor) and content.dim() == 3:
                content = content.squeeze(1)
            out.diagonal(dim1=-2, dim2=-1).add_(content)
            return out

        def call(r: Registers) -> Tensor:
            matrix = r[i]
            if grows and matrix.dim() == 2:
                matrix = matrix.expand(len(r[k]), *matrix.shape)
            return added(r, matrix.clone(memory_format=torch.contiguous_format))

        return self.add(call, (i, k), fresh=True, inplace=None if grows else lambda r: added(r, r[i]))

    def dense(self, form: Form, i: int) -> tuple[Form, int]:
        """An operator as a matrix."""
        assert form.dense is not None
        made, factor = form.dense[1], form.factor
        if form.tree is not None:
            return made, self.tree(form.tree)
        assert factor is not None
        key = -id(factor)
        if key not in self.leaves:
            self.leaves[key] = self._dense(factor, i)
        return made, self.leaves[key]

    def _dense(self, factor: Factor, i: int) -> int:
        if factor.dense is not None:
            quick = factor.dense
            return self.add(lambda r: quick(r[i]), (i,), fresh=True)
        blocks, source, batched = factor.blocks, self.source, self.batched
        m, n = factor.m // blocks, factor.n // blocks
        each = factor.varying or blocks > 1
        back = factor.pull_seconds(m, blocks) <= factor.push_seconds(n, blocks)

        def call(r: Registers) -> Tensor:
            x = r[source]
            unit = torch.eye(m if back else n, dtype=x.dtype, device=x.device)
            if each and (batched or blocks > 1):
                unit = unit.expand((len(x) if batched else 1) * blocks, *unit.shape)
            if back:
                assert factor.pull is not None
                return factor.pull(r[i], unit)
            assert factor.push is not None
            return factor.push(r[i], unit).mT

        return self.add(call, (i, source), fresh=not factor.aliases)

    def expand(self, form: Form, i: int) -> tuple[Form, int]:
        """A block-diagonal matrix with its zeros."""
        blocks, m, n = form.blocks, form.m // form.blocks, form.n // form.blocks
        varying, batched = form.varying, self.batched
        made = Form(Kind.MATRIX, form.m, form.n, 1, varying and batched)

        def call(r: Registers) -> Tensor:
            t = r[i]
            if not varying:
                out = t.new_zeros(blocks, m, blocks, n)
                out.diagonal(dim1=0, dim2=2).copy_(t[..., None].expand(m, n, blocks))
                return out.reshape(blocks * m, blocks * n)
            cut = t.reshape(-1, blocks, m, n)
            out = t.new_zeros(len(cut), blocks, m, blocks, n)
            out.diagonal(dim1=1, dim2=3).copy_(cut.permute(0, 2, 3, 1))
            out = out.reshape(len(cut), blocks * m, blocks * n)
            return out if batched else out[0]

        return made, self.add(call, (i,), fresh=True)

    def answer(self, tree: Tree) -> int:
        """The register of a tree as (b, p, q) or (p, q), all its own memory."""
        form, i = tree.form, self.tree(tree)
        source, batched, n = self.source, self.batched, tree.form.n
        if form.kind == Kind.OPERATOR:
            form, i = self.dense(form, i)
        if form.kind in (Kind.DIAGONAL, Kind.IDENTITY):

            def spread(r: Registers) -> Tensor:
                x, d = r[source], r[i]
                lead = (len(x),) if batched else ()
                out = x.new_zeros(*lead, n, n)
                if isinstance(d, Tensor) and d.dim() == 3:
                    d = d.squeeze(1)
                out.diagonal(dim1=-2, dim2=-1).add_(d)
                return out

            return self.add(spread, (i, source), fresh=True)
        if form.blocks > 1:
            form, i = self.expand(form, i)
        axes = 3 if batched else 2

        def own(r: Registers) -> Tensor:
            t = r[i] if r[i].dim() == axes else r[i].expand(len(r[source]), *r[i].shape)
            return t.clone(memory_format=torch.contiguous_format)

        return self.add(own, (i, source), fresh=True, inplace=lambda r: r[i] if r[i].dim() == axes else own(r))
