"""What a map does to the plane or to space: the grid, a square or cube with a letter on it, a circle, before and after.

The letter shows the orientation: after a rotation it can still be read, after a reflection only in a mirror.
"""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from eitherway.base.errors import ModelError
from eitherway.base.style import BAD, COLOURS, FAINT, INK, figure, must_be_axes, style
from eitherway.linear.affine_map import AffineMap
from eitherway.linear.kind import Kind, kind_of
from eitherway.linear.maps import LinearMap, identity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ARROWS = (BAD, COLOURS[2], COLOURS[0])
_BOX, _ROUND, _EIGEN = COLOURS[4], COLOURS[5], COLOURS[3]
_LETTER = np.array(
    [(0.3, 0.18), (0.43, 0.18), (0.43, 0.46), (0.64, 0.46), (0.64, 0.58), (0.43, 0.58), (0.43, 0.72), (0.74, 0.72)]
    + [(0.74, 0.84), (0.3, 0.84)]
)  # an F, which no turn makes its mirror image
_SUBSCRIPTS = "₁₂₃"


def plot_map(map: LinearMap | AffineMap, axes: tuple[Axes, Axes] | None = None) -> tuple[Axes, Axes]:
    """Two pictures, before and after: the unit square or cube with an F on it, basis vectors, circle or sphere, grid.

    Args:
        map: one map between 2 and 3 dimensions.
        axes: where to draw, a pair; in 3-D they need `projection="3d"`. By default a new figure.

    Returns:
        The two axes; `axes[0].figure` is the figure.

    Raises:
        ModelError: for a batch, other dimensions, or axes that do not fit.
    """
    n, m = map.shape[-2:]
    if not {n, m} <= {2, 3}:
        raise ModelError(f"a map from R^{m} to R^{n} cannot be drawn: plot shows 2 and 3 dimensions")
    if map.batch_shape:
        raise ModelError(f"plot draws one map; this is a batch of {tuple(map.batch_shape)}: draw one, maps[0].plot()")
    if axes is not None:
        axes = tuple(np.ravel(axes))  # type: ignore[assignment]
        for given in axes:
            must_be_axes(given, keep=".plot()[0].figure")
    kind = kind_of(map)  # refuses what is not finite
    one = identity(m)
    with style(paper=True):
        if axes is None:
            made = figure(8.6, 5.0 if n == m == 2 else 4.8)
            axes = tuple(
                made.add_subplot(1, 2, k + 1, projection="3d" if size == 3 else None) for k, size in enumerate((m, n))
            )  # type: ignore[assignment]
            size = 0.0 if "singular" in kind else kind.determinant
            det = "" if size is None else f"; determinant {size:.4g}"
            made.suptitle(fill(kind.name[:1].upper() + kind.name[1:] + det, 94), x=0.02, ha="left", size=12.5)
        if axes is None or len(axes) != 2 or any((a.name == "3d") != (d == 3) for a, d in zip(axes, (m, n))):
            raise ModelError(
                f"plot of a map from R^{m} to R^{n} takes a pair of axes, before and after, those in 3-D made with "
                'projection="3d"'
            )
        before, after = axes
        low, high = _limits(one), _limits(map)
        if n == m and high[1] - high[0] < 3.2 * (low[1] - low[0]):  # one scale for both while it can be read
            low = high = (min(low[0], high[0]), max(low[1], high[1]))
        _draw(before, one, low, "e")
        _draw(after, map, high, "A e" if isinstance(map, LinearMap) else "e")
        if n == m == 2:
            _eigenvectors(after, map, high)
        _frame([(axes, moved, limits) for axes, moved, limits in ((before, one, low), (after, map, high))])
        before.set_title("before", loc="left")
        after.set_title(f"after: {_volume(kind, n)}", loc="left")
    return before, after


def _volume(kind: Kind, n: int) -> str:
    """What the determinant says."""
    what = "areas" if n == 2 else "volumes"
    if kind.determinant is None:
        return f"in {n} dimensions"
    if "singular" in kind or kind.determinant == 0:
        return f"{what} vanish"
    size = abs(kind.determinant)
    grown = f"{what} kept" if abs(size - 1) < 5e-4 else f"{what} × {size:.4g}"
    return f"{grown}, orientation {'flipped' if kind.determinant < 0 else 'kept'}"


def _move(map: LinearMap | AffineMap, points: Any) -> np.ndarray:
    """(..., m) -> (..., n) as an array."""
    return map.detach()(np.asarray(points, dtype=float)).detach().cpu().double().numpy()


def _limits(map: LinearMap | AffineMap) -> tuple[float, float]:
    """A square window that holds 0, the images of the square or cube, and those of the circle or sphere."""
    m = map.shape[-1]
    shown = np.concatenate(
        [_move(map, _corners(m)), *(_move(map, ring) for ring in _rings(m)), np.zeros((1, map.shape[-2]))]
    )
    low, high = shown.min(), shown.max()
    room = 0.22 * (high - low) / 2 + 0.25 * (high == low)
    return float(low - room), float(high + room)


