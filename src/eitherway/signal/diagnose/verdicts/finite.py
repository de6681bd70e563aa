"""NaN and inf: the first operation where they appear, forward or backward."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from eitherway.graph import Op
from eitherway.graph.capture import name_of
from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.layers import Row
from eitherway.signal.diagnose.measure import finite, rms
from eitherway.signal.diagnose.run import LOSS
from eitherway.signal.diagnose.verdicts.parts import Found, found

_LARGE = 1e15
"""Numbers whose squares leave float32's range: what overflows from here on has grown, not broken."""
_MASKED = ("softmax", "log_softmax", "scaled_dot_product_attention", "logsumexp")
"""Operations that take -inf for a place that is not to be seen."""
_REMEDIES = {
    "log": "keep its argument above 0: `torch.log(x.clamp(min=1e-6))`, or a loss that takes logits",
    "log2": "keep its argument above 0: clamp it",
    "log10": "keep its argument above 0: clamp it",
    "div": "keep its divisor away from 0: add a small number",
    "reciprocal": "keep its argument away from 0: add a small number",
    "sqrt": "keep its argument above 0: `torch.sqrt(x + 1e-8)` (at 0 its slope is infinite)",
    "rsqrt": "keep its argument above 0: add a small number",
    "exp": "keep its argument below 80: subtract the largest first, as softmax does",
    "pow": "keep its base above 0: clamp it",
    "softmax": "let every row keep at least one place that is not masked",
    "scaled_dot_product_attention": "let every query keep at least one key that is not masked",
    "norm": "add a small number inside: at 0 its slope is not defined",
    "linalg_vector_norm": "add a small number inside: at 0 its slope is not defined",
}


def bad_numbers(e: Evidence) -> Iterator[Found]:
    """The origin of what is not finite in the output, the loss or the gradients; masks of -inf are none of them."""
    held = [n for n, p in e.run.parameters.items() if not finite(p)]
    if held:
        count = sum(int((~torch.isfinite(e.run.parameters[n].detach())).sum()) for n in held)
        yield found(
            "not finite",
            "alarm",
            [n.rpartition(".")[0] or n for n in held],
            f"{held[0]} holds {count:,} NaN or inf",
            "it was so before anything ran",
            "start it again, or load an earlier checkpoint",
        )
        return
    ends = [*e.run.outputs, *([e.run.end] if e.run.end >= 0 else [])]
    bad = [i for i in ends if _bad(e.run.tensors.get(i))]
    if bad:
        op = _origin(e, bad[-1])
        if op is not None:
            yield _forward(e, op)
        return
    broken = [n for n, g in e.by_name.items() if _bad(g)]
    if broken:
        yield _backward(e, broken)


