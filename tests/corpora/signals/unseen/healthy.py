"""Healthy networks of kinds that the first corpus has not: every alarm on them is a false one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.dense import labelled
from tests.corpora.signals.fault import Healthy, Start, called, draw, entropy, mse, whole
from tests.corpora.signals.healthy import digits, learnt
from tests.corpora.signals.images import patchy, pictures
from tests.corpora.signals.unseen.sound_networks import (
    CLIP,
    TCN,
    Adapted,
    Discriminator,
    DiT,
    Equilibrium,
    Few,
    FiLM,
    Flow,
    Fourier,
    Half,
    MeanTeacher,
    MobileNet,
    Quantiles,
    TopExperts,
    Translator,
)


def dense(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    parts: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:]):
        parts += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def frozen_prefix(g: torch.Generator) -> Start:
    x, labels = digits(g, 256)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 4, 10)),
    )
    start = learnt(Start(model, x.view(64, 1, 16, 16), entropy(labels)), 40, 3e-3)
    model[:4].requires_grad_(False)  # go on with what is specific only
    model[7] = nn.Linear(32 * 4, 5)
    return Start(model, start.example, entropy(labels % 5))


def mean_teacher(g: torch.Generator) -> Start:
    x, labels = digits(g, 20)
    labels = labels % 5
    model = MeanTeacher()

    def loss(y: tuple[Tensor, Tensor]) -> Tensor:
        said, wanted = y
        return F.cross_entropy(said, labels) + (said.softmax(-1) - wanted.softmax(-1)).square().mean()

    start = Start(model, (x, x + 0.1 * draw(g, 64, 20)), loss)
    for _ in range(10):
        learnt(start, 1, 1e-3)
        model.follow(0.1)
    return start


def conv_in_time(g: torch.Generator) -> Start:
    return Start(TCN(), draw(g, 16, 6, 24), entropy(whole(g, 4, 16)))


def discriminator(g: torch.Generator) -> Start:
    model, real = Discriminator(), torch.tensor([1.0, -1.0]).repeat(8)
    x = patchy(g, 16, 1, 16) * (1 + 0.5 * real[:, None, None, None])
    return Start(model, x, lambda y: F.relu(1 - real * y).mean())


def experts(g: torch.Generator) -> Start:
    labels = whole(g, 5, 64)

    def balanced(y: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(y[0], labels) + 0.01 * 6 * y[1].mean(0).square().sum()

    return Start(TopExperts(), draw(g, 64, 20), balanced)


def translator(g: torch.Generator) -> Start:
    return Start(Translator(), (whole(g, 40, 8, 9), whole(g, 50, 8, 11)), entropy(whole(g, 50, 8, 11)))


def fourier(g: torch.Generator) -> Start:
    at = torch.rand(256, 2, generator=g)
    return Start(Fourier(), at, mse(torch.sin(6 * at[:, :1]) * torch.cos(9 * at[:, 1:])))


def film(g: torch.Generator) -> Start:
    return Start(FiLM(), (patchy(g, 16, 3, 16), whole(g, 10, 16)), entropy(whole(g, 6, 16)))


def equilibrium(g: torch.Generator) -> Start:
    return labelled(g, Equilibrium(), 20, 5)


def quantiles(g: torch.Generator) -> Start:
    x, share = draw(g, 64, 12), torch.tensor([0.1, 0.5, 0.9])
    y = x[:, :1] + 0.5 * draw(g, 64, 1)

    def pinball(said: Tensor) -> Tensor:
        apart = y - said
        return torch.maximum(share * apart, (share - 1) * apart).mean()

    return Start(Quantiles(), x, pinball)


def clip(g: torch.Generator) -> Start:
    same = torch.arange(16)

    def both(logits: Tensor) -> Tensor:
        return (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2

    return Start(CLIP(), (patchy(g, 16, 3, 16), whole(g, 60, 16, 6)), both)


def dit(g: torch.Generator) -> Start:
    model, clean, noise = DiT(), draw(g, 16, 1, 12), draw(g, 16, 16, 12)
    time = torch.rand(16, 1, generator=g)
    waves = torch.cat([(k * time).sin() for k in range(1, 5)] + [(k * time).cos() for k in range(1, 5)], 1)
    given = (1 - time[..., None]).sqrt() * clean + time[..., None].sqrt() * noise
    return Start(model, (given, waves), mse(noise))


def dit_zero(g: torch.Generator) -> Start:
    start: Any = dit(g)
    nn.init.zeros_(start.model.head.weight)
    nn.init.zeros_(start.model.head.bias)
    return start


def adapted(g: torch.Generator) -> Start:
    x, labels = digits(g, 48)
    base: Any = learnt(Start(dense(48, 64, 64, 10), x, entropy(labels)), 60, 2e-3).model
    return Start(Adapted(base), x + 2 * draw(g, 1, 48), entropy(labels))  # the same, but elsewhere


def expert_mlp(g: torch.Generator) -> Start:
    labels = whole(g, 10, 256)
    x = draw(g, 10, 32)[labels] + 0.8 * draw(g, 256, 32)
    start = Start(dense(32, 64, 64, 10), x, entropy(labels))
    while (called(start.model, x).argmax(1) == labels).double().mean() < 0.99:
        learnt(start, 30, 3e-3)
    return start


def few(g: torch.Generator) -> Start:
    return Start(Few(), patchy(g, 4, 3, 16), entropy(torch.tensor([0, 1, 2, 1])))


def half(g: torch.Generator) -> Start:
    labels = whole(g, 6, 32)
    return Start(Half().bfloat16(), draw(g, 32, 24).bfloat16(), lambda y: F.cross_entropy(y.float(), labels))


def mobile(g: torch.Generator) -> Start:
    return pictures(g, MobileNet())


def flow(g: torch.Generator) -> Start:
    x = draw(g, 64, 8) @ (torch.eye(8) + 0.3 * draw(g, 8, 8))
    return Start(Flow(), x, lambda y: (y[0].square().sum(1) / 2 - y[1]).mean() / 8)


HEALTHY: tuple[Healthy, ...] = (
    Healthy("frozen prefix, trained before", frozen_prefix, "the first convolutions are not to learn any more"),
    Healthy("mean teacher", mean_teacher, "the teacher follows by a running mean, without a gradient"),
    Healthy("temporal convolutions with weight norm", conv_in_time, "weights are directions times sizes"),
    Healthy("discriminator with spectral norm", discriminator, "every layer shrinks a little; a hinge loss"),
    Healthy("two experts of six", experts, "some experts see few samples"),
    Healthy("GRUs that translate, with attention", translator, "products of small states: nearly uniform, and learns"),
    Healthy("random Fourier features", fourier, "two coordinates, waves that do not learn"),
    Healthy("FiLM", film, "scales and moves made from a question"),
    Healthy("one block twelve times", equilibrium, "shared weights, the input told each time"),
    Healthy("quantiles from three heads", quantiles, "a loss with kinks, a gradient of one in three sizes"),
    Healthy("CLIP's two towers", clip, "a learned temperature of 0.07"),
    Healthy("DiT with gates of zero", dit, "adaLN-Zero: no gradient inside the blocks for one step, as meant"),
    Healthy("DiT with a head of zeros, too", dit_zero, "as published: only the head moves at the first step"),
    Healthy("LoRA on a trained base", adapted, "frozen, trained before; the second factors at zero"),
    Healthy("MLP that is right 99 times of 100", expert_mlp, "small gradients, because little is wrong"),
    Healthy("batch of four with group norm", few, "four samples, three classes"),
    Healthy("MLP blocks in bfloat16", half, "eight bits of mantissa"),
    Healthy("MobileNetV2", mobile, "linear at its narrow ends, and depthwise"),
    Healthy("normalising flow", flow, "couplings; the loss is a likelihood and may be negative"),
)
