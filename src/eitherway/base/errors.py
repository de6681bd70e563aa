"""What can go wrong, in few classes: each message says what was given, what was expected and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EitherwayError(Exception):
    """The root of everything this library raises on purpose."""


class SpaceError(EitherwayError, ValueError):
    """What may vary is described in a way that cannot be searched."""


class CostError(EitherwayError, ValueError):
    """The cost does something that no search can go on from: it raises at the first point, or its gradient is cut."""


class MethodError(EitherwayError, ValueError):
    """A method is unknown, wrongly set, or cannot serve this space."""


class ModelError(EitherwayError, ValueError):
    """A module or a policy cannot be used as it was given."""


class JournalError(EitherwayError, RuntimeError):
    """A kept run cannot be opened, written or gone on with."""


class Failed(Exception):
    """Raised by a cost to say that this point has no value: counted, ranked last, kept with its text.

    >>> def cost(x):
    ...     if x > 1:
    ...         raise Failed("the solver did not converge")
    ...     return x * x
    """


class MissingExtra(EitherwayError, ImportError):
    """Something optional is not installed."""

    def __init__(self, what: str, extra: str):
        super().__init__(f'{what} is not installed; it comes with: pip install -e ".[{extra}]" -c constraints.txt')


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, then all of them.

    >>> nearest("cmaas", ["cmaes", "de"])
    'Did you mean cmaes? Known: cmaes, de.'
    """
    known = list(known)
    if not known:
        return "There is none to choose from."
    close = get_close_matches(str(name).lower(), known, n=1)
    return (f"Did you mean {close[0]}? " if close else "") + f"Known: {', '.join(known)}."
