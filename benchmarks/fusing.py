"""Fusing runs of linear layers: ten networks, eager, torch.fx's fuse and ours; with --compile, beside inductor.

python -m benchmarks.fusing --publish
"""

from __future__ import annotations

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from tests.corpora import generator, normal, seeded, settle
from tests.corpora.networks import FUSING, Network
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import digits, interleaved

FLOOR = 0.95
"""Of the speed of torch.fx's fuse."""
ERRORS = 1.5
"""Our error may be this times eager's own."""
TARGETS = {
    "deep linear 4x512 + BN + dropout, B64": 3.5,
    "linear expand 64-1024-64, B256": 10.0,
    "conv 8-64-8 valid 3x3-3x3 and 1x1-3x3, B8": 4.0,
    "RepVGG-style, B8": 1.5,
}
BATCHES = 16
"""Batches over which the largest error is taken: that of a single one is luck."""


# --- what is wrong in the fuse of torch.fx ---------------------------------------------------------------------------


class Twice(nn.Module):
    """One layer in two places, a norm after each or after one of them (pytorch#104593, #197539)."""

    def __init__(self, layer: nn.Module, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.layer, self.first, self.second = layer, first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.layer(self.first(self.layer(x))))


class Read(nn.Module):
    """A layer and its norm, and somebody else who reads the layer's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x)) * self.layer.weight.sum()


WRONG: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one convolution, two norms": (
        lambda: Twice(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)),
        (2, 3, 8, 8),
    ),
    "one convolution, one norm": (
        lambda: Twice(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(3)),
        (2, 3, 8, 8),
    ),
    "one Linear, two norms": (lambda: Twice(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(6)), (4, 6)),
    "Linear, then BatchNorm1d on (N, C, L)": (lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), (2, 6, 6)),
    "weights that are read elsewhere": (Read, (2, 3, 8, 8)),
}


def wrong(name: str, ours: bool) -> dict[str, Any]:
    """One row: the largest errors of fuse and of ours, by the largest output, in fp64, where rounding is nothing."""
    build, size = WRONG[name]
    g = generator(name)
    module = settle(seeded(build, g), g).double()
    x = normal(g, *size)
    with torch.no_grad():
        true = module(x)
        row: dict[str, Any] = {"name": name, "fuse": relative(fuse(module)(x), true)}
        if ours:
            row["ours"] = relative(fused(module, x)(x), true)
    return row


# --- ten networks ----------------------------------------------------------------------------------------------------


def fuse(module: nn.Module) -> nn.Module:
    """torch.fx's, which gives a copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about scripting, when torch imports it
        from torch.fx.experimental.optimization import fuse as of_fx

    return of_fx(module)


def fused(module: nn.Module, x: Tensor) -> nn.Module:
    """Ours."""
    import eitherway as ew

    return ew.fuse_linear(module, x).model


def relative(y: Tensor, true: Tensor) -> float:
    """The largest difference as a share of the largest entry."""
    return float((y.to(true.dtype) - true).abs().max() / true.abs().max())


class Layers(TorchDispatchMode):
    """Counts products with weights: what linear layers and convolutions become, whoever calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in (
            *(torch.ops.aten.addmm, torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.linear),
            torch.ops.aten.convolution,
        )
        return func(*args, **(kwargs or {}))


def layers(module: nn.Module, x: Tensor) -> int:
    """Layers with weights that one call runs through."""
    with torch.no_grad(), Layers() as seen:
        module(x)
    return seen.count


def products(module: nn.Module, x: Tensor) -> int:
    """Multiply-adds of one call."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() // 2


