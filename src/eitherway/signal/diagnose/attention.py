"""What attention attends to: how far its scores spread, and how many places they leave."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eitherway.graph import Graph, Op
from eitherway.signal.diagnose.layers import place
from eitherway.signal.diagnose.measure import rms
from eitherway.signal.diagnose.run import LOSS, Run
from eitherway.signal.structure import Attention, Structure

_MOVES = (
    *("unsqueeze", "squeeze", "view", "reshape", "transpose", "permute", "expand", "movedim", "unflatten", "flatten"),
    *("dropout", "clone", "select", "index", "slice", "chunk", "split", "contiguous", "to", "div"),
)
"""What may be done to weights before they weigh."""
_MOST = 2**21
"""Scores that are looked at; of more, the first samples and heads."""


@dataclass(frozen=True)
class AttentionSignal:
    """One attention, as the example met it."""

    name: str
    where: str
    entropy: float
    """Mean over queries of the weights' entropy / log of the keys each may see: 1 is uniform, 0 one key alone."""
    logit_std: float
    """Standard deviation of the scores of a query over its keys (rms over queries)."""
    keys: float
    """Keys a query may see, on average."""
    condensed: float
    """sqrt(2 ln keys): with Gaussian scores of a larger deviation the weights fall on a few keys.

    Source: Derrida 1981, the random energy model's transition.
    """
    unscaled: bool
    """Whether the scores are q k^T itself: as large as rms(q) rms(k) sqrt(d) and divided by nothing."""
    size: int
    """d, the length of a query."""
    op: int = -1
    query: int = -1
    key: int = -1


def attentions(structure: Structure, run: Run) -> tuple[AttentionSignal, ...]:
    """One row for each attention of the run."""
    found = (_row(attention, structure, run) for attention in structure.attentions)
    return tuple(row for row in found if row is not None)


def _row(attention: Attention, structure: Structure, run: Run) -> AttentionSignal | None:
    graph = structure.graph
    op = graph.ops[attention.op]
    q, k = run.tensors.get(attention.query), run.tensors.get(attention.key)
    if q is None or k is None:
        return None
    scores = _fused_scores(op, run, q.detach(), k.detach()) if attention.probabilities is None else _scores(op, run)
    if scores is None or scores.shape[-1] < 2:
        return None
    measured = _spread(scores)
    if measured is None:
        return None
    entropy, deviation, keys, whole = measured
    size = q.shape[-1]
    expected = rms(q) * rms(k) * math.sqrt(size)
    # a product of unrelated q and k is as large as expected to a few per cent; 1/sqrt(d) makes it sqrt(d) smaller
    unscaled = size >= 4 and expected > 0 and whole > expected / size**0.25
    return AttentionSignal(
        op.module or place(graph, op.index),
        op.where,
        entropy,
        deviation,
        keys,
        math.sqrt(2 * math.log(keys)),
        unscaled,
        size,
        op.index,
        attention.query,
        attention.key,
    )


def _spread(scores: Tensor) -> tuple[float, float, float, float] | None:
    """Entropy of the weights / log keys, deviation of the scores over the keys, keys, and rms of the scores.

    Args:
        scores: (..., keys), what is masked far below zero.
    """
    scores = scores.reshape(-1, scores.shape[-1])[: max(1, _MOST // scores.shape[-1])].double()
    if torch.isnan(scores).any() or (scores == math.inf).any():
        return None
    allowed = scores > -1e8  # masks are written as -inf, -1e9 or the type's lowest
    count = allowed.sum(-1)
    several = count > 1
    if not several.any():
        return None
    scores, allowed, count = scores[several], allowed[several], count[several].double()
    held = torch.where(allowed, scores, torch.zeros_like(scores))
    centre = held.sum(-1, keepdim=True) / count[:, None]
    deviation = float((torch.where(allowed, scores - centre, 0.0).square().sum(-1) / count).mean().sqrt())
    weights = torch.softmax(torch.where(allowed, scores, -math.inf), -1)
    entropy = -(weights * weights.clamp(min=1e-300).log()).sum(-1)
    whole = float((held.square().sum() / count.sum()).sqrt())
    return float((entropy / count.log()).mean()), deviation, float(count.mean()), whole


def weighings(structure: Structure, run: Run) -> tuple[AttentionSignal, ...]:
    """Softmaxes over several places whose answers weigh values, whatever makes their scores: no products of q and k."""
    graph = structure.graph
    known = {a.op for a in structure.attentions}
    found: list[AttentionSignal] = []
    for op in graph.ops:
        if op.name.lstrip("_") != "softmax" or op.index in known or not op.inputs or op.module.startswith(LOSS):
            continue
        scores = _scores(op, run)
        if scores is None or scores.shape[-1] < 2 or not graph.values[op.inputs[0]].depends or not _weighs(graph, op):
            continue
        held = _spread(scores)
        if held is not None:
            entropy, deviation, keys, _ = held
            name, condensed = op.module or place(graph, op.index), math.sqrt(2 * math.log(keys))
            found.append(AttentionSignal(name, op.where, entropy, deviation, keys, condensed, False, 0, op.index))
    return tuple(found)


def _weighs(graph: Graph, op: Op) -> bool:
    """Whether what a softmax puts out is multiplied with something that the input has a part in."""
    reached = {op.outputs[0]}
    for o in graph.ops[op.index + 1 :]:
        if not reached & set(o.inputs):
            continue
        name = o.name.removesuffix("_")
        if name in ("mul", "matmul", "bmm", "einsum", "linear"):
            return any(graph.values[i].depends for i in o.inputs if i not in reached)
        if name in _MOVES:
            reached.update(o.outputs)
    return False


def _scores(op, run: Run) -> Tensor | None:
    """The argument of a hand-written softmax, its axis last."""
    scores = run.tensors.get(op.inputs[0])
    axis = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", -1)
    return None if scores is None or not isinstance(axis, int) else scores.detach().movedim(axis, -1)


def _fused_scores(op, run: Run, q: Tensor, k: Tensor) -> Tensor | None:
    """The scores that the fused kernel makes and keeps to itself."""
    named = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), op.args)) | op.kwargs
    scale = named.get("scale")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if q.ndim < 2 or q.shape[-1] != k.shape[-1]:
        return None
    mask = named.get("attn_mask")
    if q.ndim > 3 and q.shape[:-2] == k.shape[:-2] and mask is None:
        fits = max(1, _MOST // (q.shape[-2] * k.shape[-2]))
        q, k = q.reshape(-1, *q.shape[-2:])[:fits], k.reshape(-1, *k.shape[-2:])[:fits]
    if k.ndim == q.ndim and q.ndim > 3 and q.shape[-3] != k.shape[-3] and q.shape[-3] % k.shape[-3] == 0:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)  # grouped queries
    scores = q.float() @ k.float().transpose(-2, -1) * float(scale)
    if named.get("is_causal"):
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    held = run.tensors.get(mask.index) if mask is not None else None
    if held is not None:
        held = held.detach()
        scores = scores.masked_fill(~held, -math.inf) if held.dtype == torch.bool else scores + held
    return scores
