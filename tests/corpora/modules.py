"""Layers and small networks whose Jacobians are taken: convolutions, pools, norms, attention, recurrence."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.corpora import normal
from tests.corpora.case import Function, drawn, layer, plain
from tests.corpora.networks import Block


class Through(nn.Module):
    """A module made of a function of parts and x."""

    def __init__(self, f: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.f, self.parts = f, nn.ModuleDict(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.parts, x)


def convolving(image: Tensor) -> Function:
    return lambda kernel: F.conv2d(image, kernel)


CONVOLUTIONS = (
    layer("Conv1d", lambda: nn.Conv1d(2, 3, 3, padding=1), 1, 2, 10),
    layer("Conv1d without a batch", lambda: nn.Conv1d(2, 3, 3), 2, 9),
    layer("Conv2d", lambda: nn.Conv2d(2, 3, 3, padding=1), 1, 2, 6, 6),
    layer("Conv3d", lambda: nn.Conv3d(1, 2, 2), 1, 1, 4, 4, 4),
    layer("Conv2d of a batch", lambda: nn.Conv2d(2, 2, 3), 3, 2, 5, 5),
    layer("Conv2d strided and dilated", lambda: nn.Conv2d(1, 2, 3, stride=2, padding=2, dilation=2), 1, 1, 9, 9),
    layer("Conv2d with uneven kernel", lambda: nn.Conv2d(2, 2, (1, 3), stride=(1, 2), padding=(0, 1)), 1, 2, 5, 6),
    layer("Conv2d grouped", lambda: nn.Conv2d(4, 6, 3, groups=2), 1, 4, 5, 5),
    layer("Conv2d depthwise", lambda: nn.Conv2d(3, 6, 3, padding="same", groups=3), 1, 3, 5, 5),
    layer("Conv2d reflecting", lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), 1, 1, 5, 5),
    layer("Conv2d circular", lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), 1, 1, 5, 5),
    layer("Conv2d replicating", lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="replicate"), 1, 1, 5, 5),
    layer("ConvTranspose1d", lambda: nn.ConvTranspose1d(2, 2, 3, stride=2), 1, 2, 6),
    layer("ConvTranspose2d", lambda: nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1), 1, 2, 4, 4),
    layer("ConvTranspose2d grouped", lambda: nn.ConvTranspose2d(4, 2, 3, groups=2, dilation=2), 1, 4, 3, 3),
    layer("ConvTranspose3d", lambda: nn.ConvTranspose3d(1, 1, 2, stride=2), 1, 1, 2, 3, 3),
    drawn("conv2d in its weights", lambda g: convolving(normal(g, 1, 2, 5, 5)), 2, 2, 3, 3),
)


POOLS = (
    layer("MaxPool1d", lambda: nn.MaxPool1d(3, stride=2, padding=1), 1, 2, 9, tight=None),
    layer("MaxPool2d", lambda: nn.MaxPool2d(2), 1, 2, 6, 6, tight=None),
    layer("MaxPool2d overlapping", lambda: nn.MaxPool2d(3, stride=1, padding=1, dilation=1), 1, 1, 6, 6, tight=None),
    layer("MaxPool3d", lambda: nn.MaxPool3d(2), 1, 1, 4, 4, 4, tight=None),
    layer("AvgPool1d", lambda: nn.AvgPool1d(3, stride=2, padding=1), 1, 2, 9),
    layer("AvgPool2d", lambda: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), 1, 2, 7, 7),
    layer("AvgPool3d ceil mode", lambda: nn.AvgPool3d(2, ceil_mode=True), 1, 1, 5, 4, 4),
    layer("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d((3, 2)), 1, 2, 7, 5),
    layer("AdaptiveAvgPool1d to one", lambda: nn.AdaptiveAvgPool1d(1), 2, 3, 6),
    layer("AdaptiveMaxPool2d", lambda: nn.AdaptiveMaxPool2d(3), 1, 2, 7, 5, tight=None),
    layer("LPPool2d", lambda: nn.LPPool2d(2, 2), 1, 2, 6, 6),
    layer("MaxUnpool2d of MaxPool2d", lambda: Through(unpooled), 1, 1, 6, 6, tight=None),
)


def unpooled(parts: Any, x: Tensor) -> Tensor:
    y, where = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(y, where, [2, 2])


NORMS = (
    layer("BatchNorm1d in eval mode", lambda: nn.BatchNorm1d(4), 3, 4),
    layer("BatchNorm1d in training mode", lambda: nn.BatchNorm1d(4), 5, 4, train=True, note="samples are coupled"),
    layer("BatchNorm2d in eval mode", lambda: nn.BatchNorm2d(3), 2, 3, 4, 4),
    layer(
        "BatchNorm2d in training mode", lambda: nn.BatchNorm2d(2), 2, 2, 4, 4, train=True, note="samples are coupled"
    ),
    layer("BatchNorm2d without statistics", lambda: nn.BatchNorm2d(2, track_running_stats=False), 2, 2, 3, 3),
    layer("BatchNorm3d without affine", lambda: nn.BatchNorm3d(2, affine=False), 1, 2, 3, 3, 3),
    layer("LayerNorm", lambda: nn.LayerNorm(6), 4, 6),
    layer("LayerNorm in training mode over two axes", lambda: nn.LayerNorm([3, 4]), 2, 3, 4, train=True),
    layer("GroupNorm", lambda: nn.GroupNorm(2, 4), 2, 4, 3, 3),
    layer("GroupNorm in training mode", lambda: nn.GroupNorm(4, 4), 1, 4, 5, train=True),
    layer("InstanceNorm2d", lambda: nn.InstanceNorm2d(2, affine=True), 2, 2, 3, 3),
    layer("InstanceNorm1d with statistics", lambda: nn.InstanceNorm1d(2, track_running_stats=True), 2, 2, 5),
    layer("RMSNorm", lambda: nn.RMSNorm(6), 3, 6),
    layer("LocalResponseNorm", lambda: nn.LocalResponseNorm(3), 1, 6, 3, 3),
    plain("normalize over channels", lambda x: F.normalize(x, dim=1), 2, 5, 3),
    plain("softmax", lambda x: x.softmax(-1), 3, 6),
    plain("log_softmax over the first axis", lambda x: x.log_softmax(0), 6, 3),
    plain("softmin of a slice", lambda x: F.softmin(x[:, 1:], dim=-1), 3, 5),
)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.lin(self.norm(x)))


class Masked(nn.Linear):
    """Zeros in a banded matrix."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)
        with torch.no_grad():
            self.weight.copy_(self.weight.tril(1).triu(-2))


