"""Functions whose derivative is wrong, or cannot be had: as torch gives it, or as a planner would that does not look.

`FAULTS` is the whole corpus, also the hand-written derivatives that stand in `backwards` and
the functions of chance and memory in `stateful`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.backwards import BACKWARD
from tests.corpora.fault import (
    Applied,
    Fault,
    Function,
    by_differences,
    custom,
    naive,
    net,
    on,
)
from tests.corpora.stateful import CHANCE

__all__ = ["FAULTS", "Fault", "by_differences", "naive"]

# Parts that autograd does not see -----------------------------------------------------------------------------------


def under_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = x.norm()
    return x / scale


def by_numpy(x: Tensor) -> Tensor:
    return x + torch.from_numpy(np.sin(x.detach().numpy()))


def copied_in(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    y.data.copy_(x * 2)
    return y + x


CUTS = (
    Fault("detach", on(lambda x: x * x.detach(), 5), "cut", "detach", "one of two factors is detached"),
    Fault(".data", on(lambda x: x.sin() + x.data**2, 5), "cut", r"\.data|detach", "x.data is cut off"),
    Fault("no_grad", on(under_no_grad, 5), "cut", "no_grad|norm", "the norm is taken as a constant"),
    Fault(
        "tensor of a list",
        on(lambda x: x + torch.tensor(x.tolist(), dtype=x.dtype), 5),
        "cut",
        "tolist|torch.tensor",
        "Python lists",
    ),
    Fault("item", on(lambda x: x * x.sum().item(), 5), "cut", r"item|_local_scalar_dense", "the sum is a Python float"),
    Fault(
        "float",
        on(lambda x: x * math.sin(float(x[0])), 5),
        "cut",
        r"float\(|item|math|_local_scalar",
        "math.sin of x[0]",
    ),
    Fault("NumPy", on(by_numpy, 5), "cut", "numpy|detach", "np.sin is invisible"),
    Fault("copied into data", on(copied_in, 5), "cut", r"\.data|copy_|detach", "2 x is written past autograd"),
    Fault(
        "deep inside a network",
        net(lambda: nn.Sequential(nn.Linear(4, 4), Applied(lambda x: x.tanh() + x.detach()), nn.Linear(4, 2)), 3, 4),
        "cut",
        "detach|Applied",
        "the skip connection of layer 1 is detached",
    ),
    Fault("math.sin", on(lambda x: math.sin(x), 1), "unobtainable", r"math|torch\.sin", "the output is a float"),
    Fault("numpy()", on(lambda x: torch.from_numpy(np.sin(x.numpy())), 5), "unobtainable", "numpy", "numpy() refuses"),
    Fault(
        "integers",
        lambda g: (lambda x: x * 2, torch.arange(5)),
        "unobtainable",
        "int",
        "x is int64: no derivative",
    ),
)

# Overwritten --------------------------------------------------------------------------------------------------------


def saved_through_data(x: Tensor) -> Tensor:
    y = x.exp()
    y.data.add_(1)
    return y


def saved_overwritten(x: Tensor) -> Tensor:
    y = x.exp()
    z = y * 1
    y.mul_(2)
    return y + z


def written_under_no_grad(x: Tensor) -> Tensor:
    y = x + 1
    with torch.no_grad():
        y.mul_(3)
    return y


def input_through_data(x: Tensor) -> Tensor:
    x.data.mul_(2)
    return x.sin()


def part_of_input(x: Tensor) -> Tensor:
    x[0] = 0.0
    return x**2


IN_PLACE = (
    Fault(
        "saved tensor through .data",
        on(saved_through_data, 5),
        "in-place",
        r"add_|\.data|exp",
        "exp had saved what was moved",
    ),
    Fault("saved tensor overwritten", on(saved_overwritten, 5), "unobtainable", "mul_|exp", "autograd counts versions"),
    Fault("in place under no_grad", on(written_under_no_grad, 5), "in-place", "no_grad|mul_", "the 3 is not seen"),
    Fault("input in place", on(lambda x: x.mul_(2).sin(), 5), "unobtainable", "mul_|in.place", "x is the caller's"),
    Fault(
        "part of the input", on(part_of_input, 5), "unobtainable", "copy_|fill_|setitem|in.place", "x[0] is set to 0"
    ),
    Fault("input through .data", on(input_through_data, 5), "in-place", r"mul_|\.data|in.place", "x has moved after"),
)

# Another function's derivative --------------------------------------------------------------------------------------


def straight_through(values: Any) -> Function:
    return lambda x: x + (values(x) - x).detach()


def quantised(x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -8, 7)


def reversed_between() -> nn.Module:
    turned = custom("GradientReversal", lambda x: x * 1, lambda g, x, y: -g)
    return nn.Sequential(nn.Linear(3, 4), Applied(turned), nn.Linear(4, 2))


SURROGATES = (
    Fault("staircase", on(straight_through(torch.round), 5), "surrogate", "round|detach", "1 for a staircase"),
    Fault("step", on(straight_through(torch.sign), 5), "surrogate", "sign|detach", "1 for a step"),
    Fault(
        "clamp", on(straight_through(lambda x: x.clamp(-0.2, 0.2)), 5), "surrogate", "clamp|detach", "1 where clamped"
    ),
    Fault(
        "spike",
        on(custom("Spike", lambda x: (x > 0).to(x.dtype), lambda g, x, y: g / (1 + x.abs()) ** 2), 5),
        "surrogate",
        "Spike",
        "a surrogate of a step",
    ),
    Fault("fake quantisation", on(quantised, 6), "surrogate", "fake_quantize", "1 for a staircase, 0 outside"),
    Fault(
        "gradient reversal", net(reversed_between, 2, 3), "surrogate", "GradientReversal", "minus 1 for the identity"
    ),
)

# Hooks --------------------------------------------------------------------------------------------------------------


def clipped(x: Tensor) -> Tensor:
    y = x.exp()
    if y.requires_grad:
        y.register_hook(lambda g: g.clamp(-0.3, 0.3))
    return y.sin()


def doubled_by_a_module() -> nn.Module:
    part = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    part[1].register_full_backward_hook(lambda module, given, taken: (given[0] * 2,))
    return part


def saved_in_eighths(x: Tensor) -> Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (t * 8).round() / 8, lambda t: t):
        return x**3


HOOKS = (
    Fault("tensor hook", on(clipped, 5), "hook", "hook|exp", "the gradient is clipped on its way"),
    Fault("module hook", net(doubled_by_a_module, 3, 4), "hook", "hook|Tanh", "layer 1 doubles its gradient"),
    Fault(
        "saved tensors packed",
        on(saved_in_eighths, 5),
        "hook",
        "hook|pow|saved_in_eighths",
        "saved tensors lose digits",
    ),
)

# Arithmetic ---------------------------------------------------------------------------------------------------------


def softplus(x: Tensor) -> Tensor:
    return torch.where(x > 20, x, torch.log1p(x.exp()))


def polar(x: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(x)
    return u @ v


NUMBERS = (
    Fault(
        "where and sqrt",
        on(lambda x: torch.where(x > 0, x.sqrt(), x), 6),
        "number",
        "sqrt|where",
        "0 times NaN where x < 0; the truth is 1",
    ),
    Fault(
        "softplus by hand",
        on(softplus, 4, of=lambda x: x + torch.tensor([0.0, 0, 800, 900])),
        "number",
        "exp|log1p|where",
        "0 times infinity where x is large; the truth is 1",
    ),
    Fault(
        "polar factor by SVD",
        on(polar, 3, 3, of=lambda x: 2 * torch.eye(3, dtype=x.dtype)),
        "number",
        "svd",
        "equal singular values; the derivative is finite",
    ),
)

# Samples that are not independent -----------------------------------------------------------------------------------


def tokens_as_rows(x: Tensor) -> Tensor:
    return x.reshape(x.shape[1], x.shape[0], -1).sin().cumsum(1).reshape(x.shape)


def batch_second(part: nn.Module) -> nn.Module:
    module = Applied(lambda x: part(x)[0])
    module.part = part
    return module


def coupled(name: str, make: Any, named: str, why: str) -> Fault:
    return Fault(name, make, "coupling", named, why, "per sample")


COUPLINGS = (
    coupled(
        "batch norm in training mode",
        net(lambda: nn.BatchNorm1d(3), 5, 3, train=True),
        "BatchNorm1d|batch_norm",
        "moments",
    ),
    coupled(
        "batch norm inside a network",
        net(lambda: nn.Sequential(nn.Conv1d(2, 2, 3), nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten()), 3, 2, 5, train=True),
        "BatchNorm1d|batch_norm",
        "moments of the batch, in layer 1",
    ),
    coupled("softmax over the batch", on(lambda x: (2 * x).softmax(0), 4, 3), "softmax", "axis 0 is the batch"),
    coupled(
        "tokens for samples",
        on(tokens_as_rows, 2, 3, 2),
        "view|reshape|cumsum|tokens_as_rows",
        "(B, T, C) is read as (T, B, C)",
    ),
    coupled(
        "transposed batch", on(lambda x: x.t().contiguous() ** 2, 4, 4), r"transpose|\bt\b|permute", "rows for columns"
    ),
    coupled("rolled batch", on(lambda x: x * x.roll(1, 0), 4, 3), "roll", "the neighbour in the batch is a factor"),
    coupled("centred batch", on(lambda x: (x - x.mean(0)) ** 2, 4, 3), "mean", "the batch's mean is taken off"),
    coupled(
        "flattened too far",
        on(lambda x: F.normalize(x.flatten(), dim=0).view_as(x), 3, 4),
        "norm|flatten|view",
        "one norm for all",
    ),
    coupled(
        "attention with the batch second",
        net(lambda: batch_second(Attended(nn.MultiheadAttention(4, 2))), 3, 2, 4),
        "MultiheadAttention|attention|softmax|bmm|matmul",
        "(B, T, C) is given where (T, B, C) is expected",
    ),
    coupled(
        "LSTM with the batch second",
        net(lambda: batch_second(nn.LSTM(3, 2)), 3, 2, 3),
        "LSTM|lstm",
        "(B, T, C) is given where (T, B, C) is expected",
    ),
)


class Attended(nn.Module):
    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return self.attention(x, x, x, need_weights=False)


# Plans that do not hold ---------------------------------------------------------------------------------------------


def forked(x: Tensor) -> Tensor:
    if x.sum() > 0:
        return x.sin()
    return x.roll(1) * 3


def looped(x: Tensor) -> Tensor:
    y = x
    for _ in range(int(x.detach().abs().sum())):
        y = y.roll(1) * 1.1
    return y


def per_branch(
    name: str, f: Function, named: str, why: str, example: Callable[[Tensor], Tensor] = lambda x: -x
) -> Fault:
    return Fault(name, on(f, 5, of=lambda x: x.abs() + 0.1), "branch", named, why, "prepared", example)


def longer(x: Tensor) -> Tensor:
    return x * 3


BRANCHES = (
    per_branch(
        "if on a sum", forked, r"forked|branch|control flow|data-dependent", "prepared where the sum is negative"
    ),
    per_branch(
        "number of turns",
        looped,
        r"looped|item|_local_scalar|control flow|data-dependent",
        "three times as many turns",
        longer,
    ),
    per_branch(
        "index by value",
        lambda x: x[int(x.argmax())] * x,
        r"argmax|item|_local_scalar|control flow|data-dependent",
        "prepared where another entry is the largest",
    ),
    per_branch("mask by value", lambda x: x[x > 0] ** 2, r"nonzero|index|mask|shape", "as many outputs as x > 0"),
    Fault("unique", on(lambda x: x.unique() ** 2, 5), "unobtainable", "unique", "torch has no derivative of unique"),
    per_branch(
        "length by value",
        lambda x: x.sin().repeat(int(x.sum().abs()) + 1),
        "item|_local_scalar|repeat|shape",
        "as many outputs as the sum says",
        longer,
    ),
    per_branch(
        "signs kept as constants",
        lambda x: x * torch.tensor([math.copysign(1, v) for v in x.tolist()], dtype=x.dtype),
        "tolist|_local_scalar|constant|copysign",
        "signs are read once, by Python",
    ),
)

FAULTS: tuple[Fault, ...] = (
    *(*BACKWARD, *CUTS, *IN_PLACE, *SURROGATES, *HOOKS, *NUMBERS, *COUPLINGS, *BRANCHES, *CHANCE),
)
