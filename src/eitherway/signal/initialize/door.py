"""`initialize_`: a model started in place from one run of it, and a report in which every parameter stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import nan
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from eitherway.signal.initialize.accept import arguments, must_be_model, startable
from eitherway.signal.initialize.certify import CHANCE, CLOSE, Certificate, certify
from eitherway.signal.initialize.chains import Chained, chained, outside, windows
from eitherway.signal.initialize.patterns import (
    chosen,
    must_be_residual,
    must_be_seed,
    must_be_switch,
    names_of,
    schemes,
)
from eitherway.signal.initialize.plan import Plan, make_plan
from eitherway.signal.initialize.report import InitializeReport
from eitherway.signal.initialize.stage import Stage
from eitherway.signal.initialize.start import Starter
from eitherway.signal.initialize.told import entries, layers
from eitherway.signal.initialize.torch_laws import TorchLaw, torch_law
from eitherway.signal.initialize.tracing import trace
from eitherway.signal.initialize.trained import must_look_fresh
from eitherway.signal.structure.read import read_structure

Scheme = Literal["auto", "kaiming", "lecun", "xavier", "orthogonal", "edge", "shaped", "window", "mirror", "torch"]
_ASTRAY = 1.3  # a chain whose outputs are off by more than this on the example is not what it was taken for


def initialize_(
    model: nn.Module,
    example: Any,
    scheme: Scheme | Mapping[str, Scheme] = "auto",
    *,
    residual: Literal["sqrt", "zero", "fixup"] = "sqrt",
    only: str | Iterable[str] | None = None,
    overwrite: bool = False,
    seed: int = 0,
    data: bool = True,
) -> InitializeReport:
    """Starts a model's parameters so that every layer puts out a signal of rms 1, whatever stands between the layers.

    The model runs once on the example and is read as it ran: which function each weight's input went through, what an
    output sums (strides, groups, padding, packed projections), where branches are added, what is tied. Weights get the
    standard deviation that quadrature gives for that function, or what the example shows where theory is silent. Deep
    plain chains get a start of their own. Parameters are written in place; modes, buffers, gradients and global
    generators stay as they were. Same seed, same start, parameter by parameter, whatever else is in the model.

    Args:
        model: an `nn.Module`.
        example: a tensor, a tuple of positional arguments or a dict of keyword arguments: a batch of some samples, like
            those to come. Where norms take statistics of the batch, more samples tell more.
        scheme: "auto", or one for all: "kaiming", "lecun", "xavier", "orthogonal", "edge" (edge of chaos), "shaped",
            "window" and "mirror" (for chains of weights with activations between), "torch" (what torch's constructors
            draw). Or a mapping of patterns of names to schemes; the first that fits counts, the rest is "auto".
        residual: "sqrt" gives each of a stream's L branches 1/L of the variance that the stream enters with, "zero"
            starts branches at 0, "fixup" does so and scales what is inside (Zhang et al. 2019); branches that could
            not open again (a ReLU behind the last weight) have "sqrt". Not for "torch".
        only: patterns of names of parameters or modules, such as "head.*"; everything else is kept.
        overwrite: start a model that looks trained, too.
        seed: of all draws.
        data: measure the new start on the example, and multiply weights by target / measured where that makes neither
            the spread nor the cosine of the samples worse. `False` keeps to theory, where theory speaks.

    Returns:
        The report; `print` it.

    Raises:
        ModelError: for what cannot be started as given; the model is untouched then.

    >>> net = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))
    >>> report = initialize_(net, torch.randn(32, 64, generator=torch.Generator().manual_seed(0)))
    >>> report["2.weight"].follows, 0.95 < report.layers[1].measured < 1.05
    ('the output', True)
    """
    must_be_residual(residual)
    must_be_seed(seed)
    must_be_switch("overwrite", overwrite)
    must_be_switch("data", data)
    must_be_model(model)
    asked = schemes(model, scheme)
    meant = chosen(model, only)
    blocked = startable(model, meant)
    args, kwargs = arguments(example, model)
    traced = trace(model, args, kwargs)
    structure = read_structure(traced.graph, model)
    writable = frozenset(name for name in meant if name not in blocked)
    kept = {name: blocked.get(name, "not meant by only=") for name in names_of(model) if name not in writable}
    with traced.again():
        plan = make_plan(model, structure, asked, residual, writable, kept, fresh=not overwrite)
        if not overwrite:
            must_look_fresh(model, _judged(plan), meant)
        stage = Stage(model, seed)
        laws = _stage_constants(model, plan, stage, writable)
        chains, notes = chained(plan, writable)
        notes += outside(plan, chains)
        samples = _samples(args, kwargs)
        starter = _started(model, plan, stage, chains)
        certificate = _certified(plan, stage, chains, samples, starter) if data else Certificate()
        astray = _astray(plan, chains, certificate)
        if astray:
            names = [chain.places[0].producer.name for chain in astray]
            notes.append(
                f"the {astray[0].scheme} start of the chain from {', '.join(names)} did not do on the example what it "
                "should; the gain instead"
            )
            chains = {i: chain for i, chain in chains.items() if chain not in astray}
            laws = _stage_constants(model, plan, stage, writable)
            starter = _started(model, plan, stage, chains)
            certificate = _certified(plan, stage, chains, samples, starter)
        stage.commit()
    said = [
        *traced.notes,
        *plan.notes,
        *notes,
        *windows(chains),
        *_silent(args, kwargs),
        *_doubts(plan, starter),
        *certificate.notes,
    ]
    said += _stale(model, meant, overwrite)
    return InitializeReport(
        entries=entries(plan, stage, chains, laws, certificate),
        layers=layers(plan, certificate),
        scheme=scheme if isinstance(scheme, str) else ", ".join(f"{k}: {v}" for k, v in scheme.items()) or "auto",
        residual=residual,
        seed=seed,
        notes=tuple(dict.fromkeys(said)),
        lr_scales=_lr_scales(model, plan, chains),
        cosine=certificate.cosine,
        spread=certificate.spread,
    )


def _started(model: nn.Module, plan: Plan, stage: Stage, chains: dict[int, Chained]) -> Starter:
    starter = Starter(model, plan, stage, chains)
    starter.run()
    return starter


def _certified(plan: Plan, stage: Stage, chains: dict[int, Chained], samples: int, starter: Starter) -> Certificate:
    """Measures, and rescales what may be: single uses of whole weights, and of a chain its last."""
    uses = [use.producer.name for use in plan.uses.values()]
    scalable: dict[int, float] = {}
    for index, use in plan.uses.items():
        producer = use.producer
        alone = uses.count(producer.name) == 1 and producer.name not in plan.structure.tied and not producer.part
        alone = alone and not producer.parametrised
        zero_bias = producer.bias is None or plan.constants.get(producer.bias, (nan, ""))[0] == 0
        chain = chains.get(index)
        ends = chain is None or chain.at[index] == len(chain.places) - 1
        if (
            use.rescale
            and alone
            and index not in starter.ruled
            and (zero_bias or chain is not None)
            and ends
            and use.target > 0
        ):
            scalable[index] = CLOSE if chain is None else CHANCE
    return certify(plan, stage, scalable, samples)


def _astray(plan: Plan, chains: dict[int, Chained], certificate: Certificate) -> list[Chained]:
    """Chains that do something else on the example than they were built for."""
    found: dict[int, Chained] = {}
    for index, chain in chains.items():
        measured, planned = certificate.measured.get(index, nan), plan.rms.get(index, nan)
        if measured > 0 and planned > 0 and max(measured / planned, planned / measured) > _ASTRAY:
            found[id(chain)] = chain
    return list(found.values())


def _stage_constants(model: nn.Module, plan: Plan, stage: Stage, writable: frozenset[str]) -> dict[str, TorchLaw]:
    """Everything that does not wait for the walk: what is set, biases that are drawn, and torch's own laws."""
    modules = dict(model.named_modules())
    laws: dict[str, TorchLaw] = {}
    for name in writable:
        if plan.asked[name] != "torch" or name in plan.kept:
            continue
        path, _, leaf = name.rpartition(".")
        law = torch_law(modules[path], leaf, stage.live[name])
        if law is None:
            plan.kept[name] = f"{type(modules[path]).__name__} is not torch's own, so torch has no law for it"
            continue
        stage.made[name] = law.draw(stage.live[name].detach(), stage.generator(name))
        row = getattr(modules[path], "padding_idx", None)
        if isinstance(modules[path], nn.Embedding | nn.EmbeddingBag) and row is not None:
            stage.made[name][row] = 0.0
        laws[name] = law
    for name, (value, _) in plan.constants.items():
        stage.fill(name, value)
    for name, std in plan.bias_stds.items():
        drawn = torch.randn(stage.live[name].shape, generator=stage.generator(name), dtype=torch.float64) * std
        stage.put(name, drawn)
    _forget_gates(plan, stage)
    return laws


