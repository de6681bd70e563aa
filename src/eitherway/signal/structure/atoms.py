"""The words of the pass along a run: sources, signals between them, and producers, norms and adds as they are found."""

from __future__ import annotations

from dataclasses import dataclass

from eitherway.signal.structure.parts import SourceKind
from eitherway.signal.structure.weighted import Reading


@dataclass(eq=False, slots=True)
class Atom:
    """Something that element-wise functions start from."""

    index: int
    value: int
    kind: SourceKind
    text: str
    op: int
    """-1 for inputs."""
    reach: int
    """Bits of the atoms behind it, its own among them."""
    made: int
    """Bits of the producers behind it."""
    base: int
    """The atom that it is a piece of, or itself."""
    producer: int | None = None
    norm: int | None = None
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Signal:
    """A value that carries signal."""

    atoms: tuple[int, ...]
    reach: int
    made: int
    same: bool = True
    """Only moved since its one source."""
    tag: tuple = ()
    """Which way its elements were moved: two values of one source are combined element by element where it agrees."""
    length: int = 0


@dataclass(eq=False, slots=True)
class Draft:
    """A producer as it is found."""

    op: int
    reading: Reading
    output: int
    atom: int | None
    bias: int | None
    parameters: tuple[int, ...]


@dataclass(eq=False, slots=True)
class NormDraft:
    op: int
    kind: str
    weight: int | None
    bias: int | None
    scale: int | None
    """The constant that multiplies: the weight or what is computed from it."""
    shift: int | None
    source: int
    output: int
    second: float | None
    """Before weight and bias."""


@dataclass(frozen=True, slots=True)
class Sum:
    """An add of two things."""

    op: int
    one: int
    other: int
    output: int
