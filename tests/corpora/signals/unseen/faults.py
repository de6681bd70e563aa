"""Twenty-four faults that the first corpus does not have, most of them as people have reported them."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.dense_networks import MLP
from tests.corpora.signals.fault import Fault, Start, draw, entropy, mse, scaled_, whole
from tests.corpora.signals.images import patchy
from tests.corpora.signals.unseen.image_networks import Planes, Segmenter, Siren, Sounds
from tests.corpora.signals.unseen.looks import affine, probabilities, sharpest, the_same
from tests.corpora.signals.unseen.networks import (
    VAE,
    ActorCritic,
    Bags,
    Captioner,
    Categories,
    DeepGraph,
    Encoded,
    GatedConvs,
    Hyper,
    Mixture,
    Pointer,
    Slots,
    SoftExperts,
    Speakers,
    Thresholded,
    Towers,
    TwiceSkipped,
    WideDeep,
    WordDropped,
)


def captioned(g: torch.Generator, healed: bool) -> Start:
    model: Any = Captioner()
    if healed:
        nn.init.orthogonal_(model.rnn.weight_hh_l0, generator=g)
    else:
        nn.init.normal_(model.rnn.weight_hh_l0, 0.0, 0.01, generator=g)
    return Start(model, (patchy(g, 16, 3, 16), whole(g, 30, 16, 7)), entropy(whole(g, 30, 16)))


def towers(g: torch.Generator, healed: bool) -> Start:
    given = (whole(g, 60, 24), torch.randperm(80, generator=g)[:24])
    return Start(Towers(0.1 if healed else 1e-6), given, entropy(torch.arange(24)))


def variational(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 32, 8) @ draw(g, 8, 64) / 8**0.5
    model = VAE()
    if not healed:
        nn.init.normal_(model.logvar.weight, 0.0, 1.0, generator=g)

    def bound(y: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        made, mean, logvar = y
        return F.mse_loss(made, x) + 0.01 * (mean.square() + logvar.exp() - 1 - logvar).mean()

    return Start(model, x, bound)


def speakers(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 16, 20, 40)
    x[3] = 0  # a recording of silence
    return Start(Speakers(1e-4 if healed else 0.0), x, entropy(whole(g, 8, 16)))


def mixture(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 32, 12)
    y = x @ draw(g, 12, 128) / 12**0.5 + 0.5 * draw(g, 32, 128)

    def unlikelihood(given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        weights, means, scales = given
        each = -(((y[:, None] - means) / scales).square() + math.log(2 * math.pi)) / 2 - scales.log()  # (B, K, 128)
        if healed:
            return -(weights + each.sum(-1)).logsumexp(1).mean() / 128
        return -torch.log((weights.exp() * each.exp().prod(-1)).sum(1)).mean() / 128

    return Start(Mixture(), x, unlikelihood)


def one_class(g: torch.Generator, healed: bool) -> Start:
    labels = whole(g, 2, 32, 1).float()
    model = WideDeep(torch.sigmoid if healed else lambda y: F.softmax(y, dim=1))
    return Start(model, draw(g, 32, 16), lambda p: F.binary_cross_entropy(p, labels))


def sparse(g: torch.Generator, healed: bool) -> Start:
    x = draw(g, 32, 8) @ draw(g, 8, 48) / 8**0.5
    return Start(Thresholded(0.1 if healed else 4.0), x, mse(x))


def acting(g: torch.Generator, healed: bool) -> Start:
    model: Any = ActorCritic()
    scaled_(model, g)
    nn.init.normal_(model.actor[4].weight, 0.0, 0.1 if healed else 3.0, generator=g)
    return Start(model, draw(g, 64, 8), lambda q: -q.mean())


def experts(g: torch.Generator, healed: bool) -> Start:
    return Start(SoftExperts(copies=not healed), draw(g, 32, 16), entropy(whole(g, 5, 32)))


def categories(g: torch.Generator, healed: bool) -> Start:
    codes = whole(g, 20, 32, 6).float()
    return Start(Categories(), codes if healed else codes / 20, entropy(whole(g, 4, 32)))


def graph(g: torch.Generator, healed: bool) -> Start:
    edges = (torch.rand(24, 24, generator=g) < 0.12).float() + torch.eye(24).roll(1, 0)  # a ring keeps it in one piece
    edges = ((edges + edges.T + torch.eye(24)) > 0).float()
    degree = edges.sum(1).rsqrt()
    model = DeepGraph(degree[:, None] * edges * degree, 2 if healed else 24)
    scaled_(model, g)
    return Start(model, draw(g, 24, 16), entropy(whole(g, 4, 24)))


def template(g: torch.Generator, healed: bool) -> Start:
    return Start(Encoded(kept=not healed), draw(g, 16, 9, 12), entropy(whole(g, 4, 16)))


def hyper(g: torch.Generator, healed: bool) -> Start:
    return Start(Hyper(wrapped=not healed), draw(g, 32, 16), entropy(whole(g, 4, 32)))


def sounds(g: torch.Generator, healed: bool) -> Start:
    return Start(Sounds(complete=healed), draw(g, 16, 1, 256), entropy(whole(g, 6, 16)))


def skipped_twice(g: torch.Generator, healed: bool) -> Start:
    return Start(TwiceSkipped(again=not healed), draw(g, 16, 9, 12), entropy(whole(g, 4, 16)))


def pointed(g: torch.Generator, healed: bool) -> Start:
    return Start(Pointer(1 / 16 if healed else 1.0), draw(g, 16, 12, 12), entropy(whole(g, 4, 16)))


def slots(g: torch.Generator, healed: bool) -> Start:
    return Start(Slots(float(healed)), draw(g, 16, 10, 12), entropy(whole(g, 4, 16)))


def coordinates(g: torch.Generator, healed: bool) -> Start:
    at = torch.rand(256, 2, generator=g) * 2 - 1
    target = torch.sin(3 * at[:, :1]) * torch.cos(4 * at[:, 1:])
    return Start(Siren(), at if healed else (at + 1) * 256, mse(target))


def returns(g: torch.Generator, healed: bool) -> Start:
    gains = 8e4 + 3e4 * draw(g, 64)
    gains = (gains - gains.mean()) / gains.std() if healed else gains
    chosen = whole(g, 3, 64)
    return Start(
        MLP([6, 64, 64, 3], torch.tanh),
        draw(g, 64, 6),
        lambda y: (F.cross_entropy(y, chosen, reduction="none") * gains).mean(),
    )


def planes(g: torch.Generator, healed: bool) -> Start:
    labels = torch.arange(16) % 8
    x = F.one_hot(labels, 8).float()[..., None, None].expand(-1, -1, 12, 12).contiguous()
    target = (0.5 * draw(g, 8, 3)[labels]).clamp(-0.9, 0.9)[..., None, None].expand(-1, -1, 12, 12)
    return Start(Planes(nn.BatchNorm2d(32) if healed else nn.InstanceNorm2d(32)), x, mse(target.contiguous()))


def segmented(g: torch.Generator, healed: bool) -> Start:
    x = patchy(g, 4, 3, 8)
    labels = torch.cat([x, torch.full_like(x[:, :1], 0.3)], 1).argmax(1)  # the strongest colour, or none

    def focal(y: Tensor) -> Tensor:  # Lin et al. 2017, arXiv:1708.02002, eq. 4
        likely = F.log_softmax(y, dim=1).gather(1, labels[:, None])
        return -((1 - likely.exp()).square() * likely).mean()

    return Start(Segmenter(squashed=not healed), x, focal)


def words_dropped(g: torch.Generator, healed: bool) -> Start:
    return Start(WordDropped(0.1 if healed else 0.9), whole(g, 50, 32, 12), entropy(whole(g, 4, 32)))


def bags(g: torch.Generator, healed: bool) -> Start:
    sizes = whole(g, 6, 16) + 1
    sizes[5] = 1000
    there = (torch.arange(1000) < sizes[:, None]).float()
    return Start(Bags(mean=healed), (draw(g, 16, 1000, 4), there), entropy(whole(g, 4, 16)))


def gated(g: torch.Generator, healed: bool) -> Start:
    return Start(GatedConvs(skip=healed), whole(g, 50, 8, 16), entropy(whole(g, 50, 8, 16)))


FAULTS: tuple[Fault, ...] = (
    Fault(
        "a picture that the words make forgotten",
        captioned,
        ("vanishing gradient", "vanishing signal"),
        (r"^encoder", r"^rnn"),
        lambda run: run.slope("encoder.0.weight") < 1e-5 * run.slope("head.weight"),
        "a caption's first state comes from the picture; a recurrent matrix of N(0, 0.01^2) forgets it within words",
    ),
    Fault(
        "tables of 1e-6 before a cosine",
        towers,
        ("exploding gradient", "update ratio", "vanishing signal"),
        (r"^users", r"^things"),
        lambda run: run.slope("users.weight") > 1e3,
        "the cosine hides the size of what comes in, its gradient has the inverse of it",
    ),
    Fault(
        "log variances that nobody bounds",
        variational,
        ("exploding signal", "exploding gradient", "unequal samples"),
        (r"^logvar", r"^decoder", r"^mean"),
        lambda run: run.loss > 1e3,
        "exp of a head drawn from N(0, 1): vanderschaarlab/synthcity issue 331",
    ),
    Fault(
        "the deviation of a silence",
        speakers,
        ("not finite",),
        (r"^frames", r"^$"),
        lambda run: math.isfinite(run.loss) and not run.finite,
        "the square root of a variance of zero: pytorch issue 4320",
    ),
    Fault(
        "a product of 128 densities",
        mixture,
        ("not finite",),
        (),
        lambda run: not run.finite,
        "fp32 has no number so small, its logarithm is -inf: keras issue 2586",
    ),
    Fault(
        "a softmax over one class",
        one_class,
        ("no gradient", "vanishing gradient", "saturated units"),
        (r"^wide", r"^deep", r"^$"),
        lambda run: bool((run.out[""] == 1).all()) and run.silent(""),
        "one logit among itself is 1 for everybody: the network that always says yes",
    ),
    Fault(
        "codes below their threshold",
        sparse,
        ("dead units", "vanishing signal"),
        (r"^encode", r"^again", r"^threshold", r"^decode", r"^$"),
        lambda run: run.silent(r"^encode|^again|^threshold"),
        "thresholds of 4 for codes of 1: every code is zero, and no slope tells it to grow",
    ),
    Fault(
        "an actor at the ends of its range",
        acting,
        ("saturated units", "vanishing gradient"),
        (r"^actor",),
        lambda run: bool((run.out["actor"].abs() > 0.99).double().mean() > 0.8),
        "every action is -1 or 1: floodsung/DDPG issue 6",
    ),
    Fault(
        "experts that are copies",
        experts,
        ("identical units",),
        (r"^gate", r"^experts"),
        the_same,
        "deepcopy and a gate of zeros: four experts that learn the same for ever",
    ),
    Fault(
        "categories cut to zero",
        categories,
        ("parallel samples", "low rank"),
        (r"^tables", r"^mlp"),
        lambda run: run.cosine("mlp.0") > 0.99999,
        "scaled to 0..1 with the other columns, then cast to whole numbers: all are category 0",
    ),
    Fault(
        "a graph smoothed 24 times",
        graph,
        ("parallel samples", "low rank"),
        (r"^layers", r"^head"),
        lambda run: run.cosine("layers.23" if len(run.out) > 20 else "layers.1") > 0.99,
        "all nodes become one (Li et al. 2018, arXiv:1801.07606)",
    ),
    Fault(
        "the layer that was copied",
        template,
        ("no gradient",),
        (r"^layer($|\.)",),
        lambda run: any(name.startswith("layer.") for name in run.slopes) and run.silent(r"^layer\."),
        "torch's encoder copies the layer it is given; the original stays, unused: pytorch issue 39629",
    ),
    Fault(
        "weights made, then wrapped",
        hyper,
        ("no gradient",),
        (r"^hyper", r"^task"),
        lambda run: run.silent(r"^hyper|^task"),
        "nn.Parameter in forward is a new leaf: nothing goes back to the network that made it",
    ),
    Fault(
        "batch norms and no activation",
        sounds,
        ("linear run",),
        (r"^(convs|norms)\.[123]",),
        affine,
        "three convolutions over a waveform with norms alone between them",
    ),
    Fault(
        "a skip around what has its own",
        skipped_twice,
        ("residual growth", "exploding signal"),
        (r"^layers", r"^norm", r"^head"),
        lambda run: run.rms("layers.15") > 1e3,
        "x + layer(x), and the layer adds x by itself: the stream doubles at each",
    ),
    Fault(
        "additive attention with a loud v",
        pointed,
        ("attention saturated",),
        (r"^v$", r"^query", r"^key", r"^$"),
        lambda run: sharpest(run) > 0.7,
        "torch.randn for v, over 256 units: each query reads one place",
    ),
    Fault(
        "slots that start alike",
        slots,
        ("attention uniform", "identical units", "no gradient"),
        (r"^slots", r"^query", r"^key", r"^update", r"^$"),
        lambda run: max(run.slope("query.weight"), run.slope("key.weight")) < 1e-8,
        "zeros in place of noise: every slot reads the same, as much of everything",
    ),
    Fault(
        "coordinates in pixels",
        coordinates,
        ("input scale",),
        (r"^layers\.0",),
        lambda run: float(run.start.example.abs().mean()) > 100,
        "a sine network takes -1..1; from 0..512 its first sines are noise",
    ),
    Fault(
        "returns as they come",
        returns,
        ("update ratio", "exploding gradient"),
        (),
        lambda run: run.slope("layers.2.weight") > 100,
        "a policy gradient times scores of 80,000",
    ),
    Fault(
        "instance norm of even planes",
        planes,
        ("normalisation", "vanishing signal", "parallel samples"),
        (r"^embed", r"^norm", r"^middle", r"^out"),
        lambda run: run.rms("norm") < 1e-2,
        "what is even over a plane is its mean: the label is washed away (Park et al. 2019, arXiv:1903.07291)",
    ),
    Fault(
        "softmax over channels before a focal loss",
        segmented,
        ("double squashing",),
        (),
        probabilities,
        "probabilities of pixels, of which the loss takes log_softmax again",
    ),
    Fault(
        "nine words of ten dropped",
        words_dropped,
        ("dropout",),
        (r"^drop", r"^embed", r"^gru"),
        lambda run: bool((run.out["drop"] == 0).double().mean() > 0.8),
        "the share to keep, from a time when that was asked for",
    ),
    Fault(
        "a bag of a thousand among bags of five",
        bags,
        ("unequal samples", "exploding signal"),
        (r"^each", r"^all", r"^$"),
        lambda run: run.spread("all.0") > 30,
        "a sum over each set, and sets of unlike sizes",
    ),
    Fault(
        "twenty gates and no skip",
        gated,
        ("vanishing signal", "vanishing gradient", "parallel samples"),
        (r"^convs", r"^embed", r"^head"),
        lambda run: run.slope("embed.weight") < 1e-6 * run.slope("head.weight"),
        "each gate halves, each convolution more than halves",
    ),
)
