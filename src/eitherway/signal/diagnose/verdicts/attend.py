"""Attention that sees one place alone, or all alike."""

from __future__ import annotations

from collections.abc import Iterator

from eitherway.signal.diagnose.attention import AttentionSignal
from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.verdicts.parts import HALF, SHARES, THOUSAND, Found, found, many, softmax_axis


def attention(e: Evidence) -> Iterator[Found]:
    """Scores beyond the point where softmax condenses, or so even that queries and keys do not matter."""
    hot = [a for a in e.attentions if a.logit_std > (1.0 if a.unscaled else 2.0) * a.condensed]
    if hot:
        a = hot[0]
        yield found(
            "attention saturated",
            "alarm",
            [x.name for x in hot],
            f"{many([x.name for x in hot], 'attention')} {'sees' if len(hot) == 1 else 'see'} few places (entropy "
            f"{a.entropy:.2f} of log {a.keys:.3g})",
            *_why(e, a),
            at=a.op,
            upto=hot[-1].op,
        )
    yield from _loud(e)
    cold = [a for a in e.attentions if a.logit_std < 1 / THOUSAND]
    if cold:
        a = next((a for a in cold if _silent(e, a)), cold[0])
        cause = "queries and keys learn a thousand times slower than values"
        if _silent(e, a):
            cause = "queries and keys are all zero, and the gradient of each is a multiple of the other: both stay so"
        yield found(
            "attention uniform",
            "alarm" if 2 * len(cold) > len(e.attentions) or _silent(e, a) else "note",
            [*(x.name for x in cold), *(name for x in cold for name in _behind(e, x))],
            f"{many([x.name for x in cold], 'attention')} {'sees' if len(cold) == 1 else 'see'} all places alike "
            f"(entropy {a.entropy:.4f} of log {a.keys:.3g})",
            f"the scores deviate by {a.logit_std:.2g} over the keys, so {cause}",
            "start queries and keys with weights of variance 1 / fan in, and divide their products by sqrt(d) once",
            at=a.op,
            upto=cold[-1].op,
        )


def _behind(e: Evidence, a: AttentionSignal) -> list[str]:
    """Layers to look at: of an attention that is no module, or whose queries and keys are zero."""
    if _silent(e, a):
        return _scoring(e, a)
    return [] if e.graph.ops[a.op].module else [*_makers(e, a.query), *_makers(e, a.key)]


def _loud(e: Evidence) -> Iterator[Found]:
    """Scores that are no products of queries and keys: additive, a layer's own, a distance."""
    for a in e.weighings:
        if not (a.logit_std > 2.0 * a.condensed and a.entropy < HALF):
            continue
        makers = _makers(e, e.graph.ops[a.op].inputs[0])
        by = f" of {many(makers)}" if makers else ""
        yield found(
            "attention saturated",
            "alarm",
            [a.name, *makers],
            f"{a.name} weighs few places (entropy {a.entropy:.2f} of log {a.keys:.3g})",
            f"the scores{by} deviate by {a.logit_std:.3g} over the places, and from sqrt(2 ln places) = "
            f"{a.condensed:.3g} on softmax falls on a few of them",
            f"divide {many(makers) if makers else 'the scores'} by {a.logit_std:.3g}: scores of deviation 1",
            at=a.op,
            upto=a.op,
        )


def _makers(e: Evidence, value: int) -> list[str]:
    """The layers that make a value, with nothing but element-wise functions and norms after them."""
    found: list[str] = []
    todo, seen = [value], set[int]()
    norms = {n.output: n.source for n in e.structure.norms}
    while todo:
        for i in e.structure.path(todo.pop()).sources:
            source = e.structure.sources.get(i)
            if i in seen or source is None:
                continue
            seen.add(i)
            if source.producer is not None:
                found.append(e.names[source.producer])
            todo += [norms[i]] if i in norms else source.parts
    return list(dict.fromkeys(found))


def wrong_axis(e: Evidence) -> Iterator[Found]:
    """Scores of a batched product that sum to one over an axis of the batch: samples or heads, neither of them keys."""
    wrong: list[tuple[str, int, int, tuple[int, ...]]] = []
    for op in e.graph.ops:
        axis = softmax_axis(op) if op.name.lstrip("_") in SHARES and e.own(op.index) and op.inputs else None
        if axis is None:
            continue
        shape = e.graph.values[op.inputs[0]].shape
        axis %= max(len(shape), 1)
        if axis < len(shape) - 2 and shape[axis] > 1 and _product(e, op.inputs[0]):
            wrong.append((op.module or op.where or op.name, axis, op.index, shape))
    if wrong:
        names = [name for name, *_ in wrong]
        _, axis, at, shape = wrong[0]
        keys, others = shape[-1], shape[axis]
        yield found(
            "attention uniform",
            "alarm",
            names,
            f"the weights of {many(names, 'attention')} sum to one over axis {axis} of {tuple(shape)}",
            f"that axis is no product's, but samples' or heads': each query takes {keys} / {others} = "
            f"{keys / others:.3g} times a mean of values, whatever the scores are",
            "`softmax(dim=-1)`: over the keys",
            at=at,
            upto=wrong[-1][2],
        )


_SCALED = ("mul", "div", "add", "sub", "masked_fill", "where", "to", "float", "dropout", "clone")


def _product(e: Evidence, value: int) -> bool:
    """Whether a value is a product of matrices, scaled or masked, of two things that the input has a part in."""
    for _ in range(10):
        producer = e.graph.values[value].producer
        if producer is None:
            return False
        op = e.graph.ops[producer]
        if op.name in ("matmul", "bmm"):
            return all(e.graph.values[i].depends for i in op.inputs)
        if op.name.removesuffix("_") not in _SCALED:
            return False
        moving = [i for i in op.inputs if e.graph.values[i].depends]
        if len(moving) != 1:
            return False
        value = moving[0]
    return False


def _silent(e: Evidence, a: AttentionSignal) -> bool:
    """Whether neither queries nor keys are anything but zero."""
    return not any(bool(e.run.tensors[i].detach().any()) for i in (a.query, a.key))


def _scoring(e: Evidence, a: AttentionSignal) -> list[str]:
    """The layers that make queries and keys, and nothing else of an attention."""
    values = next(x.value for x in e.structure.attentions if x.op == a.op)
    made = (e.graph.behind([a.query]) | e.graph.behind([a.key])) - e.graph.behind([values])
    return [row.signal.name for row in e.rows if row.producer.op in made]


def _why(e: Evidence, a: AttentionSignal) -> tuple[str, str]:
    says = (
        f"the scores deviate by {a.logit_std:.3g} over the keys, and from sqrt(2 ln keys) = {a.condensed:.3g} on "
        "softmax falls on a few of them"
    )
    if a.unscaled:
        return f"{says}; they are q k^T undivided", f"divide them by sqrt(d) = {a.size**0.5:.3g}"
    return says, "smaller query and key weights, or a norm on queries and keys"
