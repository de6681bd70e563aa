"""Convolutions one after another: borders, strides, groups, and axes that only look alike."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.corpora.fused import Net, channels, model, weights

S, C, BN, L = nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.Linear


def two_sites(m: Any, x: Tensor) -> Tensor:
    return m.n(m.c(x)).relu() + m.o(m.c(x.flip(-1))).tanh()


def twice_in_a_row(m: Any, x: Tensor) -> Tensor:
    return m.o(m.c(m.n(m.c(x)).relu()))


def scaled_then_padded(shift: bool) -> nn.Module:
    return Net(
        lambda m, x: m.c(x * m.gamma + m.beta if shift else x * m.gamma),
        c=C(3, 4, 3, padding=1),
        gamma=nn.Parameter(channels(3)),
        beta=nn.Parameter(channels(3)),
    )


CONVOLUTIONS = (
    model("conv, BN", lambda: S(C(2, 3, 3), BN(3)), (2, 2, 6, 6), layers=1),
    model(
        "padded conv, BN, ReLU", lambda: S(C(2, 3, 3, padding=1, bias=False), BN(3), nn.ReLU()), (2, 2, 6, 6), layers=1
    ),
    model("conv without a batch", lambda: S(C(2, 3, 3), C(3, 2, 1)), (2, 6, 6), layers=1),
    model("Conv1d, BN1d", lambda: S(nn.Conv1d(2, 3, 3, padding=1), nn.BatchNorm1d(3)), (2, 2, 7), layers=1),
    model("Conv3d, BN3d", lambda: S(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3)), (2, 2, 4, 4, 4), layers=1),
    model("Conv1d, Conv1d", lambda: S(nn.Conv1d(2, 8, 3), nn.Conv1d(8, 2, 3)), (2, 2, 9), layers=1),
    model(
        "shared conv, two BNs",
        lambda: Net(two_sites, c=C(2, 3, 3), n=BN(3), o=BN(3)),
        (2, 2, 6, 6),
        why="torch.fx's fuse folds both into one weight",
    ),
    model(
        "shared conv in a row",
        lambda: Net(twice_in_a_row, c=C(3, 3, 3, padding=1), n=BN(3), o=BN(3)),
        (2, 3, 6, 6),
        why="two call sites, two BNs",
    ),
    model(
        "shared BN, two convs",
        lambda: Net(lambda m, x: m.n(m.c(x)) + m.n(m.d(x)).relu(), c=C(2, 3, 3), d=C(2, 3, 3), n=BN(3)),
        (2, 2, 6, 6),
    ),
    model(
        "BN, padded conv",
        lambda: S(BN(3), C(3, 4, 3, padding=1)),
        (2, 3, 6, 6),
        must="refuse some",
        why="zeros are padded after the shift",
    ),
    model("BN, valid conv", lambda: S(BN(3), C(3, 4, 3)), (2, 3, 6, 6), layers=1),
    model("BN, 1x1 conv", lambda: S(BN(3), C(3, 4, 1)), (2, 3, 6, 6), layers=1),
    model(
        "BN, strided 1x1 conv with padding",
        lambda: S(BN(3), C(3, 4, 1, stride=2, padding=1)),
        (2, 3, 6, 6),
        must="refuse some",
        why="a 1x1 kernel sees padded zeros, too",
    ),
    model(
        "BN, reflecting conv",
        lambda: S(BN(3), C(3, 4, 3, padding=1, padding_mode="reflect")),
        (2, 3, 6, 6),
        why="a shift goes through reflection",
    ),
    model("BN, grouped conv", lambda: S(BN(4), C(4, 6, 3, groups=2)), (2, 4, 6, 6), layers=1),
    model("BN, depthwise conv, BN", lambda: S(BN(4), C(4, 8, 3, groups=4), BN(8)), (2, 4, 6, 6), layers=1),
    model(
        "scale, padded conv",
        lambda: scaled_then_padded(False),
        (2, 3, 6, 6),
        layers=1,
        why="zero stays zero under a scale",
    ),
    model(
        "scale and shift, padded conv",
        lambda: scaled_then_padded(True),
        (2, 3, 6, 6),
        must="refuse some",
        why="zeros are padded after the shift",
    ),
    model(
        "image moments, padded conv",
        lambda: Net(lambda m, x: m.c((x - 0.45) / 0.22), c=C(3, 4, 3, padding=1)),
        (2, 3, 6, 6),
        must="refuse some",
        why="zeros are padded after the shift",
    ),
    model(
        "image moments, valid conv",
        lambda: Net(lambda m, x: m.c((x / 255 - 0.45) / 0.22), c=C(3, 4, 3)),
        (2, 3, 6, 6),
        layers=1,
    ),
    model("valid conv, valid conv", lambda: S(C(2, 16, 3), C(16, 2, 3)), (2, 2, 8, 8), layers=1),
    model(
        "conv, conv, kept",
        lambda: S(C(16, 1, 3), C(1, 16, 3)),
        (2, 16, 8, 8),
        layers=2,
        why="through one channel: merging costs more",
    ),
    model(
        "padded conv, valid conv", lambda: S(C(2, 16, 3, padding=1), C(16, 2, 3)), (2, 2, 8, 8), why="the first may pad"
    ),
    model(
        "conv with bias, padded conv",
        lambda: S(C(2, 8, 3), C(8, 2, 3, padding=1)),
        (2, 2, 8, 8),
        must="refuse some",
        why="the border is zero, not the bias",
    ),
    model(
        "conv without bias, padded conv",
        lambda: S(C(2, 8, 3, bias=False), C(8, 2, 3, padding=1)),
        (2, 2, 8, 8),
        must="refuse some",
        why="beyond the border the first conv is not zero",
    ),
    model(
        "padded conv, padded conv",
        lambda: S(C(2, 8, 3, padding=1, bias=False), C(8, 2, 3, padding=1)),
        (2, 2, 8, 8),
        must="refuse some",
        why="beyond the border the first conv is not zero",
    ),
    model(
        "1x1 without bias, padded conv",
        lambda: S(C(2, 8, 1, bias=False), C(8, 2, 3, padding=1)),
        (2, 2, 8, 8),
        layers=1,
    ),
    model(
        "1x1 with bias, padded conv",
        lambda: S(C(2, 8, 1), C(8, 2, 3, padding=1)),
        (2, 2, 8, 8),
        must="refuse some",
        why="the border is zero, not the bias",
    ),
    model("padded conv, 1x1", lambda: S(C(2, 8, 3, padding=1), C(8, 2, 1)), (2, 2, 8, 8), layers=1),
    model(
        "strided conv, conv",
        lambda: S(C(2, 8, 3, stride=2), C(8, 2, 3)),
        (2, 2, 11, 11),
        why="the second kernel acts dilated by 2",
    ),
    model("conv, strided conv", lambda: S(C(2, 8, 3), C(8, 2, 3, stride=2)), (2, 2, 11, 11)),
    model(
        "strided 1x1, strided 1x1", lambda: S(C(2, 3, 1, stride=2), C(3, 2, 1, stride=(2, 1))), (2, 2, 9, 9), layers=1
    ),
    model(
        "dilated convs",
        lambda: S(C(2, 8, 3, dilation=2), BN(8), C(8, 2, 3, dilation=2)),
        (2, 2, 12, 12),
        why="both kernels dilated",
    ),
    model("dilated conv, plain conv", lambda: S(C(2, 4, 2, dilation=3), C(4, 2, 3)), (2, 2, 9, 9)),
    model(
        "grouped conv, grouped conv",
        lambda: S(C(4, 8, 3, groups=2), C(8, 4, 1, groups=2)),
        (2, 4, 7, 7),
        why="equal groups stay apart",
    ),
    model("grouped conv, other groups", lambda: S(C(4, 8, 1, groups=2), C(8, 4, 1, groups=4)), (2, 4, 7, 7)),
    model(
        "depthwise, pointwise",
        lambda: S(C(8, 8, 3, padding=1, groups=8), C(8, 16, 1)),
        (2, 8, 7, 7),
        layers=2,
        why="apart they cost less",
    ),
    model(
        "depthwise, BN, ReLU6, pointwise, BN",
        lambda: S(C(4, 4, 3, padding=1, groups=4), BN(4), nn.ReLU6(), C(4, 6, 1), BN(6)),
        (2, 4, 7, 7),
        layers=2,
    ),
    model(
        "reflecting conv, BN", lambda: S(C(2, 3, 3, padding=1, padding_mode="reflect"), BN(3)), (2, 2, 6, 6), layers=1
    ),
    model(
        "circular conv, circular conv",
        lambda: S(*[C(2, 2, 3, padding=1, padding_mode="circular") for _ in range(2)]),
        (2, 2, 6, 6),
    ),
    model(
        "replicating convs",
        lambda: S(*[C(2, 2, 3, padding=1, padding_mode="replicate") for _ in range(2)]),
        (2, 2, 6, 6),
        must="refuse some",
        why="the border repeats other values",
    ),
    model(
        "padding same",
        lambda: S(C(2, 3, 3, padding="same", dilation=2), BN(3), nn.ReLU(), C(3, 3, (3, 1), padding="same")),
        (2, 2, 6, 6),
    ),
    model("uneven kernels and strides", lambda: S(C(2, 6, (1, 3), stride=(1, 2)), C(6, 2, (3, 1))), (2, 2, 7, 9)),
    model(
        "explicit padding between",
        lambda: S(C(2, 3, 3), nn.ZeroPad2d((1, 0, 2, 1)), C(3, 2, 3)),
        (2, 2, 6, 6),
        must="refuse some",
        why="zeros are padded after the bias",
    ),
    model("explicit padding first", lambda: S(nn.ZeroPad2d(1), C(2, 3, 3), BN(3)), (2, 2, 6, 6), layers=1),
    model("transposed conv, BN", lambda: S(nn.ConvTranspose2d(2, 3, 3, stride=2), BN(3)), (2, 2, 5, 5), layers=1),
    model(
        "transposed grouped conv, BN",
        lambda: S(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), BN(6)),
        (2, 4, 5, 5),
        layers=1,
    ),
    model(
        "BN, transposed conv",
        lambda: S(BN(3), nn.ConvTranspose2d(3, 2, 3, stride=2)),
        (2, 3, 5, 5),
        must="refuse some",
        why="borders see fewer taps of the shift",
    ),
    model(
        "transposed conv, 1x1",
        lambda: S(nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1), C(4, 2, 1)),
        (2, 3, 5, 5),
        layers=1,
    ),
    model(
        "conv, pixel shuffle, BN",
        lambda: S(C(2, 12, 3), nn.PixelShuffle(2), BN(3)),
        (2, 2, 6, 6),
        why="one BN channel for four of the conv",
    ),
    model(
        "conv, pixel shuffle, conv",
        lambda: S(C(2, 8, 3, padding=1), nn.PixelShuffle(2), C(2, 2, 3, padding=1)),
        (2, 2, 6, 6),
    ),
    model("conv, nearest up, 1x1", lambda: S(C(2, 3, 3), nn.Upsample(scale_factor=2), C(3, 2, 1)), (2, 2, 6, 6)),
    model("conv, flatten, Linear", lambda: S(C(2, 3, 3), nn.Flatten(), L(48, 5)), (2, 2, 6, 6)),
    model(
        "conv, ReLU, flatten, BN1d, Linear",
        lambda: S(C(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(48), L(48, 5)),
        (2, 2, 6, 6),
        layers=2,
    ),
    model(
        "conv, BN, flatten too early",
        lambda: S(C(1, 3, 3), nn.Flatten(2), nn.BatchNorm1d(3), L(16, 5)),
        (2, 1, 6, 6),
        why="flat from axis 2 on: BN still scales channels",
    ),
    model(
        "Linear, BN, conv on an image",
        lambda: S(L(6, 6), BN(2), C(2, 3, 3)),
        (2, 2, 6, 6),
        must="refuse some",
        why="Linear mixes the width alone",
    ),
    model(
        "permuted to channels last, Linear",
        lambda: Net(lambda m, x: m.a(m.c(x).permute(0, 2, 3, 1)), c=C(2, 3, 3), a=L(3, 4)),
        (2, 2, 6, 6),
        why="Linear there is a 1x1 conv",
    ),
    model(
        "channels last in memory",
        lambda: S(C(3, 4, 3), BN(4), nn.ReLU(), C(4, 2, 3)),
        (2, 3, 7, 7),
        of=lambda x: x.to(memory_format=torch.channels_last),
    ),
    model(
        "conv, BN in training mode",
        lambda: S(C(2, 3, 3), BN(3)),
        (2, 2, 6, 6),
        must="refuse some",
        train=True,
        why="in training mode: moments of the batch",
    ),
    model(
        "conv, instance norm, conv",
        lambda: S(C(2, 3, 3), nn.InstanceNorm2d(3, affine=True), C(3, 2, 3)),
        (2, 2, 7, 7),
        why="its weight and bias may go on",
    ),
    model(
        "group norm, padded conv",
        lambda: S(nn.GroupNorm(2, 4), C(4, 3, 3, padding=1)),
        (2, 4, 6, 6),
        must="refuse some",
        why="zeros are padded after the norm's bias",
    ),
    model("group norm, 1x1 conv", lambda: S(nn.GroupNorm(2, 4), C(4, 3, 1)), (2, 4, 6, 6), layers=1),
    model(
        "functional conv",
        lambda: Net(lambda m, x: m.n(F.conv2d(x, weight=m.w, stride=2, padding=1)), w=weights(3, 2, 3, 3), n=BN(3)),
        (2, 2, 7, 7),
        layers=1,
    ),
    model("weight_norm conv, BN", lambda: S(parametrizations.weight_norm(C(2, 3, 3)), BN(3)), (2, 2, 6, 6), layers=1),
    model(
        "conv, dropout2d in eval mode, 1x1", lambda: S(C(2, 6, 3), nn.Dropout2d(), C(6, 2, 1)), (2, 2, 6, 6), layers=1
    ),
    model("conv in bfloat16", lambda: S(C(2, 3, 3), BN(3), nn.ReLU(), C(3, 2, 1)), (2, 2, 6, 6), dtype=torch.bfloat16),
)
