"""Small questions, answered at once: torch's reverse way, checked, without a look at the operations."""

from __future__ import annotations

import time
import warnings

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.cost import Cost
from eitherway.calculus.jacobian.check import probe, values_disagree
from eitherway.calculus.jacobian.choose import Sizes
from eitherway.calculus.jacobian.first_call import remembers, what_is_wrong
from eitherway.calculus.jacobian.ways import Function, Reverse
from eitherway.graph.chance import chance_now

SMALL = 2**15
"""Entries of the answer up to which following the run would take longer than torch takes to answer."""
QUICK = 1e-3
"""Seconds of one run, likewise."""


class Remembers(Exception):
    """The first call depended on x, and the second did not."""


def at_once(f: Function, x: Tensor, *, batched: bool) -> Tensor | None:
    """The Jacobian at x with torch.func's shape; None where the question is large, or anything at all is odd.

    Odd is whatever a plan would have to say a word about: values that differ from call to call or from what autograd
    derives, samples that touch, an input that is written into, a warning, an error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return _answer(f, x, batched)


def _answer(f: Function, x: Tensor, batched: bool) -> Tensor | None:
    try:
        start, point = time.perf_counter(), x.clone()
        leaf = point.detach().requires_grad_()
        chance = chance_now()
        with torch.enable_grad():
            out = f(leaf.view_as(leaf))
        if not torch.equal(chance, chance_now()):
            return None  # it draws numbers, though a few coins may fall alike in every call
        took = time.perf_counter() - start
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.numel() == 0 or x.numel() == 0:
            return None
        y = out.detach()
        if took > QUICK or x.numel() * y.numel() > SMALL or not torch.equal(point, x):
            return None
        if batched and (x.ndim == 0 or y.ndim == 0 or len(x) != len(y)):
            return None
        seen = probe(f, x, forwards=False)
        if out.requires_grad and torch.equal(seen.y, y) and not bool(seen.across.any()):
            (first,) = torch.autograd.grad(out, leaf, seen.w.view_as(out), allow_unused=True)
            if first is not None and bool(first.any()):
                raise Remembers
        if not torch.equal(seen.y, y) or values_disagree(seen.pulled, seen):
            return None
        sizes = Sizes(y[0].numel(), x[0].numel(), len(x)) if batched else Sizes(y.numel(), x.numel(), None)
        J = Reverse(f, sizes.rows, batched=batched, chunk=sizes.rows, tape="autograd", cost=Cost())(x)
        if what_is_wrong(J, seen, sizes):  # samples that touch are found here, too
            return None
    except Remembers:  # a plan could not find out: the first call is over
        raise ModelError(remembers(f)) from None
    except (ModelError, RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, Warning):
        return None  # a plan finds out what is the matter, and says it
    return J.reshape(-1, *y.shape[1:], *x.shape[1:]) if batched else J.reshape(y.shape + x.shape)
