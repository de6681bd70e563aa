"""What a layer puts out when it has just been started, kind by kind; and how long starting a whole model takes.

python -m benchmarks.starts --publish
"""

from __future__ import annotations

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmarks import initialized
from benchmarks.models import GPT, ResNet18
from benchmarks.starting import lsuv_
from benchmarks.timing import digits, first_calls

SEEDS = 3
WITHIN = 0.05
"""How far ours may be from rms 1."""
STARTS = ("torch's default", "kaiming fan_in", "kaiming fan_out", "ours")


# --- layers -----------------------------------------------------------------------------------------------------------


def rms(x: Tensor) -> float:
    """The root of the mean square over all entries."""
    return float(x.double().pow(2).mean().sqrt())


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` as most call it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(256, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def output(model: nn.Module, *inputs: Tensor) -> float:
    """Of the layer's output."""
    return rms(model(*inputs))


def projections(model: SelfAttention, x: Tensor, *, part: int) -> float:
    """Of the queries (0), keys (1) or values (2)."""
    attention: Any = model.attention
    return rms(F.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)[part])


def gates(model: nn.LSTM, x: Tensor) -> float:
    """Of what all gates of the last step get from the inputs and from the state that the steps before have made."""
    state = model(x[:, :-1])[0][:, -1]
    weights: Any = model
    return rms(F.linear(x[:, -1], weights.weight_ih_l0) + F.linear(state, weights.weight_hh_l0))


class Case(NamedTuple):
    """One kind of layer, the shapes of its inputs, and what is measured of it."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    measure: Callable[..., float] = output


_IMAGE = ((8, 64, 16, 16),)
CASES: dict[str, Case] = {
    "Linear 256 to 512": Case(partial(nn.Linear, 256, 512), ((64, 256),)),
    "Conv2d 64 to 128, 3x3, padded": Case(partial(nn.Conv2d, 64, 128, 3, padding=1), _IMAGE),
    "Conv2d depthwise, 3x3, padded": Case(partial(nn.Conv2d, 64, 64, 3, padding=1, groups=64), _IMAGE),
    "Conv2d of 8 groups, 3x3, padded": Case(partial(nn.Conv2d, 64, 128, 3, padding=1, groups=8), _IMAGE),
    "ConvTranspose2d 64 to 256, 2x2, stride 2": Case(partial(nn.ConvTranspose2d, 64, 256, 2, stride=2), _IMAGE),
    "ConvTranspose2d 64 to 16, 4x4, stride 2": Case(partial(nn.ConvTranspose2d, 64, 16, 4, stride=2), _IMAGE),
    "Bilinear 64 x 64 to 64": Case(partial(nn.Bilinear, 64, 64, 64), ((256, 64), (256, 64))),
    "MultiheadAttention 256, queries": Case(SelfAttention, ((8, 32, 256),), partial(projections, part=0)),
    "MultiheadAttention 256, keys": Case(SelfAttention, ((8, 32, 256),), partial(projections, part=1)),
    "MultiheadAttention 256, values": Case(SelfAttention, ((8, 32, 256),), partial(projections, part=2)),
    "MultiheadAttention 256, output": Case(SelfAttention, ((8, 32, 256),)),
    "Embedding 1000 x 256": Case(partial(nn.Embedding, 1000, 256), ()),
    "LSTM 128 to 128, gates": Case(partial(nn.LSTM, 128, 128, batch_first=True), ((32, 32, 128),), gates),
}


def inputs_of(case: Case, generator: Generator) -> tuple[Tensor, ...]:
    """Standard normals, or numbers of words where the layer takes those."""
    if not case.shapes:
        return (torch.randint(0, 1000, (8, 64), generator=generator),)
    return tuple(torch.randn(shape, generator=generator) for shape in case.shapes)


def start(model: nn.Module, name: str, example: tuple[Tensor, ...], seed: int) -> None:
    """Starts a layer that torch has just made: in its own way, as people loop over its parameters, or by ours."""
    if name == "ours":
        initialized.ours(model, example[0] if len(example) == 1 else example, seed)
    elif name != "torch's default":
        mode: Any = name.split()[1]
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, mode=mode, nonlinearity="linear")


@torch.no_grad()
def layer(name: str, starts: list[str]) -> dict[str, Any]:
    """One row: the rms of each start on inputs that it has not seen, the geometric mean of the seeds."""
    case = CASES[name]
    row: dict[str, Any] = {"layer": name}
    for begin in starts:
        logs = []
        for seed in range(SEEDS):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)  # torch's own starts know no other generator
                model = case.make()
                with torch.enable_grad():
                    start(model, begin, inputs_of(case, Generator().manual_seed(seed)), seed)
            logs.append(torch.tensor(case.measure(model, *inputs_of(case, Generator().manual_seed(100 + seed)))).log())
        row[begin] = float(torch.stack(logs).mean().exp())
    return row


# --- whole models -----------------------------------------------------------------------------------------------------


def again(model: nn.Module) -> None:
    """torch's start once more: `reset_parameters` of every module that has it."""
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if reset is not None:
            reset()


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[Generator], Tensor]]] = {
    "ResNet-18, 8 images of 32 x 32": (ResNet18, lambda g: torch.randn(8, 3, 32, 32, generator=g)),
    "GPT of 6 blocks of 256, 4 x 64 tokens": (GPT, lambda g: torch.randint(0, 1000, (4, 64), generator=g)),
}


def times(name: str, starts: list[str], repeats: int) -> dict[str, Any]:
    """One row: CPU seconds of starting a model that has just been made, the least of some interleaved turns."""
    make, example = MODELS[name]
    batch = example(Generator().manual_seed(0))

    def fresh(begin: Callable[[nn.Module], Any]) -> Callable[[], Callable[[], object]]:
        return lambda: partial(begin, make())

    makers = {
        "torch's default": fresh(again),
        "LSUV": fresh(lambda model: lsuv_(model, batch, Generator().manual_seed(0))),
        "a forward pass": fresh(torch.no_grad()(lambda model: model(batch))),
    }
    if "ours" in starts:
        makers["ours"] = fresh(lambda model: initialized.ours(model, batch, 0))
    with torch.random.fork_rng(devices=[]):
        taken = first_calls(makers, repeats)
    parameters = sum(p.numel() for p in make().parameters())
    return {"model": name, "parameters": parameters, "cpu": {key: t.cpu for key, t in taken.items()}}


# --- pages ------------------------------------------------------------------------------------------------------------


def layer_table(rows: list[dict[str, Any]], starts: list[str]) -> str:
    """One line a layer; ours in bold where it is not near enough to 1."""
    lines = []
    for row in rows:
        line = [f"{row[name]:.3f}" for name in starts]
        if "ours" in row and abs(row["ours"] - 1.0) > WITHIN:
            line[starts.index("ours")] = f"**{row['ours']:.3f}**"
        lines.append([row["layer"], *line])
    return harness.table(["rms of the output", *starts], lines)


def time_table(rows: list[dict[str, Any]]) -> str:
    """One line a model."""
    lines = []
    for row in rows:
        best = {name: min(cpu) for name, cpu in row["cpu"].items()}
        line = [row["model"], f"{row['parameters'] / 1e6:.1f}", *(digits(best[n] * 1e3) for n in best)]
        if "ours" in best:
            line += [f"{best['ours'] / best[name]:.2f}" for name in ("torch's default", "LSUV")]
        lines.append(line)
    header = ["model", "million parameters", *(f"{name}, ms" for name in rows[0]["cpu"])]
    return harness.table(header + (["ours / torch's", "ours / LSUV"] if "ours" in rows[0]["cpu"] else []), lines)


TEXT = (
    "Inputs are standard normals that no start has seen; the geometric mean of {seeds} seeds. **Kaiming** is "
    "`kaiming_normal_` with `nonlinearity='linear'` over all parameters of more than one axis, in both of its modes; "
    "wanted is 1. **Gates** are what all four gates of an LSTM's last step get from its inputs and its state, without "
    "the biases. Ours further than {within:.0%} from 1 stands in bold."
)
TIME_TEXT = (
    "## Time\n\nCPU milliseconds to start a model that has just been made, the least of {repeats} interleaved turns. "
    "torch's is `reset_parameters` of every module; LSUV looks at a forward pass up to the layer it corrects, twice a "
    "layer; ours captures the model and draws, with its data pass."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.starts",
        description="Rms of layers that were just started, and the time of starting.",
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rivals-only", action="store_true", help="leave ours out")
    parser.add_argument("--publish", action="store_true", help="write results/starts.md and .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stamp = harness.stamp(["torch"], f"0 to {SEEDS - 1}")
    starts = [name for name in STARTS if name != "ours" or not options.rivals_only]
    raw: dict[str, Any] = {"layers": [], "times": []}
    for name in CASES:
        raw["layers"].append(layer(name, starts))
        print(raw["layers"][-1], file=sys.stderr, flush=True)
    for name in MODELS:
        raw["times"].append(times(name, starts, options.repeats))
    parts = [TEXT.format(seeds=SEEDS, within=WITHIN), layer_table(raw["layers"], starts)]
    parts += [TIME_TEXT.format(repeats=options.repeats), time_table(raw["times"])]
    if options.publish:
        harness.publish("starts", "What a layer puts out at first", parts, stamp, raw)
    else:
        print("\n\n".join(parts))


if __name__ == "__main__":
    main()
