"""Linear algebra: matrix by matrix of a batch, each result depends on all of its matrix that zeros let through."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eitherway.calculus.sparse.rules.products import half
from eitherway.calculus.sparse.rules.table import rule
from eitherway.calculus.sparse.site import Answer, Operand, Site, Unsure


@rule(
    "linalg_cholesky_ex", "cholesky", "cholesky_inverse", "linalg_inv_ex", "inverse", "_linalg_det", "_linalg_slogdet",
    "_linalg_eigh", "linalg_eig", "linalg_eigvals", "_linalg_eigvals", "_linalg_svd", "linalg_qr", "linalg_lu",
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
