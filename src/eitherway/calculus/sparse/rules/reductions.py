"""Many numbers become one, or each depends on all along an axis."""

from __future__ import annotations

import torch
from torch import Tensor

from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Site


@rule(
    "sum", "nansum", "mean", "nanmean", "amax", "amin", "aminmax", "max", "min", "prod", "var", "std", "var_mean",
    "std_mean", "logsumexp", "norm", "linalg_vector_norm", "median", "nanmedian", "mode", "kthvalue", "dist",
)  # fmt: skip
def reduced(site: Site) -> Answer:
    ids = site.join(*(operand.ids for operand in site.live()))
    assert ids is not None
    dims = site["dim"] if "dim" in site.named else site["dims"]
    if dims is None and site.op.name in ("kthvalue", "mode"):
        dims = -1
    united = site.over(ids, dims).reshape(site.shape)
    return [united] * len(site.outputs)


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "sort", "topk", "renorm")
def along(site: Site) -> Answer:
    """Each depends on all along the axis."""
    ids = site.operand("self").numbers()
    if site.op.name.startswith("renorm"):
        kept = site["dim"] % ids.dim()
        united = site.over(ids, [d for d in range(ids.dim()) if d != kept])
    else:
        united = site.over(ids, -1 if site["dim"] is None else site["dim"])
    return [united.expand(value.shape) for value in site.outputs]


@rule("cumsum", "cumprod", "logcumsumexp", "_logcumsumexp", "cummax", "cummin")
def scanned(site: Site) -> Answer:
    """Each depends on all up to its own place."""
    ids = site.operand("self").numbers()
    if ids.dim() == 0 or ids.numel() == 0:
        return [ids] * len(site.outputs)
    united = site.up_to(ids.movedim(site["dim"], -1)).movedim(-1, site["dim"])
    return [united] * len(site.outputs)


@rule("linalg_cross")
def crossed(site: Site) -> Answer:
    """Each of the three depends on the other two places of both factors."""
    one, other = torch.broadcast_tensors(site.operand("self").numbers(), site.operand("other").numbers())
    parts: list[Tensor | None] = [part.roll(k, site["dim"]) for part in (one, other) for k in (1, 2)]
    return site.join(*parts)


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def transformed(site: Site) -> Answer:
    """Each frequency depends on all of the line, each place on all frequencies."""
    united = site.over(site.operand("self").numbers(), site["dim"])
    return united.expand(site.shape)
