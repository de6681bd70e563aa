"""Faults of hand-written derivatives: what an author of an autograd Function gets wrong."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.fault import Applied, Fault, Function, custom, net, on

square, cube = (lambda x: x**2), (lambda x: x**3)
MIXER = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [3.0, 0.0, 1.0]], dtype=torch.float64)
KERNEL = torch.tensor([[[1.0, -2.0, 4.0]]], dtype=torch.float64)


def twice_x(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return 2 * g * x


def sine_of(inner: Function) -> Function:
    return lambda x: inner(x).sin()


def row_three_doubled(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return 2 * x * g * (1 + (torch.arange(x.shape[-1]) == 3))


def centred_rows(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


def wrong_tanh_deep_inside() -> nn.Module:
    wrong = Applied(custom("WrongTanh", torch.tanh, lambda g, x, y: g * (1 - y)))
    lin = [nn.Linear(6, 6) for _ in range(5)]
    return nn.Sequential(lin[0], nn.Tanh(), lin[1], nn.Tanh(), lin[2], wrong, lin[3], nn.Tanh(), lin[4])


def wrong_row_deep_inside() -> nn.Module:
    wrong = custom("WrongRow", square, row_three_doubled)
    return nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), Applied(wrong), nn.Linear(6, 3))


class Remembering(torch.autograd.Function):
    """Keeps x on the class, not on ctx: the last call's x serves all."""

    kept: Tensor

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        Remembering.kept = x
        return x**2

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 2 * Remembering.kept * grads[0]


def remembering_twice(x: Tensor) -> Any:
    return Remembering.apply(x) + Remembering.apply(x.sin())


