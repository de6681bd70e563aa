"""Faults at the two ends: in what is fed, and in what is asked."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.dense import labelled
from tests.corpora.signals.dense_networks import MLP
from tests.corpora.signals.fault import Fault, Run, Start, draw, entropy, losses, mse, scaled_, whole


class Classifier(nn.Module):
    """A body and a head, and what squashes its result."""

    def __init__(self, outputs: int, squash: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head, self.squash = nn.Linear(64, outputs), squash

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(self.head(self.body(x)))


class Functional(nn.Module):
    """The same, squashed by a function in `forward`."""

    def __init__(self, squashed: bool) -> None:
        super().__init__()
        self.fc1, self.fc2, self.squashed = nn.Linear(20, 64), nn.Linear(64, 10), squashed

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(F.relu(self.fc1(x)))
        return F.softmax(y, dim=-1) if self.squashed else y


class House(nn.Module):
    """Prices from features."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.price = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.price(self.hidden(x))


class LogRate(nn.Module):
    """The logarithm of a rate that must not be negative."""

    def __init__(self, soft: bool) -> None:
        super().__init__()
        self.linear, self.positive = nn.Linear(64, 4), F.softplus if soft else F.relu

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(self.positive(self.linear(x)))


class Siamese(nn.Module):
    """Two views through one network; distances of all pairs, smoothed or not."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))
        self.least = least

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.encoder(a), self.encoder(b)
        return ((a[:, None] - b[None]).square().sum(-1) + self.least).sqrt()


class Contrastive(nn.Module):
    """Two views through one network; cosines of all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = F.normalize(self.encoder(a), dim=-1), F.normalize(self.encoder(b), dim=-1)
        return a @ b.T


def softmax_twice(g: torch.Generator, healed: bool) -> Start:
    return labelled(g, Classifier(10, nn.Identity() if healed else nn.Softmax(-1)), 20, 10)


def functional_twice(g: torch.Generator, healed: bool) -> Start:
    return labelled(g, Functional(squashed=not healed), 20, 10)


def sigmoid_twice(g: torch.Generator, healed: bool) -> Start:
    target = whole(g, 2, 32, 3).float()
    model = Classifier(3, nn.Identity() if healed else nn.Sigmoid())
    return Start(model, draw(g, 32, 20), lambda y: F.binary_cross_entropy_with_logits(y, target))


def million(g: torch.Generator, healed: bool) -> Start:
    model, x, labels = MLP([20, 64, 64, 5]), draw(g, 32, 20), whole(g, 5, 32)
    return Start(model, x, lambda y: F.cross_entropy(y, labels) * (1 if healed else 1e6))


def billionth(g: torch.Generator, healed: bool) -> Start:
    model, x, labels = MLP([20, 64, 64, 5]), draw(g, 32, 20), whole(g, 5, 32)
    return Start(model, x, lambda y: F.cross_entropy(y, labels) * (1 if healed else 1e-10))


def repeated(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 32, 20)
    return Start(MLP([20, 64, 64, 5]), x if healed else x[:1].repeat(32, 1), entropy(whole(g, 5, 32)))


def summed(g: torch.Generator, healed: bool) -> Start:
    model = MLP([256, 64, 64, 256])
    x = draw(g, 256, 16) @ draw(g, 16, 256) / 4
    return Start(model, x, lambda y: F.mse_loss(y, x, reduction="mean" if healed else "sum"))


def prices(g: torch.Generator, healed: bool) -> Start:
    target = 4e5 + 1e5 * draw(g, 32, 1)
    return Start(House(8), draw(g, 32, 8), mse((target - 4e5) / 1e5 if healed else target))


def houses(g: torch.Generator, healed: bool) -> Start:
    raw = draw(g, 32, 4) * torch.tensor([3e4, 10.0, 1.0, 500.0]) + torch.tensor([6e4, 1985.0, 3.0, 1500.0])
    x = (raw - raw.mean(0)) / raw.std(0) if healed else raw
    return Start(House(4), x, mse(draw(g, 32, 1)))


def missing(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 32, 8)
    x[5, 2] = 0.0 if healed else math.nan
    return Start(House(8), x, mse(draw(g, 32, 1)))


def outlier(g: torch.Generator, healed: bool) -> Start:
    model = MLP([20, 64, 64, 5])
    scaled_(model, g)
    x = draw(g, 32, 20)
    x[7] *= 1 if healed else 1e4
    return Start(model, x, entropy(whole(g, 5, 32)))


