"""Attention that sees one place alone, or all alike."""

from __future__ import annotations

from collections.abc import Iterator

from eitherway.signal.diagnose.attention import AttentionSignal
from eitherway.signal.diagnose.evidence import Evidence
from eitherway.signal.diagnose.verdicts.parts import THOUSAND, Found, found, many


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
    cold = [a for a in e.attentions if a.logit_std < 1 / THOUSAND]
    if cold:
        a = cold[0]
        yield found(
            "attention uniform",
            "alarm" if 2 * len(cold) > len(e.attentions) else "note",
            [x.name for x in cold],
            f"{many([x.name for x in cold], 'attention')} {'sees' if len(cold) == 1 else 'see'} all places alike "
            f"(entropy {a.entropy:.4f} of log {a.keys:.3g})",
            f"the scores deviate by {a.logit_std:.2g} over the keys, so queries and keys learn a thousand times slower "
            "than values",
            "start queries and keys with weights of variance 1 / fan in, and divide their products by sqrt(d) once",
            at=a.op,
            upto=cold[-1].op,
        )


def _why(e: Evidence, a: AttentionSignal) -> tuple[str, str]:
    says = (
        f"the scores deviate by {a.logit_std:.3g} over the keys, and from sqrt(2 ln keys) = {a.condensed:.3g} on "
        "softmax falls on a few of them"
    )
    if a.unscaled:
        return f"{says}; they are q k^T undivided", f"divide them by sqrt(d) = {a.size**0.5:.3g}"
    return says, "smaller query and key weights, or a norm on queries and keys"
