"""How far a signal and its gradient get in plain chains of 100 and of 1000 layers: 21 activations, us and the rivals.

python -m benchmarks.depth --depth 100 --depth 1000 --publish
"""

from __future__ import annotations

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from benchmarks import chains, initialized, starting
from benchmarks.activations import ACTIVATIONS, chain
from benchmarks.depth_pages import OURS, RIVALS, STARTS, Cell, Cells, Wanted, pages
from benchmarks.kept import Kept

SEEDS = 10


def versions() -> Callable[[Cell], str]:
    """A cell counts for the code it was measured with: the benchmark's, and for ours what a chain is started with."""
    measured = harness.fingerprint("benchmarks/chains.py", "benchmarks/activations.py")

    def version(cell: Cell) -> str:
        if cell.start not in OURS:
            return measured
        return f"{measured} {initialized.same_weights(cell.activation, cell.depth, OURS[cell.start])}"

    return version


# --- running ----------------------------------------------------------------------------------------------------------


@cache
def linears(depth: int) -> list[nn.Linear]:
    """The layers that all of our models of this depth are made of, one model after another."""
    width, skip = chains.WIDTH, nn.utils.skip_init
    return [skip(nn.Linear, width, width) for _ in range(depth)]  # pyright: ignore[reportReturnType]


def run_rival(cell: Cell, draws: chains.Draws, given: chains.Batches) -> dict[str, Any]:
    """One of the rivals; `why` it could not be run, where it could not."""
    activation = ACTIVATIONS[cell.activation]
    if cell.start != "dks":
        layers, phi = chains.RIVALS[cell.start](draws, activation, given.data), activation.make()
        return chains.measure(layers, phi, given)
    if activation.dks is None:
        return {"why": "unknown to it"}
    try:
        phi = chains.replaced(activation.dks, cell.depth)
    except ValueError as error:
        return {"why": str(error)}
    return chains.measure(chains.suo(draws, activation, given.data), phi, given)


def run_ours(cell: Cell, given: chains.Batches) -> dict[str, Any]:
    """Ours: the model is started as a module, and nothing of it but numbers may have changed."""
    import eitherway as ew

    model = chain(linears(cell.depth), ACTIVATIONS[cell.activation])
    starting.default(model, torch.Generator().manual_seed(cell.seed))
    before, clock = chains.description(model), time.process_time()
    try:
        report = initialized.ours(model, given.data, cell.seed, OURS[cell.start])
    except ew.EitherwayError as error:
        return {"why": str(error)}
    seconds, layers, scheme = time.process_time() - clock, chains.of_model(model), initialized.scheme_of(report)
    if OURS[cell.start] not in ("auto", scheme):
        return {"why": f"does not exist: {scheme} instead"}
    measured: dict[str, Any] = dict(chains.measure(layers, ACTIVATIONS[cell.activation].make(), given))
    with torch.no_grad():
        same = torch.equal(model(given.judged), chains.through(layers, model[1], given.judged))
    measured |= {"unchanged": same and chains.description(model) == before}
    measured |= {"scheme": scheme, "initialize_": seconds, "lr_scale": float(report.lr_scale)}
    return measured


def order(wanted: Wanted) -> Iterator[Cell]:
    """All cells in the order in which they are run: depth, rivals before ours, seed, activation, start."""
    for depth in wanted.depths:
        for group in (RIVALS, ["ours"], [start for start in OURS if start != "ours"]):
            for seed in wanted.seeds:
                for activation in wanted.activations:
                    for start in (start for start in group if start in wanted.starts):
                        yield Cell(depth, start, activation, seed)


def same_as_auto(cell: Cell, cells: Cells) -> bool:
    """Is this the scheme that auto chose there, so that there is nothing new to run?"""
    auto = cells.get(Cell(cell.depth, "ours", cell.activation, cell.seed), {})
    return cell.start in OURS and cell.start != "ours" and auto.get("scheme") == OURS[cell.start]