def _corners(m: int) -> np.ndarray:
    """(2^m, m) of the unit square or cube."""
    return np.stack(np.meshgrid(*[[0.0, 1.0]] * m), -1).reshape(-1, m)


def _rings(m: int) -> list[np.ndarray]:
    """The unit circle; for a sphere its meridians and parallels."""
    turn = np.linspace(0, 2 * np.pi, 121)
    if m == 2:
        return [np.stack([np.cos(turn), np.sin(turn)], -1)]
    rings = []
    for level in np.radians([-60, -30, 0, 30, 60]):
        flat = np.cos(level)
        rings.append(np.stack([flat * np.cos(turn), flat * np.sin(turn), np.full_like(turn, np.sin(level))], -1))
    for side in np.radians([0, 45, 90, 135]):
        rings.append(np.stack([np.cos(turn) * np.cos(side), np.cos(turn) * np.sin(side), np.sin(turn)], -1))
    return rings


def _draw(axes: Any, map: LinearMap | AffineMap, limits: tuple[float, float], named: str) -> None:
    n, m = map.shape[-2:]
    span = limits[1] - limits[0]
    axes.set(**{f"{name}lim": limits for name in "xyz"[:n]})
    if n == 2:
        axes.set_aspect("equal")
        axes.plot(0, 0, "o", color=INK, markersize=3.5, zorder=6)
        axes.grid(False)
        axes.locator_params(nbins=6, steps=[1, 2, 5, 10])
    else:
        _space(axes, limits)
    _grid(axes, map, limits)
    for ring in _rings(m):
        axes.plot(*_move(map, ring).T, color=_ROUND, linewidth=1.6 if m == 2 else 0.6, alpha=0.9 if m == 2 else 0.5)
    letter = _LETTER if m == 2 else np.column_stack([_LETTER, np.ones(len(_LETTER))])  # on the cube's lid
    for face in _faces(m):
        _fill(axes, _move(map, face), _BOX, 0.28 if m == 2 else 0.13, edge=_BOX)
    _fill(axes, _move(map, letter), INK, 0.85)
    centre, tips = _move(map, np.zeros(m)), _move(map, np.eye(m))
    if np.abs(centre).max() > 1e-9 * span:
        _arrow(axes, np.zeros(n), centre, FAINT)
        _label(axes, centre / 2, _across(centre), "b", FAINT)
    for k in range(m):
        if np.abs(tips[k] - centre).max() > 1e-9 * span:
            _arrow(axes, centre, tips[k], _ARROWS[k])
            away = _unit(tips[k] - centre) + 0.8 * sum(_unit(tips[k] - tips[j]) for j in range(m) if j != k)
            if n == m == 2 and abs(_across(tips[0] - centre) @ _unit(tips[1] - centre)) < 0.2:
                away = _across(tips[k] - centre) * (1 if k == 0 else -1)  # beside arrows that lie on one another
            _label(axes, tips[k], away, named + _SUBSCRIPTS[k], _ARROWS[k])


def _space(axes: Any, limits: tuple[float, float]) -> None:
    """Three thin axes through 0 instead of a box, which would hide what stands in it."""
    low, high = limits
    axes.set_axis_off()
    axes.set_box_aspect((1, 1, 1))
    axes.view_init(elev=24, azim=-58)
    for k, name in enumerate("xyz"):
        line = np.zeros((2, 3))
        line[:, k] = low, high
        axes.plot(*line.T, color=FAINT, linewidth=0.8)
        axes.text(*(line[1] * 1.05), name, color=FAINT, fontsize=9, ha="center", va="center")


def _frame(pictures: list[tuple[Any, LinearMap | AffineMap, tuple[float, float]]]) -> None:
    """Pictures of space fill their page, those of one scale alike: the box that matplotlib allows for is half empty."""
    from mpl_toolkits.mplot3d.proj3d import proj_transform

    spaces = [picture for picture in pictures if picture[0].name == "3d"]
    ends: dict[tuple[float, float], list[np.ndarray]] = {}
    for axes, map, limits in spaces:
        shown = [_move(map, _corners(map.shape[-1])).T, *(np.asarray(line.get_data_3d()) for line in axes.lines)]
        shown += [np.array(text.get_position_3d())[:, None] for text in axes.texts]
        x, y, z = np.concatenate(shown, 1)
        page = np.array(proj_transform(x, y, z, axes.get_proj())[:2])
        ends.setdefault(limits, []).extend([page.min(1), page.max(1)])
    for axes, _, limits in spaces:
        low, high = np.min(ends[limits], 0), np.max(ends[limits], 0)
        middle, half = (low + high) / 2, 0.54 * (high - low).max()  # room for the words
        axes.viewLim.set_points(np.array([middle - half, middle + half]))


