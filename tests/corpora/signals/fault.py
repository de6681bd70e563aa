"""What a planted fault and a healthy network are, and what plain torch sees of them."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpora import generator, normal, seeded

KINDS = frozenset(
    (
        *("exploding signal", "vanishing signal", "exploding gradient", "vanishing gradient", "unequal samples"),
        *("parallel samples", "dead units", "saturated units", "identical units", "low rank", "no gradient"),
        *("not finite", "linear run", "residual growth", "attention saturated", "attention uniform", "input scale"),
        *("update ratio", "normalisation", "double squashing", "dropout"),
    )
)
"""The names a verdict can have."""


class Start(NamedTuple):
    """A network as it stands before its first step. `loss` takes what the network gives."""

    model: nn.Module
    example: Any
    loss: Callable[[Any], Tensor] | None


@dataclass(frozen=True)
class Run:
    """What plain torch sees of one forward and one backward.

    out: what each module gave at its last call, by dotted name; "" is the whole network.
    slopes: the loss's gradient with respect to each parameter; None where it has none.
    """

    start: Start
    out: dict[str, Tensor]
    slopes: dict[str, Tensor | None]
    loss: float

    def rms(self, name: str) -> float:
        """Root of the mean square of what a module gave."""
        return float(self.out[name].double().square().mean().sqrt())

    def slope(self, name: str) -> float:
        """Root of the mean square of a parameter's gradient; 0 where it has none."""
        slope = self.slopes[name]
        return 0.0 if slope is None else float(slope.double().square().mean().sqrt())

    def silent(self, pattern: str) -> bool:
        """Whether every parameter of this pattern has no gradient, or only zeros."""
        return all(self.slope(name) == 0 for name in self.slopes if re.search(pattern, name))

    def cosine(self, name: str) -> float:
        """Mean cosine of pairs of different samples, in what a module gave."""
        rows = F.normalize(self.out[name].double().flatten(1), dim=1)
        total = len(rows)
        return float(((rows @ rows.T).sum() - total) / (total * (total - 1)))

    def spread(self, name: str) -> float:
        """Largest norm of a sample over the smallest."""
        norms = self.out[name].double().flatten(1).norm(dim=1)
        return float(norms.max() / norms.min())

    def dead(self, name: str) -> float:
        """Share of the channels (axis 1) of a module that are never positive: what a ReLU cuts for all samples."""
        return float((self.out[name].transpose(0, 1).flatten(1).amax(1) <= 0).double().mean())

    @property
    def finite(self) -> bool:
        """Whether the loss and all gradients are finite numbers."""
        return math.isfinite(self.loss) and all(s is None or bool(s.isfinite().all()) for s in self.slopes.values())


def called(model: nn.Module, example: Any) -> Any:
    """The network at its example: a tensor, or a tuple of arguments."""
    return model(*example) if isinstance(example, tuple) else model(example)


def measured(start: Start) -> Run:
    """One forward and one backward; chance within (dropout) is drawn from a fixed seed."""
    out: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, answer: Any) -> None:
            first = answer[0] if isinstance(answer, tuple) else answer
            out[name] = first.detach()

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in start.model.named_modules()]
    names, weights = zip(*start.model.named_parameters())
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            answer = called(start.model, start.example)
            loss = answer.square().mean() if start.loss is None else start.loss(answer)
    finally:
        for handle in handles:
            handle.remove()
    free = [w for w in weights if w.requires_grad]
    got = torch.autograd.grad(loss, free, allow_unused=True) if loss.requires_grad else [None] * len(free)
    slopes = {id(w): slope for w, slope in zip(free, got)}
    return Run(start, out, {name: slopes.get(id(w)) for name, w in zip(names, weights)}, float(loss.detach()))


def losses(
    start: Start, steps: int = 60, lr: float = 3e-3, method: Callable[..., Any] = torch.optim.Adam
) -> tuple[float, float]:
    """The loss before and after so many steps on the example; infinite where it is no number any more.

    The network moves: build another for what comes next.
    """
    assert start.loss is not None
    optimizer = method([w for w in start.model.parameters() if w.requires_grad], lr=lr)
    seen = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(steps + 1):
            loss = start.loss(called(start.model, start.example))
            seen.append(float(loss.detach()))
            if not math.isfinite(seen[-1]) or not loss.requires_grad:
                return seen[0], math.inf
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return seen[0], seen[-1]


