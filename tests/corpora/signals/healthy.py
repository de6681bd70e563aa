"""Networks with nothing wrong, as many kinds as people start and train: every alarm on them is a false one.

Some look wrong and are not: a zero that is meant, a body that is frozen on purpose, a code that is narrow, a squashing
before a loss that expects it.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.networks import LoRA
from tests.corpora.signals.architectures import (
    GRU,
    VQ,
    ConvNeXt,
    Critic,
    DenseNet,
    Graphs,
    LeNet,
    PointNet,
    Policy,
    Probabilities,
    Ratings,
    ReZero,
    Student,
)
from tests.corpora.signals.dense import labelled
from tests.corpora.signals.dense_networks import MLP, ResidualMLP, SwiGLU
from tests.corpora.signals.ends import Contrastive, House
from tests.corpora.signals.fault import (
    Healthy,
    Start,
    called,
    draw,
    entropy,
    mirror_,
    mse,
    normal_,
    scaled_,
    weighted,
    whole,
)
from tests.corpora.signals.image_networks import AutoEncoder, ConvNet, Dropped, Generator, Mixer, ResNet, UNet
from tests.corpora.signals.images import patchy, pictures
from tests.corpora.signals.sequences import GPT, Attention, Encoder, PostNorm, Tagger, ViT, small_, told


def learnt(start: Start, steps: int, lr: float) -> Start:
    """The same after some steps of Adam on its example; everything drawn within comes from the builder's seed."""
    assert start.loss is not None
    optimizer = torch.optim.Adam([w for w in start.model.parameters() if w.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        start.loss(called(start.model, start.example)).backward()
        optimizer.step()
    optimizer.zero_grad()
    return start


def digits(g: torch.Generator, size: int, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Noisy copies of ten patterns, and which."""
    labels = whole(g, 10, batch)
    return draw(g, 10, size)[labels] + 0.7 * draw(g, batch, size), labels


def learnt_mlp(g: torch.Generator) -> Start:
    x, labels = digits(g, 64)
    return learnt(Start(MLP([64, 64, 64, 10]), x, entropy(labels)), 100, 1e-3)


def learnt_conv(g: torch.Generator) -> Start:
    x, labels = digits(g, 256)
    model = ConvNet(norm=True)
    start = learnt(Start(model, x.view(64, 1, 16, 16), entropy(labels)), 100, 3e-3)
    return Start(model.eval(), *start[1:])


def learnt_resnet(g: torch.Generator) -> Start:
    x, labels = digits(g, 3 * 64, 32)
    start = learnt(Start(ResNet(), x.view(32, 3, 8, 8), entropy(labels)), 30, 1e-3)
    return Start(start.model.eval(), *start[1:])


def learnt_tanh(g: torch.Generator) -> Start:
    x = 3 * draw(g, 128, 1)
    return learnt(Start(MLP([1, 64, 64, 1], torch.tanh), x, mse(torch.sin(x))), 100, 5e-3)


def learnt_lstm(g: torch.Generator) -> Start:
    ids = whole(g, 30, 32, 10)
    return learnt(Start(Tagger(30, 24), ids, entropy(ids[:, -1] % 5)), 25, 1e-2)


def tanh_orthogonal(g: torch.Generator) -> Start:
    model = MLP([64] * 31, torch.tanh)
    for layer in weighted(model):
        nn.init.orthogonal_(layer.weight, 1.05, generator=g)
        nn.init.zeros_(layer.bias)
    return labelled(g, model, 64, 64)


def looks_linear(g: torch.Generator) -> Start:
    model = MLP([96] * 101)
    mirror_(model, g)
    return labelled(g, model, 96, 96)


def kaiming(g: torch.Generator) -> Start:
    model = MLP([40, 128, 128, 128, 128, 10])
    scaled_(model, g)
    return labelled(g, model, 40, 10)


def zero_gamma(g: torch.Generator) -> Start:
    model = ResNet()
    for stage in (model.stage1, model.stage2, model.stage3):
        nn.init.zeros_(stage.bn2.weight)
    return pictures(g, model)


def zero_head(g: torch.Generator) -> Start:
    model = ViT()
    nn.init.normal_(model.positions, 0.0, 0.02, generator=g)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    return pictures(g, model)


def vit(g: torch.Generator) -> Start:
    model = ViT()
    nn.init.normal_(model.positions, 0.0, 0.02, generator=g)
    return pictures(g, model)


def gpt(g: torch.Generator) -> Start:
    blocks: list[nn.Module] = [Encoder(64, Attention(64, 4, 4.0, masked=1)) for _ in range(3)]
    model = GPT(50, 64, blocks, tied=True)
    small_(model, g)
    return told(g, model)


def torch_gpt(g: torch.Generator) -> Start:
    return told(g, GPT(50, 48, [Encoder(48, Attention(48, 4, math.sqrt(12), masked=1)) for _ in range(4)]))


def post_norm(g: torch.Generator) -> Start:
    return Start(PostNorm(4), draw(g, 16, 9, 10), entropy(whole(g, 3, 16)))


def swiglu(g: torch.Generator) -> Start:
    return labelled(g, SwiGLU(48, 96, 6, norm=True), 48, 5)


def residual(g: torch.Generator) -> Start:
    model: Any = ResidualMLP(24, 64, 12, 6)
    scaled_(model, g, 1.0)
    with torch.no_grad():
        for block in model.blocks:
            block.second.weight.mul_(12**-0.5)
    return labelled(g, model, 24, 6)


def dcgan(g: torch.Generator) -> Start:
    model = Generator(norm=True)
    normal_(model, g, 0.02)
    return Start(model, draw(g, 16, 16, 1, 1), mse(patchy(g, 16, 1, 32).clamp(-1, 1)))


def critic(g: torch.Generator) -> Start:
    model, real = Critic(), whole(g, 2, 16).float()
    normal_(model, g, 0.02)
    return Start(model, patchy(g, 16, 1, 16), lambda y: F.binary_cross_entropy_with_logits(y, real))


def autoencoder(g: torch.Generator) -> Start:
    x = draw(g, 32, 8) @ draw(g, 8, 64) / 8**0.5
    return Start(AutoEncoder(), x, mse(x))


def unet(g: torch.Generator) -> Start:
    return Start(UNet(), patchy(g, 8, 1, 16), mse(patchy(g, 8, 1, 16)))


def contrastive(g: torch.Generator) -> Start:
    a = draw(g, 16, 20)
    views = (a, a + 0.3 * draw(g, 16, 20))
    return Start(Contrastive(), views, lambda s: F.cross_entropy(s / 0.1, torch.arange(16)))


def fine_tuned(g: torch.Generator) -> Start:
    model: Any = learnt_resnet(g).model
    model.requires_grad_(False)
    model.head = nn.Linear(64, 4)
    return Start(model, patchy(g, 16, 3, 8), entropy(whole(g, 4, 16)))


def lora(g: torch.Generator) -> Start:
    x, labels = digits(g, 64)
    model = nn.Sequential(LoRA(64, 64, 4), nn.ReLU(), LoRA(64, 64, 4), nn.ReLU(), nn.Linear(64, 10))
    for part in model.modules():
        if isinstance(part, LoRA):
            nn.init.zeros_(part.up.weight)
            part.base.requires_grad_(False)
    return Start(model, x, entropy(labels))


def graphs(g: torch.Generator) -> Start:
    edges = (torch.rand(24, 24, generator=g) < 0.1).float()
    edges = ((edges + edges.T + torch.eye(24)) > 0).float()
    degree = edges.sum(1).rsqrt()
    return Start(Graphs(degree[:, None] * edges * degree), draw(g, 24, 16), entropy(whole(g, 4, 24)))


def ratings(g: torch.Generator) -> Start:
    return Start(Ratings(), (whole(g, 200, 64), whole(g, 300, 64)), mse(draw(g, 64)))


def codes(g: torch.Generator) -> Start:
    x = draw(g, 32, 8) @ draw(g, 8, 32) / 8**0.5
    model = VQ()
    scaled_(model, g)
    with torch.no_grad():
        model.codebook.weight.copy_(model.encoder(x)[:24])  # codes start at what there is to be coded
    return Start(model, x, lambda y: F.mse_loss(y[0], x) + y[1])


def policy(g: torch.Generator) -> Start:
    actions = draw(g, 32, 3)

    def likelihood(y: tuple[Tensor, Tensor]) -> Tensor:
        return -torch.distributions.Normal(*y).log_prob(actions).sum(-1).mean()

    return Start(Policy(), draw(g, 32, 11), likelihood)


def logarithms(g: torch.Generator) -> Start:
    labels = whole(g, 10, 32)
    model = Probabilities(10, lambda y: F.log_softmax(y, -1))
    return Start(model, draw(g, 32, 20), lambda y: F.nll_loss(y, labels))


def probabilities(g: torch.Generator) -> Start:
    labels = whole(g, 10, 32)
    model = Probabilities(10, lambda y: F.softmax(y, -1))
    return Start(model, draw(g, 32, 20), lambda p: F.nll_loss(torch.log(p + 1e-8), labels))


def coins(g: torch.Generator) -> Start:
    labels = whole(g, 2, 32, 3).float()
    return Start(Probabilities(3, torch.sigmoid), draw(g, 32, 20), lambda p: F.binary_cross_entropy(p, labels))


HEALTHY: tuple[Healthy, ...] = (
    Healthy(
        "MLP as torch starts it", lambda g: labelled(g, MLP([40, 64, 64, 10]), 40, 10), "shallow: the default does"
    ),
    Healthy("MLP with Kaiming's start", kaiming, "five layers"),
    Healthy("MLP with dropout", lambda g: Start(Dropped(0.5), draw(g, 32, 32), entropy(whole(g, 5, 32))), "a half"),
    Healthy("tanh, 30 orthogonal layers", tanh_orthogonal, "deep, and the signal only fades a little"),
    Healthy("ReLU, 100 layers that look linear", looks_linear, "an orthogonal map at the start"),
    Healthy("regression of prices", lambda g: Start(House(8), draw(g, 32, 8), mse(draw(g, 32, 1))), "one output"),
    Healthy("residual MLP", residual, "each branch scaled by the square root of the depth"),
    Healthy(
        "ReZero", lambda g: labelled(g, ReZero(12), 20, 5), "branches have no gradient at the first step, as meant"
    ),
    Healthy("SwiGLU blocks", swiglu, "products, behind norms"),
    Healthy("LeNet", lambda g: Start(LeNet(), patchy(g, 16, 1, 28), entropy(whole(g, 10, 16))), "no norm, max pooling"),
    Healthy("CNN with batch norm", lambda g: pictures(g, ConvNet(True, 3)), "in training mode"),
    Healthy("ResNet", lambda g: pictures(g, ResNet()), "as torch starts it"),
    Healthy("ResNet with gammas of zero", zero_gamma, "the zeros end residual branches (Goyal et al. 2017)"),
    Healthy("ConvNeXt", lambda g: pictures(g, ConvNeXt()), "branches scaled by 1e-6, as published"),
    Healthy("DenseNet", lambda g: pictures(g, DenseNet()), "concatenated, not added"),
    Healthy("U-Net", unet, "two levels"),
    Healthy("MLP-Mixer", lambda g: pictures(g, Mixer()), "transposed in the middle"),
    Healthy("ViT", vit, "torch's encoder layers, the class token at zero"),
    Healthy("ViT with a head of zeros", zero_head, "no gradient below the head for one step, as meant"),
    Healthy("GPT with GPT-2's start", gpt, "tied; attention is nearly uniform at such a start, and learns"),
    Healthy("GPT as torch starts it", torch_gpt, "untied, embeddings of N(0, 1)"),
    Healthy("post-norm transformer", post_norm, "four layers"),
    Healthy("LSTM", lambda g: Start(Tagger(50, 32), whole(g, 50, 16, 12), entropy(whole(g, 5, 16))), "a dozen steps"),
    Healthy("GRU", lambda g: Start(GRU(), draw(g, 16, 15, 12), entropy(whole(g, 4, 16))), "two layers"),
    Healthy("autoencoder", autoencoder, "a code of 8 for 64: narrow on purpose"),
    Healthy("DCGAN's generator", dcgan, "N(0, 0.02^2) before batch norms, as published"),
    Healthy("DCGAN's discriminator", critic, "a sigmoid only in the loss"),
    Healthy("contrastive pairs", contrastive, "one network for both views, a temperature of 0.1"),
    Healthy("VQ-VAE", codes, "detached twice, and everything learns; gives a tuple"),
    Healthy(
        "points and their maximum", lambda g: Start(PointNet(), draw(g, 16, 24, 3), entropy(whole(g, 5, 16))), "sets"
    ),
    Healthy("graph convolutions", graphs, "samples that see each other"),
    Healthy("embeddings of users and things", ratings, "most rows are not in the batch"),
    Healthy("Gaussian policy", policy, "a parameter that no input reaches; gives a tuple"),
    Healthy("log-softmax and its likelihood", logarithms, "squashed once"),
    Healthy("probabilities and their logarithm", probabilities, "squashed once"),
    Healthy("sigmoid and binary cross-entropy", coins, "squashed once"),
    Healthy(
        "student of a frozen teacher",
        lambda g: Start(Student(), draw(g, 32, 20), lambda y: F.mse_loss(*y)),
        "the teacher is not to learn",
    ),
    Healthy("new head on a frozen body", fine_tuned, "trained before, in eval mode but for what is new"),
    Healthy("LoRA beside frozen layers", lora, "low rank on purpose, its second factor at zero"),
    Healthy("MLP after training", learnt_mlp, "100 steps of Adam"),
    Healthy("CNN after training", learnt_conv, "batch norm in eval mode"),
    Healthy("ResNet after training", learnt_resnet, "batch norm in eval mode"),
    Healthy("tanh regression after training", learnt_tanh, "one input, some units at their ends"),
    Healthy("LSTM after training", learnt_lstm, "25 steps of Adam"),
)
