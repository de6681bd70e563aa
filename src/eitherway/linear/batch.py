"""A batch of maps is counted, walked through and indexed as a tensor is, by the axes of the batch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

from torch import Size


class Batch(Protocol):
    """One map, or a batch of them."""

    @property
    def batch_shape(self) -> Size: ...
    def __getitem__(self, index: Any) -> Self: ...

    def __bool__(self) -> bool:
        return True  # a map is something, even a single one, which has no length

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("this is one map, not a batch of maps")
        return self.batch_shape[0]

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))


def must_index(index: Any, shape: Size) -> None:
    """Refuses an index that reaches into the maps themselves.

    Raises:
        IndexError: if it has more axes than the batch, or an ellipsis.
    """
    used = index if isinstance(index, tuple) else (index,)
    if len(used) > len(shape) or any(part is Ellipsis for part in used):
        raise IndexError(
            f"an index of {len(used)} axes into a batch of shape {tuple(shape)}: entries are those of its matrix"
        )
