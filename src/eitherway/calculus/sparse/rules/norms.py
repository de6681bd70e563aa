"""Normalisation: each number depends on the group that its mean and variance are taken of."""

from __future__ import annotations

from torch import Tensor

from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Operand, Site


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm")
def layer(site: Site) -> Answer:
    """Over the last axes, sample by sample."""
    x = site.operand("input")
    dims = range(-len(site["normalized_shape"]), 0)
    united = None if x.ids is None else site.over(x.ids, list(dims))
    spread = None if united is None else united.expand(x.shape)
    whole = site.join(spread, _ids(site, "weight"), _ids(site, "bias"))
    return [whole] + [None if united is None else united.expand(v.shape) for v in site.outputs[1:]]


@rule("native_group_norm")
def group(site: Site) -> Answer:
    """Over a group of channels of one sample; (N, C, ...)."""
    x, groups = site.operand("input"), site["group"]
    spread = means = None
    if x.ids is not None:
        n, channels = x.shape[0], x.shape[1]
        means = site.rows(x.ids.reshape(n * groups, -1)).reshape(n, groups)
        spread = means[:, :, None].expand(n, groups, channels // groups).reshape(n, channels)
        spread = spread.reshape(n, channels, *[1] * (x.tensor.dim() - 2)).expand(x.shape)
    whole = site.join(spread, *_per_channel(site, x))
    return [whole, *[None if means is None else means.expand(v.shape) for v in site.outputs[1:]]]


@rule(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional", "_batch_norm_with_update", "_batch_norm_with_update_functional",
    "_batch_norm_no_update", "_batch_norm_impl_index", "batch_norm", "cudnn_batch_norm", "miopen_batch_norm",
)  # fmt: skip
def batch(site: Site) -> Answer:
    """Channel by channel: over all samples in training mode, which couples them, and over none in eval mode."""
    x = site.operand("input")
    training = site["training"] if "training" in site.named else site["train"]
    name = site.op.name
    if name.endswith("no_training") or name == "_batch_norm_no_update":
        training = False
    elif "with_update" in name:
        training = True
    means = None
    if x.ids is not None and training:
        means = site.over(x.ids, [d for d in range(x.tensor.dim()) if d != 1])
    spread = x.ids if means is None else means.expand(x.shape)
    whole = site.join(spread, *_per_channel(site, x))
    flat = None if means is None else means.reshape(-1)
    rest = [flat if flat is not None and v.shape == flat.shape else None for v in site.outputs[1:]]
    return [whole, *rest]


def _per_channel(site: Site, x: Operand) -> list[Tensor | None]:
    """Sets of the tensors that hold one number a channel, spread over x."""
    found: list[Tensor | None] = []
    for name in ("weight", "bias", "running_mean", "running_var"):
        ids = _ids(site, name)
        if ids is not None:
            found.append(ids.reshape(-1, *[1] * (x.tensor.dim() - 2)).expand(x.shape))
    return found


def _ids(site: Site, name: str) -> Tensor | None:
    given = site[name]
    return given.ids if isinstance(given, Operand) else None
