"""All planted faults."""

from tests.corpora.signals.dense import DENSE
from tests.corpora.signals.ends import ENDS
from tests.corpora.signals.fault import Fault
from tests.corpora.signals.images import IMAGES
from tests.corpora.signals.sequences import SEQUENCES

FAULTS: tuple[Fault, ...] = DENSE + IMAGES + SEQUENCES + ENDS
