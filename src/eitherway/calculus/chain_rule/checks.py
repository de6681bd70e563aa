"""Whether a link is right: its formula against autograd's backward, and both against differences of its values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from eitherway.calculus.chain_rule.links import Link, Wrong
from eitherway.calculus.chain_rule.local import Differentiated, Entries, Nothing, forward_mode
from eitherway.calculus.chain_rule.program import Program

STEPS = (1e-4, 1e-5, 1e-6, 1e-8, 1e-3)
"""Steps of central differences relative to the size of what is moved; the best of them counts."""
WRONG = 2e-4
"""Relative disagreement with differences from which on a link is looked into; smooth right ones stay below 1e-7."""
DISAGREE = 1e-7
"""Relative disagreement of a formula with autograd, in float64, from which on autograd's factor is taken."""
GOOD = 1e-8
"""Disagreement at which no other step is tried."""
ENTRIES = 2**18
"""Local Jacobians up to this size are compared entry by entry; larger ones by halving."""


def check_link(program: Program, link: Link, generator: torch.Generator) -> None:
    """Fills in what the checks of one link say: `autograd`, `differences`, `wrong`, `dead`, `broken`, `kink`."""
    if link.step is None or isinstance(link.local, Nothing):
        return
    f, z = program.alone(link.step, link.read, link.made), program.env[link.read]
    made = program.env[link.made]
    if not z.numel() or not made.numel():
        return
    fine = _fine(z)
    if not isinstance(link.local, Differentiated):
        link.autograd = _against_autograd(f, z, link, generator)
        if not link.autograd < (DISAGREE if fine else 1e-3):
            _prefer_autograd(f, z, link, generator)
    if not all(_finite(program.env[i]) for i in link.step.reads):
        return
    if not bool(made.isfinite().all()):
        bad = int((~made.isfinite()).reshape(-1).nonzero()[0])
        inside = f" from {_number(z.reshape(-1)[bad])}" if z.numel() == made.numel() else ""
        link.broken = f"makes {_number(made.reshape(-1)[bad])} at entry {bad}{inside}"
        return
    if _infinite(link):
        return
    _against_differences(program, f, z, link, generator)
    if link.wrong is None and link.step.op.custom:
        _forward_rule(f, z, link)
    _dead(link, z)


def _against_autograd(f: Callable[[Tensor], Tensor], z: Tensor, link: Link, generator: torch.Generator) -> float:
    auto = Differentiated(f, z)
    u = _draw(auto.y, generator)
    ours, theirs = link.local.pull(u[None])[0], auto.vjp(u)
    return relative(ours, theirs)


def _prefer_autograd(f: Callable[[Tensor], Tensor], z: Tensor, link: Link, generator: torch.Generator) -> None:
    """Where a formula and autograd disagree, the chain is autograd's, which differences then judge."""
    link.local = Differentiated(f, z)
    link.formula, link.structure, link.autograd = f"vjp of {link.operation}", "dense", None


def _infinite(link: Link) -> bool:
    """Whether the derivative itself is NaN or infinite: sqrt at 0, log at 0."""
    local = link.local
    if isinstance(local, Entries) and local.weights is not None:
        bad = (~local.weights.isfinite()).nonzero().reshape(-1)
        numbers = local.weights
        place = f"entry {int(bad[0])}" if len(bad) else ""
    else:
        numbers = local.pull(torch.ones(1, *local.output, dtype=local.dtype, device=local.device)).reshape(-1)
        bad = (~numbers.isfinite()).nonzero().reshape(-1)
        place = f"column {int(bad[0])}" if len(bad) else ""
    if len(bad):
        link.broken = f"has the derivative {_number(numbers[bad[0]])} at {place}"
    return bool(len(bad))


