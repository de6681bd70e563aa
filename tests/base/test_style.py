"""Whatever is drawn on must be Axes."""

from pathlib import Path

import pytest

from eitherway.base.errors import ModelError
from eitherway.base.style import figure, must_be_axes


def test_axes_are_taken():
    must_be_axes(figure().add_subplot())
    must_be_axes(figure().add_subplot(projection="3d"))


@pytest.mark.parametrize(
    "given, named", [("a.png", "a.png"), (Path("b.svg"), "b.svg"), (figure(), "picture.png"), (3, "picture.png")]
)
def test_for_all_else_it_is_said_how_a_picture_is_kept(given, named):
    with pytest.raises(ModelError, match="expected matplotlib Axes to draw on, or nothing for new") as told:
        must_be_axes(given)
    assert f'.plot().figure.savefig("{named}")' in str(told.value)
