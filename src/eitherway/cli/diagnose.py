"""Say how deep a model really is: which layers have nothing non-linear between them."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from eitherway.cli._whole import Whole


def diagnose(
    model: Annotated[str | None, Parameter(name="TARGET")] = None,
    /,
    *,
    example: Annotated[list[str] | None, Parameter(name="--example", negative="", show_default=False)] = None,
    seed: Whole = 0,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Say how deep a model really is: which layers have nothing non-linear between them.

    Examples:
      eitherway diagnose model.py:net --example 32x784
      eitherway diagnose model.py:Transformer --example int64:8x128:50257
      eitherway diagnose package.models:make --example train.py:batch --json

    Layers between two non-linearities are one linear map, however many are
    written: this prints the depth as written, the effective depth, the runs
    that are one map, and what fusing them would save.

    Parameters
    ----------
    model
        file.py:name or package.module:name of a module, its class, or a function that makes one.
    example
        An input, once for each: a shape of noise (32x784), whole numbers (int64:8x128:50257), or file.py:batch.
    seed
        Of the noise.
    json
        Print one line of JSON.
    """
    from json import dumps

    from eitherway.base.errors import ModelError
    from eitherway.cli._model import find_example, find_model
    from eitherway.linear.fuse import fuse_linear

    if model is None:
        raise ModelError("no model was given; expected: eitherway diagnose model.py:net --example 32x784")
    net = find_model(model)
    if not example:
        first = next(((n, p) for n, p in net.named_parameters() if p.ndim == 2), None)
        hint = f" ({first[0]} takes {first[1].shape[1]}: --example 32x{first[1].shape[1]})" if first else ""
        raise ModelError(f"an example input is needed to run {model} once; give --example with its shape{hint}")
    inputs = find_example(example, seed)
    try:
        report = fuse_linear(net, inputs).report
    except ModelError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shapes = ", ".join("x".join(map(str, part.shape)) for part in inputs)
        raise ModelError(f"{model} does not take the example ({shapes}): {error}") from None
    depth = report.depth
    if json:
        runs = [{"layers": run.layers, "advice": run.advice} for run in depth.runs]
        numbers = ("layers_before", "layers_after", "multiplications_before", "multiplications_after")
        fusing = {name: getattr(report, name) for name in numbers}
        print(dumps({"written_depth": depth.written, "effective_depth": depth.effective, "runs": runs, **fusing}))
        return 0
    print(depth)
    print(report.summary)
    return 0
