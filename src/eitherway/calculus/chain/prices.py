"""What a planned product is expected to take: seconds taken apart into products, elements and calls, and memory."""

from __future__ import annotations

from eitherway.calculus.chain.algebra import Algebra, Tree
from eitherway.calculus.cost import CALL, TOUCH, Cost


def price(tree: Tree, algebra: Algebra) -> Cost:
    """The cost of a tree with its last step into a full matrix; parts that are used twice are counted once."""
    steps = distinct(tree)
    seconds = algebra.finish(tree.form)[0]
    for node in steps:
        if node.left is not None and node.right is not None:
            seconds += max(node.seconds - node.left.seconds - node.right.seconds, 0.0)
    calls = float(len(steps))
    rest = max(seconds - calls * CALL / 2, 0.0)
    return Cost(elements=rest / TOUCH, calls=calls / 2)


def peak(tree: Tree, algebra: Algebra) -> float:
    """Numbers held at once at the highest point of evaluating a tree."""
    samples = algebra.samples
    if tree.left is None or tree.right is None:
        return _size(tree, algebra)
    left, right = _held(tree.left, algebra), _held(tree.right, algebra)
    both = left + right + tree.form.entries(samples)
    return max(peak(tree.left, algebra), left + peak(tree.right, algebra), both)


def _held(tree: Tree, algebra: Algebra) -> float:
    """What a finished part holds; an operator is counted as the matrix it may be made into."""
    return _size(tree, algebra)


def _size(tree: Tree, algebra: Algebra) -> float:
    if tree.form.dense is not None:
        return tree.form.dense[1].entries(algebra.samples)
    return tree.form.entries(algebra.samples) if tree.factor is None or tree.form.varying else 0.0


def distinct(tree: Tree) -> list[Tree]:
    """The nodes of a tree, each once, parts before wholes."""
    seen: dict[int, Tree] = {}
    _walk(tree, seen)
    return list(seen.values())


def _walk(node: Tree, seen: dict[int, Tree]) -> None:
    if id(node) in seen:
        return
    if node.left is not None and node.right is not None:
        _walk(node.left, seen)
        _walk(node.right, seen)
    seen[id(node)] = node
