"""What a chain was planned to do, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eitherway.calculus.chain.algebra import Tree
from eitherway.calculus.chain.factors import Kind

if TYPE_CHECKING:
    from eitherway.calculus.chain.chain import Chain


def explain(chain: Chain) -> str:
    """A line on sizes and the order, one for each factor, and the predicted costs."""
    per = f", {chain.samples} samples" if chain.inner else ""
    if chain.plan is None:
        return f"({chain.p} x {chain.q}){per}: zero, no gradient passes from the input to the output"
    links = [link for link in chain.links or [] if link.tree.form.kind != Kind.IDENTITY]
    names = {id(link.tree): f"J{k + 1}" for k, link in enumerate(links)}
    certain = "exact" if chain.optimal else "heuristic"
    lines = [f"({chain.p} x {chain.q}){per}: {_bracketing(chain.plan, names)}  ({certain})"]
    for link in reversed(links):
        form, name = link.tree.form, names[id(link.tree)]
        if len(link.factors) == 1:
            lines.append(f"  {name}  {form.m} x {form.n}  {link.factors[0].structure}{_each(chain, form.varying)}")
            lines[-1] += f"  [{link.factors[0].label}]"
            continue
        how = "exact" if link.optimal else "heuristic"
        lines.append(f"  {name}  {form.m} x {form.n}  block of {len(link.factors)} local Jacobians, {how} elimination")
        for factor in link.factors:
            lines.append(f"        {factor.m} x {factor.n}  {factor.structure}  [{factor.label}]")
    plan, reverse, forward = chain.cost.seconds, chain.cost_reverse.seconds, chain.cost_forward.seconds
    lines.append(
        f"  predicted: {_milliseconds(plan)}; all reverse {_milliseconds(reverse)} ({reverse / plan:.3g} x), "
        f"all forward {_milliseconds(forward)} ({forward / plan:.3g} x)"
    )
    if chain.kept is not None:
        many, size = len(chain.kept.roots), chain.kept.size
        lines.append(
            f"  kept from call to call, while the weights hold the very same numbers: {many} product{'s' * (many > 1)} "
            f"of weights alone; with copies of the weights {size / 1e6:.3g} MB"
        )
    return "\n".join(lines)


def _each(chain: Chain, varying: bool) -> str:
    if not chain.inner:
        return ""
    return ", one a sample" if varying else ", shared"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _bracketing(tree: Tree, names: dict[int, str]) -> str:
    """The product with its brackets, outermost left away."""
    pieces: list[str] = []
    todo: list[Tree | str] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            pieces.append(node)
        elif id(node) in names:
            pieces.append(names[id(node)])
        elif node.left is None or node.right is None:
            pieces.append("I" if node.form.kind == Kind.IDENTITY else "J")
        else:
            top = node is tree
            todo += ["" if top else ")", node.right, " ", node.left, "" if top else "("]
    return "".join(pieces)
