"""The first call checks itself: one product forwards, one backwards, and one difference of values."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad

from eitherway.calculus.jacobian.double import Doubled
from eitherway.graph import Graph, Op, Replay

Function = Callable[[Tensor], Tensor]
_HERE = str(Path(__file__).parent)


class JacobianWarning(UserWarning):
    """A Jacobian is what was asked for, but not by the way that was planned, or not what the values do."""


def warn(text: str) -> None:
    """A `JacobianWarning` at the line outside this folder that asked for the Jacobian."""
    frame, level = sys._getframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, JacobianWarning, level)


@dataclass(frozen=True)
class Probe:
    """A random direction at a point, and how torch's two modes and the values answer to it.

    Args:
        u: (q,) direction in the inputs.
        w: (p,) weights of the outputs.
        along: (p,) J u by torch's forward mode; None where it was not asked, or an operation has none.
        across: (q,) w J by torch's reverse mode.
        y: the value.
        slope: w J u by differences of values, in float64 where f can be had in it.
        doubt: how far `slope` itself may be off, and what rounding may have done to `across`.
        eps: the coarsest rounding unit of the numbers that `slope` was made of.
    """

    u: Tensor
    w: Tensor
    along: Tensor | None
    across: Tensor
    y: Tensor
    slope: float
    doubt: float
    eps: float

    @property
    def pulled(self) -> float:
        """w J u as the reverse mode has it."""
        return _inner(self.across, self.u)

    @property
    def pushed(self) -> float | None:
        """w J u as the forward mode has it."""
        return None if self.along is None else _inner(self.along, self.w)


FINEST = torch.finfo(torch.float64).eps
"""The rounding unit of the numbers that values are compared in."""
MOST_LOOKS = 3
"""Directions that are tried: in one of 150 the terms of a small function cancel below what differences can tell."""


def probe(f: Function, x: Tensor, *, forwards: bool = True, seed: int = 0, eps: float | None = None) -> Probe:
    """Looks at f along one random direction.

    Values are differenced in float64 where f can be had in it, whatever its own numbers are: float32 alone would see
    what changes w J u by some tenths, no less.

    Args:
        f: of one tensor, deterministic.
        x: the point; not written into.
        forwards: ask torch's forward mode, too.
        eps: the coarsest rounding unit of the numbers on the way; that of x if None.
    """
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        y = f(leaf)
    w = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
    across = torch.zeros_like(x)
    if y.requires_grad:
        (found,) = torch.autograd.grad(y, leaf, w, allow_unused=True)
        across = across if found is None else found
    y, expected = y.detach(), _inner(across, u)
    found = _doubled(f, x.detach(), u, w, y, across, eps, kinks=forwards) if eps > FINEST else None
    slope, doubt = differences(f, x.detach(), u, w, y, expected, eps) if found is None else found
    least = 20 if found is None else 500  # float64 tells thousandths
    if seed < MOST_LOOKS - 1 and max(abs(slope), abs(expected)) <= least * doubt:
        return probe(f, x, forwards=forwards, seed=seed + 1, eps=eps)  # the terms cancel: another direction says more
    along = _along(f, x, u, w.flatten()) if forwards else None
    finest = eps if found is None else FINEST
    return Probe(u.flatten(), w.flatten(), along, across.flatten().detach(), y, slope, doubt, finest)


def _inner(one: Tensor, two: Tensor) -> float:
    return float((one.double() * two.double()).sum())


def _along(f: Function, x: Tensor, u: Tensor, w: Tensor) -> Tensor | None:
    """J u, (p,), by forward mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.no_grad(), forward_ad.dual_level():
                moved = forward_ad.unpack_dual(f(forward_ad.make_dual(x.detach().clone(), u))).tangent
        except (RuntimeError, NotImplementedError):
            return None  # a hand-written Function without a forward rule, an operation without one
    return torch.zeros_like(w) if moved is None else moved.flatten()


def differences(
    f: Function, x: Tensor, u: Tensor, w: Tensor, y: Tensor, expected: float, eps: float
) -> tuple[float, float]:
    """w J u by central differences, and how far that may be off.

    Kinks and jumps near x show in how far the slopes ahead and behind are apart. Where the first step does not confirm
    what is expected, a longer one and shorter ones are tried, and the one with the least doubt is believed. No shorter
    ones, though, where doubt grows as steps shrink: that is rounding, be it hidden in f (NumPy's float32), and steps
    shorter than what is rounded away would see nothing move, and not doubt it.
    """
    largest = max(float(x.abs().max()) if x.numel() else 0.0, 1.0)
    h = eps ** (1 / 3) * largest
    first = best = _difference(f, x, u, w, y, h, eps)
    small = eps ** (1 / 4) * float((w * y).norm()) / h  # what waves miss by, seen at too long a step, is as large as y
    for factor in (1, 8, 1 / 64, *((1 / 4096,) if eps <= FINEST else ())):
        slope, doubt = found = first if factor == 1 else _difference(f, x, u, w, y, factor * h, eps)
        if abs(slope - expected) <= _trust(eps) * abs(expected):
            return found
        if doubt < best[1] or math.isnan(best[1]):
            best = found
        if (factor > 1 and doubt < first[1] <= small) or (factor < 1 and doubt > first[1]):
            break
    return best


def _difference(f: Function, x: Tensor, u: Tensor, w: Tensor, y: Tensor, h: float, eps: float) -> tuple[float, float]:
    with torch.no_grad():
        ahead, behind = ((f(x + h * u) - y) * w / h).double(), ((y - f(x - h * u)) * w / h).double()
    noise = 8 * max(eps, torch.finfo(y.dtype).eps) * float((w * y).abs().sum()) / h
    return float((ahead + behind).sum() / 2), noise + float((ahead - behind).norm() / 2)


