"""The sparse way to a Jacobian: which entries can be other than zero is followed operation by operation, columns or
rows that do not touch share a colour, and a few products tell all entries.

Nothing here chooses between ways: `prepare` says what this one takes, and who asks decides. Patterns hold for all
inputs that take a run along the same branches; values at x are never read.
"""

from eitherway.calculus.sparse.compressed import Compressed, prepare
from eitherway.calculus.sparse.pattern import block_diagonal

__all__ = ["Compressed", "block_diagonal", "prepare"]