def rates(g: torch.Generator, healed: bool) -> Start:
    model = nn.Sequential()
    model.add_module("body", nn.Sequential(nn.Linear(20, 64), nn.ReLU()))
    model.add_module("rate", LogRate(soft=healed))
    return Start(model, draw(g, 32, 20), mse(draw(g, 32, 4)))


def distances(g: torch.Generator, healed: bool) -> Start:
    a = draw(g, 16, 20)
    b = a + draw(g, 16, 20)
    b[3] = a[3]  # one pair is a pair of duplicates
    apart = 1 - torch.eye(16)
    return Start(Siamese(1e-2 if healed else 0.0), (a, b), lambda d: (d - apart).square().mean())


def temperature(g: torch.Generator, healed: bool) -> Start:
    a = draw(g, 16, 20)
    tau = 0.1 if healed else 1e-6
    views = (a, a + draw(g, 16, 20))
    return Start(Contrastive(), views, lambda s: F.cross_entropy(s / tau, torch.arange(16)))


def squashed(run: Run) -> bool:
    """Whether the network answers with probabilities, and its loss stays far from zero therefore."""
    y, (first, last) = run.out[""], losses(run.start, 100, 1e-2)
    return bool(((y >= 0) & (y <= 1)).all()) and last > 0.25 * first


def too_far(run: Run) -> bool:
    """Whether plain gradient steps of 1e-2 do not lead down."""
    first, last = losses(run.start, 30, 1e-2, torch.optim.SGD)
    return not last < first


ENDS = (
    Fault(
        "softmax before cross-entropy",
        softmax_twice,
        ("double squashing",),
        (),
        squashed,
        "probabilities taken for logits: the loss stays above log(e + 9) - 1",
    ),
    Fault(
        "softmax in forward before cross-entropy",
        functional_twice,
        ("double squashing",),
        (),
        squashed,
        "the same, as a function",
    ),
    Fault(
        "sigmoid before BCE with logits",
        sigmoid_twice,
        ("double squashing",),
        (),
        squashed,
        "no probability below one half can be said",
    ),
    Fault(
        "a loss multiplied by a million",
        million,
        ("update ratio", "exploding gradient"),
        (),
        too_far,
        "left from a trial with other units: gradients a million times too large",
    ),
    Fault(
        "a loss in billionths",
        billionth,
        ("update ratio", "vanishing gradient"),
        (),
        lambda run: max(run.slope(name) for name in run.slopes) < 1e-9,
        "multiplied by 1e-10: gradients far below the eps of Adam",
    ),
    Fault(
        "one sample thirty-two times",
        repeated,
        ("parallel samples", "low rank"),
        (),
        lambda run: run.cosine("layers.0") > 0.9999,
        "a loader that always gives the first sample, with every label",
    ),
    Fault(
        "a loss summed over a large batch",
        summed,
        ("update ratio", "exploding gradient"),
        (),
        too_far,
        "sum for mean: 65,536 times the gradient",
    ),
    Fault(
        "targets in pounds",
        prices,
        ("update ratio", "exploding gradient"),
        (),
        too_far,
        "squared errors of 1e11: prices that nobody standardised",
    ),
    Fault(
        "features in their own units",
        houses,
        ("input scale",),
        (r"^hidden\.0",),
        lambda run: run.start.example.abs().max() > 1e4 and run.rms("hidden.0") > 1e3,
        "incomes beside years beside rooms",
    ),
    Fault(
        "a missing value in a table",
        missing,
        ("not finite",),
        (),
        lambda run: not run.finite,
        "one NaN among the inputs",
    ),
    Fault(
        "one sample ten thousand times larger",
        outlier,
        ("unequal samples", "input scale"),
        (r"^layers\.\d",),
        lambda run: run.spread("layers.1") > 1e3,
        "an outlier that nobody clipped carries the batch",
    ),
    Fault(
        "the logarithm of a ReLU",
        rates,
        ("not finite",),
        (r"^rate",),
        lambda run: not run.finite,
        "zero for half of all numbers: -inf",
    ),
    Fault(
        "distances of duplicates",
        distances,
        ("not finite",),
        (r"^encoder", r"^$"),
        lambda run: math.isfinite(run.loss) and not run.finite,
        "the square root at zero: the loss is fine, its gradient NaN",
    ),
    Fault(
        "a temperature of 1e-6",
        temperature,
        ("update ratio", "exploding gradient"),
        (),
        lambda run: run.slope("encoder.0.weight") > 1e2,
        "cosines divided by a slip of the pen",
    ),
)
