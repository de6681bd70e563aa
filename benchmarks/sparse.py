"""Sparse Jacobians: seven functions beside torch's dense ones, the price of preparing, and a corpus of patterns.

python -m benchmarks.sparse --publish
"""

from __future__ import annotations

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tests.corpora import generator, normal, seeded
from tests.corpora.functions import CASES, Case, dense, non_zeros
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks import torch_ways
from benchmarks.timing import digits, first_calls, interleaved
from benchmarks.torch_ways import Function

TRACES = 3.0
"""Preparing may take at most this many traces by `make_fx`."""
TIGHT = 0.85
PLAIN = ("jacrev", "jacfwd")
FINAL = 3.0
"""Ways slower than this times the fastest in a first turn have no more turns."""


@dataclass(frozen=True)
class Sparse:
    """A function whose Jacobian is sparse. `build` gives the function anew, so that nothing about it is remembered."""

    build: Callable[[], Function]
    size: tuple[int, ...]
    target: float | None = None  # times faster than the better of jacrev and jacfwd


def elementwise(x: Tensor) -> Tensor:
    return torch.sin(x) * torch.exp(-(x**2))


def tridiagonal(x: Tensor) -> Tensor:
    """Broyden's function: (3 - 2 x_i) x_i - x_(i-1) - 2 x_(i+1) + 1 (Broyden 1965, page 587)."""
    before = torch.cat([x.new_zeros(1), x[:-1]])
    after = torch.cat([x[1:], x.new_zeros(1)])
    return (3 - 2 * x) * x - before - 2 * after + 1


def stencil(x: Tensor) -> Tensor:
    """A step of reaction and diffusion on a grid, with zero around it: five points."""
    wide = torch.nn.functional.pad(x, (1, 1, 1, 1))
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return x + 0.1 * (around - 4 * x) + 0.05 * x * (1 - x**2)


def convolutions() -> Function:
    """3x3, tanh, 3x3 over one channel of four inside: each pixel sees 5x5."""
    g = generator("convolutions")
    return seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1)).eval(), g
    )


def batch_of_mlps() -> Function:
    """A batch given whole: the Jacobian is block diagonal, though nobody says that the first axis is a batch."""
    g = generator("batch of MLPs")
    return seeded(lambda: nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 16)).eval(), g)


def normalised() -> Function:
    g = generator("normalised")
    return seeded(lambda: nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), nn.GELU()).eval(), g)


def pooled() -> Function:
    return nn.MaxPool2d(2)


def anew(f: Function) -> Callable[[], Function]:
    """A builder of a function that does what f does and is not f."""

    def build() -> Function:
        def again(x: Tensor) -> Tensor:
            return f(x)

        return again

    return build


FUNCTIONS: dict[str, Sparse] = {
    "elementwise, 2048": Sparse(anew(elementwise), (2048,)),
    "tridiagonal, 2048": Sparse(anew(tridiagonal), (2048,), 10.0),
    "five-point stencil, 32 x 32": Sparse(anew(stencil), (32, 32)),
    "conv-tanh-conv, 28 x 28": Sparse(convolutions, (1, 1, 28, 28), 8.0),
    "MLP 32-64-16 on a batch of 64": Sparse(batch_of_mlps, (64, 32)),
    "Linear-LayerNorm-GELU 32 on a batch of 32": Sparse(normalised, (32, 32)),
    "max-pool 2 x 2 of 32 x 32": Sparse(pooled, (1, 1, 32, 32)),
}


def bound(pattern: Tensor) -> int:
    """The fewest colours a (p, q) pattern needs in the better direction: the entries of its densest column or row."""
    rows, columns = pattern.coalesce().indices()
    return min(int(torch.bincount(rows).max()), int(torch.bincount(columns).max()))


def frozen(f: Function) -> Function:
    return f.requires_grad_(False) if isinstance(f, nn.Module) else f


