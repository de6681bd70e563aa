"""In which order a chain of local Jacobians is multiplied: exact dynamic programming over its intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from eitherway.calculus.chain.algebra import SEPARATE, Algebra, Form, Tree
from eitherway.calculus.chain.factors import CALL, Kind
from eitherway.calculus.cost import GEMM, TOUCH

LONGEST = 48
"""Links that are planned exactly: the work grows with the cube."""
LEANING = 0.9
"""What a product of weights alone counts beside any other: a plan that is called again keeps it."""


def bracket(links: Sequence[Tree], algebra: Algebra) -> tuple[Tree, bool]:
    """The product of a chain in the cheapest order, and whether that is certain.

    Args:
        links: in order of application: the product is links[-1] ... links[0].

    Source: the matrix-chain recurrence (Godbole 1973), here over structures as well as sizes.
    """
    links = merge_neighbours(links, algebra)
    if len(links) <= LONGEST:
        return _exact(links, algebra), True
    cut = _narrowest(links)
    before, _ = bracket(links[:cut], algebra)
    after, _ = bracket(links[cut:], algebra)
    return algebra.multiply(after, before), False


def _narrowest(links: Sequence[Tree]) -> int:
    """Where a chain that is too long is cut in two: at its smallest value, away from the ends."""
    length = len(links)
    inner = range(max(1, length // 5), max(2, length - length // 5))
    return min(inner, key=lambda i: (links[i].form.n, abs(i - length / 2)))


def merge_neighbours(links: Sequence[Tree], algebra: Algebra) -> list[Tree]:
    """Neighbouring diagonals alike in what they share become one, and neighbouring gathers: nothing is cheaper."""
    merged: list[Tree] = []
    for link in links:
        if link.form.kind == Kind.IDENTITY:
            continue
        last = merged[-1] if merged else None
        if last is not None and last.form.kind == link.form.kind == Kind.DIAGONAL:
            if last.form.varying == link.form.varying and last.form.scalar == link.form.scalar:
                merged[-1] = algebra.multiply(link, last)
                continue
        if last is not None and algebra.composes(link.form, last.form):
            merged.pop()
            link = algebra.multiply(link, last)
            if link.form.kind == Kind.IDENTITY:
                continue
        merged.append(link)
    return merged or list(links[:1])


def _exact(links: Sequence[Tree], algebra: Algebra) -> Tree:
    count = len(links)
    if count == 1:
        return links[0]
    if all(link.form.kind != Kind.OPERATOR and link.form.blocks == 1 for link in links):
        return _tree(links, _plain(links, algebra), algebra, 0, count - 1)
    forms: list[list[Form]] = [[link.form] * count for link in links]  # forms[i][j] of links j ... i
    costs = [[0.0] * count for _ in links]
    split = [[0] * count for _ in links]
    price, loose = pricing(algebra), _loose(links)
    for width in range(1, count):
        for i in range(count - width):
            j, best, at = i + width, float("inf"), i
            row = costs[i]
            for k in range(i, j):
                parts = row[k] + costs[k + 1][j]
                if parts < best:
                    seconds = parts + price(forms[k + 1][j], forms[i][k]) * (
                        1.0 if loose[i] < loose[j + 1] else LEANING
                    )
                    if seconds < best:
                        best, at = seconds, k
            costs[i][j], split[i][j] = best, at
            forms[i][j] = algebra.product(forms[at + 1][j], forms[i][at])[1]

    # the answer must be a matrix in one block: what the last product leaves to do differs between products
    options = []
    for k in range(count - 1):
        seconds, form, _ = algebra.product(forms[k + 1][count - 1], forms[0][k])
        options.append((costs[0][k] + costs[k + 1][count - 1] + seconds + algebra.finish(form)[0], k))
    split[0][count - 1] = min(options)[1]
    return _tree(links, split, algebra, 0, count - 1)


def _tree(links: Sequence[Tree], split: list[list[int]], algebra: Algebra, i: int, j: int) -> Tree:
    """The product of the links i to j, cut where the plan says."""
    if i == j:
        return links[i]
    k = split[i][j]
    return algebra.multiply(_tree(links, split, algebra, k + 1, j), _tree(links, split, algebra, i, k))


def _plain(links: Sequence[Tree], algebra: Algebra) -> list[list[int]]:
    """Where to cut each interval of a chain of nothing but matrices and diagonals: the recurrence in bare numbers.

    Long chains are mostly of this kind, and the first call waits for it.
    """
    count, samples = len(links), algebra.samples
    sizes, loose = [links[0].form.n, *(link.form.m for link in links)], _loose(links)
    costs = [[0.0] * count for _ in links]  # [i][j]: links j ... i
    ended = [[0.0] * count for _ in links]  # the same, [j][i]
    split = [[0] * count for _ in links]
    full = [[False] * count for _ in links]
    varying = [[False] * count for _ in links]
    for i in range(count):
        full[i][i], varying[i][i] = links[i].form.kind == Kind.MATRIX, links[i].form.varying
        for j in range(i + 1, count):
            full[i][j] = full[i][j - 1] or links[j].form.kind == Kind.MATRIX
            varying[i][j] = varying[i][j - 1] or links[j].form.varying
    for width in range(1, count):
        for i in range(count - width):
            j, best, at = i + width, float("inf"), i
            row, column, full_row, varying_row = costs[i], ended[j], full[i], varying[i]
            entries = sizes[i] * sizes[j + 1] * (samples if varying_row[j] else 1)
            fixed, work, scaled = CALL + TOUCH * entries, GEMM * entries, CALL + 2 * TOUCH * entries
            if loose[i] == loose[j + 1]:
                fixed, work, scaled = LEANING * fixed, LEANING * work, LEANING * scaled
            for k in range(i, j):
                seconds = row[k] + column[k + 1]
                if seconds >= best:
                    continue
                if full_row[k] and full[k + 1][j]:
                    apart = SEPARATE if varying_row[k] and varying[k + 1][j] else 1.0
                    seconds += fixed + work * apart * sizes[k + 1]
                elif full_row[j]:
                    seconds += scaled
                else:
                    seconds += CALL + 2 * TOUCH * sizes[i] * (samples if varying_row[j] else 1)
                if seconds < best:
                    best, at = seconds, k
            row[j] = column[i] = best
            split[i][j] = at
    return split


def _loose(links: Sequence[Tree]) -> list[int]:
    """How many of the first k links, for each k, are not made of weights alone."""
    return list(accumulate((not constant(link) for link in links), initial=0))


def constant(tree: Tree) -> bool:
    """Whether a product is made of weights alone."""
    if tree.factor is not None:
        return all(map(constant, tree.factor.parts)) if tree.factor.parts else tree.factor.constant
    return tree.left is not None and tree.right is not None and constant(tree.left) and constant(tree.right)


def pricing(algebra: Algebra) -> Callable[[Form, Form], float]:
    """`algebra.product(a, c)[0]`, quickly where both are plain matrices or diagonals."""
    samples, product = algebra.samples, algebra.product
    MATRIX, DIAGONAL = Kind.MATRIX, Kind.DIAGONAL

    def price(a: Form, c: Form) -> float:
        ka, kc = a.kind, c.kind
        if a.blocks == 1 and c.blocks == 1:
            each = samples if a.varying or c.varying else 1
            if ka is MATRIX:
                if kc is MATRIX:
                    work = GEMM * a.n
                    if a.varying and c.varying:
                        work *= SEPARATE
                    return CALL + each * a.m * c.n * (work + TOUCH)
                if kc is DIAGONAL:
                    return CALL + 2 * TOUCH * each * a.m * a.n
            elif ka is DIAGONAL and kc is MATRIX:
                return CALL + 2 * TOUCH * each * c.m * c.n
        return product(a, c)[0]

    return price


def one_way(links: Sequence[Tree], algebra: Algebra, back: bool) -> Tree:
    """The same chain multiplied from one end to the other: reverse mode, or forward mode."""
    links = [link for link in links if link.form.kind != Kind.IDENTITY] or list(links[:1])
    if back:
        found = links[-1]
        for link in reversed(links[:-1]):
            found = algebra.multiply(found, link)
        return found
    found = links[0]
    for link in links[1:]:
        found = algebra.multiply(link, found)
    return found
