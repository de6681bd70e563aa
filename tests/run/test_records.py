"""Records of answers: the same bytes in, the same answers out, and a flipped bit is noticed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eitherway.base.errors import JournalError
from eitherway.methods.protocol import FAILED, OK
from eitherway.run.answers import Answer, Answers
from eitherway.run.records import fingerprint, pack, put, unpack

values = st.floats(allow_nan=False) | st.just(float("inf"))
arrays = st.lists(st.floats(-9, 9), min_size=2, max_size=2).map(np.array)
answer = st.builds(
    Answer,
    value=values,
    status=st.just(OK),
    gradient=st.none() | arrays,
    violations=st.none() | arrays | st.just(np.array([0.5])),
    report=st.none() | st.integers() | arrays | st.just({"seen": (1, 2.5)}),
    metrics=st.none() | st.dictionaries(st.text(), st.floats(), max_size=2),
) | st.builds(Answer, why=st.text(), status=st.just(FAILED), no_gradient=st.text(), again=st.integers(0, 2))


def answers_of(rows, order=None):
    answers = Answers(len(rows))
    for i in order if order is not None else range(len(rows)):
        answers.put(i, rows[i])
    return answers


@given(st.lists(answer, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_answers_come_back_exactly_in_whatever_order_and_parts_they_came(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    whole = answers_of(rows)
    whole.no_gradient = whole.no_gradient and "said once"  # the first to say it depends on the order
    shuffled = answers_of(rows, order)
    shuffled.no_gradient = whole.no_gradient
    record = pack(whole)
    assert pack(shuffled) == record
    assert pack(unpack(record)[0]) == record

    cut = random.randint(0, len(rows))
    joined = Answers(len(rows))
    for part in (order[:cut], order[cut:]):
        taken = np.array(sorted(part), np.int64)
        if len(taken):
            back, at = unpack(pack(whole, taken, sum(rows[i].again for i in part)))
            put(back, at, joined)
    assert joined.missing == 0
    assert pack(joined) == record


def test_a_cut_or_changed_record_is_noticed():
    record = pack(answers_of([Answer(1.0), Answer.failed("no")]))
    for damaged in (record[:-1], record[:5], b"", record[:20] + bytes([record[20] ^ 1]) + record[21:]):
        with pytest.raises(JournalError, match="bytes was cut or changed"):
            unpack(damaged)


def test_a_report_that_is_an_object_says_what_can_be_kept():
    with pytest.raises(JournalError, match="a report of the cost cannot be kept: .* Report plain numbers"):
        pack(answers_of([Answer(1.0, report=object())]))


def test_fingerprints_tell_bits_and_shapes_apart():
    points = np.arange(6.0).reshape(2, 3)
    nearly = points.copy()
    nearly[1, 2] = np.nextafter(nearly[1, 2], 9)
    assert len({fingerprint(p) for p in (points, nearly, points.reshape(3, 2), points[:1])}) == 4
    assert fingerprint(np.asfortranarray(points)) == fingerprint(points)
