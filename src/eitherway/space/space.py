"""Several variables together: D columns of search coordinates, and what the cost is called with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from numbers import Real as Number
from statistics import NormalDist
from typing import Any

import numpy as np

from eitherway.base.errors import SpaceError, nearest
from eitherway.space.condition import Condition, describe
from eitherway.space.variables import Array, Choice, Integer, Real, Variable, same

_NORMAL = NormalDist()


class Space:
    """What may vary. A named space calls `cost(lr=..., layers=...)`, a lone variable `cost(value)`.

    Methods see only columns: `columns` (D), `kinds` (D,) of "real", "integer", "choice", `levels` (D,) (0 for reals),
    `lower` and `upper` (D,), `starts` (K, D) to be asked first. Bounded reals and all discrete columns live in [0, 1];
    a discrete column is cut into cells, one a value, in order; unbounded reals are (x - start) / spread.

    Args:
        lone: one variable, whose value is the cost's only argument.
        variables: name -> variable.

    Raises:
        SpaceError: if it is empty, or conditions name an unknown variable or go round in a circle.

    >>> space = Space(lr=Real(0, 0.5), act=Choice(["relu", "gelu"]))
    >>> space.decode(np.array([[0.5, 0.9]]))
    [{'lr': 0.25, 'act': 'gelu'}]
    """

    def __init__(self, lone: Variable | None = None, /, **variables: Variable):
        if (lone is None) == (not variables):
            given = "both a lone variable and named ones" if variables else "no variables"
            raise SpaceError(f"Space got {given}; expected Space(x=Real(-5, 5), ...) or Space(Array((3,), -1, 1))")
        self.lone = lone is not None
        self.variables: dict[str, Variable] = variables if lone is None else {"value": lone}
        for name, variable in self.variables.items():
            if not isinstance(variable, (Real, Integer, Choice, Array)):
                raise SpaceError(
                    f"Space got {name}={variable!r}; expected a Real, Integer, Choice or Array (or use as_space)"
                )
        self._order = self._parents_first()
        widths = [v.width for v in self.variables.values()]
        edges = np.concatenate([[0], np.cumsum(widths)]).tolist()
        self.columns: int = edges[-1]
        self.slices = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
        self.kinds = np.repeat([v.kind for v in self.variables.values()], widths)
        self.levels = np.repeat(np.array([v.levels for v in self.variables.values()], np.int64), widths)
        self.lower = np.concatenate([v.limits[0] for v in self.variables.values()])
        self.upper = np.concatenate([v.limits[1] for v in self.variables.values()])
        self.discrete = np.flatnonzero(self.levels)
        self.starts = np.zeros((0, self.columns))
        self._given: dict[bytes, Any] = {}

    # ---- what methods use -------------------------------------------------------------------------------------------
    @cached_property
    def bounded(self) -> bool:
        """Whether every column has both bounds."""
        return bool(np.isfinite(self.lower).all() and np.isfinite(self.upper).all())

    def clip(self, points: np.ndarray) -> np.ndarray:
        """(P, D) -> (P, D) within the bounds."""
        return np.minimum(np.maximum(points, self.lower), self.upper)

    def sample(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """(n, D): uniform where bounded, standard normal about the start where not (mirrored into one bound)."""
        points = generator.random((n, self.columns))
        if not self.bounded:
            open_ = ~(np.isfinite(self.lower) & np.isfinite(self.upper))
            points[:, open_] = self._mirrored(generator.standard_normal((n, int(open_.sum()))), open_)
        return points

    def spread_out(self, unit: np.ndarray) -> np.ndarray:
        """(P, D) numbers in (0, 1), quasi-random ones say -> (P, D) points distributed as `sample` draws them."""
        points = unit.copy()
        if not self.bounded:
            open_ = ~(np.isfinite(self.lower) & np.isfinite(self.upper))
            inverse = np.vectorize(lambda p: _NORMAL.inv_cdf(min(max(p, 1e-12), 1 - 1e-12)), otypes=[float])
            points[:, open_] = self._mirrored(inverse(points[:, open_]), open_)
        return points

    def _mirrored(self, points: np.ndarray, columns: np.ndarray) -> np.ndarray:
        lower, upper = self.lower[columns], self.upper[columns]
        points = np.where(points < lower, 2 * lower - points, points)
        return np.where(points > upper, 2 * upper - points, points)

    def cells(self, points: np.ndarray) -> np.ndarray:
        """(P, D) -> (P, D) the cell of each discrete coordinate, from 0; 0 for reals."""
        cells = np.zeros(points.shape, np.int64)
        for column, variable in self._discrete:
            cells[:, column] = variable.cells(points[:, column])
        return cells

    def brackets(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(P, D) -> lower and upper edge of each coordinate's cell, each (P, D); for reals itself twice."""
        low, high = points.copy(), points.copy()
        for column, variable in self._discrete:
            cells = variable.cells(points[:, column])
            low[:, column], high[:, column] = variable.edge(cells), variable.edge(cells + 1)
        return low, high

    def snap(self, points: np.ndarray) -> np.ndarray:
        """(P, D) -> (P, D) with every discrete coordinate moved to the middle of its cell."""
        points = points.copy()
        for column, variable in self._discrete:
            points[:, column] = variable.middle(variable.cells(points[:, column]))
        return points

    @cached_property
    def _discrete(self) -> list[tuple[int, Any]]:
        return [(s.start, v) for v, s in zip(self.variables.values(), self.slices, strict=True) if v.levels]

    def slope(self, point: np.ndarray) -> np.ndarray:
        """(D,) -> (D,) d(user's unit) / d(coordinate): a gradient in user's units times this is one in coordinates."""
        parts = [v.slope(point[s]) for v, s in zip(self.variables.values(), self.slices, strict=True)]
        return np.concatenate(parts)

    def active(self, points: np.ndarray) -> np.ndarray:
        """(P, D) -> (P, D) whether each column takes part, given the conditions."""
        active = np.ones(points.shape, bool)
        if not self._conditional:
            return active
        for row, taken in zip(active, self._taken(self._columns(points), len(points)), strict=True):
            for (name, _), s in zip(self.variables.items(), self.slices, strict=True):
                row[s] = name in taken
        return active

    # ---- what the cost is called with -------------------------------------------------------------------------------
    def decode(self, points: np.ndarray) -> list[Any]:
        """(P, D) -> P times what the cost is called with: a value for a lone variable, else a dict by name.

        Inactive variables are left out. Rows of `starts` give the user's own numbers back, to the last bit.
        """
        if self.lone:
            rows: list[Any] = self.variables["value"].decode(points)
        else:
            columns = self._columns(points)
            names = list(self.variables)
            rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            if self._conditional:
                for row, taken in zip(rows, self._taken(columns, len(points)), strict=True):
                    for name in names:
                        if name not in taken:
                            del row[name]
        if self._given:
            for i, point in enumerate(points):
                given = self._given.get(point.tobytes())
                if given is not None:
                    rows[i] = copied(given)
        return rows

    def decode_together(self, points: np.ndarray) -> Any:
        """(P, D) -> what a batched cost is called with: (P, ...) for a lone variable, else (P, ...) by name.

        Inactive variables are there, too: one array has no room for a gap.
        """
        together = {n: v.column(points[:, s]) for (n, v), s in zip(self.variables.items(), self.slices, strict=True)}
        for i, point in enumerate(points if self._given else ()):
            given = self._given.get(point.tobytes())
            if given is not None:
                for name, value in ({"value": given} if self.lone else given).items():
                    together[name][i] = value
        return together["value"] if self.lone else together

    def encode(self, value: Any) -> np.ndarray:
        """What the cost is called with -> (D,). Inactive variables may be left out.

        Raises:
            SpaceError: naming the variable that is missing, unknown, of the wrong kind or outside its bounds.
        """
        if self.lone:
            return np.atleast_1d(self.variables["value"].encode(value))
        if not isinstance(value, Mapping):
            raise SpaceError(f"a start of {value!r} was given; expected a dict with {', '.join(self.variables)}")
        for name in value:
            if name not in self.variables:
                raise SpaceError(
                    f"the start names {name!r}, which is not a variable. {nearest(str(name), self.variables)}"
                )
        point = np.full(self.columns, 0.5)
        point[~np.isfinite(self.lower) | ~np.isfinite(self.upper)] = 0.0
        taken: dict[str, Any] = {}
        for name in self._order:
            variable, s = self.variables[name], self.slices[list(self.variables).index(name)]
            if name in value:
                try:
                    point[s] = variable.encode(value[name])
                except SpaceError as error:
                    raise SpaceError(f"start of {name!r}: {error}") from None
            elif self._takes_part(name, taken):
                raise SpaceError(f"the start has no {name!r}; expected all of {', '.join(self.variables)}")
            if name in value and self._takes_part(name, taken):
                taken[name] = value[name]
        return point

    def with_starts(self, start: Any) -> Space:
        """The same space with points to be asked first, judged at exactly the numbers given.

        Args:
            start: one point as the cost is called (a dict; a lone variable's value), or a list of them.
        """
        made = object.__new__(Space)
        made.__dict__.update(self.__dict__)
        given = self._several(start)
        points = [self.encode(g) for g in given]
        made.starts = self.clip(np.array(points).reshape(-1, self.columns))
        made._given = {}
        for point, g in zip(made.starts, given, strict=True):
            made._given[point.tobytes()] = self._plain(g, self.decode(point[None])[0])
        return made

    def _several(self, start: Any) -> list[Any]:
        if not self.lone:
            return list(start) if isinstance(start, Iterable) and not isinstance(start, (Mapping, str)) else [start]
        variable = self.variables["value"]
        if isinstance(variable, Choice):
            try:
                variable.encode(start)
                return [start]
            except SpaceError:
                return list(start) if isinstance(start, (list, tuple)) else [start]
        try:
            return list(start) if np.ndim(start) > len(variable.shape) else [start]
        except ValueError:  # points of unequal lengths: `encode` says which is wrong
            return list(start)

    def _plain(self, given: Any, decoded: Any) -> Any:
        """The user's numbers in the types that decode gives, inactive variables left out."""
        if not self.lone:
            return {name: self._plain_one(self.variables[name], given[name], value) for name, value in decoded.items()}
        return self._plain_one(self.variables["value"], given, decoded)

    @staticmethod
    def _plain_one(variable: Variable, given: Any, decoded: Any) -> Any:
        if isinstance(variable, Array):
            return np.asarray(given, variable.dtype).copy()
        return float(given) if variable.kind == "real" else decoded

    def _columns(self, points: np.ndarray) -> list[list[Any]]:
        """P plain values of every variable; one sum serves all linear reals together."""
        plain = None
        if self._linear is not None:
            offset, width, low, high = self._linear
            plain = np.minimum(np.maximum(offset + points * width, low), high).T.tolist()
        return [
            plain[s.start] if plain is not None and easy else v.decode(points[:, s])
            for v, s, easy in zip(self.variables.values(), self.slices, self._easy, strict=True)
        ]

    @cached_property
    def _easy(self) -> list[bool]:
        return [isinstance(v, Real) and v.scale == "linear" and v.step is None for v in self.variables.values()]

    @cached_property
    def _linear(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Offset, width, low, high of all columns, for those that are easy; None where there are too few to pay."""
        if sum(self._easy) < 2:
            return None
        table = np.zeros((4, self.columns))
        table[3] = 1.0
        for v, s, easy in zip(self.variables.values(), self.slices, self._easy, strict=True):
            if easy:
                assert isinstance(v, Real)
                offset, width = v._map.affine
                table[:, s.start] = offset[0], width[0], v.low, v.high
        return table[0], table[1], table[2], table[3]

    # ---- conditions -------------------------------------------------------------------------------------------------
    @cached_property
    def _conditional(self) -> bool:
        return any(v.conditions for v in self.variables.values())

    def _parents_first(self) -> list[str]:
        """Names in an order in which every condition's parent comes before its child."""
        order: list[str] = []
        waiting = dict(self.variables)
        for name, variable in waiting.items():
            for condition in variable.conditions:
                if condition.parent not in self.variables:
                    raise SpaceError(
                        f"{name!r} is conditional on {condition.parent!r}, which is not a variable. "
                        + nearest(condition.parent, self.variables)
                    )
                parent = self.variables[condition.parent]
                if not isinstance(parent, Choice) or callable(condition.wanted):
                    continue
                if not any(same(option, condition.wanted) or condition.holds(option) for option in parent.options):
                    raise SpaceError(
                        f"{name!r} takes part only when {condition!r}, which no option of {parent!r} satisfies; "
                        "it would never be used"
                    )
        while waiting:
            ready = [n for n, v in waiting.items() if all(c.parent in order for c in v.conditions)]
            if not ready:
                raise SpaceError(
                    f"the conditions of {', '.join(waiting)} go round in a circle; one of them must stand alone"
                )
            order += ready
            for name in ready:
                del waiting[name]
        return order

    @cached_property
    def _conditions(self) -> dict[str, list[tuple[Condition, bool]]]:
        """Each variable's conditions, and whether what one wants is an option itself: a tuple or a function may be."""

        def is_option(condition: Condition) -> bool:
            parent = self.variables[condition.parent]
            return isinstance(parent, Choice) and any(same(option, condition.wanted) for option in parent.options)

        return {name: [(c, is_option(c)) for c in v.conditions] for name, v in self.variables.items()}

    def _takes_part(self, name: str, taken: Mapping[str, Any]) -> bool:
        """Whether a variable's conditions hold, given the values of those before it that take part."""
        for c, is_option in self._conditions[name]:
            if c.parent not in taken:
                return False
            if not (same(c.wanted, taken[c.parent]) if is_option else c.holds(taken[c.parent])):
                return False
        return True

    def _taken(self, columns: Sequence[Sequence[Any]], P: int) -> list[dict[str, Any]]:
        """P dicts: the names that take part, and their values."""
        place = {name: i for i, name in enumerate(self.variables)}
        order = [(name, columns[place[name]], bool(self._conditions[name])) for name in self._order]
        rows: list[dict[str, Any]] = []
        for p in range(P):
            taken: dict[str, Any] = {}
            for name, column, conditional in order:
                if not conditional or self._takes_part(name, taken):
                    taken[name] = column[p]
            rows.append(taken)
        return rows

    # ---- how it reads -----------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        inside = (
            repr(self.variables["value"]) if self.lone else ", ".join(f"{n}={v!r}" for n, v in self.variables.items())
        )
        return f"Space({inside})"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(n)}</td><td>{escape(describe(v))}</td></tr>" for n, v in self.variables.items()
        )
        return f"<table><tr><th>variable</th><th>may be</th></tr>{rows}</table>"


