"""Signals and sentences: recurrent networks, dilated and character convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.architectures.architecture import Architecture, Facts


class LSTMClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(200, 64)
        self.lstm = nn.LSTM(64, 64, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
        self.fc = nn.Linear(128, 100)

    def forward(self, tokens: Tensor) -> Tensor:
        _, (h, _) = self.lstm(self.embedding(tokens))
        return self.fc(torch.cat([h[-2], h[-1]], dim=1))


class GRUClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(32, 96, num_layers=2)
        self.fc = nn.Linear(96, 100)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)  # (T, B, C)
        return self.fc(out[-1])


class CellLoop(nn.Module):
    """nn.LSTMCell stepped by hand, its own output fed back in."""

    def __init__(self, size: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell = nn.LSTMCell(size + hidden, hidden)
        self.out = nn.Linear(hidden, 64)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], self.hidden)
        outputs = []
        for t in range(x.shape[1]):
            h, c = self.cell(torch.cat([x[:, t], h], dim=1), (h, c))
            outputs.append(self.out(h))
        return torch.stack(outputs, dim=1)


class Gated(nn.Module):
    """tanh times sigmoid of two dilated causal convolutions, a residual and a skip output."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.filter = nn.Conv1d(channels, channels, 2, dilation=dilation)
        self.gate = nn.Conv1d(channels, channels, 2, dilation=dilation)
        self.residual, self.skip = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(x, (self.dilation, 0))
        z = torch.tanh(self.filter(padded)) * torch.sigmoid(self.gate(padded))
        return x + self.residual(z), self.skip(z)


class WaveNet(nn.Module):
    """van den Oord et al. 2016, arXiv:1609.03499."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.start = nn.Conv1d(64, channels, 1)
        self.layers = nn.ModuleList([Gated(channels, 2**i) for i in range(5)])
        self.end1, self.end2 = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        skips = []
        for layer in self.layers:
            x, skip = layer(x)
            skips.append(skip)
        return self.end2(F.relu(self.end1(F.relu(sum(skips)))))


class TCNBlock(nn.Module):
    """Two causal convolutions, the padding cut off behind (Bai et al. 2018, arXiv:1803.01271)."""

    def __init__(self, inner: int, outer: int, dilation: int) -> None:
        super().__init__()
        self.cut = 2 * dilation
        self.conv1 = nn.Conv1d(inner, outer, 3, padding=self.cut, dilation=dilation)
        self.conv2 = nn.Conv1d(outer, outer, 3, padding=self.cut, dilation=dilation)
        self.downsample = nn.Conv1d(inner, outer, 1) if inner != outer else None

    def forward(self, x: Tensor) -> Tensor:
        out = F.dropout(F.relu(self.conv1(x)[:, :, : -self.cut]), 0.1, self.training)
        out = F.dropout(F.relu(self.conv2(out)[:, :, : -self.cut]), 0.1, self.training)
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class TCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(TCNBlock(16, 64, 1), TCNBlock(64, 64, 2), TCNBlock(64, 64, 4))
        self.linear = nn.Linear(64, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.network(x)[:, :, -1])


class CharCNN(nn.Module):
    """Convolutions of several widths over characters, the maximum over time (Kim 2014, arXiv:1408.5882)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 64, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv1d(64, 64, k) for k in (3, 4, 5)])
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(3 * 64, 100)

    def forward(self, chars: Tensor) -> Tensor:
        x = self.embed(chars).transpose(1, 2)
        x = torch.cat([F.relu(conv(x)).max(dim=2).values for conv in self.convs], dim=1)
        return self.fc(self.dropout(x))


SEQUENCES = (
    Architecture("LSTM", LSTMClassifier, lambda: torch.randint(200, (16, 12)), Facts(("fc",), draws=True)),
    Architecture("GRU", GRUClassifier, lambda: torch.randn(12, 16, 32), Facts(("fc",))),
    Architecture(
        "LSTMCell loop",
        CellLoop,
        lambda: torch.randn(16, 8, 32),
        Facts(("out",), reused=("cell.weight_ih", "cell.weight_hh", "out.weight")),
        slow=True,
    ),
    Architecture(
        "WaveNet",
        WaveNet,
        lambda: torch.randn(4, 64, 64),
        Facts(
            ("end2",), ("layers.?.filter.*", "layers.?.gate.*", "layers.?.residual.*"), unread=("layers.4.residual.*",)
        ),
    ),
    Architecture(
        "TCN",
        TCN,
        lambda: torch.randn(8, 16, 32),
        Facts(("linear",), ("network.?.conv*",), draws=True),
        slow=True,
    ),
    Architecture(
        "character CNN", CharCNN, lambda: torch.randint(1, 128, (16, 24)), Facts(("fc",), draws=True), slow=True
    ),
)
