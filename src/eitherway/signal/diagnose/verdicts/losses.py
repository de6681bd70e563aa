"""What is squashed twice, and what dropout leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eitherway.graph import Op
from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.layers import Row
from eitherway.signal.diagnose.run import LOSS
from eitherway.signal.diagnose.verdicts.parts import Found, found, listed, summed

_AGAIN = {
    "cross_entropy_loss": ("cross_entropy", ("softmax", "sigmoid")),
    "binary_cross_entropy_with_logits": ("binary_cross_entropy_with_logits", ("sigmoid", "softmax")),
    "log_softmax": ("log_softmax", ("softmax", "sigmoid")),
    "softmax": ("softmax", ("softmax",)),
    "log_sigmoid": ("logsigmoid", ("sigmoid", "softmax")),
    "multilabel_margin_loss": ("multilabel_margin_loss", ("softmax",)),
}
"""Operations that squash what they are given, and what must not stand before them."""
_MOVES = (
    "view",
    "reshape",
    "flatten",
    "squeeze",
    "unsqueeze",
    "transpose",
    "permute",
    "contiguous",
    "select",
    "slice",
    "movedim",
    "t",
    "to",
    "_to_copy",
    "float",
    "double",
    "type_as",
    "clone",
    "index_select",
    "view_as",
    "expand",
    "unflatten",
    "alias",
    "reshape_as",
    "index",
    "narrow",
    "squeeze_",
    "unsqueeze_",
    "dropout",
)
SURE = 2.0
"""Logits beyond twice the point where softmax condenses, and a loss beyond twice that of equal shares."""
NOISY = 0.8
"""Dropout beyond it leaves noise of p / (1 - p) = 4 times the signal's mean square."""


def squashed_twice(e: Evidence) -> Iterator[Found]:
    """A softmax or sigmoid whose answer is read by something that squashes again."""
    for op in e.graph.ops:
        known = _AGAIN.get(op.name.lstrip("_"))
        if known is None or not op.inputs:
            continue
        before = _behind(e, op.inputs[0])
        if before is None or before.name.lstrip("_").removesuffix("_") not in known[1]:
            continue
        name = before.name.lstrip("_").removesuffix("_")
        layer = before.module or before.where or name
        layer = layer if not layer.startswith(LOSS) else before.where or name
        told = f"{name} in {layer}" if layer != name else name
        slope = "its logits then lie between 0 and 1, so the loss can hardly move and the gradient is flattened twice"
        place = "in the loss " if op.module.startswith(LOSS) else ""
        yield found(
            "double squashing",
            "alarm",
            [layer],
            f"{told} is followed by {known[0]} {place}".strip(),
            slope,
            f"give {known[0]} the logits: take the {name} out of training",
            at=before.index,
        )


def _behind(e: Evidence, value: int) -> Op | None:
    """The operation that made a value, moves left aside."""
    for _ in range(50):
        producer = e.graph.values[value].producer
        if producer is None:
            return None
        op = e.graph.ops[producer]
        if op.name not in _MOVES or not op.inputs:
            return op
        value = op.inputs[0]
    return None


def too_sure(e: Evidence) -> Iterator[Found]:
    """A head whose logits condense softmax on one class while the loss says that it is the wrong one."""
    for op in e.graph.ops:
        if op.name.lstrip("_") != "cross_entropy_loss" or not op.inputs or op.inputs[0] not in e.run.tensors:
            continue
        logits = e.run.tensors[op.inputs[0]].detach()
        value = e.run.tensors.get(op.outputs[0])
        row = _head(e, op.inputs[0])
        if row is None or value is None or value.numel() != 1 or logits.ndim < 2 or summed(op):
            continue
        classes = logits.shape[1]
        if classes < 2 or not bool(logits.isfinite().all()):
            continue
        far = float(logits.double().std(1, correction=0).square().mean().sqrt())
        condensed, blind = math.sqrt(2 * math.log(classes)), math.log(classes)
        if far <= SURE * condensed or float(value.detach()) <= SURE * blind:
            continue
        p = row.producer
        name = e.graph.ops[p.op].module or row.signal.name
        yield found(
            "exploding signal",
            "alarm",
            [name, row.signal.name, *(e.names[i] for i in e.structure.tied.get(p.name, ()))],
            f"the logits of {name} deviate by {far:.3g} over {classes} classes, and the loss is "
            f"{float(value.detach()):.3g} where {blind:.3g} = log {classes} says nothing at all",
            f"its weights have rms {row.signal.weight_rms:.3g}, where 1 / sqrt(fan in) is {p.fan_in**-0.5:.3g}: "
            "softmax is sure of one class before anything is learnt",
            f"start its weights {far:.3g} times smaller"
            + (", or divide the logits: they are a table's, too" if len(e.structure.tied.get(p.name, ())) > 1 else ""),
            at=row.signal.op,
        )
        return


def _head(e: Evidence, value: int) -> Row | None:
    """The layer whose own numbers are read, moves left aside."""
    for _ in range(50):
        row = next((r for r in e.rows if r.producer.output == value), None)
        producer = e.graph.values[value].producer
        if row is not None or producer is None:
            return row
        op = e.graph.ops[producer]
        if op.name not in _MOVES or not op.inputs:
            return None
        value = op.inputs[0]
    return None


def dropouts(e: Evidence) -> Iterator[Found]:
    """Dropout so high that the signal is mostly noise."""
    high: list[tuple[str, float, bool, int]] = []
    for op in e.graph.ops:
        if "dropout" not in op.name:
            continue
        rates = [a for a in (*op.args, *op.kwargs.values()) if isinstance(a, float)]
        active = next((a for a in op.args if isinstance(a, bool)), op.random)
        if rates and rates[0] >= NOISY:
            high.append((op.module or op.where or op.name, rates[0], active, op.index))
    if not high:
        return
    _, p, active, at = high[0]
    noise = p / (1 - p) if p < 1 else float("inf")
    off = "" if active else " (off in the present mode, but not in training)"
    yield found(
        "dropout",
        "alarm",
        [n for n, *_ in high],
        f"dropout of {p:g} in {listed([n for n, *_ in high])}{off}",
        f"it adds noise of {noise:.3g} times the signal's own mean square",
        "0.1 to 0.5 is in use",
        at=at,
        upto=high[-1][3],
    )
