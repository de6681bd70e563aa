"""States as bytes: exact, and nothing but what was registered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eitherway import JournalError
from eitherway.methods.codec import decode, encode, state

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@given(plain)
def test_plain_values_come_back_to_the_last_bit(thing):
    assert repr(decode(encode(thing))) == repr(thing)


@given(
    hnp.arrays(st.sampled_from([np.float64, np.int64, np.uint8, np.bool_]), hnp.array_shapes(max_dims=3, min_side=0)),
    st.booleans(),
)
def test_arrays_keep_their_bits_and_their_order(array, fortran):
    array = np.asfortranarray(array) if fortran else array
    back = decode(encode(array))
    assert back.tobytes("A") == array.tobytes("A") and back.dtype == array.dtype and back.shape == array.shape
    assert back.flags.c_contiguous == array.flags.c_contiguous and back.flags.writeable


@state
class Pair:
    """Two things."""

    left: object
    right: object


def test_states_come_back_as_what_they_were():
    back = decode(encode(Pair([1, (2.5, None)], {"a": np.arange(3.0)})))
    assert isinstance(back, Pair) and back.left == [1, (2.5, None)] and back.right["a"].tolist() == [0, 1, 2]


def test_a_class_that_is_no_state_is_refused():
    with pytest.raises(TypeError, match="is not a @state; a run can remember plain values, arrays and @state classes"):
        encode({"x": object()})


def test_a_strided_array_is_refused():
    with pytest.raises(TypeError, match="a state array must be contiguous and numeric, got strides"):
        encode(np.zeros((4, 4))[::2, ::2])


def test_a_state_that_this_program_does_not_define_is_refused():
    data = encode(Pair(1, 2)).replace(b"Pair", b"Pear")
    with pytest.raises(JournalError, match="which this program does not define; import it first"):
        decode(data)


@given(st.integers(0, 60))
def test_bytes_that_are_cut_short_say_so(cut):
    data = encode({"x": np.arange(8.0), "y": "text"})
    with pytest.raises(JournalError, match="cannot be read .* the file was cut or changed"):
        decode(data[:-cut] if cut else data[:3])
