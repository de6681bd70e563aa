"""Each output number depends on the input numbers at its own place; some depend on nothing at all."""

from __future__ import annotations

from typing import Any

import torch

from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Operand, Site


@rule(
    "_to_copy", "clone", "lift_fresh", "complex", "polar", "native_dropout", "rrelu_with_noise", "log_sigmoid_forward",
    "_prelu_kernel", "prelu", "angle", "lgamma", "_conj_physical", "masked_scale", "dropout", "alpha_dropout",
    "_fused_dropout", "convert_element_type", "contiguous", "alias", "gelu", "hardswish", "celu", "hardsigmoid", "mish",
)  # fmt: skip
def pointwise(site: Site) -> Answer:
    """The union over all tensors, with broadcasting; the same for each output."""
    joined = site.join(*(operand.ids for operand in site.live()))
    return joined if len(site.outputs) == 1 else [joined] * len(site.outputs)


@rule(
    "floor", "ceil", "round", "trunc", "fix", "sign", "heaviside", "floor_divide", "nextafter", "bernoulli",
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like", "new_zeros",
    "new_ones", "new_full", "new_empty", "new_empty_strided", "zero", "uniform", "normal", "exponential", "geometric",
    "cauchy", "log_normal", "random", "multinomial", "poisson", "detach", "scalar_tensor",
)  # fmt: skip
def nothing(site: Site) -> Answer:
    """Steps have no slope; fresh tensors hold no x."""
    return [None] * len(site.outputs)


@rule("sgn")
def direction(site: Site) -> Answer:
    return pointwise(site) if site.outputs[0].dtype.is_complex else None


@rule("div", "divide", "true_divide")
def division(site: Site) -> Answer:
    return None if site["rounding_mode"] else pointwise(site)


@rule("mul", "multiply")
def product(site: Site) -> Answer:
    """A factor that is a constant zero leaves nothing of the other."""
    parts = []
    for operand, other in (("self", "other"), ("other", "self")):
        one, by = site[operand], site[other]
        if not isinstance(one, Operand) or one.ids is None:
            continue
        ids = one.ids
        there = by.non_zeros() if isinstance(by, Operand) and by.ids is None else None
        if there is not None:
            ids, there = torch.broadcast_tensors(ids, there)
            ids = torch.where(there, ids, 0)
        parts.append(ids)
    return site.join(*parts)


@rule("where")
def choice(site: Site) -> Answer:
    """A constant condition chooses; one that depends on x may come out either way."""
    condition, one, other = site.operand("condition"), _numbers(site["self"]), _numbers(site["other"])
    if condition.constant:
        return torch.where(condition.content(), one, other)
    return site.join(one, other)


@rule("masked_fill")
def masked(site: Site) -> Answer:
    mask, ids, value = site.operand("mask"), site.operand("self").numbers(), _numbers(site["value"])
    if mask.constant:
        return torch.where(mask.content(), value, ids)
    return site.join(ids, value)


@rule("copysign")
def signed(site: Site) -> Answer:
    return site.operand("self").ids


@rule("fill")
def filled(site: Site) -> Answer:
    return _numbers(site["value"])


@rule("copy")
def copied(site: Site) -> Answer:
    return site.operand("src").ids


@rule("view_as_real")
def parts(site: Site) -> Answer:
    return site.operand("self").numbers()[..., None].expand(site.shape)


@rule("view_as_complex")
def complex_of_parts(site: Site) -> Answer:
    return site.over(site.operand("self").numbers(), -1, keep=False)


@rule("glu")
def gated(site: Site) -> Answer:
    return site.join(*site.operand("self").numbers().chunk(2, site["dim"]))


@rule(
    "mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "soft_margin_loss",
    "binary_cross_entropy_with_logits",
)  # fmt: skip
def loss(site: Site) -> Answer:
    """0 is no reduction, 1 the mean, 2 the sum."""
    joined = site.join(*(operand.ids for operand in site.live()))
    return joined if site["reduction"] == 0 or joined is None else site.over(joined, None, keep=False)


@rule("nll_loss_forward", "nll_loss2d_forward", "nll_loss_nd")
def likelihood(site: Site) -> Answer:
    """The class that the target names, out of (N, C, ...)."""
    ids, target = site.operand("self").numbers(), site.operand("target")
    axis = 0 if ids.dim() == 1 else 1
    if target.constant:
        index = target.content().clamp(0, ids.shape[axis] - 1).unsqueeze(axis)
        picked = ids.gather(axis, index).squeeze(axis)
    else:
        picked = site.over(ids, axis, keep=False)
    answer = picked if site["reduction"] == 0 else site.over(picked, None, keep=False)
    return [answer] + [None] * (len(site.outputs) - 1)


def _numbers(given: Any) -> torch.Tensor:
    return given.numbers() if isinstance(given, Operand) else torch.zeros((), dtype=torch.int64)
