"""`initialize_`: a model's parameters at the start, read from one run of it; a report in which each of them stands.

The door, its refusals, the plan, the walk that draws, the certificate. Structure, moments and schemes are the
neighbours' business; nothing here trains.
"""

from eitherway.signal.initialize.door import initialize_
from eitherway.signal.initialize.report import Entry, InitializeReport, Layer

__all__ = ["Entry", "InitializeReport", "Layer", "initialize_"]