def without_gradients(f: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """The call that is timed: of a module in eval mode, under `no_grad`, which is entered within."""

    def call() -> Tensor:
        with torch.no_grad():
            return f(x)

    return call


def models(network: Network, ours: bool) -> tuple[dict[str, nn.Module], Tensor]:
    """eager, fuse and ours of one network, and its batch."""
    module, x = network.make(generator(network.name))
    made = {"eager": module, "fuse": fuse(module)}
    if ours:
        made["ours"] = fused(module, x)
    return made, x


def measure(network: Network, repeats: int, ours: bool) -> dict[str, Any]:
    """One row: times, errors against fp64, layers and multiply-adds."""
    made, x = models(network, ours)
    taken = interleaved({name: without_gradients(f, x) for name, f in made.items()}, repeats)
    row: dict[str, Any] = {"network": network.name}
    row |= {"cpu": {n: t.cpu for n, t in taken.items()}, "wall": {n: t.wall for n, t in taken.items()}}
    row |= {"best": {n: t.best for n, t in taken.items()}, "median": {n: t.median for n, t in taken.items()}}
    row["layers"] = {name: layers(f, x) for name, f in made.items()}
    row["products"] = {name: products(f, x) for name, f in made.items()}
    row |= {"errors": errors(network, made)}
    return row


@torch.no_grad()
def errors(network: Network, made: dict[str, nn.Module]) -> dict[str, float]:
    """Largest error in fp32 of each model over some batches, against the network as it was, in fp64."""
    g, double = generator(network.name, seed=1), copy.deepcopy(made["eager"]).double()
    worst = dict.fromkeys(made, 0.0)
    for _ in range(BATCHES):
        x = normal(g, network.batch, *network.size, dtype=torch.float32)
        true = double(x.double())
        worst = {name: max(worst[name], relative(f(x), true)) for name, f in made.items()}
    return worst


# --- beside the compiler ---------------------------------------------------------------------------------------------


def compiled(network: Network, repeats: int, ours: bool) -> dict[str, Any]:
    """One row: inductor with freezing of the network, and of what ours made of it; each compiled without any cache."""
    import torch._inductor.config as inductor

    made, x = models(network, ours)
    calls: dict[str, Callable[[], object]] = {name: without_gradients(f, x) for name, f in made.items()}
    row: dict[str, Any] = {"network": network.name, "seconds": {}, "error": {}}
    torch._dynamo.reset()  # between networks, or their number would count as recompilations
    with inductor.patch(freezing=True, force_disable_caches=True), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for name in ("eager", "ours") if ours else ("eager",):
            frozen: Any = torch.compile(made[name])
            before = time.perf_counter()
            row["error"][name] = relative(frozen(x), made["eager"](x))
            row["seconds"][name] = time.perf_counter() - before
            calls[f"{name}, frozen"] = without_gradients(frozen, x)
        taken = interleaved(calls, repeats)
    row |= {"cpu": {n: t.cpu for n, t in taken.items()}, "wall": {n: t.wall for n, t in taken.items()}}
    return row | {"best": {n: t.best for n, t in taken.items()}}


def warm_up() -> None:
    """The compiler's own first use, half a minute that no network should pay for."""
    import torch._inductor.config as inductor

    with inductor.patch(freezing=True, force_disable_caches=True), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval())(torch.ones(2, 4))


# --- pages -----------------------------------------------------------------------------------------------------------


def bold(value: float, least: float, digits: int = 2) -> str:
    """A ratio; in bold if it is below what it should be at least."""
    return f"**{value:.{digits}f}**" if value < least else f"{value:.{digits}f}"


def table(rows: list[dict[str, Any]]) -> str:
    """One line a network; what missed its target stands in bold."""
    lines = []
    for row in rows:
        best, ours, wrongs = row["best"], "ours" in row["best"], row["errors"]
        target = TARGETS.get(row["network"])
        names = ("eager", "fuse", "ours") if ours else ("eager", "fuse")
        line = [row["network"], digits(best["eager"] * 1e3), f"{best['eager'] / best['fuse']:.2f}"]
        if ours:
            line += [bold(best["eager"] / best["ours"], target or 0.0), f"{target:g}" if target else ""]
            line += [bold(best["fuse"] / best["ours"], FLOOR)]
            share = wrongs["ours"] / wrongs["eager"]
            line += [f"**{share:.2f}**" if share > ERRORS else f"{share:.2f}"]
        else:
            line += ["-", "-", "-", "-"]
        line += [" / ".join(f"{wrongs[name]:.1e}" for name in names)]
        line += [" / ".join(str(row["layers"][name]) for name in names)]
        line += [" / ".join(f"{row['products'][name] / 1e6:.1f}" for name in names)]
        lines.append(line)
    header = ["network", "eager ms", "fuse: x faster", "ours: x faster", "target", f"x fuse (at least {FLOOR:g})"]
    header += [f"ours' error / eager's (at most {ERRORS:g})", "errors: eager / fuse / ours"]
    return harness.table([*header, "weight layers", "million products"], lines)


