"""What each operation does to index sets, by family. A rule knows one operation, never the model it stands in.

A rule answers with set numbers of the outputs. Where it is unsure it says so (`Unsure`), and the operation is taken
apart, or counts as dense: every output of it depends on every input of it. Missing a dependence is the only sin.
"""

import torch

from eitherway.calculus.sparse.rules import (  # noqa: F401 - each fills the table
    algebra,
    elementwise,
    movement,
    norms,
    placement,
    products,
    reductions,
    resampling,
    windows,
)
from eitherway.calculus.sparse.rules.elementwise import pointwise
from eitherway.calculus.sparse.rules.table import RULES, plain
from eitherway.calculus.sparse.site import Answer, Site, Unsure

__all__ = ["apply"]


def apply(site: Site) -> Answer:
    """The sets of an operation's outputs.

    Raises:
        Unsure: if no rule covers it.
    """
    known = RULES.get(plain(site.op.name))
    if known is not None:
        return known(site)
    if torch.Tag.pointwise in getattr(site.op.target, "tags", ()):
        return pointwise(site)
    raise Unsure
