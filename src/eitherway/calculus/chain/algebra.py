"""Products and sums of local Jacobians as forms: what structure comes out, which way is cheapest, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass

from eitherway.calculus.chain.factors import CALL, Factor, Kind, composed
from eitherway.calculus.cost import GEMM, TOUCH

SEPARATE = 1.5
"""How many times longer a multiply-add takes in a product of one matrix a sample than in one large product."""


@dataclass(eq=False, slots=True)
class Form:
    """What is known of a local Jacobian, or of a product, before it exists: (m, n) for one sample."""

    kind: Kind
    m: int
    n: int
    blocks: int = 1
    varying: bool = False
    """Stored for each sample and block; else once for all."""
    scalar: bool = False
    factor: Factor | None = None
    """Of an OPERATOR."""
    dense: tuple[float, Form] | None = None
    """Seconds to make a matrix of an OPERATOR, and that matrix's form."""
    tree: Tree | None = None
    """Of an OPERATOR that is a block of several: how its matrix is made."""

    def entries(self, samples: int) -> float:
        """Numbers that it is stored in."""
        if self.kind == Kind.MATRIX:
            return self.m * self.n / self.blocks**2 * (samples * self.blocks if self.varying else 1)
        if self.kind == Kind.DIAGONAL:
            return 1 if self.scalar else self.n * (samples if self.varying else 1)
        return 0


def leaf(factor: Factor) -> Form:
    """The form of a local Jacobian by itself."""
    return Form(factor.kind, factor.m, factor.n, factor.blocks, factor.varying, factor.scalar, factor)


@dataclass(eq=False, slots=True)
class Tree:
    """How a product or a sum is made: `how` names the way, from the inside out."""

    form: Form
    how: str = ""
    left: Tree | None = None
    right: Tree | None = None
    factor: Factor | None = None
    """Of a leaf."""
    seconds: float = 0.0
    """What it takes altogether, parts included."""


