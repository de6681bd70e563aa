"""Products of matrices: rows of the one, columns of the other, and the zeros of constants."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Operand, Site, Unsure

LARGEST = 5_000_000
"""Non-zeros times rows that are followed one by one; where there are more, a constant counts as dense."""


@rule("mm", "bmm", "mv", "dot", "vdot", "_sparse_mm", "matmul", "inner")
def product(site: Site) -> Answer:
    left, right = _sides(site)
    return _shaped(site, multiplied(site, left, right))


@rule("addmm", "baddbmm", "addmv", "_sparse_addmm", "addbmm", "_addmm_activation")
def added(site: Site) -> Answer:
    left, right = _sides(site)
    whole = multiplied(site, left, right)
    if site.op.name.startswith("addbmm"):
        whole = None if whole is None else site.over(whole, 0, keep=False)
    base = site.operand("self", "input").ids if site["beta"] != 0 else None
    return site.join(_shaped(site, whole), base)


@rule("addr")
def outer(site: Site) -> Answer:
    one, other, base = site.operand("vec1"), site.operand("vec2"), site.operand("self")
    return site.join(one.numbers()[:, None], other.numbers()[None, :], base.ids)


@rule("_cdist_forward", "_euclidean_dist")
def distances(site: Site) -> Answer:
    """Row by row of the one against row by row of the other."""
    one, other = site.operand("x1"), site.operand("x2")
    ids = [None if part.ids is None else site.over(part.ids, -1, keep=False) for part in (one, other)]
    return site.join(
        None if ids[0] is None else ids[0][..., :, None].expand(site.shape),
        None if ids[1] is None else ids[1][..., None, :].expand(site.shape),
    )


@rule("_pdist_forward")
def pairs(site: Site) -> Answer:
    """Row against row below it, in the order of an upper triangle."""
    ids = site.over(site.operand("self").numbers(), -1, keep=False)
    first, second = torch.triu_indices(len(ids), len(ids), 1)
    return site.join(ids[first], ids[second])


@rule("_trilinear")
def trilinear(site: Site) -> Answer:
    """A product of three with axes put in, summed over some."""
    parts: list[Tensor | None] = []
    for name, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        part = site.operand(name)
        ids = part.numbers()
        for axis in sorted(site[expand]):
            ids = ids.unsqueeze(axis)
        parts.append(ids)
    shape = torch.broadcast_shapes(*(part.shape for part in parts if part is not None))
    whole = site.join(*parts)
    assert whole is not None
    return site.over(whole.expand(shape), site["sumdim"], keep=False)


def _sides(site: Site) -> tuple[Operand, Operand]:
    for names in (("mat1", "mat2"), ("batch1", "batch2"), ("mat", "vec"), ("self", "mat2"), ("self", "vec")):
        one, other = (site[name] for name in names)
        if isinstance(one, Operand) and isinstance(other, Operand):
            return one, other
    one, other = site["self"] or site["sparse"], site["other"] or site["tensor"] or site["dense"]
    if isinstance(one, Operand) and isinstance(other, Operand):
        return one, other
    raise Unsure


def _shaped(site: Site, ids: Tensor | None) -> Tensor | None:
    return None if ids is None else ids.reshape(site.shape)


def multiplied(site: Site, left: Operand, right: Operand) -> Tensor | None:
    """Sets of A @ B, (..., m, n); vectors stand for a row on the left and for a column on the right."""
    if left.tensor.dim() > 3 or right.tensor.dim() > 3:
        raise Unsure
    parts = []
    if left.ids is not None:
        there = None if right.ids is not None else right.non_zeros()
        a = left.ids[None] if left.ids.dim() == 1 else left.ids
        columns = right.shape[-1] if len(right.shape) > 1 else 1
        there = there[:, None] if there is not None and there.dim() == 1 else there
        parts.append(half(site, a, columns, there))
    if right.ids is not None:
        there = None if left.ids is not None else left.non_zeros()
        b = right.ids[:, None] if right.ids.dim() == 1 else right.ids
        rows = left.shape[-2] if len(left.shape) > 1 else 1
        there = there[None] if there is not None and there.dim() == 1 else there
        turned = half(site, b.mT, rows, None if there is None else there.mT)
        parts.append(turned.mT)
    return site.join(*parts)


def half(site: Site, a: Tensor, columns: int, there: Tensor | None) -> Tensor:
    """What A contributes to A @ B: (..., m, k) -> (..., m, columns).

    Args:
        there: (..., k, columns) where B is not zero; None for everywhere.
    """
    *batch, m, k = a.shape
    if there is None or a.numel() * columns == 0 or there.sum() * m > LARGEST:
        united = site.rows(a.reshape(-1, k)) if k else torch.zeros(a.shape[:-1].numel(), dtype=torch.int64)
        return united.reshape(*batch, m, 1).expand(*batch, m, columns)
    if there.dim() == 3:
        return torch.stack([half(site, a[i], columns, there[i]) for i in range(len(there))])
    if batch:
        return half(site, a.reshape(-1, k), columns, there).reshape(*batch, m, columns)
    kinds, which = np.unique(there.numpy(), axis=1, return_inverse=True)  # columns of B with the same zeros go together
    inner, kind = np.nonzero(kinds)
    groups = np.arange(m)[:, None] * kinds.shape[1] + kind[None]
    united = site.unite(groups, a[:, torch.from_numpy(inner)], m * kinds.shape[1])
    return united.reshape(m, -1)[:, torch.from_numpy(which.reshape(-1))]
