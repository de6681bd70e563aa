"""Faults in networks of dense layers: the sizes of their weights, their biases, what stands between them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora.signals.dense_networks import MLP, Act, Narrow, ResidualMLP, Scaled, SwiGLU, Uneven
from tests.corpora.signals.fault import Fault, Run, Start, draw, entropy, mirror_, mse, normal_, scaled_, whole

Maker = Callable[[torch.Generator, bool], Start]


def labelled(g: torch.Generator, model: nn.Module, size: int, classes: int, batch: int = 32) -> Start:
    """A classifier at unrelated inputs of unit variance."""
    return Start(model, draw(g, batch, size), entropy(whole(g, classes, batch)))


def chain(sizes: Sequence[int], start: Callable[[Any, torch.Generator, bool], None], act: Act = F.relu) -> Maker:
    """A maker: an MLP of these sizes, started by `start(model, generator, healed)`."""

    def make(g: torch.Generator, healed: bool) -> Start:
        model = MLP(sizes, act)
        with torch.no_grad():
            start(model, g, healed)
        return labelled(g, model, sizes[0], sizes[-1])

    return make


def unscaled(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g) if healed else normal_(model, g, 1.0)


def unscaled_deep(model: Any, g: torch.Generator, healed: bool) -> None:
    mirror_(model, g) if healed else normal_(model, g, 1.0)


def unscaled_tanh(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g, 1.1) if healed else normal_(model, g, 1.0)


def hundredths(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g, 1.1) if healed else normal_(model, g, 0.01)


def exact_gain(model: Any, g: torch.Generator, healed: bool) -> None:
    mirror_(model, g) if healed else scaled_(model, g, 1.5335)  # 1 / sqrt(E gelu(z)^2)


def kaiming_deep(model: Any, g: torch.Generator, healed: bool) -> None:
    mirror_(model, g) if healed else scaled_(model, g)


def exact_tanh(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g, 1.5925)  # 1 / sqrt(E tanh(z)^2)
    for layer in model.layers if healed else ():
        nn.init.orthogonal_(layer.weight, 1.0, generator=g)


def as_torch_does(model: Any, g: torch.Generator, healed: bool) -> None:
    if healed:
        mirror_(model, g)


def dead(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g)
    if not healed:
        nn.init.constant_(model.layers[2].bias, -15.0)


def constant(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g)
    if not healed:
        nn.init.constant_(model.layers[1].weight, 0.02)


def zeros(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g) if healed else normal_(model, g, 0.0)


def zero_middle(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g)
    if not healed:
        nn.init.zeros_(model.layers[2].weight)


def hundredfold(model: Any, g: torch.Generator, healed: bool) -> None:
    scaled_(model, g)
    if not healed:
        model.layers[3].weight.mul_(100)


def sigmoids(g: torch.Generator, healed: bool) -> Start:
    model = MLP([32, *[64] * 10, 5], F.relu if healed else torch.sigmoid)
    if healed:
        scaled_(model, g)
    return labelled(g, model, 32, 5)


def powers(g: torch.Generator, healed: bool) -> Start:
    model = MLP([32, *[64] * 8, 5], F.silu if healed else lambda x: x * x + x)
    scaled_(model, g, 1.5)
    return labelled(g, model, 32, 5)


def shared(g: torch.Generator, healed: bool) -> Start:
    model = MLP([64] * 42, F.relu)
    if healed:
        mirror_(model, g)
        return labelled(g, model, 64, 64)
    layer = nn.Linear(64, 64)
    model.layers = nn.ModuleList([layer] * 40 + [nn.Linear(64, 64)])
    scaled_(model, g)
    return labelled(g, model, 64, 64)


def last_relu(g: torch.Generator, healed: bool) -> Start:
    class Price(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.out = MLP([12, 64, 64]), nn.Linear(64, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.out(F.relu(self.body(x)))
            return y if healed else F.relu(y)

    model = Price()
    with torch.no_grad():
        nn.init.constant_(model.out.bias, -2.0)  # the mean of what is asked for
    return Start(model, draw(g, 32, 12), mse(draw(g, 32, 1) - 2))


def residual(g: torch.Generator, healed: bool) -> Start:
    model: Any = ResidualMLP(24, 64, 40, 6)
    scaled_(model, g)
    with torch.no_grad():
        nn.init.normal_(model.stem.weight, 0.0, 24**-0.5, generator=g)
        nn.init.normal_(model.head.weight, 0.0, 64**-0.5, generator=g)
        for block in model.blocks if healed else ():
            block.second.weight.mul_(0.5**0.5 / 40**0.5)  # second has gain 1, as no ReLU follows, then sqrt(1 / depth)
    return labelled(g, model, 24, 6)


def swiglu(g: torch.Generator, healed: bool) -> Start:
    model = SwiGLU(64, 128, 8, norm=healed)
    scaled_(model, g, 1.0 if healed else 1.4)
    with torch.no_grad():
        nn.init.normal_(model.head.weight, 0.0, 0.3 / 8, generator=g)
    return labelled(g, model, 64, 5)


def item(g: torch.Generator, healed: bool) -> Start:
    return labelled(g, Scaled(cut=not healed), 20, 4)


def squeezed(g: torch.Generator, healed: bool) -> Start:
    model = Narrow(128, 8 if healed else 128)
    scaled_(model, g)
    return labelled(g, model, 32, 10)


def forgotten(g: torch.Generator, healed: bool) -> Start:
    model = Uneven(complete=healed)
    scaled_(model, g)
    return labelled(g, model, 32, 3)


def straight(run: Run) -> bool:
    """Whether fc2 to fc4 are one affine map: what comes out differs by the product of the three weights."""
    model: Any = run.start.model
    with torch.no_grad():
        x = F.relu(run.out["fc1"])
        further = model.fc4(model.between(model.fc3(model.between(model.fc2(x + 1)))))
        product = model.fc4.weight @ model.fc3.weight @ model.fc2.weight
        return bool(torch.allclose(further - run.out["fc4"], product.sum(1), rtol=1e-3, atol=1e-3))


MIDDLE = r"^layers\.\d+"
DENSE = (
    Fault(
        "MLP with N(0, 1) weights",
        chain([64, *[256] * 6, 10], unscaled),
        ("exploding signal",),
        (MIDDLE,),
        lambda run: run.rms("layers.6") > 1e5,
        "torch.randn for every weight: each layer multiplies by sqrt(width / 2)",
    ),
    Fault(
        "100 layers with N(0, 1) weights",
        chain([128] * 101, unscaled_deep),
        ("exploding signal", "not finite"),
        (MIDDLE,),
        lambda run: not run.finite,
        "fp32 overflows on the way",
    ),
    Fault(
        "tanh MLP with weights of 0.01",
        chain([64, *[128] * 8, 10], hundredths, torch.tanh),
        ("vanishing signal", "vanishing gradient"),
        (MIDDLE,),
        lambda run: run.rms("layers.7") < 1e-6,
        "each layer multiplies by 0.11, forward and backward",
    ),
    Fault(
        "100 GELU layers with the exact gain",
        chain([128] * 101, exact_gain, F.gelu),
        ("unequal samples", "exploding signal", "vanishing signal"),
        (MIDDLE,),
        lambda run: run.spread("layers.99") > 100,
        "the variance map is unstable: what is large grows, what is small shrinks",
    ),
    Fault(
        "100 tanh layers with the exact gain",
        chain([128] * 101, exact_tanh, torch.tanh),
        ("exploding gradient",),
        (MIDDLE,),
        lambda run: run.slope("layers.0.weight") > 100 * run.slope("layers.99.weight"),
        "the signal stands still, the gradient grows by 1.178 a layer in mean square",
    ),
    Fault(
        "50 ReLU layers as torch starts them",
        chain([96] * 51, as_torch_does),
        ("vanishing gradient", "parallel samples", "vanishing signal"),
        (MIDDLE,),
        lambda run: run.slope("layers.0.weight") < 1e-12 and run.cosine("layers.49") > 0.9999,
        "each layer multiplies by 0.41; only the biases arrive",
    ),
    Fault(
        "ten sigmoid layers as torch starts them",
        sigmoids,
        ("vanishing gradient", "parallel samples"),
        (MIDDLE,),
        lambda run: run.slope("layers.0.weight") < 1e-7 and run.cosine("layers.9") > 0.999,
        "sigmoid's slope is at most 1/4; its mean swamps what differs",
    ),
    Fault(
        "a ReLU layer dead from its biases",
        chain([32, 64, 64, 64, 64, 5], dead),
        ("dead units",),
        (MIDDLE,),
        lambda run: run.dead("layers.2") == 1 and run.silent(r"layers\.[012]"),
        "biases of -15 in one layer",
    ),
    Fault(
        "a regression that ends in a dead ReLU",
        last_relu,
        ("dead units", "no gradient", "vanishing gradient"),
        (r"^out", r"^body"),
        lambda run: run.rms("") == 0 and run.silent(""),
        "ReLU behind the last layer, where negative numbers are asked for: zero for every sample, nothing can learn",
    ),
    Fault(
        "tanh saturated by N(0, 1) weights",
        chain([64, *[256] * 4, 10], unscaled_tanh, torch.tanh),
        ("saturated units",),
        (MIDDLE,),
        lambda run: bool((run.out["layers.2"].abs() > 4).double().mean() > 0.7),
        "pre-activations of rms 16",
    ),
    Fault(
        "a layer of constants",
        chain([32, 64, 64, 64, 5], constant),
        ("identical units",),
        (MIDDLE,),
        lambda run: bool((run.out["layers.1"].std(1) < 1e-5).all()),
        "all units compute the same, receive different gradients only from above",
    ),
    Fault(
        "an MLP of zeros",
        chain([32, 64, 64, 5], zeros),
        ("identical units", "vanishing signal", "no gradient"),
        (MIDDLE,),
        lambda run: run.silent("weight"),
        "every gradient but the last bias's is zero, for ever",
    ),
    Fault(
        "a zero layer in the middle",
        chain([32, 64, 64, 64, 64, 5], zero_middle),
        ("vanishing signal", "identical units", "vanishing gradient"),
        (MIDDLE,),
        lambda run: run.rms("layers.2") == 0 and run.silent(r"layers\.[0123]\.weight"),
        "nothing passes, forward or backward",
    ),
    Fault(
        "one layer a hundred times too large",
        chain([32, *[64] * 6, 5], hundredfold),
        ("exploding signal", "exploding gradient"),
        (MIDDLE,),
        lambda run: run.rms("layers.3") / run.rms("layers.2") > 50,
        "a slip in one layer's scale",
    ),
    Fault(
        "100 ReLU layers with Kaiming's start",
        chain([128] * 101, kaiming_deep),
        ("parallel samples",),
        (MIDDLE,),
        lambda run: run.cosine("layers.98") > 0.98,
        "the sizes are right, the inputs can no longer be told apart",
    ),
    Fault(
        "forty layers that are one",
        shared,
        ("low rank", "parallel samples"),
        (MIDDLE,),
        lambda run: len(run.out) < 10 and run.cosine("layers.0") > 0.99,
        "[layer] * 40: one matrix applied forty times leaves its leading direction",
    ),
    Fault(
        "x^2 + x for an activation",
        powers,
        ("exploding signal", "unequal samples", "not finite"),
        (MIDDLE,),
        lambda run: not run.finite or run.rms("layers.7") > 1e6,
        "a function that grows faster than its argument squares every deviation",
    ),
    Fault(
        "forty residual blocks without a scale",
        residual,
        ("residual growth", "exploding signal"),
        (r"^blocks", r"^head"),
        lambda run: run.rms("blocks.39") > 1e5,
        "each sum triples the variance",
    ),
    Fault(
        "SwiGLU blocks without a norm",
        swiglu,
        ("residual growth", "exploding signal", "not finite"),
        (r"^blocks", r"^head"),
        lambda run: not run.finite or run.rms("blocks.7") > 1e4,
        "a product of two linear maps squares the stream at every block",
    ),
    Fault(
        "a learned scale read with item()",
        item,
        ("no gradient",),
        (r"^scale$",),
        lambda run: run.slopes["scale"] is None,
        "a Python number has no gradient",
    ),
    Fault(
        "a squeeze of one unit",
        squeezed,
        ("low rank", "parallel samples"),
        (r"^squeeze", r"^expand", r"^head"),
        lambda run: run.out["squeeze"].shape[1] == 1,
        "width // reduction with reduction equal to the width: one number a sample passes",
    ),
    Fault(
        "two activations forgotten",
        forgotten,
        ("linear run",),
        (r"^fc[234]$", r"^fc[234]\.weight$"),
        straight,
        "fc2, fc3 and fc4 are one matrix",
    ),
)
