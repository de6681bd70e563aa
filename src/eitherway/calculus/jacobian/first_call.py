"""What the first call of a plan finds out: whether the way is right, and if not, from which operation on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.accept import name_of
from eitherway.calculus.jacobian.check import Probe, agree, first_wrong, function_of, probe, values_disagree
from eitherway.calculus.jacobian.choose import MODES, Mode, Sizes, choose
from eitherway.calculus.jacobian.ways import Function
from eitherway.graph import Graph, Op, capture

_FEW = 2**17
"""Entries of a batch's Jacobian that are multiplied at once: half a megabyte in float32."""
_SUSPICIOUS = ("cut", "escape", "hook", "opaque", "replaced", "inplace", "state written")


def what_is_wrong(J: Tensor, seen: Probe, sizes: Sizes, graph: Graph | None = None) -> str:
    """What is wrong with a Jacobian, against one product on each side; "" if nothing.

    Torch's own two modes may differ where a Function is written by hand; a way may agree with either. Where torch's own
    product is not finite (the slope of a root at 0) there is nothing to compare.

    Args:
        J: (p, q), dense or sparse, or (B, p, q).
        graph: the run, whose coarsest numbers say what rounding may do.
    """
    size, eps = max(sizes.rows, sizes.columns), coarsest(graph, J.dtype)
    largest = _largest(seen.y)
    if agree(*_finite(_across(J, seen.w, sizes.batch), seen.across), size, eps=eps, least=largest):
        return ""
    if seen.along is not None:
        if agree(*_finite(_along(J, seen.u, sizes.batch), seen.along), size, eps=eps, least=largest):
            if not jvp_is_wrong(seen):
                return ""
            return "it agrees with torch's jvp, which is not what the values do; torch's vjp is"
    return "its products with random vectors are neither torch's vjp nor its jvp"


def jvp_is_wrong(seen: Probe) -> bool:
    """Whether values confirm torch's vjp and contradict its jvp."""
    if seen.pushed is None or values_disagree(seen.pulled, seen):
        return False
    return values_disagree(seen.pushed, seen)


def operator_is_wrong(J: Any, seen: Probe, graph: Graph | None) -> str:
    """What is wrong with the products of an operator, both of which must be right; "" if nothing."""
    size, eps = max(J.shape), coarsest(graph, seen.u.dtype)
    largest = _largest(seen.y)
    if not agree(*_finite(J.T @ seen.w, seen.across), size, eps=eps, least=largest):
        return "its product with a random covector is not torch's vjp"
    along = J @ seen.u
    trusted = seen.along is not None and not jvp_is_wrong(seen)
    if seen.along is not None and trusted and not agree(*_finite(along, seen.along), size, eps=eps, least=largest):
        return "its product with a random vector is not torch's jvp"
    ours, theirs = (along * seen.w).sum()[None], (seen.across * seen.u).sum()[None]
    scale = float((along * seen.w).abs().sum())
    if not trusted and not float((ours - theirs).abs()) <= 1e3 * eps * size**0.5 * scale:
        return "its products with a random vector and a random covector contradict each other"
    return ""


