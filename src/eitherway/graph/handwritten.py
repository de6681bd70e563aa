"""Hand-written `torch.autograd.Function`s, seen as the single operations they are while a run is recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch

Take = Callable[[type[torch.autograd.Function], Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

_now = threading.local()
_lock, _recordings = threading.Lock(), 0


class Handwritten:
    """A hand-written Function as something to call."""

    def __init__(self, function: type[torch.autograd.Function]):
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function.apply(*args, **kwargs)


class _StandIn:
    """Holds the body that `Function.apply` has meanwhile; like the original's it closes over `__class__`."""

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        __class__  # noqa: B018  # pyright: ignore[reportUnusedExpression]
        from eitherway.graph.handwritten import intercepted

        return intercepted(cls, args, kwargs)


def intercepted(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `Function.apply` does meanwhile: hands the call to this thread's recording, if there is one."""
    take: Take | None = getattr(_now, "take", None)
    if take is None:
        return _original(cls, *args, **kwargs)
    return take(cls, _original, args, kwargs)


def recording() -> bool:
    """Whether this thread is recording a run at the moment."""
    return getattr(_now, "take", None) is not None


@contextmanager
def handed_to(take: Take) -> Iterator[None]:
    """Inside, every call of a hand-written Function goes to `take(cls, original, args, kwargs)`.

    The body of `Function.apply` is exchanged, not the method: users write `square = Square.apply` long before. All
    threads share it, so the first recording of any thread exchanges it and the last puts it back.
    """
    before, _now.take = getattr(_now, "take", None), take
    _count(1)
    try:
        yield
    finally:
        _count(-1)
        _now.take = before


def _count(change: int) -> None:
    """One recording more or less."""
    global _recordings
    with _lock:
        _recordings += change
        body = _StandIn.apply.__func__ if _recordings else _original
        torch.autograd.Function.apply.__func__.__code__ = body.__code__


def _copy(function: FunctionType) -> FunctionType:
    return FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


_original = _copy(torch.autograd.Function.apply.__func__)
