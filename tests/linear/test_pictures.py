"""The picture shows what the map does: where the square goes, whether the letter is mirrored, and says it in words."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.transforms import Bbox
from mpl_toolkits.mplot3d.proj3d import proj_transform

from eitherway import linear
from eitherway.base.errors import ModelError
from eitherway.base.style import COLOURS, INK, figure
from eitherway.linear import LinearMap, identity


def texts(axes):
    return [text.get_text() for text in axes.texts]


def polygons(axes, colour):
    """The corners of all filled shapes of a colour in the plane."""
    from matplotlib.colors import to_rgb

    return [patch.get_xy()[:-1] for patch in axes.patches if to_rgb(patch.get_facecolor()) == to_rgb(colour)]


def area(corners):
    x, y = corners.T
    return (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def inside(box, width, height):
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


MAPS = {
    "rotation": linear.rotation(math.pi / 6),
    "shear": linear.shear(1.0),
    "reflection": linear.reflection([1, -0.5]),
    "projection": linear.projection([2, 1]),
    "translation": linear.translation([1, 0.5]) @ linear.scaling([1.4, 0.7]),
    "zero": linear.scaling([0, 0]),
    "large": linear.scaling([400, 3]),
    "space": linear.rotation_from_vector([0.3, 0.2, 0.8]),
    "mirrored space": linear.reflection([0, 0, 1]) @ linear.shear(0.7, 3, 0, 2),
    "moved space": linear.translation([1, 0, 0]) @ linear.scaling([1, 2, 0.5]),
    "space to plane": LinearMap([[1, 0, 0.3], [0, 1, 0.4]]),
    "plane to space": LinearMap([[1, 0], [0, 1], [0.4, 0.4]]),
}


@pytest.mark.parametrize("made", MAPS.values(), ids=MAPS.keys())
def test_every_map_can_be_drawn_with_all_words_inside_the_figure_and_apart(made):
    before, after = made.plot()
    whole = before.figure
    whole.canvas.draw()
    width, height = whole.get_size_inches() * whole.dpi
    renderer = whole.canvas.get_renderer()
    for axes in (before, after):
        assert inside(axes.title.get_window_extent(renderer), width, height)
        words = [text for text in axes.texts if text.get_text()]
        if axes.name == "3d":  # such text has its place on the page only while it is drawn
            for word in words:
                place = axes.transData.transform(proj_transform(*word.get_position_3d(), axes.get_proj())[:2])
                assert inside(Bbox([place - 12, place + 12]), width, height), word.get_text()
            continue
        boxes = [text.get_window_extent(renderer) for text in words]
        assert all(inside(box, width, height) for box in boxes)
        for i, one in enumerate(boxes):
            for k, other in enumerate(boxes[:i]):
                assert not one.overlaps(other), (words[i].get_text(), words[k].get_text())


def test_the_square_and_the_letter_are_moved_and_a_reflection_turns_the_letter_over():
    for made in (MAPS["rotation"], MAPS["reflection"], MAPS["shear"]):
        before, after = made.plot()
        (letter,), (moved,) = polygons(before, INK), polygons(after, INK)
        np.testing.assert_allclose(moved, made(letter).numpy())
        assert area(moved) == pytest.approx(area(letter) * made.det().item())
        (square,) = polygons(after, COLOURS[4])
        assert abs(area(square)) == pytest.approx(1)


def test_the_titles_say_kind_determinant_and_orientation():
    def said(made):
        _, after = made.plot()
        return f"{after.figure.get_suptitle()} | {after.get_title(loc='left')}"

    assert said(MAPS["rotation"]) == "Rotation by 30°; determinant 1 | after: areas kept, orientation kept"
    assert said(linear.scaling([-1, 2])).endswith("determinant -2 | after: areas × 2, orientation flipped")
    assert said(MAPS["projection"]).endswith("at a right angle; determinant 0 | after: areas vanish")
    assert said(MAPS["space"]).endswith("after: volumes kept, orientation kept")
    assert said(MAPS["space to plane"]) == "General map from R^3 to R^2, rank 2 | after: in 2 dimensions"


@pytest.mark.parametrize("name", ["space", "mirrored space", "moved space"])
def test_a_picture_of_space_fills_its_page(name):
    before, _ = MAPS[name].plot()
    canvas: Any = before.figure.canvas
    canvas.draw()
    page = np.asarray(canvas.buffer_rgba())[..., :3].min(-1) < 250
    rows = np.flatnonzero(page[:, : page.shape[1] // 2].any(1))
    assert len(page) - rows[-1] < 0.13 * len(page) and np.diff(rows).max() < 0.1 * len(page)


def test_pictures_of_one_scale_are_cut_alike():
    before, after = MAPS["space"].plot()
    np.testing.assert_allclose(before.viewLim.get_points(), after.viewLim.get_points())


def test_directions_that_stay_are_marked_where_they_are_real_and_few():
    assert {"× 3", "× 1"} <= set(texts(LinearMap([[2, 1], [1, 2]]).plot()[1]))
    assert [text for text in texts(MAPS["shear"].plot()[1]) if "×" in text] == ["× 1"]
    for made in (MAPS["rotation"], identity(2), MAPS["translation"]):
        assert not [text for text in texts(made.plot()[1]) if "×" in text]


def test_an_affine_map_shows_where_zero_goes():
    assert "b" in texts(MAPS["translation"].plot()[1]) and "b" not in texts(MAPS["rotation"].plot()[1])


def test_a_map_can_be_drawn_into_axes_of_ours_and_keeps_its_gradient_to_itself():
    pair = tuple(figure(6, 3).subplots(1, 2))
    angle = torch.tensor(0.3, requires_grad=True)
    assert linear.rotation(angle).plot(pair) == pair
    assert pair[0].figure.get_suptitle() == ""


def test_every_example_of_the_page_runs_and_makes_its_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "linear-maps.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
    said = capsys.readouterr().out
    assert len(blocks) >= 5 and (tmp_path / "linear-maps.png").stat().st_size > 10_000
    for words in ("rotation by 180°", "reflection across", "so it is affine, not linear", "conditioning"):
        assert words in said


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: identity(4).plot(), r"a map from R\^4 to R\^4 cannot be drawn"),
        (
            lambda: linear.rotation([0.1, 0.2]).plot(),
            r"plot draws one map; this is a batch of \(2,\): draw one, maps.0..plot",
        ),
        (
            lambda: identity(2).plot("map.png"),
            r"expected matplotlib Axes to draw on.*plot\(\).0..figure.savefig\(.map.png",
        ),
        (lambda: identity(2).plot(figure().add_subplot()), "from R.2 to R.2 takes a pair of axes"),
        (lambda: identity(3).plot(tuple(figure().subplots(1, 2))), "takes a pair of axes, before and after"),
        (lambda: identity(2).plot((figure().add_subplot(),)), "R.2 to R.2 takes a pair of axes, before"),
    ],
)
def test_what_cannot_be_drawn_gets_a_clear_sentence(wrong, message):
    with pytest.raises(ModelError, match=message):
        wrong()
