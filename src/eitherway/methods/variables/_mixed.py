"""What CMA-ES needs beyond its normal distribution where some columns are discrete: CatCMA with Margin.

Source: Hamano et al., CatCMA with Margin, arXiv:2504.07884. Reals and whole numbers share one normal distribution,
whole numbers with a margin; choices, and whole numbers of two values as the authors advise, are drawn by category.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from eitherway.base.keys import Key
from eitherway.methods.codec import state
from eitherway.methods.variables._categories import Categories, categories, draw, follow
from eitherway.methods.variables._gaussian import Gaussian, Rates, cloud, learn
from eitherway.methods.variables._margin import Margin, centre, correct, margin
from eitherway.space.space import Space


@dataclass(frozen=True)
class Layout:
    """Which columns are drawn how. Columns of a single value are drawn by nobody."""

    normal: np.ndarray  # (N,) columns of the normal distribution
    whole: np.ndarray  # (I,) which of those N are whole numbers
    choices: np.ndarray  # (M,) columns drawn by category
    levels: np.ndarray  # (M,) their options
    alpha: float  # the margin

    @property
    def drawn(self) -> int:
        """Columns that vary."""
        return max(1, len(self.normal) + len(self.choices))


@lru_cache(maxsize=64)
def layout(space: Space) -> Layout:
    """How the columns of a space are drawn."""
    levels = space.levels
    by_category = (levels == 2) | ((levels > 2) & (space.kinds == "choice"))
    normal = np.flatnonzero((levels != 1) & ~by_category)
    whole, choices = np.flatnonzero(levels[normal]), np.flatnonzero(by_category)
    # the margin lets a row have no discrete mutation at all with probability 0.73 (Hamano et al. 2025, section 4.4)
    alpha = 1 - 0.73 ** (1 / max(1, len(whole) + len(choices)))
    return Layout(normal, whole, choices, levels[choices], alpha)


@state
class Mixed:
    """The discrete side of a cloud."""

    margin: Margin
    categories: Categories
    centre: np.ndarray  # (D,) the mean and the favourites as one point


def mixed(space: Space, mean: np.ndarray) -> Mixed:
    """That of a fresh run about a point (D,)."""
    plan = layout(space)
    return Mixed(margin(len(plan.whole)), categories(plan.levels), space.snap(mean[None])[0])


def draw_points(m: Mixed, g: Gaussian, space: Space, P: int, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """P points (P, D), clipped, and the whole coordinates (P, I) as they were before."""
    plan = layout(space)
    steps = g.steps(cloud(key, P, len(plan.normal)))
    steps[:, plan.whole] *= m.margin.stretch
    options = draw(m.categories, plan.levels, key.numpy("options").random((P, len(plan.choices))))
    points = np.full((P, space.columns), 0.5)
    points[:, plan.normal] = g.mean + g.sigma * steps
    points[:, plan.choices] = (options + 0.5) / plan.levels
    return space.clip(points), points[:, plan.normal[plan.whole]]


def learn_mixed(
    m: Mixed,
    g: Gaussian,
    space: Space,
    points: np.ndarray,
    whole: np.ndarray,
    starts: int,
    weights: tuple[np.ndarray, np.ndarray],
    r: Rates,
) -> None:
    """One update of both sides, in place.

    Args:
        points, whole: (P, D), (P, I) as `draw_points` gave them.
        starts: rows at the top that were not drawn.
        weights: as `shares` gave them: a column that takes no part in a row learns nothing from it.
    """
    plan, positive = layout(space), weights[0]
    active = space.active(points)
    attracts = active & (positive > 0)[:, None]
    success = np.zeros(0, bool)
    if len(plan.normal):
        v = points.take(plan.normal, 1)  # in rows, as the points are: a product of columns rounds differently
        v[:, plan.whole] = whole
        columns = plan.normal[plan.whole]
        if len(columns):
            low, high = _cells(space, np.concatenate([points, _point(space, plan, g.mean)]))
            v[:, plan.whole], success = centre(whole, low[:-1], high[:-1], low[-1], attracts[:, columns])
        stretch = np.ones(len(plan.normal))
        stretch[plan.whole] = m.margin.stretch
        y = (v - g.mean) / (g.sigma * stretch)
        if starts:
            y[:starts] = g.shortened(y[:starts])
        sigma, taking = g.sigma, active[:, plan.normal]
        y_w = learn(g, y, *weights, r)
        if not taking.all():  # the paths go on as if nothing had been selected; the mean stays
            y_w = positive @ np.where(taking, y, 0.0)
        g.mean += sigma * y_w  # as the paper: the stretch belongs to the encoding, not to the distribution
        if len(columns):
            low, high = _cells(space, _point(space, plan, g.mean))
            deviation = g.sigma * np.sqrt(np.diag(g.covariance)[plan.whole])
            g.mean[plan.whole] = correct(m.margin, g.mean[plan.whole], deviation, low[0], high[0], success, plan.alpha)
    if len(plan.choices):
        options = space.cells(points)[:, plan.choices]
        shares = np.where(active[:, plan.choices], positive[:, None], 0.0)
        follow(m.categories, plan.levels, options, shares, plan.alpha)
    m.centre = _point(space, plan, g.mean)[0]
    m.centre[plan.choices] = (m.categories.q.argmax(1) + 0.5) / plan.levels if len(plan.choices) else 0.0
    m.centre = space.snap(m.centre[None])[0]


def _point(space: Space, plan: Layout, mean: np.ndarray) -> np.ndarray:
    """(1, D) a point whose normal columns are the mean."""
    point = np.full((1, space.columns), 0.5)
    point[0, plan.normal] = mean
    return space.clip(point)


def _cells(space: Space, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P, D) -> edges of the cells of the whole columns, (P, I) each."""
    plan = layout(space)
    columns = plan.normal[plan.whole]
    low, high = space.brackets(points)
    return low[:, columns], high[:, columns]