def _against_differences(
    program: Program, f: Callable[[Tensor], Tensor], z: Tensor, link: Link, generator: torch.Generator
) -> None:
    errors = []
    made = program.env[link.made]
    for move in (_moves(z), z.abs()):
        v = _draw(z, generator).sign() * move
        if link.operation in SYMMETRIC:
            v = v + v.mT
        pushed = link.local.push(v[None])[0]
        u = _draw(pushed, generator)
        across = float((link.local.pull(u[None])[0] * v).sum()) - float((u * pushed).sum())
        scale = float((u * pushed).abs().sum())  # what backward says, too, should its transpose be another
        turned = abs(across) / scale if scale else 0.0
        for h in STEPS:
            errors.append(max(against(pushed, f, z, v, h, made), turned))
            if errors[-1] < GOOD:
                break
        if not all(math.isinf(e) for e in errors):
            break  # else the domain ends nearby: move every entry by its own size only
    link.differences = best(errors)
    if link.differences >= (WRONG if _fine(z) else 3e-2):
        link.wrong = locate(f, z, link, generator)
        if link.wrong is None:
            link.kink = True


def _forward_rule(f: Callable[[Tensor], Tensor], z: Tensor, link: Link) -> None:
    """A hand-written Function may have a rule for forward mode, too, that nobody calls until somebody does."""
    function = getattr(link.step.op.target, "function", None) if link.step else None
    if function is None or function.jvp is torch.autograd.Function.jvp or link.local.q > 2048:
        return
    for k in range(link.local.q):
        e = torch.zeros(link.local.q, dtype=z.dtype, device=z.device)
        e[k] = 1
        e = e.view(z.shape)
        try:
            said = forward_mode(f, z.detach(), e).reshape(-1)
        except (RuntimeError, NotImplementedError):
            return  # it needs more than a rule of its own
        truth = link.local.push(e[None])[0].reshape(-1)  # backward, which differences have confirmed
        gap = (said - truth).abs()
        if gap.numel() and float(gap.max()) > WRONG * max(float(said.abs().max()), float(truth.abs().max())):
            row = int(gap.argmax())
            link.wrong = Wrong(row, k, float(said[row]), float(truth[row]), "jvp")
            return


SYMMETRIC = {"linalg_cholesky", "cholesky", "linalg_eigvalsh", "linalg_eigh", "linalg_cholesky_ex", "_linalg_eigh"}
"""Operations that take their input to be symmetric and read half of it: moved only so that it stays symmetric."""


def locate(f: Callable[[Tensor], Tensor], z: Tensor, link: Link, generator: torch.Generator) -> Wrong | None:
    """The entry of a local Jacobian that is most wrong; None if the two sides of a kink explain it."""
    local = link.local
    columns = range(local.q) if local.p * local.q <= ENTRIES and local.q <= 2048 else [_suspect(f, z, link, generator)]
    worst, found = 0.0, None
    size = None
    for k in columns:
        e = torch.zeros(local.q, dtype=z.dtype, device=z.device)
        e[k] = 1
        e = e.view(z.shape)
        move = float(_moves(z).reshape(-1)[k])
        said = _column(local, e, k)
        closest = None
        for h in STEPS[:4]:
            slope = _slope(f, z, e, h * move).reshape(-1)
            if bool(slope.isfinite().all()):
                gap = (slope - said).abs()
                closest = (gap, slope) if closest is None or float(gap.max()) < float(closest[0].max()) else closest
        if closest is None:
            continue
        gap, slope = closest
        row = int(gap.argmax())
        size = max(size or 0.0, float(slope.abs().max()), float(said.abs().max()))
        if (
            float(gap[row]) > worst
            and float(gap[row]) > 1e-4 * size
            and not _kinked(f, z, e, move, row, float(said[row]))
        ):
            worst, found = float(gap[row]), Wrong(row, k, float(said[row]), float(slope[row]))
    return found


def _column(local, e: Tensor, k: int) -> Tensor:
    """(p,) what backward says of one column."""
    if local.p * local.q <= ENTRIES:
        return local.dense[:, k]
    return local.push(e[None])[0].reshape(-1)


def _kinked(f: Callable[[Tensor], Tensor], z: Tensor, e: Tensor, move: float, row: int, said: float) -> bool:
    """Whether the slopes from the left and from the right differ, and what was said lies between them."""
    h = 1e-6 * move
    here = f(z).reshape(-1)[row]
    above = float((f(z + h * e).reshape(-1)[row] - here) / h)
    below = float((here - f(z - h * e).reshape(-1)[row]) / h)
    gap = abs(above - below)
    between = min(above, below) - 0.01 * gap <= said <= max(above, below) + 0.01 * gap
    return between and gap > 1e-3 * max(abs(above), abs(below))


