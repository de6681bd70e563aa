"""What a pattern says of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np


def block_diagonal(pattern: Any, batch: int) -> bool:
    """Whether a batched call keeps its samples apart: no output of one sample depends on the input of another.

    Args:
        pattern: (p, q) matrix of scipy or sparse tensor of torch; rows and columns are flattened with the batch first.
        batch: samples, B; p and q are multiples of it, or the answer is no.

    >>> from scipy.sparse import identity
    >>> block_diagonal(identity(6), 3)
    True
    """
    if hasattr(pattern, "is_coalesced"):
        rows, columns = pattern.coalesce().indices().numpy()
    else:
        found = pattern.tocoo()
        rows, columns = found.row, found.col
    p, q = pattern.shape
    if batch < 1 or p % batch or q % batch:
        return False
    if not len(rows):
        return True
    return bool(np.array_equal(rows // (p // batch), columns // (q // batch)))
