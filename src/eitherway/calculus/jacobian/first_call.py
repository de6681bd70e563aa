"""What the first call of a plan finds out: whether the way is right, and if not, from which operation on."""

from __future__ import annotations

import torch
from torch import Tensor

from eitherway.calculus.jacobian.check import Probe, agree, first_wrong, function_of, probe, values_disagree
from eitherway.calculus.jacobian.choose import Mode, Sizes, choose
from eitherway.calculus.jacobian.ways import Function
from eitherway.graph import Graph, Op

_SUSPICIOUS = ("cut", "escape", "opaque", "inplace", "state written")


def what_is_wrong(J: Tensor, seen: Probe, sizes: Sizes) -> str:
    """What is wrong with a Jacobian, against one product on each side; "" if nothing.

    Torch's own two modes may differ where a Function is written by hand; a way may agree with either.

    Args:
        J: (p, q), dense or sparse, or (B, p, q).
    """
    size = max(sizes.rows, sizes.columns)
    if sizes.batch is not None:
        along = torch.bmm(J, seen.u.view(sizes.batch, -1, 1)).flatten()
        across = torch.bmm(seen.w.view(sizes.batch, 1, -1), J).flatten()
    else:
        along, across = _product(J, seen.u), _product(J.t(), seen.w)
    if agree(across, seen.across, size):
        return ""
    if seen.along is not None and agree(along, seen.along, size):
        return ""
    return "its products with random vectors are neither torch's vjp nor its jvp"


def culprit(graph: Graph | None, x: Tensor, mode: Mode) -> Op | None:
    """The operation from which on a planned way and torch part; None where nobody can tell."""
    if graph is None or graph.opaque or mode not in ("sparse", "chain"):
        return None

    def wrong(part: Graph) -> bool:
        f = function_of(part)
        seen = probe(f, x)
        sizes = Sizes(f(x).numel(), x.numel(), None)
        J = choose(f, part, x, sizes, mode=mode, memory=None, race=False).way(x)
        return bool(what_is_wrong(J, seen, sizes))

    return first_wrong(graph, wrong)


def suspects(f: Function, graph: Graph | None, x: Tensor, seen: Probe) -> str | None:
    """Where autograd's derivative and the values part, as the end of a sentence; None if they do not.

    Judged is what torch's reverse mode says along the probe, and its forward mode beside it: a hand-written Function
    may be wrong in one of them alone.
    """
    backwards = float((seen.u * seen.across).sum())
    forwards = backwards if seen.along is None else float((seen.w * seen.along).sum())
    if not values_disagree(backwards, seen) and not values_disagree(forwards, seen):
        return None
    end = "; ew.gradient_check shows entry by entry where"
    if graph is None:
        return end
    found = None if graph.opaque else first_wrong(graph, lambda part: _parts_from_values(part, x))
    named = [f"first at {found.label}"] if found else []
    named += [note.text for note in graph.notes if note.kind in _SUSPICIOUS]
    named = named or [op.label for op in graph.ops if op.custom]
    return ": " + "; ".join(named) + end if named else end


def _parts_from_values(graph: Graph, x: Tensor) -> bool:
    seen = probe(function_of(graph), x)
    backwards = float((seen.u * seen.across).sum())
    forwards = backwards if seen.along is None else float((seen.w * seen.along).sum())
    return values_disagree(backwards, seen) or values_disagree(forwards, seen)


def _product(J: Tensor, v: Tensor) -> Tensor:
    return (J @ v[:, None])[:, 0]
