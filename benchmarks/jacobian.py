"""Jacobians of eleven networks: `mode="auto"` beside the best of torch's ways, in time and in memory.

python -m benchmarks.jacobian --publish
"""

from __future__ import annotations

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import copy
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from tests.corpora import generator, normal
from tests.corpora.networks import JACOBIANS, Network
from torch import Tensor, nn

from benchmarks import torch_ways
from benchmarks.timing import Peak, digits, first_calls, interleaved, peak
from benchmarks.torch_ways import Function

PARTS = ("prepared", "first", "memory")
BUDGET = "200MB"
BYTES = 200e6
FINAL = 1.7
"""Ways slower than this times the fastest, in a first turn, have no more turns."""
FLOOR = 0.95
TARGETS = {
    "autoencoder 784-256-16-256-784, B8": 12.0,
    "2048-512-8-512-2048, B1": 12.0,
    "conv autoencoder 16x16 -> 8 -> 16x16, B8": 7.0,
    "linear runs 6 x 256 + BN, B16": 3.5,
}
FIRST = 3.0
TALL = "functorch#1058, 10000 x 1001"
EQUAL = 1.1
"""Ways that took at most this times the fastest's time in their one call count as fast; the smallest of them stands."""
SCATTER = 1e6
"""Bytes by which the peak of one and the same call differs from process to process."""
CHUNKS = (None, 256, 64, 16, 4, 1)


# --- what is differentiated ------------------------------------------------------------------------------------------


