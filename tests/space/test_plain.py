"""A space as plain values: the same space comes back, and what cannot come back says so."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from eitherway.base.errors import SpaceError
from eitherway.space.condition import describe
from eitherway.space.plain import plain, space_from_plain, space_to_plain, unplain
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice, Integer, Real

SPACES = [
    Space(Real(0.1, 0.3)),
    Space(Choice([1, "one", None, (1, 2.5), True])),
    Space(Array((2, 3), -1, np.arange(6.0).reshape(2, 3), dtype="float32")),
    Space(
        lr=Real(1e-5, 1, scale="log"),
        open=Real(low=2, start=3.5, spread=0.25),
        grid=Real(0, 1, step=0.1),
        layers=Integer(1, 8, scale="log").when(act="relu"),
        act=Choice(["relu", "gelu", "tanh"]),
        deep=Array((2,), -1, 1).when(layers=[7, 8], act={"relu", "gelu"}),
    ),
]


def through_json(space, **how):
    return space_from_plain(json.loads(json.dumps(space_to_plain(space))), **how)


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_a_space_comes_back_bit_for_bit(space):
    again = through_json(space)
    points = space.sample(64, np.random.default_rng(0))
    assert repr(again) == repr(space)
    assert (again.lower == space.lower).all()
    assert (again.upper == space.upper).all()
    for a, b in zip(space.decode(points), again.decode(points), strict=True):
        np.testing.assert_equal(a, b)
        assert type(a) is type(b)


def test_a_set_reads_the_same_whatever_order_it_was_filled_in():
    one, other = (Integer(1, 8).when(layers=set(order)) for order in ([0, 8], [8, 0]))
    assert list({0, 8}) != list({8, 0})  # or this test sees nothing
    assert repr(one) == repr(other) == "Integer(1, 8).when(layers={0, 8})"
    assert "frozenset({0, 8})" in repr(Integer(1, 8).when(layers=frozenset([8, 0])))


def test_starts_come_back_at_the_users_own_numbers_inactive_ones_included():
    space = SPACES[3].with_starts(
        [
            {"lr": 0.1, "open": 0.1 + 0.2 + 2, "grid": 0.3, "layers": 3, "act": "gelu", "deep": [0.1, 0.2]},
            {"lr": 0.3, "open": 4, "grid": 0.7, "layers": 8, "act": "relu", "deep": [0.3, 0.7]},
        ]
    )
    again = through_json(space)
    assert (again.starts == space.starts).all()
    np.testing.assert_equal(again.decode(again.starts), space.decode(space.starts))


def test_numbers_without_a_word_in_json_come_back():
    for value in (math.inf, -math.inf, [1.5, (2, {"a": math.inf})], {3, 1}, np.arange(6, dtype="int32").reshape(2, 3)):
        text = json.dumps(plain(value), allow_nan=False)
        np.testing.assert_equal(unplain(json.loads(text)), value)
    assert math.isnan(unplain(plain(math.nan)))


def test_options_that_are_objects_are_told_by_name_and_cannot_come_back():
    space = Space(act=Choice([math.tanh, math.erf]))
    with pytest.raises(SpaceError, match="variable 'act' cannot be made again: math.tanh is known by its name only"):
        through_json(space)
    assert through_json(space, strict=False).decode(np.array([[0.9]])) == [{"act": "math.erf"}]


def test_no_address_gets_into_what_is_kept():
    class Thing: ...

    space = Space(a=Choice([Thing(), Thing]), b=Real(0, 1).when(a=lambda a: True))
    text = json.dumps(space_to_plain(space))
    assert " at 0x" not in text
    again = through_json(Space(a=Choice([Thing(), Thing()])), strict=False)  # two options with one description
    assert again.columns == 1


def test_a_set_within_something_reads_the_same_too():
    @dataclass
    class Kind:
        of: Any

    for wrap in (lambda s: [s], lambda s: (s,), lambda s: {1: s}, lambda s: frozenset([frozenset(s)]), Kind):
        one, other = wrap({0, 8}), wrap({8, 0})
        assert describe(one) == describe(other)
        assert "{0, 8}" in describe(one)
        assert json.dumps(plain(one)) == json.dumps(plain(other))
        space = Space(a=Choice(["x", one]), b=Real(0, 1).when(a=[one]))
        assert repr(space) == repr(Space(a=Choice(["x", other]), b=Real(0, 1).when(a=[other])))


def test_descriptions_are_the_reprs_where_these_say_no_more():
    for thing in (1, "a", None, [], (), (1,), {}, set(), frozenset(), [1, (2, {"a": [3.5]})], {"k": {1}}, slice(1, 2)):
        assert describe(thing) == repr(thing)
    assert describe([math.tanh]) == "[math.tanh]"
    around: list[Any] = [1]
    around.append(around)
    assert describe(around) == "[1, ...]"


def test_choice_names_a_set_in_order():
    for options in ({0, 8}, {8, 0}):
        with pytest.raises(SpaceError, match=r"Choice got the set \{0, 8\}; expected a list"):
            Choice(options)  # type: ignore[arg-type]
