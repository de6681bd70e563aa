"""One run of a function: its modules left as they were, and followed operation by operation where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.accept import as_output, call, name_of
from eitherway.calculus.jacobian.check import warn
from eitherway.calculus.jacobian.still import Still
from eitherway.graph import Graph, capture


def run(f: Callable[..., Any], still: Still, x: Tensor) -> Tensor:
    """f at a copy of x, leaving its modules as they were."""
    with still:
        return call(f, x.clone())


def followed(f: Callable[..., Any], again: Callable[[Tensor], Tensor], x: Tensor, remarks: list[str]) -> Graph | None:
    """f's run at x; None, with a remark, where it cannot be followed.

    Args:
        again: runs f, leaving its modules as they were.
        remarks: gets what a plan should say of the run.

    Raises:
        ModelError: if f is random, does not fit into memory, or returns no tensor. Errors of f itself come through.
    """
    try:
        graph = call(lambda point: capture(f, point, track=True), x)
    except ModelError:
        as_output(again(x), f)  # where f returns no tensor, it says so better
        raise
    except (RuntimeError, NotImplementedError, TypeError) as error:
        if "allocate" in str(error):
            raise ModelError(f"{name_of(f)} does not fit into memory at {tuple(x.shape)}: {error}") from error
        again(x)  # an error of f itself comes through here
        remarks.append(f"the run could not be captured ({error}), so torch's own ways are used")
        return None
    if graph.random:
        places = "; ".join(note.text for note in graph.notes if note.kind == "random")
        raise ModelError(
            f"{name_of(f)} is random, so each call has another Jacobian: {places}; call .eval() on the model, "
            "or draw the noise outside"
        )
    for note in graph.notes:
        if note.kind in ("cut", "escape", "opaque", "replaced"):
            remarks.append(note.text)
        elif note.kind == "input written":
            text = f"{note.text}; its Jacobian is taken at a copy. Begin with x = x.clone()"
            remarks.append(text)
            warn(text)
    return graph


def must_be_plain_reverse(mode: str, form: str, graph: Graph | None) -> None:
    """Refuses every other way for a run that replaces a tensor's `.data`.

    torch.func would put its own wrapped tensor there, and Python crash when that is read after the transform.

    Raises:
        ModelError: naming the place.
    """
    if graph is None or not graph.replaced or (form == "dense" and mode in ("auto", "reverse")):
        return
    closed = f"form={form!r}" if form != "dense" else f"the {mode} way"
    raise ModelError(
        f"{closed} is closed: {graph.replaced} while f runs; use mode='auto', form='dense', or replace it before"
    )
