"""One picture of a ride, drawn with Pillow: the rider from behind, leaning four times as far, and the map from above.

Shapes are drawn three times as large and scaled down, which smooths every edge; no window and no matplotlib.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from eitherway.base.style import BAD, BEST, COLOURS, FAINT, INK
from eitherway.bicycle.physics import GOAL, GOAL_RADIUS, State

WIDTH, HEIGHT = 560, 300  # pixels of a picture
BEHIND = 230  # of them, the rider from behind
EXAGGERATION = 4.0  # the lean as drawn; 12 degrees would hardly be seen
RIDER = 0.77  # the rider's size: falling at 12 degrees the head, 170 of these pixels from the ground, stays in sight
STEEPEST = 0.92  # rad as drawn, 13 degrees: a lean beyond it is drawn so, within the frame
METRE = 34.0  # pixels of the map
_SMOOTH = 3

_METRE_LINE, _FIFTH_LINE = "#ece9e1", "#dcd8cd"
_PAPER, _GROUND, _SKY, _ROAD = "#ffffff", "#e9e6df", "#f4f7fa", "#f7f6f2"
_SKIN, _SHIRT, _TROUSERS, _HELMET = "#e0ac87", BEST, "#3c4654", COLOURS[4]


def line(state: State, seconds: float) -> str:
    """A ride in one line of text; the bar leans as the bicycle does.

    >>> line(State(*(np.array([v]) for v in (0.1, 0.0, -0.1, 0.0, 0.0, 0.0, 12.5))), 4.5)
    '   4.50 s  lean   -5.7°  steer   +5.7°  [.........|\\\\\\\\.....]  at (0.0, 12.5) m'
    """
    lean, steer = (math.degrees(float(angle[0])) for angle in (state.lean, state.steer))
    tilt = max(-9, min(9, round(lean / 12 * 9)))
    bar = "." * 9 + "|" + "." * 9
    if tilt > 0:
        bar = "." * (9 - tilt) + "/" * tilt + bar[9:]
    elif tilt < 0:
        bar = bar[:10] + "\\" * -tilt + "." * (9 + tilt)
    return (
        f"{seconds:7.2f} s  lean {lean:+6.1f}°  steer {steer:+6.1f}°  [{bar}]  "
        f"at ({float(state.x[0]):.1f}, {float(state.y[0]):.1f}) m"
    )


def frame(
    lean: float,
    steer: float,
    heading: float,
    trail: np.ndarray,
    *,
    seconds: float = 0.0,
    torque: float = 0.0,
    displacement: float = 0.0,
    goal: bool = False,
    wheelbase: float = 1.11,
    width: int = WIDTH,
) -> np.ndarray:
    """The picture, (300, 560, 3) uint8 or as much smaller as `width` asks.

    Args:
        lean: rad, positive to the left.
        steer: rad, positive to the left.
        heading: rad from the y axis, anticlockwise.
        trail: (T, 2) where the rear wheel has been, m; the last row is where it is.
        seconds: since the start.
        torque: of the last action, as a share of the largest.
        displacement: of the rider, as a share of the largest.
        goal: whether to point at the goal.
        wheelbase: m.
        width: pixels.
    """
    canvas = _Canvas(WIDTH, HEIGHT)
    _draw_map(canvas, steer, heading, np.asarray(trail, dtype=np.float64)[-4000:], goal, wheelbase)
    _draw_behind(canvas, lean, steer, displacement)  # over the part of the trail that left the map
    _draw_words(canvas, lean, seconds, torque, displacement)
    return canvas.pixels(width)


def palette() -> list[tuple[int, int, int]]:
    """The colours of a picture and what smoothing mixes of them: few, so that a moving picture stays small."""
    grounds = [_rgb(name) for name in (_PAPER, _GROUND, _SKY, _ROAD)]
    shapes = [_rgb(name) for name in (INK, _TROUSERS, BEST, BAD, COLOURS[2], COLOURS[4], _SKIN, FAINT)]
    mixed = [_mix(ground, shape, share) for shape in shapes for ground in grounds[:1] for share in (0.35, 0.7)]
    mixed += [_mix(_rgb(BEST), _rgb(INK), 0.5), _mix(_rgb(_SKIN), _rgb(BEST), 0.5), _mix(grounds[2], _rgb(BEST), 0.5)]
    return [*grounds, *map(_rgb, (_METRE_LINE, _FIFTH_LINE)), *shapes, *mixed]


def _rgb(name: str) -> tuple[int, int, int]:
    """`"#rrggbb"` as numbers."""
    return int(name[1:3], 16), int(name[3:5], 16), int(name[5:7], 16)


def _mix(one: tuple[int, int, int], other: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    """`share` of the other colour in the one."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(one, other))
    return red, green, blue


