"""Linear algebra: matrix by matrix of a batch, each result depends on all of its matrix."""

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
    left = site["left"] is not False
    if len(site.outputs[0].shape) != len(given.shape) or len(given.shape) < 2 or len(matrix.shape) > len(given.shape):
        return of_matrices(site) if min(len(given.shape), len(matrix.shape)) > 1 else _everything(site)
    ids = given.numbers() if left else given.numbers().mT
    there = None
    if matrix.ids is None and name in ("_linalg_solve_ex", "linalg_solve_triangular") and len(matrix.shape) == 2:
        there = _inverse_non_zeros(site, matrix, left)
    columns = half(site, ids.mT, ids.shape[-2], there).mT
    whole = site.join(columns if left else columns.mT, _of_matrix(site, matrix, given))
    rest: list[Tensor | None] = [None] * (len(site.outputs) - 1)
    return [whole, *rest]


def _of_matrix(site: Site, matrix: Operand, given: Operand) -> Tensor | None:
    if matrix.ids is None:
        return None
    whole = site.over(matrix.ids, (-2, -1))
    if given.ids is not None:
        whole = site.join(whole, site.over(given.ids, (-2, -1)))
        assert whole is not None
    return whole.expand(site.shape)


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
