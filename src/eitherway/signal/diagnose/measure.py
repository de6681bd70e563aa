"""What one tensor of a batch tells: how large it is, how its samples differ, how many directions they span."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NAN = float("nan")
_MOST = 2**22
"""Numbers of one tensor that enter the products of samples; of more, every k-th is taken."""


@dataclass(frozen=True)
class Samples:
    """A tensor (B, ...) sample by sample.

    What needs several samples is nan where there is one, and where no axis is the samples'.
    """

    rms: float
    mean: float
    spread: float
    """Largest rms of a sample / smallest."""
    cosine: float
    """Mean over pairs of samples."""
    difference: float
    """1 - cosine once the mean over all numbers is taken out: the share that tells two samples apart.

    What all units of all samples have in common is a shift that a bias undoes; some starts put it there on purpose.
    """
    rank: float
    """Participation ratio (sum l)^2 / sum l^2 of the centred Gram matrix's eigenvalues: at most B - 1."""
    features: int
    """Numbers a sample."""
    count: int
    """Samples that were told apart."""
    bad: int
    """NaN and inf."""

    @property
    def mean_share(self) -> float:
        """(mean)^2 / mean square: what all units of all samples have in common."""
        return min(self.mean**2 / self.rms**2, 1.0) if self.rms > 0 else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of all numbers."""
        return max(self.rms**2 - self.mean**2, 0.0) ** 0.5


def rms(tensor: Tensor) -> float:
    """Root of the mean square, without overflow on the way; nan where a number is not finite."""
    return norm(tensor) / tensor.numel() ** 0.5 if tensor.numel() else 0.0


def norm(tensor: Tensor) -> float:
    """Euclidean length, without overflow on the way; nan where a number is not finite."""
    flat = tensor.detach().reshape(-1)
    if not flat.is_floating_point():
        flat = flat.double()
    length = float(torch.linalg.vector_norm(flat, dtype=torch.float64))  # squares of float32 fit
    if math.isinf(length) and bool(torch.isfinite(flat).all()):
        top = float(flat.abs().max())
        length = top * float(torch.linalg.vector_norm(flat / top, dtype=torch.float64))
    return length if math.isfinite(length) else NAN


def finite(tensor: Tensor) -> bool:
    """Whether every number is: read off the length, which takes one pass and no memory."""
    return not math.isnan(norm(tensor))


def by_sample(tensor: Tensor, batch: int) -> Tensor | None:
    """(B, N) with one row a sample; None where no axis is the samples'.

    The first axis if it is B long; else another that is (time first); else a first axis that holds B times something
    (samples times heads).
    """
    shape = tensor.shape
    if batch < 2 or not shape:
        return None
    if shape[0] == batch:
        return tensor.reshape(batch, -1)
    axis = next((i for i, size in enumerate(shape[:-1]) if size == batch), None)
    if axis is not None:
        return tensor.movedim(axis, 0).reshape(batch, -1)
    if len(shape) > 1 and shape[0] % batch == 0:
        return tensor.reshape(batch, -1)
    return None


def samples(tensor: Tensor, batch: int) -> Samples:
    """The figures of one tensor."""
    tensor = tensor.detach()
    finite = torch.isfinite(tensor)
    bad = tensor.numel() - int(finite.sum())
    if bad:
        tensor = torch.where(finite, tensor, torch.zeros_like(tensor))
    if not tensor.is_floating_point():
        tensor = tensor.float()
    size = rms(tensor) if tensor.numel() else 0.0
    mean = float((tensor.reshape(-1) / (size or 1.0)).double().mean()) * (size or 1.0)
    rows = by_sample(tensor, batch)
    if rows is None or size == 0 or rows.shape[1] == 0:
        return Samples(
            size, mean, NAN, NAN, NAN, NAN, tensor.numel() // max(batch, 1), 1 if rows is None else batch, bad
        )
    features = rows.shape[1]
    step = -(-rows.numel() // _MOST)
    rows = (rows[:, ::step] / float(rows.abs().max())).double()
    gram = rows @ rows.T  # (B, B)
    square = gram.diagonal()
    lengths = square.clamp(min=0).sqrt()
    smallest = float(lengths.min())
    spread = float(lengths.max()) / smallest if smallest > 0 else math.inf
    cosine = _cosine(gram)
    shift, sums = float(rows.mean()), rows.sum(1)
    moved = _cosine(gram - shift * (sums[:, None] + sums) + rows.shape[1] * shift**2)
    difference = 1.0 - min(moved, 1.0) if not math.isnan(moved) else 0.0  # without a deviation nothing differs
    centred = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    total, squares = float(centred.diagonal().sum()), float(centred.square().sum())
    # below 1e-12 of the whole the differences are the products' own rounding
    rank = total**2 / squares if total > 1e-12 * float(square.sum()) and squares > 0 else 0.0
    return Samples(size, mean, spread, min(cosine, 1.0), difference, rank, features, batch, bad)


def _cosine(gram: Tensor) -> float:
    """Mean cosine over pairs, from products of samples (B, B); nan where fewer than two are there at all."""
    lengths = gram.diagonal().clamp(min=0).sqrt()
    seen = lengths > 1e-9 * float(lengths.max())  # below it, rounding of what was taken out
    n = int(seen.sum())
    if n < 2:
        return NAN
    unit = gram[seen][:, seen] / (lengths[seen][:, None] * lengths[seen])
    return float((unit.sum() - unit.diagonal().sum()) / (n * (n - 1)))