def _doubled(
    f: Function, x: Tensor, u: Tensor, w: Tensor, y: Tensor, across: Tensor, eps: float, *, kinks: bool
) -> tuple[float, float] | None:
    """w J u by differences in float64, and how far that and `across` may be off; None where float64 cannot judge.

    Two values are enough where they confirm `across`. Where they do not, float64 must condemn its own derivative, too:
    if it does not, what `across` has besides is rounding. Where float64 is another function, or `across` further off
    than a tenth, the numbers that f has are asked.

    Args:
        eps: the rounding unit of `across`.
        kinks: look for kinks near x, at the price of a third value, where `across` is confirmed.
    """
    wide, expected = Doubled(f), _inner(across, u)
    rounding = 100 * eps * float((across * u).norm())
    near = rounding if eps <= torch.finfo(torch.float32).eps else 0.0  # half precision's would hide every fault
    x, u, w = x.double(), u.double(), w.double()
    h = FINEST ** (1 / 3) * max(float(x.abs().max()) if x.numel() else 0.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.no_grad():
                slope = _inner(wide(x + h * u) - wide(x - h * u), w) / (2 * h)
                if abs(slope - expected) <= _trust(FINEST) * abs(expected) + near:
                    doubt = _difference(wide, x, u, w, wide(x), h, FINEST)[1] if kinks else 0.0
                    return slope, doubt + rounding
            leaf = x.clone().requires_grad_()
            with torch.enable_grad():
                again = wide(leaf)
            far = min(1e5 * eps, 0.1) * float(y.double().abs().max())
            if not bool(((again.detach() - y).abs() <= far).all()):
                return None
            pulled = torch.autograd.grad(again, leaf, w, allow_unused=True)[0] if again.requires_grad else None
            expected = 0.0 if pulled is None else _inner(pulled, u)
            slope, doubt = differences(wide, x, u, w, again.detach(), expected, FINEST)
        except Exception:  # whatever somebody's code does with numbers that it did not expect
            return None
    rounded = abs(_inner(across, u) - expected)
    if _apart(expected, slope, doubt, FINEST):
        return slope, doubt + min(rounding, rounded)
    return (slope, doubt + rounding) if rounded <= 0.1 * abs(expected) else None


def _trust(eps: float) -> float:
    """How exact differences are beside what they doubt themselves: a thousandth where numbers are long enough."""
    return max(1e-3, 40 * eps ** (1 / 2))


def agree(found: Tensor, expected: Tensor, size: int, *, eps: float | None = None, least: float = 0.0) -> bool:
    """Whether two results of the same sum of products differ by rounding alone.

    Args:
        size: terms of the sum; rounding grows with its square root.
        eps: the rounding unit, where other numbers than these were rounded on the way.
        least: terms of this size were added, though they may have cancelled.
    """
    scale = expected.abs().max() if expected.numel() else torch.zeros(())
    unit = torch.finfo(found.dtype).eps if eps is None else eps
    slack = 200 * unit * max(size, 4) ** 0.5 * scale + 20 * unit * least + torch.finfo(found.dtype).tiny
    return bool(((found - expected).abs() <= slack).all())


def values_disagree(derivative: float, seen: Probe) -> bool:
    """Whether w J u is not what the values do: further off than differences are exact, and than can be doubted."""
    return _apart(derivative, seen.slope, seen.doubt, seen.eps)


def _apart(derivative: float, slope: float, doubt: float, eps: float) -> bool:
    if not math.isfinite(slope):
        return False  # nothing to compare with: a pole, or the edge of where f is defined
    return not abs(derivative - slope) <= 2 * _trust(eps) * max(abs(derivative), abs(slope)) + 3 * doubt


def first_wrong(graph: Graph, wrong: Callable[[Graph], bool]) -> Op | None:
    """The first operation up to which a derivative goes wrong: the graph is cut after each that matters, by halves.

    Where ways in parallel meet, halves may find the meeting; then what leads to it is searched again.

    Args:
        wrong: judges the graph that ends at a value.
    """
    steps = [op for op in graph.ops if op.index in graph.needed and _one_real(graph, op)]
    steps = [op for op in steps if any(graph.values[i].depends for i in op.inputs)]
    if not steps or graph.opaque:
        return None
    while True:
        low, high = 0, len(steps) - 1
        while low < high:
            middle = (low + high) // 2
            if _judged(graph, steps[middle], wrong):
                high = middle
            else:
                low = middle + 1
        found = steps[low]
        before = [op for op in steps[:low] if set(op.outputs) & set(found.inputs)]
        earlier = next((op for op in before if _judged(graph, op, wrong)), None)
        if earlier is None:
            return found if _judged(graph, found, wrong) else None
        leading = ending_at(graph, earlier).needed
        steps = [op for op in steps if op.index in leading]


def _judged(graph: Graph, op: Op, wrong: Callable[[Graph], bool]) -> bool:
    try:
        return wrong(ending_at(graph, op))
    except Exception:  # whatever a broken planner does with a part of the run; the whole has been judged
        return False


def ending_at(graph: Graph, op: Op) -> Graph:
    """The same graph with that operation's first tensor as its only output."""
    from eitherway.graph.graph import Ref

    return replace(graph, outputs=[op.outputs[0]], answer=Ref(op.outputs[0]))


def function_of(graph: Graph) -> Function:
    """The captured run as a function of its one input."""
    run, out = Replay(graph), graph.outputs[0]
    return lambda x: run(x)[out]


def _one_real(graph: Graph, op: Op) -> bool:
    return bool(op.outputs) and graph.values[op.outputs[0]].dtype.is_floating_point
