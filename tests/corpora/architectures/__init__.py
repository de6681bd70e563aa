"""Architectures as users write them: plain PyTorch, no annotation, small, each with an example of its input.

What starts and judges models (`eitherway.signal`) is judged on them; they were written before it. They stand in
training mode, in float32, as their authors' code leaves them: some with a start of their own.
"""

from tests.corpora.architectures.architecture import (
    Architecture,
    Facts,
    answers,
    call,
    cost,
    matches,
    norm_parameters,
)
from tests.corpora.architectures.convolutional import CONVOLUTIONAL
from tests.corpora.architectures.generative import GENERATIVE
from tests.corpora.architectures.plain import PLAIN
from tests.corpora.architectures.residual import RESIDUAL
from tests.corpora.architectures.sequences import SEQUENCES
from tests.corpora.architectures.sets import SETS
from tests.corpora.architectures.transformers import TRANSFORMERS

ARCHITECTURES = (*PLAIN, *RESIDUAL, *CONVOLUTIONAL, *TRANSFORMERS, *SEQUENCES, *GENERATIVE, *SETS)

__all__ = ["ARCHITECTURES", "Architecture", "Facts", "answers", "call", "cost", "matches", "norm_parameters"]
