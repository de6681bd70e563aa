"""One training of a plain MLP of 50 layers on scikit-learn's digits, from any start."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from benchmarks import initialized, starting
from benchmarks.activations import ACTIVATIONS, chain

DEPTH, WIDTH, STEPS, BATCH = 50, 64, 150, 64
OURS = {"ours": "auto", "ours, lr_scales": "auto", "ours, shaped": "shaped", "ours, mirror": "mirror"}
RIVALS = list(starting.starts(ACTIVATIONS["relu"]))
STARTS = [*RIVALS, *OURS]


class Cell(NamedTuple):
    """One training."""

    activation: str
    start: str
    seed: int
    rate: float


class Split(NamedTuple):
    """Images (N, 64), each pixel standardised by the training part (those that are constant there only centred),
    and digits (N,)."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@cache
def split(seed: int) -> Split:
    """60 %, 20 % and 20 % of the 1797 images, shuffled by the seed."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32), torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=Generator().manual_seed(seed))
    parts = torch.tensor_split(order, [round(0.6 * len(order)), round(0.8 * len(order))])
    mean, std = images[parts[0]].mean(0), images[parts[0]].std(0)
    images = (images - mean) / torch.where(std > 0.0, std, 1.0)
    return Split(*((images[part], labels[part]) for part in parts))


def build(activation: str) -> nn.Sequential:
    """64 -> 64 -> ... -> 64 -> 10."""
    skip = nn.utils.skip_init
    layers: Any = [skip(nn.Linear, WIDTH, WIDTH) for _ in range(DEPTH - 1)] + [skip(nn.Linear, WIDTH, 10)]
    return chain(layers, ACTIVATIONS[activation])


def begin(cell: Cell, batch: Tensor) -> tuple[nn.Sequential, list[dict[str, Any]], dict[str, Any]]:
    """The model as it starts, its groups of parameters with their rates, and what there is to say."""
    model = build(cell.activation)
    if cell.start not in OURS:
        starting.starts(ACTIVATIONS[cell.activation])[cell.start](model, batch, cell.seed)
        return model, [{"params": list(model.parameters()), "lr": cell.rate}], {}
    starting.default(model, Generator().manual_seed(cell.seed))
    report = initialized.ours(model, batch, cell.seed, OURS[cell.start])
    said = {"scheme": initialized.scheme_of(report), "lr_scale": float(report.lr_scale)}
    if cell.start != "ours, lr_scales":
        return model, [{"params": list(model.parameters()), "lr": cell.rate}], said
    scales = report.lr_scales
    groups = [{"params": [p], "lr": cell.rate * scales.get(name, 1.0)} for name, p in model.named_parameters()]
    return model, groups, {**said, "scales": [min(scales.values()), max(scales.values())]}


def accuracy(model: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    """The share of right digits; what is not a number is wrong."""
    with torch.no_grad():
        logits = model(part[0])
    right = (logits.argmax(1) == part[1]) & logits.isfinite().all(1)
    return float(right.float().mean())


def train(cell: Cell) -> dict[str, Any]:
    """STEPS steps of Adam on the same batches for all; accuracy on the validation and the test part afterwards."""
    import eitherway as ew

    parts = split(cell.seed)
    images, labels = parts.train
    generator = Generator().manual_seed(1000 + cell.seed)
    try:
        model, groups, said = begin(cell, images[:BATCH])
    except ew.EitherwayError as error:
        return {"why": str(error)}
    adam = torch.optim.Adam(groups, lr=cell.rate)
    for _ in range(STEPS):
        rows = torch.randperm(len(images), generator=generator)[:BATCH]
        adam.zero_grad()
        nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        adam.step()
    return {"validation": accuracy(model, parts.validation), "test": accuracy(model, parts.test), **said}
