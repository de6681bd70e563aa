"""What a kept run was begun with, as plain values: two calls with the same configuration are the same run."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

import numpy as np

from eitherway import __version__
from eitherway.base.keys import Key
from eitherway.methods.settings import settings_to_plain
from eitherway.run.identity import identity
from eitherway.run.problem import Problem
from eitherway.run.search import Search
from eitherway.run.stopping import Limits
from eitherway.run.threads import threads
from eitherway.space.plain import plain, space_to_plain, unplain

Configuration = dict[str, Any]
"""JSON values by name: space, method, seed, sign, cost, constraints, timeout, versions, threads. No addresses."""


def configuration(search: Search, problem: Problem, timeout: float | None) -> Configuration:
    """What must stay the same for a run to be gone on with. Limits, callbacks, progress and workers are free."""
    cost = identity(problem.cost)
    for fact in ("batched", "seeded", "learns"):
        cost[fact] = getattr(problem, fact)
    return {
        "space": space_to_plain(search.space),
        "method": settings_to_plain(search.method),
        "seed": {"seed": int(search.key.seed), "turn": search.key.turn, "path": list(search.key.path)},
        "sign": problem.sign,
        "cost": cost,
        "constraints": [identity(constraint) for constraint in problem.constraints],
        "timeout": timeout.item() if isinstance(timeout, np.generic) else timeout,
        "versions": _versions(),
        "threads": threads(),
    }


def key_of(kept: Configuration) -> Key:
    """The key of a configuration."""
    seed = kept["seed"]
    return Key(seed["seed"], seed["turn"], tuple(seed["path"]))


def limits_to_plain(limits: Limits) -> dict[str, Any]:
    """Limits as JSON values; the target stays in the sign of the search."""
    return {name: plain(value) for name, value in asdict(limits).items()}


def limits_from_plain(kept: dict[str, Any]) -> Limits:
    """The limits that `limits_to_plain` was given."""
    return Limits(**{name: unplain(value) for name, value in kept.items()})


def differences(kept: Configuration, now: Configuration) -> list[str]:
    """Every setting in which two configurations differ, as "name: kept X, now Y".

    torch counts only where both have it: it is no part of a run that never imported it. Threads never do: they change
    last digits at most, journals from before know nothing of them, and a run may go on elsewhere.
    """
    olds, news = dict(_leaves(kept)), dict(_leaves(now))
    found = []
    for name in dict.fromkeys((*olds, *news)):
        old, new = olds.get(name, "nothing"), news.get(name, "nothing")
        if (
            old == new
            or ".where" in name
            or name.startswith("threads.")
            or (name == "versions.torch" and "nothing" in (old, new))
        ):
            continue
        what = name.removesuffix(".code") + " (its code)" if name.endswith(".code") else name
        found.append(f"{what}: kept {old}, now {new}")
    return found


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, short text) of everything inside a configuration, without the words of its notation."""
    if isinstance(value, dict) and len(value) == 1 and (tag := next(iter(value))) in ("@tuple", "@set", "@number"):
        yield from _leaves(value[tag], name)
    elif isinstance(value, dict) and "@array" in value:
        dtype, shape, items = value["@array"]
        yield name, _short(f"{json.dumps(items)} of shape {tuple(shape)} and type {dtype}")
    elif isinstance(value, dict):
        for key, inside in value.items():
            known = key == "variables" or (key == "@method" and "." not in name)
            yield from _leaves(inside, name if known else f"{name}.{key.lstrip('@')}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{name}[{i}]")
    elif value != []:
        yield name, _short(json.dumps(value))


def _short(text: str) -> str:
    """A text that fits a message; long ones are told apart by a hash."""
    return text if len(text) <= 120 else f"{text[:80]}... ({blake2b(text.encode(), digest_size=4).hexdigest()})"


def _versions() -> dict[str, str]:
    versions = {
        "eitherway": __version__,
        # the bits of a run do not depend on the last number
        "python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": np.__version__,
    }
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "__version__"):
        versions["torch"] = str(torch.__version__)
    return versions