def case(network: Network, batched: bool, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    """The network and what it is differentiated at.

    Returns:
        The module, and x: the whole batch, or one sample; that without a batch axis if the module takes it so.
    """
    module, x = network.make(generator(network.name))
    module, x = module.to(dtype), x.to(dtype)
    if batched:
        return module, x
    try:
        with torch.no_grad():
            bare = module(x[0]).shape == module(x[:1])[0].shape
    except (RuntimeError, ValueError):
        bare = False
    return module, x[0] if bare else x[:1]


def frozen(module: nn.Module) -> nn.Module:
    """A copy whose parameters want no gradient: the fastest any of torch's ways goes."""
    return copy.deepcopy(module).requires_grad_(False)


def residuals() -> tuple[Function, Tensor]:
    """10000 residuals of a kernel machine by its 50 centres in 20 dimensions and its length: 1001 numbers, in fp64.

    The shape of pytorch/functorch#1058, where a Jacobian of 80 MB asked for 38 GiB.
    """
    g = generator(TALL)
    points, answers, weights = normal(g, 10_000, 20), normal(g, 10_000), normal(g, 50)

    def f(inputs: Tensor) -> Tensor:
        centres, length = inputs[:1000].view(50, 20), inputs[1000]
        squares = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
        return torch.exp(-squares / (2 * length**2)) @ weights - answers

    return f, torch.cat([normal(g, 1000), torch.tensor([4.0], dtype=torch.float64)])


# --- prepared and first ----------------------------------------------------------------------------------------------


def plan_of(f: Function, x: Tensor, batched: bool, **options: Any) -> Callable[[Tensor], Tensor]:
    """Our prepared Jacobian."""
    import eitherway as ew

    return ew.prepare_jacobian(f, x, batched=batched, **options)


def unprepared(f: Function, x: Tensor, batched: bool, **options: Any) -> Tensor:
    """Our Jacobian in one call, preparing included."""
    import eitherway as ew

    return ew.jacobian(f, x, batched=batched, **options)


def prepared(network: Network, batched: bool, repeats: int, ours: bool) -> dict[str, Any]:
    """One row: times of torch's ways and of ours, and the errors in both precisions."""
    module, x = case(network, batched)
    kept, trial = torch_ways.shortlist(frozen(module), x, batched, FINAL)
    calls: dict[str, Callable[[], object]] = {**kept}
    row: dict[str, Any] = {"network": network.name, "batched": batched, "trial": trial, "errors": {}}
    if ours:
        plan = plan_of(module, x, batched)
        calls["ours"] = lambda: plan(x)
    taken = interleaved(calls, repeats)
    row |= {"cpu": {n: t.cpu for n, t in taken.items()}, "wall": {n: t.wall for n, t in taken.items()}}
    row["best"] = min((n for n in taken if n != "ours"), key=lambda n: taken[n].best)
    row["text"] = {n: t.text() for n, t in taken.items()}
    row["torch"] = taken[row["best"]].best
    if ours:
        row["ours"] = taken["ours"].best
        row["ratio"] = taken[row["best"]].best / taken["ours"].best
        row["median ratio"] = min(t.median for n, t in taken.items() if n != "ours") / taken["ours"].median
    for dtype in (torch.float32, torch.float64):
        row["errors"][str(dtype)[6:]] = errors(network, batched, dtype, row["best"], ours)
    return row


def errors(network: Network, batched: bool, dtype: torch.dtype, best: str, ours: bool) -> dict[str, float]:
    """Largest error by the largest entry, of the best way and of ours, against rows of plain reverse mode in fp64."""
    module, x = case(network, batched, dtype)
    double, exact = copy.deepcopy(module).double(), x.double()
    true = torch_ways.reference(double, exact, batched)
    found = {"torch": torch_ways.error(torch_ways.ways(batched)[best](frozen(module), x, None), true)}
    if ours:
        found["ours"] = torch_ways.error(plan_of(module, x, batched)(x), true)
    return found


def first(network: Network, batched: bool, best: str, repeats: int, ours: bool) -> dict[str, Any]:
    """One row: the first call on a module that nobody has seen before, ours unprepared beside the best of torch's."""
    way = torch_ways.ways(batched)[best]

    def fresh(call: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[], Callable[[], Tensor]]:
        def make() -> Callable[[], Tensor]:
            module, x = case(network, batched)
            return lambda: call(module, x)

        return make

    def make_rival() -> Callable[[], Tensor]:
        module, x = case(network, batched)
        f = frozen(module)
        return lambda: way(f, x, None)

    makers = {"torch": make_rival}
    if ours:
        makers["ours"] = fresh(lambda module, x: unprepared(module, x, batched))
    taken = first_calls(makers, repeats)
    row: dict[str, Any] = {"network": network.name, "batched": batched, "best": best}
    row |= {"cpu": {n: t.cpu for n, t in taken.items()}, "torch": taken["torch"].best}
    if ours:
        row |= {"ours": taken["ours"].best, "ratio": taken["ours"].best / taken["torch"].best}
    return row


# --- memory ----------------------------------------------------------------------------------------------------------


def one_call(name: str, batched: bool, way: str, chunk: int | None) -> Callable[[], Tensor]:
    """For `timing.peak`: a way of torch's, or "ours", prepared or not, warmed up on a network of a few weights."""
    module: Function
    if name == TALL:
        module, x = residuals()
    else:
        module, x = case(next(n for n in JACOBIANS if n.name == name), batched)
    small = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3)).to(x.dtype)
    tiny = torch.ones(2, 3, dtype=x.dtype) if batched else torch.ones(3, dtype=x.dtype)
    if way == "ours":
        unprepared(small, tiny, batched, memory=BUDGET)
        unprepared(small, tiny, False, form="sparse")  # its imports, too
        return lambda: unprepared(module, x, batched, memory=BUDGET)
    if way == "ours, prepared":
        plan_of(small, tiny, batched, memory=BUDGET)(tiny)
        plan = plan_of(module, x, batched, memory=BUDGET)
        plan(x)  # what preparing found at x is handed over once
        return lambda: plan(x)
    f = frozen(module) if isinstance(module, nn.Module) else module
    run = torch_ways.ways(batched)[way]
    run(frozen(small), tiny, chunk)
    return lambda: run(f, x, chunk)


def within(name: str, batched: bool, way: str) -> tuple[int | None, Peak]:
    """A way of torch's in the largest chunks with which it keeps to the budget: what a user finds by trying."""
    tried: Peak = Peak(math.nan, math.nan, "not tried")
    chunks = {"functional, reverse": (None, 1), "functional, forward": (None,)}.get(way, CHUNKS)
    for chunk in chunks:
        tried = peak("benchmarks.jacobian:one_call", name, batched, way, chunk, seconds=120)
        if tried.bytes <= BYTES:
            return chunk, tried
    return chunks[-1], tried


