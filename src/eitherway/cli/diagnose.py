"""Say what happens to the signal in a model, forward and backward: what is wrong, where, why, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from eitherway.cli._whole import Whole

if TYPE_CHECKING:
    from eitherway.signal.diagnose import Diagnosis

_SLOW = 10.0
"""Seconds of importing from which on it is said what took so long."""


def diagnose(
    model: Annotated[str | None, Parameter(name="TARGET")] = None,
    /,
    *,
    example: Annotated[list[str] | None, Parameter(name="--example", negative="", show_default=False)] = None,
    loss: Annotated[str | None, Parameter(show_default=False)] = None,
    lr: Annotated[float | None, Parameter(show_default=False)] = None,
    picture: Annotated[Path | None, Parameter(show_default=False)] = None,
    seed: Whole = 0,
    strict: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    trust: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Say what happens to the signal in a model, forward and backward: what is wrong, where, why, and what mends it.

    Examples:
      eitherway diagnose model.py:net --example 32x784
      eitherway diagnose model.py:Transformer --example int64:8x128:50257
      eitherway diagnose model.py:net --example data.py:batch --loss cross_entropy:data.py:labels
      eitherway diagnose package.models:make --example data.py:batch --picture signal.png --strict

    The model runs once on the example and once backward, in the mode it is in.
    A verdict names the layers, the cause and the remedy; the table has a row
    for each use of a weight. Below stand the depth as written and the
    effective depth: layers between two non-linearities are one linear map.

    Parameters
    ----------
    model
        file.py:name or package.module:name of a module, its class, or a function that makes one.
    example
        An input, once for each: a shape of noise (32x784), whole numbers (int64:8x128:50257), or file.py:batch.
    loss
        file.py:name of a function of the output; or a loss of torch's with its target: cross_entropy:file.py:labels,
        cross_entropy:int64:32:10 for drawn labels. Without it the backward starts from a random cotangent.
    lr
        The rate of a step, for how far it would move each weight.
    picture
        Where to keep the picture: signal.png, .svg or .pdf.
    seed
        Of the noise.
    strict
        Exit with 1 if there is an alarm.
    trust
        Import the files even if that starts a training.
    json
        Print one line of JSON.
    """
    from eitherway.base.errors import ModelError
    from eitherway.cli._model import find_model
    from eitherway.cli.main import DONE, MISTAKE
    from eitherway.signal.diagnose import diagnose as look

    if model is None:
        raise ModelError("no model was given; expected: eitherway diagnose model.py:net --example 32x784")
    suffixes = (".png", ".svg", ".pdf")
    if picture is not None and picture.suffix not in suffixes:
        raise ModelError(f"the picture is {str(picture)!r}; expected a name that ends in {', '.join(suffixes)}")
    places = [model, *(example or []), *([loss] if loss else [])]
    with _timed(places, trust):
        net = find_model(model)
    if not example:
        first = next(((n, p) for n, p in net.named_parameters() if p.ndim == 2), None)
        hint = f" ({first[0]} takes {first[1].shape[1]}: --example 32x{first[1].shape[1]})" if first else ""
        raise ModelError(f"an example input is needed to run {model} once; give --example with its shape{hint}")
    with _timed([], trust):
        inputs = _example(example, seed)
        judge = None if loss is None else _loss(loss, seed)
    found = look(net, inputs, judge, lr=lr, seed=seed)
    depth, summary = _depth(net, inputs)
    if picture is not None:
        _keep(found, picture)
    if json:
        _print_json(found, depth, summary)
    else:
        print(found)
        if depth is not None:
            print(f"\n{depth}\n{summary.summary}")
        if picture is not None:
            print(f"picture: {picture}")
    return MISTAKE if strict and not found.healthy else DONE