class _Canvas:
    """Rounded lines, discs and words in pixels of the finished picture; `at` moves and turns what is drawn next."""

    def __init__(self, width: int, height: int):
        from PIL import Image, ImageDraw

        self.image = Image.new("RGB", (width * _SMOOTH, height * _SMOOTH), _PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.origin, self.turn, self.scale = (0.0, 0.0), (1.0, 0.0), 1.0

    def at(self, x: float, y: float, angle: float = 0.0, scale: float = 1.0) -> None:
        """What is drawn next has its origin at (x, y), x to the right, y upwards, turned anticlockwise by `angle`."""
        self.origin, self.scale = (x, y), scale
        self.turn = (scale * math.cos(angle), scale * math.sin(angle))

    def place(self, x: float, y: float) -> tuple[float, float]:
        c, s = self.turn
        return (self.origin[0] + c * x - s * y) * _SMOOTH, (self.origin[1] - s * x - c * y) * _SMOOTH

    def stroke(self, points: Any, width: float, colour: str) -> None:
        """A line with round ends and corners."""
        placed = [self.place(*point) for point in points]
        width *= self.scale * _SMOOTH
        self.draw.line(placed, colour, round(width), joint="curve")
        r = width / 2
        for x, y in (placed[0], placed[-1]):
            self.draw.ellipse((x - r, y - r, x + r, y + r), colour)

    def disc(
        self, x: float, y: float, radius: float, colour: str | None, outline: str | None = None, width: float = 1
    ) -> None:
        x, y = self.place(x, y)
        r = radius * self.scale * _SMOOTH
        self.draw.ellipse((x - r, y - r, x + r, y + r), colour, outline, round(width * _SMOOTH))

    def shape(self, points: Any, colour: str) -> None:
        self.draw.polygon([self.place(*point) for point in points], colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        """In plain pixels, y downwards."""
        self.draw.rectangle([value * _SMOOTH for value in (left, top, right, bottom)], colour)

    def words(self, x: float, y: float, text: str, size: int, colour: str, anchor: str = "la") -> None:
        """In plain pixels, y downwards."""
        self.draw.text((x * _SMOOTH, y * _SMOOTH), text, colour, _font(size * _SMOOTH), anchor)

    def pixels(self, width: int) -> np.ndarray:
        from PIL import Image

        height = round(width * self.image.height / self.image.width)
        return np.array(self.image.resize((width, height), Image.Resampling.BOX))


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _draw_behind(canvas: _Canvas, lean: float, steer: float, displacement: float) -> None:
    """The rider from behind: a left lean falls to the left."""
    floor, middle = HEIGHT - 46, BEHIND / 2
    canvas.box(0, 0, BEHIND, floor, _SKY)
    canvas.box(0, floor, BEHIND, HEIGHT, _GROUND)
    canvas.at(middle, floor)
    for degrees in (-12, 12):  # the lean at which it has fallen
        angle = math.radians(degrees) * EXAGGERATION
        for k in range(8):
            near, far = 24 + 17 * k, 31 + 17 * k
            canvas.stroke(
                [(near * math.sin(angle), near * math.cos(angle)), (far * math.sin(angle), far * math.cos(angle))],
                1.2,
                FAINT,
            )
    canvas.disc(0, -1, 3, FAINT)
    drawn = max(-STEEPEST, min(STEEPEST, lean * EXAGGERATION))
    canvas.at(middle, floor, drawn, RIDER)
    shift = -7.0 * displacement  # the rider leans out; positive is to the left
    bar, twist = 92, 9 * math.sin(steer)
    canvas.stroke([(0, 5), (0, 56)], 9, INK)  # rear tyre
    canvas.stroke([(0, 14), (0, 47)], 3, FAINT)
    canvas.stroke([(0, 30), (0, 78)], 3.5, COLOURS[1])  # seat stays
    canvas.stroke([(-27, bar + twist), (27, bar - twist)], 4, INK)  # handlebar, seen past the rider
    for side in (-1, 1):
        canvas.stroke([(9 * side, 80), (13 * side, 52), (9 * side, 26)], 9, _TROUSERS)
        canvas.stroke([(7 * side, 23), (12 * side, 23)], 5, INK)
        hand = (27 * side, bar - side * twist)
        canvas.stroke([(17 * side + shift, 124), (31 * side + shift / 2, 106), hand], 7, _SHIRT)
        canvas.disc(*hand, 4.5, _SKIN)
    canvas.stroke([(-7, 80), (7, 80)], 7, INK)  # saddle
    canvas.shape(
        [(-12, 80), (12, 80), (21 + shift, 124), (15 + shift, 132), (-15 + shift, 132), (-21 + shift, 124)], _SHIRT
    )
    canvas.stroke([(-15 + shift, 126), (15 + shift, 126)], 12, _SHIRT)
    canvas.stroke([(shift, 130), (shift * 1.1, 140)], 8, _SKIN)
    canvas.disc(shift * 1.2, 152, 13, _SKIN)
    x, y = canvas.place(shift * 1.2, 155)
    r = 14 * RIDER * _SMOOTH
    tilt = math.degrees(drawn)
    canvas.draw.pieslice((x - r, y - r, x + r, y + r), 180 - tilt, 360 - tilt, _HELMET)


def _draw_map(canvas: _Canvas, steer: float, heading: float, trail: np.ndarray, goal: bool, wheelbase: float) -> None:
    """From above, the bicycle in the middle, a line every metre."""
    left, right, top, bottom = BEHIND, WIDTH, 0, HEIGHT - 46
    x, y = trail[-1]
    half_x, half_y = (right - left) / 2 / METRE, (bottom - top) / 2 / METRE
    middle = ((left + right) / 2, (top + bottom) / 2)
    canvas.box(left, top, right, bottom, _ROAD)
    canvas.at(*middle)
    for k in range(math.ceil(x - half_x), math.floor(x + half_x) + 1):
        _grid_line(canvas, [((k - x) * METRE, -half_y * METRE), ((k - x) * METRE, half_y * METRE)], k)
    for k in range(math.ceil(y - half_y), math.floor(y + half_y) + 1):
        _grid_line(canvas, [(-half_x * METRE, (k - y) * METRE), (half_x * METRE, (k - y) * METRE)], k)
    if goal:
        _draw_goal(canvas, x, y, half_x, half_y)
    near = (trail - trail[-1]) * METRE
    if len(near) > 1:
        canvas.stroke([tuple(point) for point in near[:: max(1, len(near) // 800)]] + [(0, 0)], 2.5, BAD)
    canvas.at(*middle, heading)
    base = wheelbase * METRE
    canvas.stroke([(0, -8), (0, 8)], 6, INK)
    canvas.stroke([(0, 0), (0, base)], 3.5, COLOURS[1])
    front = canvas.place(0, base)
    canvas.shape([(-9, 2), (9, 2), (13, 15), (0, 20), (-13, 15)], _SHIRT)
    canvas.at(front[0] / _SMOOTH, front[1] / _SMOOTH, heading + steer)
    canvas.stroke([(0, -8), (0, 8)], 6, INK)
    canvas.stroke([(-13, -5), (13, -5)], 3.5, INK)
    canvas.at(*middle, heading)
    canvas.disc(0, 13, 7.5, _HELMET)
    canvas.box(left, bottom, right, HEIGHT, _PAPER)
    canvas.box(left - 1, 0, left, HEIGHT, _PAPER)


def _grid_line(canvas: _Canvas, ends: list[tuple[float, float]], metres: int) -> None:
    """Every fifth metre a stronger one."""
    canvas.draw.line([canvas.place(*end) for end in ends], _FIFTH_LINE if metres % 5 == 0 else _METRE_LINE, _SMOOTH)


def _draw_goal(canvas: _Canvas, x: float, y: float, half_x: float, half_y: float) -> None:
    """The goal's circle if it is in sight, else an arrow at the edge with the distance."""
    dx, dy = GOAL[0] - x, GOAL[1] - y
    canvas.disc(dx * METRE, dy * METRE, GOAL_RADIUS * METRE, None, COLOURS[2], 3)
    far = math.hypot(dx, dy)
    if far <= GOAL_RADIUS:
        return
    angle = math.atan2(dy, dx)
    reach = (
        min((half_x - 0.6) / max(abs(math.cos(angle)), 1e-9), (half_y - 0.6) / max(abs(math.sin(angle)), 1e-9)) * METRE
    )
    tip = (reach * math.cos(angle), reach * math.sin(angle))
    side = (7 * math.sin(angle), -7 * math.cos(angle))
    back = (tip[0] - 14 * math.cos(angle), tip[1] - 14 * math.sin(angle))
    canvas.shape([tip, (back[0] + side[0], back[1] + side[1]), (back[0] - side[0], back[1] - side[1])], COLOURS[2])
    px, py = canvas.place(back[0] - 8 * math.cos(angle), back[1] - 8 * math.sin(angle) + 12)
    canvas.words(px / _SMOOTH, py / _SMOOTH, f"{far - GOAL_RADIUS:.0f} m", 12, COLOURS[2], "rm" if dx > 0 else "lm")


def _draw_words(canvas: _Canvas, lean: float, seconds: float, torque: float, displacement: float) -> None:
    """The line below: time, lean, what the rider does."""
    y = HEIGHT - 23
    canvas.words(14, y, f"lean {math.degrees(lean):+.1f}°  (drawn {EXAGGERATION:.0f} times)", 13, INK, "lm")
    canvas.words(WIDTH - 14, y, f"{seconds:.1f} s", 20, INK, "rm")
    canvas.at(BEHIND + 16, y)
    for k, (name, value) in enumerate((("torque", torque), ("body", displacement))):
        x = BEHIND + 14 + 112 * k
        canvas.words(x, y, name, 13, INK, "lm")
        canvas.at(x + 74, y)
        canvas.stroke([(-20, 0), (20, 0)], 2, _GROUND)
        canvas.disc(-20 * value, 0, 5, FAINT if value == 0 else BEST)  # positive is to the left