def copied(values: Any) -> Any:
    """What a cost is called with, with arrays of its own: a cost may write in them."""
    if isinstance(values, dict):
        return {name: copied(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}
    return values.copy() if isinstance(values, np.ndarray) else values


def as_space(thing: Any) -> Space:
    """Whatever may stand for a space, as one: a Space, a variable, a dict of either, a list of bounds, SciPy's Bounds.

    A dict's values may be variables, (low, high) pairs of numbers, or lists of options. A list of (low, high) is a
    lone Array with those bounds: the cost is given one NumPy array.

    >>> as_space({"lr": (0.0, 1.0), "act": ["relu", "gelu"]})
    Space(lr=Real(0.0, 1.0), act=Choice(['relu', 'gelu']))
    >>> as_space([(-5, 5)] * 3)
    Space(Array((3,), [-5.0, -5.0, -5.0], [5.0, 5.0, 5.0]))
    """
    if isinstance(thing, Space):
        return thing
    if isinstance(thing, (Real, Integer, Choice, Array)):
        return Space(thing)
    if isinstance(thing, Mapping):
        for name in thing:
            if not (isinstance(name, str) and name.isidentifier()):
                raise SpaceError(
                    f"the space names a variable {name!r}; expected a name that can be a keyword, such as 'lr'"
                )
        return Space(**{name: _as_variable(name, value) for name, value in thing.items()})
    if hasattr(thing, "lb") and hasattr(thing, "ub"):
        low, high = np.broadcast_arrays(
            np.atleast_1d(np.asarray(thing.lb, float)), np.atleast_1d(np.asarray(thing.ub, float))
        )
        return Space(Array(low.shape, low, high))
    if isinstance(thing, (list, tuple, np.ndarray)) and len(thing):
        try:
            bounds = np.array([(-np.inf if a is None else a, np.inf if b is None else b) for a, b in thing], float)
        except (TypeError, ValueError):
            raise SpaceError(
                f"a space of {thing!r} was given; expected (low, high) pairs such as [(-5, 5)] * 10"
            ) from None
        return Space(Array((len(bounds),), bounds[:, 0], bounds[:, 1]))
    raise SpaceError(
        f"a space of {describe(thing)} was given; expected an ew.Space, a variable, a dict of variables, "
        "a list of (low, high) bounds, or SciPy Bounds"
    )


def _as_variable(name: str, value: Any) -> Variable:
    if isinstance(value, (Real, Integer, Choice, Array)):
        return value
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, Number) for v in value):
        return Real(float(value[0]), float(value[1]))
    if isinstance(value, list):
        return Choice(value)
    raise SpaceError(
        f"{name!r} is {describe(value)}; expected a variable, a (low, high) pair of numbers, or a list of options"
    )
