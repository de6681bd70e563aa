"""Formulas of operations that move, choose or add up elements: views, gathers, sorting, pooling, sums, norms.

Filed with the others by importing this module.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eitherway.calculus.chain_rule.formulas import Answer, Call, rule

# moving data about -------------------------------------------------------------------------------------------------

_MOVES = (
    "view reshape transpose permute t T numpy_T mT flatten unflatten squeeze unsqueeze select slice narrow expand "
    "expand_as flip roll diagonal gather index_select index take unfold repeat tile repeat_interleave split chunk "
    "tensor_split split_with_sizes unbind movedim contiguous clone swapaxes cat concat stack hstack vstack pad "
    "constant_pad_nd triu tril "
    "masked_fill embedding view_as reshape_as broadcast_to diag diag_embed masked_select copy alias to type_as "
    "_to_copy zero_pad2d take_along_dim moveaxis rot90 fliplr flipud float double adjoint swapdims ravel lift_fresh "
    "pixel_shuffle pixel_unshuffle channel_shuffle"
)


@rule(*_MOVES.split())
def _move(c: Call) -> Answer | None:
    """The operation itself, on the numbers 1 to q, says where each element goes."""
    numbers = torch.arange(1, c.z.numel() + 1, dtype=torch.float64, device=c.z.device).view(c.z.shape)
    placed = (c.run(numbers.to(c.z.dtype)) - c.run(torch.zeros_like(c.z))).reshape(-1)
    placed = torch.where(placed.isfinite(), placed, 0).round().long()
    p, q = len(placed), c.z.numel()
    if q >= 2**24 and c.z.dtype != torch.float64:
        return None
    here = torch.arange(1, q + 1, device=placed.device)
    if p == q and torch.equal(placed, here):
        return c.entries(None, None, None), "I", "identity"
    kept = placed > 0
    if bool(kept.all()):
        moved = p == q and torch.equal(placed.sort().values, here)
        text = "permutation" if moved else f"{p} of {q}" if p < q else "copies"
        return c.entries(None, placed - 1, None), text, "permutation" if moved else "gather"
    rows = kept.nonzero().reshape(-1)
    return c.entries(rows, placed[rows] - 1, None), f"{len(rows)} of {q}", "gather"


@rule("dropout", "feature_dropout", "alpha_dropout")
def _dropout(c: Call) -> Answer | None:
    off = not c.argument("train", True) or not c.argument("p", 0.5)
    return (c.entries(None, None, None), "I", "identity") if off else None


@rule("sort", "topk", "kthvalue", "max", "min", "median", "cummax", "cummin", "mode", "nanmedian")
def _chosen(c: Call) -> Answer | None:
    """Values that were picked out along a dimension."""
    if len(c.op.outputs) == 1:
        return _extreme(c) if c.op.name in ("max", "min") and len(c.op.inputs) == 1 else None
    if c.made != c.op.outputs[0]:
        return None
    places = c.env[c.op.outputs[1]]
    dim = c.argument("dim", -1)
    dim = dim if isinstance(dim, int) else -1
    if places.dim() < c.z.dim():
        places = places.unsqueeze(dim)
    numbers = torch.arange(c.z.numel(), device=c.z.device).view(c.z.shape)
    cols = numbers.gather(dim, places).reshape(-1) if c.z.dim() else numbers.reshape(-1)
    text = {"max": "[z is the largest]", "min": "[z is the smallest]", "sort": "permutation"}.get(c.op.name, "[chosen]")
    return c.entries(None, cols, None), text, "permutation" if c.op.name == "sort" else "gather"


@rule("amax", "amin")
def _extreme(c: Call) -> Answer:
    """Ties share."""
    groups = _groups(c)
    wins = (c.z == c.s.reshape(-1)[groups].view(c.z.shape)).to(c.s.dtype)
    shares = wins.new_zeros(c.s.numel()).index_add_(0, groups, wins.reshape(-1))
    weights = wins.reshape(-1) / shares[groups]
    return c.entries(groups, None, weights), f"[z is the {'largest' if 'max' in c.op.name else 'smallest'}]", "gather"


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(c: Call) -> Answer | None:
    pool = getattr(torch.nn.functional, c.op.name)
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    kernel, stride, padding, dilation, ceil_mode = (c.argument(n, d) for n, d in zip(names, (2, None, 0, 1, False)))
    _, places = pool(c.z, kernel, stride or None, padding, dilation, ceil_mode, return_indices=True)
    planes = places.dim() - int(c.op.name[-2])
    lead = c.z.shape[:planes].numel()
    within = c.z.shape[planes:].numel()
    cols = (places.reshape(lead, -1) + within * torch.arange(lead, device=c.z.device)[:, None]).reshape(-1)
    return c.entries(None, cols, None), "[z is the largest]", "gather"


# sums over groups --------------------------------------------------------------------------------------------------


def _groups(c: Call) -> Tensor:
    """(q,) for each element read, the element made that it counts in."""
    dim = c.argument("dim")
    dims = range(c.z.dim()) if dim in (None, [], ()) else [dim] if isinstance(dim, int) else dim
    kept = list(c.z.shape)
    for d in dims:
        kept[d] = 1
    return torch.arange(c.s.numel(), device=c.z.device).view(kept).expand(c.z.shape).reshape(-1)


@rule("sum", "mean")
def _sum(c: Call) -> Answer:
    groups, n = _groups(c), c.z.numel() // max(1, c.s.numel())
    if c.op.name == "sum":
        return c.entries(groups, None, None), "1^T", f"sums of {n}, constant"
    return c.entries(groups, None, torch.full_like(c.z, 1 / n)), f"1^T / {n}", f"means of {n}, constant"


@rule("var", "std")
def _variance(c: Call) -> Answer | None:
    if c.argument("unbiased") is not None or c.slot:
        return None
    groups, n = _groups(c), c.z.numel() // max(1, c.s.numel())
    correction = c.argument("correction", 1)
    free = n - (1 if correction is None else correction)
    mean = c.z.new_zeros(c.s.numel()).index_add_(0, groups, c.z.reshape(-1)) / n
    weights = 2 * (c.z.reshape(-1) - mean[groups]) / free
    if c.op.name == "var":
        return c.entries(groups, None, weights), f"2 (z - mean)^T / {free:g}", f"groups of {n}"
    weights = weights / (2 * c.s.reshape(-1)[groups])
    return c.entries(groups, None, weights), f"(z - mean)^T / ({free:g} s)", f"groups of {n}"


@rule("logsumexp")
def _logsumexp(c: Call) -> Answer:
    groups = _groups(c)
    weights = (c.z.reshape(-1) - c.s.reshape(-1)[groups]).exp()
    return c.entries(groups, None, weights), "softmax(z)^T", f"groups of {c.z.numel() // max(1, c.s.numel())}"


@rule("linalg_vector_norm", "norm", "frobenius_norm")
def _norm(c: Call) -> Answer | None:
    order = c.argument("ord", c.argument("p", 2))
    if order not in (2, 2.0, None, "fro") or (c.op.name == "norm" and c.argument("dim") is None and c.s.dim()):
        return None
    groups = _groups(c)
    sizes = c.s.reshape(-1)[groups]
    weights = torch.where(sizes > 0, c.z.reshape(-1) / sizes, torch.zeros_like(sizes))
    return c.entries(groups, None, weights), "z^T / |z|", f"groups of {c.z.numel() // max(1, c.s.numel())}"


@rule("cumsum")
def _cumsum(c: Call) -> Answer:
    dim = c.argument("dim")
    k = dim % c.z.dim() - c.z.dim() if c.z.dim() else -1
    back = lambda u: u.flip(k).cumsum(k).flip(k)  # noqa: E731
    return c.closed(lambda v: v.cumsum(k), back), "lower triangle of ones", "triangular, constant"