def _finite(found: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """The entries at which something finite is expected."""
    kept = expected.isfinite()
    return found[kept], expected[kept]


def _largest(y: Tensor) -> float:
    """The size of the largest finite value."""
    finite = y[y.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def coarsest(graph: Graph | None, dtype: torch.dtype) -> float:
    """The largest rounding unit of all numbers on the way from input to output."""
    values = graph.values if graph is not None else []
    through = {value.dtype for value in values if value.differentiable and value.dtype.is_floating_point}
    return max(torch.finfo(kind).eps for kind in (dtype, *through))


def culprit(graph: Graph | None, x: Tensor, mode: Mode) -> Op | None:
    """The operation from which on a planned way and torch part; None where nobody can tell."""
    if graph is None or graph.opaque:
        return None
    if mode not in MODES:
        return first_wrong(graph, lambda part: _not_linear(function_of(part), x))

    def wrong(part: Graph) -> bool:
        f = function_of(part)
        seen = probe(f, x)
        sizes = Sizes(f(x).numel(), x.numel(), None)
        J = choose(f, part, x, sizes, mode=mode, memory=None, race=False).way(x)
        return bool(what_is_wrong(J, seen, sizes, part))

    return first_wrong(graph, wrong) or first_wrong(graph, lambda part: _not_linear(function_of(part), x))


def must_repeat(f: Callable[..., Any], y: Tensor, again: Tensor, x: Tensor | None = None) -> None:
    """Refuses a function that answered twice at one point, and differently.

    Args:
        x: the point, to name the operation where the answers part.

    Raises:
        ModelError: if y is not what came again.
    """
    # a run that is followed may take another kernel, whose rounding is of the largest numbers, not of each
    slack = max(1e-8, 16 * torch.finfo(y.dtype).eps * _largest(y))
    if again.shape == y.shape and torch.allclose(again, y, atol=slack, equal_nan=True):
        return
    place = "" if x is None else first_difference(f, x)
    raise ModelError(
        f"two calls of {name_of(f)} at one point returned two values{place}, so it has no Jacobian; it draws numbers "
        "of its own or remembers earlier calls: call .eval() on the model, fix its generator, or reset its state inside"
    )


def must_not_remember(f: Callable[..., Any], graph: Graph | None, x: Tensor, seen: Probe) -> None:
    """Refuses a function that depends on x when it is called first and no more when it is called again.

    Raises:
        ModelError: if the captured run has a derivative and later calls have none.
    """
    if graph is None or graph.opaque or bool(seen.across.any()) or not graph.values[graph.outputs[0]].differentiable:
        return
    if bool(probe(function_of(graph), x, forwards=False).across.any()):
        raise ModelError(remembers(f))


def remembers(f: Callable[..., Any]) -> str:
    """What is said of a function that keeps its first answer."""
    return (
        f"{name_of(f)} depends on x when it is called first and no more afterwards: it keeps an answer, a state of its "
        "own; reset it inside, or take it out"
    )


def first_difference(f: Callable[..., Any], x: Tensor) -> str:
    """Where two runs of f at one point part, as an insertion into a sentence; "" if nobody can tell."""
    one, two = capture(f, x, keep=True), capture(f, x, keep=True)
    for op, other in zip(one.ops, two.ops):
        if op.name != other.name:
            return f", from {op.label} on"
        for i, j in zip(op.outputs, other.outputs):
            a, b = one.values[i].tensor, two.values[j].tensor
            if a is not None and b is not None and not (a.shape == b.shape and torch.allclose(a, b, equal_nan=True)):
                return f", from {op.label} on"
    return ""


def _not_linear(f: Function, x: Tensor) -> bool:
    """Whether a pull-back is no linear map of what it is given, or not the same twice: then no matrix is behind it."""
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        y = f(leaf)
    if not y.requires_grad:
        return False
    generator = torch.Generator().manual_seed(1)
    u, v = (torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for _ in range(2))

    def pulled(w: Tensor) -> Tensor:
        found = torch.autograd.grad(y, leaf, w.clone(), allow_unused=True, retain_graph=True)[0]
        return torch.zeros_like(x) if found is None else found

    both, parts, again = pulled(u + v), pulled(u) + pulled(v), pulled(u + v)
    return not agree(parts, both, x.numel()) or not torch.equal(both, again)


def suspects(f: Function, graph: Graph | None, x: Tensor, seen: Probe) -> str | None:
    """Where autograd's derivative and the values part, as the end of a sentence; None if they do not.

    Judged is what torch's reverse mode says along the probe, and its forward mode beside it: a hand-written Function
    may be wrong in one of them alone.
    """
    if not _beside_values(graph, seen):
        return None
    end = "; ew.gradient_check shows entry by entry where"
    if graph is None:
        return end
    found = None if graph.opaque else first_wrong(graph, lambda part: _parts_from_values(part, x))
    named = [f"first at {found.label}"] if found else []
    named += [note.text for note in graph.notes if note.kind in _SUSPICIOUS]
    if found is None or not found.custom:
        named += [f"{op.label} is written by hand" for op in graph.ops if op.custom]
    return ": " + "; ".join(named) + end if named else end


def _parts_from_values(graph: Graph, x: Tensor) -> bool:
    return _beside_values(graph, probe(function_of(graph), x, eps=coarsest(graph, x.dtype)))


def _beside_values(graph: Graph | None, seen: Probe) -> bool:
    """Whether values contradict the vjp, or the jvp where a hand-written Function may have one of its own."""
    if values_disagree(seen.pulled, seen):
        return True
    return seen.pushed is not None and may_push(graph) and values_disagree(seen.pushed, seen)


def may_push(graph: Graph | None) -> bool:
    """Whether a hand-written Function may have a forward rule of its own; torch's are checked way by way."""
    return graph is None or any(op.custom for op in graph.ops)


def _across(J: Tensor, w: Tensor, batch: int | None) -> Tensor:
    """w J, flat. A batch goes a few samples at a time: where it does not lie sample by sample, torch copies it."""
    w = w.to(J.dtype)
    if batch is None:
        return _product(J.t(), w)
    few = max(1, _FEW // J[0].numel())
    return torch.cat([torch.bmm(v, part) for v, part in zip(w.view(batch, 1, -1).split(few), J.split(few))]).flatten()


def _along(J: Tensor, u: Tensor, batch: int | None) -> Tensor:
    """J u, flat, likewise."""
    u = u.to(J.dtype)
    if batch is None:
        return _product(J, u)
    few = max(1, _FEW // J[0].numel())
    return torch.cat([torch.bmm(part, v) for v, part in zip(u.view(batch, -1, 1).split(few), J.split(few))]).flatten()


def _product(J: Tensor, v: Tensor) -> Tensor:
    return (J @ v[:, None])[:, 0]
