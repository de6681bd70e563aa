"""Products with the input in both factors: matmul of two results, and attention taken apart into its steps."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from eitherway.calculus.chain.factors import Factor, Registers, low_rank, operator
from eitherway.calculus.chain.layout import Layout, Setting
from eitherway.calculus.chain.rules import Edge, argument, is_sparse
from eitherway.graph import Op, Ref

SLOWNESS = 4.0
"""How many times longer a multiply-add takes in one small product a head than in a large one."""


def matmul(op: Op, s: Setting) -> list[Edge] | None:
    """A B where x is in one factor or in both; leading axes alike, samples among them."""
    if op.name not in ("matmul", "bmm", "mm") or len(op.args) != 2:
        return None
    a, b = (ref.index for ref in op.args)
    sa, sb, out = s.value(a).shape, s.value(b).shape, op.outputs[0]
    so = s.value(out).shape
    if len(sa) < 2 or len(sb) < 2 or len(sa) > len(so) or len(sb) > len(so) or is_sparse(op, s):
        return None
    for i, shape in ((a, sa), (b, sb)):
        if i in s.layouts:
            if shape[:-2] != so[:-2] or not s.clear_of(i, 2) or s.layouts[i].outer != 1:
                return None
            s.set(out, Layout(1, s.layouts[i].inner // prod(shape[-2:]) * prod(so[-2:])), op)
    constant = (a not in s.layouts and len(sa) > 2) or (b not in s.layouts and len(sb) > 2)
    if constant and s.batch:
        return None
    edges = []
    for i, j, left in ((a, b, True), (b, a, False)):
        if i in s.layouts:
            edges.append(Edge(i, out, _times(op, s, i, j, out, left)))
    return edges


def _times(op: Op, s: Setting, i: int, j: int, out: int, left: bool) -> Factor:
    """The local Jacobian of A B with respect to A (`left`) or B; its content is the other factor."""
    mine, made, other = s.value(i).shape[-2:], s.value(out).shape[-2:], s.value(j).shape
    lead = s.size(i) // prod(mine)

    def make(r: Registers) -> Tensor:
        if len(other) == 2 and lead > 1:
            return r[j].expand(lead, *other) if not s.batch else r[j].expand(s.batch, lead, *other)
        return r[j].reshape(-1, lead, *other[-2:]) if s.batch else r[j].reshape(lead, *other[-2:])

    return times(op.label, lead, mine, made, left, make, bool(s.batch) and j in s.layouts)


def times(
    label: str,
    lead: int,
    mine: tuple[int, ...],
    made: tuple[int, ...],
    left: bool,
    make: Callable[[Registers], Tensor],
    varying: bool,
) -> Factor:
    """A -> A T, or B -> T B, for `lead` pairs of matrices a sample.

    Args:
        mine: rows and columns of A or B.
        made: of the product.
        left: whether the input stands on the left.
        make: gives T, (b?, lead, rows, columns).
    """
    n, m = lead * prod(mine), lead * prod(made)

    def through(stack: Tensor, t: Tensor, rows: int, columns: int) -> Tensor:
        """All matrices of one pair side by side, so that each pair is one product."""
        k = stack.shape[-2]
        cut = stack.reshape(*stack.shape[:-2], k, lead, rows, columns)
        if left:  # (.., lead, k rows, columns) @ (lead, columns, c)
            wide = cut.transpose(-3, -4).reshape(*stack.shape[:-2], lead, k * rows, columns)
            out = torch.matmul(wide, t)
            return out.reshape(*out.shape[:-2], k, rows, -1).transpose(-3, -4).flatten(-3)
        wide = cut.movedim(-4, -2).reshape(*stack.shape[:-2], lead, rows, k * columns)  # (.., lead, rows, k columns)
        out = torch.matmul(t, wide)
        return out.reshape(*out.shape[:-1], k, columns).movedim(-2, -4).flatten(-3)

    def pull(t: Tensor, stack: Tensor) -> Tensor:
        return through(stack, t.mT, made[0], made[1])

    def push(t: Tensor, stack: Tensor) -> Tensor:
        return through(stack, t, mine[0], mine[1])

    inner = mine[1] if left else mine[0]
    return operator(
        label, m, n, f"product with {lead} matrices", make, pull, push, varying=varying,
        products=SLOWNESS * m * inner, elements=2.0 * (m + n), calls=5,
    )  # fmt: skip


def attention(op: Op, s: Setting) -> list[Edge] | None:
    """softmax(q k^T c + mask) v: the scores and the weights become values of their own."""
    if op.name != "scaled_dot_product_attention":
        return None
    q, k, v = (op.args[at].index for at in range(3))
    mask, drop, causal = (argument(op, 3 + at, name) for at, name in enumerate(("attn_mask", "dropout_p", "is_causal")))
    shapes, out = [tuple(s.value(i).shape) for i in (q, k, v)], op.outputs[0]
    if drop or argument(op, 7, "enable_gqa", False) or len({shape[:-2] for shape in shapes}) != 1:
        return None
    if type(mask) is Ref and mask.index in s.layouts:
        return None
    if any(i in s.layouts and (s.layouts[i].outer != 1 or not s.clear_of(i, 2)) for i in (q, k, v)):
        return None
    if s.batch and not all(i in s.layouts for i in (q, k, v)):
        return None
    (rows, width), (columns, depth) = shapes[0][-2:], shapes[2][-2:]
    given = op.kwargs.get("scale")
    scale = width**-0.5 if given is None else float(given)
    lead = prod(shapes[0][:-2]) // s.samples
    reads = (q, k) + ((mask.index,) if type(mask) is Ref else ())

    def weigh(r: Registers) -> Tensor:
        scores = torch.matmul(r[q], r[k].mT).mul_(scale)
        if causal:
            ahead = torch.ones(rows, columns, dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill_(ahead, -torch.inf)
        if type(mask) is Ref:
            given = r[mask.index]
            scores = scores.masked_fill(~given, -torch.inf) if given.dtype == torch.bool else scores + given
        return torch.softmax(scores, -1)

    def cut(t: Tensor) -> Tensor:
        return t.reshape(-1, lead, *t.shape[-2:]) if s.batch else t.reshape(lead, *t.shape[-2:])

    layout = Layout(1, lead * rows * columns)
    shape = (*shapes[0][:-2], rows, columns)
    scores, weights = s.extra(op, shape, layout, None, ()), s.extra(op, shape, layout, weigh, reads)
    s.set(out, Layout(1, lead * rows * depth), op)
    varying, square, edges = bool(s.batch), (rows, columns), []
    plain = not s.batch and lead * rows == 1

    def spread(r: Registers) -> tuple[Tensor, Tensor, Tensor]:
        p = r[weights].reshape(columns) if plain else r[weights].reshape(-1, 1, columns)
        row = p[None] if plain else p
        return p, row.mT, row

    if q in s.layouts:
        keys = times(op.label, lead, (rows, width), square, True, lambda r: cut(r[k].mT * scale), varying)
        edges.append(Edge(q, scores, keys))
    if k in s.layouts:
        # the scores' transpose would be a product from the left with q: pulled and pushed as such
        edges.append(Edge(k, scores, _keys(op.label, lead, rows, columns, width, lambda r: cut(r[q] * scale), varying)))
    if edges:
        size = lead * rows * columns
        edges.append(Edge(scores, weights, low_rank(op.label, size, lead * rows, s.batch, 1, spread)))
        edges.append(
            Edge(weights, out, times(op.label, lead, square, (rows, depth), True, lambda r: cut(r[v]), varying))
        )
    if v in s.layouts:
        made = times(op.label, lead, (columns, depth), (rows, depth), False, lambda r: cut(r[weights]), varying)
        edges.append(Edge(v, out, made))
    for edge in edges:
        edge.factor.reads = (q, k, v, weights, *reads)
    return edges


def _keys(
    label: str, lead: int, rows: int, columns: int, width: int, make: Callable[[Registers], Tensor], varying: bool
) -> Factor:
    """k -> q k^T: the product with q from the left, of the transposed keys."""
    m, n = lead * rows * columns, lead * columns * width

    def push(t: Tensor, stack: Tensor) -> Tensor:
        """(.., lead, rows, width) with k of (lead, columns, width)."""
        k = stack.shape[-2]
        wide = stack.reshape(*stack.shape[:-2], k, lead, columns, width).transpose(-3, -4)
        wide = wide.reshape(*stack.shape[:-2], lead, k * columns, width)
        out = torch.matmul(t, wide.mT)  # (.., lead, rows, k columns)
        return out.reshape(*out.shape[:-1], k, columns).movedim(-2, -4).flatten(-3)

    def pull(t: Tensor, stack: Tensor) -> Tensor:
        k = stack.shape[-2]
        wide = stack.reshape(*stack.shape[:-2], k, lead, rows, columns).movedim(-4, -2)
        wide = wide.reshape(*stack.shape[:-2], lead, rows, k * columns)
        out = torch.matmul(wide.mT, t)  # (.., lead, k columns, width)
        return out.reshape(*out.shape[:-2], k, columns, width).transpose(-3, -4).flatten(-3)

    return operator(
        label, m, n, f"product with {lead} matrices", make, pull, push, varying=varying,
        products=SLOWNESS * m * width, elements=2.0 * (m + n), calls=5,
    )  # fmt: skip
