"""What a fault is, its true derivative, and how its wrong one comes about.

A fault must be caught, and the message must match `named`, a regular expression for an operation, class or module. The
truth is never torch's derivative but central differences of f in float64, `by_differences(f, x)`. The wrong one is
`naive(fault, f, x)`; random and stateful functions have no truth: the fault is that calls disagree.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tests.corpora import normal, seeded, settle

Function = Callable[[Tensor], Any]
Kind = Literal[
    "backward",  # a hand-written derivative is wrong
    "cut",  # a part of the way from x to y is invisible to autograd
    "in-place",  # something was overwritten that autograd needs, or that belongs to the caller
    "surrogate",  # the derivative is another function's on purpose
    "hook",  # somebody changes gradients on their way
    "number",  # the formula is right, its arithmetic is not: NaN where the derivative is finite
    "coupling",  # samples of a batch are not independent
    "branch",  # a plan made at one input does not hold at another
    "random",  # two calls disagree
    "state",  # a call depends on the calls before it
    "unobtainable",  # no derivative at all
]
Naive = Literal["reverse", "forward", "vmap", "per sample", "prepared"]


@dataclass(frozen=True)
class Fault:
    """A function with a fault and an example, made from a generator alone; `make` again gives a fresh one.

    naive: how the wrong derivative comes about: by reverse mode; by forward mode; by vmap of reverse mode over axis 0;
        as gradients of sums over the batch; from a trace made at `example(x)`, differentiated at x.
    """

    name: str
    make: Callable[[torch.Generator], tuple[Function, Tensor]]
    kind: Kind
    named: str
    why: str
    naive: Naive = "reverse"
    example: Callable[[Tensor], Tensor] | None = None


def by_differences(f: Function, x: Tensor, step: float = 1e-5) -> Tensor:
    """(p, q): central differences; every call gets a copy of x. The error is about step^2 + 1e-16 / step."""
    columns = []
    with torch.no_grad():
        for i in range(x.numel()):
            move = torch.zeros_like(x).reshape(-1)
            move[i] = step
            move = move.reshape(x.shape)
            ahead, behind = torch.as_tensor(f(x + move)).clone(), torch.as_tensor(f(x - move)).clone()
            columns.append((ahead - behind).reshape(-1) / (2 * step))
    return torch.stack(columns, dim=1)


def naive(fault: Fault, f: Function, x: Tensor) -> Tensor:
    """(p, q): the derivative as somebody gets it who does not look; raises where none is to be had."""
    x, q = x.clone(), x.numel()
    jacobian: Any = torch.autograd.functional.jacobian
    if fault.naive == "forward":
        return torch.func.jacfwd(f)(x).reshape(-1, q)
    if fault.naive == "vmap":
        return torch.block_diag(*torch.vmap(torch.func.jacrev(f))(x).reshape(len(x), -1, x[0].numel()))
    if fault.naive == "per sample":
        rows = jacobian(lambda x: f(x).reshape(len(x), -1).sum(0), x)  # (p of a sample, *x)
        return torch.block_diag(*rows.reshape(len(rows), len(x), -1).transpose(0, 1))
    if fault.example is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced: Any = torch.jit.trace(f, fault.example(x), check_trace=False)
        f = traced
    return jacobian(f, x).reshape(-1, q)


def custom(name: str, forward: Any, backward: Any, jvp: Any = None, vmap: Any = None) -> Any:
    """`apply` of an autograd Function of this name; `backward(g, *inputs, y)` and `jvp(t, x)` are written by hand."""

    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs)

    body: dict[str, Any] = {
        "forward": staticmethod(lambda *inputs: forward(*inputs)),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(lambda ctx, g: backward(g, *ctx.saved_tensors)),
    }
    if jvp is not None:
        body["jvp"] = staticmethod(lambda ctx, t: jvp(t, ctx.saved_tensors[0]))
    if vmap is None:
        body["generate_vmap_rule"] = True
    else:
        body["vmap"] = staticmethod(vmap)
    return type(name, (torch.autograd.Function,), body).apply


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, f: Function) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


def on(f: Any, *shape: int, of: Callable[[Tensor], Tensor] = lambda x: x) -> Any:
    """`make` of a function without state and of normal numbers, moved by `of`."""
    return lambda g: (f, of(normal(g, *shape)))


def net(build: Callable[[], nn.Module], *shape: int, train: bool = False) -> Any:
    """`make` of a module in float64."""

    def make(g: torch.Generator) -> tuple[Function, Tensor]:
        return settle(seeded(build, g), g).double().train(train), normal(g, *shape)

    return make


def fresh(build: Callable[[], Function], *shape: int) -> Any:
    """`make` of a function with a state of its own."""
    return lambda g: (build(), normal(g, *shape))
