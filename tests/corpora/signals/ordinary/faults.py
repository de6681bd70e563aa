"""The twenty faults that every course on deep learning would put into an exam about signals, one of each."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.fault import Fault, Run, Start, draw, entropy, mirror_, mse, normal_, scaled_, whole
from tests.corpora.signals.images import patchy
from tests.corpora.signals.ordinary.image_networks import ConvAutoEncoder, Faces, LeNet, Mixer, OldNet, UNet, Upscaler
from tests.corpora.signals.ordinary.networks import (
    Answers,
    AutoEncoder,
    Forecaster,
    Frozen,
    Matcher,
    Reader,
    Reviews,
    Sentences,
    Sounds,
    TextCNN,
    Translator,
    chain,
)


def sounds(g: torch.Generator, healed: bool) -> Start:
    model = Sounds()
    if healed:
        scaled_(model, g)
    else:
        normal_(model, g, 1.0)
    wave = torch.cumsum(0.2 * draw(g, 24, 1, 256), 2)
    return Start(model, wave / wave.std(), entropy(whole(g, 8, 24)))


def small(g: torch.Generator, healed: bool) -> Start:
    model, x = AutoEncoder(), draw(g, 48, 12) @ draw(g, 12, 90) / 12**0.5
    scaled_(model, g, 1.25 if healed else 0.125)
    return Start(model, x, mse(x))


def swish(g: torch.Generator, healed: bool) -> Start:
    model = chain(20, *[160] * 72, 5, act=nn.SiLU)
    if healed:
        mirror_(model, g)
    else:
        scaled_(model, g, 1.6765)  # 1 / sqrt(E silu(z)^2)
    return Start(model, draw(g, 48, 20), entropy(whole(g, 5, 48)))


def sigmoids(g: torch.Generator, healed: bool) -> Start:
    model = OldNet(nn.ReLU if healed else nn.Sigmoid)
    scaled_(model, g, math.sqrt(2) if healed else 1.0)
    return Start(model, patchy(g, 24, 1, 24), entropy(whole(g, 10, 24)))


def biased(g: torch.Generator, healed: bool) -> Start:
    model = TextCNN()
    for conv in model.convs:
        nn.init.constant_(conv.get_parameter("bias"), 0.0 if healed else -10.0)
    return Start(model, whole(g, 200, 32, 18), entropy(whole(g, 4, 32)))


def tanhs(g: torch.Generator, healed: bool) -> Start:
    model = LeNet()
    for part in model.children():
        nn.init.xavier_normal_(part.get_parameter("weight"), 5 / 3 if healed else 15.0, generator=g)
        nn.init.zeros_(part.get_parameter("bias"))
    return Start(model, patchy(g, 24, 1, 28), entropy(whole(g, 10, 24)))


def weather(g: torch.Generator, healed: bool) -> Start:
    mean, std = torch.tensor([101325.0, 288.0, 60.0, 180.0]), torch.tensor([900.0, 8.0, 15.0, 100.0])
    day = torch.cumsum(draw(g, 32, 24, 4), 1) / 24**0.5 + draw(g, 32, 1, 4)
    return Start(Forecaster(), day if healed else mean + std * day, mse(day[:, -1, 1:2]))


def read(g: torch.Generator, healed: bool) -> Start:
    return Start(Reader(act=healed), whole(g, 120, 24, 16), entropy(whole(g, 6, 24)))


def straight(run: Run) -> bool:
    """Whether a feed-forward part is an affine map."""
    feed: Any = run.start.model.get_submodule("blocks.1.feed")
    x = torch.linspace(-3, 3, 96).view(2, 48)
    with torch.no_grad():
        return torch.allclose(feed(x).sum(0), feed(x.sum(0)) + feed(0 * x[0]), atol=1e-4)


def translated(g: torch.Generator, healed: bool) -> Start:
    given = whole(g, 50, 16, 10), whole(g, 40, 16, 8)
    return Start(Translator(cut=not healed), given, entropy(whole(g, 40, 16, 8)))


def frozen(g: torch.Generator, healed: bool) -> Start:
    model = Frozen()
    for name, weight in model.named_parameters():
        if ("layers.1." in name or "layers.2." in name) and not healed:
            weight.requires_grad_(False)
    return Start(model, draw(g, 24, 12, 10), entropy(whole(g, 5, 24)))


def equal(g: torch.Generator, healed: bool) -> Start:
    model = Mixer()
    hidden: Any = model.get_submodule("blocks.1.channels.0")
    if not healed:
        nn.init.constant_(hidden.weight, 0.05)
        nn.init.constant_(hidden.bias, 0.0)
    return Start(model, patchy(g, 24, 3, 20), entropy(whole(g, 10, 24)))


def equals(run: Run) -> bool:
    """Whether all hidden units of a block say the same."""
    said = run.out["blocks.1.channels.0"]
    return bool((said - said[..., :1]).abs().max() < 1e-5)


def upscaled(g: torch.Generator, healed: bool) -> Start:
    model = Upscaler(20, 0.1 if healed else 1.0)
    scaled_(model, g)
    fine = patchy(g, 8, 1, 24)
    return Start(model, F.avg_pool2d(fine, 2), mse(fine))


def answered(g: torch.Generator, healed: bool) -> Start:
    return Start(Answers(scaled=healed), draw(g, 24, 18, 16), entropy(whole(g, 7, 24)))


def segmented(g: torch.Generator, healed: bool) -> Start:
    labels = (patchy(g, 6, 1, 24)[:, 0] > 0).long() + (patchy(g, 6, 1, 24)[:, 0] > 0.5).long()
    return Start(UNet(3, 4, squash=not healed), patchy(g, 6, 3, 24), lambda y: F.cross_entropy(y, labels))


def sentences(g: torch.Generator, healed: bool) -> Start:
    tokens, lengths = 1 + whole(g, 79, 32, 12), 1 + whole(g, 12, 32)
    lengths[7] = 0
    tokens[torch.arange(12) >= lengths[:, None]] = 0
    return Start(Sentences(1 if healed else 0), tokens, entropy(whole(g, 3, 32)))


def faces(g: torch.Generator, healed: bool) -> Start:
    batch = 24 if healed else 2
    return Start(Faces(), patchy(g, batch, 3, 32), entropy(whole(g, 12, batch)))


def reviews(g: torch.Generator, healed: bool) -> Start:
    return Start(Reviews(0.3 if healed else 0.97), whole(g, 150, 32, 14), entropy(whole(g, 2, 32)))


def rebuilt(g: torch.Generator, healed: bool) -> Start:
    model, x = ConvAutoEncoder(), patchy(g, 16, 1, 24)
    scaled_(model, g)
    if not healed:
        with torch.no_grad():
            model.decoder[2].get_parameter("weight").mul_(50)
    return Start(model, x, mse(x))


def matched(g: torch.Generator, healed: bool) -> Start:
    model = Matcher(24, *[128] * 56, 32)
    if healed:
        mirror_(model.tower, g)
    else:
        scaled_(model.tower, g)
    left, right, same = draw(g, 40, 24), draw(g, 40, 24), whole(g, 2, 40, 1).float()
    right = torch.where(same > 0, left + 0.3 * right, right)
    return Start(model, (left, right), lambda y: F.binary_cross_entropy_with_logits(y, same))


def depths(g: torch.Generator, healed: bool) -> Start:
    metres: Tensor = patchy(g, 6, 1, 24)
    return Start(UNet(3, 1, unit=1.0 if healed else 5000.0), patchy(g, 6, 3, 24), mse(metres))


FAULTS: tuple[Fault, ...] = (
    Fault(
        "sounds through weights of N(0, 1)",
        sounds,
        ("exploding signal", "exploding gradient"),
        (r"^convs", r"^fc"),
        lambda run: run.rms("") > 1e4,
        "torch.randn for the weights: every convolution multiplies by the square root of its inputs",
    ),
    Fault(
        "an autoencoder with weights ten times too small",
        small,
        ("vanishing signal", "vanishing gradient"),
        (r"^encoder", r"^decoder"),
        lambda run: run.rms("") < 1e-5,
        "a tenth of the signal is left at each of eight layers",
    ),
    Fault(
        "72 SiLU layers at the exact gain",
        swish,
        ("exploding signal", "unequal samples", "parallel samples"),
        (r"^\d",),
        lambda run: run.rms("142") > 100 and run.spread("142") > 1e4 and run.cosine("142") > 0.9,
        "right for a size of 1 only: what is a little larger grows, and large samples run away from small ones",
    ),
    Fault(
        "a deep classifier of sigmoids",
        sigmoids,
        ("vanishing gradient", "parallel samples"),
        (r"^features", r"^classifier"),
        lambda run: run.slope("features.0.weight") < 1e-3 * run.slope("classifier.9.weight"),
        "a slope of a quarter at most, seven times; all images have the same hidden units",
    ),
    Fault(
        "convolutions over words, dead from their biases",
        biased,
        ("dead units", "no gradient", "vanishing signal"),
        (r"^convs", r"^fc"),
        lambda run: all(run.dead(f"convs.{i}") == 1 for i in range(3)),
        "biases of -10 before a ReLU: no word moves any of them",
    ),
    Fault(
        "LeNet's tanh at a gain of fifteen",
        tanhs,
        ("saturated units",),
        (r"^conv", r"^fc"),
        lambda run: float((run.out["fc2"].tanh().abs() > 0.99).double().mean()) > 0.6,
        "Xavier with the wrong gain: nearly all units stand at -1 or 1",
    ),
    Fault(
        "the weather in pascal and kelvin",
        weather,
        ("input scale", "saturated units", "parallel samples"),
        (),
        lambda run: run.cosine("gru") > 0.99,
        "100 000 pascal into the gates of a GRU: all days end in the same state",
    ),
    Fault(
        "a transformer without its GELU",
        read,
        ("linear run",),
        (r"feed",),
        straight,
        "up and down again with nothing between: four times the work of one matrix",
    ),
    Fault(
        "a reader detached from its writer",
        translated,
        ("no gradient",),
        (r"^encoder", r"^source"),
        lambda run: run.silent(r"^encoder|^source"),
        "the state is detached, as between pieces of a long text, but here between the two networks",
    ),
    Fault(
        "two encoder layers frozen by mistake",
        frozen,
        ("no gradient",),
        (r"layers\.[12]",),
        lambda run: run.silent(r"layers\.[12]\."),
        "requires_grad_(False) by a pattern that found more than was meant; they were never trained",
    ),
    Fault(
        "a mixer's hidden units all the same",
        equal,
        ("identical units", "low rank"),
        (r"^blocks\.1\.channels",),
        equals,
        "nn.init.constant_ of the weights: 120 units are one",
    ),
    Fault(
        "twenty residual blocks that only add",
        upscaled,
        ("residual growth", "exploding signal"),
        (r"^body", r"^last"),
        lambda run: run.rms("last") > 100 * run.rms("first"),
        "EDSR without its factor of 0.1: each block adds as much again",
    ),
    Fault(
        "questions that look without 1 / sqrt(d)",
        answered,
        ("attention saturated",),
        (r"^rounds",),
        lambda run: float(run.out["rounds.0.softmax"].amax(-1).mean()) > 0.7,
        "a width of 192: products of 14, so that each question sees one fact",
    ),
    Fault(
        "pixels' softmax before cross-entropy",
        segmented,
        ("double squashing",),
        (),
        lambda run: bool(torch.allclose(run.out[""].sum(1), torch.ones(()), atol=1e-5)),
        "cross_entropy takes logits; of probabilities it can never say much",
    ),
    Fault(
        "the mean of no words",
        sentences,
        ("not finite",),
        (),
        lambda run: not run.finite,
        "one sentence is all padding: zero divided by zero",
    ),
    Fault(
        "two faces before a batch norm",
        faces,
        ("normalisation",),
        (r"^neck",),
        lambda run: float(run.out["neck"].abs().median()) > 0.95,
        "two numbers, normalised, are -1 and 1 whatever they were",
    ),
    Fault(
        "reviews with a dropout of 0.97",
        reviews,
        ("dropout",),
        (r"^dropout", r"^fc1"),
        lambda run: float((run.out["dropout"] == 0).double().mean()) > 0.9,
        "the share to drop taken for the share to keep: two or three of 80 numbers are left",
    ),
    Fault(
        "one transposed convolution fifty times too large",
        rebuilt,
        ("exploding signal", "exploding gradient", "update ratio"),
        (r"^decoder\.2",),
        lambda run: run.rms("decoder.2") > 20 * run.rms("decoder.0"),
        "everything before it has gradients fifty times too large, everything behind it such a signal",
    ),
    Fault(
        "pairs whose towers cannot tell them apart",
        matched,
        ("parallel samples", "low rank"),
        (r"^tower",),
        lambda run: run.cosine("tower") > 0.95,
        "56 ReLU layers with Kaiming's start: the size stays, and every angle goes to zero",
    ),
    Fault(
        "depths in fifths of a millimetre",
        depths,
        ("update ratio", "exploding gradient", "exploding signal"),
        (),
        lambda run: run.slope("out.weight") > 1e4,
        "what the head says is multiplied by 5000, the targets are metres",
    ),
)