def measure(name: str, repeats: int, ours: bool) -> dict[str, Any]:
    """One row: evaluation beside torch's dense ways, preparing beside one trace, colours and errors."""
    entry = FUNCTIONS[name]
    f, x = frozen(entry.build()), normal(generator(name), *entry.size, dtype=torch.float32)

    kept, trial = torch_ways.shortlist(f, x, False, FINAL)
    calls: dict[str, Callable[[], object]] = {**kept}
    for way in PLAIN:
        calls[way] = lambda way=way: torch_ways.SINGLE[way](f, x, None)
    row: dict[str, Any] = {"name": name, "trial": trial, "target": entry.target}
    plan: Any = None
    if ours:
        import eitherway as ew

        plan = ew.prepare_jacobian(entry.build(), x, form="sparse")
        calls["ours"] = lambda: plan(x)
    taken = interleaved(calls, repeats)
    row |= {"cpu": {n: t.cpu for n, t in taken.items()}, "wall": {n: t.wall for n, t in taken.items()}}
    row["best"] = min((n for n in taken if n != "ours"), key=lambda n: taken[n].best)
    row["torch"] = taken[row["best"]].best
    row["plain"] = min(taken[way].best for way in PLAIN)
    row |= preparing(entry, x, repeats, ours)
    if ours:
        row["ours"] = taken["ours"].best
        row["ratio"], row["plain ratio"] = row["torch"] / row["ours"], row["plain"] / row["ours"]
        pattern = plan.pattern.coalesce()
        p, q = pattern.shape
        row |= {"shape": [p, q], "density": pattern.values().numel() / (p * q)}
        row |= {"colours": plan.colours, "bound": bound(pattern), "error": worst(entry, x)}
    return row


def preparing(entry: Sparse, x: Tensor, repeats: int, ours: bool) -> dict[str, Any]:
    """CPU seconds of one trace by `make_fx` and of preparing, both of a function nobody has seen, and their ratio."""

    def trace() -> Callable[[], object]:
        f = entry.build()
        return lambda: make_fx(f)(x)

    def prepare() -> Callable[[], object]:
        import eitherway as ew

        f = entry.build()
        return lambda: ew.prepare_jacobian(f, x, form="sparse")

    taken = first_calls({"trace": trace, **({"prepare": prepare} if ours else {})}, repeats)
    found: dict[str, Any] = {"first": {n: t.cpu for n, t in taken.items()}, "trace": taken["trace"].median}
    if ours:
        found |= {"prepare": taken["prepare"].median, "traces": taken["prepare"].median / taken["trace"].median}
    return found


def worst(entry: Sparse, x: Tensor) -> float:
    """Our largest error in fp64 as a share of the largest entry, against rows of plain reverse mode."""
    import eitherway as ew

    f, exact = entry.build(), x.double()
    f = f.double() if isinstance(f, nn.Module) else f
    J = ew.prepare_jacobian(f, exact, form="sparse")(exact)
    return torch_ways.error(J, torch_ways.reference(f, exact, batched=False))


# --- the corpus ------------------------------------------------------------------------------------------------------


def judged(entry: Case) -> dict[str, Any]:
    """Whether our pattern of a corpus entry misses a non-zero of its dense Jacobian, and how many it has to spare."""
    import eitherway as ew

    f, x = entry.make(generator(entry.name))
    true = non_zeros(dense(f, x))
    found: dict[str, Any] = {"name": entry.name, "can be tight": entry.tight, "true": int(true.sum())}
    try:
        pattern = ew.prepare_jacobian(f, x, form="sparse").pattern.to_dense().bool()
    except ew.EitherwayError as problem:
        return found | {"refused": str(problem)}
    return found | {"found": int(pattern.sum()), "missed": int((true & ~pattern).sum())}


def corpus() -> list[dict[str, Any]]:
    """Every function of the tests' corpus, judged."""
    return [judged(entry) for entry in CASES]


# --- pages -----------------------------------------------------------------------------------------------------------