def greedy(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return g.mul_(2).mul(x)


def wrong(name: str, forward: Any, backward: Any, why: str, *shape: int, of: Any = lambda x: x, **more: Any) -> Fault:
    """A fault of one custom Function, called by its class."""
    apply = custom(name, forward, backward)
    call = more.pop("call", lambda apply, x: apply(x))
    return Fault(more.pop("title"), on(lambda x: call(apply, x), *shape, of=of), "backward", name, why)


halves: Any = {"call": lambda apply, x: apply(x[0], x[1])}

BACKWARD = (
    wrong("WrongSign", square, lambda g, x, y: -2 * x * g, "minus 2 x for x^2", 5, title="wrong sign"),
    wrong("MissingFactor", cube, lambda g, x, y: x**2 * g, "x^2 for x^3, without the 3", 5, title="missing factor"),
    wrong("Untransposed", lambda x: MIXER @ x, lambda g, x, y: MIXER @ g, "W g for W^T g", 3, title="transposed"),
    wrong("WrongRow", square, row_three_doubled, "entry 3 is doubled, all others are right", 6, title="one row"),
    wrong(
        "ForgottenTerm",
        lambda x: x * x.roll(1),
        lambda g, x, y: g * x.roll(1),
        "the rolled factor is constant",
        6,
        title="forgotten term",
    ),
    wrong("RightAtZero", torch.sin, lambda g, x, y: g * 1, "1 for cos x: right at 0 alone", 5, title="right at zero"),
    wrong("AlwaysZero", torch.cos, lambda g, x, y: g * 0, "zero for -sin x", 5, title="zeros"),
    wrong(
        *(
            "SwappedInputs",
            lambda a, b: a**2 * b,
            lambda g, a, b, y: (g * a**2, g * 2 * a * b),
            "da and db are swapped",
        ),
        2,
        4,
        title="swapped inputs",
        **halves,
    ),
    wrong(
        "ForgottenInput",
        lambda a, b: a * b,
        lambda g, a, b, y: (g * b, None),
        "db is None, though y = a b",
        2,
        4,
        title="an input forgotten",
        **halves,
    ),
    wrong(
        "WrongWay",
        lambda x: 2 * x.roll(1),
        lambda g, x, y: 2 * g.roll(1),
        "rolled forwards, not back",
        6,
        title="rolled the same way",
    ),
    wrong(
        "ForgottenMean",
        lambda x: x - x.mean(0),
        lambda g, x, y: g * 1,
        "the mean is taken as a constant",
        4,
        3,
        title="mean taken as constant",
    ),
    wrong(
        "WrongSoftmax",
        lambda x: x.softmax(-1),
        lambda g, x, y: g * y,
        "diag(s) without - s s^T",
        2,
        4,
        title="softmax without its rank one",
    ),
    wrong(
        "WrongLayerNorm",
        centred_rows,
        lambda g, x, y: (g - g.mean(-1, keepdim=True)) / x.std(-1, keepdim=True),
        "the deviation is taken as a constant",
        3,
        5,
        title="layer norm with a constant deviation",
    ),
    wrong(
        "WrongReLU6",
        lambda x: (4 * x).clamp(0, 6),
        lambda g, x, y: 4 * g * (x > 0),
        "open above 6",
        12,
        title="relu6 open above",
    ),
    wrong("WrongAbs", torch.abs, lambda g, x, y: g * 1, "1 for the sign of x", 6, title="right where positive"),
    wrong(
        "HalfBackward",
        square,
        lambda g, x, y: (2 * x * g).half().double(),
        "rounded to float16, 1e-4 off",
        6,
        title="backward in half precision",
    ),
    wrong(
        "DividedByBatch",
        torch.sin,
        lambda g, x, y: g * x.cos() / len(x),
        "a mean's factor in a sum",
        4,
        3,
        title="divided by the batch",
    ),
    wrong(
        "Unflipped",
        lambda x: F.conv1d(x, KERNEL, padding=1),
        lambda g, x, y: F.conv1d(g, KERNEL, padding=1),
        "the kernel is not turned around",
        1,
        1,
        7,
        title="convolution with its kernel not flipped",
    ),
    wrong("SavedInput", torch.tanh, lambda g, x, y: g * (1 - x**2), "1 - x^2 for 1 - y^2", 5, title="input for output"),
    wrong(
        "GreedyBackward",
        lambda x: x**2,
        greedy,
        "writes 2 in the gradient it was given, which x shares",
        5,
        title="backward changes its gradient",
        call=lambda apply, x: apply(x) + x,
    ),
    Fault("saved on the class", on(remembering_twice, 5), "backward", "Remembering", "the last call's x serves both"),
    Fault("deep inside", net(wrong_tanh_deep_inside, 3, 6), "backward", "WrongTanh", "1 - y for 1 - y^2, in layer 5"),
    Fault(
        "one row, deep inside", net(wrong_row_deep_inside, 4), "backward", "WrongRow", "entry 3 of layer 2 is doubled"
    ),
    Fault(
        "wrong jvp",
        on(custom("WrongJvp", torch.sin, lambda g, x, y: g * x.cos(), jvp=lambda t, x: -t * x.cos()), 5),
        "backward",
        "WrongJvp",
        "backward is right, jvp has the wrong sign",
        "forward",
    ),
    Fault(
        "jvp without a term",
        on(custom("ShortJvp", square, lambda g, x, y: 2 * g * x, jvp=lambda t, x: t * x), 5),
        "backward",
        "ShortJvp",
        "backward is right, jvp forgets the 2",
        "forward",
    ),
    Fault(
        "wrong vmap",
        on(sine_of(custom("WrongVmap", square, twice_x, vmap=lambda i, d, x: ((x * 2) ** 2, d[0]))), 3, 4),
        "backward",
        "WrongVmap",
        "the batched rule squares 2 x",
        "vmap",
    ),
    Fault(
        "vmap on another axis",
        on(sine_of(custom("ShiftedVmap", square, twice_x, vmap=lambda i, d, x: ((x**2).mT, d[0]))), 3, 3),
        "backward",
        "ShiftedVmap",
        "the batched rule gives samples and columns exchanged",
        "vmap",
    ),
)