def wrong_table(rows: list[dict[str, Any]]) -> str:
    """One line a case."""
    lines = [[row["name"], f"{row['fuse']:.1e}", f"{row['ours']:.1e}" if "ours" in row else "-"] for row in rows]
    return harness.table(["in fp64", "fuse: error", "ours"], lines)


def compiled_table(rows: list[dict[str, Any]]) -> str:
    """One line a network; in bold where fusing first did not help the compiler."""
    lines = []
    for row in rows:
        best, eager = row["best"], row["best"]["eager"]
        line = [row["network"], digits(eager * 1e3), f"{eager / best['fuse']:.2f}"]
        line += [f"{eager / best['ours']:.2f}" if "ours" in best else "-", f"{eager / best['eager, frozen']:.2f}"]
        if "ours" in best:
            line += [bold(eager / best["ours, frozen"], eager / best["eager, frozen"])]
            line += [f"{row['error']['ours']:.0e}"]
        else:
            line += ["-", "-"]
        lines.append([*line, " / ".join(f"{taken:.0f}" for taken in row["seconds"].values())])
    header = ["network", "eager ms", "fuse", "ours", "inductor, frozen", "ours, then frozen", "its difference to eager"]
    return harness.table([*header, "compiling, s: network / ours"], lines)


TEXT = (
    "CPU milliseconds of eager, the least of {repeats} interleaved repeats, and how much faster the others are; "
    "**fuse** is `torch.fx.experimental.optimization.fuse`. Errors are the largest in fp32 over {batches} batches "
    "against the network in fp64, by its largest output. Weight layers and products are counted as one call runs. What "
    "missed its target stands in bold."
)
WRONG_TEXT = "## Where fuse is wrong\n\nLargest error by the largest output, everything in fp64: rounding is 1e-15."
COMPILED_TEXT = (
    "## Beside the compiler\n\nHow many times faster than eager: inductor with freezing alone, and of the network that "
    "ours made, each compiled without a cache after the compiler was warm. In bold where fusing first did not help."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fusing",
        description="Fusing linear layers in ten networks beside torch.fx's fuse: about 1 minute. With --compile "
        "inductor as well, which needs a C++ compiler and takes about 2 minutes more.",
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", metavar="NAME", help="networks whose name contains this; leaves fuse's errors out")
    parser.add_argument("--compile", action="store_true", help="inductor with freezing, too")
    parser.add_argument("--rivals-only", action="store_true", help="leave ours out")
    parser.add_argument("--publish", action="store_true", help="write results/fusing.md and .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stamp = harness.stamp(["torch"], "each network from a generator of its own name")
    ours, networks = not options.rivals_only, [n for n in FUSING if not options.only or options.only in n.name]
    raw: dict[str, Any] = {"networks": [], "wrong": [], "compiled": []}
    for network in networks:
        raw["networks"].append(measure(network, options.repeats, ours))
        print(network.name, raw["networks"][-1]["best"], file=sys.stderr, flush=True)
    parts = [TEXT.format(repeats=options.repeats, batches=BATCHES), table(raw["networks"])]
    if not options.only:
        raw["wrong"] = [wrong(name, ours) for name in WRONG]
        parts += [WRONG_TEXT, wrong_table(raw["wrong"])]
    if options.compile:
        warm_up()
        for network in networks:
            raw["compiled"].append(compiled(network, options.repeats, ours))
            print(
                network.name, raw["compiled"][-1]["best"], raw["compiled"][-1]["seconds"], file=sys.stderr, flush=True
            )
        parts += [COMPILED_TEXT, compiled_table(raw["compiled"])]
    if options.publish:
        harness.publish("fusing", "Fusing linear layers", parts, stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
