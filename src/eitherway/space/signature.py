"""A space that stands in the cost's own signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from eitherway.base.errors import SpaceError
from eitherway.space.condition import describe
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice, Integer, Real, Variable


def from_signature(cost: Callable[..., Any]) -> Space:
    """The space that a cost's annotations describe.

    `Annotated[float, Real(0, 1)]` is that variable; `Literal["a", "b"]` and `bool` are choices. Other parameters must
    have defaults, and are left alone; so is `seed`.

    Raises:
        SpaceError: if a parameter without a default has no variable, or there is none at all.

    >>> def cost(lr: Annotated[float, Real(1e-5, 1)], act: Literal["relu", "gelu"] = "relu"): ...
    >>> from_signature(cost)
    Space(lr=Real(1e-05, 1), act=Choice(['relu', 'gelu']))
    """
    example = "def cost(lr: Annotated[float, ew.Real(1e-5, 1)]): ..."
    try:
        parameters = inspect.signature(cost).parameters
        called = cost if inspect.isroutine(cost) else type(cost).__call__
        hints = get_type_hints(called, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise SpaceError(f"the signature of {describe(cost)} cannot be read ({error}); give a space= instead") from None
    variables: dict[str, Variable] = {}
    for name, parameter in parameters.items():
        variable = _from_hint(hints.get(name))
        if variable is not None:
            variables[name] = variable
        elif (
            parameter.default is parameter.empty
            and name != "seed"
            and parameter.kind.name not in ("VAR_POSITIONAL", "VAR_KEYWORD")
        ):
            raise SpaceError(
                f"{describe(cost)} needs {name!r}, and nothing says how it may vary; give a space, or write {example}"
            )
    if not variables:
        raise SpaceError(
            f"{describe(cost)} has no parameter that says how it may vary; give a space, or write {example}"
        )
    return Space(**variables)


def _from_hint(hint: Any) -> Variable | None:
    if get_origin(hint) is Annotated:
        inner, *extras = get_args(hint)
        return next((e for e in extras if isinstance(e, (Real, Integer, Choice, Array))), None) or _from_hint(inner)
    if get_origin(hint) is Literal:
        return Choice(list(get_args(hint)))
    return Choice([False, True]) if hint is bool else None