class _timed:
    """Looks at the files before they run, and says which was slow if any was."""

    def __init__(self, places: list[str], trust: bool):
        from eitherway.cli._trains import must_not_train

        self.places = places
        for place in places:
            parts = place.split(":")
            word = ":".join(parts[-2:]) if len(parts) > 2 else place
            if len(parts) > 1 and not trust and not parts[-2].isdigit():
                must_not_train(word)

    def __enter__(self) -> None:
        from time import monotonic

        self.start = monotonic()

    def __exit__(self, kind: object, *_: object) -> None:
        import sys
        from time import monotonic

        took = monotonic() - self.start
        if kind is None and self.places and took > _SLOW:
            print(
                f"importing {self.places[0].rpartition(':')[0]} took {took:.0f} s; keep what takes long under "
                '`if __name__ == "__main__":`',
                file=sys.stderr,
            )


def _example(words: list[str], seed: int) -> Any:
    """The inputs that words call for; one word may call for a dict of keyword arguments."""
    from eitherway.base.errors import CostError, ModelError
    from eitherway.cli._model import find_example
    from eitherway.cli._target import load

    if len(words) == 1 and ".py:" in words[0]:
        try:
            found = load(words[0])[1]
        except CostError as error:
            raise ModelError(str(error)) from error.__cause__
        if isinstance(found, dict):
            return found
    return find_example(words, seed)


def _loss(word: str, seed: int) -> Any:
    """A function of the output, or a pair (function, target), from words.

    Raises:
        ModelError: for anything else.
    """
    import torch.nn.functional as F
    from torch import nn

    from eitherway.base.errors import CostError, ModelError
    from eitherway.cli._model import find_example
    from eitherway.cli._target import load

    forms = "expected file.py:name of a function of the output, or cross_entropy:file.py:labels"
    name, _, target = word.partition(":")
    torchs: Callable[..., Any] | None = getattr(F, name, None) if name.isidentifier() else None
    if torchs is not None:
        if not target:
            raise ModelError(f"the loss is {word!r}, without a target; {forms}, or {name}:int64:32:10 for drawn labels")
        return torchs, find_example([target], seed)[0]
    if ":" not in word:
        raise ModelError(f"the loss is {word!r}, which is no loss of torch's; {forms}")
    try:
        found = load(word)[1]
    except CostError as error:
        raise ModelError(str(error)) from error.__cause__
    if isinstance(found, type) and issubclass(found, nn.Module):
        found = found()
    if not callable(found) and not (isinstance(found, tuple) and len(found) == 2):
        raise ModelError(f"{word} is {type(found).__name__}; {forms}")
    return found


def _depth(net: Any, inputs: Any) -> tuple[Any, Any]:
    """How deep the model is, and what fusing would save; None where that cannot be told."""
    from eitherway.base.errors import ModelError
    from eitherway.linear.fuse import fuse_linear

    try:
        report = fuse_linear(net, inputs).report
    except (ModelError, RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return None, None  # what diagnose could run, fusing could not: it asks for more
    return report.depth, report


def _keep(found: Diagnosis, picture: Path) -> None:
    from eitherway.base.errors import ModelError

    try:
        found.plot().figure.savefig(picture)  # pyright: ignore[reportAttributeAccessIssue] - the figure is ours
    except OSError as error:
        raise ModelError(f"the picture cannot be written to {picture}: {error.strerror or error}") from None


def _print_json(found: Diagnosis, depth: Any, report: Any) -> None:
    import math
    from dataclasses import asdict
    from json import dumps

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None  # JSON has no word for NaN and inf
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value

    facts: dict[str, Any] = {
        "healthy": found.healthy,
        "verdicts": [asdict(verdict) for verdict in found.verdicts],
        "start": found.start,
        "mode": found.mode,
        "layers": [asdict(layer) for layer in found.layers],
        "attention": [asdict(row) for row in found.attention],
        "jacobian": asdict(found.jacobian),
    }
    if depth is not None:
        numbers = ("layers_before", "layers_after", "multiplications_before", "multiplications_after")
        runs = [{"layers": run.layers, "advice": run.advice} for run in depth.runs]
        facts |= {"written_depth": depth.written, "effective_depth": depth.effective, "runs": runs}
        facts |= {name: getattr(report, name) for name in numbers}
    print(dumps(plain(facts), allow_nan=False))
