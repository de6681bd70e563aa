"""Slopes from values: differences over a ladder of steps, extrapolated, each with an error bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from eitherway.calculus.differences.noise import Evaluate

RUNG = 2
"""Neighbouring steps differ by this power of two: 4 apart, each exact in binary arithmetic."""
GUARD = 14
"""The smallest of the first steps lies this many powers of two below: too noisy to use, and incorruptible."""
SIGMAS = 3.0
"""Standard deviations of noise in a bar: the noise level itself is known within a factor of two or so."""
DOUBT = 2.0
"""Standard deviations added where one noisy slope measures another's truncation error: they may agree by chance."""
ROUNDS = 3
"""How often more steps may be asked for."""
REACH = -1
"""Steps grow to at most this power of two times what a large move is: half of it."""
CAUTION = 2.0
"""Truncation errors are taken for this much larger than the leading term says."""
APART = 16 * 1.01
"""Steps further apart than this are not extrapolated: the wide one would only lend the narrow one its confidence."""
RUN = 4
"""Steps that one extrapolation combines, at most."""

Side = Literal["both", "above", "below"]


@dataclass
class Slopes:
    """What differences say of the columns asked for: (m, C) each, and what happened on the way.

    Args:
        value: (m, C) slopes.
        error: (m, C) half-widths: truncation and noise.
        steps: (C,) the widest step that the slopes were taken over.
        below: (m, C) slope on the left, where it differs from the right: a kink; NaN elsewhere.
        above: (m, C) slope on the right, likewise.
        sides: the side each column was looked at from.
        failed: columns with neighbours that had no value, and how many.
        endless: (m, C) whether slopes grow without end as the step shrinks: a jump, or an infinite slope.
        evaluations: points paid for.
    """

    value: np.ndarray
    error: np.ndarray
    steps: np.ndarray
    below: np.ndarray
    above: np.ndarray
    sides: list[Side]
    failed: dict[int, int] = field(default_factory=dict)
    endless: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))
    evaluations: int = 0


def differentiate(
    evaluate: Evaluate,
    x: np.ndarray,
    base: np.ndarray,
    directions: np.ndarray | Sequence[int],
    *,
    noise: np.ndarray,
    unit: np.ndarray,
    grain: float,
    rounded: Callable[[np.ndarray], np.ndarray],
    side: Side = "both",
    rounds: int = ROUNDS,
    smooth: bool = True,
) -> Slopes:
    """Slopes of a function along columns or directions, by extrapolated differences.

    The steps begin at the optimum for a function whose derivatives are as large as itself, h = (3 eps_f / |f'''|)^(1/3)
    for central and 2 (eps_f / |f''|)^(1/2) for one-sided differences, beside one step far below it. What the first
    slopes say of f''' (f'') moves them; the smallest bar wins, and none may contradict a smaller step.

    Args:
        evaluate: see `Evaluate`.
        x: (n,) the point.
        base: (m,) the values there.
        directions: (C, n) rows to move along, or C columns.
        noise: (m,) standard deviation of the values.
        unit: (C,) what a large move along each is.
        grain: relative rounding error of x.
        rounded: points as the function will see them, in the dtype of x.
        side: which neighbours to ask for; where they have no value, the other side is taken.
        rounds: how often steps may be added.
        smooth: whether f may be trusted to have derivatives between its neighbours. If not (a network of ReLUs has
            kinks wherever it is large), nothing is extrapolated, and bars hold what wider steps changed in full.

    Source: Moré & Wild 2012, Estimating derivatives of noisy simulations, ACM TOMS 38; Gill, Murray, Saunders &
    Wright 1983; Ridders 1982 for the extrapolation; Lepski 1991 for the choice among steps under noise.
    """
    columns = [_Column(x, base, at, float(size), noise, grain, side, smooth) for at, size in zip(directions, unit)]
    spent = 0
    for turn in range(rounds + 1):
        asked = [(column, e, sign) for column in columns for e, sign in column.wanted(turn)]
        if not asked:
            break
        points = np.stack([column.point(e, sign) for column, e, sign in asked])
        points = rounded(points)
        values = evaluate(points)
        spent += len(asked)
        for (column, e, sign), point, value in zip(asked, points, values):
            column.hear(e, sign, point, value)
    shape = (len(base), len(columns))
    value, error, below, above = (np.full(shape, np.nan) for _ in range(4))
    slopes = Slopes(value, error, np.zeros(len(columns)), below, above, sides=[])
    slopes.endless = np.zeros(slopes.value.shape, bool)
    for c, column in enumerate(columns):
        column.write(slopes, c)
    slopes.evaluations = spent
    return slopes


