"""Which index set each element of memory holds: one number an element of storage, so that views need no rule."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from eitherway.calculus.sparse.index_sets import IndexSets
from eitherway.graph import Graph, Value


class Memory:
    """A mirror of each room of memory that a dependence has reached, in units of its smallest elements.

    A complex tensor's element is two units where its parts are seen on their own. Rooms nothing was written into are
    not there: all their sets are empty.
    """

    def __init__(self, graph: Graph, sets: IndexSets) -> None:
        self.sets = sets
        self.units: dict[int, int] = {}
        self.mirrors: dict[int, Tensor] = {}
        self.lone: dict[Value, Tensor] = {}
        self.severed: set[Value] = set()
        """Values that share memory with a dependent one but let no gradient pass."""
        self.mixed: set[int | None] = set()
        """Rooms where somebody wrote through a severed value: others there did not see it, so nothing is taken back."""
        self.admit(graph)

    def admit(self, graph: Graph) -> bool:
        """Learns of a graph's rooms. False if it sees a room that is in use in smaller elements than before."""
        units = dict(self.units)
        for value in graph.values:
            if value.room is not None and value.tensor is not None:
                size = value.tensor.element_size()
                units[value.room] = min(units.get(value.room, size), size)
        if any(units[room] != self.units.get(room) for room in self.mirrors):
            return False
        self.units = units
        return True

    def read(self, value: Value) -> Tensor | None:
        """Set numbers of the value's shape, int64; None where all are empty. May share the mirror's memory."""
        if value in self.severed:
            return None
        if value.room is None:
            return self.lone.get(value)
        if value.room not in self.mirrors:
            return None
        units = self._units(value)
        if units.shape[-1] == 1:
            return units[..., 0]
        flat = units.reshape(-1, units.shape[-1])
        whole = flat[:, 0].numpy()
        for part in range(1, flat.shape[1]):
            whole = self.sets.join(whole, flat[:, part].contiguous().numpy())
        return torch.from_numpy(whole).reshape(value.shape)

    def write(self, value: Value, numbers: Tensor | None, *, weakly: bool = False) -> None:
        """Puts set numbers where the value stands; `weakly` keeps what was there, too, and in its room from now on."""
        if value.room is None:
            if numbers is not None:
                self.lone[value] = numbers.expand(value.shape)
            return
        if value.room not in self.mirrors:
            if numbers is None:
                return
            assert value.tensor is not None
            length = value.tensor.untyped_storage().nbytes() // self.units[value.room]
            self.mirrors[value.room] = torch.zeros(length, dtype=torch.int64)
        if weakly:
            self.mixed.add(value.room)
            self.severed -= {other for other in self.severed if other.room == value.room}
        units, mirror = self._units(value), self.mirrors[value.room]
        new = torch.zeros((), dtype=torch.int64) if numbers is None else numbers
        if new.untyped_storage().data_ptr() == mirror.untyped_storage().data_ptr():
            new = new.clone()
        new = new.expand(value.shape)[..., None].expand(units.shape)
        if _overlaps(units):
            new = self._met(value, units, new)
        if value.room in self.mixed:
            joined = self.sets.join(units.reshape(-1).numpy(), new.reshape(-1).numpy())
            new = torch.from_numpy(joined).reshape(units.shape)
        if _overlaps(units):
            mirror[self._places(value, units).reshape(-1)] = new.reshape(-1)
        else:
            units.copy_(new)

    def sever(self, value: Value) -> None:
        """From now on the value lets no gradient pass."""
        if value.room not in self.mixed:
            self.severed.add(value)

    def _places(self, value: Value, units: Tensor) -> Tensor:
        """Where in the mirror each unit of a value stands."""
        assert value.room is not None
        count = len(self.mirrors[value.room])
        return torch.arange(count).as_strided(units.shape, units.stride(), units.storage_offset())

    def _met(self, value: Value, units: Tensor, new: Tensor) -> Tensor:
        """For a value whose elements share places: each with the union of all that are put where it stands."""
        places = self._places(value, units).reshape(-1)
        united = self.sets.unite(places.numpy(), new.reshape(-1).numpy(), int(places.max()) + 1 if len(places) else 0)
        return torch.from_numpy(united)[places].reshape(units.shape)

    def holds(self, values: Iterable[Value]) -> bool:
        """Whether any of the values stands in memory that a dependence has reached."""
        return any(value.room in self.mirrors or value in self.lone for value in values)

    def _units(self, value: Value) -> Tensor:
        """(*shape, units an element), a view of the mirror."""
        assert value.room is not None and value.tensor is not None
        each = value.tensor.element_size() // self.units[value.room]
        strides = [each * step for step in value.stride]
        return self.mirrors[value.room].as_strided((*value.shape, each), (*strides, 1), each * value.offset)


def _overlaps(units: Tensor) -> bool:
    """Whether two elements of a strided view may share a place."""
    reach = 0
    for step, size in sorted((step, size) for step, size in zip(units.stride(), units.shape) if size > 1):
        if step <= reach:
            return True
        reach += step * (size - 1)
    return False