def pruned() -> nn.Module:
    part = nn.Linear(10, 8)
    prune.l1_unstructured(part, "weight", amount=0.7)
    return nn.Sequential(part, nn.Tanh())


def through_time(build: Any) -> Any:
    return lambda: Through(lambda parts, x: parts["net"](x)[0], net=build())


def causal(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x[0], x[1], x[2], is_causal=True)


def self_attention() -> nn.Module:
    return Through(lambda p, x: p["a"](x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(8, 2, batch_first=True))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        Block(3, 3),
        Block(3, 4, 2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, activation="gelu", batch_first=True)


NETWORKS = (
    layer("ReLU", nn.ReLU, 12, tight=None),
    layer("smooth activations", lambda: nn.Sequential(nn.GELU(), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.SELU()), 10),
    layer("ELU, LeakyReLU and PReLU", lambda: nn.Sequential(nn.ELU(), nn.LeakyReLU(), nn.PReLU(3)), 2, 3, 4),
    layer("hard activations", lambda: nn.Sequential(nn.Hardtanh(), nn.Hardswish(), nn.Softshrink(0.1)), 12, tight=None),
    layer("Threshold and RReLU", lambda: nn.Sequential(nn.Threshold(-1.0, -2.0), nn.RReLU()), 12, tight=None),
    layer("GLU", lambda: nn.GLU(1), 2, 6, 3),
    layer("MLP on one sample", lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)), 6),
    layer("MLP on a batch", lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)), 7, 4),
    layer("MLP on (B, T, C)", lambda: nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 2)), 2, 3, 4),
    layer("Bilinear of two halves", lambda: Through(lambda p, x: p["b"](x[0], x[1]), b=nn.Bilinear(3, 3, 4)), 2, 2, 3),
    layer("residual blocks", lambda: nn.Sequential(Residual(), Residual()), 4, 6),
    layer("ResNet-like", convnet, 1, 1, 6, 6, tight=None),
    layer("ResNet-like on a batch", convnet, 2, 1, 6, 6, tight=None),
    layer("dropout in eval mode", lambda: nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5)), 3, 5),
    layer("banded weight", lambda: Masked(12), 12),
    layer("banded weight on a batch", lambda: nn.Sequential(Masked(6), nn.Tanh(), Masked(6)), 4, 6),
    layer("pruned layer", pruned, 10),
    layer("weight_norm", lambda: parametrizations.weight_norm(nn.Linear(5, 4)), 2, 5),
    layer("spectral_norm in eval mode", lambda: parametrizations.spectral_norm(nn.Linear(5, 4)), 2, 5),
    layer("MultiheadAttention", self_attention, 2, 4, 8),
    plain("causal attention", causal, 3, 1, 2, 5, 3, tight=None, note="q, k and v are three parts of x"),
    layer("TransformerEncoderLayer", encoder, 2, 3, 8),
    layer("RNN", through_time(lambda: nn.RNN(3, 4, batch_first=True)), 2, 5, 3),
    layer("GRU", through_time(lambda: nn.GRU(3, 4)), 5, 2, 3, note="transposes in place when traced"),
    layer("LSTM of two layers", through_time(lambda: nn.LSTM(3, 3, num_layers=2)), 4, 2, 3),
    layer("GRUCell", lambda: nn.GRUCell(3, 4), 2, 3),
    layer("bidirectional LSTM", through_time(lambda: nn.LSTM(2, 2, bidirectional=True, batch_first=True)), 1, 5, 2),
)