def _suspect(f: Callable[[Tensor], Tensor], z: Tensor, link: Link, generator: torch.Generator) -> int:
    """The column where a large local Jacobian is wrong, by halving what is moved."""
    q, local, moves = link.local.q, link.local, _moves(z).reshape(-1)
    signs = _draw(z, generator).reshape(-1).sign()
    u = _draw(local.push(torch.zeros(1, *local.input, dtype=z.dtype, device=z.device))[0], generator)
    pulled = local.pull(u[None])[0].reshape(-1)
    lo, hi = 0, q

    def gap(a: int, b: int) -> float:
        v = torch.zeros(q, dtype=z.dtype, device=z.device)
        v[a:b] = signs[a:b] * moves[a:b]
        slopes = [(u * _slope(f, z, v.view(z.shape), h)).sum() for h in STEPS[:4]]
        return min(abs(float(s - (pulled * v).sum())) for s in slopes)

    while hi - lo > 1:
        middle = (lo + hi) // 2
        lo, hi = (lo, middle) if gap(lo, middle) >= gap(middle, hi) else (middle, hi)
    return lo


def _dead(link: Link, z: Tensor) -> None:
    """Whether the factor is all zeros, and what that is called."""
    local = link.local
    if isinstance(local, Entries):
        zero = local.weights is not None and not bool(local.weights.any())
    else:
        g = torch.Generator().manual_seed(1)
        u = torch.randn(1, *local.output, generator=g, dtype=torch.float64).to(local.device, local.dtype)
        zero = not bool(local.pull(u).any())
    if not zero or not local.p * local.q:
        return
    if link.operation.startswith("relu") and bool((z <= 0).all()):
        link.dead = f"all {z.numel()} inputs are at or below 0 (the largest is {float(z.max()):.3g})"
    elif link.formula == "0":
        link.dead = f"{link.operation} is flat: its derivative is 0 wherever it has one"
    else:
        link.dead = "every entry of its factor is 0 here"


def against(pushed: Tensor, f: Callable[[Tensor], Tensor], z: Tensor, v: Tensor, h: float, made: Tensor) -> float:
    """Relative disagreement of J v with a central difference, beyond what rounding explains.

    Infinity where a neighbour has no value; NaN where the slope is too small to be seen above rounding.

    Args:
        pushed: J v as it is to be judged.
        made: f(z), whose size is that of the rounding.
    """
    slope = _slope(f, z, v, h)
    if not bool(slope.isfinite().all()):
        return math.inf
    if not made.numel():
        return 0.0
    rounding = 4 * torch.finfo(made.dtype).eps * float(made.abs().max()) / h
    gap = max(0.0, float((pushed - slope).abs().max()) - rounding)
    size = max(float(pushed.abs().max()), float(slope.abs().max()))
    if rounding > (1e-4 if _fine(made) else 3e-2) * size > 0:
        return math.nan
    return gap / size if gap else 0.0


def best(errors: list[float]) -> float:
    """The smallest that says something; NaN where none does."""
    return min((e for e in errors if not math.isnan(e)), default=math.nan)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest entry; 0 for 0 against 0, infinity where only one is finite."""
    if not ours.numel():
        return 0.0
    same = ours == theirs
    same |= ours.isnan() & theirs.isnan()
    if bool(same.all()):
        return 0.0
    gap, size = (ours - theirs).abs()[~same].max(), torch.maximum(ours.abs(), theirs.abs()).max()
    found = float(gap / size)
    return math.inf if math.isnan(found) else found


def _moves(z: Tensor) -> Tensor:
    """What a large move of each entry is: its own size, and not less than a tenth of the usual size."""
    usual = float(z.abs().mean()) or 1.0
    return z.abs().clamp_min(0.1 * usual)


def _slope(f: Callable[[Tensor], Tensor], z: Tensor, v: Tensor, h: float) -> Tensor:
    with torch.no_grad():
        return (f(z + h * v) - f(z - h * v)) / (2 * h)


def _draw(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.device, like.dtype)


def _fine(x: Tensor) -> bool:
    """Whether it is double precision: enough for differences to tell small errors."""
    return torch.finfo(x.dtype).eps < 1e-10


def _finite(x: Tensor) -> bool:
    return x.layout != torch.strided or bool(x.isfinite().all())


def _number(x: Tensor) -> str:
    return f"{float(x):.4g}"
