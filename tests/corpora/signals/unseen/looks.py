"""What plain torch sees of some faults, where it takes more than a line."""

import copy
from typing import Any

import torch
import torch.nn.functional as F

from tests.corpora.signals.ends import squashed
from tests.corpora.signals.fault import Run


def probabilities(run: Run) -> bool:
    """Whether what comes out sums to one over the classes, and 100 steps do not lead far."""
    return bool(torch.allclose(run.out[""].sum(1), torch.ones(()), atol=1e-4)) and squashed(run)


def affine(run: Run) -> bool:
    """Whether the second to the fourth convolution are one affine map, once the norms' statistics are held."""
    model: Any = copy.deepcopy(run.start.model).eval()
    model.bent = (*model.bent[:3], False, True)  # what stands behind the fourth comes after the map
    with torch.no_grad():
        x = F.relu(run.out["norms.0"])
        one, two, none = (model.step(model.step(model.step(k * x, 1), 2), 3) for k in (1, 2, 0))
    return bool(torch.allclose(two - one, one - none, rtol=1e-3, atol=1e-3))


def the_same(run: Run) -> bool:
    """Whether all experts are equal, with equal gradients, and the gate's rows too."""
    first, last = (run.slopes[f"experts.{i}.0.weight"] for i in (0, 3))
    gate = run.slopes["gate.weight"]
    assert first is not None and last is not None and gate is not None
    return bool(torch.allclose(first, last, rtol=1e-4, atol=1e-9) and torch.allclose(gate[0], gate[3], atol=1e-7))


def sharpest(run: Run) -> float:
    """Mean largest weight of a `Pointer`."""
    model: Any = run.start.model
    with torch.no_grad():
        scores = torch.tanh(run.out["query"][:, None] + run.out["key"]) @ model.v
    return float(scores.softmax(-1).amax(-1).mean())
