"""Ten networks of ordinary kinds with nothing wrong: every alarm on one of them is a false one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.fault import Healthy, Start, draw, entropy, mse, whole
from tests.corpora.signals.images import patchy
from tests.corpora.signals.ordinary.image_networks import ConvAutoEncoder, Generator, ResNet, UNet, ViT
from tests.corpora.signals.ordinary.networks import GPT, Reader, Reviews, chain


def resnet(g: torch.Generator) -> Start:
    return Start(ResNet(), patchy(g, 24, 3, 16), entropy(whole(g, 10, 24)))


def reader(g: torch.Generator) -> Start:
    return Start(Reader(depth=3), whole(g, 120, 32, 14), entropy(whole(g, 6, 32)))


def gpt(g: torch.Generator) -> Start:
    text = whole(g, 90, 12, 21)
    return Start(GPT(), text[:, :-1], entropy(text[:, 1:]))


def unet(g: torch.Generator) -> Start:
    labels = (patchy(g, 6, 1, 24) > 0).float()
    return Start(UNet(1, 1), patchy(g, 6, 1, 24), lambda y: F.binary_cross_entropy_with_logits(y, labels))


def reviews(g: torch.Generator) -> Start:
    return Start(Reviews(), whole(g, 150, 32, 14), entropy(whole(g, 2, 32)))


def generated(g: torch.Generator) -> Start:
    """The loss is what a discriminator says that does not learn here."""
    critic = nn.Sequential(
        *(nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(512, 1)),
    ).requires_grad_(False)

    def fooled(images: Tensor) -> Tensor:
        return F.softplus(-critic(images)).mean()

    return Start(Generator(), draw(g, 32, 40), fooled)


def rebuilt(g: torch.Generator) -> Start:
    x = patchy(g, 24, 1, 24)
    return Start(ConvAutoEncoder(), x, mse(x))


def shallow(g: torch.Generator) -> Start:
    x = draw(g, 64, 18)
    return Start(chain(18, 80, 60, 40, 1), x, mse((x[:, :1] * x[:, 1:2]).tanh() + x[:, 2:3]))


def vit(g: torch.Generator) -> Start:
    return Start(ViT(), patchy(g, 24, 3, 20), entropy(whole(g, 10, 24)))


def learnt(g: torch.Generator) -> Start:
    """Blots on 8 x 8 pixels, ten kinds, 50 steps of Adam."""
    kinds, labels = (draw(g, 10, 64) + 0.5).clamp(0, 2) / 2, whole(g, 10, 200)
    x = (kinds[labels] + 0.35 * draw(g, 200, 64)).clamp(0, 1)
    model, loss = chain(64, 96, 64, 10), entropy(labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(50):
        optimizer.zero_grad()
        loss(model(x)).backward()
        optimizer.step()
    model.zero_grad()
    return Start(model, x, loss)


HEALTHY: tuple[Healthy, ...] = (
    Healthy("CIFAR's ResNet with Kaiming's start", resnet, "six blocks, batch norm in training mode"),
    Healthy("pre-norm reader", reader, "three blocks as torch starts them, embeddings of N(0, 1)"),
    Healthy("GPT tied, its last projections smaller", gpt, "0.02 / sqrt(2 x depth) where a branch ends"),
    Healthy("U-Net with batch norm", unet, "three levels, a mask of two values"),
    Healthy("reviews read in both directions", reviews, "LSTM, a fifth dropped"),
    Healthy("generator before a still discriminator", generated, "as torch starts it; the loss has weights of its own"),
    Healthy("convolutions down and up", rebuilt, "as torch starts it: small at the end, and it learns"),
    Healthy("four layers for a number", shallow, "as torch starts them"),
    Healthy("ViT with torch's attention", vit, "tokens and places of 0.02"),
    Healthy("MLP that has learnt blots", learnt, "50 steps of Adam, pixels from 0 to 1"),
)
