"""What a case of the corpus of functions is, its dense truth, and how the tables are written.

`tight` says what the best index sets can be that are valid for all inputs near x and carried operation by operation:

- True: exactly the non-zeros of the dense Jacobian, here and at other inputs; constants may be read, x may not;
- None: so only by reading values at x (a dead ReLU, the winner of a pool), or by knowing the inside of an operation
  that mixes its inputs (the mask of an attention, the factors of a Cholesky decomposition);
- False: never so, since two ways through the graph cancel.

A superset of the non-zeros is never wrong, a subset always is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.corpora import normal, seeded, settle

DETACHED = "detached on purpose"  # the truth is autograd's, not the differences
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A function of one tensor and an example, made from a generator alone."""

    name: str
    make: Callable[[torch.Generator], tuple[Function, Tensor]]
    tight: bool | None = True
    note: str = ""


def dense(f: Function, x: Tensor) -> Tensor:
    """(p, q): the Jacobian row by row, by reverse mode, without vmap."""
    x = x.detach().clone()
    if f(x).numel() == 0:
        return x.new_zeros(0, x.numel())
    rows: Any = torch.autograd.functional.jacobian(f, x)
    return rows.reshape(-1, x.numel())


def non_zeros(jacobian: Tensor) -> Tensor:
    """(p, q) bool: entries above rounding noise, 1e-11 of the largest in float64 and 1e-5 in shorter formats."""
    if jacobian.numel() == 0:
        return jacobian != 0
    noise = 1e-11 if jacobian.dtype == torch.float64 else 1e-5
    return jacobian.abs() > noise * jacobian.abs().max()


def plain(name: str, f: Function, *shape: int, tight: bool | None = True, note: str = "", of: Any = None) -> Case:
    """A function without constants; `of` moves standard normal numbers to where f is defined."""
    return Case(name, lambda g: (f, normal(g, *shape) if of is None else of(normal(g, *shape))), tight, note)


def drawn(name: str, build: Any, *shape: int, tight: bool | None = True, note: str = "") -> Case:
    """`build(g)` gives the function, with constants drawn from the generator."""
    return Case(name, lambda g: (build(g), normal(g, *shape)), tight, note)


def layer(name: str, build: Any, *shape: int, tight: bool | None = True, train: bool = False, note: str = "") -> Case:
    """`build()` gives a module, used in eval mode (or training mode), float64, norms away from their start."""

    def make(g: torch.Generator) -> tuple[Function, Tensor]:
        module = settle(seeded(build, g), g).double().train(train)
        return module, normal(g, *shape)

    return Case(name, make, tight, note)