def _grid(axes: Any, map: LinearMap | AffineMap, limits: tuple[float, float]) -> None:
    """The image of the integer grid, as much as the window holds; in space that of the ground plane."""
    n, m = map.shape[-2:]
    reach, step = 1.0, 0.5
    if m == n == 2:
        linear = map.linear if isinstance(map, AffineMap) else map
        corners = np.stack(np.meshgrid(limits, limits), -1).reshape(-1, 2) - _move(map, np.zeros(2))
        reach, step = float(np.clip(np.ceil(np.abs(_move(linear.pinv(), corners)).max()), 3, 40)), 1.0
    for k in range(2):
        for value in np.arange(-reach, reach + step / 2, step):
            line = np.zeros((2, m))
            line[:, k], line[:, 1 - k] = value, (-reach, reach)
            width, alpha = (1.1, 0.9) if value == 0 else (0.6, 0.55)
            axes.plot(*_move(map, line).T, color=FAINT, linewidth=width, alpha=alpha, zorder=1)


def _faces(m: int) -> list[np.ndarray]:
    """The unit square, or the six sides of the cube."""
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float)
    if m == 2:
        return [square]
    return [np.insert(square, axis, side, axis=1) for axis in range(3) for side in (0.0, 1.0)]


def _fill(axes: Any, corners: np.ndarray, colour: str, alpha: float, edge: str | None = None) -> None:
    if corners.shape[1] == 2:
        axes.fill(*corners.T, facecolor=(colour, alpha), edgecolor=edge or "none", linewidth=1.2, zorder=2)
        return
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    shape = Poly3DCollection([corners], facecolors=[(colour, alpha)], edgecolors=edge or "none", linewidths=0.9)
    axes.add_collection3d(shape)


def _arrow(axes: Any, start: np.ndarray, end: np.ndarray, colour: str) -> None:
    if np.abs(end - start).max() == 0:
        return
    if len(start) == 3:
        axes.quiver(*start, *(end - start), color=colour, linewidth=2.2, arrow_length_ratio=0.16)
        return
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 13}
    axes.annotate("", end, start, arrowprops=look, zorder=5)


def _label(axes: Any, at: np.ndarray, away: np.ndarray, text: str, colour: str) -> None:
    """Words beside a point, on the side `away`."""
    away = _unit(away)
    box = {"boxstyle": "round,pad=0.08", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
    look: dict[str, Any] = {"color": colour, "fontsize": 10, "weight": "bold", "ha": "center", "va": "center"}
    if len(at) == 3:
        span = np.diff(axes.get_xlim()).item()
        axes.text(*(at + 0.075 * span * away), text, bbox=box, zorder=9, **look)
    else:
        axes.annotate(text, at, 13 * away, textcoords="offset points", zorder=7, bbox=box, **look)


def _eigenvectors(axes: Any, map: LinearMap | AffineMap, limits: tuple[float, float]) -> None:
    """The directions that stay on their line, where they are real and not all of them."""
    linear = map.linear if isinstance(map, AffineMap) else map
    matrix = linear.matrix.detach().cpu().double().numpy()
    if np.allclose(matrix, matrix[0, 0] * np.eye(2)):
        return
    values, vectors = np.linalg.eig(matrix)
    if np.iscomplexobj(values) or isinstance(map, AffineMap):
        return
    values = np.where(np.abs(values) < 1e-9 * np.abs(values).max(), 0, values)
    drawn: list[np.ndarray] = []
    for value, vector in zip(values, vectors.T):
        vector = vector * (-1 if vector[np.abs(vector).argmax()] < 0 else 1)
        if any(abs(vector @ other) > 1 - 1e-6 for other in drawn):
            continue  # a shear has only one
        drawn.append(vector)
        ends = [_leaves(vector, limits), -_leaves(-vector, limits)]
        axes.plot(*np.outer(ends, vector).T, color=_EIGEN, linewidth=1.3, linestyle=(0, (5, 4)), zorder=3)
        spots = np.outer(0.74 * np.array(ends), vector)  # on the side that is farther from the basis vectors
        clear = [min(np.linalg.norm(spot - tip) for tip in matrix.T) for spot in spots]
        spot = spots[int(np.argmax(clear))]
        _label(axes, spot, _across(vector), f"× {value:.4g}", _EIGEN)


def _leaves(direction: np.ndarray, limits: tuple[float, float]) -> float:
    """How far one can go from 0 before leaving the window."""
    low, high = limits
    bounds = [(high if d > 0 else low) / d for d in direction if abs(d) > 1e-12]
    return float(min(bounds))


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-12 else np.zeros_like(vector)


def _across(vector: np.ndarray) -> np.ndarray:
    """A direction across a vector, leftwards."""
    return _unit(np.array([-vector[1], vector[0], *vector[2:] * 0]))