def _forget_gates(plan: Plan, stage: Stage) -> None:
    """Forget gates start open, at sigmoid(1): a state lasts several steps from the start (Jozefowicz et al. 2015)."""
    for producer in plan.structure.producers:
        name = producer.bias
        if name is None or name not in plan.constants or "hh" in name.rpartition(".")[2]:
            continue
        if name.replace("ih", "hh") in plan.chosen:  # the gates were set there
            continue
        for block in producer.blocks:
            if block.role == "forget gate" and producer.kind == "recurrent":
                stage.made[name][block.rows] = 1.0
                plan.constants[name] = (
                    nan,
                    "forget gates 1, so that a state lasts from the start (Jozefowicz et al. 2015); others 0",
                )


def _judged(plan: Plan) -> list[tuple[str, Tensor]]:
    """Weights that would be drawn anew, rows first."""
    found: dict[str, Tensor] = {}
    held = {value.name: value.tensor for value in plan.structure.graph.parameters()}
    for producer in plan.structure.producers:
        if producer.name in plan.kept or producer.parametrised:
            continue
        weight = held.get(producer.name)
        if weight is not None and weight.dim() >= 2:
            axis = producer.out_axis if 0 <= producer.out_axis < weight.dim() else 0
            found.setdefault(producer.name, weight.detach().movedim(axis, 0))
    return list(found.items())