def memory(name: str, batched: bool, ours: bool) -> dict[str, Any]:
    """One row: peak and CPU seconds of each way within the budget, and of ours with the budget set."""
    row: dict[str, Any] = {"network": name, "batched": batched, "torch": {}}
    for way in torch_ways.ways(batched):
        if name == TALL and way != "vmap(jvp)":
            continue  # the other forward ways are this one when in chunks; 10000 reverse passes take many minutes
        chunk, measured = within(name, batched, way)
        row["torch"][way] = {"chunk": chunk, "bytes": measured.bytes, "seconds": measured.seconds, "why": measured.why}
    inside = {way: one for way, one in row["torch"].items() if one["bytes"] <= BYTES}
    least = min((one["seconds"] for one in inside.values()), default=math.nan)
    quick = [way for way, one in inside.items() if one["seconds"] <= EQUAL * least]
    row["fastest"] = min(quick, key=lambda way: inside[way]["bytes"], default=None)
    row["smallest"] = min(inside, key=lambda way: inside[way]["bytes"], default=None)
    for way in ("ours", "ours, prepared") if ours else ():
        measured = peak("benchmarks.jacobian:one_call", name, batched, way, None)
        row[way] = {"bytes": measured.bytes, "seconds": measured.seconds, "why": measured.why}
    return row


# --- pages -----------------------------------------------------------------------------------------------------------


def kind(batched: bool) -> str:
    return "batch" if batched else "one"


def prepared_table(rows: list[dict[str, Any]]) -> str:
    """One line a network, batched and single; where we lose the ratio stands in bold."""
    lines = []
    for row in rows:
        target = max(TARGETS.get(row["network"], FLOOR), FLOOR)
        ratio = row.get("ratio", math.nan)
        cell = f"{ratio:.2f}" if ratio >= target or math.isnan(ratio) else f"**{ratio:.2f}**"
        single, double = row["errors"]["float32"], row["errors"]["float64"]
        lines.append(
            [
                row["network"],
                kind(row["batched"]),
                row["best"],
                digits(row["torch"] * 1e3),
                digits(row.get("ours", math.nan) * 1e3),
                cell,
                f"{row.get('median ratio', math.nan):.2f}",
                f"{target:g}",
                f"{single['torch']:.0e} / {single.get('ours', math.nan):.0e}",
                f"{double['torch']:.0e} / {double.get('ours', math.nan):.0e}",
            ]
        )
    header = ["network", "x", "best way", "its ms", "ours", "x faster", "by medians", "target", "fp32 errors", "fp64"]
    return harness.table(header, lines)


def first_table(rows: list[dict[str, Any]]) -> str:
    """One line a network: the first call on a fresh module."""
    lines = []
    for row in rows:
        ratio = row.get("ratio", math.nan)
        cell = f"**{ratio:.2f}**" if ratio > FIRST else f"{ratio:.2f}"
        times = [digits(row["torch"] * 1e3), digits(row.get("ours", math.nan) * 1e3)]
        lines.append([row["network"], kind(row["batched"]), row["best"], *times, cell])
    return harness.table(["network", "x", "best way", "its ms", "ours", f"x its time (at most {FIRST:g})"], lines)


def memory_table(rows: list[dict[str, Any]]) -> str:
    """One line a network: the fastest and the smallest way within the budget, and ours."""

    def cell(one: dict[str, Any] | None, most: float = math.inf) -> str:
        if one is None:
            return "-"
        if math.isnan(one["bytes"]):
            return one["why"]
        chunk = f", chunks of {one['chunk']}" if one.get("chunk") else ""
        size = f"{digits(one['bytes'] / 1e6)} MB"
        return f"{size if one['bytes'] <= most else f'**{size}**'}, {digits(one['seconds'] * 1e3)} ms{chunk}"

    lines = []
    for row in rows:
        found = row["torch"]
        best = [f"{row[rank]}: {cell(found[row[rank]])}" if row[rank] else "none" for rank in ("fastest", "smallest")]
        most = min(found[row["fastest"]]["bytes"] + SCATTER if row["fastest"] else BYTES, BYTES)
        ours = [cell(row.get(way), most) for way in ("ours", "ours, prepared")]
        lines.append([row["network"], kind(row["batched"]), *best, *ours])
    header = ["network", "x", "torch: fastest within 200 MB", "torch: smallest", "ours, first call", "ours, prepared"]
    return harness.table(header, lines)