def estimate(cells: Sequence[Cell], kept: Cells) -> float:
    """Seconds these cells should take, by those that are kept; by a rough figure where there are none."""
    taken: dict[tuple[int, bool], list[float]] = {}
    for cell, measured in kept.items():
        if "seconds" in measured:
            taken.setdefault((cell.depth, cell.start in OURS), []).append(measured["seconds"])
    mean = {key: sum(values) / len(values) for key, values in taken.items()}
    guess = {key: (0.035 if key[1] else 0.001) * key[0] for key in {(c.depth, c.start in OURS) for c in cells}}
    drawing = 0.015 * sum(depth for depth, _ in {(c.depth, c.seed) for c in cells if c.start not in OURS})
    return drawing + sum(mean.get(key, guess[key]) for key in ((c.depth, c.start in OURS) for c in cells))


def run(wanted: Wanted, kept: Kept[Cell], minutes: float | None, verbose: bool) -> None:
    """Runs what is missing, for as long as it may."""
    missing = [cell for cell in order(wanted) if cell not in kept.cells]
    print(f"{len(missing)} cells to run: about {estimate(missing, kept.cells) / 60:.1f} min", file=sys.stderr)
    began, place = time.perf_counter(), None
    draws: chains.Draws | None = None
    for i, cell in enumerate(missing):
        if minutes and time.perf_counter() - began > 60 * minutes:
            print(f"{len(missing) - i} cells are left", file=sys.stderr)
            return
        if cell.start in OURS:
            draws = None
            if same_as_auto(cell, kept.cells):
                continue
        elif draws is None or place != (cell.depth, cell.seed):
            draws, place = None, (cell.depth, cell.seed)  # a gigabyte of each kind: one seed at a time
            gc.collect()
            draws = chains.Draws(cell.depth, cell.seed)
        given, clock = chains.batches(cell.seed), time.perf_counter()
        with chains.without_denormals():
            measured = run_ours(cell, given) if draws is None else run_rival(cell, draws, given)
        kept.add(cell, {**measured, "seconds": time.perf_counter() - clock})
        if verbose:
            print(cell, {k: v for k, v in measured.items() if k != "own"}, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.depth",
        description="Plain chains, 21 activations: us and the rivals. Goes on where it was ended; run it in pieces.",
    )
    parser.add_argument("--depth", type=int, action="append", help="linear layers; may be given twice")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="the first so many")
    parser.add_argument("--starts", default="all", help="all, all ours, rivals, or names separated by semicolons")
    parser.add_argument("--activations", default="all", help="all, or names separated by commas")
    parser.add_argument("--minutes", type=float, help="end after about so many")
    parser.add_argument("--tables", action="store_true", help="run nothing: tables of what is kept")
    parser.add_argument("--stale", action="store_true", help="count what was kept of other versions of the code, too")
    parser.add_argument("--verbose", action="store_true", help="print every cell")
    parser.add_argument("--publish", action="store_true", help="write results/depth.md and .json")
    options = parser.parse_args()
    sets, known = {"all": STARTS, "all ours": list(OURS), "rivals": RIVALS}, list(ACTIVATIONS)
    wanted = Wanted(
        depths=options.depth or [100],
        starts=[start for part in options.starts.split(";") for start in sets.get(part, [part])],
        activations=known if options.activations == "all" else options.activations.split(","),
        seeds=range(options.seeds),
    )
    strange = [s for s in wanted.starts if s not in STARTS] + [a for a in wanted.activations if a not in known]
    if strange:
        parser.error(f"there is no {strange[0]!r}; starts: {', '.join(STARTS)}; activations: {', '.join(known)}")
    torch.set_num_threads(1)
    stamp = harness.stamp(["torch", "dks", "scipy"], f"0 to {options.seeds - 1}; the same matrices for all rivals")
    kept = Kept("depth", Cell, versions(), stale=options.stale)
    if not options.tables:
        run(wanted, kept, options.minutes, options.verbose)
    parts, raw = pages(wanted, kept.cells)
    parts[1:1] = kept.confession()
    if options.publish:
        harness.publish("depth", "How far a signal gets", parts, stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
