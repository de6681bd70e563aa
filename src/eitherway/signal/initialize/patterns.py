"""Which parameters are meant: fnmatch patterns on the names of parameters and modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

from torch import nn

from eitherway.base.errors import ModelError, nearest

SCHEMES = ("auto", "kaiming", "lecun", "xavier", "orthogonal", "edge", "shaped", "window", "mirror", "torch")
RESIDUALS = ("sqrt", "zero", "fixup")


def names_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Every parameter by its first name, with all names it goes by: a tied one has several.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> net[1].weight = net[0].weight
    >>> names_of(net)["0.weight"]
    ('0.weight', '1.weight')
    """
    found: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found.setdefault(id(parameter), []).append(name)
    return {names[0]: tuple(names) for names in found.values()}


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern means a parameter: by the parameter's name, or by that of a module it stands in.

    >>> matches("head.*", "head.weight"), matches("head", "head.weight"), matches("*.bias", "head.weight")
    (True, True, False)
    """
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:k]), pattern) for k in range(1, len(parts) + 1))


def chosen(model: nn.Module, only: str | Iterable[str] | None) -> frozenset[str]:
    """First names of the parameters that `only` means; all of them for None.

    Raises:
        ModelError: if `only` holds no patterns, or one that means nothing in this model.
    """
    names = names_of(model)
    if only is None:
        return frozenset(names)
    patterns = [only] if isinstance(only, str) else only
    if not isinstance(patterns, Iterable):
        patterns = [patterns]
    patterns = list(patterns)
    if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise ModelError(
            f"only={only!r:.60} holds no patterns; expected names of parameters or modules such as 'head.*', or a "
            "tuple of them"
        )
    found: set[str] = set()
    for pattern in patterns:
        meant = {first for first, every in names.items() if any(matches(pattern, name) for name in every)}
        if not meant:
            raise ModelError(f"only={pattern!r} means no parameter of this model. {_near(pattern, model)}")
        found |= meant
    return frozenset(found)


def schemes(model: nn.Module, scheme: str | Mapping[str, str]) -> dict[str, str]:
    """The scheme that was asked for, by the first name of each parameter.

    Of a mapping the first pattern that means a parameter counts; what none means gets "auto".

    Raises:
        ModelError: for an unknown scheme, or a pattern that means nothing in this model.
    """
    names = names_of(model)
    if not isinstance(scheme, Mapping):
        _must_be_known(scheme)
        return dict.fromkeys(names, scheme)
    found: dict[str, str] = {}
    for pattern, asked in scheme.items():
        _must_be_known(asked)
        meant = [f for f, every in names.items() if any(matches(str(pattern), name) for name in every)]
        if not meant:
            raise ModelError(f"the scheme for {pattern!r} means no parameter of this model. {_near(pattern, model)}")
        for first in meant:
            found.setdefault(first, asked)
    return {first: found.get(first, "auto") for first in names}


def must_be_residual(residual: Any) -> None:
    """Refuses a rule for residual branches that nobody knows.

    Raises:
        ModelError: with the known ones.
    """
    if residual not in RESIDUALS:
        raise ModelError(f"residual={residual!r:.60} is no rule for residual branches. {nearest(residual, RESIDUALS)}")


def must_be_seed(seed: Any) -> None:
    """Refuses what is no whole number: 1.5 would draw as 1 does.

    Raises:
        ModelError: for fractions, booleans, keys and None.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ModelError(f"seed={seed!r:.60} is no whole number; a start is drawn from an int, such as seed=0")


def must_be_switch(name: str, given: Any) -> None:
    """Refuses what is neither True nor False: "no" would mean yes.

    Raises:
        ModelError: naming the argument.
    """
    if not isinstance(given, bool):
        raise ModelError(f"{name}={given!r:.60} is neither True nor False")


def _must_be_known(scheme: Any) -> None:
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise ModelError(f"scheme={scheme!r:.60} is not known. {nearest(str(scheme), SCHEMES)}")


def _near(pattern: Any, model: nn.Module) -> str:
    """Names that a mistaken pattern may have meant, modules first; a few of them where none is close."""
    modules = [name for name, part in model.named_modules() if name and next(part.parameters(), None) is not None]
    parameters = [name for name, _ in model.named_parameters()]
    bare = str(pattern).strip("*.")
    close = [name for name in [*modules, *parameters] if bare and (bare in name or name.rpartition(".")[2] == bare)]
    known = close[:8] or [*modules, *parameters]
    if len(known) > 8:
        return nearest(bare, known).partition("Known:")[0] + f"Known: {', '.join(known[:8])}, ..."
    return nearest(bare, known)