class _Column:
    """The neighbours along one direction, and what they say."""

    def __init__(self, x: np.ndarray, base: np.ndarray, at: np.ndarray | int, unit: float, noise: np.ndarray,
                 grain: float, side: Side, smooth: bool):  # fmt: skip
        self.x, self.base, self.noise = x, base, noise
        self.side: Side = side
        self.smooth = smooth
        self.at = at if np.ndim(at) else int(at)
        self.known = np.isfinite(base)
        self.near: dict[tuple[int, int], tuple[float, np.ndarray]] = {}
        self.failed = 0
        self.tried: set[tuple[int, int]] = set()
        size = np.where(np.abs(base) > noise, np.abs(base), 1)[self.known]
        relative = float(np.median(noise[self.known] / size)) if size.size else grain
        power = 1 / 3 if side == "both" else 1 / 2
        self.first = int(np.floor(np.log2(unit * min(max(relative, grain), 0.01) ** power)))
        here = np.abs(x[self.at]) if np.ndim(at) == 0 else 0.0
        self.grain = grain
        self.highest = int(np.floor(np.log2(unit))) + REACH
        self.lowest = int(np.ceil(np.log2(max(8 * grain * here, unit * 2.0**-120))))

    def point(self, e: int, sign: int) -> np.ndarray:
        moved = self.x.copy()
        if isinstance(self.at, int):
            moved[self.at] += sign * 2.0**e
        else:
            moved += sign * 2.0**e * self.at
        return moved

    def hear(self, e: int, sign: int, point: np.ndarray, value: np.ndarray) -> None:
        if not np.isfinite(value[self.known]).all():
            self.failed += 1
            return
        if isinstance(self.at, int):
            h = abs(float(point[self.at] - self.x[self.at]))
        else:
            h = abs(float((point - self.x) @ self.at) / float(self.at @ self.at))
        if h > 0:
            self.near[e, sign] = (h, value)

    def wanted(self, turn: int) -> list[tuple[int, int]]:
        signs = {"both": (1, -1), "above": (1,), "below": (-1,)}[self.side]
        if turn == 0:
            wide = self.first + RUNG if self.side == "both" else self.first
            steps = [wide, wide - RUNG, self.first - GUARD]
        else:
            steps = self._more()
            if self.side != "both" and not self.ladder(self.side)[0].size:
                self.side, signs = "below" if self.side == "above" else "above", (-1 if self.side == "above" else 1,)
                steps = steps or [self.first, self.first - RUNG, self.first - GUARD]
        steps = [min(max(e, self.lowest), self.highest) for e in steps]
        asked = [(e, sign) for e in dict.fromkeys(steps) for sign in signs if (e, sign) not in self.tried]
        self.tried |= set(asked)
        return asked

    def ladder(self, side: Side) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
        """Steps (r,) from the widest down, their slopes (r, m), the noise of the values (r, m), and exponents."""
        found = []
        for e in sorted({e for e, _ in self.near}, reverse=True):
            up, down = self.near.get((e, 1)), self.near.get((e, -1))
            if side == "both" and up and down:
                h = (up[0] + down[0]) / 2
                found.append((h, (up[1] - down[1]) / (2 * h), up[1], down[1], e))
            elif side == "above" and up:
                found.append((up[0], (up[1] - self.base) / up[0], up[1], up[1], e))
            elif side == "below" and down:
                found.append((down[0], (self.base - down[1]) / down[0], down[1], down[1], e))
        h = np.array([part[0] for part in found])
        slopes = np.array([part[1] for part in found]).reshape(len(found), len(self.base))
        return h, slopes, np.array([self._noise(part[2], part[3]) for part in found]), [part[4] for part in found]

    def _noise(self, *values: np.ndarray) -> np.ndarray:
        """The noise at a step: as measured at x, or the rounding of larger values there."""
        return np.fmax(self.noise, self.grain * np.abs(np.stack(values)).max(axis=0))

    def best_side(self) -> Side:
        if self.side != "both" or self.ladder("both")[0].size:
            return self.side
        if len(self.ladder("above")[0]) >= len(self.ladder("below")[0]):
            return "above"
        return "below"

    def choose(self) -> _Choice | None:
        side = self.best_side()
        h, slopes, noise, _ = self.ladder(side)
        return _choose(h, slopes, noise, 2 if side == "both" else 1, self.smooth) if h.size else None

    def _more(self) -> list[int]:
        """The steps that would make the bar of the worst output smaller; none if nothing would."""
        choice = self.choose()
        if choice is None:
            low = min((e for e, _ in self.tried), default=self.first)
            return [] if low <= self.lowest else [low, low - GUARD]
        h, slopes, noise, exponents = self.ladder(self.best_side())
        order = 2 if self.best_side() == "both" else 1
        moving = self.known & (np.ptp(np.stack([value for _, value in self.near.values()]), axis=0) > 0)
        if not moving.any():
            return []
        worst = int(np.where(moving, choice.bar / np.maximum(self.noise, 1e-150), -1).argmax())
        scatter, bend = SIGMAS * choice.scatter[worst], choice.truncation[worst]
        if choice.bar[worst] <= 1e-14 * abs(choice.value[worst]):
            return []
        if bend > scatter:
            last = int(choice.last[worst])
            pair = (last - 1, last) if last else (0, 1)
            if pair[1] >= len(h):
                return [exponents[0] - RUNG, exponents[0] - GUARD]
            rise = abs(slopes[pair[0], worst] - slopes[pair[1], worst])
            curve = rise / (h[pair[0]] ** order - h[pair[1]] ** order)
            best = (noise[last, worst] / max(curve, 1e-300)) ** (1 / (order + 1))
            e = self.first + RUNG * round((np.log2(max(best, 1e-300)) - self.first) / RUNG)
            return [e + 2 * RUNG, e + RUNG, e]
        top = exponents[0]
        return [top + RUNG, top + 2 * RUNG] if scatter > 2 * bend else [top + RUNG]

    def write(self, slopes: Slopes, c: int) -> None:
        side = self.best_side()
        slopes.sides.append(side)
        if self.failed:
            slopes.failed[c] = self.failed
        choice = self.choose()
        if choice is None:
            slopes.error[:, c] = np.inf
            return
        slopes.value[:, c] = np.where(self.known, choice.value, np.nan)
        slopes.error[:, c] = np.where(self.known, choice.bar, np.inf)
        slopes.steps[c] = choice.width.max()
        slopes.endless[:, c] = endless = self._endless(side)
        slopes.error[endless, c] = np.inf
        if side == "both":
            below, above, kink, scatter, torn = self._kink()
            slopes.endless[torn, c] = True
            slopes.error[torn, c] = np.inf
            slopes.below[kink, c], slopes.above[kink, c] = below[kink], above[kink]
            slopes.value[kink, c] = (below[kink] + above[kink]) / 2
            slopes.error[kink, c] = np.abs(above - below)[kink] / 2 + scatter[kink]

    def _endless(self, side: Side) -> np.ndarray:
        """(m,) whether the slopes of the three smallest steps run away from each other, beyond all noise."""
        h, slopes, noise, _ = self.ladder(side)
        if len(h) < 3:
            return np.zeros(len(self.base), bool)
        before, after = slopes[-2] - slopes[-3], slopes[-1] - slopes[-2]
        loud = np.abs(after) > 4 * SIGMAS * noise[-1] / h[-1]
        return loud & (np.abs(after) > np.abs(before)) & (np.abs(slopes[-1]) > 1.5 * np.abs(slopes[-2])) & self.known

    def _kink(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One-sided slopes at the smallest step (m,), where they keep apart, their noise, where they run apart."""
        h, _, noise, exponents = self.ladder("both")
        one = [(self.near[e, -1][1], self.near[e, 1][1]) for e in exponents]
        gap = np.array([(up - 2 * self.base + down) / step for (down, up), step in zip(one, h)])
        scatter = SIGMAS * np.sqrt(6) * noise / h[:, None]
        kink = torn = np.zeros(len(self.base), bool)
        low = len(h) - 1
        if low:
            last, before = np.abs(gap[-1]), np.abs(gap[-2])
            loud = (last > 2 * scatter[-1]) & (before > 2 * scatter[-2]) & (gap[-1] * gap[-2] > 0) & self.known
            kink, torn = loud & (last > 0.7 * before) & (last < 1.4 * before), loud & (last >= 1.4 * before)
        down, up = one[low]
        return (self.base - down) / h[low], (up - self.base) / h[low], kink, scatter[low], torn


@dataclass
class _Choice:
    """For each output (m,): the slope, its bar and its parts, the widest step, and the place of the narrowest."""

    value: np.ndarray
    bar: np.ndarray
    truncation: np.ndarray
    scatter: np.ndarray
    width: np.ndarray
    last: np.ndarray


def _choose(h: np.ndarray, slopes: np.ndarray, noise: np.ndarray, order: int, smooth: bool) -> _Choice:
    """Among all extrapolations over neighbouring steps, the one with the smallest bar, output by output."""
    single = noise / h[:, None] / (np.sqrt(2) if order == 2 else 1 / np.sqrt(2))
    made: dict[tuple[int, int], np.ndarray] = {}
    spread: dict[tuple[int, int], np.ndarray] = {}
    candidates = []
    for last in range(len(h)):
        for first in range(last, max(-1, last - (RUN if smooth else 1)), -1):
            if first < last and h[first] > APART * h[first + 1]:
                break
            part = slice(first, last + 1)
            weights = _extrapolation(h[part] ** order)
            value = weights @ slopes[part]
            made[first, last] = value
            scatter = np.sqrt((weights**2) @ (noise[part] / h[part, None]) ** 2 / (2 if order == 2 else 1))
            if order == 1:
                scatter = np.hypot(scatter, np.abs(weights @ (noise[part] / h[part, None])))
            if first < last:
                truncation = np.abs(value - made[first + 1, last]) + DOUBT * spread[first + 1, last]
                truncation *= CAUTION if order == 1 else 1
            else:
                truncation = _alone(h, slopes, single, order, last, smooth)
            spread[first, last] = scatter
            bar = truncation + SIGMAS * scatter
            for smaller in range(last + 1, len(h)):
                bar = np.maximum(bar, np.abs(value - slopes[smaller]) - SIGMAS * single[smaller])
            candidates.append((value, bar, truncation, scatter, np.full(len(bar), h[first]), np.full(len(bar), last)))
    value, bar, truncation, scatter, width, last = (np.array(column) for column in zip(*candidates))
    which = np.where(np.isnan(bar), np.inf, bar).argmin(axis=0)
    pick = (which, np.arange(slopes.shape[1]))
    return _Choice(value[pick], bar[pick], bar[pick] - SIGMAS * scatter[pick], scatter[pick], width[pick], last[pick])


def _extrapolation(t: np.ndarray) -> np.ndarray:
    """Weights that extrapolate values at t (r,) to 0 by their polynomial (Neville)."""
    return np.array([np.prod([s / (s - t[i]) for j, s in enumerate(t) if j != i]) for i in range(len(t))])


def _alone(h: np.ndarray, slopes: np.ndarray, single: np.ndarray, order: int, k: int, smooth: bool) -> np.ndarray:
    """The truncation error of one step, from the next wider one; the widest is judged by the next narrower."""
    if len(h) == 1:
        return np.abs(slopes[0])
    if k == 0:
        return CAUTION * np.abs(slopes[0] - slopes[1]) + DOUBT * single[1]
    rise = np.abs(slopes[k] - slopes[k - 1]) + DOUBT * single[k]
    if not smooth:
        return CAUTION * rise
    ratio = min(h[k - 1] / h[k], 2**RUNG) ** order - 1  # no more trust for steps further apart: f may not be smooth
    return np.where(rise < 0.3 * np.abs(slopes[k]), CAUTION * rise / ratio, rise)