class Algebra:
    """Costs for so many samples; 1 where there is no batch axis."""

    def __init__(self, samples: int, batched: bool):
        self.samples = samples
        self.batched = batched
        self.composed: dict[tuple[int, int], Form] = {}

    def densify(self, form: Form) -> tuple[float, Form]:
        """Seconds to make a matrix of an operator, by the quickest way, and its form."""
        if form.dense is None:
            factor = form.factor
            assert factor is not None
            blocks = form.blocks
            varying = form.varying or blocks > 1
            each = self.samples * blocks if varying else 1
            made = Form(Kind.MATRIX, form.m, form.n, blocks, varying)
            if factor.dense is not None:
                seconds = 3 * CALL + 3 * TOUCH * each * (form.m // blocks) * (form.n // blocks)
            else:
                back = factor.pull_seconds(each * form.m / blocks, blocks)
                seconds = min(back, factor.push_seconds(each * form.n / blocks, blocks))
            form.dense = seconds, made
        return form.dense

    def product(self, a: Form, c: Form) -> tuple[float, Form, str]:
        """a after c: seconds, the form that comes out, and the way."""
        ka, kc = a.kind, c.kind
        if kc == Kind.IDENTITY:
            return 0.0, a, "left"
        if ka == Kind.IDENTITY:
            return 0.0, c, "right"
        if ka == Kind.DIAGONAL and kc == Kind.DIAGONAL:
            varying = a.varying or c.varying
            made = Form(Kind.DIAGONAL, a.m, c.n, varying=varying, scalar=a.scalar and c.scalar)
            touched = 0 if made.scalar else 2 * a.m * (self.samples if varying else 1)
            return CALL + TOUCH * touched, made, "diagonals"
        if ka == Kind.DIAGONAL and kc == Kind.MATRIX:
            return self._scaled(c, a, "scale rows")
        if kc == Kind.DIAGONAL and ka == Kind.MATRIX:
            return self._scaled(a, c, "scale columns")
        if ka == Kind.MATRIX and kc == Kind.MATRIX:
            return self._matrices(a, c)
        found: list[tuple[float, Form, str]] = []
        if self.composes(a, c):
            assert a.factor is not None and c.factor is not None
            return 0.0, self._composed(a.factor, c.factor), "compose"
        if ka == Kind.OPERATOR:
            seconds, made = self.densify(a)
            more, form, how = self.product(made, c)
            found.append((seconds + more, form, "dense left:" + how))
        if kc == Kind.OPERATOR:
            seconds, made = self.densify(c)
            more, form, how = self.product(a, made)
            found.append((seconds + more, form, "dense right:" + how))
        if ka == Kind.OPERATOR and kc == Kind.MATRIX:
            found.append(self._through(a, c, back=False))
        if kc == Kind.OPERATOR and ka == Kind.MATRIX:
            found.append(self._through(a, c, back=True))
        return min(found, key=lambda option: option[0])

    @staticmethod
    def composes(a: Form, c: Form) -> bool:
        """Whether both only move entries."""
        one, other = a.factor, c.factor
        return one is not None and other is not None and one.index is not None and other.index is not None

    def _composed(self, a: Factor, c: Factor) -> Form:
        key = id(a), id(c)
        if key not in self.composed:
            made = composed(a, c)
            made.parents = (a, c)
            self.composed[key] = leaf(made)
        return self.composed[key]

    def _scaled(self, whole: Form, d: Form, how: str) -> tuple[float, Form, str]:
        varying = whole.varying or d.varying or (whole.blocks > 1 and not d.scalar)
        made = Form(Kind.MATRIX, whole.m, whole.n, whole.blocks, varying)
        return CALL + 2 * TOUCH * made.entries(self.samples), made, how

    def _matrices(self, a: Form, c: Form) -> tuple[float, Form, str]:
        if a.blocks == c.blocks:
            blocks, varying = a.blocks, a.varying or c.varying
            made = Form(Kind.MATRIX, a.m, c.n, blocks, varying)
            each = self.samples * blocks if varying else 1
            work = each * (a.m / blocks) * (a.n / blocks) * (c.n / blocks)
            if a.varying and c.varying:
                work *= SEPARATE
            return CALL + GEMM * work + TOUCH * made.entries(self.samples), made, "join"
        if a.blocks > 1 and c.blocks > 1:
            seconds, made = self.expanded(c)
            more, form, how = self._matrices(a, made)
            return seconds + more, form, "expand right:" + how
        varying = self.batched and (a.varying or c.varying)
        made = Form(Kind.MATRIX, a.m, c.n, 1, varying)
        each = self.samples if varying else 1
        blocked, kept = (c, a.m) if c.blocks > 1 else (a, c.n)
        work = each * kept * (blocked.m / blocked.blocks) * blocked.n
        touched = each * kept * (blocked.m + blocked.n)
        how = "pull blocks" if c.blocks > 1 else "push blocks"
        return 3 * CALL + GEMM * work * SEPARATE + TOUCH * touched, made, how

    def expanded(self, a: Form) -> tuple[float, Form]:
        """A block-diagonal matrix with its zeros."""
        made = Form(Kind.MATRIX, a.m, a.n, 1, a.varying and self.batched)
        return 4 * CALL + TOUCH * made.entries(self.samples), made

    def _through(self, a: Form, c: Form, *, back: bool) -> tuple[float, Form, str]:
        """A matrix through an operator: c pushed forward through a, or a pulled back through c."""
        operator, stack, vectors = (c, a, a.m) if back else (a, c, c.n)
        assert operator.factor is not None
        seconds = operator.factor.pull_seconds if back else operator.factor.push_seconds
        how, side = ("pull", "left") if back else ("push", "right")
        if a.blocks == c.blocks:
            varying = a.varying or c.varying or a.blocks > 1
            made = Form(Kind.MATRIX, a.m, c.n, a.blocks, varying)
            each = self.samples * a.blocks if varying else 1
            return seconds(each * vectors / a.blocks, a.blocks), made, how
        if stack.blocks > 1:
            spent, whole = self.expanded(stack)
            more, form, how = self._through(whole, c, back=True) if back else self._through(a, whole, back=False)
            return spent + more, form, f"expand {side}:{how}"
        varying = self.batched and (a.varying or c.varying)
        made = Form(Kind.MATRIX, a.m, c.n, 1, varying)
        return seconds((self.samples if varying else 1) * vectors), made, f"{how} whole"

    def total(self, a: Form, c: Form) -> tuple[float, Form, str]:
        """a + c, likewise."""
        if a.kind == Kind.OPERATOR:
            seconds, made = self.densify(a)
            more, form, how = self.total(made, c)
            return seconds + more, form, "dense left:" + how
        if c.kind == Kind.OPERATOR:
            seconds, made = self.densify(c)
            more, form, how = self.total(a, made)
            return seconds + more, form, "dense right:" + how
        if a.kind != Kind.MATRIX and c.kind != Kind.MATRIX:
            scalar = (a.scalar or a.kind == Kind.IDENTITY) and (c.scalar or c.kind == Kind.IDENTITY)
            varying = a.varying or c.varying
            made = Form(Kind.DIAGONAL, a.m, a.n, varying=varying, scalar=scalar)
            touched = 0 if scalar else 2 * a.m * (self.samples if varying else 1)
            return CALL + TOUCH * touched, made, "add diagonals"
        if c.kind != Kind.MATRIX or a.kind != Kind.MATRIX:
            whole, d = (a, c) if a.kind == Kind.MATRIX else (c, a)
            scalar = d.scalar or d.kind == Kind.IDENTITY
            varying = whole.varying or d.varying or (whole.blocks > 1 and not scalar)
            made = Form(Kind.MATRIX, whole.m, whole.n, whole.blocks, varying)
            how = "add to left" if whole is a else "add to right"
            return 3 * CALL + 2 * TOUCH * made.entries(self.samples), made, how
        if a.blocks != c.blocks:
            before, left = self.expanded(a) if a.blocks > 1 else (0.0, a)
            then, right = self.expanded(c) if c.blocks > 1 else (0.0, c)
            more, form, how = self.total(left, right)
            prefix = ("expand left:" if a.blocks > 1 else "") + ("expand right:" if c.blocks > 1 else "")
            return before + then + more, form, prefix + how
        made = Form(Kind.MATRIX, a.m, a.n, a.blocks, a.varying or c.varying)
        return CALL + 3 * TOUCH * made.entries(self.samples), made, "add"

    def multiply(self, a: Tree, c: Tree) -> Tree:
        """The tree of a product."""
        seconds, form, how = self.product(a.form, c.form)
        if how == "left":
            return a
        if how == "right":
            return c
        if how == "compose":
            return Tree(form, factor=form.factor)
        return Tree(form, how, a, c, seconds=seconds + a.seconds + c.seconds)

    def add(self, a: Tree, c: Tree) -> Tree:
        seconds, form, how = self.total(a.form, c.form)
        return Tree(form, how, a, c, seconds=seconds + a.seconds + c.seconds)

    def finish(self, form: Form) -> tuple[float, Form]:
        """Seconds to make the answer of what the last product gave: a matrix in one block."""
        seconds = 0.0
        if form.kind == Kind.OPERATOR:
            seconds, form = self.densify(form)
        if form.kind in (Kind.DIAGONAL, Kind.IDENTITY):
            made = Form(Kind.MATRIX, form.m, form.n, 1, form.varying)
            return seconds + 3 * CALL + TOUCH * made.entries(self.samples), made
        if form.blocks > 1:
            more, form = self.expanded(form)
            seconds += more
        return seconds, form
