"""Pools, and ways in parallel that meet in a sum."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.fused import Net, model
from tests.corpora.networks import Block, RepVGG

S, C, BN, L = nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.Linear


def added(*ways: nn.Module) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        total = m.ways[0](x)
        for way in m.ways[1:]:
            total = total + way(x)
        return total

    return Net(forward, ways=nn.ModuleList(ways))


def cropped(m: Any, x: Tensor) -> Tensor:
    return m.a(x) + m.b(x)[:, :, 1:-1, 1:-1]


def conv_bn(inner: int, outer: int, size: int, stride: int = 1) -> nn.Module:
    return S(C(inner, outer, size, stride, size // 2, bias=False), BN(outer))


def u_net(m: Any, x: Tensor) -> Tensor:
    low = m.low(F.avg_pool2d(x, 2))
    return m.out(torch.cat([x, F.interpolate(low, scale_factor=2.0, mode="nearest")], 1))


BRANCHES = (
    model("conv, average pool", lambda: S(C(2, 3, 3), nn.AvgPool2d(2)), (2, 2, 8, 8)),
    model("average pool, conv", lambda: S(nn.AvgPool2d(2), C(2, 3, 3)), (2, 2, 8, 8)),
    model("average pool, flatten, Linear", lambda: S(nn.AvgPool2d(2), nn.Flatten(), L(18, 5)), (2, 2, 6, 6)),
    model(
        "1x1, padded average pool",
        lambda: S(C(2, 3, 1), nn.AvgPool2d(3, 2, 1)),
        (2, 2, 7, 7),
        must="refuse some",
        why="padded zeros count, the bias does not reach them",
    ),
    model(
        "1x1, average pool without the padding",
        lambda: S(C(2, 3, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        (2, 2, 7, 7),
        why="no fixed kernel: divisors differ at the border",
    ),
    model(
        "average pool with ceil mode, conv",
        lambda: S(nn.AvgPool2d(2, ceil_mode=True), C(2, 3, 1)),
        (2, 2, 7, 7),
        why="divisors differ at the border",
    ),
    model(
        "conv, global pool, Linear", lambda: S(C(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), L(3, 5)), (2, 2, 8, 8)
    ),
    model(
        "conv, uneven adaptive pool",
        lambda: S(C(2, 3, 3), nn.AdaptiveAvgPool2d(4)),
        (2, 2, 8, 8),
        why="6 to 4: windows overlap unevenly",
    ),
    model(
        "conv, mean, Linear", lambda: Net(lambda m, x: m.a(m.c(x).mean((2, 3))), c=C(2, 3, 3), a=L(3, 5)), (2, 2, 8, 8)
    ),
    model(
        "conv, max pool, conv",
        lambda: S(C(2, 3, 3), nn.MaxPool2d(2), C(3, 2, 1)),
        (2, 2, 8, 8),
        must="refuse some",
        why="a maximum is not linear",
        layers=2,
    ),
    model("RepVGG block", lambda: RepVGG(4, 4), (2, 4, 6, 6), layers=1),
    model("RepVGG block with a stride", lambda: RepVGG(3, 5, 2), (2, 3, 7, 7), layers=1),
    model("3x3 and 1x1 of unlike padding", lambda: added(C(2, 3, 3, padding=1), C(2, 3, 1)), (2, 2, 6, 6), layers=1),
    model("3x3 and a padded 1x1", lambda: added(C(2, 3, 3, padding=2), C(2, 3, 1, padding=1)), (2, 2, 6, 6), layers=1),
    model("valid 3x3 and a cropped 1x1", lambda: Net(cropped, a=C(2, 3, 3), b=C(2, 3, 1)), (2, 2, 6, 6)),
    model(
        "5x5, 3x3 and 1x1",
        lambda: added(conv_bn(3, 3, 5), conv_bn(3, 3, 3), conv_bn(3, 3, 1), BN(3)),
        (2, 3, 8, 8),
        layers=1,
    ),
    model("even kernels", lambda: added(C(2, 3, 2), C(2, 3, 2)), (2, 2, 6, 6), layers=1),
    model("1x3 and 3x1", lambda: added(C(2, 3, (1, 3), padding=(0, 1)), C(2, 3, (3, 1), padding=(1, 0))), (2, 2, 6, 6)),
    model(
        "strides that differ",
        lambda: added(C(2, 3, 3, 2, 1), S(nn.AvgPool2d(2), C(2, 3, 1))),
        (2, 2, 8, 8),
        why="one way pools by 2, the other strides by 2",
    ),
    model(
        "two strides, one shape",
        lambda: added(C(2, 3, 1, 2), C(2, 3, 4)),
        (2, 2, 7, 7),
        must="refuse some",
        why="both give 4 x 4, by strides 2 and 1",
    ),
    model(
        "dilations that differ", lambda: added(C(2, 3, 3, padding=1), C(2, 3, 3, padding=2, dilation=2)), (2, 2, 7, 7)
    ),
    model(
        "padding modes that differ",
        lambda: added(C(2, 3, 3, padding=1), C(2, 3, 3, padding=1, padding_mode="circular")),
        (2, 2, 6, 6),
        must="refuse some",
        why="borders differ",
    ),
    model(
        "groups that differ",
        lambda: added(C(4, 4, 3, padding=1, groups=4), C(4, 4, 3, padding=1)),
        (2, 4, 6, 6),
        layers=1,
    ),
    model(
        "1x1 then 3x3, beside 3x3",
        lambda: added(S(C(3, 6, 1, bias=False), C(6, 4, 3, padding=1)), C(3, 4, 3, padding=1)),
        (2, 3, 7, 7),
        layers=1,
    ),
    model(
        "1x1 with BN then padded 3x3, beside 3x3",
        lambda: added(S(conv_bn(3, 6, 1), conv_bn(6, 4, 3)), conv_bn(3, 4, 3)),
        (2, 3, 7, 7),
        must="refuse some",
        why="BN's shift meets a zero border",
    ),
    model(
        "average pool beside 3x3",
        lambda: added(S(C(3, 4, 1, bias=False), nn.AvgPool2d(3, 1, 1)), C(3, 4, 3, padding=1)),
        (2, 3, 7, 7),
    ),
    model(
        "skip around a padded conv",
        lambda: Net(lambda m, x: x + m.c(x), c=C(3, 3, 3, padding=1)),
        (2, 3, 6, 6),
        layers=1,
    ),
    model(
        "skip that is scaled",
        lambda: Net(lambda m, x: 0.1 * x + m.n(m.c(x)), c=C(3, 3, 3, padding=1), n=BN(3)),
        (2, 3, 6, 6),
        layers=1,
    ),
    model(
        "broadcast of a branch",
        lambda: Net(lambda m, x: m.c(x) + m.a(x.mean((2, 3)))[:, :, None, None], c=C(3, 4, 3), a=L(3, 4)),
        (2, 3, 6, 6),
    ),
    model(
        "squeeze and excite",
        lambda: Net(
            lambda m, x: m.c(x) * m.a(x.mean((2, 3))).sigmoid()[:, :, None, None], c=C(3, 4, 3), a=S(L(3, 2), L(2, 4))
        ),
        (2, 3, 6, 6),
    ),
    model("basic block", lambda: Block(3, 4, 2), (2, 3, 8, 8), layers=3),
    model(
        "mobile block",
        lambda: S(conv_bn(4, 12, 1), nn.ReLU6(), C(12, 12, 3, 1, 1, groups=12), BN(12), nn.ReLU6(), conv_bn(12, 4, 1)),
        (2, 4, 6, 6),
        layers=3,
    ),
    model(
        "joined branches, BN",
        lambda: Net(lambda m, x: m.n(torch.cat([m.a(x), m.b(x)], 1)), a=C(2, 3, 3, padding=1), b=C(2, 2, 1), n=BN(5)),
        (2, 2, 6, 6),
    ),
    model("U-Net without activations", lambda: Net(u_net, low=C(2, 3, 3, padding=1), out=C(5, 2, 1)), (2, 2, 6, 6)),
)
