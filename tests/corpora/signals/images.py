"""Faults in networks for images: norms, cuts, frozen parts, what comes in; and their neighbours that generate."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.fault import Fault, Start, draw, entropy, mse, normal_, scaled_, whole
from tests.corpora.signals.image_networks import (
    GAN,
    AutoEncoder,
    ConvNet,
    Dropped,
    Extractor,
    Generator,
    Mixer,
    Plain,
    Pooled,
    ResNet,
    Series,
    Tabular,
    TwoHeads,
    UNet,
)


def pictures(g: torch.Generator, model: nn.Module, channels: int = 3, size: int = 16, batch: int = 16) -> Start:
    """A classifier of ten classes at images of unit variance, mostly of coarse patches as images are."""
    return Start(model, patchy(g, batch, channels, size), entropy(whole(g, 10, batch)))


def patchy(g: torch.Generator, batch: int, channels: int, size: int) -> Tensor:
    """Images of unit variance: a colour each, patches of a quarter, and noise."""
    colour, coarse = draw(g, batch, channels, 1, 1), draw(g, batch, channels, 4, 4)
    return 0.7 * colour + 0.6 * F.interpolate(coarse, size=size) + 0.4 * draw(g, batch, channels, size, size)


def bytes_in(g: torch.Generator, healed: bool) -> Start:
    model, pixels = ConvNet(norm=False), whole(g, 256, 16, 1, 28, 28).float()
    scaled_(model, g)
    return Start(model, (pixels / 255 - 0.5) / 0.29 if healed else pixels, entropy(whole(g, 10, 16)))


def dead_channels(g: torch.Generator, healed: bool) -> Start:
    model: Any = ConvNet(norm=True, channels=3)
    if not healed:
        nn.init.constant_(model.norms[1].bias, -12.0)
    return pictures(g, model)


def plain(g: torch.Generator, healed: bool) -> Start:
    return pictures(g, Plain(norm=healed))


def averaging(g: torch.Generator, healed: bool) -> Start:
    model: Any = ConvNet(norm=False, channels=3)
    scaled_(model, g)
    if not healed:
        nn.init.constant_(model.convs[1].weight, 1 / 9 / 16)
    return pictures(g, model)


def frozen(g: torch.Generator, healed: bool) -> Start:
    model = ResNet()
    model.stage2.requires_grad_(healed)
    return pictures(g, model)


def extracted(g: torch.Generator, healed: bool) -> Start:
    return pictures(g, Extractor(cut=not healed))


def cut_middle(g: torch.Generator, healed: bool) -> Start:
    return Start(UNet(cut=not healed), patchy(g, 8, 1, 16), mse(patchy(g, 8, 1, 16)))


def mixed(g: torch.Generator, healed: bool) -> Start:
    return pictures(g, Mixer(act=healed))


def encoded(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 32, 8) @ draw(g, 8, 64) / 8**0.5
    return Start(AutoEncoder(cut=not healed), x, mse(x))


def generated(g: torch.Generator, healed: bool) -> Start:
    model = Generator(norm=healed)
    normal_(model, g, 0.02)
    return Start(model, draw(g, 16, 16, 1, 1), mse(patchy(g, 16, 1, 32).clamp(-1, 1)))


def judged(g: torch.Generator, healed: bool) -> Start:
    model: Any = GAN()
    if not healed:
        nn.init.constant_(model.discriminator[2].bias, -15.0)
    return Start(model, draw(g, 32, 16), lambda p: torch.log(1 - p).mean())


def side(g: torch.Generator, healed: bool) -> Start:
    return pictures(g, TwoHeads(used=healed))


def tiny(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 32, 10) * (1.0 if healed else 1e-6)
    return Start(Tabular(10), x, entropy(whole(g, 3, 32)))


def pair(g: torch.Generator, healed: bool) -> Start:
    batch = 32 if healed else 2
    return Start(Tabular(10), draw(g, batch, 10), entropy(whole(g, 3, batch)))


def one_number(g: torch.Generator, healed: bool) -> Start:
    walks = draw(g, 16, 30, 1).cumsum(1)
    return Start(Series(over_time=healed), walks / walks.std(), entropy(whole(g, 4, 16)))


def one_pixel(g: torch.Generator, healed: bool) -> Start:
    return pictures(g, Pooled(8 if healed else 32))


def dropped(g: torch.Generator, healed: bool) -> Start:
    return Start(Dropped(0.1 if healed else 0.95), draw(g, 32, 32), entropy(whole(g, 5, 32)))


IMAGES = (
    Fault(
        "pixels from 0 to 255",
        bytes_in,
        ("input scale",),
        (r"^convs\.0",),
        lambda run: float(run.start.example.abs().mean()) > 100 and run.rms("") > 20,
        "images as bytes, not standardised, and no norm that would notice",
    ),
    Fault(
        "channels dead behind a batch norm",
        dead_channels,
        ("dead units",),
        (r"^(convs|norms)\.[12]",),
        lambda run: run.dead("norms.1") > 0.9,
        "the norm's bias stands at -12: its ReLU passes nothing of anybody",
    ),
    Fault(
        "twenty convolutions without a norm",
        plain,
        ("parallel samples", "vanishing gradient", "vanishing signal"),
        (r"^convs", r"^head", r"^stem"),
        lambda run: run.cosine("convs.19") > 0.999 and run.slope("stem.weight") < 1e-6,
        "as torch starts them: a plain VGG, only deeper",
    ),
    Fault(
        "kernels that all average",
        averaging,
        ("identical units",),
        (r"^convs\.1",),
        lambda run: bool((run.out["convs.1"].std(1) < 1e-5).all()),
        "one mean filled into every kernel of a convolution",
    ),
    Fault(
        "a block frozen in the middle",
        frozen,
        ("no gradient",),
        (r"^stage2",),
        lambda run: run.silent(r"^stage2") and not run.silent(r"^stage1\.conv1"),
        "requires_grad_(False) left on one stage, while those before it learn",
    ),
    Fault(
        "no_grad around the features",
        extracted,
        ("no gradient",),
        (r"^features",),
        lambda run: run.silent(r"^features"),
        "written for a pre-trained body, kept for one that must learn",
    ),
    Fault(
        "the middle of a U-Net detached",
        cut_middle,
        ("no gradient",),
        (r"^middle",),
        lambda run: run.silent(r"^middle") and not run.silent(r"^down2"),
        "the skips keep everything else alive",
    ),
    Fault(
        "an activation forgotten in a Mixer",
        mixed,
        ("linear run",),
        (r"^mixing\.\d\.channels",),
        lambda run: not run.start.model.get_submodule("mixing.0.channels").act,
        "the channel part is two linear layers in a row",
    ),
    Fault(
        "an encoder whose code is detached",
        encoded,
        ("no gradient",),
        (r"^encoder",),
        lambda run: run.silent(r"^encoder"),
        "the decoder learns, the encoder never",
    ),
    Fault(
        "a generator with weights of 0.02 and no norm",
        generated,
        ("vanishing signal", "vanishing gradient"),
        (r"^net",),
        lambda run: run.rms("") < 5e-3,
        "DCGAN's start without DCGAN's norms",
    ),
    Fault(
        "a discriminator that is too sure",
        judged,
        ("vanishing gradient", "saturated units"),
        (r"^generator", r"^discriminator", r"^$"),
        lambda run: run.slope("generator.2.weight") < 1e-7,
        "log(1 - D) where D is 1e-7: the generator gets no gradient (Goodfellow et al. 2014, section 3)",
    ),
    Fault(
        "a branch computed and not used",
        side,
        ("no gradient",),
        (r"^side",),
        lambda run: run.silent(r"^side"),
        "the result is assigned and forgotten",
    ),
    Fault(
        "batch norm on inputs of 1e-6",
        tiny,
        ("normalisation", "input scale", "vanishing signal"),
        (r"^norm", r"^net\.0"),
        lambda run: run.rms("norm") < 1e-2,
        "variance 1e-12 beside an eps of 1e-5: constants, as far as the norm can tell",
    ),
    Fault(
        "batch norm with a batch of two",
        pair,
        ("normalisation",),
        (r"^norm",),
        lambda run: bool((run.out["norm"].abs() > 0.95).double().mean() > 0.9),
        "of two samples only the signs are left",
    ),
    Fault(
        "layer norm over one number",
        one_number,
        ("normalisation",),
        (r"^norm", r"^embed"),
        lambda run: run.rms("norm") == 0,
        "what deviates from its own mean is zero, whatever came in",
    ),
    Fault(
        "group norm of single pixels",
        one_pixel,
        ("normalisation",),
        (r"^norm", r"^head"),
        lambda run: run.rms("norm") < 1e-3,
        "as many groups as channels, at one pixel: every number is its own group",
    ),
    Fault(
        "dropout of 0.95",
        dropped,
        ("dropout",),
        (r"^drop", r"^fc"),
        lambda run: bool((run.out["drop"] == 0).double().mean() > 0.9),
        "meant as the share to keep",
    ),
)
