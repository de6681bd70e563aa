"""Functions that write in place, and those that use the edges of autograd and of Python."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.corpora import seeded
from tests.corpora.case import DETACHED, Function, drawn, layer, plain

EYE = torch.eye(4, dtype=torch.float64)


def column_set(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = 1.0
    y[1] = y[2] * 2
    return y


def rows_shifted(x: Tensor) -> Tensor:
    y = x * 2
    y += x.exp()
    y[1:] -= y[:-1].clone()
    y[0].mul_(3).add_(x[1])
    return y


def transposed_inside(x: Tensor) -> Tensor:
    y = x.sin()
    y.transpose_(0, 1)
    y[0] = 0
    return y


def views_written(x: Tensor) -> Tensor:
    y = x.clone()
    y.view(-1)[::2].mul_(2)
    y.diagonal().copy_(x[0])
    y.t()[1].zero_()
    y.masked_fill_(EYE.bool().roll(1, 0), 5.0).clamp_(-9, 9)
    return y


def filled_by_parts(x: Tensor) -> Tensor:
    y = torch.empty(x.shape[0], 3 * x.shape[1], dtype=x.dtype)
    y[:, :3].copy_(x)
    y[:, 3:6] = x.detach() * 2
    y[:, 6:] = x.sin()
    return y


def indices_written(x: Tensor) -> Tensor:
    y = x.clone()
    y[[0, 2]] = x[[1, 1]].cos()
    y.index_add_(1, torch.tensor([0, 0]), x[:, 2:] ** 2)
    y.scatter_(0, torch.tensor([[3, 3, 3, 3]]), x[:1])
    return y


def swapped(x: Tensor) -> Tensor:
    y = x * 1
    y[0], y[1] = y[1].clone(), y[0].clone()
    return y.relu_() - x.roll(1)


IN_PLACE = (
    plain("a column and a row set", column_set, 4, 3),
    plain("rows changed in place", rows_shifted, 4, 3),
    plain("transpose_ and a row zeroed", transposed_inside, 3, 4),
    plain("views written", views_written, 4, 4),
    plain("an empty tensor filled by parts", filled_by_parts, 2, 3, note=DETACHED),
    plain("indices written", indices_written, 4, 4),
    plain("rows swapped, relu_", swapped, 3, 4, tight=None),
    layer(
        "ReLU in place after Linear", lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True)), 2, 4, tight=None
    ),
    plain("unsqueeze_ and squeeze_", lambda x: x.clone().unsqueeze_(0).squeeze_().t_().mul_(x.t()), 3, 4),
)


class Cubed(torch.autograd.Function):
    """x^3, in the old manner: no setup_context, so torch.func refuses it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grads[0]


class Mixed(torch.autograd.Function):
    """x_i x_{i+1}, for torch.func, batched by torch."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x[:-1] * x[1:]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return F.pad(grads[0] * x[1:], (0, 1)) + F.pad(grads[0] * x[:-1], (1, 0))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return tangents[0][:-1] * x[1:] + x[:-1] * tangents[0][1:]


class Doubled(torch.autograd.Function):
    """2 x, with a rule of its own for vmap."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 2 * grads[0]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        return Doubled.apply(x), in_dims[0]


def branched(x: Tensor) -> Tensor:
    if x.sum() > 0:
        return x.sin()
    return x.roll(1) * 2


def newton(x: Tensor) -> Tensor:
    y, turns = torch.ones_like(x), 0
    while turns < 50 and bool((y * y - x).abs().max() > 1e-14):
        y, turns = (y + x / y) / 2, turns + 1
    return y


def recomputed(x: Tensor) -> Tensor:
    y = checkpoint(lambda z: torch.sin(z) * z.roll(1), x, use_reentrant=False)
    assert isinstance(y, Tensor)
    return y**2


def with_called_weights(g: torch.Generator) -> Function:
    part = seeded(lambda: nn.Linear(4, 3), g).double()
    return lambda w: torch.func.functional_call(part, {"weight": w}, (torch.ones(2, 4, dtype=w.dtype),))


EDGES = (
    plain("custom Function, old manner", lambda x: Cubed.apply(x), 6, note="torch.func refuses it"),
    plain("custom Function, batched by torch", lambda x: Mixed.apply(x), 6),
    plain("custom Function, batched by itself", lambda x: Doubled.apply(x) * x, 6),
    plain("if on values", branched, 6, of=lambda x: x.abs(), note="holds where the sum is positive"),
    plain("while on values", newton, 6, of=lambda x: x.abs() + 0.5, note="Newton's square root", tight=True),
    plain("sum of Python floats", lambda x: sum((float(i) * x[i] for i in range(5)), x[0] * x[1]), 5),
    plain("checkpoint", recomputed, 6),
    drawn("functional_call in the weights", with_called_weights, 3, 4),
    plain(
        "inner gradient",
        lambda x: torch.func.grad(lambda y: (y.sin() * y.roll(1)).sum())(x),
        6,
        note="second derivatives",
    ),
    plain("inner vmap", lambda x: torch.vmap(lambda r: r.cumsum(0) * r[0])(x), 3, 4),
    plain("list comprehension over rows", lambda x: torch.stack([row.softmax(0) @ row for row in x]), 4, 3),
    plain("default dtype left behind", lambda x: x.float().sin().double(), 6, note="passes through float32"),
)