TEXTS = {
    "prepared": (
        "## Prepared\n\nCPU milliseconds a call, the least of {repeats} interleaved repeats, plan prepared. "
        "**best way** is the fastest of torch's own: jacrev, jacfwd, vjp and jvp under vmap, functional.jacobian in "
        "both directions, and for batches the reverse pass of the sum, all with parameters that want no gradient. "
        "`batch`: every sample's Jacobian; `one`: one sample's. A ratio in bold missed its target. Errors are the "
        "largest difference to rows of plain reverse mode in fp64, as a share of the largest entry: torch's / ours."
    ),
    "first": (
        "## The first call\n\nCPU milliseconds of the first call on a module just made, the least of {repeats}: ours "
        "with its planning and its check of itself, torch's best way with no more than its call. No imports."
    ),
    "memory": (
        "## Memory\n\nResident set above the start at its highest, one call in a fresh process, the result included; "
        'ours with `memory="200MB"`. Torch\'s ways go in the largest of the chunks {chunks} that keep to the budget. '
        "Of ways equally fast in this one call, within a tenth, the smallest is shown. In bold where ours takes more "
        "than that one, or than the budget; one way's own scatter, about 1 MB, is allowed."
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jacobian",
        description="Jacobians of eleven networks beside torch's ways. About 3 minutes for the parts prepared and "
        "first; memory, which starts some 200 processes, takes 12 more.",
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", metavar="NAME", help="networks whose name contains this")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rivals-only", action="store_true", help="leave ours out")
    parser.add_argument("--publish", action="store_true", help="write results/jacobian.md and .json")
    parser.add_argument("--again", action="store_true", help="rows that are not run stay as they were published")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stamp = harness.stamp(["torch", "scipy"], "each network from a generator of its own name")
    ours, raw = not options.rivals_only, {part: [] for part in PARTS}
    networks = [n for n in JACOBIANS if not options.only or options.only in n.name]
    for batched in (True, False):
        for network in networks if {"prepared", "first"} & set(options.parts) else ():
            row = prepared(network, batched, options.repeats, ours)
            raw["prepared"].append(row)
            print(
                network.name, kind(batched), row["best"], row["text"], row.get("ratio", ""), file=sys.stderr, flush=True
            )
            if "first" in options.parts:
                raw["first"].append(first(network, batched, row["best"], options.repeats, ours))
        names = [n.name for n in networks]
        names += [TALL] if not batched and (not options.only or options.only in TALL) else []
        for name in names if "memory" in options.parts else ():
            raw["memory"].append(memory(name, batched, ours))
            print(name, kind(batched), raw["memory"][-1], file=sys.stderr, flush=True)
    if options.again:
        before = json.loads((harness.RESULTS / "jacobian.json").read_text())
        for part in PARTS:
            new = {(row["network"], row["batched"]): row for row in raw[part]}
            raw[part] = [new.get((row["network"], row["batched"]), row) for row in before["raw"][part]]
        where = f"{options.only or 'all'} ({', '.join(options.parts)})"
        stamp = {**before["stamp"], f"run again at {stamp['commit']}": where}
    made = {"prepared": prepared_table, "first": first_table, "memory": memory_table}
    parts = []
    for part in PARTS:
        if raw[part]:
            parts += [TEXTS[part].format(repeats=options.repeats, chunks=CHUNKS), made[part](raw[part])]
    if options.publish:
        harness.publish("jacobian", "Jacobians of eleven networks", parts, stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
