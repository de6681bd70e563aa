"""What may not vary, and what is said of it."""

import math
from typing import Annotated

import numpy as np
import pytest

import eitherway as ew
from eitherway.space.signature import from_signature
from eitherway.space.space import as_space


def space(**variables):
    return ew.Space(**variables)


BAD = {
    "upside down": (
        lambda: ew.Real(0.1, 0.001),
        "Real got low=0.1 above high=0.001; low must be below high. Swap them?",
    ),
    "nothing varies": (
        lambda: ew.Real(1, 1),
        "Real got low and high both 1; nothing can vary. Fix it in the cost instead",
    ),
    "log through zero": (lambda: ew.Real(0, 1, scale="log"), "a log scale needs low above 0"),
    "log without bounds": (lambda: ew.Real(1, scale="log"), "a log scale needs both bounds"),
    "unknown scale": (lambda: ew.Real(1, 2, scale="exp"), "scale='exp'; expected 'linear' or 'log'"),
    "nan bound": (lambda: ew.Real(math.nan, 1), "got low=nan; expected a number, or leave it out for an open side"),
    "text bound": (lambda: ew.Real("a", 1), "Real got low='a'; expected a number"),
    "start in a box": (lambda: ew.Real(0, 1, start=0.5), "has both bounds, so it takes no start= or spread="),
    "negative spread": (lambda: ew.Real(spread=-1), "got spread=-1; expected a positive number"),
    "start outside": (lambda: ew.Real(low=0, start=-1), "got start=-1; expected a finite number between low=0"),
    "too wide": (lambda: ew.Real(-1e308, 1e308), "their difference is not finite. Use scale='log', or closer bounds"),
    "too wide for a log": (
        lambda: ew.Real(1e-200, 1e200, scale="log"),
        "their ratio is not finite. Use closer bounds",
    ),
    "step without bounds": (lambda: ew.Real(step=1), "a step needs both bounds and a linear scale"),
    "step too wide": (lambda: ew.Real(0, 1, step=2), "Real got step=2; expected above 0 and at most high - low = 1"),
    "integer of floats": (
        lambda: ew.Integer(0.5, 2),
        "Integer got low=0.5; expected a whole number. For reals use Real",
    ),
    "integer upside down": (lambda: ew.Integer(3, 1), "Integer got low=3 above high=1; low must not be above high"),
    "too many integers": (lambda: ew.Integer(0, 2**60), "at most 2**50 can be told apart in a float"),
    "choice of a text": (lambda: ew.Choice("relu"), "; expected a list of options, such as Choice("),
    "no options": (lambda: ew.Choice([]), "Choice got no options; expected at least one"),
    "a set of options": (lambda: ew.Choice({"a", "b"}), "expected a list: the order of a set is another in every"),
    "an option twice": (lambda: ew.Choice(["a", "a"]), "Choice got 'a' twice; expected each option once"),
    "array of no shape": (
        lambda: ew.Array((), 0, 1),
        "expected at least one axis, each at least 1 long. For one number use Real",
    ),
    "array of odd shape": (lambda: ew.Array("abc", 0, 1), "expected whole numbers, such as (3,)"),
    "array of half a row": (lambda: ew.Array((2.5,), 0, 1), "expected whole numbers, such as (3,)"),
    "array of what": (lambda: ew.Array((2,), 0, 1, dtype="foo"), "Array got dtype='foo'; expected a floating one"),
    "array of integers": (
        lambda: ew.Array((2,), 0, 1, dtype="int64"),
        "expected a floating one. For whole numbers use Integer",
    ),
    "array with a bad bound": (lambda: ew.Array((2,), [0, 3], [1, 2]), "Array got low=3 above high=2 at index 1"),
    "array with odd bounds": (lambda: ew.Array((2,), [0, 1, 2], 5), "expected a number or an array of shape (2,)"),
    "empty when": (lambda: ew.Integer(0, 1).when(), "when() got no condition"),
    "empty space": (lambda: ew.Space(), "; expected Space(x=Real(-5, 5), ...) or Space("),
    "both kinds": (lambda: ew.Space(ew.Real(0, 1), x=ew.Real(0, 1)), "Space got both a lone variable and named ones"),
    "no variable": (lambda: space(x=3), "; expected a Real, Integer, Choice or Array (or use as_space)"),
    "unknown parent": (
        lambda: space(x=ew.Real(0, 1).when(actt="a"), act=ew.Choice(["a"])),
        "'actt', which is not a variable. Did you mean act?",
    ),
    "never met": (
        lambda: space(x=ew.Real(0, 1).when(act="rely"), act=ew.Choice(["relu"])),
        ", which no option of",
    ),
    "never used": (
        lambda: space(x=ew.Real(0, 1).when(act=["a", "b"]), act=ew.Choice(["relu"])),
        "it would never be used",
    ),
    "circle": (
        lambda: space(x=ew.Real(0, 1).when(y=1), y=ew.Real(0, 1).when(x=1)),
        "the conditions of x, y go round in a circle",
    ),
    "dict of what": (
        lambda: as_space({"x": 3}),
        "'x' is 3; expected a variable, a (low, high) pair of numbers, or a list of options",
    ),
    "odd name": (lambda: as_space({"a b": (0, 1)}), "expected a name that can be a keyword"),
    "pairs": (lambda: as_space([1, 2]), "expected (low, high) pairs such as [(-5, 5)] * 10"),
    "nothing like it": (lambda: as_space("box"), "was given; expected an ew.Space, a variable, a dict of variables"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_space_that_cannot_be_searched_says_why(case):
    make, message = BAD[case]
    with pytest.raises(ew.SpaceError) as caught:
        make()
    assert message in str(caught.value)


SPACE = ew.Space(x=ew.Real(0, 1), n=ew.Integer(1, 9), s=ew.Real(0, 1, step=0.25), c=ew.Choice(["a", "b"]))
GOOD = {"x": 0.5, "n": 3, "s": 0.5, "c": "a"}
STARTS = {
    "outside": (GOOD | {"x": 2.0}, "start of 'x': 2.0 lies outside Real(0, 1)"),
    "integer outside": (GOOD | {"n": 10}, "10 lies outside Integer(1, 9)"),
    "not a number": (GOOD | {"n": math.nan}, "nan lies outside Integer(1, 9)"),
    "infinite": (GOOD | {"n": math.inf}, "inf lies outside Integer(1, 9)"),
    "beyond floats": (GOOD | {"x": 10**400}, "is not a number; Real(0, 1) expects one"),
    "not whole": (GOOD | {"n": 1.5}, "1.5 is not a whole number; Integer(1, 9) expects one"),
    "off the grid": (
        GOOD | {"s": 0.3},
        "0.3 is not on the grid of Real(0, 1, step=0.25); expected low + a whole number of steps",
    ),
    "no option": (GOOD | {"c": "z"}, "'z' is not an option of Choice(['a', 'b'])"),
    "a text": (GOOD | {"x": "0.5"}, "'0.5' is not a number; Real(0, 1) expects one"),
    "missing": ({"x": 0.5}, "the start has no 'n'; expected all of x, n, s, c"),
    "unknown": (GOOD | {"y": 1}, "the start names 'y', which is not a variable"),
    "not a dict": ([0.5], "a start of 0.5 was given; expected a dict with x, n, s, c"),
    "a lone number": (0.5, "a start of 0.5 was given; expected a dict with x, n, s, c"),
    "a lone text": ("ab", "a start of 'ab' was given; expected a dict with x, n, s, c"),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_start_that_cannot_be_judged_says_why(case):
    start, message = STARTS[case]
    with pytest.raises(ew.SpaceError) as caught:
        SPACE.with_starts(start)
    assert message in str(caught.value)


def test_an_array_of_another_shape_is_no_start():
    lone = ew.Space(ew.Array((3,), 0, 1))
    with pytest.raises(ew.SpaceError, match=r"an array of shape \(2,\) was given; .* expects shape \(3,\)"):
        lone.with_starts(np.zeros(2))
    with pytest.raises(ew.SpaceError, match="lies outside Array"):
        lone.with_starts(np.full(3, 2.0))
    with pytest.raises(ew.SpaceError, match="is not an array of numbers"):
        lone.with_starts(["a", "b"])
    with pytest.raises(ew.SpaceError, match=r"an array of shape \(1,\) was given"):
        lone.with_starts([[0.5, 0.5, 0.5], [1.0]])


def test_an_open_side_has_no_start_at_infinity():
    with pytest.raises(ew.SpaceError, match="inf lies outside"):
        ew.Space(ew.Real(low=0)).with_starts(math.inf)
    with pytest.raises(ew.SpaceError, match="lies outside Array"):
        ew.Space(ew.Array((2,))).with_starts([math.inf, 0.0])


def test_a_signature_without_variables_says_how_to_write_one():
    with pytest.raises(
        ew.SpaceError,
        match=r"has no parameter that says how it may vary; give a space, or write def cost\(lr: Annotated",
    ):
        from_signature(lambda: 1)

    def half(x: Annotated[float, ew.Real(0, 1)], y): ...

    with pytest.raises(ew.SpaceError, match="and nothing says how it may vary; give a space, or write"):
        from_signature(half)
    with pytest.raises(ew.SpaceError, match="cannot be read .*; give a space= instead"):
        from_signature(3)
