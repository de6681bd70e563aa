"""What a model is made of, read from one captured run with no annotations.

Producers (uses of weights) with their fans, the functions between them, norms, residual adds, attentions, and a role
for each parameter. Readers only: nothing here draws a weight or measures a signal.
"""

from eitherway.signal.structure.parts import (
    Attention,
    Block,
    Chain,
    Norm,
    Path,
    Producer,
    Residual,
    Role,
    Source,
    Structure,
)
from eitherway.signal.structure.read import read_structure

__all__ = [
    "Attention",
    "Block",
    "Chain",
    "Norm",
    "Path",
    "Producer",
    "Residual",
    "Role",
    "Source",
    "Structure",
    "read_structure",
]