def _samples(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Size of the axis of samples: the first of the first tensor."""
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    first = next((t for t in tensors if t.dim() > 1), tensors[0])
    return int(first.shape[0]) if first.dim() > 1 or (first.dim() and not first.is_floating_point()) else 0


def _silent(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """A word on an example that says nothing."""
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.is_floating_point()]
    if not tensors or any(bool(t.any()) for t in tensors):
        return []
    return ["the example holds zeros alone, so what depends on it is a guess; give real samples"]


def _doubts(plan: Plan, starter: Starter) -> list[str]:
    said = []
    lost = [i for i, why in starter.ruled.items() if why == "lost"]
    looped = [i for i in starter.ruled if i in starter.loops.behind]
    for found, text in (
        (
            starter.doubted,
            "read on the example differs from theory by more than a quarter: measured there",
        ),
        (
            lost,
            "read on the example is more than a hundred times as large or small as it should be: the signal was lost "
            "or exploded before; theory there, since a factor would hide it",
        ),
        (
            looped,
            "read behind earlier uses of the same weight was made by that weight: one start for all turns, from theory "
            "at rms 1",
        ),
    ):
        names = list(dict.fromkeys(plan.structure.producers[i].name for i in found))
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            said.append(f"what {', '.join(names[:3])}{more} {text}")
    return said


def _stale(model: nn.Module, meant: frozenset[str], overwrite: bool) -> list[str]:
    """Running statistics are buffers and stay; after an overwrite they belong to weights that are gone."""
    moved = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and module.num_batches_tracked is not None
        and int(module.num_batches_tracked) > 0
        and any(f"{name}.{leaf}".lstrip(".") in meant for leaf in module._parameters)
    ]
    if not overwrite or not moved:
        return []
    return [f"{moved[0]} and its like keep the running statistics of the old weights: reset_running_stats()"]


def _lr_scales(model: nn.Module, plan: Plan, chains: dict[int, Chained]) -> dict[str, float]:
    found = dict.fromkeys(names_of(model), 1.0)
    for producer in plan.structure.producers:
        if producer.index in plan.uses and producer.index not in chains:
            for name in (producer.name, producer.bias, *producer.parameters):
                if name in found:
                    found[name] = min(found[name], plan.narrow.get(producer.name, 1.0))
    for index, chain in chains.items():
        producer = chain.places[chain.at[index]].producer
        for name in (producer.name, producer.bias):
            if name in found and chain.scheme in ("shaped", "window"):
                found[name] = chain.alpha
    return found
