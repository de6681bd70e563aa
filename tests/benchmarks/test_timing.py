"""How calls are timed: turns, fresh calls, and the memory of one call."""

import gc
import math

import pytest
from benchmarks.timing import Times, first_calls, interleaved, peak, turns


def block(megabytes: int):
    """For `peak`: a call that holds this much more than it returns, which is a third of it."""

    def call() -> bytearray:
        held = bytearray(b"x") * (megabytes * 2_000_000 // 3)
        return bytearray(b"y") * (len(held) // 2)

    return call


def test_every_name_has_one_turn_a_repeat_and_comes_first_in_its_turn():
    order = list(turns(["a", "b", "c"], 6))
    rounds = [order[i : i + 3] for i in range(0, 18, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert sorted(one[0] for one in rounds) == list("aabbcc")


def test_as_many_times_are_kept_as_there_were_repeats_and_longer_work_takes_longer():
    taken = interleaved({"short": lambda: sum(range(100)), "long": lambda: sum(range(10_000))}, 5)
    assert [len(times.cpu) for times in taken.values()] == [5, 5]
    assert taken["long"].best > 5 * taken["short"].best > 0
    assert all(times.best <= times.median for times in taken.values())


def test_nothing_is_collected_on_the_clock_and_collection_is_on_again_afterwards():
    seen = []
    interleaved({"a": lambda: seen.append(gc.isenabled())}, 2)
    assert not seen[-1]
    assert gc.isenabled()


def test_a_first_call_is_of_a_thing_that_was_made_for_it():
    made, called = [], []

    def make():
        made.append(len(made))
        return lambda number=made[-1]: called.append(number)

    first_calls({"a": make}, 4)
    assert called == made == [0, 1, 2, 3, 4]  # the first is not timed


def test_times_are_told_in_milliseconds():
    assert Times([0.002] * 3, [0.002] * 3).text() == "2 ms, median 2 (2 to 2)"


def test_the_peak_of_a_call_counts_what_it_held_and_what_it_returns():
    measured = peak("tests.benchmarks.test_timing:block", 60)
    assert measured.bytes == pytest.approx(60e6, rel=0.05)
    assert measured.seconds > 0


def test_a_call_that_asks_for_more_than_the_limit_has_no_peak_and_says_why():
    measured = peak("tests.benchmarks.test_timing:block", 600, limit=2e8)
    assert math.isnan(measured.bytes)
    assert "MemoryError" in measured.why
