"""A plan as a flat list of closures on registers: nothing is looked up, chosen or looped over samples when it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.chain.algebra import Form, Tree
from eitherway.calculus.chain.factors import Factor, Kind, Registers

Step = Callable[[Registers], None]


class Program:
    """Steps that fill registers, the first of them the values of a graph.

    Args:
        registers: what stands in them before a run: tensors from outside; None elsewhere.
        source: the register of the input.
        batched: whether there is a batch axis.
    """

    def __init__(self, registers: Registers, source: int, batched: bool):
        self.registers = registers
        self.source = source
        self.batched = batched
        self.steps: list[
            tuple[Callable[[Registers], Any], Callable[[Registers], Any] | None, int, tuple[int, ...], int]
        ]
        self.steps = []  # (call, the same in place of its first argument, register, registers read, first of them)
        self.fresh: set[int] = set()
        self.leaves: dict[int, int] = {}
        self.trees: dict[int, int] = {}

    def copy(self) -> Program:
        """The same so far, to go on with in two ways."""
        made = Program(list(self.registers), self.source, self.batched)
        made.steps, made.fresh = list(self.steps), set(self.fresh)
        made.leaves, made.trees = dict(self.leaves), dict(self.trees)
        return made

    def add(
        self,
        call: Callable[[Registers], Any],
        reads: Sequence[int],
        *,
        fresh: bool = False,
        register: int | None = None,
        inplace: Callable[[Registers], Any] | None = None,
    ) -> int:
        """A step whose answer goes to a new register.

        Args:
            reads: registers it reads: they are emptied after the last step that does.
            fresh: the answer's memory is nobody else's.
            inplace: the same, written into its first register, for when nobody else needs that.
        """
        if register is None:
            register = len(self.registers)
            self.registers.append(None)
        if fresh:
            self.fresh.add(register)
        self.steps.append((call, inplace, register, tuple(reads), reads[0] if reads else -1))
        return register

    def compile(self, keep: Sequence[int]) -> Callable[[Tensor], Registers]:
        """A function of the input that runs all steps and returns the registers: outside ones and `keep` are full."""
        last: dict[int, int] = {}
        for at, (_, _, register, reads, _) in enumerate(self.steps):
            for i in (*reads, register):
                last[i] = at
        outside = {i for i, content in enumerate(self.registers) if content is not None} | {self.source, *keep}
        steps: list[tuple[Callable[[Registers], Any], int, tuple[int, ...]]] = []
        for at, (call, inplace, register, reads, first) in enumerate(self.steps):
            dead = tuple(i for i in dict.fromkeys((*reads, register)) if last[i] == at and i not in outside)
            if inplace is not None and first in self.fresh and first in dead and reads.count(first) == 1:
                call = inplace
            steps.append((call, register, tuple(i for i in dead)))
        template, source = self.registers, self.source

        def run(x: Tensor) -> Registers:
            r = template.copy()
            r[source] = x
            for call, register, dead in steps:
                r[register] = call(r)
                for i in dead:
                    r[i] = None
            return r

        return run

    # local Jacobians and their products ----------------------------------------------------------------------------

    def content(self, factor: Factor) -> int:
        """The register of a factor's content."""
        found = self.leaves.get(id(factor))
        if found is None:
            if factor.parts:
                places = tuple(self.tree(part) for part in factor.parts)
                found = self.add(lambda r: tuple(r[i] for i in places), places)
            else:
                found = self.add(factor.make, factor.reads)
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
        owned = i in self.fresh

        def finish(r: Registers) -> Tensor:
            t = r[i]
            if batched and t.dim() == 2:
                return t.expand(len(r[source]), *t.shape).clone(memory_format=torch.contiguous_format)
            return t if owned else t.clone(memory_format=torch.contiguous_format)

        return self.add(finish, (i, source), fresh=True)


def pull_blocks(rows: Tensor, blocked: Tensor, blocks: int, batched: bool) -> Tensor:
    """rows (b?, k, blocks * m) times a block-diagonal matrix, (m, n) for all blocks or (b * blocks, m, n)."""
    m, n = blocked.shape[-2:]
    cut = rows.unflatten(-1, (blocks, m))
    if blocked.dim() == 2:
        return torch.matmul(cut, blocked).flatten(-2)
    if batched:
        blocked = blocked.reshape(-1, blocks, m, n)
    return torch.matmul(cut.transpose(-2, -3), blocked).transpose(-2, -3).flatten(-2)


def through(tree: Tree, content: Any, stack: Tensor, back: bool, batched: bool) -> Tensor:
    """`applied` for a product that has been carried out, too."""
    if tree.factor is not None:
        return applied(tree.factor, content, stack, back, batched)
    if tree.form.kind == Kind.DIAGONAL:
        return stack * content
    matrix = content if back else content.mT
    if tree.form.blocks > 1:
        return pull_blocks(stack, matrix, tree.form.blocks, batched)
    return torch.matmul(stack, matrix)


def applied(factor: Factor, content: Any, stack: Tensor, back: bool, batched: bool) -> Tensor:
    """A stack of covectors pulled back through one factor, or of vectors pushed forward: (b?, k, m) <-> (b?, k, n)."""
    if factor.kind == Kind.IDENTITY:
        return stack
    if factor.kind == Kind.DIAGONAL:
        return stack * content
    if factor.kind == Kind.MATRIX:
        matrix = content if back else content.mT
        if factor.blocks == 1:
            return torch.matmul(stack, matrix)
        return pull_blocks(stack, matrix, factor.blocks, batched)
    return factor.whole(content, stack, back)