def corpus_text(entries: list[dict[str, Any]]) -> str:
    """What the corpus says, in sentences; entries that missed, were refused or might have been tight by name."""
    judged = [e for e in entries if "found" in e]
    tight = [e for e in judged if e["found"] == e["true"]]
    loose = [e["name"] for e in judged if e["can be tight"] and e["found"] > e["true"]]
    able = [e for e in entries if e["can be tight"]]
    missed = [e["name"] for e in judged if e["missed"]]
    refused = [e["name"] for e in entries if "refused" in e]
    share = len(tight) / len(entries)
    exact = f"{len(tight)}, {100 * share:.0f} % (at least {100 * TIGHT:.0f} %)"
    best = sum(1 for e in tight if e["can be tight"])
    return (
        f"{len(entries)} functions and modules, each pattern beside the dense Jacobian in fp64. Missed a non-zero: "
        f"{len(missed)}{names(missed)}. Refused with a sentence: {len(refused)}{names(refused)}. Exactly the "
        f"non-zeros: {exact}; of the {len(able)} for which index sets can be exact at all, {best}. Looser than they "
        f"could be: {len(loose)}{names(loose)}."
    )


def names(listed: list[str]) -> str:
    return f" ({'; '.join(listed)})" if listed else ""


def table(rows: list[dict[str, Any]]) -> str:
    """One line a function; what missed its target stands in bold."""
    lines = []
    for row in rows:
        ours = "ours" in row
        ratio = f"{row['plain ratio']:.1f}" if ours else "-"
        traces = f"{row['traces']:.1f}" if ours else "-"
        lines.append(
            [
                row["name"],
                f"{row['shape'][0]} x {row['shape'][1]}, {100 * row['density']:.2g} %" if ours else "-",
                f"{row['colours']} ({row['bound']})" if ours else "-",
                digits(row["plain"] * 1e3),
                f"{digits(row['torch'] * 1e3)}, {row['best']}",
                digits(row["ours"] * 1e3) if ours else "-",
                f"**{ratio}**" if ours and row["plain ratio"] < (row["target"] or 0.95) else ratio,
                f"{row['target']:g}" if row["target"] else "",
                f"{row['ratio']:.1f}" if ours else "-",
                digits(row["trace"] * 1e3),
                digits(row["prepare"] * 1e3) if ours else "-",
                f"**{traces}**" if ours and row["traces"] > TRACES else traces,
                f"{row['error']:.0e}" if ours else "-",
            ]
        )
    header = ["function", "Jacobian", "colours (least)", "jacrev, jacfwd: ms", "fastest", "ours", "x jacrev, jacfwd"]
    header += ["target", "x fastest", "trace ms", "prepare", f"traces (at most {TRACES:g})", "error"]
    return harness.table(header, lines)


TEXT = (
    "CPU milliseconds a call, the least of {repeats} interleaved repeats, beside torch's dense ways: the better of "
    "jacrev and jacfwd, and the fastest of all (vjp and jvp under vmap and functional.jacobian in both directions, "
    "too). Ours is a sparse tensor. Colours with the fewest any colouring could do with: the entries of the densest "
    'row or column. A trace is one `make_fx(f)(x)`, preparing is `prepare_jacobian(f, x, form="sparse")`, both of a '
    "function just made, by their medians. What missed its target stands in bold. Errors are in fp64, as a share of "
    "the largest entry."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sparse",
        description="Sparse Jacobians beside torch's dense ones, preparing beside a trace, and the corpus of patterns. "
        "About 2 minutes.",
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", metavar="NAME", help="functions whose name contains this; leaves the corpus out")
    parser.add_argument("--rivals-only", action="store_true", help="leave ours out")
    parser.add_argument("--publish", action="store_true", help="write results/sparse.md and .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stamp = harness.stamp(["torch", "scipy"], "each function from a generator of its own name")
    rows = []
    for name in FUNCTIONS:
        if not options.only or options.only in name:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, when forward mode is first used
                rows.append(measure(name, options.repeats, not options.rivals_only))
            print(name, {k: v for k, v in rows[-1].items() if not isinstance(v, dict)}, file=sys.stderr, flush=True)
    parts = [TEXT.format(repeats=options.repeats), table(rows)]
    entries = [] if options.only or options.rivals_only else corpus()
    if entries:
        parts += ["## Patterns", corpus_text(entries)]
    if options.publish:
        raw = {"functions": rows, "corpus": entries}
        harness.publish("sparse", "Sparse Jacobians", parts, stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
