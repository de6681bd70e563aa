"""Does a model look trained? Evidence in its norms and in weights that no known start draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from eitherway.base.errors import ModelError
from eitherway.base.keys import Key
from eitherway.signal.initialize.stage import STARTED

_SIDE = 128  # rows and columns that are looked at: enough to see a hundred steps of training, cheap for wide layers
_MATRICES = 16  # of a model: the first, the last and those between, evenly
_SHUFFLES = 32
_ODD = 7.0  # standard deviations beyond shuffled entries; 40 kinds of starts stay below 5 (measured)
_LEAST = 0.02  # relative excess: a law of another kind may be off by less where thousands of entries tell
_WRITES = 30  # constructors, nn.init, loading, moving and norms of weights write 1 to 5 times in all (counted)
_STEPS = 8  # writes that tell where a gradient stands beside them
_TRIALS = 4  # calls in training mode that somebody may have made to see whether a model runs


def must_look_fresh(model: nn.Module, weights: Sequence[tuple[str, Tensor]], chosen: frozenset[str]) -> None:
    """Refuses to overwrite what was learned.

    Args:
        weights: the matrices that would be drawn anew: by name, rows first, (out, in) or (out, in, taps...).
        chosen: names of the parameters that may be started.

    Raises:
        ModelError: with the evidence, if some was found.
    """
    found = evidence(model, weights, chosen)
    if found:
        raise ModelError(
            f"this model looks trained: {'; '.join(found[:3])}. initialize_ would overwrite it; if that is wanted, "
            "overwrite=True, or only='head.*' for a part"
        )


def evidence(
    model: nn.Module, weights: Sequence[tuple[str, Tensor]], chosen: frozenset[str] | None = None
) -> list[str]:
    """Sentences on what only training leaves behind; none for a fresh model of any known start.

    >>> evidence(nn.Linear(64, 64), [("weight", nn.Linear(64, 64).weight)])
    []
    """
    found = written(model, chosen)
    for name, part in model.named_modules():
        held = {f"{name}.{leaf}" if name else leaf for leaf in part._parameters}
        if chosen is not None and not held & chosen:
            continue
        found += [f"{name or type(part).__name__} {text}" for text in _norm(part)]
    picked = _spread([w for w in weights if w[1].dim() >= 2], _MATRICES)
    for name, weight in picked:
        text = structured(weight) or smeared(weight)
        if text:
            found.append(f"{name} {text}")
    return found


def written(model: nn.Module, chosen: frozenset[str] | None = None) -> list[str]:
    """What the counters of writes in place tell: every step of an optimiser adds one or two.

    Biases and scales are asked first: matrices may have been filled row by row (`nn.init.dirac_`, `nn.init.sparse_`),
    so that without vectors beside them as many writes as they have rows or columns tell nothing. At least half of the
    parameters must have been written that often: somebody may have moved a few by hand. Fused optimisers on the CPU do
    not count.

    >>> written(nn.Linear(64, 64))
    []
    """
    asked = [p for name, p in model.named_parameters() if p.requires_grad and (chosen is None or name in chosen)]
    asked = [p for p in asked if p.dim() == 1] or asked
    counts = [p._version - STARTED.get(p, 0) - (max(p.shape, default=0) if p.dim() > 1 else 0) for p in asked]
    if not counts:
        return []
    usual = sorted(counts)[len(counts) // 2]
    if usual > _WRITES:
        return [f"its parameters were written in place {usual} times (Tensor._version), as an optimiser does"]
    if usual > _STEPS and 2 * sum(p.grad is not None for p in asked) >= len(asked):
        return [f"gradients stand beside parameters that were written in place {usual} times (.grad, Tensor._version)"]
    return []


def structured(weight: Tensor) -> str:
    """What rows, columns and singular values of a weight show that entries drawn alike never would; "" for nothing.

    Every statistic is compared with those of the same entries, shuffled: whatever the law of the entries, a matrix of
    independent ones looks like its shuffles. Orthogonal, sparse, identical and mirrored starts are more even than that.

    >>> structured(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    ''
    """
    with torch.no_grad():
        matrix = weight.detach().reshape(weight.shape[0], -1).to("cpu", torch.float64)
        if not bool(torch.isfinite(matrix).all()):
            return ""
        for _ in range(2):
            matrix = _unmirrored(matrix[_alive(matrix)])
            matrix = matrix[_spread(range(len(matrix)), _SIDE)].T
        spread = matrix.std() if matrix.numel() > 1 else matrix.new_zeros(())
        if min(matrix.shape) < 4 or matrix.numel() < 128 or not float(spread) > 1e-6 * float(matrix.abs().max()):
            return ""
        matrix = (matrix - matrix.mean()) / spread
        generator = Key(0).child("initialize").torch("shuffles")
        order = torch.stack([torch.randperm(matrix.numel(), generator=generator) for _ in range(_SHUFFLES)])
        shuffled = _statistics(matrix.flatten()[order].reshape(-1, *matrix.shape))  # (S, 5)
        seen = _statistics(matrix[None])[0]
    mean, deviation = shuffled.mean(0), shuffled.std(0)
    for value, usual, unit, text in zip(seen.tolist(), mean.tolist(), deviation.tolist(), _TEXTS):
        if value > usual + _ODD * unit and value > (1 + _LEAST) * usual:
            return f"has {text} {value / usual:.2g} times what entries drawn alike could have"
    return ""


def smeared(weight: Tensor) -> str:
    """What became of U(-b, b), torch's law with b = 1 / sqrt(fan_in), when every entry has moved a little; else "".

    The entries are still spread as evenly as those of a uniform law (kurtosis 1.8, 3 for a Gaussian one), but some lie
    beyond b, and they do not fill a wider interval either.

    >>> smeared(nn.Linear(64, 64).weight)
    ''
    """
    with torch.no_grad():
        sizes = weight.detach().flatten().abs().to("cpu", torch.float64)
        bound = max(1, math.prod(weight.shape[1:])) ** -0.5
        if len(sizes) < 400 or not bool(torch.isfinite(sizes).all()):
            return ""
        beyond = float((sizes > bound * (1 + 1e-6)).double().mean())
        kurtosis = float((sizes**4).mean() / sizes.square().mean() ** 2)
        flat = 2.25 if len(sizes) >= 2000 else 2.1  # a Gaussian law cut at two standard deviations has 2.36
        if not 0.003 < beyond < 0.5 or not 1.6 < kurtosis < flat:
            return ""
        wider = 1 - bound / float(sizes.max())  # share beyond b of a uniform law that reaches as far as the largest
        if (wider - beyond) * math.sqrt(len(sizes) / (wider * (1 - wider))) < 6:
            return ""
    return f"is spread as torch's U(-1/sqrt(fan_in), 1/sqrt(fan_in)), but {beyond:.1%} of it lies beyond"


_TEXTS = (
    "a largest singular value",
    "norms of rows that differ",
    "norms of columns that differ",
    "means of rows that differ",
    "means of columns that differ",
)


def _statistics(stack: Tensor) -> Tensor:
    """(S, rows, columns) -> (S, 5): largest singular value, and how unequal rows and columns are."""
    square = stack.square()
    return torch.stack(
        [
            _largest(stack),
            square.mean(2).std(1),
            square.mean(1).std(1),
            stack.mean(2).std(1),
            stack.mean(1).std(1),
        ],
        1,
    )


def _largest(stack: Tensor) -> Tensor:
    """Largest singular values, from below: a few dozen steps of the power method tell a spike from an edge."""
    gram = stack @ stack.mT if stack.shape[1] <= stack.shape[2] else stack.mT @ stack
    vector = torch.ones(len(stack), gram.shape[1], 1, dtype=stack.dtype)
    vector[:, ::2] = -0.5  # not the eigenvector of a constant matrix
    for _ in range(24):
        vector = gram @ vector
        vector = vector / torch.linalg.vector_norm(vector, dim=1, keepdim=True).clamp(min=1e-300)
    return torch.linalg.vector_norm(gram @ vector, dim=1)[:, 0].sqrt()


def _norm(part: nn.Module) -> list[str]:
    """What a norm's statistics and scales tell."""
    found = []
    if isinstance(part, _NormBase) and part.running_mean is not None and part.num_batches_tracked is not None:
        calls, mean = int(part.num_batches_tracked), part.running_mean
        if calls > _TRIALS and bool((mean != 0).any()):
            found.append(f"has seen {calls} batches (num_batches_tracked) and its running statistics moved")
    weight, bias = part._parameters.get("weight"), part._parameters.get("bias")
    normalises = isinstance(part, _NormBase | nn.LayerNorm | nn.GroupNorm) or "norm" in type(part).__name__.lower()
    if normalises and weight is not None and weight.dim() == 1 and weight.numel() > 1:
        moved = _uneven(weight) and (bias is None or _uneven(bias))
        w = weight.detach().double()
        # a law for all parameters alike gives means near 0; N(1, .02) leaves the bias 0, or the mean at 1 exactly
        centred = abs(float(w.mean()) - 1.0) < 4 * float(w.std()) / math.sqrt(w.numel()) if bias is None else False
        if moved and not centred and abs(float(w.mean())) > 3 * float(w.std()):
            low, high = float(w.min()), float(w.max())
            found.append(f"has scales that differ from channel to channel ({low:.3g} to {high:.3g})")
    return found


def _uneven(tensor: Tensor) -> bool:
    t = tensor.detach().double()
    return bool(torch.isfinite(t).all()) and float(t.std()) > 1e-6 * max(float(t.abs().max()), 1e-12)


def _alive(matrix: Tensor) -> Tensor:
    """Rows that are not 0 throughout: padding, pruned or silent ones say nothing."""
    return matrix.ne(0).any(1)


def _unmirrored(matrix: Tensor) -> Tensor:
    """One half where the other is its negative, block by block, as mirrored starts have it; itself elsewhere."""
    half = len(matrix) // 2
    whole, rest = matrix[: 2 * half], matrix[2 * half :]
    for blocks in range(1, half + 1):
        if half % blocks == 0:
            parts = whole.unflatten(0, (blocks, 2, half // blocks))
            if torch.equal(parts[:, 0], -parts[:, 1]):
                return torch.cat([parts[:, 0].flatten(0, 1), rest])
    return matrix


def _spread(items: Iterable, most: int) -> list:
    """At most so many of them, the first, the last and some between."""
    items = list(items)
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
