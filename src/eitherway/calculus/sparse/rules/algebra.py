"""Linear algebra: matrix by matrix of a batch, each result depends on all of its matrix that zeros let through."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eitherway.calculus.sparse.rules.products import half
from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Operand, Site, Unsure


@rule(
    "cholesky_inverse", "linalg_inv_ex", "inverse", "_linalg_det", "_linalg_slogdet",
    "_linalg_eigh", "linalg_eig", "linalg_eigvals", "_linalg_eigvals", "_linalg_svd", "linalg_lu",
    "linalg_lu_factor_ex", "lu_unpack", "linalg_matrix_exp", "linalg_pinv", "linalg_householder_product", "geqrf",
    "linalg_ldl_factor_ex", "linalg_lstsq", "_linalg_check_errors",
)  # fmt: skip
def of_matrices(site: Site) -> Answer:
    parts, batch = [], 0
    for operand in site.live():
        ids = operand.numbers()
        if ids.dim() < 2:
            raise Unsure
        parts.append(site.over(ids, (-2, -1), keep=False))
        batch = max(batch, ids.dim() - 2)
    whole = site.join(*parts)
    assert whole is not None
    return [whole.reshape((*whole.shape, *[1] * (len(v.shape) - batch))).expand(v.shape) for v in site.outputs]


@rule("linalg_cholesky_ex", "cholesky")
def cholesky(site: Site) -> Answer:
    """Row i of the factor up to column j comes from the leading j x j block and row i as far as there."""
    ids = site.operand("self").numbers()
    both = site.join(ids, ids.mT)  # autograd's derivative is symmetric, whichever triangle is read
    assert both is not None
    rows = site.up_to(both)  # (..., n, n)
    leading = site.up_to(rows.mT).diagonal(dim1=-2, dim2=-1)  # of column j, the rows up to j
    lower = site.join(leading[..., None, :].expand(ids.shape), rows)
    assert lower is not None
    found = lower.tril().mT if site["upper"] else lower.tril()
    return [found, *[None] * (len(site.outputs) - 1)]


@rule("linalg_qr")
def orthogonalised(site: Site) -> Answer:
    """Column j of Q comes from the columns up to j, the last of a square Q from those before it; R has zeros below its
    diagonal."""
    ids = site.operand("A").numbers()
    columns = site.over(ids, -2, keep=False)  # (..., n)
    some = min(ids.shape[-2:])
    first = site.up_to(columns)[..., :some]
    if 1 < ids.shape[-2] == some:
        first = torch.cat([first[..., :-1], first[..., -2:-1]], -1)
    q, r = site.outputs[0].shape, site.outputs[1].shape
    of_q = None
    if len(q) > 1:
        wide = torch.cat([first, first[..., -1:].expand(*first.shape[:-1], q[-1] - some)], -1)
        of_q = wide[..., None, :].expand(q)
    of_r = site.join(first[..., :, None].expand(*first.shape, r[-1]), columns[..., None, :])
    assert of_r is not None
    if r[-2] > some:
        of_r = torch.cat([of_r, of_r.new_zeros(*of_r.shape[:-2], r[-2] - some, r[-1])], -2)
    return [of_q, of_r.triu()]


@rule("_linalg_solve_ex", "linalg_solve_triangular", "cholesky_solve", "triangular_solve", "linalg_lu_solve")
def solved(site: Site) -> Answer:
    """Column by column of the right-hand side; through a constant matrix as far as its zeros let it."""
    name = site.op.name
    if name == "cholesky_solve":
        matrix, given = site.operand("input2"), site.operand("self")
    elif name == "triangular_solve":
        matrix, given = site.operand("A"), site.operand("self")
    else:
        matrix, given = site.operand("A", "LU", "self"), site.operand("B")
    ids, left = given.numbers(), site["left"] is not False
    if ids.dim() == 1 or len(matrix.shape) > ids.dim():  # a vector stands for a column
        if len(matrix.shape) != 2 or ids.dim() != 1 or not left:
            return _everything(site)
        ids = ids[:, None]
    there = None
    if matrix.ids is None and name in ("_linalg_solve_ex", "linalg_solve_triangular") and len(matrix.shape) == 2:
        there = _inverse_non_zeros(site, matrix, left)
    ids = ids.mT if left else ids  # (..., columns, k): each row is solved for by itself
    whole = half(site, ids, ids.shape[-1], there)
    whole = whole.mT if left else whole
    if matrix.ids is not None:
        of_matrix = site.over(matrix.ids, (-2, -1))
        whole = site.join(whole, of_matrix.expand(*whole.shape))
    assert whole is not None
    return [whole.reshape(site.shape), *[None] * (len(site.outputs) - 1)]


def _inverse_non_zeros(site: Site, matrix: Operand, left: bool) -> Tensor | None:
    """(k, columns) of the inverse, turned for the product. An inverse is a polynomial of its matrix: its non-zeros
    lie where paths along the matrix's own lead."""
    there = matrix.non_zeros()
    if there is None and site.op.name != "linalg_solve_triangular":
        return None
    if there is None:
        there = torch.ones(matrix.shape, dtype=torch.bool)
    if site.op.name == "linalg_solve_triangular":
        there = there.triu() if site["upper"] else there.tril()
    reach = there.numpy() | np.eye(len(there), dtype=bool)
    while True:
        further = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
        if (further == reach).all():
            break
        reach = further
    found = torch.from_numpy(reach)
    return found.T if left else found


def _everything(site: Site) -> Answer:
    return [site.everything()] * len(site.outputs)
