"""Formulas of what couples elements: products with matrices, convolutions, softmax, norms, losses.

Filed with the others by importing this module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import grad

from eitherway.calculus.chain_rule.formulas import Answer, Call, rule

# products with matrices --------------------------------------------------------------------------------------------


@rule("linear")
def _linear(c: Call) -> Answer | None:
    x, w = c.argument("input"), c.argument("weight")
    if c.place == "input":
        structure = "dense, constant" if x.dim() == 1 or x.shape[:-1].numel() == 1 else "dense, constant, a block a row"
        return c.closed(lambda v: v @ w.T, lambda u: u @ w, matrix=w), "W", structure
    if c.place == "weight":
        rows = x.reshape(-1, x.shape[-1])
        pull = lambda u: u.reshape(len(u), len(rows), -1).mT @ rows  # noqa: E731
        return c.closed(lambda v: rows @ v.mT, pull, matrix=rows), "I ⊗ x^T", "outer product"
    return _bias(c, c.s.dim() - 1)


def _bias(c: Call, dim: int) -> Answer:
    """A vector added along one dimension."""
    shape = [1] * c.s.dim()
    shape[dim] = -1
    index = torch.arange(c.z.numel(), device=c.z.device).view(shape).expand(c.s.shape).reshape(-1)
    if c.s.numel() == c.z.numel():
        return c.entries(None, None, None), "I", "identity"
    return c.entries(None, index, None), "1", f"copied to {c.s.numel() // c.z.numel()}, constant"


@rule("matmul", "mm", "bmm", "mv", "dot", "inner", "vdot")
def _matmul(c: Call) -> Answer | None:
    names = {"mm": ("self", "mat2"), "bmm": ("self", "mat2"), "mv": ("self", "vec"), "dot": ("self", "tensor")}
    left, right = names.get(c.op.name, ("self", "other"))
    a, b = c.argument(left), c.argument(right)
    if c.op.name in ("inner", "vdot") and a.dim() > 1:
        return None
    if a.layout != torch.strided or b.layout != torch.strided:
        return None
    if c.place == left:
        return _product(c, a, b, wide=a.dim() == 1, tall=b.dim() == 1)
    return _product(c, b.mT if b.dim() > 1 else b, a.mT if a.dim() > 1 else a, b.dim() == 1, a.dim() == 1, turn=True)


def _product(c: Call, a: Tensor, b: Tensor, wide: bool, tall: bool, turn: bool = False) -> Answer:
    """The derivative of a b with respect to a: each row of a meets b. With `turn` all three lie turned."""
    other = b[:, None] if tall else b  # (..., k, n)
    shape = (*torch.broadcast_shapes(a.shape[:-2], other.shape[:-2]), 1 if wide else a.shape[-2], other.shape[-1])

    def push(v: Tensor) -> Tensor:
        v = v.mT if turn and not wide else v
        v = v[:, None, :] if wide else v
        v = v.reshape(len(v), *(1,) * (len(shape) - v.dim() + 1), *v.shape[1:])
        made = v @ other
        return made.mT if turn else made

    def pull(u: Tensor) -> Tensor:
        rows, columns = shape[-2:]
        u = u.reshape(len(u), *shape[:-2], *((columns, rows) if turn else (rows, columns)))
        found = (u.mT if turn else u) @ other.mT
        extra = found.dim() - 1 - (2 if wide else a.dim())
        found = found.sum(dim=tuple(range(1, 1 + extra))) if extra else found
        lead = () if wide else a.shape[:-2]
        stretched = [1 + k for k, size in enumerate(lead) if size == 1 and found.shape[1 + k] > 1]
        found = found.sum(dim=stretched, keepdim=True) if stretched else found
        return found.mT if turn and not wide else found

    matrix = other if other.dim() == 2 and len(shape) == 2 else None
    return c.closed(push, pull, matrix=matrix), "A" if turn else "B^T", "dense, a block a row"


@rule("addmm", "baddbmm")
def _addmm(c: Call) -> Answer | None:
    if c.argument("alpha", 1) != 1 or c.argument("beta", 1) != 1 or c.place == "self":
        return None
    left, right = ("mat1", "mat2") if c.op.name == "addmm" else ("batch1", "batch2")
    a, b = c.argument(left), c.argument(right)
    return _product(c, a, b, False, False) if c.place == left else _product(c, b.mT, a.mT, False, False, turn=True)


@rule("conv1d", "conv2d", "conv3d")
def _conv(c: Call) -> Answer | None:
    n = int(c.op.name[-2])
    x, w = c.argument("input"), c.argument("weight")
    if c.place == "bias":
        return _bias(c, c.s.dim() - 1 - n)
    stride, padding, dilation, groups = (
        c.argument(name, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
    )
    if isinstance(padding, str) or c.place not in ("input", "weight"):
        return None
    conv = getattr(torch.nn.functional, c.op.name)
    backward = getattr(grad, f"{c.op.name}_{c.place}")
    settings = (stride, padding, dilation, groups)
    lead = x.dim() == n + 1  # one image without a batch
    batch = x[None] if lead else x

    def push_input(v: Tensor) -> Tensor:
        return conv(v.reshape(-1, *batch.shape[1:]), w, None, *settings)

    def pull_input(u: Tensor) -> Tensor:
        flat = u.reshape(-1, *(c.s.shape if lead else c.s.shape[1:]))
        return backward((len(flat), *batch.shape[1:]), w, flat, *settings)

    if c.place == "input":
        return c.closed(push_input, pull_input), "W * ", "convolution, constant"
    push = lambda v: conv(batch, v, None, *settings)  # noqa: E731
    pull = lambda u: backward(batch, w.shape, u[None] if lead else u, *settings)  # noqa: E731
    return c.closed(push, pull, one=True), "x * ", "convolution"


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d")
def _avg_pool(c: Call) -> Answer | None:
    """Small ones only: the operation itself on each unit vector."""
    n = int(c.op.name[-2])
    lead, plane = c.z.shape[: c.z.dim() - n].numel(), c.z.shape[c.z.dim() - n :]
    if plane.numel() > 4096 or c.z.dim() == n:
        return None
    eye = torch.eye(plane.numel(), dtype=c.z.dtype, device=c.z.device).view(-1, 1, *plane)
    rest = list(c.op.args[1:])
    made = c.op.target(eye, *rest, **c.op.kwargs).reshape(plane.numel(), -1)  # (q, p) of one plane
    cols, rows = made.nonzero(as_tuple=True)
    shift = torch.arange(lead, device=c.z.device)[:, None]
    places = [(k + size * shift).reshape(-1) for k, size in ((rows, made.shape[1]), (cols, made.shape[0]))]
    return c.entries(places[0], places[1], made[cols, rows].repeat(lead)), "means of windows", "sparse, constant"


# one vector, all coupled -------------------------------------------------------------------------------------------


@rule("softmax", "_softmax")
def _softmax(c: Call) -> Answer | None:
    s, dim = c.s, _last(c)
    if dim is None:
        return None
    both = lambda v: s * (v - (s * v).sum(dim, keepdim=True))  # noqa: E731
    return c.closed(both, both), "diag(s) - s s^T", _blocks("diagonal + rank 1", c, dim)


@rule("log_softmax", "_log_softmax")
def _log_softmax(c: Call) -> Answer | None:
    soft, dim = c.s.exp(), _last(c)
    if dim is None:
        return None
    push = lambda v: v - (soft * v).sum(dim, keepdim=True)  # noqa: E731
    pull = lambda u: u - soft * u.sum(dim, keepdim=True)  # noqa: E731
    return c.closed(push, pull), "I - 1 softmax(z)^T", _blocks("diagonal + rank 1", c, dim)


def _last(c: Call) -> int | None:
    """The dimension counted from the end, which a leading K does not move."""
    dim = c.argument("dim")
    return dim - c.z.dim() if dim is not None and dim >= 0 and c.z.dim() else dim if c.z.dim() else None


def _blocks(structure: str, c: Call, dim: int) -> str:
    return structure if c.z.shape[dim] == c.z.numel() else f"{structure}, a block a row"


@rule("layer_norm", "rms_norm")
def _layer_norm(c: Call) -> Answer | None:
    shape = c.argument("normalized_shape")
    dims = tuple(range(-len(shape), 0))
    eps = c.argument("eps", 1e-5 if c.op.name == "layer_norm" else None)
    if c.place != "input" or eps is None:
        return None
    x, gain = c.z, c.argument("weight")
    gain = torch.ones((), dtype=x.dtype, device=x.device) if gain is None else gain
    centred = c.op.name == "layer_norm"
    m = x - x.mean(dims, keepdim=True) if centred else x
    scale = (m.square().mean(dims, keepdim=True) + eps).rsqrt()
    n = m * scale

    def core(v: Tensor) -> Tensor:  # symmetric
        v = v - v.mean(dims, keepdim=True) if centred else v
        return (v - n * (n * v).mean(dims, keepdim=True)) * scale

    text = "g/sd (I - 1 1^T/n - n n^T/n)" if centred else "g/rms (I - n n^T/n)"
    return c.closed(lambda v: gain * core(v), lambda u: core(gain * u)), text, f"diagonal + rank {1 + centred}"


@rule("batch_norm")
def _batch_norm(c: Call) -> Answer | None:
    if c.argument("training") or c.place != "input":
        return None
    gain, var = c.argument("weight"), c.argument("running_var")
    scale = (var + c.argument("eps", 1e-5)).rsqrt() * (1 if gain is None else gain)
    weights = scale.view(1, -1, *[1] * (c.z.dim() - 2)).expand(c.z.shape)
    return c.entries(None, None, weights), "g / sqrt(var + eps)", "diagonal, constant"


# losses ------------------------------------------------------------------------------------------------------------


def _reduced(c: Call, weights: Tensor, text: str) -> Answer:
    """A loss element by element, then none, mean or sum (0, 1, 2)."""
    how = c.argument("reduction", 1)
    if how == 0:
        return c.entries(None, None, weights), text, "diagonal"
    n = weights.numel() if how == 1 else 1
    row = torch.zeros(c.z.numel(), dtype=torch.long, device=c.z.device)
    return c.entries(row, None, weights / n), f"{text} / {n}" if n > 1 else text, "row"


@rule("mse_loss")
def _mse(c: Call) -> Answer | None:
    z, t = c.argument("self"), c.argument("target")
    sign = 1 if c.place == "self" else -1
    return _reduced(c, sign * 2 * (z - t), "2 (z - t)^T") if z.shape == t.shape else None


@rule("l1_loss")
def _l1(c: Call) -> Answer | None:
    z, t = c.argument("self"), c.argument("target")
    return _reduced(c, (z - t).sign(), "sign(z - t)^T") if z.shape == t.shape and c.place == "self" else None


@rule("binary_cross_entropy_with_logits")
def _bce(c: Call) -> Answer | None:
    given: list[Any] = [c.argument("weight"), c.argument("pos_weight")]
    if c.place != "self" or any(g is not None for g in given):
        return None
    return _reduced(c, c.z.sigmoid() - c.argument("target"), "(σ(z) - t)^T")


@rule("cross_entropy_loss")
def _cross_entropy(c: Call) -> Answer | None:
    target = c.argument("target")
    plain = c.argument("weight") is None and not c.argument("label_smoothing", 0.0) and not target.is_floating_point()
    how = c.argument("reduction", 1)
    if not plain or c.place != "self" or how == 0 or c.z.dim() > 2:
        return None
    z, t = c.z.reshape(-1, c.z.shape[-1]), target.reshape(-1)
    counted = t != c.argument("ignore_index", -100)
    n = int(counted.sum()) if how == 1 else 1
    hot = torch.nn.functional.one_hot(t.clamp_min(0), z.shape[-1]).to(z.dtype)
    weights = (z.softmax(-1) - hot) * counted[:, None] / max(1, n)
    row = torch.zeros(c.z.numel(), dtype=torch.long, device=c.z.device)
    text = "(softmax(z) - onehot)^T" + (f" / {n}" if n > 1 else "")
    return c.entries(row, None, weights), text, "row"