def _bad(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.is_floating_point() and not finite(tensor)


def _origin(e: Evidence, value: int) -> Op | None:
    """Back along values that are not finite, to the first operation that made one of finite numbers."""
    graph, seen = e.graph, set()
    first: Op | None = None
    wanted = [value]
    while wanted:
        i = wanted.pop()
        producer = graph.values[i].producer
        if producer is None or producer in seen:
            continue
        seen.add(producer)
        op = graph.ops[producer]
        masks = op.name.lstrip("_") in _MASKED
        worse = [j for j in op.inputs if _bad(e.run.tensors.get(j)) and not (masks and _mask(e.run.tensors[j]))]
        if worse:
            wanted += worse
        elif first is None or op.index < first.index:
            first = op
    return first


def _mask(tensor: Tensor) -> bool:
    """Whether all that is not finite is -inf: scores that softmax is not to see."""
    odd = tensor[~torch.isfinite(tensor)]
    return bool((odd == -torch.inf).all()) and not bool(torch.isnan(tensor).any()) and tensor.ndim > 1


def _forward(e: Evidence, op: Op) -> Found:
    made = next(e.run.tensors[i] for i in op.outputs if i in e.run.tensors).detach()
    nan, inf = int(torch.isnan(made).sum()), int(torch.isinf(made).sum())
    what = " and ".join(f"{count:,} {word}" for count, word in ((nan, "NaN"), (inf, "inf")) if count)
    where = _where(op)
    name = op.name.removesuffix("_")
    given = [e.run.tensors[i].detach() for i in op.inputs if i in e.run.tensors]
    floats = [t for t in given if t.is_floating_point() and t.numel()]
    top = max((float(t.abs().max()) for t in floats), default=0.0)
    cause = f"its arguments are finite, from {min((float(t.min()) for t in floats), default=0):.3g} to " + (
        f"{max((float(t.max()) for t in floats), default=0):.3g}"
    )
    layer = next((r.signal.name for r in e.rows if r.producer.op == op.index), "") or op.module or op.where or op.name
    layer = op.where or op.name if layer.startswith(LOSS) else layer
    if top > _LARGE and top < float("inf"):
        rows = [r for r in e.rows if r.signal.op <= op.index]
        names = [r.signal.name for r in rows] or [layer]
        return found(
            "exploding signal",
            "alarm",
            names,
            f"the signal explodes until it overflows in layer {layer} ({what} of {made.numel():,})",
            f"the largest number before it is {top:.2g}" + _growth(e, rows),
            "`initialize_(model, example)`",
            at=rows[0].signal.op if rows else op.index,
            upto=10**9,
        )
    return found(
        "not finite",
        "alarm",
        [layer],
        f"{name} in {where} makes {what} of {made.numel():,} numbers",
        cause,
        _REMEDIES.get(name, "look at its arguments there"),
        at=op.index,
        upto=10**9,
    )


def _growth(e: Evidence, rows: list[Row]) -> str:
    sizes = [r.signal.rms for r in rows if 0 < r.signal.rms < float("inf")]
    if len(sizes) < 3:
        return ""
    each = (sizes[-1] / sizes[0]) ** (1 / (len(sizes) - 1))
    return f", x{each:.3g} a layer; the first weights have rms {rows[0].signal.weight_rms:.3g}"


def _where(op: Op) -> str:
    if op.module.startswith(LOSS):
        return f"the loss ({op.where})" if op.where else "the loss"
    return op.module + (f" ({op.where})" if op.where else "") if op.module else op.where or "forward"


def _backward(e: Evidence, broken: list[str]) -> Found:
    """The last operation whose gradient is finite while that of what it reads is not."""
    graph = e.graph
    wanted = [v.index for v in graph.values if v.kind == "result" and v.index in e.run.tensors]
    slopes, _ = e.run.gradients(wanted)
    origin: Op | None = None
    for op in reversed(graph.ops):
        after = [slopes[i] for i in op.outputs if i in slopes]
        before = [slopes.get(i) for i in op.inputs]
        names = [graph.values[i].name for i in op.inputs if graph.values[i].kind == "parameter"]
        worse = any(_bad(g) for g in before) or any(n in broken for n in names)
        if after and worse and not any(_bad(g) for g in after):
            origin = op
            break
    owners = list(dict.fromkeys(n.rpartition(".")[0] or n for n in broken))
    if origin is None:
        return found(
            "not finite",
            "alarm",
            owners,
            f"{len(broken)} gradients are not finite",
            "they begin at the end itself",
            "look at the loss",
        )
    given = [e.run.tensors[i].detach() for i in origin.inputs if i in e.run.tensors]
    smallest = min((float(t.abs().min()) for t in given if t.is_floating_point() and t.numel()), default=0.0)
    name = origin.name.removesuffix("_")
    inside = e.own(origin.index)
    own = origin.module or name_of(e.run.model) if inside else "the loss"
    return found(
        "not finite",
        "alarm",
        [own, *([origin.where] if origin.where else []), *owners],
        f"the gradient of {name} in {_where(origin)} is not finite, and with it that of {len(broken)} parameters",
        f"forward it is finite; the smallest of its arguments is {smallest:.3g}",
        _REMEDIES.get(name, "look at its arguments there"),
        at=origin.index,
        upto=10**9,
    )


def counts(e: Evidence) -> tuple[int, int]:
    """Numbers of layers' outputs that are not finite, and denormal ones, which make many processors slow."""
    bad = sum(r.signal.bad for r in e.rows)
    tiny = 0
    for r in e.rows:
        out = e.run.tensors[r.producer.output].detach()
        if out.dtype == torch.float32 and 0 < rms(out) < 1e-30:
            tiny += int(((out != 0) & (out.abs() < torch.finfo(out.dtype).tiny)).sum())
    return bad, tiny
