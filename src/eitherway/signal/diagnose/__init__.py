"""`diagnose`: the signal through a model, forward and backward, layer by layer, with verdicts that name causes.

One run is measured (`run`, `layers`, `attention`, `spectrum`); `verdicts` judge what was measured; `report` and
`pictures` show it. Nothing here changes a model.
"""

from eitherway.signal.diagnose.attention import AttentionSignal
from eitherway.signal.diagnose.door import diagnose
from eitherway.signal.diagnose.layers import LayerSignal
from eitherway.signal.diagnose.report import Diagnosis
from eitherway.signal.diagnose.spectrum import Spectrum
from eitherway.signal.diagnose.verdicts.parts import Verdict

__all__ = ["AttentionSignal", "Diagnosis", "LayerSignal", "Spectrum", "Verdict", "diagnose"]