@dataclass(frozen=True)
class Fault:
    """A network as people write it, with one fault.

    make: from a generator and whether the fault is mended, the start; everything else is the same in both.
    kinds: names of a verdict that say the true cause; several where they are honestly the same.
    layers: patterns; a verdict that counts names a layer or parameter in which one of them is found. Empty where the
        fault is in no layer (the loss).
    seen: whether plain torch sees the fault; it must in the start and must not in the twin.
    """

    name: str
    make: Callable[[torch.Generator, bool], Start]
    kinds: tuple[str, ...]
    layers: tuple[str, ...]
    seen: Callable[[Run], bool]
    note: str

    def build(self) -> Start:
        """The network with its fault, the same at every call."""
        return self._made(False)

    def twin(self) -> Start:
        """The same network, mended."""
        return self._made(True)

    def _made(self, healed: bool) -> Start:
        g = generator(self.name)
        return seeded(lambda: self.make(g, healed), g)

    def names(self, verdict: Any) -> bool:
        """Whether a verdict (kind, severity, layers) is an alarm that names this fault."""
        placed = not self.layers or any(re.search(p, layer) for p in self.layers for layer in verdict.layers)
        return verdict.severity == "alarm" and verdict.kind in self.kinds and placed


@dataclass(frozen=True)
class Healthy:
    """A network with nothing wrong, on which every alarm is a false one. `note` says why it is in here."""

    name: str
    make: Callable[[torch.Generator], Start]
    note: str

    def build(self) -> Start:
        """The network, the same at every call."""
        g = generator(self.name)
        return seeded(lambda: self.make(g), g)


# --- what the makers share -------------------------------------------------------------------------------------------


def draw(g: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in fp32."""
    return normal(g, *shape, dtype=torch.float32)


def whole(g: torch.Generator, high: int, *shape: int) -> Tensor:
    """Whole numbers from 0 to high - 1: labels, tokens."""
    return torch.randint(high, shape, generator=g)


def entropy(labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Cross-entropy of logits (B, C), or (B, T, C)."""
    return lambda y: F.cross_entropy(y.flatten(0, -2), labels.flatten())


def mse(target: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda y: F.mse_loss(y, target)


def weighted(model: nn.Module) -> list[Any]:
    """The linear layers and convolutions, in order."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
    return [part for part in model.modules() if isinstance(part, kinds)]


@torch.no_grad()
def normal_(model: nn.Module, g: torch.Generator, std: float) -> None:
    """Draws every weight matrix from N(0, std^2); biases become 0."""
    for part in weighted(model):
        nn.init.normal_(part.weight, 0.0, std, generator=g)
        if part.bias is not None:
            nn.init.zeros_(part.bias)


@torch.no_grad()
def scaled_(model: nn.Module, g: torch.Generator, gain: float = math.sqrt(2)) -> None:
    """Draws every weight from N(0, gain^2 / inputs): Kaiming's for ReLU, LeCun's with gain 1; biases become 0."""
    for part in weighted(model):
        inputs = part.weight[:, 0].numel() if isinstance(part, nn.ConvTranspose2d) else part.weight[0].numel()
        if isinstance(part, nn.ConvTranspose2d):
            inputs /= math.prod(part.stride)
        nn.init.normal_(part.weight, 0.0, gain / math.sqrt(inputs), generator=g)
        if part.bias is not None:
            nn.init.zeros_(part.bias)


@torch.no_grad()
def mirror_(model: nn.Module, g: torch.Generator) -> None:
    """Orthogonal matrices and their negatives, so that a chain with phi(u) - phi(-u) = u starts as a rotation.

    Source: Balduzzi et al. 2017, arXiv:1702.08591, section 4 (the looks-linear start).
    """
    layers = weighted(model)
    for i, layer in enumerate(layers):
        outer, inner = layer.weight.shape
        rows, columns = outer // (2 if layer is not layers[-1] else 1), inner // (2 if i else 1)
        block = nn.init.orthogonal_(torch.empty(rows, columns), generator=g) * max(1.0, rows / columns) ** 0.5
        if i:
            block = torch.cat([block, -block], 1)
        layer.weight.copy_(block if layer is layers[-1] else torch.cat([block, -block]))
        nn.init.zeros_(layer.bias)
