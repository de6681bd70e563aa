"""What a run remembers, as bytes: registered dataclasses, plain values and arrays; no pickle, no code in files."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypeVar, dataclass_transform

import numpy as np

from eitherway.base.errors import JournalError

T = TypeVar("T")
_STATES: dict[str, type] = {}
_PLAIN = (type(None), bool, str, int, float)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@dataclass_transform()
def state(cls: type[T]) -> type[T]:
    """Marks a class as something a run may remember: a dataclass with slots, found again by its qualified name."""
    made = dataclasses.dataclass(slots=True)(cls)
    _STATES[_name(made)] = made
    return made


def encode(thing: Any) -> bytes:
    """Exact bytes of plain values, lists, tuples, dicts, NumPy arrays (in their memory order) and `@state` objects.

    >>> decode(encode({"x": (1, 2.5, None), 3: [float("inf")]}))
    {'x': (1, 2.5, None), 3: [inf]}
    """
    arrays: list[bytes] = []
    at = 0

    def walk(x: Any) -> Any:
        nonlocal at
        if type(x) in _PLAIN:
            return x
        if isinstance(x, np.generic):
            x = np.asarray(x)
        if isinstance(x, np.ndarray):
            order = "C" if x.flags.c_contiguous else "F" if x.flags.f_contiguous else None
            if order is None or x.dtype.hasobject:
                raise TypeError(f"a state array must be contiguous and numeric, got strides {x.strides}, {x.dtype}")
            data = x.tobytes(order)
            arrays.append(data)
            at += len(data)
            return {"#": [x.dtype.str, list(x.shape), order, at - len(data)]}
        if type(x) is bytes:
            arrays.append(x)
            at += len(x)
            return {"b": [len(x), at - len(x)]}
        if type(x) in (list, tuple):
            return {"[" if type(x) is list else "(": [walk(i) for i in x]}
        if type(x) is dict:
            return {"{": [[walk(k), walk(v)] for k, v in x.items()]}
        if _STATES.get(_name(type(x))) is not type(x):
            raise TypeError(
                f"{_name(type(x))} is not a @state; a run can remember plain values, arrays and @state classes"
            )
        return {"@": [_name(type(x)), {f.name: walk(getattr(x, f.name)) for f in dataclasses.fields(x)}]}

    head = json.dumps(walk(thing), separators=(",", ":")).encode()
    return len(head).to_bytes(4, "little") + head + b"".join(arrays)


def decode(data: bytes) -> Any:
    """What `encode` wrote. Only classes marked `@state` and already imported are made; nothing else is looked up.

    Raises:
        JournalError: if the bytes are cut short, or name a class that is not a `@state` of this program.
    """
    n = int.from_bytes(data[:4], "little")
    body = memoryview(data)[4 + n :]

    def walk(x: Any) -> Any:
        if not isinstance(x, dict):
            return x
        ((tag, v),) = x.items()
        if tag == "#":
            dtype, shape, order, at = v
            count = int(np.prod(shape))
            return np.frombuffer(body, dtype, count, at).reshape(shape, order=order).copy(order="K")
        if tag == "b":
            return bytes(body[v[1] : v[1] + v[0]])
        if tag == "@":
            if v[0] not in _STATES:
                raise JournalError(
                    f"the journal remembers a {v[0]}, which this program does not define; import it first"
                )
            return _STATES[v[0]](**{k: walk(i) for k, i in v[1].items()})
        if tag == "{":
            return {walk(k): walk(i) for k, i in v}
        return [walk(i) for i in v] if tag == "[" else tuple(walk(i) for i in v)

    try:
        return walk(json.loads(data[4 : 4 + n]))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, JournalError):
            raise
        raise JournalError(
            f"a record of {len(data)} bytes cannot be read ({error}); the file was cut or changed"
        ) from None
