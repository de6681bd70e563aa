"""Variables and spaces: to search coordinates and back, exactly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eitherway as ew
from eitherway.space.space import as_space

finite = st.floats(-1e6, 1e6, allow_nan=False)
bounds = st.tuples(finite, finite).filter(lambda b: b[1] - b[0] > 1e-3)
share = st.floats(0, 1)


@given(bounds, share)
def test_reals_round_trip_to_1e14_of_their_width(bounds, at):
    low, high = bounds
    real = ew.Real(low, high)
    x = min(high, low + at * (high - low))
    (back,) = real.decode(real.encode(x)[None])
    assert abs(back - x) <= 1e-14 * (high - low) + 4e-16 * max(abs(low), abs(high)) and low <= back <= high


@given(st.floats(1e-8, 1), st.floats(2, 1e8), share)
def test_log_reals_round_trip(low, high, at):
    real = ew.Real(low, high, scale="log")
    x = min(high, max(low, low * (high / low) ** at))
    (back,) = real.decode(real.encode(x)[None])
    assert abs(back - x) <= 1e-14 * (high - low) and real.decode(np.array([[0.5]]))[0] == pytest.approx(
        math.sqrt(low * high)
    )


@given(st.integers(-1000, 1000), st.integers(0, 10**6), st.data())
def test_integers_round_trip_exactly_and_have_equal_room(low, more, data):
    integer = ew.Integer(low, low + more)
    n = data.draw(st.integers(low, low + more))
    assert integer.decode(integer.encode(n)[None]) == [n]
    cell = np.array([n - low])
    assert math.isclose((integer.edge(cell + 1) - integer.edge(cell))[0] * (more + 1), 1, rel_tol=1e-6)


@given(st.integers(1, 100), st.integers(0, 10**5), st.data())
def test_log_integers_round_trip_exactly(low, more, data):
    integer = ew.Integer(low, low + more, scale="log")
    n = data.draw(st.integers(low, low + more))
    assert integer.decode(integer.encode(n)[None]) == [n]
    cell = np.array([n - low])
    assert integer.edge(cell)[0] <= integer.middle(cell)[0] <= integer.edge(cell + 1)[0]
    assert (
        integer.cells(integer.edge(cell) + 1e-9)[0] in (n - low, n - low - 1)
        and integer.edge(np.array([more + 1]))[0] == 1
    )


@given(
    st.lists(
        st.integers() | st.text() | st.booleans() | st.none(), min_size=1, max_size=6, unique_by=lambda x: (type(x), x)
    ),
    st.data(),
)
def test_choices_round_trip_exactly(options, data):
    choice = ew.Choice(options)
    option = data.draw(st.sampled_from(options))
    (back,) = choice.decode(choice.encode(option)[None])
    assert back is option or (back == option and type(back) is type(option))


@given(bounds.filter(lambda b: b[1] - b[0] > 1), st.floats(0.01, 1), share)
def test_steps_stay_on_their_grid(bounds, step, at):
    low, high = bounds
    (x,) = ew.Real(low, high, step=step).decode(np.array([[at]]))
    assert low <= x <= high and abs((x - low) / step - round((x - low) / step)) < 1e-5


def test_sampling_gives_equal_room_to_every_option():
    space = ew.Space(n=ew.Integer(1, 5), c=ew.Choice("abcd"[:0] or ["a", "b", "c", "d"]))
    rows = space.decode(space.sample(20000, np.random.default_rng(0)))
    for name, levels in (("n", 5), ("c", 4)):
        counts = np.unique([row[name] for row in rows], return_counts=True)[1]
        # five standard deviations of a binomial count
        assert len(counts) == levels and abs(counts - 20000 / levels).max() < 5 * math.sqrt(20000 / levels)


def test_a_start_is_judged_at_the_users_own_numbers():
    start = {"x": 0.1 + 0.2, "lr": 3e-4, "n": 7, "c": True, "w": np.array([0.1, 1 / 3])}
    space = ew.Space(
        x=ew.Real(-1, 1),
        lr=ew.Real(1e-5, 1, scale="log"),
        n=ew.Integer(1, 9),
        c=ew.Choice([True, 1]),
        w=ew.Array((2,), -1, 1),
    ).with_starts(start)
    (back,) = space.decode(space.starts)
    assert {k: v for k, v in back.items() if k != "w"} == {k: v for k, v in start.items() if k != "w"} and back[
        "c"
    ] is True
    assert back["w"].tobytes() == start["w"].tobytes()


def test_several_starts_and_lone_ones():
    assert len(ew.Space(ew.Real(0, 1)).with_starts([0.1, 0.2]).starts) == 2
    assert len(ew.Space(ew.Array((3,), 0, 1)).with_starts(np.zeros(3)).starts) == 1
    assert len(ew.Space(ew.Array((3,), 0, 1)).with_starts(np.zeros((2, 3))).starts) == 2
    assert len(ew.Space(ew.Choice(["a", "b"])).with_starts("b").starts) == 1
    assert len(ew.Space(ew.Choice(["a", "b"])).with_starts(["a", "b"]).starts) == 2


def test_unbounded_reals_begin_at_start_and_reach_by_spread():
    space = ew.Space(ew.Real(start=10, spread=2))
    assert space.decode(np.array([[0.0], [1.0]])) == [10.0, 12.0] and not space.bounded
    points = space.sample(4000, np.random.default_rng(0))
    assert abs(points.std() - 1) < 0.1


def test_one_sided_bounds_are_kept():
    space = ew.Space(ew.Real(low=0, start=1, spread=5))
    values = space.decode(space.clip(space.sample(1000, np.random.default_rng(0))))
    assert min(values) >= 0 and max(values) > 5
    assert min(space.decode(space.clip(np.array([[-99.0]])))) == 0


def conditional():
    return ew.Space(
        act=ew.Choice(["relu", "gelu"]),
        layers=ew.Integer(1, 8).when(act="relu"),
        width=ew.Integer(1, 8).when(layers=lambda n: n > 4),
        rate=ew.Real(0, 1).when(act=["relu", "gelu"]),
    )


def test_inactive_variables_are_left_out_of_the_call():
    space = conditional()
    points = np.array([[0.1, 0.9, 0.5, 0.5], [0.1, 0.1, 0.5, 0.5], [0.9, 0.9, 0.5, 0.5]])
    assert [set(row) for row in space.decode(points)] == [
        {"act", "layers", "width", "rate"},
        {"act", "layers", "rate"},
        {"act", "rate"},
    ]
    assert space.active(points).tolist() == [[True] * 4, [True, True, False, True], [True, False, False, True]]


def test_a_start_may_leave_inactive_variables_out():
    space = conditional().with_starts({"act": "gelu", "rate": 0.5})
    assert space.decode(space.starts) == [{"act": "gelu", "rate": 0.5}]


def test_an_option_that_is_a_tuple_or_a_function_can_be_wanted():
    kernel, function = ew.Choice([(3, 3), (5, 5)]), ew.Choice([math.sin, math.cos])
    space = ew.Space(k=kernel, f=function, a=ew.Real(0, 1).when(k=(3, 3)), b=ew.Real(0, 1).when(f=math.cos))
    assert [set(row) for row in space.decode(np.array([[0.1, 0.1, 0.5, 0.5], [0.9, 0.9, 0.5, 0.5]]))] == [
        {"k", "f", "a"},
        {"k", "f", "b"},
    ]
    assert space.active(space.encode({"k": (3, 3), "f": math.sin, "a": 0.5})[None]).tolist() == [[True] * 3 + [False]]


def test_options_that_cannot_be_hashed_can_be_wanted():
    space = ew.Space(c=ew.Choice([[1], [2]]), z=ew.Real(0, 1).when(c=([2],)))
    assert space.decode(np.array([[0.1, 0.5], [0.9, 0.5]])) == [{"c": [1]}, {"c": [2], "z": 0.5}]


def test_options_may_be_anything_even_what_cannot_be_compared():
    pairs = [(np.zeros(2),), (np.ones(2),)]
    choice = ew.Choice(pairs)
    assert choice.decode(choice.encode(pairs[1])[None])[0] is pairs[1]
    assert repr(ew.Choice(c for c in "ab").when(x=1)) == "Choice(['a', 'b']).when(x=1)"


def test_a_cost_that_writes_in_a_start_leaves_the_start_alone():
    space = ew.Space(w=ew.Array((2,), -1, 1)).with_starts({"w": [0.5, 0.5]})
    space.decode(space.starts)[0]["w"][:] = 7.0
    assert space.decode(space.starts)[0]["w"].tolist() == [0.5, 0.5]


def test_a_batched_cost_judges_a_start_at_the_users_own_numbers():
    lone = ew.Space(ew.Array((2,), [-5, -3], [5, 3])).with_starts([0.1 + 0.2, -0.7])
    assert lone.decode_together(lone.starts).tolist() == [[0.1 + 0.2, -0.7]]
    space = ew.Space(x=ew.Real(-5, 5), c=ew.Choice(["a", "b"])).with_starts({"x": 0.1 + 0.2, "c": "b"})
    together = space.decode_together(np.concatenate([space.starts, np.full((1, 2), 0.1)]))
    assert together["x"].tolist() == [0.1 + 0.2, -4.0] and together["c"] == ["b", "a"]


def test_slopes_are_derivatives():
    space = ew.Space(a=ew.Real(-3, 5), b=ew.Real(1e-3, 10, scale="log"), c=ew.Real(start=1, spread=4))
    point, h = np.array([0.3, 0.6, 0.2]), 1e-7
    for i, name in enumerate("abc"):
        step = np.zeros(3)
        step[i] = h
        rise = space.decode((point + step)[None])[0][name] - space.decode((point - step)[None])[0][name]
        assert rise / (2 * h) == pytest.approx(space.slope(point)[i], rel=1e-6)


def test_what_may_stand_for_a_space():
    assert repr(as_space({"x": (0, 1), "c": ["a", "b"]})) == "Space(x=Real(0.0, 1.0), c=Choice(['a', 'b']))"
    assert as_space([(-5, 5)] * 10).decode(np.full((1, 10), 0.5))[0].shape == (10,)
    assert as_space(ew.Real(0, 1)).lone and as_space(as_space([(0, 1)])).columns == 1
    assert repr(as_space({"x": (np.int64(0), np.float32(1))})) == "Space(x=Real(0.0, 1.0))"
    scipy = pytest.importorskip("scipy.optimize")
    space = as_space(scipy.Bounds([0, -np.inf], [1, 2]))
    assert space.columns == 2 and not space.bounded


def test_integer_dtype_and_shapes_of_arrays():
    (x,) = ew.Space(ew.Array((2, 3), 0, 1, dtype="float32")).decode(np.zeros((1, 6)))
    assert x.shape == (2, 3) and x.dtype == np.float32
    assert ew.Array((2,), 0, 1, dtype=np.float32).dtype == "float32"


def test_batched_columns_agree_with_single_rows():
    space = ew.Space(x=ew.Real(0, 1), n=ew.Integer(1, 9), c=ew.Choice(["a", "b"]), w=ew.Array((2,), 0, 1))
    points = space.sample(5, np.random.default_rng(0))
    together, rows = space.decode_together(points), space.decode(points)
    assert together["w"].shape == (5, 2)
    for i, row in enumerate(rows):
        assert all(np.array_equal(together[name][i], row[name]) for name in row)


def test_texts_are_the_same_in_every_process():
    space = ew.Space(f=ew.Choice([math.sin, math.cos]), n=ew.Integer(1, 3).when(f=math.sin))
    assert repr(space) == "Space(f=Choice([math.sin, math.cos]), n=Integer(1, 3).when(f=math.sin))"
    assert "<table>" in space._repr_html_()
